/* SPDX-License-Identifier: BSD-3-Clause */
/* Text screens as UTF-8. */
#include "backends/display/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define CELLS_MAX (1u << 20)

void vmm_text_screen_free(struct vmm_text_screen *screen)
{
    if (screen) {
        free(screen->cells);
        free(screen);
    }
}

int vmm_display_text(struct vmm_display *d, struct vmm_text_screen **out)
{
    struct vmm_text_screen *screen = calloc(1, sizeof(*screen));
    if (!screen)
        return -ENOMEM;
    screen->size = sizeof(*screen);
    pthread_mutex_lock(&d->source_lock);
    int rc = d->ops.text ? d->ops.text(d->ops_ctx, screen) : -ENODATA;
    pthread_mutex_unlock(&d->source_lock);
    if (rc)
        vmm_text_screen_free(screen);
    else
        *out = screen;
    return rc;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x20 || c == 0x7f || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = c ? 0xfffd : ' ';
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

#define CELL_BYTES 48u /* escape sequences for both colours, and a character */

static size_t put_colours(char *to, const struct vmm_text_cell *cell)
{
    uint32_t f = cell->foreground, b = cell->background;
    return (size_t)snprintf(to, CELL_BYTES, "\033[38;2;%u;%u;%u;48;2;%u;%u;%um", f >> 16 & 255,
                            f >> 8 & 255, f & 255, b >> 16 & 255, b >> 8 & 255, b & 255);
}

static bool blank(const struct vmm_text_cell *cell)
{
    return cell->character == 0 || cell->character == ' ' || cell->character == 0xa0;
}

static size_t put_row(char *to, const struct vmm_text_cell *cells, uint32_t columns, bool colours)
{
    size_t n = 0;
    uint32_t end = columns;
    while (!colours && end > 0 && blank(&cells[end - 1]))
        end--;
    for (uint32_t i = 0; i < end; i++) {
        if (colours && (i == 0 || cells[i].foreground != cells[i - 1].foreground ||
                        cells[i].background != cells[i - 1].background))
            n += put_colours(to + n, &cells[i]);
        n += put_utf8(to + n, cells[i].character);
    }
    if (colours)
        n += (size_t)snprintf(to + n, 8, "\033[0m");
    to[n++] = '\n';
    return n;
}

int vmm_text_screen_utf8(const struct vmm_text_screen *s, bool colours, char **out)
{
    if (!s->cells || (uint64_t)s->columns * s->rows > CELLS_MAX)
        return -EINVAL;
    char *text = malloc((size_t)s->rows * (s->columns * (CELL_BYTES + 4) + 8) + 1);
    if (!text)
        return -ENOMEM;
    size_t n = 0;
    for (uint32_t y = 0; y < s->rows; y++)
        n += put_row(text + n, s->cells + (size_t)y * s->columns, s->columns, colours);
    text[n] = '\0';
    *out = text;
    return 0;
}
