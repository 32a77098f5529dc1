/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo save: have a running VM write itself to a file and end. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cli/cli.h"
#include "core/cli/client.h"
#include "core/vmwp/worker.h"

enum { OPT_CONTROL = 256, OPT_HELP };

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
    char *path = absolute(file);
    json_t *params = path ? json_pack("{s:s}", "file", path) : NULL, *error, *result;
    const char *why;
    struct client c;
    int err;

    free(path);
    if (!params) {
        usage_error("save: '%s' cannot be sent: not UTF-8, or no memory", DIAG_Q(file));
        return STATUS_HOST;
    }
    err = client_open(&c, socket);
    if (err) {
        json_decref(params);
        usage_error("save: --control %s: %s", DIAG_Q(socket), strerror(-err));
        return STATUS_HOST;
    }
    result = client_call(&c, "save", params, &error);
    why = json_string_value(json_object_get(error, "message"));
    if (!result && !error)
        usage_error("save: the VM ended without an answer");
    else if (!result)
        usage_error("save: %s", why ? diag_quote(why, (char[1024]){ 0 }, 1024) : "not an answer that this version knows");
    err = result ? STATUS_OK : STATUS_HOST;
    json_decref(result);
    json_decref(error);
    client_close(&c);
    return err;
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
