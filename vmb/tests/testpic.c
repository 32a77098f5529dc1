/* SPDX-License-Identifier: BSD-2-Clause */
/* An interrupt controller for board_test: port 0x20 selects a line, 0x21 reads its level, 0x22 the
 * rising edges seen; INTR is the level of line 4; vectors are 0x40 and up. */
#include <mobo/vdev.h>
#include <stdlib.h>
#include <string.h>

struct state {
    uint8_t line, level[32], edges[32], eoi;
};

struct pic {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    struct state s;
};

static const struct mobo_field fields[] = {
    MOBO_FIELD(1, struct state, line),
    MOBO_FIELD(2, struct state, level),
    MOBO_FIELD(3, struct state, edges),
    MOBO_FIELD(4, struct state, eoi),
};

static uint64_t io_read(void *ctx, uint64_t off, uint32_t len)
{
    struct pic *p = ctx;

    (void)len;
    return off == 1   ? p->s.level[p->s.line]
           : off == 2 ? p->s.edges[p->s.line]
           : off == 3 ? p->s.eoi
                      : p->s.line;
}

static void io_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    struct pic *p = ctx;

    (void)len;
    if (off == 0)
        p->s.line = val & 31;
}

static void level(void *ctx, uint32_t line, int lvl)
{
    struct pic *p = ctx;

    p->s.level[line] = (uint8_t)lvl;
    p->s.edges[line] = (uint8_t)(p->s.edges[line] + lvl);
    p->host->intr_set(p->dev, p->s.level[4]);
}

static int ack(void *ctx)
{
    struct pic *p = ctx;

    for (int i = 0; i < 32; i++)
        if (p->s.level[i])
            return 0x40 + i;
    return -1;
}

static void eoi(void *ctx, uint32_t vector)
{
    ((struct pic *)ctx)->s.eoi = (uint8_t)vector;
}

static int create(struct mobo_vdev *dev, const struct mobo_host *h, void **ret)
{
    static const struct mobo_io_ops io = { sizeof(io), MOBO_W8, io_read, io_write };
    struct pic *p = calloc(1, sizeof(*p));
    int err;

    if (!p)
        return h->fail(dev, -12, "no memory");
    p->dev = dev;
    p->host = h;
    err = h->pio_add(dev, "registers", 0x20, 4, 0, &io, p, NULL);
    if (!err)
        err = h->irq_sink_add(dev, 0, 24, level, p);
    if (!err)
        err = h->intack_set(dev, ack, p);
    if (!err)
        err = h->eoi_watch(dev, eoi, p);
    if (err)
        free(p);
    else
        *ret = p;
    return err;
}

static void reset(void *self)
{
    struct pic *p = self;

    memset(&p->s, 0, sizeof(p->s));
}

static int save(void *self, struct mobo_writer *out)
{
    struct pic *p = self;

    return p->host->save_fields(out, MOBO_ARRAY(fields), &p->s);
}

static int restore(void *self, struct mobo_reader *in)
{
    struct pic *p = self;
    struct state s = p->s;
    int err = p->host->load_fields(in, MOBO_ARRAY(fields), &s);

    if (!err)
        p->s = s;
    return err;
}

static const struct mobo_vdev_ops ops = {
    .size = sizeof(ops),
    .create = create,
    .destroy = free,
    .reset = reset,
    .save = save,
    .restore = restore,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_IRQ_SINK,
    .type = "testpic",
    .vendor = "mobo",
    .version = "1",
    .licence = "BSD-2-Clause",
    .summary = "for tests",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .ops = &ops,
};
