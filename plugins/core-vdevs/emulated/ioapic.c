/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O APIC with 24 inputs.
 * References: "82093AA I/O Advanced Programmable Interrupt Controller" (Intel 290566-001), cited as
 * DS; "I/O Controller Hub 2" (Intel 290687-002), chapter 9.5, for version 0x20 and its EOI register,
 * cited as ICH2; messages as in Intel SDM volume 3A, section 11.11. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

enum { PINS = 24, WINDOW = 0x1000 };

/* Memory-mapped registers, DS 3.1, ICH2 9.5.3. */
enum { REG_SELECT = 0x00, REG_WINDOW = 0x10, REG_EOI = 0x40 };
/* Indirect registers, DS 3.2. */
enum { IDX_ID = 0x00, IDX_VERSION = 0x01, IDX_ARBITRATION = 0x02, IDX_TABLE = 0x10 };

enum { VERSION = 0x20 };

/* Redirection table entry, DS 3.2.4. */
#define RTE_VECTOR  UINT64_C(0xff)
#define RTE_MODE    UINT64_C(0x700)
#define RTE_LOGICAL UINT64_C(0x800)
#define RTE_BUSY    UINT64_C(0x1000) /* R: delivery status */
#define RTE_LOW     UINT64_C(0x2000)
#define RTE_IRR     UINT64_C(0x4000) /* R: remote IRR */
#define RTE_LEVEL   UINT64_C(0x8000)
#define RTE_MASK    UINT64_C(0x10000)
#define RTE_DEST    UINT64_C(0xff00000000000000)
#define RTE_WRITABLE \
    (RTE_VECTOR | RTE_MODE | RTE_LOGICAL | RTE_LOW | RTE_LEVEL | RTE_MASK | RTE_DEST)
#define RTE_STORED (RTE_WRITABLE | RTE_IRR)

enum {
    MODE_FIXED = 0,
    MODE_LOWEST = 1,
    MODE_SMI = 2,
    MODE_NMI = 4,
    MODE_INIT = 5,
    MODE_EXTINT = 7
};

struct ioapic_state {
    uint64_t rte[PINS];
    uint32_t level; /* input pins, 1 asserted: what RTE_LOW calls active has been taken out */
    uint32_t edge;  /* edges that no processor has taken yet */
    uint8_t index, id;
};

struct ioapic {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    uint32_t first_gsi;
    uint8_t id;
    struct ioapic_state s; /* guarded by the vdev lock */
};

/* DS 3.2.4: only fixed and lowest priority can be level-triggered. */
static int is_level(uint64_t rte)
{
    uint64_t mode = (rte & RTE_MODE) >> 8;

    return (rte & RTE_LEVEL) && mode <= MODE_LOWEST;
}

/* Send what a pin has to say, if it has and may. */
static void service(struct ioapic *io, unsigned pin)
{
    uint64_t rte = io->s.rte[pin], mode = (rte & RTE_MODE) >> 8;
    uint32_t bit = 1u << pin, data;
    int level = is_level(rte);

    if (rte & RTE_MASK)
        return;
    if (level ? !(io->s.level & bit) || (rte & RTE_IRR) : !(io->s.edge & bit))
        return;
    if (mode == 3 || mode == 6) { /* reserved: goes nowhere */
        io->s.edge &= ~bit;
        return;
    }
    data = (uint32_t)(rte & (RTE_VECTOR | RTE_MODE)) | 0x4000;
    if (mode == MODE_SMI || mode == MODE_NMI || mode == MODE_INIT)
        data &= ~(uint32_t)RTE_VECTOR;
    if (level)
        data |= 0x8000;
    MOBO_TRACE(io->host, io->dev, io->trace, "pin %u sends 0x%05x to 0x%02x", pin, data,
               (unsigned)(rte >> 56));
    /* state first: a processor may answer with an EOI before msi_send() is back */
    if (level)
        io->s.rte[pin] |= RTE_IRR;
    else
        io->s.edge &= ~bit;
    if (io->host->msi_send(io->dev,
                           UINT64_C(0xfee00000) | (rte >> 56) << 12 | (rte & RTE_LOGICAL ? 4 : 0) |
                               (mode == MODE_LOWEST ? 8 : 0),
                           data) != 0)
        return;
    /* nobody took it: try again when something changes */
    if (level)
        io->s.rte[pin] &= ~RTE_IRR;
    else
        io->s.edge |= bit;
}

static void ioapic_level(void *self, uint32_t line, int level)
{
    struct ioapic *io = self;
    uint32_t pin = line - io->first_gsi, bit;

    if (io->first_gsi == 0) {
        /* The wiring of PC boards: the timer on pin 2, no cascade, nothing on pin 0. */
        if (line == 2)
            return;
        if (line == 0)
            pin = 2;
    }
    if (pin >= PINS)
        return;
    bit = 1u << pin;
    /* DS 3.2.4 "interrupt mask": an edge on a masked pin is neither delivered nor held pending */
    if (level && !(io->s.level & bit) && !is_level(io->s.rte[pin]) && !(io->s.rte[pin] & RTE_MASK))
        io->s.edge |= bit;
    io->s.level = level ? io->s.level | bit : io->s.level & ~bit;
    service(io, pin);
}

static void ioapic_eoi(void *self, uint32_t vector)
{
    struct ioapic *io = self;

    for (unsigned pin = 0; pin < PINS; pin++) {
        uint64_t rte = io->s.rte[pin];

        if (!(rte & RTE_IRR) || (rte & RTE_VECTOR) != vector)
            continue;
        io->s.rte[pin] &= ~RTE_IRR;
        service(io, pin);
    }
}

static uint32_t index_read(const struct ioapic *io)
{
    unsigned i = io->s.index, pin = (i - IDX_TABLE) / 2;
    uint64_t rte;

    if (i == IDX_ID || i == IDX_ARBITRATION)
        return (uint32_t)io->s.id << 24;
    if (i == IDX_VERSION)
        return (PINS - 1) << 16 | VERSION;
    if (i < IDX_TABLE || pin >= PINS)
        return 0;
    rte = io->s.rte[pin];
    if (!is_level(rte) && (io->s.edge & 1u << pin))
        rte |= RTE_BUSY;
    return (uint32_t)(i & 1 ? rte >> 32 : rte);
}

static void index_write(struct ioapic *io, uint32_t val)
{
    unsigned i = io->s.index, pin = (i - IDX_TABLE) / 2;
    uint64_t rte;

    if (i == IDX_ID) {
        io->s.id = val >> 24 & 0x0f;
        return;
    }
    if (i < IDX_TABLE || pin >= PINS)
        return;
    rte = io->s.rte[pin];
    if (i & 1)
        rte = (rte & 0xffffffff) | (uint64_t)val << 32;
    else
        rte = (rte & ~UINT64_C(0xffffffff)) | val;
    rte = (rte & RTE_WRITABLE) | (io->s.rte[pin] & RTE_IRR);
    /* an edge-triggered pin has no remote IRR: systems reset it this way where there is no EOI
     * register */
    if (!is_level(rte))
        rte &= ~RTE_IRR;
    else
        io->s.edge &= ~(1u << pin);
    io->s.rte[pin] = rte;
    service(io, pin);
}

static uint64_t ioapic_read(void *self, uint64_t off, uint32_t len)
{
    struct ioapic *io = self;
    uint32_t val = 0;

    (void)len;
    if ((off & ~UINT64_C(3)) == REG_SELECT)
        val = io->s.index;
    else if ((off & ~UINT64_C(3)) == REG_WINDOW)
        val = index_read(io);
    return val >> (off & 3) * 8;
}

/* DS 3.1: the data window takes dwords only; the index is a byte, whatever the access. */
static void ioapic_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct ioapic *io = self;

    MOBO_TRACE(io->host, io->dev, io->trace, "write 0x%02x (index 0x%02x) 0x%08x", (unsigned)off,
               io->s.index, (unsigned)val);
    if (off == REG_SELECT)
        io->s.index = (uint8_t)val;
    else if (off == REG_WINDOW && len == 4)
        index_write(io, (uint32_t)val);
    else if (off == REG_EOI)
        ioapic_eoi(io, (uint32_t)val & 0xff);
}

static void ioapic_reset(void *self)
{
    struct ioapic *io = self;

    io->s = (struct ioapic_state){ .id = io->id };
    for (unsigned pin = 0; pin < PINS; pin++)
        io->s.rte[pin] = RTE_MASK;
}

static const struct mobo_field ioapic_fields[] = {
    MOBO_FIELD_ARRAY(1, struct ioapic_state, rte), MOBO_FIELD(2, struct ioapic_state, level),
    MOBO_FIELD(3, struct ioapic_state, edge),      MOBO_FIELD(4, struct ioapic_state, index),
    MOBO_FIELD(5, struct ioapic_state, id),
};

static int ioapic_save(void *self, struct mobo_writer *out)
{
    struct ioapic *io = self;

    return io->host->save_fields(out, MOBO_ARRAY(ioapic_fields), &io->s);
}

static int ioapic_restore(void *self, struct mobo_reader *in)
{
    struct ioapic *io = self;
    struct ioapic_state s = io->s;
    int err = io->host->load_fields(in, MOBO_ARRAY(ioapic_fields), &s);

    if (err)
        return err;
    for (unsigned pin = 0; pin < PINS; pin++)
        if ((s.rte[pin] & ~RTE_STORED) || ((s.rte[pin] & RTE_IRR) && !is_level(s.rte[pin])))
            return io->host->fail(io->dev, -EINVAL, "saved entry of pin %u: impossible bits", pin);
    if (s.id > 0x0f || (s.level | s.edge) >> PINS)
        return io->host->fail(io->dev, -EINVAL, "saved id or pins: impossible bits");
    io->s = s;
    return 0;
}

static void ioapic_inspect(void *self, struct mobo_inspect *out)
{
    struct ioapic *io = self;

    io->host->inspect_fields(out, MOBO_ARRAY(ioapic_fields), &io->s);
}

static void ioapic_destroy(void *self)
{
    free(self);
}

static int ioapic_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8 | MOBO_W16 | MOBO_W32, ioapic_read,
                                            ioapic_write };
    struct mobo_acpi_ioapic desc = { .head = { sizeof(desc), MOBO_ACPI_IOAPIC }, .pins = PINS };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct ioapic *io = calloc(1, sizeof(*io));
    uint64_t base;
    int err;

    if (!io)
        return host->fail(dev, -ENOMEM, "out of memory");
    io->dev = dev;
    io->host = host;
    io->trace = host->trace_word(dev);
    base = host->param_uint(dev, "base");
    io->first_gsi = (uint32_t)host->param_uint(dev, "first-line");
    if (host->param_is_set(dev, "id"))
        io->id = (uint8_t)host->param_uint(dev, "id");
    else if (!host->board_info(dev, &board) && board.vps < 15)
        io->id = (uint8_t)board.vps; /* the first number that is no processor's */
    if (base % WINDOW) {
        err = host->fail(dev, -EINVAL, "base: 0x%llx is not a multiple of 4096",
                         (unsigned long long)base);
        goto fail;
    }
    desc.base = base;
    desc.id = io->id;
    desc.first_gsi = io->first_gsi;
    desc.isa_line0_gsi = io->first_gsi == 0 ? 2 : 0;
    if ((err = host->mmio_add(dev, "registers", base, WINDOW, 0, &ops, io, NULL)) ||
        (err = host->irq_sink_add(dev, io->first_gsi, PINS, ioapic_level, io)) ||
        (err = host->eoi_watch(dev, ioapic_eoi, io)) || (err = host->acpi_add(dev, &desc.head)))
        goto fail;
    *ret_self = io;
    return 0;
fail:
    ioapic_destroy(io);
    return err;
}

static const struct mobo_param ioapic_params[] = {
    { .name = "base",
      .kind = MOBO_UINT,
      .def = "0xfec00000",
      .min = 0x100000,
      .max = 0xfffff000,
      .help = "Guest-physical address of the registers, a multiple of 4096" },
    { .name = "first-line",
      .kind = MOBO_UINT,
      .def = "0",
      .max = 40,
      .help = "Line on input 0; with 0, line 0 arrives at input 2 as on PCs" },
    { .name = "id",
      .kind = MOBO_UINT,
      .max = 15,
      .help = "APIC identifier after reset; if not set, the number of processors" },
};

static const struct mobo_vdev_ops ioapic_ops = {
    .size = sizeof(ioapic_ops),
    .create = ioapic_create,
    .destroy = ioapic_destroy,
    .reset = ioapic_reset,
    .save = ioapic_save,
    .restore = ioapic_restore,
    .inspect = ioapic_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_IRQ_SINK,
    .type = "ioapic",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "I/O APIC with 24 inputs and an EOI register",
    .dev_class = MOBO_CLASS_EMULATED,
    .params = MOBO_ARRAY(ioapic_params),
    .ops = &ioapic_ops,
};
