/* SPDX-License-Identifier: BSD-2-Clause */
/* RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, from what is plugged in.
 * Reference: ACPI Specification 6.5, section 5.2, cited as ACPI; IA-PC HPET Specification 1.0a,
 * section 3.2.4. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/acpi/acpi.h"
#include "vmb/board.h"

#define ACPI_AREA 0xe0000ull /* firmware's address range, where guests look for the RSDP */
enum { ACPI_AREA_LEN = 0x20000, HEAD = 36, RSDP_LEN = 36, FADT_LEN = 268 };

struct out {
    uint8_t *buf;
    size_t len, max;
    uint64_t base;
    bool full;
};

static void put(uint8_t *p, uint64_t v, unsigned len)
{
    while (len--) {
        *p++ = (uint8_t)v;
        v >>= 8;
    }
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* @len zeroed bytes, aligned; NULL when full. */
static uint8_t *alloc(struct out *o, size_t len, size_t align, uint64_t *ret_gpa)
{
    size_t at = (o->len + align - 1) & ~(align - 1);

    if (o->full || at > o->max || len > o->max - at) {
        o->full = true;
        return NULL;
    }
    memset(o->buf + o->len, 0, at + len - o->len);
    o->len = at + len;
    *ret_gpa = o->base + at;
    return o->buf + at;
}

/* ACPI 5.2.6, the header all tables have; fill the rest, then close(). */
static uint8_t *table(struct out *o, const char *sig, unsigned revision, size_t len,
                      uint64_t *ret_gpa)
{
    uint8_t *t = alloc(o, len, 16, ret_gpa);

    if (!t)
        return NULL;
    memcpy(t, sig, 4);
    put(t + 4, len, 4);
    t[8] = (uint8_t)revision;
    memcpy(t + 10, "MOBO  ", 6);
    memcpy(t + 16, "MOBOVMM ", 8);
    put(t + 24, 1, 4);
    memcpy(t + 28, "MOBO", 4);
    put(t + 32, 1, 4);
    return t;
}

static void close_table(uint8_t *t, size_t len)
{
    t[9] = 0;
    t[9] = checksum(t, len);
}

/* ---- FADT and FACS (ACPI 5.2.9, 5.2.10) --------------------------------------------------------------- */

/* A generic address in port space. */
static void gas(uint8_t *p, uint16_t port, unsigned bytes)
{
    if (!port)
        return;
    p[0] = 1;
    p[1] = (uint8_t)(bytes * 8);
    p[3] = bytes == 4 ? 3 : bytes == 2 ? 2 : bytes == 1 ? 1 : 0;
    put(p + 4, port, 8);
}

static uint64_t fadt(struct out *o, const struct acpi_desc *d, uint64_t facs, uint64_t dsdt)
{
    enum {
        WBINVD = 1,
        PROC_C1 = 4,
        NO_PWR_BUTTON = 0x10,
        NO_SLP_BUTTON = 0x20,
        NO_FIX_RTC = 0x40,
        TMR_EXT = 0x100,
        RESET = 0x400,
        HW_REDUCED = 0x100000
    };
    enum { LEGACY = 1, HAS_8042 = 2, NO_VGA = 4, NO_RTC = 0x20 };
    static const struct mobo_acpi_pm none = { .s5_type = 0xff, .s3_type = 0xff };
    const struct mobo_acpi_pm *pm = d->pm ? d->pm : &none;
    uint32_t flags = WBINVD | PROC_C1 | NO_SLP_BUTTON | NO_FIX_RTC;
    uint32_t arch = LEGACY;
    uint64_t gpa = 0;
    uint8_t *t = table(o, "FACP", 5, FADT_LEN, &gpa);

    if (!t)
        return 0;
    put(t + 36, facs, 4);
    put(t + 40, dsdt, 4);
    put(t + 46, pm->sci_line, 2);
    put(t + 48, pm->smi_command, 4);
    t[52] = pm->acpi_enable;
    t[53] = pm->acpi_disable;
    put(t + 56, pm->pm1_event, 4);
    put(t + 64, pm->pm1_control, 4);
    put(t + 76, pm->pm_timer, 4);
    put(t + 80, pm->gpe0, 4);
    t[88] = pm->pm1_event ? (uint8_t)pm->pm1_event_len : 0;
    t[89] = pm->pm1_control ? (uint8_t)pm->pm1_control_len : 0;
    t[91] = pm->pm_timer ? (uint8_t)pm->pm_timer_len : 0;
    t[92] = pm->gpe0 ? (uint8_t)pm->gpe0_len : 0;
    put(t + 96, 0xfff, 2); /* no C2, no C3 */
    put(t + 98, 0xfff, 2);
    t[108] = (uint8_t)d->rtc_century;
    if (d->legacy & MOBO_ACPI_HAS_8042)
        arch |= HAS_8042;
    if (!(d->legacy & MOBO_ACPI_HAS_VGA))
        arch |= NO_VGA;
    if (!(d->legacy & MOBO_ACPI_HAS_RTC))
        arch |= NO_RTC;
    put(t + 109, arch, 2);
    if (!pm->power_button)
        flags |= NO_PWR_BUTTON;
    if (pm->pm_timer_32bit)
        flags |= TMR_EXT;
    if (pm->reset_port) {
        flags |= RESET;
        gas(t + 116, pm->reset_port, 1);
        t[128] = pm->reset_value;
    }
    if (!d->pm)
        flags |= HW_REDUCED;
    put(t + 112, flags, 4);
    t[131] = 1; /* 5.1 */
    put(t + 140, dsdt, 8);
    gas(t + 148, pm->pm1_event, pm->pm1_event_len);
    gas(t + 172, pm->pm1_control, pm->pm1_control_len);
    gas(t + 208, pm->pm_timer, pm->pm_timer_len);
    gas(t + 220, pm->gpe0, pm->gpe0_len);
    close_table(t, FADT_LEN);
    return gpa;
}

static uint64_t facs(struct out *o)
{
    uint64_t gpa = 0;
    uint8_t *t = alloc(o, 64, 64, &gpa);

    if (!t)
        return 0;
    memcpy(t, "FACS", 4);
    put(t + 4, 64, 4);
    t[32] = 2;
    return gpa;
}

/* ---- MADT (ACPI 5.2.12) --------------------------------------------------------------------------------- */

static size_t madt_override(uint8_t *p, unsigned line, uint32_t gsi, bool level)
{
    p[0] = 2;
    p[1] = 10;
    p[3] = (uint8_t)line;
    put(p + 4, gsi, 4);
    put(p + 8, level ? 0x0d : 0, 2); /* active high, level; or as the bus has it */
    return 10;
}

static uint64_t madt(struct out *o, const struct acpi_desc *d)
{
    uint8_t body[HV_MAX_VPS * 8 + ACPI_MAX_IOAPIC * 12 + 17 * 10 + 6], *p = body, *t;
    uint32_t levels = d->links ? d->links->irqs : 0;
    uint64_t gpa = 0;
    size_t len;

    memset(body, 0, sizeof(body));
    for (unsigned i = 0; i < d->vps; i++, p += 8) {
        p[1] = 8;
        p[2] = p[3] = (uint8_t)i; /* ACPI processor UID, APIC ID */
        p[4] = 1;                 /* enabled */
    }
    for (unsigned i = 0; i < d->nioapic; i++, p += 12) {
        p[0] = 1;
        p[1] = 12;
        p[2] = (uint8_t)d->ioapic[i]->id;
        put(p + 4, d->ioapic[i]->base, 4);
        put(p + 8, d->ioapic[i]->first_gsi, 4);
    }
    if (d->pm && d->pm->sci_line < 16)
        levels |= 1u << d->pm->sci_line;
    if (d->nioapic) {
        if (d->ioapic[0]->isa_line0_gsi)
            p += madt_override(p, 0, d->ioapic[0]->isa_line0_gsi, false);
        for (unsigned line = 1; line < 16; line++)
            if (levels >> line & 1)
                p += madt_override(p, line, line, true);
    }
    p[0] = 4; /* NMI on LINT1 of all */
    p[1] = 6;
    p[2] = 0xff;
    p[5] = 1;
    p += 6;
    len = HEAD + 8 + (size_t)(p - body);
    t = table(o, "APIC", 4, len, &gpa);
    if (!t)
        return 0;
    put(t + 36, 0xfee00000, 4);
    put(t + 40, d->legacy & MOBO_ACPI_HAS_8259 ? 1 : 0, 4);
    memcpy(t + 44, body, (size_t)(p - body));
    close_table(t, len);
    return gpa;
}

static uint64_t hpet(struct out *o, const struct acpi_desc *d)
{
    uint64_t gpa = 0;
    uint8_t *t = table(o, "HPET", 1, 56, &gpa);

    if (!t)
        return 0;
    put(t + 36, d->hpet->event_timer_block_id, 4);
    t[41] = 64; /* memory space, 64 bits */
    put(t + 44, d->hpet->base, 8);
    put(t + 53, d->hpet->min_tick, 2);
    close_table(t, 56);
    return gpa;
}

/* ---- all ------------------------------------------------------------------------------------------------ */

size_t acpi_build(const struct acpi_desc *d, uint64_t base, uint8_t *buf, size_t max)
{
    struct out o = { buf, 0, max, base, false };
    uint64_t gpa = 0, list[4], dsdt_gpa = 0;
    unsigned n = 0;
    struct aml a;
    uint8_t *rsdp = alloc(&o, RSDP_LEN, 16, &gpa), *t;
    uint64_t rsdt_gpa = 0, xsdt_gpa = 0;

    aml_init(&a);
    acpi_dsdt(&a, d);
    t = a.failed ? NULL : table(&o, "DSDT", 2, HEAD + a.len, &dsdt_gpa);
    if (t) {
        memcpy(t + HEAD, a.buf, a.len);
        close_table(t, HEAD + a.len);
    }
    aml_fini(&a);
    if (!t || !rsdp)
        return 0;
    uint64_t facs_gpa = facs(&o);
    list[n++] = fadt(&o, d, d->pm ? facs_gpa : 0, dsdt_gpa);
    list[n++] = madt(&o, d);
    if (d->hpet)
        list[n++] = hpet(&o, d);
    t = table(&o, "RSDT", 1, HEAD + 4 * n, &rsdt_gpa);
    for (unsigned i = 0; t && i < n; i++)
        put(t + HEAD + 4 * i, list[i], 4);
    if (t)
        close_table(t, HEAD + 4 * n);
    t = table(&o, "XSDT", 1, HEAD + 8 * n, &xsdt_gpa);
    for (unsigned i = 0; t && i < n; i++)
        put(t + HEAD + 8 * i, list[i], 8);
    if (t)
        close_table(t, HEAD + 8 * n);
    if (o.full)
        return 0;
    memcpy(rsdp, "RSD PTR ", 8); /* ACPI 5.2.5.3 */
    memcpy(rsdp + 9, "MOBO  ", 6);
    rsdp[15] = 2;
    put(rsdp + 16, rsdt_gpa, 4);
    put(rsdp + 20, RSDP_LEN, 4);
    put(rsdp + 24, xsdt_gpa, 8);
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, RSDP_LEN);
    return o.len;
}

/* ---- the board's side ------------------------------------------------------------------------------------ */

static const size_t item_size[] = {
    [MOBO_ACPI_IOAPIC] = sizeof(struct mobo_acpi_ioapic),
    [MOBO_ACPI_PM] = sizeof(struct mobo_acpi_pm),
    [MOBO_ACPI_HPET] = sizeof(struct mobo_acpi_hpet),
    [MOBO_ACPI_ISA] = sizeof(struct mobo_acpi_isa),
    [MOBO_ACPI_LEGACY] = sizeof(struct mobo_acpi_legacy),
    [MOBO_ACPI_PCI_ROOT] = sizeof(struct mobo_acpi_pci_root),
    [MOBO_ACPI_PCI_LINKS] = sizeof(struct mobo_acpi_pci_links),
};

int acpi_add(struct mobo_vdev *dev, const struct mobo_acpi *desc)
{
    struct acpi_item *it, **tail;
    unsigned same = 0, max;

    if (vdev_creating(dev, "acpi_add"))
        return -EPERM;
    if (desc->kind < MOBO_ACPI_IOAPIC || desc->kind >= COUNT(item_size) ||
        desc->size < item_size[desc->kind])
        return vdev_fail(dev, -EINVAL, "bad ACPI description of kind %u", desc->kind);
    max = desc->kind == MOBO_ACPI_ISA      ? ACPI_MAX_ISA
          : desc->kind == MOBO_ACPI_IOAPIC ? ACPI_MAX_IOAPIC
          : desc->kind == MOBO_ACPI_LEGACY ? 64
                                           : 1;
    for (tail = &dev->board->acpi; *tail; tail = &(*tail)->next)
        if ((*tail)->u.head.kind == desc->kind) {
            if (desc->kind == MOBO_ACPI_ISA &&
                !memcmp((*tail)->u.isa.name, ((const struct mobo_acpi_isa *)desc)->name, 4))
                return vdev_fail(dev, -EBUSY, "ACPI: name %.4s is taken by '%s'",
                                 (*tail)->u.isa.name, (*tail)->dev->name);
            if (++same == max)
                return vdev_fail(dev, -EBUSY, "ACPI: '%s' and others describe that already",
                                 (*tail)->dev->name);
        }
    it = calloc(1, sizeof(*it));
    if (!it)
        return vdev_fail(dev, -ENOMEM, "ACPI: no memory");
    memcpy(&it->u, desc, item_size[desc->kind]);
    it->dev = dev;
    *tail = it;
    return 0;
}

static void collect(struct vmb *v, struct acpi_desc *d)
{
    memset(d, 0, sizeof(*d));
    d->vps = v->vps;
    d->mem_first = (uint32_t)VMB_PCI_HOLE;
    d->mem_last = (uint32_t)VMB_PCI_END - 1;
    if (v->bus) {
        d->mem_last = (uint32_t)VMB_VMBUS_MMIO - 1;
        d->vmbus_base = VMB_VMBUS_MMIO;
        d->vmbus_len = VMB_VMBUS_MMIO_LEN;
    }
    for (struct acpi_item *it = v->acpi; it; it = it->next)
        switch (it->u.head.kind) {
        case MOBO_ACPI_IOAPIC: d->ioapic[d->nioapic++] = &it->u.ioapic; break;
        case MOBO_ACPI_PM: d->pm = &it->u.pm; break;
        case MOBO_ACPI_HPET: d->hpet = &it->u.hpet; break;
        case MOBO_ACPI_ISA: d->isa[d->nisa++] = &it->u.isa; break;
        case MOBO_ACPI_PCI_ROOT: d->root = &it->u.root; break;
        case MOBO_ACPI_LEGACY:
            d->legacy |= it->u.legacy.flags;
            if (it->u.legacy.flags & MOBO_ACPI_HAS_RTC)
                d->rtc_century = it->u.legacy.rtc_century;
            break;
        case MOBO_ACPI_PCI_LINKS:
            d->links = &it->u.links;
            if (d->links->bridge) {
                d->links_slot = d->links->bridge->slot;
                d->links_fn = d->links->bridge->fn;
            }
            break;
        }
}

int acpi_write(struct vmb *v)
{
    struct acpi_desc d;
    uint8_t *buf;
    size_t len;
    int err;

    v->rsdp = 0;
    if (!v->acpi)
        return 0;
    collect(v, &d);
    buf = malloc(ACPI_AREA_LEN);
    if (!buf)
        return -ENOMEM;
    len = acpi_build(&d, ACPI_AREA, buf, ACPI_AREA_LEN);
    err = len ? hv_gpa_write(v->part, ACPI_AREA, buf, len) : -ENOSPC;
    free(buf);
    if (!err)
        v->rsdp = ACPI_AREA;
    return err;
}
