/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest shutdown: asks the operating system in the guest to shut down, reboot or hibernate.
 * Reference: <linux/hyperv.h> struct shutdown_msg_data; client drivers/hv/hv_util.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ic.h"

/* Body: u32 reason, u32 timeout in s, u32 flags, 2048 bytes of UTF-16 to show. */
enum { BODY_LEN = 12 + 2048, TEXT_MAX = 1024 };
enum { FLAG_FORCE = 1, FLAG_REBOOT = 2, FLAG_HIBERNATE = 4 };
/* What Windows' event log shows: planned, "other" (reason.h SHTDN_REASON_FLAG_PLANNED). */
#define REASON_PLANNED 0x80000000u

struct shutdown_state {
    uint32_t flags;   /* of the last request */
    uint32_t status;  /* of its answer */
    uint8_t asked;    /* 0 never, 1 waits for the answer, 2 answered */
    uint64_t asked_ns;
};

struct shutdown {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    struct shutdown_state s;
};

static const char *what(uint32_t flags)
{
    return flags & FLAG_HIBERNATE ? "hibernate" : flags & FLAG_REBOOT ? "reboot" : "shut down";
}

static void ready(void *ctx)
{
    (void)ctx;
}

static void answer(void *ctx, uint32_t status, const uint8_t *body, uint32_t len)
{
    struct shutdown *s = ctx;

    (void)body;
    (void)len;
    s->s.asked = 2;
    s->s.status = status;
    if (status)
        s->host->log(s->dev, MOBO_WARNING, "the guest does not %s: %s", what(s->s.flags),
                     ic_status_text(status));
    else
        s->host->log(s->dev, MOBO_INFO, "the guest agrees to %s", what(s->s.flags));
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb),
    .instance_id = MOBO_GUID(0xb6650ff7, 0x33bc, 0x4840, 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3,
                             0x93),
    .type = 3,
    .versions = { IC_VERSION(3, 2), IC_VERSION(3, 1), IC_VERSION(3, 0), IC_VERSION(1, 0) },
    .ready = ready,
    .answer = answer,
};

/* VERB [force] [text to show].  Text that begins with the word has a space before it, which is not shown. */
static int sd_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct shutdown *s = self;
    uint8_t body[BODY_LEN] = { 0 };
    uint32_t flags;
    int err;

    if (!strcmp(verb, "shutdown"))
        flags = 0;
    else if (!strcmp(verb, "reboot"))
        flags = FLAG_REBOOT;
    else if (!strcmp(verb, "hibernate"))
        flags = FLAG_HIBERNATE;
    else
        return s->host->fail(s->dev, -ENOSYS,
                             "unknown command '%s' (shutdown, reboot, hibernate)", verb);
    if (!strncmp(arg, "force", 5) && (!arg[5] || arg[5] == ' ')) {
        flags |= FLAG_FORCE;
        arg += 5;
    }
    arg += *arg == ' ';
    if (flags & FLAG_HIBERNATE && s->ic.s.phase == IC_READY && s->ic.s.version < IC_VERSION(3, 2))
        return s->host->fail(s->dev, -EOPNOTSUPP, "the guest's service knows no hibernation");
    wire_put(body, REASON_PLANNED, 4);
    wire_put(body + 4, 300, 4);
    wire_put(body + 8, flags, 4);
    if (!ic_utf16(*arg ? arg : "The host asks for it.", body + 12, TEXT_MAX))
        return s->host->fail(s->dev, -E2BIG, "the text to show is too long (1023 characters)");
    err = ic_send(&s->ic, body, sizeof(body));
    if (err)
        return ic_fail(&s->ic, err);
    s->s.flags = flags;
    s->s.asked = 1;
    s->s.asked_ns = s->host->clock_ns(s->dev);
    s->host->log(s->dev, MOBO_INFO, "the guest is asked to %s", what(flags));
    snprintf(ret, ret_len, "the guest is asked to %s", what(flags));
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void sd_reset(void *self)
{
    struct shutdown *s = self;

    s->s = (struct shutdown_state){ 0 };
    ic_reset(&s->ic);
}

static const struct mobo_field sd_fields[] = {
    MOBO_FIELD(1, struct shutdown_state, flags),
    MOBO_FIELD(2, struct shutdown_state, status),
    MOBO_FIELD(3, struct shutdown_state, asked),
    MOBO_FIELD(4, struct shutdown_state, asked_ns),
};

static int sd_save(void *self, struct mobo_writer *out)
{
    struct shutdown *s = self;
    int err = s->host->save_fields(out, MOBO_ARRAY(sd_fields), &s->s);

    return err ? err : ic_save(&s->ic, out);
}

static int sd_restore(void *self, struct mobo_reader *in)
{
    struct shutdown *s = self;
    struct shutdown_state st;
    struct ic_saved saved;
    int err = s->host->load_fields(in, MOBO_ARRAY(sd_fields), &st);

    if (!err)
        err = ic_load(&s->ic, in, &saved);
    if (!err)
        err = s->host->load_done(in);
    if (err)
        return err;
    if (st.asked > 2)
        return s->host->fail(s->dev, -EINVAL, "saved flag asked is %u", st.asked);
    ic_commit(&s->ic, &saved);
    s->s = st;
    return 0;
}

static void sd_inspect(void *self, struct mobo_inspect *out)
{
    struct shutdown *s = self;

    ic_inspect(&s->ic, out);
    if (!s->s.asked)
        return;
    s->host->inspect_str(out, "asked_to", what(s->s.flags));
    s->host->inspect_str(out, "answer",
                         s->s.asked == 1 ? "none yet" : ic_status_text(s->s.status));
}

static int sd_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct shutdown *s = calloc(1, sizeof(*s));
    int err;

    if (!s)
        return host->fail(dev, -ENOMEM, "out of memory");
    s->dev = dev;
    s->host = host;
    err = ic_create(&s->ic, dev, host, &service, s);
    if (err) {
        free(s);
        return err;
    }
    *ret_self = s;
    return 0;
}

static const struct mobo_vdev_ops sd_ops = {
    .size = sizeof(sd_ops),
    .create = sd_create,
    .destroy = free,
    .reset = sd_reset,
    .save = sd_save,
    .restore = sd_restore,
    .inspect = sd_inspect,
    .command = sd_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "shutdown",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: asks the guest to shut down or reboot",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .ops = &sd_ops,
};
