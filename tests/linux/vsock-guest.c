/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In a guest, for vsock-console.py:
 *
 *   vsock-guest listen PORT       echo what one peer sends, until it shuts its side down
 *   vsock-guest connect PORT N    send N bytes of a pattern to the host, check its echo, while both run
 *   vsock-guest refused PORT      nobody listens there on the host
 *   vsock-guest events DEVICE N   print N input events that are not SYN_REPORT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("vsock-guest: FAILED in line %d: %s: %s\n", __LINE__, #condition,               \
                   strerror(errno));                                                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static struct sockaddr_vm address_of(unsigned cid, unsigned port)
{
    return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
}

static void write_all(int fd, const uint8_t *data, size_t length)
{
    while (length) {
        ssize_t n = write(fd, data, length);
        CHECK(n > 0);
        data += n;
        length -= (size_t)n;
    }
}

static void echo(unsigned port)
{
    static uint8_t data[65536];
    struct sockaddr_vm a = address_of(VMADDR_CID_ANY, port);
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHECK(listen(listener, 4) == 0);
    puts("vsock-guest: listening");
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    unsigned long long total = 0;
    ssize_t n;
    while ((n = read(fd, data, sizeof(data))) > 0) {
        write_all(fd, data, (size_t)n);
        total += (unsigned long long)n;
    }
    CHECK(n == 0);
    close(fd);
    printf("vsock-guest: echoed %llu bytes\n", total);
}

static int connect_to(unsigned port)
{
    struct sockaddr_vm a = address_of(VMADDR_CID_HOST, port);
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    return connect(fd, (struct sockaddr *)&a, sizeof(a)) ? -1 : fd;
}

static uint8_t pattern(unsigned long long at)
{
    return (uint8_t)(at * 7 + at / 251);
}

static void send_pattern(int fd, unsigned long long count)
{
    static uint8_t data[32768];
    for (unsigned long long at = 0; at < count;) {
        size_t part = count - at < sizeof(data) ? (size_t)(count - at) : sizeof(data);
        for (size_t i = 0; i < part; i++)
            data[i] = pattern(at + i);
        write_all(fd, data, part);
        at += part;
    }
    CHECK(shutdown(fd, SHUT_WR) == 0);
}

static void exchange(unsigned port, unsigned long long count)
{
    static uint8_t data[32768];
    unsigned long long at = 0;
    ssize_t n;
    int status, fd = connect_to(port);
    CHECK(fd >= 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        send_pattern(fd, count);
        exit(0);
    }
    while ((n = read(fd, data, sizeof(data))) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            CHECK(data[i] == pattern(at));
    CHECK(n == 0 && at == count);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(fd);
    printf("vsock-guest: %llu bytes there and back\n", at);
}

static void events(const char *path, int count)
{
    struct input_event e;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    puts("vsock-guest: waiting");
    while (count > 0) {
        CHECK(read(fd, &e, sizeof(e)) == (ssize_t)sizeof(e));
        if (e.type == EV_SYN)
            continue;
        printf("event %d %d %d\n", e.type, e.code, e.value);
        count--;
    }
    puts("vsock-guest: no more");
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "listen") == 0) {
        echo((unsigned)atoi(argv[2]));
    } else if (argc == 4 && strcmp(argv[1], "connect") == 0) {
        exchange((unsigned)atoi(argv[2]), strtoull(argv[3], NULL, 10));
    } else if (argc == 3 && strcmp(argv[1], "refused") == 0) {
        CHECK(connect_to((unsigned)atoi(argv[2])) < 0 && errno == ECONNRESET);
        puts("vsock-guest: refused");
    } else if (argc == 4 && strcmp(argv[1], "events") == 0) {
        events(argv[2], atoi(argv[3]));
    } else {
        return 2;
    }
    return 0;
}
