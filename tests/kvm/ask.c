/* SPDX-License-Identifier: BSD-2-Clause */
/* One request to a control socket: ask SOCKET METHOD [PARAMS].  Prints the answer; exit status 1 when it is an error. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[65536];
    FILE *f;

    if (argc < 3 || argc > 4 || fd < 0 || strlen(argv[1]) >= sizeof(a.sun_path)) {
        fprintf(stderr, "usage: ask SOCKET METHOD [PARAMS]\n");
        return 2;
    }
    strcpy(a.sun_path, argv[1]);
    f = fdopen(fd, "r+");
    if (!f || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        perror(argv[1]);
        return 2;
    }
    dprintf(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n", argv[2], argc > 3 ? argv[3] : "{}");
    while (fgets(line, sizeof(line), f)) {
        if (!strstr(line, "\"id\":1"))
            continue; /* an event */
        fputs(line, stdout);
        return strstr(line, "\"error\":") != NULL;
    }
    fprintf(stderr, "ask: no answer\n");
    return 2;
}
