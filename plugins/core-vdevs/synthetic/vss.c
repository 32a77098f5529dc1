/* SPDX-License-Identifier: BSD-2-Clause */
/* Backup: has the guest freeze its file systems and thaw them.
 * Reference: <uapi/linux/hyperv.h> struct hv_vss_msg (cited as HK); client drivers/hv/hv_snapshot.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ic.h"

enum { OP_HOT_BACKUP = 2, OP_COMPLETE = 4, OP_FREEZE = 5, OP_THAW = 6, OPS = 8 };
enum { BODY_LEN = 16 }; /* u8 operation, 7 reserved, u32 flags; HK needs 12 */

enum vss_stage { VSS_THAWED = 0, VSS_FREEZING = 1, VSS_FROZEN = 2, VSS_THAWING = 3 };

struct vss_state {
    uint8_t stage;   /* enum vss_stage */
    uint8_t op;      /* under way */
    uint8_t thaw;    /* wanted as soon as the request under way is answered */
    uint8_t capable; /* the guest said so: 0 not asked, 1 no, 2 yes */
    uint32_t status; /* of the last freeze or thaw */
    uint64_t since_ns, thaw_ns; /* frozen since; thaws by itself then, 0: does not */
    uint64_t freezes;
};

struct vss {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    mobo_timer_t timer;
    uint64_t limit_ns;
    struct vss_state s;
};

static int ask(struct vss *v, unsigned op)
{
    uint8_t body[BODY_LEN] = { 0 };
    int err;

    body[0] = (uint8_t)op;
    err = ic_send(&v->ic, body, sizeof(body));
    if (err)
        return err;
    v->s.op = (uint8_t)op;
    if (op == OP_HOT_BACKUP || op == OP_FREEZE)
        v->s.stage = VSS_FREEZING;
    if (op == OP_THAW) {
        v->s.stage = VSS_THAWING;
        v->s.thaw = 0;
        v->s.thaw_ns = 0;
        v->host->timer_cancel(v->timer);
    }
    return 0;
}

static void ready(void *ctx)
{
    (void)ctx; /* the guest's driver answers before its daemon runs: nothing to ask yet */
}

static void answer(void *ctx, uint32_t status, const uint8_t *body, uint32_t len)
{
    struct vss *v = ctx;
    unsigned op = v->s.op;

    (void)body;
    (void)len;
    v->s.op = 0;
    switch (op) {
    case OP_HOT_BACKUP:
        v->s.capable = status ? 1 : 2;
        v->s.status = status;
        if (status)
            v->host->log(v->dev, MOBO_WARNING, "the guest cannot freeze: %s",
                         ic_status_text(status));
        if (status || v->s.thaw || ask(v, OP_FREEZE))
            v->s.stage = VSS_THAWED;
        if (v->s.stage == VSS_THAWED)
            v->s.thaw = 0;
        break;
    case OP_FREEZE:
        v->s.status = status;
        if (status) {
            v->s.stage = VSS_THAWED;
            v->s.thaw = 0;
            v->host->log(v->dev, MOBO_WARNING, "the guest does not freeze: %s",
                         ic_status_text(status));
            break;
        }
        v->s.stage = VSS_FROZEN;
        v->s.freezes++;
        v->s.since_ns = v->host->clock_ns(v->dev);
        v->s.thaw_ns = v->s.since_ns + v->limit_ns;
        v->host->timer_set(v->timer, v->s.thaw_ns);
        v->host->log(v->dev, MOBO_INFO, "the guest's file systems are frozen");
        break;
    case OP_THAW:
        v->s.status = status;
        v->s.stage = VSS_THAWED;
        if (status)
            v->host->log(v->dev, MOBO_WARNING, "the guest does not thaw: %s",
                         ic_status_text(status));
        else
            v->host->log(v->dev, MOBO_INFO, "the guest's file systems are thawed");
        ask(v, OP_COMPLETE);
        break;
    }
    if (v->s.thaw && v->s.stage == VSS_FROZEN)
        ask(v, OP_THAW);
}

/* Frozen for too long: whoever wanted it is gone. */
static void too_long(void *ctx, uint64_t now)
{
    struct vss *v = ctx;

    (void)now;
    if (v->s.stage != VSS_FROZEN)
        return;
    v->host->log(v->dev, MOBO_WARNING, "frozen for %llu s: thawing",
                 (unsigned long long)(v->limit_ns / 1000000000));
    v->s.thaw_ns = 0;
    if (ask(v, OP_THAW))
        v->s.thaw = 1;
}

static void closed(void *ctx)
{
    struct vss *v = ctx;

    v->host->timer_cancel(v->timer);
    v->s = (struct vss_state){ .freezes = v->s.freezes };
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0x35fa2e29, 0xea23, 0x4236, 0x96, 0xae, 0x3a, 0x6e, 0xba, 0xcb, 0xa4, 0x40),
    .instance_id = MOBO_GUID(0x2450ee40, 0x33bf, 0x4fbd, 0x89, 0x2e, 0x9f, 0xb0, 0x6e, 0x92, 0x14,
                             0xcf),
    .type = 5,
    .versions = { IC_VERSION(5, 0) },
    .ready = ready,
    .answer = answer,
    .closed = closed,
};

static int vss_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct vss *v = self;
    int freeze = !strcmp(verb, "freeze"), err = 0;

    (void)arg;
    if (!freeze && strcmp(verb, "thaw") != 0)
        return v->host->fail(v->dev, -ENOSYS, "unknown command '%s' (freeze, thaw)", verb);
    if (v->ic.s.phase != IC_READY)
        return ic_fail(&v->ic, -ENOTCONN);
    if (freeze && v->s.stage != VSS_THAWED)
        return v->host->fail(v->dev, -EALREADY, "the guest is frozen, or about to be");
    if (!freeze && v->s.stage != VSS_FROZEN && v->s.stage != VSS_FREEZING)
        return v->host->fail(v->dev, -EALREADY, "the guest is not frozen");
    if (!freeze && v->s.stage == VSS_FREEZING)
        v->s.thaw = 1;
    else
        err = ask(v, freeze ? OP_HOT_BACKUP : OP_THAW);
    if (err)
        return ic_fail(&v->ic, err);
    snprintf(ret, ret_len, "the guest is asked; inspect shows when it is done");
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void vss_reset(void *self)
{
    struct vss *v = self;

    v->host->timer_cancel(v->timer);
    v->s = (struct vss_state){ 0 };
    ic_reset(&v->ic);
}

static const struct mobo_field vss_fields[] = {
    MOBO_FIELD(1, struct vss_state, stage),    MOBO_FIELD(2, struct vss_state, op),
    MOBO_FIELD(3, struct vss_state, thaw),     MOBO_FIELD(4, struct vss_state, capable),
    MOBO_FIELD(5, struct vss_state, status),   MOBO_FIELD(6, struct vss_state, since_ns),
    MOBO_FIELD(7, struct vss_state, thaw_ns),  MOBO_FIELD(8, struct vss_state, freezes),
};

static int vss_save(void *self, struct mobo_writer *out)
{
    struct vss *v = self;
    int err = v->host->save_fields(out, MOBO_ARRAY(vss_fields), &v->s);

    return err ? err : ic_save(&v->ic, out);
}

static int vss_restore(void *self, struct mobo_reader *in)
{
    struct vss *v = self;
    struct vss_state s;
    struct ic_saved saved;
    int err = v->host->load_fields(in, MOBO_ARRAY(vss_fields), &s);

    if (!err)
        err = ic_load(&v->ic, in, &saved);
    if (!err)
        err = v->host->load_done(in);
    if (err)
        return err;
    if (s.stage > VSS_THAWING || s.op >= OPS || s.thaw > 1 || s.capable > 2)
        return v->host->fail(v->dev, -EINVAL, "the saved state makes no sense");
    ic_commit(&v->ic, &saved);
    v->s = s;
    if (s.thaw_ns)
        v->host->timer_set(v->timer, s.thaw_ns);
    return 0;
}

static void vss_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const stages[] = { "thawed", "freezing", "frozen", "thawing" };
    struct vss *v = self;

    v->host->inspect_str(out, "file_systems", stages[v->s.stage]);
    if (v->s.stage == VSS_FROZEN)
        v->host->inspect_uint(out, "frozen_ms",
                              (v->host->clock_ns(v->dev) - v->s.since_ns) / 1000000);
    v->host->inspect_str(out, "last_result", ic_status_text(v->s.status));
    v->host->inspect_str(out, "guest_can", !v->s.capable      ? "unknown"
                                           : v->s.capable > 1 ? "yes"
                                                              : "no");
    v->host->inspect_uint(out, "freezes", v->s.freezes);
    ic_inspect(&v->ic, out);
}

static int vss_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct vss *v = calloc(1, sizeof(*v));
    int err;

    if (!v)
        return host->fail(dev, -ENOMEM, "out of memory");
    v->dev = dev;
    v->host = host;
    v->limit_ns = host->param_uint(dev, "limit") * 1000000000;
    err = ic_create(&v->ic, dev, host, &service, v);
    if (!err)
        err = host->timer_create(dev, too_long, v, &v->timer);
    if (err) {
        free(v);
        return err;
    }
    *ret_self = v;
    return 0;
}

static const struct mobo_param vss_params[] = {
    { "limit", MOBO_UINT, 0, "s", "60", 1, 3600, NULL, "a frozen guest is thawed after this time" },
};

static const struct mobo_vdev_ops vss_ops = {
    .size = sizeof(vss_ops),
    .create = vss_create,
    .destroy = free,
    .reset = vss_reset,
    .save = vss_save,
    .restore = vss_restore,
    .inspect = vss_inspect,
    .command = vss_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "vss",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: freezes and thaws the guest's file systems",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = vss_params,
    .nparams = sizeof(vss_params) / sizeof(vss_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &vss_ops,
};
