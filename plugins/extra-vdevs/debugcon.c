/* SPDX-License-Identifier: BSD-2-Clause */
/* A port that swallows characters: the debug console of Bochs and others.  Reading gives 0xe9, by
 * which guests find out that it is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <mobo/vdev.h>

enum { PRESENT = 0xe9, QUEUE = 4096 };

/* What the backend has not taken yet; when full, further characters are lost, and counted. */
struct debugcon_state {
    uint64_t lost;
    uint32_t len;
    uint8_t queue[QUEUE];
};

struct debugcon {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    mobo_char_t chr;
    struct debugcon_state s; /* guarded by the vdev lock */
};

static void flush(struct debugcon *d)
{
    uint32_t n;

    if (!d->s.len)
        return;
    n = d->host->char_write(d->chr, d->s.queue, d->s.len);
    d->s.len -= n;
    memmove(d->s.queue, d->s.queue + n, d->s.len);
}

static uint64_t dc_read(void *self, uint64_t off, uint32_t len)
{
    (void)self;
    (void)off;
    (void)len;
    return PRESENT;
}

static void dc_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct debugcon *d = self;

    (void)off;
    (void)len;
    if (d->s.len == QUEUE)
        d->s.lost++;
    else
        d->s.queue[d->s.len++] = (uint8_t)val;
    /* while the backend is stuck it calls when it has room again */
    if (d->s.len == 1)
        flush(d);
}

static uint32_t dc_can_read(void *self)
{
    (void)self;
    return 256; /* input has nowhere to go; take it so that the peer is not held up */
}

static void dc_input(void *self, const uint8_t *buf, uint32_t len)
{
    (void)self;
    (void)buf;
    (void)len;
}

static void dc_event(void *self, uint32_t event)
{
    struct debugcon *d = self;

    if (event == MOBO_CHAR_WRITABLE || event == MOBO_CHAR_OPENED || event == MOBO_CHAR_CLOSED)
        flush(d);
}

/* Characters on their way are not the guest's any more: a reset keeps them. */
static void dc_reset(void *self)
{
    flush(self);
}

static const struct mobo_field dc_fields[] = {
    MOBO_FIELD(1, struct debugcon_state, lost),
    MOBO_FIELD(2, struct debugcon_state, len),
};

static int dc_save(void *self, struct mobo_writer *out)
{
    struct debugcon *d = self;
    int err = d->host->save_fields(out, MOBO_ARRAY(dc_fields), &d->s);

    return err ? err : d->host->save_bytes(out, 3, 0, d->s.queue, d->s.len);
}

static int dc_restore(void *self, struct mobo_reader *in)
{
    struct debugcon *d = self;
    uint8_t queue[QUEUE];
    struct debugcon_state s = { 0 };
    uint32_t len = 0;
    int err = d->host->load_bytes(in, 3, queue, sizeof(queue), &len);

    if (err)
        return d->host->fail(d->dev, -EINVAL, "saved queue: missing or too long");
    err = d->host->load_fields(in, MOBO_ARRAY(dc_fields), &s);
    if (err)
        return err;
    if (s.len != len)
        return d->host->fail(d->dev, -EINVAL, "saved queue: %u bytes, not %u", len, s.len);
    d->s.lost = s.lost;
    d->s.len = len;
    memcpy(d->s.queue, queue, len);
    flush(d);
    return 0;
}

static void dc_inspect(void *self, struct mobo_inspect *out)
{
    struct debugcon *d = self;

    d->host->inspect_fields(out, MOBO_ARRAY(dc_fields), &d->s);
}

static void dc_destroy(void *self)
{
    free(self);
}

static int dc_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, dc_read, dc_write };
    static const struct mobo_char_ops cops = { sizeof(cops), 0, dc_can_read, dc_input, dc_event };
    struct debugcon *d = calloc(1, sizeof(*d));
    int err;

    if (!d)
        return host->fail(dev, -ENOMEM, "out of memory");
    d->dev = dev;
    d->host = host;
    if ((err = host->pio_add(dev, "port", (uint32_t)host->param_uint(dev, "port"), 1, 0, &ops, d,
                             NULL)) ||
        (err = host->char_open(dev, "backend", &cops, d, &d->chr)))
        goto fail;
    *ret_self = d;
    return 0;
fail:
    dc_destroy(d);
    return err;
}

static const struct mobo_param dc_params[] = {
    { .name = "port", .kind = MOBO_UINT, .def = "0xe9", .max = 0xffff, .help = "Port to write to" },
    { .name = "backend", .kind = MOBO_CHAR, .def = "null", .help = "Where the characters go" },
};

static const struct mobo_vdev_ops dc_ops = {
    .size = sizeof(dc_ops),
    .create = dc_create,
    .destroy = dc_destroy,
    .reset = dc_reset,
    .save = dc_save,
    .restore = dc_restore,
    .inspect = dc_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "debugcon",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "Port that writes characters to a backend",
    .dev_class = MOBO_CLASS_PLUGIN,
    .params = MOBO_ARRAY(dc_params),
    .ops = &dc_ops,
};
