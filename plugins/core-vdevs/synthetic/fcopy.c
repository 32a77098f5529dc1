/* SPDX-License-Identifier: BSD-2-Clause */
/* File copy: brings files of the host into the guest.
 * Reference: <uapi/linux/hyperv.h> struct hv_fcopy_hdr, hv_start_fcopy, hv_do_fcopy (cited as HK);
 * client drivers/hv/hv_fcopy.c, tools/hv/hv_fcopy_daemon.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ic.h"

enum { OP_START = 0, OP_WRITE = 1, OP_COMPLETE = 2, OP_CANCEL = 3 };
/* Header: u32 operation, two GUIDs that nobody uses. */
enum {
    HEADER = 36,
    S_FILE = 36,  /* 260 units */
    S_PATH = 556, /* 260 units */
    S_FLAGS = 1076,
    S_SIZE = 1080,
    START_LEN = 1088,
    W_OFFSET = 40,
    W_SIZE = 48,
    W_DATA = 52,
    FRAGMENT = 6 * 1024,
    WRITE_LEN = W_DATA + FRAGMENT,
    PATH_UNITS = 260
};
enum { FLAG_OVERWRITE = 1, FLAG_CREATE_PATH = 2 };

enum fcopy_stage { FC_IDLE = 0, FC_START = 1, FC_WRITE = 2, FC_COMPLETE = 3, FC_CANCEL = 4 };

struct fcopy_state {
    uint8_t stage; /* enum fcopy_stage: what is under way */
    uint8_t cancel; /* wanted as soon as the request under way is answered */
    uint64_t size, off, files;
    char host_path[512], guest_path[PATH_UNITS];
    char result[128]; /* of the last copy; what is under way: "" */
};

struct fcopy {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    struct fcopy_state s;
    int fd; /* of the file that is copied, -1 */
};

static void stop(struct fcopy *f, const char *result)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->s.stage = FC_IDLE;
    f->s.cancel = 0;
    snprintf(f->s.result, sizeof(f->s.result), "%s", result);
}

static void ask(struct fcopy *f, unsigned op, unsigned stage, uint8_t *body, uint32_t len)
{
    wire_put(body, op, 4);
    f->s.stage = (uint8_t)stage;
    if (ic_send(&f->ic, body, len))
        stop(f, "interrupted");
}

static void give_up(struct fcopy *f, const char *why)
{
    uint8_t body[HEADER] = { 0 };

    f->host->log(f->dev, MOBO_WARNING, "%s: %s", f->s.host_path, why);
    snprintf(f->s.result, sizeof(f->s.result), "%s", why);
    f->s.cancel = 0;
    ask(f, OP_CANCEL, FC_CANCEL, body, sizeof(body));
}

static void write_next(struct fcopy *f)
{
    uint8_t body[WRITE_LEN] = { 0 };
    uint64_t left = f->s.size - f->s.off;
    uint32_t len = left < FRAGMENT ? (uint32_t)left : FRAGMENT;
    ssize_t n;

    if (f->fd < 0) {
        give_up(f, "interrupted");
        return;
    }
    if (!len) {
        ask(f, OP_COMPLETE, FC_COMPLETE, body, HEADER);
        return;
    }
    n = pread(f->fd, body + W_DATA, len, (off_t)f->s.off);
    if (n != (ssize_t)len) {
        give_up(f, n < 0 ? strerror(errno) : "the file became shorter");
        return;
    }
    wire_put(body + W_OFFSET, f->s.off, 8);
    wire_put(body + W_SIZE, len, 4);
    f->s.off += len;
    ask(f, OP_WRITE, FC_WRITE, body, sizeof(body));
}

static void ready(void *ctx)
{
    (void)ctx;
}

static void answer(void *ctx, uint32_t status, const uint8_t *body, uint32_t len)
{
    struct fcopy *f = ctx;
    char why[100];

    (void)body;
    (void)len;
    snprintf(why, sizeof(why), "the guest says: %s", ic_status_text(status));
    switch (f->s.stage) {
    case FC_START:
        if (status) {
            f->host->log(f->dev, MOBO_WARNING, "%s: %s", f->s.guest_path, why);
            stop(f, why);
        } else if (f->s.cancel) {
            give_up(f, "cancelled");
        } else {
            write_next(f);
        }
        break;
    case FC_WRITE:
        if (status || f->s.cancel)
            give_up(f, status ? why : "cancelled");
        else
            write_next(f);
        break;
    case FC_COMPLETE:
        if (!status) {
            f->s.files++;
            f->host->log(f->dev, MOBO_INFO, "%s is in the guest as %s, %llu bytes", f->s.host_path,
                         f->s.guest_path, (unsigned long long)f->s.size);
        }
        stop(f, status ? why : "done");
        break;
    case FC_CANCEL:
        snprintf(why, sizeof(why), "%.99s", f->s.result);
        stop(f, why);
        break;
    }
}

static void closed(void *ctx)
{
    struct fcopy *f = ctx;

    if (f->s.stage != FC_IDLE)
        stop(f, "interrupted");
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9a, 0xe7, 0x6b, 0x17, 0x49, 0x77, 0xc1, 0x92),
    .instance_id = MOBO_GUID(0xeb765408, 0x105f, 0x49b6, 0xb4, 0xaa, 0xc1, 0x23, 0xb6, 0x4d, 0x17,
                             0xd4),
    .type = 7,
    .versions = { IC_VERSION(1, 1) },
    .ready = ready,
    .answer = answer,
    .closed = closed,
};

/* ---- commands ---------------------------------------------------------------------------------- */

/* A word, or anything in double quotes.  @return what follows, NULL: missing or too long. */
static const char *word(const char *arg, char *ret, size_t max)
{
    const char *end;

    arg += strspn(arg, " ");
    end = *arg == '"' ? strchr(++arg, '"') : arg + strcspn(arg, " ");
    if (!end || end == arg || (size_t)(end - arg) >= max)
        return NULL;
    memcpy(ret, arg, (size_t)(end - arg));
    ret[end - arg] = 0;
    end += *end == '"';
    return end + strspn(end, " ");
}

/* copy HOST-PATH GUEST-PATH [overwrite] [create-path] | cancel */
static int fc_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct fcopy *f = self;
    char from[512], to[PATH_UNITS], option[16], *slash;
    uint8_t body[START_LEN] = { 0 };
    uint32_t flags = 0;
    struct stat st;
    int fd, err;

    if (!strcmp(verb, "cancel")) {
        if (f->s.stage == FC_IDLE)
            return f->host->fail(f->dev, -EALREADY, "nothing is being copied");
        f->s.cancel = f->s.stage != FC_CANCEL;
        return 0;
    }
    if (strcmp(verb, "copy") != 0)
        return f->host->fail(f->dev, -ENOSYS, "unknown command '%s' (copy, cancel)", verb);
    arg = word(arg, from, sizeof(from));
    arg = arg ? word(arg, to, sizeof(to)) : NULL;
    while (arg && *arg) {
        arg = word(arg, option, sizeof(option));
        if (arg && !strcmp(option, "overwrite"))
            flags |= FLAG_OVERWRITE;
        else if (arg && !strcmp(option, "create-path"))
            flags |= FLAG_CREATE_PATH;
        else
            arg = NULL;
    }
    if (!arg || from[0] != '/' || to[0] != '/')
        return f->host->fail(f->dev, -EINVAL,
                             "copy: two absolute paths, then overwrite or create-path");
    slash = strrchr(to, '/');
    if (!slash[1])
        return f->host->fail(f->dev, -EINVAL, "copy: '%s' names no file", to);
    if (f->ic.s.phase != IC_READY)
        return ic_fail(&f->ic, -ENOTCONN);
    if (f->s.stage != FC_IDLE)
        return f->host->fail(f->dev, -EBUSY, "%s is being copied", f->s.host_path);
    fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st)) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return f->host->fail(f->dev, err, "%s: %s", from, strerror(-err));
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return f->host->fail(f->dev, -EINVAL, "%s is no regular file", from);
    }
    err = ic_utf16(slash + 1, body + S_FILE, PATH_UNITS) ? 0 : -E2BIG;
    snprintf(f->s.guest_path, sizeof(f->s.guest_path), "%s", to);
    slash[1] = 0; /* the folder; guests create what ends with a slash */
    if (err || !ic_utf16(to, body + S_PATH, PATH_UNITS)) {
        close(fd);
        return f->host->fail(f->dev, -E2BIG, "the path in the guest is too long");
    }
    wire_put(body + S_FLAGS, flags, 4);
    wire_put(body + S_SIZE, (uint64_t)st.st_size, 8);
    f->fd = fd;
    f->s.size = (uint64_t)st.st_size;
    f->s.off = 0;
    f->s.cancel = 0;
    f->s.result[0] = 0;
    snprintf(f->s.host_path, sizeof(f->s.host_path), "%s", from);
    ask(f, OP_START, FC_START, body, sizeof(body));
    if (f->s.stage == FC_IDLE)
        return f->host->fail(f->dev, -EBUSY, "the guest does not take it");
    snprintf(ret, ret_len, "copying %llu bytes; inspect shows how far it is",
             (unsigned long long)f->s.size);
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void fc_reset(void *self)
{
    struct fcopy *f = self;

    stop(f, "");
    memset(&f->s, 0, sizeof(f->s));
    ic_reset(&f->ic);
}

static const struct mobo_field fc_fields[] = {
    MOBO_FIELD(1, struct fcopy_state, stage),      MOBO_FIELD(2, struct fcopy_state, cancel),
    MOBO_FIELD(3, struct fcopy_state, size),       MOBO_FIELD(4, struct fcopy_state, off),
    MOBO_FIELD(5, struct fcopy_state, files),      MOBO_FIELD(6, struct fcopy_state, host_path),
    MOBO_FIELD(7, struct fcopy_state, guest_path), MOBO_FIELD(8, struct fcopy_state, result),
};

static int fc_save(void *self, struct mobo_writer *out)
{
    struct fcopy *f = self;
    int err = f->host->save_fields(out, MOBO_ARRAY(fc_fields), &f->s);

    return err ? err : ic_save(&f->ic, out);
}

/* A copy that was under way is cancelled: the file may be another one by now. */
static int fc_restore(void *self, struct mobo_reader *in)
{
    struct fcopy *f = self;
    struct fcopy_state s;
    struct ic_saved saved;
    int err = f->host->load_fields(in, MOBO_ARRAY(fc_fields), &s);

    if (!err)
        err = ic_load(&f->ic, in, &saved);
    if (!err)
        err = f->host->load_done(in);
    if (err)
        return err;
    if (s.stage > FC_CANCEL || s.cancel > 1 || s.off > s.size ||
        !memchr(s.host_path, 0, sizeof(s.host_path)) ||
        !memchr(s.guest_path, 0, sizeof(s.guest_path)) || !memchr(s.result, 0, sizeof(s.result)))
        return f->host->fail(f->dev, -EINVAL, "the saved state makes no sense");
    stop(f, "");
    ic_commit(&f->ic, &saved);
    f->s = s;
    if (s.stage != FC_IDLE && !saved.s.waiting)
        stop(f, "interrupted");
    return 0;
}

static void fc_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const stages[] = { "idle", "starting", "copying", "finishing",
                                          "cancelling" };
    struct fcopy *f = self;

    ic_inspect(&f->ic, out);
    f->host->inspect_uint(out, "files", f->s.files);
    f->host->inspect_str(out, "activity", stages[f->s.stage]);
    if (!f->s.host_path[0])
        return;
    f->host->inspect_str(out, "from", f->s.host_path);
    f->host->inspect_str(out, "to", f->s.guest_path);
    f->host->inspect_uint(out, "size", f->s.size);
    f->host->inspect_uint(out, "copied", f->s.off);
    if (f->s.stage == FC_IDLE)
        f->host->inspect_str(out, "result", f->s.result);
}

static void fc_destroy(void *self)
{
    struct fcopy *f = self;

    stop(f, "");
    free(f);
}

static int fc_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct fcopy *f = calloc(1, sizeof(*f));
    int err;

    if (!f)
        return host->fail(dev, -ENOMEM, "out of memory");
    f->dev = dev;
    f->host = host;
    f->fd = -1;
    err = ic_create(&f->ic, dev, host, &service, f);
    if (err) {
        free(f);
        return err;
    }
    *ret_self = f;
    return 0;
}

static const struct mobo_vdev_ops fc_ops = {
    .size = sizeof(fc_ops),
    .create = fc_create,
    .destroy = fc_destroy,
    .reset = fc_reset,
    .save = fc_save,
    .restore = fc_restore,
    .inspect = fc_inspect,
    .command = fc_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "fcopy",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: copies files of the host into the guest",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .ops = &fc_ops,
};
