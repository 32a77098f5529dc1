/* SPDX-License-Identifier: BSD-2-Clause */
/* A PCI host bridge with configuration mechanism #1 for board_test; its register 0x60 routes
 * PIRQ A to the line written there. */
#include <mobo/vdev.h>
#include <stdlib.h>

struct root {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    mobo_pci_t fn;
    uint32_t addr;
};

static uint64_t addr_read(void *ctx, uint64_t off, uint32_t len)
{
    (void)off;
    (void)len;
    return ((struct root *)ctx)->addr;
}

static void addr_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    (void)off;
    (void)len;
    ((struct root *)ctx)->addr = (uint32_t)val & 0x80fffffc;
}

static uint64_t data_read(void *ctx, uint64_t off, uint32_t len)
{
    struct root *r = ctx;

    if (!(r->addr >> 31))
        return UINT64_MAX;
    return r->host->pci_config_read(r->dev, r->addr >> 16 & 0xff, r->addr >> 8 & 0xff,
                                    (r->addr & 0xfc) + (uint32_t)off, len);
}

static void data_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    struct root *r = ctx;

    if (r->addr >> 31)
        r->host->pci_config_write(r->dev, r->addr >> 16 & 0xff, r->addr >> 8 & 0xff,
                                  (r->addr & 0xfc) + (uint32_t)off, len, (uint32_t)val);
}

static void written(void *ctx, uint32_t off, uint32_t len)
{
    struct root *r = ctx;

    (void)len;
    if (off == 0x60)
        r->host->pci_pirq_route(r->dev, 0, (int32_t)r->host->pci_config_get(r->fn, 0x60, 1));
}

static int create(struct mobo_vdev *dev, const struct mobo_host *h, void **ret)
{
    static const struct mobo_io_ops addr = { sizeof(addr), MOBO_W32, addr_read, addr_write };
    static const struct mobo_io_ops data = { sizeof(data), MOBO_W8 | MOBO_W16 | MOBO_W32, data_read,
                                             data_write };
    static const struct mobo_pci_ops cfg = { sizeof(cfg), 0, NULL, written };
    const struct mobo_pci_info info = {
        .size = sizeof(info),
        .flags = MOBO_PCI_HOST_BRIDGE,
        .vendor = 0x8086,
        .device = 0x1237,
        .class_code = 0x060000,
    };
    struct root *r = calloc(1, sizeof(*r));
    int err;

    if (!r)
        return h->fail(dev, -12, "no memory");
    r->dev = dev;
    r->host = h;
    err = h->pio_add(dev, "address", 0xcf8, 4, MOBO_REGION_EXACT, &addr, r, NULL);
    if (!err)
        err = h->pio_add(dev, "data", 0xcfc, 4, 0, &data, r, NULL);
    if (!err)
        err = h->pci_add(dev, &info, &cfg, r, &r->fn);
    if (!err)
        err = h->pci_config_init(r->fn, 0x60, 1, 0, 0xff, 0);
    if (err)
        free(r);
    else
        *ret = r;
    return err;
}

static void reset(void *self)
{
    ((struct root *)self)->addr = 0;
}

static int save(void *self, struct mobo_writer *out)
{
    struct root *r = self;

    return r->host->save_bytes(out, 1, 0, &r->addr, sizeof(r->addr));
}

static int restore(void *self, struct mobo_reader *in)
{
    struct root *r = self;
    uint32_t n = 0;
    int err = r->host->load_bytes(in, 1, &r->addr, sizeof(r->addr), &n);

    written(r, 0x60, 1);
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
    .flags = MOBO_VDEV_PCI_ROOT,
    .type = "testroot",
    .vendor = "mobo",
    .version = "1",
    .licence = "BSD-2-Clause",
    .summary = "for tests",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .ops = &ops,
};
