/* SPDX-License-Identifier: BSD-3-Clause */
/* EDID 1.4 (VESA Enhanced EDID Standard, release A rev. 2): a digital screen of one preferred mode. */
#include "base/util.h"

#include <libvmm/vga.h>

#define DPI 100u

/* Section 3.10.2: a detailed timing, with the blanking that CVT's reduced one has. */
static void detailed_timing(uint32_t width, uint32_t height, uint8_t d[18])
{
    uint32_t h_blank = 160, v_blank = height / 40 + 8, mm_x = width * 254 / DPI / 10,
             mm_y = height * 254 / DPI / 10;
    uint64_t clock = (uint64_t)(width + h_blank) * (height + v_blank) * 60 / 10000;
    clock = clock > UINT16_MAX ? UINT16_MAX : clock; /* in 10 kHz: to 655 MHz */
    vmm_store_le16(d, (uint16_t)clock);
    d[2] = (uint8_t)width;
    d[3] = (uint8_t)h_blank;
    d[4] = (uint8_t)(width >> 8 << 4 | h_blank >> 8);
    d[5] = (uint8_t)height;
    d[6] = (uint8_t)v_blank;
    d[7] = (uint8_t)(height >> 8 << 4 | v_blank >> 8);
    d[8] = 48; /* horizontal front porch and sync */
    d[9] = 32;
    d[10] = 3 << 4 | 5; /* vertical ones */
    d[12] = (uint8_t)mm_x;
    d[13] = (uint8_t)mm_y;
    d[14] = (uint8_t)((mm_x >> 8 & 15) << 4 | (mm_y >> 8 & 15));
    d[17] = 0x1e; /* digital separate sync, both positive */
}

static void text_descriptor(uint8_t tag, const char *text, uint8_t d[18])
{
    d[3] = tag;
    memset(d + 5, ' ', 13);
    size_t n = strlen(text);
    n = n < 12 ? n : 12;
    memcpy(d + 5, text, n);
    d[5 + n] = '\n';
}

int vmm_edid_make(uint32_t width, uint32_t height, const char *name, uint8_t e[128])
{
    static const uint8_t head[] = {0, 255, 255, 255, 255, 255, 255, 0, 0x58, 0x4d};
    static const uint8_t chroma[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    /* 640x480 and 800x600, 1024x768 at 60 Hz; then standard timings: (width / 8 - 31), ratio. */
    static const uint8_t modes[] = {0x21, 0x08, 0, 0x81, 0x80, 0xa9, 0x40, 0xd1, 0xc0, 1,
                                    1,    1,    1, 1,    1,    1,    1,    1,    1};
    uint8_t sum = 0;
    if (width < 320 || height < 200 || width > 4095 || height > 4095 || !name)
        return -EINVAL;
    memset(e, 0, 128);
    memcpy(e, head, sizeof(head)); /* "VBM": not one of anybody's */
    e[10] = 1;
    e[17] = 34; /* of 2024 */
    e[18] = 1;
    e[19] = 4;
    e[20] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    e[21] = (uint8_t)(width * 254 / DPI / 100);
    e[22] = (uint8_t)(height * 254 / DPI / 100);
    e[23] = 120;  /* gamma 2.2 */
    e[24] = 0x06; /* sRGB, the first timing is the native one */
    memcpy(e + 25, chroma, sizeof(chroma));
    memcpy(e + 35, modes, sizeof(modes));
    detailed_timing(width, height, e + 54);
    text_descriptor(0xfc, name, e + 72);
    static const uint8_t limits[] = {0,  0, 0,    0xfd, 0,   50,  125, 30,  160,
                                     66, 1, '\n', ' ',  ' ', ' ', ' ', ' ', ' '};
    memcpy(e + 90, limits, sizeof(limits));
    e[108 + 3] = 0x10; /* an empty descriptor */
    for (uint32_t i = 0; i < 127; i++)
        sum = (uint8_t)(sum + e[i]);
    e[127] = (uint8_t)-sum;
    return 0;
}
