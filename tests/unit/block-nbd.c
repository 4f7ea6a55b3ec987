/* SPDX-License-Identifier: BSD-3-Clause */
/* Network disks, against nbdkit and qemu-nbd. */
#include "test.h"

#include <libvmm/nbd.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH (64u << 20)
#define SECOND 1000000000ull

struct fixture {
    struct vmm_loop *loop;
    struct vmm_block *block;
    char folder[64], socket[96], image[96], uri[160];
    pid_t server;
    uint32_t done;
    int failed;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    strcpy(f->folder, "/tmp/libvmm-nbd-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    snprintf(f->socket, sizeof(f->socket), "%s/s", f->folder);
    snprintf(f->image, sizeof(f->image), "%s/image", f->folder);
    snprintf(f->uri, sizeof(f->uri), "nbd+unix:///?socket=%s", f->socket);
    int fd = open(f->image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, LENGTH) < 0)
        return -1;
    close(fd);
    return vmm_loop_new(NULL, &f->loop);
}

static void end_server(struct fixture *f)
{
    if (!f->server)
        return;
    kill(f->server, SIGKILL);
    assert_int_equal(waitpid(f->server, NULL, 0), f->server);
    f->server = 0;
    unlink(f->socket);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char line[128];
    f->block = vmm_block_unref(f->block);
    end_server(f);
    vmm_loop_unref(f->loop);
    snprintf(line, sizeof(line), "rm -r %s", f->folder);
    int rc = system(line);
    free(f);
    return rc;
}

static bool listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return ok;
}

/* `command` is the server in the foreground; $s is the socket, $i the image, $d the folder. */
static void serve(struct fixture *f, const char *command)
{
    char line[512];
    snprintf(line, sizeof(line), "s=%s; i=%s; d=%s; exec %s", f->socket, f->image, f->folder,
             command);
    f->server = fork();
    if (f->server == 0) {
        execl("/bin/sh", "sh", "-c", line, NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && !listens(f->socket); i++)
        usleep(20000);
    assert_true(listens(f->socket));
}

#define NBDKIT "nbdkit -f -U $s "

static int attach(struct fixture *f, uint32_t connections, uint64_t reconnect_ns, bool read_only)
{
    struct vmm_block_nbd_options o = VMM_BLOCK_NBD_OPTIONS_INIT;
    o.uri = f->uri;
    o.connections = connections;
    o.reconnect_ns = reconnect_ns;
    o.read_only = read_only;
    return vmm_block_nbd_new(f->loop, &o, &f->block, NULL);
}

static void fill(uint8_t *to, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1103515245u + 12345u;
        to[i] = (uint8_t)(seed >> 16);
    }
}

static void done(struct vmm_block_request *r, int result)
{
    struct fixture *f = r->ctx;
    f->done++;
    f->failed |= result;
}

static void behaves_as_a_disk(struct fixture *f)
{
    const uint64_t length = 4 << 20;
    uint8_t *model = calloc(1, length), *back = malloc(40u << 20);
    uint32_t seed = 5;
    for (int i = 0; i < 500; i++) {
        seed = seed * 1103515245u + 12345u;
        uint64_t at = (seed >> 8) % (length / 512 - 300) * 512;
        uint64_t n = 512ull * (1 + (seed >> 4) % 300);
        if (seed & 0x10000) {
            fill(back, n, seed);
            memcpy(model + at, back, n);
            struct iovec v[] = {{back, 100}, {back + 100, n - 300}, {back + n - 200, 200}};
            struct vmm_block_request r = {.op = VMM_BLOCK_WRITE,
                                          .flags = seed & 0x20000 ? VMM_BLOCK_FUA : 0,
                                          .offset = at,
                                          .length = n,
                                          .vector = v,
                                          .vector_count = 3,
                                          .done = done,
                                          .ctx = f};
            vmm_block_submit(f->block, &r);
            vmm_block_drain(f->block);
            assert_int_equal(f->failed, 0);
        } else if (!(seed & 0x60000)) {
            assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES,
                                             seed & 0x80000 ? VMM_BLOCK_MAY_UNMAP : 0, at, n),
                             0);
            memset(model + at, 0, n);
        }
        assert_int_equal(vmm_block_read(f->block, at, back, n), 0);
        assert_memory_equal(back, model + at, n);
    }
    assert_int_equal(vmm_block_flush(f->block), 0);
    /* Longer than one command may be. */
    assert_int_equal(vmm_block_read(f->block, 0, back, 40u << 20), 0);
    assert_memory_equal(back, model, length);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_DISCARD, 0, 0, LENGTH), 0);
    assert_int_equal(vmm_block_range(f->block, VMM_BLOCK_WRITE_ZEROES, 0, 0, LENGTH), 0);
    assert_int_equal(vmm_block_read(f->block, length - 4096, back, 4096), 0);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(back[i], 0);
    free(model);
    free(back);
}

static void nbdkit_memory(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    struct vmm_block_extent e;
    uint8_t data[65536];
    serve(f, NBDKIT "memory 64M");
    assert_int_equal(attach(f, 1, 0, false), 0);
    assert_int_equal(vmm_block_get_info(f->block, &info), 0);
    assert_int_equal(info.length, LENGTH);
    assert_int_equal(info.read_only, 0);
    assert_string_equal(info.format, "nbd");
    behaves_as_a_disk(f);
    fill(data, sizeof(data), 1);
    assert_int_equal(vmm_block_write(f->block, 1 << 20, data, sizeof(data)), 0);
    assert_int_equal(vmm_block_extent_at(f->block, 0, LENGTH, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_ZERO);
    assert_int_equal(e.length, 1 << 20);
    assert_int_equal(vmm_block_extent_at(f->block, (1 << 20) + 100, 1000, &e), 0);
    assert_int_equal(e.state, VMM_BLOCK_DATA);
    assert_int_equal(e.length, 1000);
    assert_int_equal(e.offset, (1 << 20) + 100);
}

static void a_server_that_can_little(void **state)
{
    struct fixture *f = *state;
    serve(f, NBDKIT "--filter=nozero --filter=fua --filter=blocksize-policy memory 64M "
                    "zeromode=none blocksize-minimum=512 blocksize-maximum=64K "
                    "blocksize-preferred=4096 blocksize-error-policy=error");
    assert_int_equal(attach(f, 1, 0, false), 0);
    behaves_as_a_disk(f);
}

static void many_connections(void **state)
{
    struct fixture *f = *state;
    static struct vmm_block_request r[256];
    static struct iovec v[256];
    static uint8_t data[256][4096];
    serve(f, NBDKIT "--threads=4 file $i");
    assert_int_equal(attach(f, 4, 0, false), 0);
    assert_int_equal(vmm_block_nbd_connections(f->block), 4);
    for (int turn = 0; turn < 2; turn++) {
        vmm_block_plug(f->block);
        for (int i = 0; i < 256; i++) {
            if (!turn)
                fill(data[i], 4096, (uint32_t)i);
            v[i] = (struct iovec){data[i], 4096};
            r[i] = (struct vmm_block_request){.op = turn ? VMM_BLOCK_READ : VMM_BLOCK_WRITE,
                                              .offset = (uint64_t)i * 4096,
                                              .length = 4096,
                                              .vector = &v[i],
                                              .vector_count = 1,
                                              .done = done,
                                              .ctx = f};
            vmm_block_submit(f->block, &r[i]);
        }
        vmm_block_unplug(f->block);
        f->done = 0;
        while (f->done < 256)
            assert_true(vmm_loop_dispatch(f->loop, 10000) > 0);
        if (!turn)
            memset(data, 0, sizeof(data));
    }
    assert_int_equal(f->failed, 0);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t wanted[4096];
        fill(wanted, 4096, i);
        assert_memory_equal(data[i], wanted, 4096);
    }
}

static void qemu_nbd(void **state)
{
    struct fixture *f = *state;
    if (system("qemu-nbd --version >/dev/null 2>&1"))
        skip(); /* Debian: qemu-utils */
    serve(f, "qemu-nbd -t -e 8 -k $s -f raw $i");
    assert_int_equal(attach(f, 2, 0, false), 0);
    behaves_as_a_disk(f);
}

/* As docs/disks.md says: formats that we do not read ourselves. */
static void other_formats(void **state)
{
    static const char *const formats[] = {"vmdk", "vhdx", "vdi", "vpc"};
    struct fixture *f = *state;
    uint8_t *data = malloc(1 << 20), *back = malloc(1 << 20);
    if (system("qemu-nbd --version >/dev/null 2>&1"))
        skip(); /* Debian: qemu-utils */
    fill(data, 1 << 20, 9);
    int fd = open(f->image, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, data, 1 << 20, 5 << 20), 1 << 20);
    close(fd);
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        char line[512];
        snprintf(line, sizeof(line), "qemu-img convert -f raw -O %s %s %s/other", formats[i],
                 f->image, f->folder);
        assert_int_equal(system(line), 0);
        snprintf(line, sizeof(line), "qemu-nbd --read-only --persistent -k $s -f %s $d/other",
                 formats[i]);
        serve(f, line);
        assert_int_equal(attach(f, 1, 0, false), 0);
        assert_int_equal(vmm_block_read(f->block, 5 << 20, back, 1 << 20), 0);
        assert_memory_equal(back, data, 1 << 20);
        assert_int_equal(vmm_block_read(f->block, 7 << 20, back, 1 << 20), 0);
        assert_int_equal(back[0] | back[(1 << 20) - 1], 0);
        assert_int_equal(vmm_block_write(f->block, 0, data, 512), -EACCES);
        f->block = vmm_block_unref(f->block);
        end_server(f);
    }
    free(data);
    free(back);
}

/* nbdkit decrypts: what we write is read by QEMU with the passphrase, and does not stand in the file. */
static void encrypted(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = malloc(1 << 20);
    char line[512];
    if (system("qemu-img --version >/dev/null 2>&1 && "
               "nbdkit --filter=luks --dump-plugin null >/dev/null 2>&1")) {
        free(data);
        skip(); /* Debian: qemu-utils, and an nbdkit with that filter */
    }
    snprintf(line, sizeof(line),
             "qemu-img create -q --object secret,id=k,data=secret -f luks "
             "-o key-secret=k,iter-time=10 %s 4M",
             f->image);
    int made = -1; /* qemu-img times its own hashing, and now and then finds its clock too coarse */
    for (int i = 0; i < 10 && made != 0; i++)
        made = system(line);
    assert_int_equal(made, 0);
    serve(f, NBDKIT "--filter=luks file $i passphrase=secret");
    assert_int_equal(attach(f, 1, 0, false), 0);
    memset(data, 0x5a, 1 << 20);
    assert_int_equal(vmm_block_write(f->block, 1 << 20, data, 1 << 20), 0);
    assert_int_equal(vmm_block_flush(f->block), 0);
    memset(data, 0, 1 << 20);
    assert_int_equal(vmm_block_read(f->block, 1 << 20, data, 1 << 20), 0);
    assert_int_equal(data[0] & data[(1 << 20) - 1], 0x5a);
    f->block = vmm_block_unref(f->block);
    end_server(f);
    snprintf(line, sizeof(line),
             "qemu-io --object secret,id=k,data=secret --image-opts "
             "driver=luks,key-secret=k,file.filename=%s -c 'read -P 0x5a 1M 1M' "
             "| grep -q '^read 1048576/1048576'",
             f->image);
    assert_int_equal(system(line), 0);
    snprintf(line, sizeof(line), "grep -q ZZZZZZZZ %s", f->image);
    assert_int_not_equal(system(line), 0);
    free(data);
}

static void read_only(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    serve(f, NBDKIT "-r file $i");
    assert_int_equal(attach(f, 1, 0, false), 0);
    assert_int_equal(vmm_block_write(f->block, 0, data, 512), -EACCES);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), 0);
    assert_int_equal(vmm_block_flush(f->block), 0);
}

static void tls(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_nbd_options o = VMM_BLOCK_NBD_OPTIONS_INIT;
    char keys[128], uri[192];
    uint8_t data[512];
    snprintf(keys, sizeof(keys), "%s/keys", f->folder);
    FILE *file = fopen(keys, "w");
    fputs("alice:00112233445566778899aabbccddeeff\n", file);
    fclose(file);
    serve(f, NBDKIT "--tls=require --tls-psk=$d/keys file $i");
    assert_true(attach(f, 1, 0, false) < 0); /* not without */
    snprintf(uri, sizeof(uri), "nbds+unix://alice@/?socket=%s", f->socket);
    o.uri = uri;
    o.tls_psk_file = keys;
    assert_int_equal(vmm_block_nbd_new(f->loop, &o, &f->block, NULL), 0);
    fill(data, 512, 3);
    assert_int_equal(vmm_block_write(f->block, 0, data, 512), 0);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), 0);
}

/* The server is killed again and again under load; nothing is lost, nothing done twice to harm. */
static void a_server_that_comes_back(void **state)
{
    struct fixture *f = *state;
    static struct vmm_block_request r[64];
    static struct iovec v[64];
    static uint8_t data[64][65536], back[65536];
    const char *server = NBDKIT "--filter=delay file $i wdelay=100ms";
    serve(f, server);
    assert_int_equal(attach(f, 2, 60 * SECOND, false), 0);
    for (int i = 0; i < 64; i++) {
        fill(data[i], 65536, (uint32_t)i);
        v[i] = (struct iovec){data[i], 65536};
        r[i] = (struct vmm_block_request){.op = VMM_BLOCK_WRITE,
                                          .offset = (uint64_t)i * 65536,
                                          .length = 65536,
                                          .vector = &v[i],
                                          .vector_count = 1,
                                          .done = done,
                                          .ctx = f};
        vmm_block_submit(f->block, &r[i]);
    }
    for (int i = 0; i < 5; i++)
        vmm_loop_dispatch(f->loop, 20);
    end_server(f);
    for (int i = 0; i < 5; i++)
        vmm_loop_dispatch(f->loop, 20);
    assert_int_equal(vmm_block_nbd_connections(f->block), 0);
    assert_true(f->done < 64);
    serve(f, server);
    while (f->done < 64)
        assert_true(vmm_loop_dispatch(f->loop, 20000) >= 0);
    assert_int_equal(f->failed, 0);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(vmm_block_read(f->block, (uint64_t)i * 65536, back, 65536), 0);
        assert_memory_equal(back, data[i], 65536);
    }
    for (int i = 0; i < 100 && vmm_block_nbd_connections(f->block) < 2; i++)
        vmm_loop_dispatch(f->loop, 100);
    assert_int_equal(vmm_block_nbd_connections(f->block), 2);
}

static void a_server_that_stays_away(void **state)
{
    struct fixture *f = *state;
    uint8_t data[512];
    serve(f, NBDKIT "file $i");
    assert_int_equal(attach(f, 1, 300000000, false), 0);
    end_server(f);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), -ENOTCONN);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), -ENOTCONN);
    assert_int_equal(vmm_block_nbd_connections(f->block), 0);
    /* One of another length is not taken. */
    serve(f, NBDKIT "memory 1M");
    for (int i = 0; i < 10; i++)
        vmm_loop_dispatch(f->loop, 100);
    assert_int_equal(vmm_block_nbd_connections(f->block), 0);
    end_server(f);
    serve(f, NBDKIT "file $i");
    for (int i = 0; i < 100 && !vmm_block_nbd_connections(f->block); i++)
        vmm_loop_dispatch(f->loop, 100);
    assert_int_equal(vmm_block_read(f->block, 0, data, 512), 0);
}

static void *quiesce(void *ctx)
{
    vmm_block_quiesce(ctx);
    return NULL;
}

static void quiesced_from_another_thread(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_request r[8];
    struct iovec v[8];
    static uint8_t data[8][4096];
    pthread_t thread;
    serve(f, NBDKIT "--filter=delay file $i rdelay=100ms");
    assert_int_equal(attach(f, 2, 60 * SECOND, false), 0);
    memset(data, 1, sizeof(data));
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < 8; i++) {
            v[i] = (struct iovec){data[i], 4096};
            r[i] = (struct vmm_block_request){.op = VMM_BLOCK_READ,
                                              .length = 4096,
                                              .vector = &v[i],
                                              .vector_count = 1,
                                              .done = done,
                                              .ctx = f};
            vmm_block_submit(f->block, &r[i]);
        }
        if (turn) { /* what waits for a server that is away ends */
            end_server(f);
            for (int i = 0; i < 5; i++)
                vmm_loop_dispatch(f->loop, 20);
        }
        assert_int_equal(pthread_create(&thread, NULL, quiesce, f->block), 0);
        pthread_join(thread, NULL);
        f->done = 0;
        while (f->done < 8)
            assert_true(vmm_loop_dispatch(f->loop, 10000) > 0);
        assert_int_equal(f->failed, turn ? -ECANCELED : 0);
        assert_int_equal(data[7][4095], 0);
    }
}

static void refused(void **state)
{
    struct fixture *f = *state;
    struct vmm_block_nbd_options o = VMM_BLOCK_NBD_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_block_nbd_new(f->loop, &o, &f->block, &err), -EINVAL);
    o.uri = "nbd+unix:///?socket=/nonexistent";
    assert_int_equal(vmm_block_nbd_new(NULL, &o, &f->block, &err), -EINVAL);
    assert_true(vmm_block_nbd_new(f->loop, &o, &f->block, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent"));
    o.connections = 17;
    assert_int_equal(vmm_block_nbd_new(f->loop, &o, &f->block, &err), -EINVAL);
    o.connections = 1;
    o.uri = "http://example.org/";
    assert_true(vmm_block_nbd_new(f->loop, &o, &f->block, &err) < 0);
    serve(f, NBDKIT "memory 1000");
    o.uri = f->uri;
    assert_int_equal(vmm_block_nbd_new(f->loop, &o, &f->block, &err), -EINVAL);
    assert_int_equal(vmm_block_nbd_connections(NULL), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nbdkit_memory),
        TEST(a_server_that_can_little),
        TEST(many_connections),
        TEST(qemu_nbd),
        TEST(other_formats),
        TEST(encrypted),
        TEST(read_only),
        TEST(tls),
        TEST(a_server_that_comes_back),
        TEST(a_server_that_stays_away),
        TEST(quiesced_from_another_thread),
        TEST(refused),
    };
    struct vmm_block_nbd_options o = VMM_BLOCK_NBD_OPTIONS_INIT;
    struct vmm_loop *loop;
    struct vmm_block *block;
    o.uri = "nbd+unix:///?socket=/nonexistent";
    if (vmm_loop_new(NULL, &loop) < 0)
        return 1;
    int rc = vmm_block_nbd_new(loop, &o, &block, NULL);
    vmm_loop_unref(loop);
    if (rc == -ENOTSUP) {
        puts("the library was built without libnbd");
        return 77;
    }
    if (system("nbdkit --version >/dev/null 2>&1")) {
        puts("nbdkit is missing (Debian: nbdkit)");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
