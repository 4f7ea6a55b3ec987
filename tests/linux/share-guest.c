/* SPDX-License-Identifier: BSD-3-Clause */
/* In a guest, in a folder that it shares with the host: what file systems have to do. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("share-guest: line %d: %s: %s\n", __LINE__, #condition, strerror(errno));       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void attributes(void)
{
    char value[70000], names[1000];
    int fd = open("x", O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0);
    CHECK(setxattr("x", "trusted.one", "first", 5, 0) == 0);
    CHECK(setxattr("x", "trusted.one", "again", 5, XATTR_CREATE) == -1 && errno == EEXIST);
    CHECK(getxattr("x", "trusted.one", value, sizeof(value)) == 5 && !memcmp(value, "first", 5));
    CHECK(fsetxattr(fd, "trusted.gone", "", 1, 0) == 0);
    CHECK(removexattr("x", "trusted.gone") == 0);
    CHECK(getxattr("x", "trusted.gone", value, sizeof(value)) == -1 && errno == ENODATA);
    ssize_t n = listxattr("x", names, sizeof(names));
    CHECK(n > 0 && memmem(names, (size_t)n, "trusted.one", 12));
    CHECK(!memmem(names, (size_t)n, "trusted.gone", 13));
    close(fd);
}

static void unlinked_but_open(void)
{
    char text[16];
    struct stat st;
    int fd = open("gone", O_CREAT | O_RDWR | O_EXCL, 0600);
    CHECK(fd >= 0 && write(fd, "before", 6) == 6);
    CHECK(unlink("gone") == 0);
    CHECK(write(fd, "after", 5) == 5);
    CHECK(pread(fd, text, sizeof(text), 0) == 11 && !memcmp(text, "beforeafter", 11));
    CHECK(fstat(fd, &st) == 0 && st.st_size == 11);
    CHECK(access("gone", F_OK) == -1 && errno == ENOENT);
    CHECK(close(fd) == 0);
}

static void names(void)
{
    char target[64] = {0};
    struct stat a, b;
    CHECK(mkdir("d", 0750) == 0 && mkdir("d/e", 0700) == 0);
    int fd = open("d/e/f", O_CREAT | O_WRONLY, 0640);
    CHECK(fd >= 0 && write(fd, "one\n", 4) == 4 && close(fd) == 0);
    CHECK(rename("d/e/f", "d/g") == 0 && rename("d/e", "moved") == 0);
    CHECK(link("d/g", "hard") == 0 && stat("d/g", &a) == 0 && stat("hard", &b) == 0);
    CHECK(a.st_ino == b.st_ino && b.st_nlink == 2 && (b.st_mode & 0777) == 0640);
    CHECK(symlink("d/g", "soft") == 0 && readlink("soft", target, sizeof(target)) == 3);
    CHECK(stat("soft", &b) == 0 && a.st_ino == b.st_ino);
    CHECK(rmdir("d") == -1 && errno == ENOTEMPTY);
    CHECK(rename("hard", "replaced") == 0 && access("hard", F_OK) == -1);
    CHECK(mknod("device", S_IFCHR | 0600, 0x103) == -1 && errno == EPERM);
}

static void appending(void)
{
    for (int i = 0; i < 20; i++) {
        int fd = open("log", O_CREAT | O_WRONLY | O_APPEND, 0644);
        char line[16];
        int n = snprintf(line, sizeof(line), "line %02d\n", i);
        CHECK(fd >= 0 && write(fd, line, (size_t)n) == n && close(fd) == 0);
    }
}

static void odds(void)
{
    struct statfs fs;
    struct stat st;
    struct timespec times[2] = {{1000000000, 0}, {1100000000, 0}};
    int fd = open("big", O_CREAT | O_RDWR, 0644);
    CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    CHECK(pwrite(fd, "end", 3, (1 << 20) - 3) == 3 && fsync(fd) == 0 && fdatasync(fd) == 0);
    char *map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED && map[0] == 0 && !memcmp(map + (1 << 20) - 3, "end", 3));
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 && flock(fd, LOCK_UN) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    CHECK(fcntl(fd, F_SETLK, &lock) == 0 && fcntl(fd, F_GETLK, &lock) == 0);
    CHECK(lock.l_type == F_UNLCK);
    CHECK(futimens(fd, times) == 0 && fchmod(fd, 04711) == 0 && fchown(fd, 12, 34) == 0);
    CHECK(close(fd) == 0 && stat("big", &st) == 0);
    CHECK(st.st_mtime == 1100000000 && st.st_uid == 12 && st.st_gid == 34);
    CHECK(chmod("big", 04711) == 0 && stat("big", &st) == 0 && (st.st_mode & 07777) == 04711);
    CHECK(statfs(".", &fs) == 0 && fs.f_bsize > 0 && fs.f_blocks > 0);
    CHECK(open("..", O_RDONLY | O_DIRECTORY) >= 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && chdir(argv[1]) == 0);
    attributes();
    unlinked_but_open();
    names();
    appending();
    odds();
    puts("share-guest: all is well");
    return 0;
}
