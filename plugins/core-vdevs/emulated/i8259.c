/* SPDX-License-Identifier: BSD-2-Clause */
/* The pair of 8259A interrupt controllers of a PC, with the edge/level registers of the PIIX4.
 * References: "8259A Programmable Interrupt Controller" (Intel 231468-003), cited as DS; "82371AB
 * PIIX4" (Intel 290562-001), cited as PIIX4.
 *
 * Two departures, both because devices here can pulse a line in no time at all: a rising edge stays
 * latched until it is acknowledged even when the line falls before (the chip would answer with a
 * spurious interrupt 7), and an acknowledge that finds nothing pending is told so instead of being
 * given vector 7.  The slave's INT drives the master's input 2 as a level. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

enum { MASTER = 0, SLAVE = 1, CASCADE = 2 };

/* DS figure 7 and 8: command words. */
enum {
    ICW1_IC4 = 0x01,
    ICW1_SNGL = 0x02,
    ICW1_INIT = 0x10,
    ICW4_AEOI = 0x02,
    ICW4_SFNM = 0x10,
    OCW3_RIS = 0x01,
    OCW3_RR = 0x02,
    OCW3_POLL = 0x04,
    OCW3_SELECT = 0x08,
    OCW3_SMM = 0x20,
    OCW3_ESMM = 0x40,
    POLL_PENDING = 0x80
};
/* What the chip expects at its odd port. */
enum { STEP_READY = 0, STEP_ICW2 = 2, STEP_ICW3 = 3, STEP_ICW4 = 4 };

/* PIIX4 4.2.6: lines 0, 1, 2, 8 and 13 are always edge-triggered. */
static const uint8_t elcr_mask[2] = { 0xf8, 0xde };

struct chip {
    uint8_t latch; /* edges that wait                          */
    uint8_t level; /* input lines                              */
    uint8_t isr, imr;
    uint8_t icw1, icw2, icw3, icw4;
    uint8_t step;     /* STEP_...                                 */
    uint8_t lowest;   /* input with the lowest priority           */
    uint8_t read_isr; /* OCW3: the even port reads ISR, not IRR   */
    uint8_t poll;     /* OCW3: the next read polls                */
    uint8_t smm;      /* special mask mode                        */
    uint8_t rotate_aeoi;
    uint8_t elcr;
};

struct pic_state {
    struct chip chip[2];
};

struct pic {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    uint16_t elcr_start; /* wiring: what firmware would have set */
    struct pic_state s;  /* guarded by the vdev lock */
};

static uint8_t level_mask(const struct pic *p, int n)
{
    return p->s.chip[n].elcr | (n == MASTER ? 1 << CASCADE : 0);
}

static uint8_t irr(const struct pic *p, int n)
{
    const struct chip *c = &p->s.chip[n];
    uint8_t lm = level_mask(p, n);

    return (uint8_t)((c->latch & ~lm) | (c->level & lm));
}

/* DS "interrupt sequence" and "fully nested mode": the input to be served next, -1 if none. */
static int request(const struct pic *p, int n)
{
    const struct chip *c = &p->s.chip[n];
    uint8_t req = irr(p, n) & (uint8_t)~c->imr, busy = c->isr;

    if (c->step != STEP_READY || !req)
        return -1;
    if (c->smm)
        busy &= (uint8_t)~c->imr;
    for (unsigned i = 1; i <= 8; i++) {
        unsigned in = (c->lowest + i) & 7;

        /* DS "special fully nested mode": the cascade interrupts its own service */
        if ((busy & 1u << in) &&
            !(n == MASTER && in == CASCADE && (c->icw4 & ICW4_SFNM) && (req & 1u << in)))
            return -1;
        if (req & 1u << in)
            return (int)in;
    }
    return -1;
}

/* INT of the slave and INTR of the pair are functions of the state, computed here only. */
static void update(struct pic *p)
{
    if (request(p, SLAVE) >= 0)
        p->s.chip[MASTER].level |= 1 << CASCADE;
    else
        p->s.chip[MASTER].level &= (uint8_t) ~(1 << CASCADE);
    p->host->intr_set(p->dev, request(p, MASTER) >= 0);
}

static void acknowledge(struct pic *p, int n, unsigned in)
{
    struct chip *c = &p->s.chip[n];

    c->latch &= (uint8_t) ~(1u << in);
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= (uint8_t)(1u << in);
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)in;
}

static int pic_intack(void *self)
{
    struct pic *p = self;
    int in = request(p, MASTER), vec;

    if (in < 0)
        return -1;
    acknowledge(p, MASTER, (unsigned)in);
    vec = p->s.chip[MASTER].icw2 + in;
    if (in == CASCADE) {
        in = request(p, SLAVE);
        if (in >= 0)
            acknowledge(p, SLAVE, (unsigned)in);
        else
            in = 7; /* DS "edge and level triggered modes": a default interrupt 7 */
        vec = p->s.chip[SLAVE].icw2 + in;
    }
    update(p);
    MOBO_TRACE(p->host, p->dev, p->trace, "intack vector 0x%02x", vec);
    return vec;
}

static void pic_level(void *self, uint32_t line, int level)
{
    struct pic *p = self;
    int n = line >= 8;
    struct chip *c = &p->s.chip[n];
    uint8_t bit = (uint8_t)(1u << (line & 7));

    if (line == CASCADE || line > 15)
        return;
    if (level && !(c->level & bit))
        c->latch |= bit;
    c->level = (uint8_t)(level ? c->level | bit : c->level & ~bit);
    update(p);
}

/* DS "OCW2": rotate, specific, end of interrupt in bits 7 to 5. */
static void ocw2(struct chip *c, uint8_t val)
{
    unsigned in = val & 7, i;
    int found = -1;

    switch (val >> 5) {
    case 0: c->rotate_aeoi = 0; break;
    case 4: c->rotate_aeoi = 1; break;
    case 1: /* non-specific EOI */
    case 5:
        for (i = 1; i <= 8 && found < 0; i++) {
            unsigned at = (c->lowest + i) & 7;

            /* DS "special mask mode": masked levels are not cleared by a non-specific EOI */
            if ((c->isr & 1u << at) && !(c->smm && (c->imr & 1u << at)))
                found = (int)at;
        }
        if (found < 0)
            break;
        c->isr &= (uint8_t) ~(1u << found);
        if (val >> 5 == 5)
            c->lowest = (uint8_t)found;
        break;
    case 3: c->isr &= (uint8_t) ~(1u << in); break;
    case 7:
        c->isr &= (uint8_t) ~(1u << in);
        c->lowest = (uint8_t)in;
        break;
    case 6: c->lowest = (uint8_t)in; break;
    case 2: break; /* no operation */
    }
}

static void write_even(struct chip *c, uint8_t val)
{
    if (val & ICW1_INIT) {
        uint8_t level = c->level, elcr = c->elcr;

        /* DS "ICW1": edge sense, mask and modes are cleared, input 7 gets the lowest priority */
        *c = (struct chip){ .icw1 = val,
                            .icw2 = c->icw2,
                            .icw3 = c->icw3,
                            .level = level,
                            .elcr = elcr,
                            .lowest = 7,
                            .step = STEP_ICW2 };
    } else if (val & OCW3_SELECT) {
        if (val & OCW3_ESMM)
            c->smm = (val & OCW3_SMM) != 0;
        if (val & OCW3_RR)
            c->read_isr = val & OCW3_RIS;
        c->poll = (val & OCW3_POLL) != 0;
    } else {
        ocw2(c, val);
    }
}

static void write_odd(struct chip *c, uint8_t val)
{
    switch (c->step) {
    case STEP_READY: c->imr = val; break;
    case STEP_ICW2:
        c->icw2 = val & 0xf8;
        c->step = !(c->icw1 & ICW1_SNGL) ? STEP_ICW3 : c->icw1 & ICW1_IC4 ? STEP_ICW4 : STEP_READY;
        break;
    case STEP_ICW3:
        c->icw3 = val;
        c->step = c->icw1 & ICW1_IC4 ? STEP_ICW4 : STEP_READY;
        break;
    case STEP_ICW4:
        c->icw4 = val & 0x1f;
        c->step = STEP_READY;
        break;
    }
}

/* @ctx is the pair; the base of the region tells the chip apart. */
static uint64_t chip_read(struct pic *p, int n, uint64_t off)
{
    struct chip *c = &p->s.chip[n];

    if (c->poll) {
        /* DS "poll command": the read takes the place of INTA */
        int in = request(p, n);

        c->poll = 0;
        if (in < 0)
            return 0;
        acknowledge(p, n, (unsigned)in);
        update(p);
        return POLL_PENDING | (unsigned)in;
    }
    if (off)
        return c->imr;
    return c->read_isr ? c->isr : irr(p, n);
}

static void chip_write(struct pic *p, int n, uint64_t off, uint64_t val)
{
    MOBO_TRACE(p->host, p->dev, p->trace, "chip %d port %u write 0x%02x", n, (unsigned)off,
               (unsigned)val);
    if (off)
        write_odd(&p->s.chip[n], (uint8_t)val);
    else
        write_even(&p->s.chip[n], (uint8_t)val);
    update(p);
}

static uint64_t master_read(void *self, uint64_t off, uint32_t len)
{
    (void)len;
    return chip_read(self, MASTER, off);
}

static void master_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    (void)len;
    chip_write(self, MASTER, off, val);
}

static uint64_t slave_read(void *self, uint64_t off, uint32_t len)
{
    (void)len;
    return chip_read(self, SLAVE, off);
}

static void slave_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    (void)len;
    chip_write(self, SLAVE, off, val);
}

static uint64_t elcr_read(void *self, uint64_t off, uint32_t len)
{
    struct pic *p = self;

    (void)len;
    return p->s.chip[off].elcr;
}

static void elcr_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct pic *p = self;

    (void)len;
    p->s.chip[off].elcr = (uint8_t)val & elcr_mask[off];
    update(p);
}

static void pic_reset(void *self)
{
    struct pic *p = self;

    for (int n = 0; n < 2; n++)
        p->s.chip[n] = (struct chip){ .lowest = 7,
                                      .imr = 0xff,
                                      .elcr = (uint8_t)(p->elcr_start >> (n * 8)) & elcr_mask[n] };
    update(p);
}

#define CHIP_FIELDS(tag, n)                                            \
    MOBO_FIELD((tag) + 0, struct pic_state, chip[n].latch),            \
        MOBO_FIELD((tag) + 1, struct pic_state, chip[n].level),        \
        MOBO_FIELD((tag) + 2, struct pic_state, chip[n].isr),          \
        MOBO_FIELD((tag) + 3, struct pic_state, chip[n].imr),          \
        MOBO_FIELD((tag) + 4, struct pic_state, chip[n].icw1),         \
        MOBO_FIELD((tag) + 5, struct pic_state, chip[n].icw2),         \
        MOBO_FIELD((tag) + 6, struct pic_state, chip[n].icw3),         \
        MOBO_FIELD((tag) + 7, struct pic_state, chip[n].icw4),         \
        MOBO_FIELD((tag) + 8, struct pic_state, chip[n].step),         \
        MOBO_FIELD((tag) + 9, struct pic_state, chip[n].lowest),       \
        MOBO_FIELD((tag) + 10, struct pic_state, chip[n].read_isr),    \
        MOBO_FIELD((tag) + 11, struct pic_state, chip[n].poll),        \
        MOBO_FIELD((tag) + 12, struct pic_state, chip[n].smm),         \
        MOBO_FIELD((tag) + 13, struct pic_state, chip[n].rotate_aeoi), \
        MOBO_FIELD((tag) + 14, struct pic_state, chip[n].elcr)

static const struct mobo_field pic_fields[] = {
    CHIP_FIELDS(1, 0),
    CHIP_FIELDS(33, 1),
};

static int pic_save(void *self, struct mobo_writer *out)
{
    struct pic *p = self;

    return p->host->save_fields(out, MOBO_ARRAY(pic_fields), &p->s);
}

static int pic_restore(void *self, struct mobo_reader *in)
{
    struct pic *p = self;
    struct pic_state s = p->s;
    int err = p->host->load_fields(in, MOBO_ARRAY(pic_fields), &s);

    if (err)
        return err;
    for (int n = 0; n < 2; n++) {
        const struct chip *c = &s.chip[n];

        if (c->step == 1 || c->step > STEP_ICW4)
            return p->host->fail(p->dev, -EINVAL, "saved chip %d: step %u is not one", n, c->step);
        if (c->lowest > 7 || (c->elcr & ~elcr_mask[n]) || (c->icw2 & 7) || c->read_isr > 1 ||
            c->poll > 1 || c->smm > 1 || c->rotate_aeoi > 1)
            return p->host->fail(p->dev, -EINVAL, "saved chip %d: a register has impossible bits",
                                 n);
    }
    p->s = s;
    update(p);
    return 0;
}

static void pic_inspect(void *self, struct mobo_inspect *out)
{
    struct pic *p = self;

    p->host->inspect_fields(out, MOBO_ARRAY(pic_fields), &p->s);
    p->host->inspect_uint(out, "irr", irr(p, MASTER) | (unsigned)irr(p, SLAVE) << 8);
}

static void pic_destroy(void *self)
{
    free(self);
}

static int pic_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops[3] = {
        { sizeof(ops[0]), MOBO_W8, master_read, master_write },
        { sizeof(ops[0]), MOBO_W8, slave_read, slave_write },
        { sizeof(ops[0]), MOBO_W8, elcr_read, elcr_write },
    };
    struct mobo_acpi_isa node = { .head = { sizeof(node), MOBO_ACPI_ISA },
                                  .name = { "PIC_" },
                                  .hid = "PNP0000",
                                  .irqs = 1 << CASCADE,
                                  .nports = 3,
                                  .port = { { 0x20, 2 }, { 0xa0, 2 }, { 0x4d0, 2 } } };
    struct mobo_acpi_legacy legacy = { .head = { sizeof(legacy), MOBO_ACPI_LEGACY },
                                       .flags = MOBO_ACPI_HAS_8259 };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct pic *p = calloc(1, sizeof(*p));
    int err;

    if (!p)
        return host->fail(dev, -ENOMEM, "out of memory");
    p->dev = dev;
    p->host = host;
    p->trace = host->trace_word(dev);
    if (!host->board_info(dev, &board) && board.direct_boot)
        p->elcr_start = (uint16_t)host->param_uint(dev, "level-lines");
    if ((err = host->pio_add(dev, "master", 0x20, 2, 0, &ops[0], p, NULL)) ||
        (err = host->pio_add(dev, "slave", 0xa0, 2, 0, &ops[1], p, NULL)) ||
        (err = host->pio_add(dev, "elcr", 0x4d0, 2, 0, &ops[2], p, NULL)) ||
        (err = host->irq_sink_add(dev, 0, 16, pic_level, p)) ||
        (err = host->intack_set(dev, pic_intack, p)) || (err = host->acpi_add(dev, &node.head)) ||
        (err = host->acpi_add(dev, &legacy.head)))
        goto fail;
    *ret_self = p;
    return 0;
fail:
    pic_destroy(p);
    return err;
}

static const struct mobo_param pic_params[] = {
    { .name = "level-lines",
      .kind = MOBO_UINT,
      .def = "0x0e00",
      .max = 0xdef8,
      .help = "Lines that start level-triggered on a direct boot, one bit each, as firmware sets "
              "them for PCI and ACPI" },
};

static const struct mobo_vdev_ops pic_ops = {
    .size = sizeof(pic_ops),
    .create = pic_create,
    .destroy = pic_destroy,
    .reset = pic_reset,
    .save = pic_save,
    .restore = pic_restore,
    .inspect = pic_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_IRQ_SINK,
    .type = "i8259",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "Pair of 8259A interrupt controllers with edge/level registers",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .params = MOBO_ARRAY(pic_params),
    .ops = &pic_ops,
};
