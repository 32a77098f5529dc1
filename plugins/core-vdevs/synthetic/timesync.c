/* SPDX-License-Identifier: BSD-2-Clause */
/* Time synchronization: tells the guest the host's time; when it starts and after a pause, to set
 * its clock by.
 * Reference: <linux/hyperv.h> struct ictimesync_data, struct ictimesync_ref_data; client
 * drivers/hv/hv_util.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ic.h"

/* Body below version 4.0: u64 parent time, u64 child time, u64 round trip, u8 flags.
 * From 4.0 on: u64 parent time, u64 reference time, u8 flags, leap, stratum, 3 reserved. */
enum { BODY_OLD = 25, BODY_REF = 22 };
enum { FLAG_SYNC = 1, FLAG_SAMPLE = 2 };
/* 100 ns units from 1601-01-01 to 1970-01-01. */
#define UNIX_EPOCH 116444736000000000ll
/* Guest and host count seconds at the same pace unless one of them was stopped or stepped. */
#define JUMP_NS 1000000000ll

struct timesync_state {
    uint64_t samples, syncs;
    uint64_t next_ns;    /* when the timer fires, 0: it does not */
    int64_t offset_ns;   /* of the host's calendar from guest time, at the last sample */
    uint8_t sync_wanted; /* with the next sample the guest is to set its clock */
};

struct timesync {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    mobo_timer_t timer;
    uint64_t interval_ns;
    struct timesync_state s;
};

static void arm(struct timesync *t, uint64_t at)
{
    t->s.next_ns = at;
    if (at)
        t->host->timer_set(t->timer, at);
    else
        t->host->timer_cancel(t->timer);
}

static void sample(void *ctx, uint64_t now)
{
    struct timesync *t = ctx;
    uint8_t body[BODY_OLD] = { 0 };
    int64_t wall = t->host->wall_ns(t->dev), offset, jump;
    uint8_t flags;
    int err;

    now = t->host->clock_ns(t->dev); /* both read at one moment */
    offset = wall - (int64_t)now;
    jump = (int64_t)((uint64_t)offset - (uint64_t)t->s.offset_ns); /* a saved state may say anything */
    /* a pause, a restore elsewhere, or somebody set the host's clock */
    if (t->s.samples && (jump > JUMP_NS || jump < -JUMP_NS))
        t->s.sync_wanted = 1;
    flags = t->s.sync_wanted ? FLAG_SYNC : FLAG_SAMPLE;
    wire_put(body, (uint64_t)(wall / 100 + UNIX_EPOCH), 8);
    if (t->ic.s.version >= IC_VERSION(4, 0)) {
        wire_put(body + 8, now / 100, 8); /* the reference counter runs on guest time */
        body[16] = flags;
        body[18] = 1; /* stratum */
        err = ic_send(&t->ic, body, BODY_REF);
    } else {
        body[24] = flags;
        err = ic_send(&t->ic, body, BODY_OLD);
    }
    if (!err) {
        t->s.samples++;
        t->s.syncs += t->s.sync_wanted;
        t->s.sync_wanted = 0;
        t->s.offset_ns = offset;
    }
    arm(t, err == -ENOTCONN ? 0 : now + t->interval_ns);
}

static void ready(void *ctx)
{
    struct timesync *t = ctx;

    t->s.sync_wanted = 1;
    sample(t, 0);
}

static void answer(void *ctx, uint32_t status, const uint8_t *body, uint32_t len)
{
    struct timesync *t = ctx;

    (void)body;
    (void)len;
    if (status)
        t->host->log(t->dev, MOBO_DEBUG, "the guest does not take the time: %s",
                     ic_status_text(status));
    if (t->s.sync_wanted && !status)
        sample(t, 0);
}

static void closed(void *ctx)
{
    arm(ctx, 0);
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf),
    .instance_id = MOBO_GUID(0x2dd1ce17, 0x079e, 0x403c, 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07,
                             0xee),
    .type = 4,
    .versions = { IC_VERSION(4, 0), IC_VERSION(3, 0), IC_VERSION(1, 0) },
    .ready = ready,
    .answer = answer,
    .closed = closed,
};

static int ts_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct timesync *t = self;

    (void)arg;
    if (strcmp(verb, "sync") != 0)
        return t->host->fail(t->dev, -ENOSYS, "unknown command '%s' (sync)", verb);
    if (t->ic.s.phase != IC_READY)
        return ic_fail(&t->ic, -ENOTCONN);
    t->s.sync_wanted = 1;
    if (!t->ic.s.waiting)
        sample(t, 0);
    snprintf(ret, ret_len, "the guest is told the time");
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void ts_reset(void *self)
{
    struct timesync *t = self;

    t->s = (struct timesync_state){ 0 };
    t->host->timer_cancel(t->timer);
    ic_reset(&t->ic);
}

static void ts_resume(void *self)
{
    struct timesync *t = self;

    t->s.sync_wanted = 1; /* guest time stood still */
    if (t->s.next_ns)
        arm(t, t->host->clock_ns(t->dev));
}

static const struct mobo_field ts_fields[] = {
    MOBO_FIELD(1, struct timesync_state, samples),
    MOBO_FIELD(2, struct timesync_state, syncs),
    MOBO_FIELD(3, struct timesync_state, next_ns),
    MOBO_FIELD(4, struct timesync_state, offset_ns),
    MOBO_FIELD(5, struct timesync_state, sync_wanted),
};

static int ts_save(void *self, struct mobo_writer *out)
{
    struct timesync *t = self;
    int err = t->host->save_fields(out, MOBO_ARRAY(ts_fields), &t->s);

    return err ? err : ic_save(&t->ic, out);
}

static int ts_restore(void *self, struct mobo_reader *in)
{
    struct timesync *t = self;
    struct timesync_state s;
    struct ic_saved saved;
    int err = t->host->load_fields(in, MOBO_ARRAY(ts_fields), &s);

    if (!err)
        err = ic_load(&t->ic, in, &saved);
    if (!err)
        err = t->host->load_done(in);
    if (err)
        return err;
    if (s.sync_wanted > 1)
        return t->host->fail(t->dev, -EINVAL, "saved flag sync_wanted is %u", s.sync_wanted);
    ic_commit(&t->ic, &saved);
    t->s = s;
    arm(t, s.next_ns);
    return 0;
}

static void ts_inspect(void *self, struct mobo_inspect *out)
{
    struct timesync *t = self;

    ic_inspect(&t->ic, out);
    t->host->inspect_uint(out, "samples", t->s.samples);
    t->host->inspect_uint(out, "syncs", t->s.syncs);
}

static int ts_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct timesync *t = calloc(1, sizeof(*t));
    int err;

    if (!t)
        return host->fail(dev, -ENOMEM, "out of memory");
    t->dev = dev;
    t->host = host;
    t->interval_ns = host->param_uint(dev, "interval") * 1000000000;
    err = ic_create(&t->ic, dev, host, &service, t);
    if (!err)
        err = host->timer_create(dev, sample, t, &t->timer);
    if (err) {
        free(t);
        return err;
    }
    *ret_self = t;
    return 0;
}

static const struct mobo_param ts_params[] = {
    { "interval", MOBO_UINT, 0, "s", "5", 1, 3600, NULL, "time between two samples" },
};

static const struct mobo_vdev_ops ts_ops = {
    .size = sizeof(ts_ops),
    .create = ts_create,
    .destroy = free,
    .reset = ts_reset,
    .resume = ts_resume,
    .save = ts_save,
    .restore = ts_restore,
    .inspect = ts_inspect,
    .command = ts_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "timesync",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: tells the guest the time",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = ts_params,
    .nparams = sizeof(ts_params) / sizeof(ts_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &ts_ops,
};
