/* SPDX-License-Identifier: BSD-2-Clause */
/* A vdev for board_test that uses each service once; registers in the first comment of each case. */
#include <mobo/vdev.h>
#include <stdlib.h>
#include <string.h>

struct state {
    uint8_t reg;
    uint32_t bar_reg;
    uint64_t deadline;
};

struct dev {
    int plug_err;
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    mobo_irq_t irq;
    mobo_timer_t timer;
    mobo_char_t chr;
    mobo_pci_t fn;
    mobo_region_t extra;
    mobo_ram_t ram;
    struct state s;
    uint8_t fired, worked, last, writable, resets, button, dma;
    uint8_t peer; /* MOBO_CHAR_OPENED, MOBO_CHAR_CLOSED */
};

static const struct mobo_field fields[] = {
    MOBO_FIELD(1, struct state, reg),
    MOBO_FIELD(2, struct state, bar_reg),
    MOBO_FIELD(3, struct state, deadline),
};

static const struct mobo_param params[] = {
    { "port", MOBO_UINT, 0, NULL, "0x100", 0, 0xfff0, NULL, "base port" },
    { "irq", MOBO_UINT, 0, NULL, NULL, 0, 63, NULL, "interrupt line" },
    { "shared", MOBO_BOOL, 0, NULL, "no", 0, 0, NULL, "level-triggered and shared" },
    { "mmio", MOBO_UINT, 0, NULL, NULL, 0, 0, NULL, "a page of MMIO" },
    { "vram", MOBO_UINT, 0, NULL, NULL, 0, 0, NULL, "a page of memory" },
    { "hot", MOBO_UINT, 0, NULL, NULL, 0, 0, NULL, "MiB of memory that can be added" },
    { "pci", MOBO_BOOL, 0, NULL, "no", 0, 0, NULL, "add a PCI function" },
    { "backend", MOBO_CHAR, 0, NULL, NULL, 0, 0, NULL, "character backend" },
    { "file", MOBO_PATH, 0, NULL, NULL, 0, 0, NULL, "a file" },
    { "need", MOBO_UINT, MOBO_PARAM_REQUIRED, NULL, NULL, 0, 9, NULL, "has to be there" },
};

static void fired(void *ctx, uint64_t now)
{
    struct dev *d = ctx;

    if (now >= d->s.deadline)
        d->fired++;
    d->s.deadline = 0;
}

static void worked(void *ctx)
{
    ((struct dev *)ctx)->worked++;
}

static uint64_t io_read(void *ctx, uint64_t off, uint32_t len)
{
    struct dev *d = ctx;

    (void)len;
    switch (off) {
    case 0: return d->s.reg;
    case 2: return d->fired;
    case 4: return d->worked;
    case 5: return d->last;
    case 6: return d->writable;
    case 7: return d->resets;
    case 8: return d->button;
    case 9: return d->dma;
    case 10: return d->plug_err != 0;
    case 11: return d->peer;
    }
    return 0xff;
}

static void io_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    struct dev *d = ctx;
    uint8_t byte = (uint8_t)val;

    (void)len;
    switch (off) {
    case 0: /* a register */ d->s.reg = byte; break;
    case 1: /* line level; 2 pulses */
        if (val == 2)
            d->host->irq_pulse(d->irq);
        else
            d->host->irq_set(d->irq, (int)val);
        break;
    case 2: /* timer in val ms, 0xff cancels */
        d->s.deadline = d->host->clock_ns(d->dev) + val * 1000000;
        if (val == 0xff)
            d->host->timer_cancel(d->timer);
        else
            d->host->timer_set(d->timer, d->s.deadline);
        break;
    case 3: /* system request */
        d->host->system_request(d->dev, (uint32_t)val, 7, "as told");
        break;
    case 4: /* post work */ d->host->work_post(d->dev, worked, d); break;
    case 5: /* write to the backend */ d->host->char_write(d->chr, &byte, 1); break;
    case 6: /* move the MMIO page up by val pages; 0xff off */
        if (val == 0xff)
            d->host->region_enable(d->extra, 0);
        else
            d->host->region_move(d->extra, d->host->param_uint(d->dev, "mmio") + val * 4096);
        break;
    case 7: /* a20 */ d->host->a20_set(d->dev, (int)val); break;
    case 8: /* unmap the memory */ d->host->ram_unmap(d->ram); break;
    case 9: /* val MiB of added memory */ d->plug_err = d->host->mem_plug(d->dev, (uint64_t)byte << 20); break;
    case 10: /* val warnings, one debug line */
        for (uint64_t i = 0; i < val; i++)
            d->host->log(d->dev, MOBO_WARNING, "line %u", (unsigned)i);
        d->host->log(d->dev, MOBO_DEBUG, "that was all");
        break;
    }
}

static uint64_t bar_read(void *ctx, uint64_t off, uint32_t len)
{
    struct dev *d = ctx;

    (void)len;
    return off == 0 ? d->s.bar_reg : off == 4 ? (uint64_t)d->host->pci_msi_enabled(d->fn) : 0;
}

static void bar_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    struct dev *d = ctx;
    uint32_t v = (uint32_t)val;

    (void)len;
    switch (off) {
    case 0: d->s.bar_reg = v; break;
    case 4: /* INTx */ d->host->pci_irq_set(d->fn, (int)val); break;
    case 8: /* MSI; the result is at port 9 */
        d->dma = d->host->pci_msi_send(d->fn, v) ? 1 : 0;
        break;
    case 12: /* DMA write of the address to itself */
        d->dma = d->host->pci_dma_write(d->fn, val, &v, sizeof(v)) ? 1 : 0;
        break;
    }
}

static uint32_t can_read(void *ctx)
{
    (void)ctx;
    return 1;
}

static void got(void *ctx, const uint8_t *buf, uint32_t len)
{
    if (len)
        ((struct dev *)ctx)->last = buf[len - 1];
}

static void chr_event(void *ctx, uint32_t event)
{
    struct dev *d = ctx;

    if (event == MOBO_CHAR_WRITABLE)
        d->writable++;
    else if (event == MOBO_CHAR_OPENED || event == MOBO_CHAR_CLOSED)
        d->peer = (uint8_t)event;
}

static uint64_t mmio_read(void *ctx, uint64_t off, uint32_t len)
{
    (void)ctx;
    (void)len;
    return 0xa0 + off;
}

static int create_pci(struct dev *d)
{
    const struct mobo_host *h = d->host;
    const struct mobo_pci_info info = {
        .size = sizeof(info),
        .vendor = 0x1234,
        .device = 0x5678,
        .class_code = 0xff0000,
        .pin = 1,
        .slot = MOBO_PCI_SLOT_AUTO,
    };
    const struct mobo_io_ops bar = { sizeof(bar), MOBO_W32, bar_read, bar_write };
    int err = h->pci_add(d->dev, &info, NULL, d, &d->fn);

    if (!err)
        err = h->pci_bar_add(d->fn, 0, MOBO_BAR_MEM32, 4096, 0, &bar, d, NULL);
    if (!err)
        err = h->pci_msi_add(d->fn, 1);
    return err;
}

static int create(struct mobo_vdev *dev, const struct mobo_host *h, void **ret)
{
    static const struct mobo_io_ops io = { sizeof(io), MOBO_W8, io_read, io_write };
    static const struct mobo_io_ops mm = { sizeof(mm), MOBO_W8, mmio_read, NULL };
    static const struct mobo_char_ops chr = { sizeof(chr), 0, can_read, got, chr_event };
    struct dev *d = calloc(1, sizeof(*d));
    uint64_t gpa;
    void *hva;
    int err = 0;

    if (!d)
        return h->fail(dev, -12, "no memory");
    d->dev = dev;
    d->host = h;
    err = h->pio_add(dev, "port", (uint32_t)h->param_uint(dev, "port"), 16, 0, &io, d, NULL);
    if (!err && h->param_is_set(dev, "irq"))
        err = h->irq_claim(dev, (uint32_t)h->param_uint(dev, "irq"),
                           h->param_bool(dev, "shared") ? MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED : 0,
                           &d->irq);
    if (!err && h->param_is_set(dev, "mmio"))
        err = h->mmio_add(dev, "mmio", h->param_uint(dev, "mmio"), 4096, 0, &mm, d, &d->extra);
    if (!err && h->param_is_set(dev, "vram")) {
        err = h->ram_add(dev, "vram", 4096, 0, &d->ram, &hva);
        if (!err)
            err = h->ram_map(d->ram, h->param_uint(dev, "vram"));
    }
    if (!err && h->param_is_set(dev, "hot"))
        err = h->mem_reserve(dev, h->param_uint(dev, "hot") << 20, &gpa);
    if (!err && h->param_bool(dev, "pci"))
        err = create_pci(d);
    if (!err)
        err = h->timer_create(dev, fired, d, &d->timer);
    if (!err)
        err = h->char_open(dev, "backend", &chr, d, &d->chr);
    if (err) {
        free(d);
        return err;
    }
    *ret = d;
    return 0;
}

static void reset(void *self)
{
    struct dev *d = self;

    memset(&d->s, 0, sizeof(d->s));
    d->host->timer_cancel(d->timer);
    d->resets++;
}

static int save(void *self, struct mobo_writer *out)
{
    struct dev *d = self;

    return d->host->save_fields(out, MOBO_ARRAY(fields), &d->s);
}

static int restore(void *self, struct mobo_reader *in)
{
    struct dev *d = self;
    struct state s = d->s;
    int err = d->host->load_fields(in, MOBO_ARRAY(fields), &s);

    if (err)
        return err;
    if (s.reg == 0xee)
        return d->host->fail(d->dev, -22, "saved reg is 0xee");
    d->s = s;
    if (s.deadline)
        d->host->timer_set(d->timer, s.deadline);
    return 0;
}

static void inspect(void *self, struct mobo_inspect *out)
{
    struct dev *d = self;

    d->host->inspect_fields(out, MOBO_ARRAY(fields), &d->s);
}

static void event(void *self, const struct mobo_event *ev)
{
    ((struct dev *)self)->button += ev->kind == MOBO_EVENT_POWER_BUTTON;
}

static const struct mobo_vdev_ops ops = {
    .size = sizeof(ops),
    .create = create,
    .destroy = free,
    .reset = reset,
    .save = save,
    .restore = restore,
    .inspect = inspect,
    .event = event,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_PCI,
    .type = "testdev",
    .vendor = "mobo",
    .version = "1",
    .licence = "BSD-2-Clause",
    .summary = "for tests",
    .dev_class = MOBO_CLASS_PLUGIN,
    .max_instances = 3,
    .params = MOBO_ARRAY(params),
    .ops = &ops,
};
