/* SPDX-License-Identifier: MIT */
/* The tutorial device: a PCI function with registers in a BAR, an interrupt (INTx or MSI) and DMA.
 * It copies memory, combines every byte with a key by exclusive or, and counts a checksum (Adler-32,
 * RFC 1950) of what it wrote.  README.md walks through this file; the guest's side is in guest/.
 *
 * Registers, all 32 bits, little-endian, in BAR 0:
 *
 *   0x00 ID        R    0x4f424f4d
 *   0x04 SCRATCH   RW   reads back inverted
 *   0x08 CONTROL   RW   bit 0: interrupt when a command is over; bits 15:8: the key
 *   0x0c STATUS    RW   bit 0 done, bit 1 error: cleared by writing 1; bit 2 busy: read-only
 *   0x10 SRC       RW   guest-physical address, low and (0x14) high half
 *   0x18 DST       RW   the same
 *   0x20 LEN       RW   bytes, 1 to 16 MiB
 *   0x24 DOORBELL  W    any value starts the command; ignored while busy
 *   0x28 SUM       R    checksum of the last command
 *   0x2c COUNT     R    commands that are over, modulo 2^32
 *
 * Other offsets read 0.  Reset clears all registers and drops a command that runs. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

/* A vendor identifier costs money, and belongs to whom the PCI-SIG gave it.  0x1234 is in the wild for
 * virtual devices without one (Bochs and QEMU use it, with other device identifiers).  Take your own
 * for a device that leaves your desk, and never one under 0x1414, which Microsoft hands out. */
enum { TUT_VENDOR = 0x1234, TUT_DEVICE = 0x6d6f, TUT_CLASS = 0xff0000 };

enum tut_reg {
    TUT_ID = 0x00,
    TUT_SCRATCH = 0x04,
    TUT_CONTROL = 0x08,
    TUT_STATUS = 0x0c,
    TUT_SRC = 0x10,
    TUT_DST = 0x18,
    TUT_LEN = 0x20,
    TUT_DOORBELL = 0x24,
    TUT_SUM = 0x28,
    TUT_COUNT = 0x2c,
    TUT_BAR_LEN = 0x1000
};
enum {
    TUT_ID_VALUE = 0x4f424f4d,
    TUT_CONTROL_IRQ = 0x0001,
    TUT_CONTROL_MASK = 0xff01,
    TUT_STATUS_DONE = 1,
    TUT_STATUS_ERROR = 2,
    TUT_STATUS_BUSY = 4,
    TUT_MAX_LEN = 16 << 20,
    TUT_STEP = 64 << 10 /* bytes for one turn on the I/O thread; others wait that long */
};

/* All that a guest sees, and a command that is under way: all that is saved. */
struct tut_state {
    uint32_t scratch, control, status, len, sum, count;
    uint64_t src, dst;
    uint32_t done;             /* bytes of the running command */
    uint32_t run_len, run_sum; /* the command as it was when the doorbell rang: a guest may write */
    uint64_t run_src, run_dst; /* registers meanwhile */
    uint8_t run_key;
};

struct tut {
    struct mobo_vdev *dev;        /* borrowed, outlives us                              */
    const struct mobo_host *host; /* borrowed, valid until destroy() returns            */
    const uint32_t *trace;        /* nonzero while tracing is on                        */
    mobo_pci_t fn;                /* wiring: set once in create(), never saved          */
    uint8_t posted;               /* tut_step() is queued; guarded by the vdev lock, as */
    struct tut_state s;           /* is this                                            */
    uint8_t buf[TUT_STEP];
};

/* INTx is a function of the state, computed here and nowhere else.  With MSI on there is no level: a
 * message goes out at the moment a command ends, see tut_finish(). */
static void tut_update_irq(struct tut *t)
{
    int level = (t->s.control & TUT_CONTROL_IRQ) &&
                (t->s.status & (TUT_STATUS_DONE | TUT_STATUS_ERROR)) &&
                !t->host->pci_msi_enabled(t->fn);

    t->host->pci_irq_set(t->fn, level);
}

static void tut_finish(struct tut *t, uint32_t status)
{
    t->s.status = (t->s.status & ~(uint32_t)TUT_STATUS_BUSY) | status;
    t->s.sum = t->s.run_sum;
    t->s.count++;
    MOBO_TRACE(t->host, t->dev, t->trace, "command %u over, status 0x%x", t->s.count, t->s.status);
    if (t->s.control & TUT_CONTROL_IRQ)
        t->host->pci_msi_send(t->fn, 0); /* refused while MSI is off; then INTx speaks */
    tut_update_irq(t);
}

static uint32_t adler(uint32_t sum, const uint8_t *buf, uint32_t len)
{
    uint32_t a = sum & 0xffff, b = sum >> 16;

    for (uint32_t i = 0; i < len; i++) {
        a = (a + buf[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void tut_step(void *self);

static void tut_post(struct tut *t)
{
    if (t->posted)
        return;
    if (t->host->work_post(t->dev, tut_step, t))
        tut_finish(t, TUT_STATUS_ERROR);
    else
        t->posted = 1;
}

/* A part of the command, on the I/O thread: processors go on while this copies.  Guest memory is
 * copied first and looked at then, because the guest can change it at any moment. */
static void tut_step(void *self)
{
    struct tut *t = self;
    uint32_t n = t->s.run_len - t->s.done;

    t->posted = 0;
    if (!(t->s.status & TUT_STATUS_BUSY)) /* a reset came in between */
        return;
    if (n > TUT_STEP)
        n = TUT_STEP;
    /* both fail with bus mastering off, and where there is no RAM */
    if (t->host->pci_dma_read(t->fn, t->s.run_src + t->s.done, t->buf, n)) {
        tut_finish(t, TUT_STATUS_ERROR);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        t->buf[i] ^= t->s.run_key;
    if (t->host->pci_dma_write(t->fn, t->s.run_dst + t->s.done, t->buf, n)) {
        tut_finish(t, TUT_STATUS_ERROR);
        return;
    }
    t->s.run_sum = adler(t->s.run_sum, t->buf, n);
    t->s.done += n;
    if (t->s.done == t->s.run_len)
        tut_finish(t, TUT_STATUS_DONE);
    else
        tut_post(t);
}

/* The doorbell.  Only notes what to do: a processor's thread must not wait for the work. */
static void tut_start(struct tut *t)
{
    if (t->s.status & TUT_STATUS_BUSY)
        return;
    t->s.run_src = t->s.src;
    t->s.run_dst = t->s.dst;
    t->s.run_len = t->s.len;
    t->s.run_key = (uint8_t)(t->s.control >> 8);
    t->s.run_sum = 1;
    t->s.done = 0;
    t->s.status |= TUT_STATUS_BUSY;
    if (t->s.len < 1 || t->s.len > TUT_MAX_LEN || t->s.src > UINT64_MAX - TUT_MAX_LEN ||
        t->s.dst > UINT64_MAX - TUT_MAX_LEN)
        tut_finish(t, TUT_STATUS_ERROR);
    else
        tut_post(t);
}

/* The region takes dwords only (see widths below): the host breaks other accesses down. */
static uint64_t tut_read(void *self, uint64_t off, uint32_t len)
{
    struct tut *t = self;
    uint64_t val = 0;

    (void)len;
    switch (off) {
    case TUT_ID: val = TUT_ID_VALUE; break;
    case TUT_SCRATCH: val = ~t->s.scratch; break;
    case TUT_CONTROL: val = t->s.control; break;
    case TUT_STATUS: val = t->s.status; break;
    case TUT_SRC: val = (uint32_t)t->s.src; break;
    case TUT_SRC + 4: val = t->s.src >> 32; break;
    case TUT_DST: val = (uint32_t)t->s.dst; break;
    case TUT_DST + 4: val = t->s.dst >> 32; break;
    case TUT_LEN: val = t->s.len; break;
    case TUT_SUM: val = t->s.sum; break;
    case TUT_COUNT: val = t->s.count; break;
    }
    MOBO_TRACE(t->host, t->dev, t->trace, "read 0x%02x: 0x%x", (unsigned)off, (unsigned)val);
    return val & 0xffffffff;
}

static void tut_half(uint64_t *reg, int high, uint64_t val)
{
    *reg = high ? (*reg & 0xffffffff) | val << 32 : (*reg & ~UINT64_C(0xffffffff)) | val;
}

static void tut_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct tut *t = self;

    (void)len;
    MOBO_TRACE(t->host, t->dev, t->trace, "write 0x%02x: 0x%x", (unsigned)off, (unsigned)val);
    switch (off) {
    case TUT_SCRATCH: t->s.scratch = (uint32_t)val; break;
    case TUT_CONTROL: t->s.control = (uint32_t)val & TUT_CONTROL_MASK; break;
    case TUT_STATUS: t->s.status &= ~((uint32_t)val & (TUT_STATUS_DONE | TUT_STATUS_ERROR)); break;
    case TUT_SRC:
    case TUT_SRC + 4: tut_half(&t->s.src, off != TUT_SRC, val); break;
    case TUT_DST:
    case TUT_DST + 4: tut_half(&t->s.dst, off != TUT_DST, val); break;
    case TUT_LEN: t->s.len = (uint32_t)val; break;
    case TUT_DOORBELL: tut_start(t); break;
    }
    tut_update_irq(t);
}

/* A guest that switches MSI on or off changes what INTx has to say. */
static void tut_config_written(void *self, uint32_t off, uint32_t len)
{
    (void)off;
    (void)len;
    tut_update_irq(self);
}

static void tut_reset(void *self)
{
    struct tut *t = self;

    t->s = (struct tut_state){ .scratch = 0 };
    tut_update_irq(t);
}

/* One table for save, restore and inspect.  A tag is never reused. */
static const struct mobo_field tut_fields[] = {
    MOBO_FIELD(1, struct tut_state, scratch), /* since 1.0 */
    MOBO_FIELD(2, struct tut_state, control),  MOBO_FIELD(3, struct tut_state, status),
    MOBO_FIELD(4, struct tut_state, src),      MOBO_FIELD(5, struct tut_state, dst),
    MOBO_FIELD(6, struct tut_state, len),      MOBO_FIELD(7, struct tut_state, sum),
    MOBO_FIELD(8, struct tut_state, count),    MOBO_FIELD(9, struct tut_state, done),
    MOBO_FIELD(10, struct tut_state, run_src), MOBO_FIELD(11, struct tut_state, run_dst),
    MOBO_FIELD(12, struct tut_state, run_len), MOBO_FIELD(13, struct tut_state, run_sum),
    MOBO_FIELD(14, struct tut_state, run_key),
};

static int tut_save(void *self, struct mobo_writer *out)
{
    struct tut *t = self;

    return t->host->save_fields(out, MOBO_ARRAY(tut_fields), &t->s);
}

/* A saved state is input from outside: decode aside, check everything, then commit. */
static int tut_restore(void *self, struct mobo_reader *in)
{
    struct tut *t = self;
    struct tut_state s = t->s;
    int err = t->host->load_fields(in, MOBO_ARRAY(tut_fields), &s);

    if (err)
        return err;
    if ((s.control & ~(uint32_t)TUT_CONTROL_MASK) ||
        (s.status & ~(uint32_t)(TUT_STATUS_DONE | TUT_STATUS_ERROR | TUT_STATUS_BUSY)))
        return t->host->fail(t->dev, -EINVAL, "saved registers: impossible bits");
    if ((s.status & TUT_STATUS_BUSY) &&
        (s.run_len < 1 || s.run_len > TUT_MAX_LEN || s.done >= s.run_len ||
         s.run_src > UINT64_MAX - TUT_MAX_LEN || s.run_dst > UINT64_MAX - TUT_MAX_LEN))
        return t->host->fail(t->dev, -EINVAL, "saved command: 0x%x of 0x%x bytes is impossible",
                             s.done, s.run_len);
    t->s = s;
    tut_update_irq(t);
    if (t->s.status & TUT_STATUS_BUSY)
        tut_post(t); /* goes on where it was */
    return 0;
}

static void tut_inspect(void *self, struct mobo_inspect *out)
{
    struct tut *t = self;

    t->host->inspect_fields(out, MOBO_ARRAY(tut_fields), &t->s);
}

static void tut_destroy(void *self)
{
    free(self);
}

static int tut_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops bar_ops = { sizeof(bar_ops), MOBO_W32, tut_read, tut_write };
    static const struct mobo_pci_ops pci_ops = { sizeof(pci_ops), 0, NULL, tut_config_written };
    static const struct mobo_pci_info info = {
        .size = sizeof(info),
        .vendor = TUT_VENDOR,
        .device = TUT_DEVICE,
        .class_code = TUT_CLASS,
        .revision = 1,
        .pin = 1,                   /* INTA# */
        .slot = MOBO_PCI_SLOT_AUTO, /* the key `slot`, or the first free one */
    };
    struct tut *t = calloc(1, sizeof(*t));
    int err;

    if (!t)
        return host->fail(dev, -ENOMEM, "out of memory");
    t->dev = dev;
    t->host = host;
    t->trace = host->trace_word(dev);
    /* The services have set the message that goes with their error. */
    if ((err = host->pci_add(dev, &info, &pci_ops, t, &t->fn)) ||
        (err = host->pci_bar_add(t->fn, 0, MOBO_BAR_MEM32, TUT_BAR_LEN, 0, &bar_ops, t, NULL)))
        goto fail;
    if (host->param_bool(dev, "msi") && (err = host->pci_msi_add(t->fn, 1)))
        goto fail;
    *ret_self = t;
    return 0;
fail:
    tut_destroy(t);
    return err;
}

static const struct mobo_param tut_params[] = {
    { .name = "msi",
      .kind = MOBO_BOOL,
      .def = "yes",
      .help = "Whether the function can send messages in place of INTA#" },
};

static const struct mobo_vdev_ops tut_ops = {
    .size = sizeof(tut_ops),
    .create = tut_create,
    .destroy = tut_destroy,
    .reset = tut_reset,
    .save = tut_save,
    .restore = tut_restore,
    .inspect = tut_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_PCI,
    .type = "tutorial",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "MIT",
    .summary = "PCI function that copies memory, for learning",
    .dev_class = MOBO_CLASS_PLUGIN,
    .params = MOBO_ARRAY(tut_params),
    .ops = &tut_ops,
};
