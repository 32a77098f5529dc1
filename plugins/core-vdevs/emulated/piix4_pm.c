/* SPDX-License-Identifier: BSD-2-Clause */
/* Function 3 of the PIIX4: power management (ACPI fixed hardware) and an SMBus without devices.
 * References: PIIX4 chapter 7 (as in piix4.c); "Advanced Configuration and Power Interface", 6.4,
 * chapter 4.8, cited as ACPI.  Sleep states other than soft-off are not offered. */
#include "piix4.h"

#include <errno.h>
#include <string.h>

/* Configuration space, PIIX4 7.1. */
enum {
    CFG_COMMAND = 0x04,
    CFG_PMBASE = 0x40,
    CFG_PMREGMISC = 0x80,
    CFG_SMBBA = 0x90,
    CFG_SMBHSTCFG = 0xd2,
    CMD_IO = 0x01,
    PMIOSE = 0x01,
    SMB_HST_EN = 0x01
};

/* Ports, PIIX4 7.2. */
enum {
    PMSTS = 0x00,
    PMEN = 0x02,
    PMCNTRL = 0x04,
    PMTMR = 0x08,
    GPSTS = 0x0c,
    GPEN = 0x0e,
    PCNTRL = 0x10,
    PLVL2 = 0x14,
    PLVL3 = 0x15,
    GLBSTS = 0x18,
    DEVSTS = 0x1c,
    GLBEN = 0x20,
    GLBCTL = 0x28,
    DEVCTL = 0x2c,
    GPIREG = 0x30,
    GPOREG = 0x34
};
enum {
    TMROF = 0x0001,
    BM_STS = 0x0010,
    GBL = 0x0020,
    PWRBTN = 0x0100,
    RTC = 0x0400,
    RSM_STS = 0x8000,
    STS_MASK = TMROF | BM_STS | GBL | PWRBTN | RTC | RSM_STS,
    EN_MASK = TMROF | GBL | PWRBTN | RTC,
    GP_MASK = 0x0f01
};
enum { SCI_EN = 0x0001, SUS_TYP = 0x1c00, SUS_EN = 0x2000, CNTRL_MASK = 0x1c03 };
enum { SUS_SOFT_OFF = 0 };

/* The ACPI timer: 315/88 MHz, 24 bits; it overflows when bit 23 changes (ACPI 4.8.2.1). */
enum { TIMER_MASK = 0xffffff, TIMER_HALF = 1 << 23 };

/* SMBus, PIIX4 7.3. */
enum {
    SMBHSTSTS = 0,
    SMBSLVSTS = 1,
    SMBHSTCNT = 2,
    HST_INTR = 0x02,
    HST_DEV_ERR = 0x04,
    HST_W1C = 0x1e,
    HST_START = 0x40
};

static uint64_t to_count(uint64_t ns)
{
    return ns / 88000 * 315 + ns % 88000 * 315 / 88000;
}

static uint64_t to_ns(uint64_t count) /* rounded up */
{
    return count / 315 * 88000 + (count % 315 * 88000 + 314) / 315;
}

static unsigned get16(const struct piix4 *p, unsigned off)
{
    return p->s.pm[off] | (unsigned)p->s.pm[off + 1] << 8;
}

static void put16(struct piix4 *p, unsigned off, unsigned val)
{
    p->s.pm[off] = (uint8_t)val;
    p->s.pm[off + 1] = (uint8_t)(val >> 8);
}

static void catch_up(struct piix4 *p)
{
    uint64_t count = to_count(p->host->clock_ns(p->dev));

    if (count / TIMER_HALF > p->s.timer_checked / TIMER_HALF)
        put16(p, PMSTS, get16(p, PMSTS) | TMROF);
    if (count > p->s.timer_checked)
        p->s.timer_checked = count;
}

/* SCI is a function of the state; the timer is armed while its overflow would raise it. */
static void update_sci(struct piix4 *p)
{
    unsigned sts = get16(p, PMSTS), en = get16(p, PMEN);
    int acpi = (p->s.pm[PMCNTRL] & SCI_EN) != 0;

    p->host->irq_set(p->sci, acpi && ((sts & en & EN_MASK) || (get16(p, GPSTS) & get16(p, GPEN))));
    if (acpi && (en & TMROF) && !(sts & TMROF))
        p->host->timer_set(p->timer, to_ns((p->s.timer_checked / TIMER_HALF + 1) * TIMER_HALF));
    else
        p->host->timer_cancel(p->timer);
}

static void timer_fired(void *self, uint64_t now)
{
    struct piix4 *p = self;

    (void)now;
    catch_up(p);
    update_sci(p);
}

void piix4_pm_mode(struct piix4 *p, int acpi)
{
    p->s.pm[PMCNTRL] = (uint8_t)(acpi ? p->s.pm[PMCNTRL] | SCI_EN : p->s.pm[PMCNTRL] & ~SCI_EN);
    update_sci(p);
}

/* ACPI 4.8.2.2.1.  In legacy mode firmware would act; there is none, so the press is only noted. */
void piix4_pm_button(struct piix4 *p)
{
    put16(p, PMSTS, get16(p, PMSTS) | PWRBTN);
    if (!(p->s.pm[PMCNTRL] & SCI_EN))
        p->host->log(p->dev, MOBO_WARNING,
                     "power button: the guest has not switched ACPI on and will not notice");
    update_sci(p);
}

/* ---- power management ports -------------------------------------------------------------------- */

static uint64_t pm_read(void *self, uint64_t off, uint32_t len)
{
    struct piix4 *p = self;
    uint64_t val = 0;

    catch_up(p);
    if (off >= PMTMR && off < PMTMR + 4)
        return (p->s.timer_checked & TIMER_MASK) >> (off - PMTMR) * 8;
    for (uint32_t i = 0; i < len; i++)
        val |= (uint64_t)p->s.pm[off + i] << i * 8;
    MOBO_TRACE(p->host, p->dev, p->trace, "pm 0x%02x read 0x%x", (unsigned)off, (unsigned)val);
    return val;
}

static void sleep_request(struct piix4 *p, unsigned cntrl)
{
    unsigned type = (cntrl & SUS_TYP) >> 10;

    if (type == SUS_SOFT_OFF)
        p->host->system_request(p->dev, MOBO_SYS_POWEROFF, 0, "ACPI soft-off");
    else if (!p->warned++)
        p->host->log(p->dev, MOBO_WARNING, "guest asks for sleep type %u, which is not offered",
                     type);
}

/* Writable bits of what is plain storage. */
static uint8_t plain_mask(unsigned off)
{
    if (off >= PCNTRL && off < PCNTRL + 4)
        return off == PCNTRL + 2 ? 0x26 : off == PCNTRL + 3 ? 0 : off == PCNTRL ? 0x1e : 0x3e;
    if ((off >= GLBEN && off < GLBEN + 2) || (off >= GLBCTL && off < GLBCTL + 4) ||
        (off >= DEVCTL && off < DEVCTL + 4) || (off >= GPOREG && off < GPOREG + 4))
        return 0xff;
    return 0;
}

static void pm_write_byte(struct piix4 *p, unsigned off, uint8_t val)
{
    uint8_t *reg = &p->s.pm[off], mask;
    unsigned shift = (off & 1) * 8;

    switch (off & ~1u) {
    case PMSTS: *reg &= (uint8_t) ~(val & STS_MASK >> shift); break;
    case PMEN: *reg = val & (uint8_t)(EN_MASK >> shift); break;
    case GPSTS: *reg &= (uint8_t) ~(val & GP_MASK >> shift); break;
    case GPEN: *reg = val & (uint8_t)(GP_MASK >> shift); break;
    case PMCNTRL:
        *reg = val & (uint8_t)(CNTRL_MASK >> shift);
        if (off == PMCNTRL + 1 && (val & SUS_EN >> 8))
            sleep_request(p, (unsigned)val << 8);
        break;
    default: mask = plain_mask(off); *reg = (uint8_t)((*reg & ~mask) | (val & mask));
    }
}

static void pm_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct piix4 *p = self;

    MOBO_TRACE(p->host, p->dev, p->trace, "pm 0x%02x write 0x%x", (unsigned)off, (unsigned)val);
    catch_up(p);
    for (uint32_t i = 0; i < len; i++)
        pm_write_byte(p, (unsigned)off + i, (uint8_t)(val >> i * 8));
    update_sci(p);
}

/* ---- SMBus: every transaction finds nobody there ----------------------------------------------- */

static uint64_t smb_read(void *self, uint64_t off, uint32_t len)
{
    struct piix4 *p = self;

    (void)len;
    return p->s.smb[off];
}

static void smb_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct piix4 *p = self;

    (void)len;
    switch (off) {
    case SMBHSTSTS: p->s.smb[off] &= (uint8_t) ~(val & HST_W1C); break;
    case SMBSLVSTS: break;
    case SMBHSTCNT:
        p->s.smb[off] = (uint8_t)val & (uint8_t)~HST_START & 0x1d;
        if (val & HST_START)
            p->s.smb[SMBHSTSTS] |= HST_DEV_ERR;
        break;
    default: p->s.smb[off] = (uint8_t)val;
    }
}

/* ---- configuration ----------------------------------------------------------------------------- */

static void decode(struct piix4 *p)
{
    p->host->region_enable(p->pm_ports, 0);
    p->host->region_enable(p->smb_ports, 0);
    if (p->s.pm_on && p->s.pm_base && !p->host->region_move(p->pm_ports, p->s.pm_base))
        p->host->region_enable(p->pm_ports, 1);
    if (p->s.smb_on && p->s.smb_base && !p->host->region_move(p->smb_ports, p->s.smb_base))
        p->host->region_enable(p->smb_ports, 1);
}

static void fetch_config(struct piix4 *p)
{
    const struct mobo_host *h = p->host;

    p->s.pm_base = (uint16_t)h->pci_config_get(p->pm, CFG_PMBASE, 2) & 0xffc0;
    p->s.pm_on = h->pci_config_get(p->pm, CFG_PMREGMISC, 1) & PMIOSE;
    p->s.smb_base = (uint16_t)h->pci_config_get(p->pm, CFG_SMBBA, 2) & 0xfff0;
    p->s.smb_on = (h->pci_config_get(p->pm, CFG_SMBHSTCFG, 1) & SMB_HST_EN) &&
                  (h->pci_config_get(p->pm, CFG_COMMAND, 1) & CMD_IO);
    decode(p);
}

static void pm_config_written(void *self, uint32_t off, uint32_t len)
{
    (void)off;
    (void)len;
    fetch_config(self);
}

/* ---- life -------------------------------------------------------------------------------------- */

void piix4_pm_reset(struct piix4 *p)
{
    static const uint8_t gpo[4] = { 0xff, 0xbf, 0xff, 0x7f }; /* PIIX4 7.2.16 */

    memcpy(&p->s.pm[GPOREG], gpo, sizeof(gpo));
    memset(&p->s.pm[GPIREG], 0xff, 3);
    p->s.timer_checked = to_count(p->host->clock_ns(p->dev));
    fetch_config(p);
    update_sci(p);
}

int piix4_pm_check(struct piix4 *p, const struct piix4_state *s)
{
    unsigned sts = s->pm[PMSTS] | (unsigned)s->pm[PMSTS + 1] << 8;
    unsigned en = s->pm[PMEN] | (unsigned)s->pm[PMEN + 1] << 8;

    if ((s->pm_base & 63) || (s->smb_base & 15) || s->pm_on > 1 || s->smb_on > 1 ||
        (sts & ~(unsigned)STS_MASK) || (en & ~(unsigned)EN_MASK))
        return p->host->fail(p->dev, -EINVAL, "saved power management: impossible bits");
    if (s->timer_checked > to_count(INT64_MAX))
        return p->host->fail(p->dev, -EINVAL, "saved timer: out of range");
    return 0;
}

void piix4_pm_restored(struct piix4 *p)
{
    decode(p);
    update_sci(p);
}

static int pm_registers(struct piix4 *p, uint32_t pm_base, uint32_t smb_base)
{
    const struct mobo_host *h = p->host;
    int on = p->direct_boot, err;

    /* as firmware leaves them on a direct boot, else PIIX4 7.1: off */
    if ((err = h->pci_config_init(p->pm, CFG_COMMAND, 2, on ? CMD_IO : 0, CMD_IO, 0)) ||
        (err = h->pci_config_init(p->pm, 0x06, 2, 0x0280, 0, 0)) ||
        (err = h->pci_config_init(p->pm, CFG_PMBASE, 4, on ? pm_base | 1 : 1, 0xffc0, 0)) ||
        (err = h->pci_config_init(p->pm, 0x44, 4, 0, 0xffffffff, 0)) || /* CNTA */
        (err = h->pci_config_init(p->pm, 0x48, 4, 0, 0xffffffff, 0)) || /* CNTB */
        (err = h->pci_config_init(p->pm, 0x4c, 4, 0, 0xffffffff, 0)) || /* GPICTL */
        (err = h->pci_config_init(p->pm, 0x58, 4, 0, 0xffffffff, 0)) || /* DEVACTB */
        (err = h->pci_config_init(p->pm, CFG_PMREGMISC, 1, on ? PMIOSE : 0, PMIOSE, 0)) ||
        (err = h->pci_config_init(p->pm, CFG_SMBBA, 4, on ? smb_base | 1 : 1, 0xfff0, 0)) ||
        (err = h->pci_config_init(p->pm, CFG_SMBHSTCFG, 1, on ? SMB_HST_EN : 0, 0x0f, 0)) ||
        (err = h->pci_config_init(p->pm, 0x3c, 1, on ? 9 : 0, 0xff, 0)))
        return err;
    return 0;
}

int piix4_pm_create(struct piix4 *p)
{
    static const struct mobo_io_ops pm_ops = { sizeof(pm_ops), MOBO_W8 | MOBO_W16 | MOBO_W32,
                                               pm_read, pm_write };
    static const struct mobo_io_ops smb_ops = { sizeof(smb_ops), MOBO_W8, smb_read, smb_write };
    static const struct mobo_pci_ops pci_ops = { sizeof(pci_ops), 0, NULL, pm_config_written };
    struct mobo_pci_info info = { .size = sizeof(info),
                                  .vendor = 0x8086,
                                  .device = 0x7113,
                                  .class_code = 0x068000,
                                  .revision = 3,
                                  .function = 3,
                                  .slot = p->slot };
    const struct mobo_host *h = p->host;
    uint32_t pm_base = (uint32_t)h->param_uint(p->dev, "pm-base");
    uint32_t smb_base = (uint32_t)h->param_uint(p->dev, "smbus-base");
    struct mobo_acpi_pm desc = {
        .head = { sizeof(desc), MOBO_ACPI_PM },
        .pm1_event = (uint16_t)(pm_base + PMSTS),
        .pm1_event_len = 4,
        .pm1_control = (uint16_t)(pm_base + PMCNTRL),
        .pm1_control_len = 2,
        .pm_timer = (uint16_t)(pm_base + PMTMR),
        .pm_timer_len = 4,
        .gpe0 = (uint16_t)(pm_base + GPSTS),
        .gpe0_len = 4,
        .smi_command = 0xb2,
        .acpi_enable = APM_ACPI_ENABLE,
        .acpi_disable = APM_ACPI_DISABLE,
        .reset_port = 0xcf9,
        .reset_value = 0x06,
        .sci_line = 9,
        .s5_type = SUS_SOFT_OFF,
        .s3_type = 0xff,
        .power_button = 1,
    };
    int err;

    if (pm_base % PM_LEN)
        return h->fail(p->dev, -EINVAL, "pm-base: 0x%x is not a multiple of 64", pm_base);
    if (smb_base % SMB_LEN)
        return h->fail(p->dev, -EINVAL, "smbus-base: 0x%x is not a multiple of 16", smb_base);
    if ((err = h->pci_add(p->dev, &info, &pci_ops, p, &p->pm)) ||
        (err = pm_registers(p, pm_base, smb_base)) ||
        (err = h->pio_add(p->dev, "power-management", pm_base, PM_LEN, MOBO_REGION_DISABLED,
                          &pm_ops, p, &p->pm_ports)) ||
        (err = h->pio_add(p->dev, "smbus", smb_base, SMB_LEN, MOBO_REGION_DISABLED, &smb_ops, p,
                          &p->smb_ports)) ||
        (err = h->irq_claim(p->dev, 9, MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED, &p->sci)) ||
        (err = h->timer_create(p->dev, timer_fired, p, &p->timer)) ||
        (err = h->acpi_add(p->dev, &desc.head)))
        return err;
    return 0;
}
