/* SPDX-License-Identifier: BSD-2-Clause */
/* Heartbeat: asks the guest every two seconds whether it lives.
 * Reference: <linux/hyperv.h> struct heartbeat_msg_data; client drivers/hv/hv_util.c. */
#include <errno.h>
#include <stdlib.h>

#include "ic.h"

enum { BODY_LEN = 40 }; /* u64 sequence number, 32 reserved bytes */

struct heartbeat_state {
    uint64_t sequence;  /* of the last beat */
    uint64_t sent_ns;   /* guest time of it */
    uint64_t heard_ns;  /* guest time of the last answer */
    uint64_t beats, missed;
    uint64_t next_ns;   /* when the timer fires, 0: it does not */
    uint8_t lost;       /* and the log says so */
};

struct heartbeat {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    mobo_timer_t timer;
    uint64_t interval_ns, lost_ns;
    struct heartbeat_state s;
};

static void arm(struct heartbeat *h, uint64_t at)
{
    h->s.next_ns = at;
    if (at)
        h->host->timer_set(h->timer, at);
    else
        h->host->timer_cancel(h->timer);
}

static void beat(void *ctx, uint64_t now)
{
    struct heartbeat *h = ctx;
    uint8_t body[BODY_LEN] = { 0 };

    wire_put(body, h->s.sequence + 1, 8);
    switch (ic_send(&h->ic, body, sizeof(body))) {
    case 0:
        h->s.sequence++;
        h->s.sent_ns = now;
        break;
    case -EBUSY: h->s.missed++; break;
    default: arm(h, 0); return;
    }
    if (now - h->s.heard_ns > h->lost_ns && !h->s.lost) {
        h->s.lost = 1;
        h->host->log(h->dev, MOBO_WARNING, "no heartbeat for %llu s",
                     (unsigned long long)((now - h->s.heard_ns) / 1000000000));
    }
    arm(h, now + h->interval_ns);
}

static void ready(void *ctx)
{
    struct heartbeat *h = ctx;

    h->s.heard_ns = h->host->clock_ns(h->dev);
    beat(h, h->s.heard_ns);
}

static void answer(void *ctx, uint32_t status, const uint8_t *body, uint32_t len)
{
    struct heartbeat *h = ctx;

    if (status || len < 8 || wire_get(body, 8) != h->s.sequence + 1) {
        h->host->vmbus_fault(h->ic.ch, "a heartbeat with a wrong sequence number");
        return;
    }
    h->s.sequence = wire_get(body, 8); /* the guest counts as well */
    h->s.beats++;
    h->s.heard_ns = h->host->clock_ns(h->dev);
    if (h->s.lost)
        h->host->log(h->dev, MOBO_INFO, "the heartbeat is back");
    h->s.lost = 0;
}

static void closed(void *ctx)
{
    struct heartbeat *h = ctx;

    h->s.lost = 0;
    arm(h, 0);
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d),
    .instance_id = MOBO_GUID(0xfd149e91, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7,
                             0xc0),
    .type = 1,
    .versions = { IC_VERSION(3, 0), IC_VERSION(1, 0) },
    .ready = ready,
    .answer = answer,
    .closed = closed,
};

/* ---- the device -------------------------------------------------------------------------------- */

static void hb_reset(void *self)
{
    struct heartbeat *h = self;

    h->s = (struct heartbeat_state){ 0 };
    h->host->timer_cancel(h->timer);
    ic_reset(&h->ic);
}

static const struct mobo_field hb_fields[] = {
    MOBO_FIELD(1, struct heartbeat_state, sequence), MOBO_FIELD(2, struct heartbeat_state, sent_ns),
    MOBO_FIELD(3, struct heartbeat_state, heard_ns), MOBO_FIELD(4, struct heartbeat_state, beats),
    MOBO_FIELD(5, struct heartbeat_state, missed),   MOBO_FIELD(6, struct heartbeat_state, next_ns),
    MOBO_FIELD(7, struct heartbeat_state, lost),
};

static int hb_save(void *self, struct mobo_writer *out)
{
    struct heartbeat *h = self;
    int err = h->host->save_fields(out, MOBO_ARRAY(hb_fields), &h->s);

    return err ? err : ic_save(&h->ic, out);
}

static int hb_restore(void *self, struct mobo_reader *in)
{
    struct heartbeat *h = self;
    struct heartbeat_state s;
    struct ic_saved saved;
    int err = h->host->load_fields(in, MOBO_ARRAY(hb_fields), &s);

    if (!err)
        err = ic_load(&h->ic, in, &saved);
    if (!err)
        err = h->host->load_done(in);
    if (err)
        return err;
    if (s.lost > 1)
        return h->host->fail(h->dev, -EINVAL, "saved flag lost is %u", s.lost);
    ic_commit(&h->ic, &saved);
    h->s = s;
    arm(h, s.next_ns);
    return 0;
}

static void hb_inspect(void *self, struct mobo_inspect *out)
{
    struct heartbeat *h = self;
    uint64_t now = h->host->clock_ns(h->dev);

    h->host->inspect_str(out, "status",
                         h->ic.s.phase != IC_READY ? "no contact"
                         : h->s.lost               ? "lost"
                                                   : "ok");
    h->host->inspect_uint(out, "heartbeats", h->s.beats);
    h->host->inspect_uint(out, "missed", h->s.missed);
    h->host->inspect_uint(out, "sequence", h->s.sequence);
    if (h->s.beats)
        h->host->inspect_uint(out, "last_heard_ms_ago", (now - h->s.heard_ns) / 1000000);
    ic_inspect(&h->ic, out);
}

static int hb_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct heartbeat *h = calloc(1, sizeof(*h));
    int err;

    if (!h)
        return host->fail(dev, -ENOMEM, "out of memory");
    h->dev = dev;
    h->host = host;
    h->interval_ns = host->param_uint(dev, "interval") * 1000000;
    h->lost_ns = host->param_uint(dev, "lost") * 1000000;
    err = ic_create(&h->ic, dev, host, &service, h);
    if (!err)
        err = host->timer_create(dev, beat, h, &h->timer);
    if (err) {
        free(h);
        return err;
    }
    *ret_self = h;
    return 0;
}

static const struct mobo_param hb_params[] = {
    { "interval", MOBO_UINT, 0, "ms", "2000", 100, 3600000, NULL, "time between two heartbeats" },
    { "lost", MOBO_UINT, 0, "ms", "10000", 100, 86400000, NULL,
      "silence after which the heartbeat counts as lost" },
};

static const struct mobo_vdev_ops hb_ops = {
    .size = sizeof(hb_ops),
    .create = hb_create,
    .destroy = free,
    .reset = hb_reset,
    .save = hb_save,
    .restore = hb_restore,
    .inspect = hb_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "heartbeat",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: asks the guest whether it is alive",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = hb_params,
    .nparams = sizeof(hb_params) / sizeof(hb_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &hb_ops,
};
