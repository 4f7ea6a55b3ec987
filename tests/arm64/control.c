/* SPDX-License-Identifier: BSD-3-Clause */
/* control SOCKET COMMAND: say one line to vmm-run's control socket and print the answer; the nested machine has no socat. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[4096];
    if (argc != 3 || strlen(argv[1]) >= sizeof(address.sun_path))
        return 2;
    strcpy(address.sun_path, argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
        dprintf(fd, "%s\n", argv[2]) < 0) {
        perror(argv[1]);
        return 1;
    }
    ssize_t n = read(fd, answer, sizeof(answer) - 1);
    if (n <= 0)
        return 1;
    answer[n] = '\0';
    (void)fputs(answer, stdout);
    return strncmp(answer, "{\"error\"", 8) == 0;
}
