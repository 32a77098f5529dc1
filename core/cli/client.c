/* SPDX-License-Identifier: BSD-2-Clause */
/* A command's end of a VM's control socket. */
#include "core/cli/client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int client_open(struct client *c, const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd, err;

    *c = (struct client){ 0 };
    if (strlen(path) >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
        c->in = fdopen(fd, "r");
    if (c->in)
        return 0;
    err = -errno;
    close(fd);
    return err;
}

void client_close(struct client *c)
{
    if (c->in)
        fclose(c->in);
    c->in = NULL;
}

void client_patience(struct client *c, unsigned seconds)
{
    struct timeval tv = { .tv_sec = seconds };

    setsockopt(fileno(c->in), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

static bool send_all(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

json_t *client_call(struct client *c, const char *method, json_t *params, json_t **error)
{
    json_t *req = json_pack("{s:s, s:i, s:s, s:o*}", "jsonrpc", "2.0", "id", ++c->id, "method",
                            method, "params", params),
           *reply = NULL, *result;
    char *text = req ? json_dumps(req, JSON_COMPACT) : NULL, *line = NULL;
    size_t cap = 0;
    bool sent =
        text && send_all(fileno(c->in), text, strlen(text)) && send_all(fileno(c->in), "\n", 1);

    json_decref(req);
    free(text);
    while (sent && !reply && getline(&line, &cap, c->in) > 0) {
        reply = json_loads(line, 0, NULL);
        if (json_integer_value(json_object_get(reply, "id")) != c->id) {
            json_decref(reply);
            reply = NULL;
        }
    }
    free(line);
    *error = json_incref(json_object_get(reply, "error"));
    result = *error ? NULL : json_incref(json_object_get(reply, "result"));
    json_decref(reply);
    return result;
}
