/* SPDX-License-Identifier: BSD-2-Clause */
/* 82371AB PIIX4: the ISA bridge (function 0) with interrupt routing, reset and A20 ports; the power
 * management function is in piix4_pm.c.
 * Reference: "82371AB PCI-TO-ISA / IDE Xcelerator (PIIX4)" (Intel 290562-001), cited as PIIX4.
 * The edge/level registers of the chip are in the i8259 device. */
#include "piix4.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* PIIX4 4.1. */
enum {
    CFG_IORT = 0x4c,
    CFG_XBCS = 0x4e,
    CFG_PIRQRC = 0x60,
    CFG_SERIRQC = 0x64,
    CFG_TOM = 0x69,
    CFG_MSTAT = 0x6a,
    CFG_MBDMA0 = 0x76,
    CFG_DLC = 0x82,
    CFG_GENCFG = 0xb0,
    CFG_RTCCFG = 0xcb
};
enum { PIRQ_OFF = 0x80, PIRQ_LINE = 0x0f };
enum { PIRQ_LINES = 0xdef8 }; /* PIIX4 4.1.10: 3-7, 9-12, 14, 15 */

/* PIIX4 4.2.7.3 (RC) and 4.2.5.2 (port 92). */
enum { RC_FULL = 0x02, RC_RESET = 0x04, RC_MASK = 0x06 };
enum { P92_FAST_INIT = 0x01, P92_FAST_A20 = 0x02, P92_MASK = 0xff };

static void route(struct piix4 *p)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t rc = p->s.pirq[i], line = rc & PIRQ_LINE;
        int on = !(rc & PIRQ_OFF) && (PIRQ_LINES >> line & 1);

        p->host->pci_pirq_route(p->dev, i, on ? line : -1);
    }
}

static void isa_written(void *self, uint32_t off, uint32_t len)
{
    struct piix4 *p = self;

    if (off >= CFG_PIRQRC + 4 || off + len <= CFG_PIRQRC)
        return;
    for (uint32_t i = 0; i < 4; i++)
        p->s.pirq[i] = (uint8_t)p->host->pci_config_get(p->isa, CFG_PIRQRC + i, 1);
    route(p);
}

/* ---- ports ------------------------------------------------------------------------------------- */

static uint64_t rc_read(void *self, uint64_t off, uint32_t len)
{
    (void)off;
    (void)len;
    return ((struct piix4 *)self)->s.rc;
}

static void rc_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct piix4 *p = self;

    (void)off;
    (void)len;
    if ((val & RC_RESET) && !(p->s.rc & RC_RESET))
        p->host->system_request(p->dev, MOBO_SYS_RESET, 0, "reset control register");
    p->s.rc = val & RC_MASK;
}

static uint64_t p92_read(void *self, uint64_t off, uint32_t len)
{
    (void)off;
    (void)len;
    return ((struct piix4 *)self)->s.port92;
}

static void p92_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct piix4 *p = self;

    (void)off;
    (void)len;
    if ((val & P92_FAST_INIT) && !(p->s.port92 & P92_FAST_INIT))
        p->host->system_request(p->dev, MOBO_SYS_RESET, 0, "port 0x92");
    p->s.port92 = val & P92_MASK;
    p->s.a20_said = 1;
    p->host->a20_set(p->dev, (val & P92_FAST_A20) != 0);
}

/* APMC and APMS: where systems without ACPI mode ask firmware to switch to it.  There is no SMM, so
 * the chip answers itself. */
static uint64_t apm_read(void *self, uint64_t off, uint32_t len)
{
    (void)len;
    return ((struct piix4 *)self)->s.apm[off];
}

static void apm_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct piix4 *p = self;

    (void)len;
    p->s.apm[off] = (uint8_t)val;
    if (off == 0 && (val == APM_ACPI_ENABLE || val == APM_ACPI_DISABLE))
        piix4_pm_mode(p, val == APM_ACPI_ENABLE);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void piix4_reset(void *self)
{
    struct piix4 *p = self;

    p->s = (struct piix4_state){ .apm = { 0, 0 } };
    for (uint32_t i = 0; i < 4; i++)
        p->s.pirq[i] = (uint8_t)p->host->pci_config_get(p->isa, CFG_PIRQRC + i, 1);
    piix4_pm_reset(p);
    route(p);
    /* No opinion on A20 before the guest writes port 0x92: a board without a keyboard controller is open. */
}

#define F(tag, member) MOBO_FIELD(tag, struct piix4_state, member)
static const struct mobo_field piix4_fields[] = {
    MOBO_FIELD_ARRAY(1, struct piix4_state, pirq),
    F(2, rc),
    F(3, port92),
    MOBO_FIELD_ARRAY(4, struct piix4_state, apm),
    F(5, pm_base),
    F(6, pm_on),
    F(7, smb_base),
    F(8, smb_on),
    MOBO_FIELD_ARRAY(9, struct piix4_state, pm),
    MOBO_FIELD_ARRAY(10, struct piix4_state, smb),
    /* not last: that a state is cut is noticed */
    MOBO_FIELD_FLAGS(12, struct piix4_state, a20_said, MOBO_FIELD_OPTIONAL | MOBO_FIELD_IGNORABLE),
    F(11, timer_checked),
};

static int piix4_save(void *self, struct mobo_writer *out)
{
    struct piix4 *p = self;

    return p->host->save_fields(out, MOBO_ARRAY(piix4_fields), &p->s);
}

static int piix4_restore(void *self, struct mobo_reader *in)
{
    struct piix4 *p = self;
    struct piix4_state s = p->s;
    int err;

    s.a20_said = 0;
    err = p->host->load_fields(in, MOBO_ARRAY(piix4_fields), &s);
    if (err)
        return err;
    for (uint32_t i = 0; i < 4; i++)
        if (s.pirq[i] & ~(PIRQ_OFF | PIRQ_LINE))
            return p->host->fail(p->dev, -EINVAL, "saved routing of PIRQ %c: impossible bits",
                                 'A' + (int)i);
    if (s.a20_said > 1)
        return p->host->fail(p->dev, -EINVAL, "saved port 0x92: impossible bits");
    if (s.rc & ~RC_MASK)
        return p->host->fail(p->dev, -EINVAL, "saved reset control: impossible bits");
    err = piix4_pm_check(p, &s);
    if (err)
        return err;
    p->s = s;
    route(p);
    if (s.a20_said || (s.port92 & P92_FAST_A20)) /* older states do not say whether it has */
        p->host->a20_set(p->dev, (s.port92 & P92_FAST_A20) != 0);
    piix4_pm_restored(p);
    return 0;
}

static void piix4_inspect(void *self, struct mobo_inspect *out)
{
    struct piix4 *p = self;

    p->host->inspect_fields(out, MOBO_ARRAY(piix4_fields), &p->s);
}

static void piix4_event(void *self, const struct mobo_event *event)
{
    if (event->kind == MOBO_EVENT_POWER_BUTTON)
        piix4_pm_button(self);
}

static void piix4_destroy(void *self)
{
    free(self);
}

static int isa_registers(struct piix4 *p)
{
    static const struct {
        uint8_t off, len;
        uint32_t reset, writable;
    } reg[] = {
        { 0x04, 2, 0x0007, 0x0008 }, /* always decodes; special cycles */
        { 0x06, 2, 0x0280, 0 },
        { CFG_IORT, 1, 0x4d, 0x7f },
        { CFG_XBCS, 2, 0x0003, 0x03ff },
        { CFG_SERIRQC, 1, 0x10, 0xff },
        { CFG_TOM, 1, 0x02, 0xff },
        { CFG_MSTAT, 2, 0, 0x8080 },
        { CFG_MBDMA0, 2, 0x0404, 0x8f8f },
        { CFG_DLC, 1, 0, 0x0f },
        { CFG_GENCFG, 4, 0, 0xffffffff },
        { CFG_RTCCFG, 1, 0x21, 0x3d },
    };
    static const char *const key[4] = { "pirq-a", "pirq-b", "pirq-c", "pirq-d" };
    struct mobo_acpi_pci_links links = { .head = { sizeof(links), MOBO_ACPI_PCI_LINKS },
                                         .bridge = p->isa,
                                         .irqs = 1 << 5 | 1 << 10 | 1 << 11 };
    int err;

    for (size_t i = 0; i < sizeof(reg) / sizeof(reg[0]); i++)
        if ((err = p->host->pci_config_init(p->isa, reg[i].off, reg[i].len, reg[i].reset,
                                            reg[i].writable, 0)))
            return err;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t line = (uint32_t)p->host->param_uint(p->dev, key[i]);

        if (!(PIRQ_LINES >> line & 1))
            return p->host->fail(p->dev, -EINVAL,
                                 "%s: %u is not a line that can be routed to (3-7, "
                                 "9-12, 14, 15)",
                                 key[i], line);
        links.reg[i] = CFG_PIRQRC + i;
        links.irqs |= 1u << line;
        /* PIIX4 4.1.10: off after reset; firmware routes them */
        if ((err = p->host->pci_config_init(p->isa, CFG_PIRQRC + i, 1,
                                            p->direct_boot ? line : PIRQ_OFF, PIRQ_OFF | PIRQ_LINE,
                                            0)))
            return err;
    }
    return p->host->acpi_add(p->dev, &links.head);
}

static int piix4_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops rc_ops = { sizeof(rc_ops), MOBO_W8, rc_read, rc_write };
    static const struct mobo_io_ops p92_ops = { sizeof(p92_ops), MOBO_W8, p92_read, p92_write };
    static const struct mobo_io_ops apm_ops = { sizeof(apm_ops), MOBO_W8, apm_read, apm_write };
    static const struct mobo_pci_ops isa_ops = { sizeof(isa_ops), 0, NULL, isa_written };
    struct mobo_pci_info info = { .size = sizeof(info),
                                  .flags = MOBO_PCI_MULTIFUNCTION,
                                  .vendor = 0x8086,
                                  .device = 0x7110,
                                  .class_code = 0x060100,
                                  .revision = 1 };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct piix4 *p = calloc(1, sizeof(*p));
    int err;

    if (!p)
        return host->fail(dev, -ENOMEM, "out of memory");
    p->dev = dev;
    p->host = host;
    p->trace = host->trace_word(dev);
    p->direct_boot = !host->board_info(dev, &board) && board.direct_boot;
    p->slot = info.slot = (int32_t)host->param_uint(dev, "slot");
    if ((err = host->pci_add(dev, &info, &isa_ops, p, &p->isa)) || (err = isa_registers(p)) ||
        (err = host->pio_add(dev, "port92", 0x92, 1, 0, &p92_ops, p, NULL)) ||
        (err = host->pio_add(dev, "apm", 0xb2, 2, 0, &apm_ops, p, NULL)) ||
        (err = host->pio_add(dev, "reset-control", 0xcf9, 1, 0, &rc_ops, p, NULL)) ||
        (err = piix4_pm_create(p)))
        goto fail;
    *ret_self = p;
    return 0;
fail:
    piix4_destroy(p);
    return err;
}

static const struct mobo_param piix4_params[] = {
    { .name = "slot",
      .kind = MOBO_UINT,
      .def = "7",
      .min = 1,
      .max = 31,
      .help = "PCI slot of the chip" },
    { .name = "pm-base",
      .kind = MOBO_UINT,
      .def = "0x600",
      .min = 0x100,
      .max = 0xffc0,
      .help = "Ports of power management, as firmware places them; a multiple of 64" },
    { .name = "smbus-base",
      .kind = MOBO_UINT,
      .def = "0x700",
      .min = 0x100,
      .max = 0xfff0,
      .help = "Ports of the SMBus controller, as firmware places them; a multiple of 16" },
    { .name = "pirq-a",
      .kind = MOBO_UINT,
      .def = "10",
      .max = 15,
      .help = "Line that PCI interrupt A is routed to, as firmware does" },
    { .name = "pirq-b", .kind = MOBO_UINT, .def = "10", .max = 15, .help = "The same for B" },
    { .name = "pirq-c", .kind = MOBO_UINT, .def = "11", .max = 15, .help = "The same for C" },
    { .name = "pirq-d", .kind = MOBO_UINT, .def = "11", .max = 15, .help = "The same for D" },
};

static const struct mobo_vdev_ops piix4_ops = {
    .size = sizeof(piix4_ops),
    .create = piix4_create,
    .destroy = piix4_destroy,
    .reset = piix4_reset,
    .save = piix4_save,
    .restore = piix4_restore,
    .inspect = piix4_inspect,
    .event = piix4_event,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "piix4",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "PIIX4: ISA bridge, interrupt routing, power management, reset",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .params = MOBO_ARRAY(piix4_params),
    .ops = &piix4_ops,
};
