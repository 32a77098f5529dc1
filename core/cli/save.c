/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo save: have a running VM write itself to a file and end. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cli/cli.h"
#include "core/vmwp/worker.h"

enum { OPT_CONTROL = 256, OPT_HELP, LINE_MAX_LEN = 1 << 20 };

static const struct option options[] = {
    { "control", required_argument, NULL, OPT_CONTROL },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static void help(void)
{
    printf("usage: mobo save --control SOCKET FILE\n\n"
           "Pauses the VM whose mobo run listens on SOCKET, writes it to FILE and ends it with status 5.\n"
           "mobo run FILE.ini --restore FILE goes on from there.  When it cannot be written the VM goes\n"
           "on, and a FILE that was there before stays as it was.\n\n"
           "  --control SOCKET         what mobo run was given as --control\n\n"
           "Exit status: 0 saved, 1 usage, 2 the VM could not be saved.\n");
}

static int dial(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd, err;

    if (strlen(path) >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    return fd;
}

static int say(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return -errno;
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The answer to request 1; what else the worker tells is passed over.  NULL: it went away, or talks nonsense. */
static json_t *answer(int fd)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fdopen(fd, "r");
    json_t *o = NULL;

    while (f && !o) {
        ssize_t n = getline(&line, &cap, f);

        if (n <= 0 || n > LINE_MAX_LEN)
            break;
        o = json_loadb(line, (size_t)n, 0, NULL);
        if (o && json_integer_value(json_object_get(o, "id")) != 1) {
            json_decref(o);
            o = NULL;
        }
    }
    free(line);
    if (f)
        fclose(f);
    else
        close(fd);
    return o;
}

/* The worker may be in another folder than the user. */
static char *absolute(const char *path)
{
    char cwd[4096], *full = NULL;

    if (path[0] == '/')
        return strdup(path);
    if (!getcwd(cwd, sizeof(cwd)) || asprintf(&full, "%s/%s", cwd, path) < 0)
        return NULL;
    return full;
}

static int save(const char *socket, const char *file)
{
    char *path = absolute(file), *text = NULL;
    json_t *req, *rep = NULL;
    char text_buf[1024];
    const char *why;
    int fd, status = STATUS_HOST;

    req = path ? json_pack("{s:s, s:i, s:s, s:{s:s}}", "jsonrpc", "2.0", "id", 1, "method", "save", "params",
                           "file", path)
               : NULL;
    text = req ? json_dumps(req, JSON_COMPACT) : NULL;
    if (!text) {
        usage_error("save: '%s' cannot be sent: not UTF-8, or no memory", DIAG_Q(file));
        goto out;
    }
    fd = dial(socket);
    if (fd < 0) {
        usage_error("save: --control %s: %s", DIAG_Q(socket), strerror(-fd));
        goto out;
    }
    if (say(fd, text) || say(fd, "\n")) {
        close(fd);
        usage_error("save: --control %s: the VM went away", DIAG_Q(socket));
        goto out;
    }
    rep = answer(fd);
    why = json_string_value(json_object_get(json_object_get(rep, "error"), "message"));
    if (!rep)
        usage_error("save: the VM ended without an answer");
    else if (!json_object_get(rep, "result"))
        usage_error("save: %s", why ? diag_quote(why, text_buf, sizeof(text_buf)) : "not an answer that this version knows");
    else
        status = STATUS_OK;
out:
    json_decref(rep);
    json_decref(req);
    free(text);
    free(path);
    return status;
}

int cmd_save(int argc, char **argv)
{
    const char *control = NULL;
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (c) {
        case OPT_CONTROL: control = optarg; break;
        case OPT_HELP:
        case 'h': help(); return STATUS_OK;
        default: return option_error("save", argv, options, c);
        }
    }
    if (!control)
        return usage_error("save: no --control SOCKET (see mobo save --help)");
    if (optind == argc)
        return usage_error("save: no FILE (see mobo save --help)");
    if (optind + 1 < argc)
        return usage_error("save: one FILE at a time, '%s' is too much", DIAG_Q(argv[optind + 1]));
    return save(control, argv[optind]);
}
