/* SPDX-License-Identifier: MIT */
/* A synthetic device of no known kind: it adds up and fills memory that the guest shares with it.
 *
 * The guest sends in-band packets of four u32 and asks for a completion, which carries u32 status, u32 0, u64 value:
 *
 *   op 1 HELLO              value: the protocol's version, 1
 *   op 2 SUM   gpadl len    value: the sum of the first len bytes of that GPADL
 *   op 3 FILL  gpadl len b  writes len bytes b; value: how many requests there were so far
 *
 * status 0, or 1: no such operation, 2: no such memory.  Read README.md beside it. */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdlib.h>
#include <string.h>

enum { HELLO = 1, SUM = 2, FILL = 3, LEN_MAX = 16 << 20, PIECE = 65536 };
enum { OK, NO_OPERATION, NO_MEMORY };

struct request {
    uint32_t op, gpadl, len, arg;
};
struct answer {
    uint32_t status, reserved;
    uint64_t value;
};

/* All that is saved. */
struct abacus_state {
    uint64_t requests, transaction, value; /* transaction, value, status: of the last answer */
    uint32_t status, waits;                /* waits: it found no room in the ring */
};

struct abacus {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    mobo_vmbus_t ch;
    struct abacus_state s;
    uint8_t piece[PIECE];
};

static void execute(struct abacus *a, const struct request *q)
{
    struct abacus_state *r = &a->s;
    uint32_t at = 0;

    r->status = OK;
    r->value = 0;
    a->s.requests++;
    if (q->op == HELLO) {
        r->value = 1;
        return;
    }
    if ((q->op != SUM && q->op != FILL) || q->len > LEN_MAX) {
        r->status = NO_OPERATION;
        return;
    }
    if (q->op == FILL)
        memset(a->piece, (int)q->arg, PIECE);
    /* The guest may change its memory at any time: copy, then look at the copy. */
    while (at < q->len) {
        uint32_t n = q->len - at < PIECE ? q->len - at : PIECE;
        int err = q->op == SUM ? a->host->vmbus_gpadl_read(a->ch, q->gpadl, at, a->piece, n)
                               : a->host->vmbus_gpadl_write(a->ch, q->gpadl, at, a->piece, n);

        if (err) {
            r->status = NO_MEMORY;
            r->value = 0;
            return;
        }
        for (uint32_t i = 0; q->op == SUM && i < n; i++)
            r->value += a->piece[i];
        at += n;
    }
    if (q->op == FILL)
        r->value = a->s.requests;
}

/* @return 0 when the ring is full; signal() comes when there is room. */
static int send_answer(struct abacus *a)
{
    const struct answer r = { a->s.status, 0, a->s.value };

    a->s.waits = a->host->vmbus_send(a->ch, MOBO_VMBUS_COMPLETION, 0, a->s.transaction, NULL, 0, &r,
                                     sizeof(r)) == -EAGAIN;
    return !a->s.waits;
}

/* Packets wait, or there is room again. */
static void channel_signal(void *ctx)
{
    struct abacus *a = ctx;
    struct mobo_vmbus_packet p = { .size = sizeof(p) };
    struct request q;

    if (a->s.waits && !send_answer(a))
        return;
    while (!a->host->vmbus_receive(a->ch, &p)) {
        /* What does not keep to the protocol ends the channel, with a line in the log, and nothing else. */
        if (p.type != MOBO_VMBUS_INBAND || p.len < sizeof(q) ||
            !(p.flags & MOBO_VMBUS_WANTS_COMPLETION)) {
            a->host->vmbus_fault(a->ch, "a packet is not a request");
            return;
        }
        memcpy(&q, p.data, sizeof(q));
        a->s.transaction = p.transaction;
        execute(a, &q);
        if (!send_answer(a))
            return;
    }
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct abacus *a = ctx;

    (void)user_data;
    a->s.waits = 0;
    return 0;
}

static void abacus_reset(void *self)
{
    struct abacus *a = self;

    a->s = (struct abacus_state){ 0 };
}

static const struct mobo_field fields[] = {
    MOBO_FIELD(1, struct abacus_state, requests), MOBO_FIELD(2, struct abacus_state, transaction),
    MOBO_FIELD(3, struct abacus_state, value),    MOBO_FIELD(4, struct abacus_state, status),
    MOBO_FIELD(5, struct abacus_state, waits),
};

static int abacus_save(void *self, struct mobo_writer *out)
{
    struct abacus *a = self;

    return a->host->save_fields(out, MOBO_ARRAY(fields), &a->s);
}

static int abacus_restore(void *self, struct mobo_reader *in)
{
    struct abacus *a = self;
    struct abacus_state s;
    int err = a->host->load_fields(in, MOBO_ARRAY(fields), &s);

    if (!err && (s.status > NO_MEMORY || s.waits > 1))
        err = a->host->fail(a->dev, -EINVAL, "the saved state makes no sense");
    if (!err)
        a->s = s;
    return err;
}

static void abacus_inspect(void *self, struct mobo_inspect *out)
{
    struct abacus *a = self;

    a->host->inspect_uint(out, "requests", a->s.requests);
}

static int abacus_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, NULL, channel_signal };
    /* Both made by uuidgen: yours are others. */
    static const struct mobo_vmbus_offer offer = {
        .size = sizeof(offer),
        .flags = MOBO_VMBUS_ENUMERATE_DEVICE,
        .host_flags = MOBO_VMBUS_MONITORED, /* for a driver in user space */
        .class_id =
            MOBO_GUID(0x8ca3c8d5, 0x1c5c, 0x4b0e, 0x9a, 0x53, 0x6d, 0x2e, 0x0f, 0x7b, 0x41, 0x9e),
        .instance_id =
            MOBO_GUID(0x51f0b1c2, 0x7e0a, 0x4a5f, 0x8d, 0x06, 0x33, 0x9b, 0xd4, 0x18, 0xc6, 0x72),
    };
    struct abacus *a = calloc(1, sizeof(*a));
    int err;

    if (!a)
        return host->fail(dev, -ENOMEM, "out of memory");
    a->dev = dev;
    a->host = host;
    err = host->vmbus_offer(dev, &offer, &ops, a, &a->ch);
    if (err) {
        free(a);
        return err;
    }
    *ret_self = a;
    return 0;
}

static const struct mobo_vdev_ops abacus_ops = {
    .size = sizeof(abacus_ops),
    .create = abacus_create,
    .destroy = free,
    .reset = abacus_reset,
    .save = abacus_save,
    .restore = abacus_restore,
    .inspect = abacus_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "abacus",
    .vendor = "example",
    .version = "1.0",
    .licence = "MIT",
    .summary = "example: a VMBus device of no known kind",
    .dev_class = MOBO_CLASS_PLUGIN,
    .max_instances = 1,
    .ops = &abacus_ops,
};
