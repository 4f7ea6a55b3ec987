/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shared folder and any messages. The input is cut into messages; half of them get a sound header,
 * so that the rest of them is looked at too. Checked: answers are whole and in their room, fids are
 * bounded, nothing is made beside the folder, and the state saves and loads.
 */
#include "fuzz.h"

#include <libvmm/share.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIDS 20u

static const uint8_t types[] = {8,  12, 14, 16, 18, 20,  22,  24,  26,  30,  32,  40,  50, 52,
                                54, 70, 72, 74, 76, 100, 104, 108, 110, 116, 118, 120, 122};
static const uint8_t hello[] = {21, 0, 0,   0,   100, 0,   0,   0,   0,   1,  0,
                                8,  0, '9', 'P', '2', '0', '0', '0', '.', 'L'};
static const uint8_t attach[] = {23,  0,   0,   0, 104, 0, 0, 1, 0, 0, 0, 255,
                                 255, 255, 255, 0, 0,   0, 0, 0, 0, 0, 0};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    return ftw->level ? remove(path) : 0;
}

static void serve(struct vmm_share *share, const uint8_t *message, size_t length, size_t room)
{
    static uint8_t reply[8192];
    size_t cut = length / 2;
    const struct iovec in[2] = {{(uint8_t *)(uintptr_t)message, cut},
                                {(uint8_t *)(uintptr_t)message + cut, length - cut}};
    const struct iovec out[2] = {{reply, room / 3}, {reply + room / 3, room - room / 3}};
    size_t n = vmm_share_serve(share, in, 2, out, 2);
    FUZZ_CHECK(n <= room && (n == 0 || n >= 7));
    if (n)
        FUZZ_CHECK((reply[0] | reply[1] << 8) == (int)n && (reply[4] & 1));
    FUZZ_CHECK(vmm_share_fids(share) <= FIDS);
}

static void save_and_load(struct vmm_share *share)
{
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    uint32_t fids = vmm_share_fids(share);
    FUZZ_CHECK(vmm_state_writer_new(&w) == 0);
    FUZZ_CHECK(vmm_share_save(share, w) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(w, &blob, &length) == 0);
    vmm_state_writer_free(w);
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &r, NULL) == 0);
    FUZZ_CHECK(vmm_share_load(share, r, NULL) == 0);
    FUZZ_CHECK(vmm_share_fids(share) == fids);
    vmm_state_reader_free(r);
    free(blob);
}

/* One message of the input's next bytes; false at its end. */
static void step(struct vmm_share *share, struct fuzz_input *in)
{
    uint8_t message[256];
    uint8_t kind = fuzz_u8(in);
    size_t length = 7 + fuzz_u8(in) % 100;
    for (size_t i = 4; i < length; i++)
        message[i] = fuzz_u8(in);
    memset(message, 0, 4);
    message[0] = kind & 1 ? (uint8_t)length : fuzz_u8(in);
    if (kind & 2)
        message[4] = types[message[4] % sizeof(types)];
    serve(share, message, length, kind & 4 ? 4096 : fuzz_u8(in));
    if (kind == 0x80)
        save_and_load(share);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char top[64], folder[80];
    struct vmm_share_options o = VMM_SHARE_OPTIONS_INIT;
    struct vmm_share *share;
    struct fuzz_input in = {data, size};
    struct stat st;
    if (!top[0]) {
        strcpy(top,
               access("/dev/shm", W_OK) ? "/tmp/fuzz-share-XXXXXX" : "/dev/shm/fuzz-share-XXXXXX");
        FUZZ_CHECK(mkdtemp(top));
        (void)snprintf(folder, sizeof(folder), "%s/folder", top);
    }
    FUZZ_CHECK(mkdir(folder, 0700) == 0 || access(folder, F_OK) == 0);
    o.path = folder;
    o.fids_max = FIDS;
    o.owner = fuzz_u8(&in) & 1 ? VMM_SHARE_OWNER_MAPPED : VMM_SHARE_OWNER_PASSTHROUGH;
    FUZZ_CHECK(vmm_share_new(&o, &share, NULL) == 0);
    serve(share, hello, sizeof(hello), 100);
    serve(share, attach, sizeof(attach), 100);
    FUZZ_CHECK(vmm_share_fids(share) == 1);
    while (in.left > 0)
        step(share, &in);
    vmm_share_unref(share);
    (void)chmod(folder, 0700);
    FUZZ_CHECK(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
    FUZZ_CHECK(stat(top, &st) == 0 && st.st_nlink == 3); /* the folder, and no other */
    return 0;
}
