/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that talk to a VM that runs: mobo screenshot, mobo type, mobo pointer.
 *
 * A VM is the path of its control socket, or a name: then the socket is NAME.sock in the folder `mobo`
 * of $XDG_RUNTIME_DIR, or in /run/mobo. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/cli/cli.h"
#include "core/cli/client.h"

enum { STATUS_USAGE = 1, STATUS_FAILED = 2, RPC_BUSY = -32001 };

/* ---- the connection ------------------------------------------------------------------------------ */

struct remote {
    const char *vm;
    struct client c;
};

static int host_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int host_error(const char *fmt, ...)
{
    va_list ap;

    fputs("mobo: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return STATUS_FAILED;
}

static int remote_open(struct remote *r, const char *vm)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX];
    int err = client_open(&r->c, vm);

    r->vm = vm;
    if (err == -ENOENT && !strchr(vm, '/')) {
        if (dir && *dir) {
            snprintf(path, sizeof(path), "%s/mobo/%s.sock", dir, vm);
            err = client_open(&r->c, path);
        }
        if (err) {
            snprintf(path, sizeof(path), "/run/mobo/%s.sock", vm);
            err = client_open(&r->c, path);
        }
    }
    if (err == -ENOENT)
        return host_error(
            "%s: no VM with such a control socket (mobo run --control PATH makes one)", DIAG_Q(vm));
    return err ? host_error("%s: cannot reach the VM: %s", DIAG_Q(vm), strerror(-err)) : 0;
}

static void remote_close(struct remote *r) { client_close(&r->c); }

/* Call a method; takes over @params.  @return its result, or NULL: said on standard error, and *@ret_code
 * is the code of the error. */
static json_t *call(struct remote *r, const char *method, json_t *params, int *ret_code)
{
    json_t *error, *result = client_call(&r->c, method, params, &error);
    const char *why = json_string_value(json_object_get(error, "message"));

    *ret_code = (int)json_integer_value(json_object_get(error, "code"));
    if (!result && !error)
        host_error("%s: the VM does not answer", DIAG_Q(r->vm));
    else if (!result && *ret_code != RPC_BUSY)
        host_error("%s: %s", DIAG_Q(r->vm), why ? diag_quote(why, (char[1024]){ 0 }, 1024) : "not an answer that this version knows");
    json_decref(error);
    return result;
}

/* ---- mobo screenshot ----------------------------------------------------------------------------- */

/* RFC 4648 section 4, in place.  @return number of bytes, -1: not base64. */
static ssize_t unbase64(char *text)
{
    unsigned char *out = (unsigned char *)text;
    unsigned v = 0, bits = 0;
    ssize_t n = 0;

    for (; *text && *text != '='; text++) {
        char c = *text;
        int d = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+'             ? 62
                : c == '/'             ? 63
                                       : -1;

        if (d < 0)
            return -1;
        v = (v << 6 | (unsigned)d) & 0xffffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (unsigned char)(v >> bits);
        }
    }
    return n;
}

/* A new file, or the old one as it was. */
static int write_file(const char *path, const void *buf, size_t len)
{
    char temp[PATH_MAX];
    FILE *f;
    int err = 0;

    if (strcmp(path, "-") == 0) {
        if (fwrite(buf, 1, len, stdout) != len || fflush(stdout))
            return host_error("standard output: %s", strerror(errno));
        return 0;
    }
    if (snprintf(temp, sizeof(temp), "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof(temp))
        return host_error("%s: the name is too long", DIAG_Q(path));
    f = fopen(temp, "wbxe");
    if (!f)
        return host_error("%s: %s", DIAG_Q(path), strerror(errno));
    if (fwrite(buf, 1, len, f) != len)
        err = errno;
    if (fclose(f) && !err)
        err = errno;
    if (!err && rename(temp, path))
        err = errno;
    if (err)
        unlink(temp);
    return err ? host_error("%s: %s", DIAG_Q(path), strerror(err)) : 0;
}

int cmd_screenshot(int argc, char **argv)
{
    static const struct option options[] = { { "device", required_argument, NULL, 'd' },
                                             { "help", no_argument, NULL, 'h' },
                                             { NULL, 0, NULL, 0 } };
    const char *device = NULL;
    struct remote r;
    json_t *result;
    char *text;
    ssize_t len;
    int o, code, status;

    while ((o = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (o) {
        case 'd': device = optarg; break;
        case 'h':
            puts("usage: mobo screenshot [--device NAME] VM FILE.png\n\n"
                 "Writes what is on the screen of a running VM; FILE - is standard output.\n"
                 "VM is the path of its control socket (mobo run --control PATH) or a name.\n\n"
                 "  --device NAME  the display of this device, instead of the first one");
            return 0;
        default: return option_error("screenshot", argv, options, o);
        }
    }
    if (argc - optind != 2)
        return usage_error("screenshot: a VM and a file are needed (see mobo screenshot --help)");
    status = remote_open(&r, argv[optind]);
    if (status) {
        remote_close(&r);
        return status;
    }
    result = call(&r, "screenshot", json_pack("{s:s*}", "device", device), &code);
    status = STATUS_FAILED;
    if (result) {
        text = strdup(json_string_value(json_object_get(result, "png"))
                          ? json_string_value(json_object_get(result, "png"))
                          : "");
        len = text ? unbase64(text) : -1;
        status = len <= 0 ? host_error("%s: not a picture", DIAG_Q(argv[optind]))
                          : write_file(argv[optind + 1], text, (size_t)len);
        free(text);
        json_decref(result);
    }
    remote_close(&r);
    return status;
}

/* ---- mobo type ----------------------------------------------------------------------------------- */

/* Until the guest has room.  Takes over @params. */
static int press(struct remote *r, const char *method, json_t *params)
{
    const struct timespec again = { 0, 50000000 };
    json_t *result;
    int code;

    do {
        result = call(r, method, json_incref(params), &code);
        if (!result && code == RPC_BUSY)
            nanosleep(&again, NULL);
    } while (!result && code == RPC_BUSY);
    json_decref(result);
    json_decref(params);
    return result ? 0 : STATUS_FAILED;
}

int cmd_type(int argc, char **argv)
{
    static const struct option options[] = { { "enter", no_argument, NULL, 'e' },
                                             { "key", required_argument, NULL, 'k' },
                                             { "help", no_argument, NULL, 'h' },
                                             { NULL, 0, NULL, 0 } };
    enum { PIECE = 256 };
    struct string_list keys = { 0 };
    const char *text = "";
    char piece[PIECE + 1];
    bool enter = false;
    struct remote r;
    int o, status;

    while ((o = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (o) {
        case 'e': enter = true; break;
        case 'k': string_list_add(&keys, optarg); break;
        case 'h':
            puts("usage: mobo type [--key KEYS]... [--enter] VM [TEXT]\n\n"
                 "Types TEXT on the keyboard of a running VM, as on a US keyboard.\n"
                 "VM is the path of its control socket (mobo run --control PATH) or a name.\n\n"
                 "  --key KEYS  first press these keys together: ctrl+alt+delete\n"
                 "  --enter     press Enter at the end");
            string_list_free(&keys);
            return 0;
        default: string_list_free(&keys); return option_error("type", argv, options, o);
        }
    }
    if (argc - optind < 1 || argc - optind > 2 || (argc - optind == 1 && !keys.count && !enter)) {
        string_list_free(&keys);
        return usage_error("type: a VM and a text are needed (see mobo type --help)");
    }
    if (argc - optind == 2)
        text = argv[optind + 1];
    status = remote_open(&r, argv[optind]);
    for (size_t i = 0; !status && i < keys.count; i++)
        status = press(&r, "key", json_pack("{s:s}", "keys", keys.items[i]));
    while (!status && *text) {
        size_t n = strnlen(text, PIECE);

        memcpy(piece, text, n);
        piece[n] = 0;
        for (size_t i = 0; i < n && !status; i++)
            if ((unsigned char)piece[i] >= 0x80) /* and JSON has no room for half a character */
                status = usage_error("type: a US keyboard has ASCII characters only");
        if (!status)
            status = press(&r, "type", json_pack("{s:s}", "text", piece));
        text += n;
    }
    if (!status && enter)
        status = press(&r, "key", json_pack("{s:s}", "keys", "enter"));
    remote_close(&r);
    string_list_free(&keys);
    return status;
}

/* ---- mobo pointer -------------------------------------------------------------------------------- */

/* @return whether @text is a whole number, which goes into @o. */
static bool set_number(json_t *o, const char *key, const char *text)
{
    char *end;
    long val;

    errno = 0;
    val = strtol(text, &end, 10);
    if (errno || end == text || *end)
        return false;
    json_object_set_new(o, key, json_integer(val));
    return true;
}

int cmd_pointer(int argc, char **argv)
{
    static const struct option options[] = { { "click", required_argument, NULL, 'c' },
                                             { "down", required_argument, NULL, 'd' },
                                             { "up", required_argument, NULL, 'u' },
                                             { "wheel", required_argument, NULL, 'w' },
                                             { "pan", required_argument, NULL, 'p' },
                                             { "help", no_argument, NULL, 'h' },
                                             { NULL, 0, NULL, 0 } };
    json_t *params = json_object();
    const char *wrong = NULL;
    struct remote r;
    int o, status;

    while ((o = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        switch (o) {
        case 'c': json_object_set_new(params, "click", json_string(optarg)); break;
        case 'd': json_object_set_new(params, "down", json_string(optarg)); break;
        case 'u': json_object_set_new(params, "up", json_string(optarg)); break;
        case 'w':
        case 'p':
            if (!set_number(params, o == 'w' ? "wheel" : "pan", optarg))
                wrong = optarg;
            break;
        case 'h':
            puts("usage: mobo pointer [OPTIONS] VM [X Y]\n\n"
                 "Moves the mouse of a running VM to a pixel of its screen, then does the rest.\n"
                 "VM is the path of its control socket (mobo run --control PATH) or a name.\n\n"
                 "  --click BUTTON  press and let go left, right, middle, back or forward\n"
                 "  --down BUTTON   only press\n"
                 "  --up BUTTON     only let go\n"
                 "  --wheel N       turn by N notches, -127 to 127; up is positive\n"
                 "  --pan N         the same to the right");
            json_decref(params);
            return 0;
        default: json_decref(params); return option_error("pointer", argv, options, o);
        }
    }
    if (argc - optind != 1 && argc - optind != 3) {
        json_decref(params);
        return usage_error("pointer: a VM, and X and Y or neither, are needed (see mobo pointer "
                           "--help)");
    }
    for (int i = 1; i < argc - optind; i++)
        if (!set_number(params, i == 1 ? "x" : "y", argv[optind + i]))
            wrong = argv[optind + i];
    if (wrong) {
        json_decref(params);
        return usage_error("pointer: '%s' is not a number", DIAG_Q(wrong));
    }
    status = remote_open(&r, argv[optind]);
    if (!status)
        status = press(&r, "pointer", params);
    else
        json_decref(params);
    remote_close(&r);
    return status;
}
