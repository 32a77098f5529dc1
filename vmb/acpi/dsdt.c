/* SPDX-License-Identifier: BSD-2-Clause */
/* The DSDT: PCI root, interrupt routing, ISA devices, processors, sleep states.
 * Reference: ACPI Specification 6.5, chapters 5, 6 and 7; PCI Firmware Specification 3.0. */
#include <stdio.h>
#include <string.h>

#include "vmb/acpi/acpi.h"

enum { SPACE_PCI_CONFIG = 2 };

static void hid(struct aml *a, const char *name, const char *id)
{
    aml_name(a, name);
    aml_id(a, id);
}

/* ---- PCI interrupt links (ACPI 6.2.13) -------------------------------------------------------------- */

static unsigned link_irqs(const struct acpi_desc *d, uint32_t *ret)
{
    unsigned n = 0;

    for (uint32_t line = 0; line < 16; line++)
        if (d->links->irqs >> line & 1)
            ret[n++] = line;
    return n;
}

/* A link device on routing register @reg: bit 7 off, bits 3:0 the line. */
static void link_device(struct aml *a, const struct acpi_desc *d, unsigned i)
{
    char name[5], reg[24];
    uint32_t irqs[16], none = 0;
    struct res prs = { .len = 0 }, crs = { .len = 0 };
    unsigned n = link_irqs(d, irqs);

    snprintf(name, sizeof(name), "LNK%c", 'A' + i);
    snprintf(reg, sizeof(reg), "\\_SB.PCI0.ISA_.PRQ%c", 'A' + i);
    aml_device(a, name);
    hid(a, "_HID", "PNP0C0F");
    aml_name_int(a, "_UID", i);
    res_gsi(&prs, irqs, n, true, true);
    aml_name_res(a, "_PRS", &prs);

    aml_method(a, "_STA", 0, false); /* If (And (PRQx, 0x80)) Return (9); Return (0xb) */
    aml_if(a);
    aml_byte(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_byte(a, 0);
    aml_byte(a, AML_RETURN);
    aml_int(a, 0x09);
    aml_end(a);
    aml_byte(a, AML_RETURN);
    aml_int(a, 0x0b);
    aml_end(a);

    aml_method(a, "_DIS", 0, false); /* Or (PRQx, 0x80, PRQx) */
    aml_byte(a, AML_OR);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_path(a, reg);
    aml_end(a);

    /* _CRS: the template with the line of the register in its interrupt number, at byte 5 */
    res_gsi(&crs, &none, 1, true, true);
    aml_name_res(a, "BUF0", &crs);
    aml_method(a, "_CRS", 0, true);
    aml_byte(a, AML_CREATE_DWORD_FIELD);
    aml_path(a, "BUF0");
    aml_int(a, 5);
    aml_path(a, "IRQN");
    aml_if(a); /* If (LNot (And (PRQx, 0x80))) And (PRQx, 0xf, IRQN) */
    aml_byte(a, AML_LNOT);
    aml_byte(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 0x80);
    aml_byte(a, 0);
    aml_byte(a, AML_AND);
    aml_path(a, reg);
    aml_int(a, 0x0f);
    aml_path(a, "IRQN");
    aml_end(a);
    aml_byte(a, AML_RETURN);
    aml_path(a, "BUF0");
    aml_end(a);

    aml_method(a, "_SRS", 1, true); /* Store (the interrupt number, PRQx) */
    aml_byte(a, AML_CREATE_DWORD_FIELD);
    aml_byte(a, AML_ARG0);
    aml_int(a, 5);
    aml_path(a, "IRQW");
    aml_byte(a, AML_STORE);
    aml_path(a, "IRQW");
    aml_path(a, reg);
    aml_end(a);
    aml_end(a);
}

/* ACPI 6.2.13: slot, pin, link or 0, index or interrupt. */
static void prt(struct aml *a, const struct acpi_desc *d)
{
    aml_name(a, "_PRT");
    aml_package(a, 128);
    for (unsigned slot = 0; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            unsigned pirq = (slot + pin + 3) & 3;
            char name[5];

            aml_package(a, 4);
            aml_int(a, slot << 16 | 0xffff);
            aml_int(a, pin);
            if (d->links) {
                snprintf(name, sizeof(name), "LNK%c", 'A' + pirq);
                aml_path(a, name);
                aml_int(a, 0);
            } else {
                aml_int(a, 0);
                aml_int(a, 16 + pirq);
            }
            aml_end(a);
        }
    aml_end(a);
}

/* ---- ISA devices -------------------------------------------------------------------------------------- */

static void isa_device(struct aml *a, const struct mobo_acpi_isa *dev)
{
    char name[5], id[13];
    struct res crs = { .len = 0 };

    snprintf(name, sizeof(name), "%.4s", dev->name);
    aml_device(a, name);
    snprintf(id, sizeof(id), "%.12s", dev->hid);
    hid(a, "_HID", id);
    if (dev->cid[0]) {
        snprintf(id, sizeof(id), "%.12s", dev->cid);
        hid(a, "_CID", id);
    }
    if (dev->uid)
        aml_name_int(a, "_UID", dev->uid);
    aml_name_int(a, "_STA", 0x0f);
    for (unsigned i = 0; i < dev->nports && i < 6; i++)
        res_io(&crs, dev->port[i].base, dev->port[i].len);
    for (uint32_t line = 0; line < 32; line++) {
        if (!(dev->irqs >> line & 1))
            continue;
        if (line < 16 && !(dev->irq_flags & MOBO_IRQ_LEVEL))
            res_irq(&crs, line);
        else
            res_gsi(&crs, &line, 1, dev->irq_flags & MOBO_IRQ_LEVEL,
                    dev->irq_flags & MOBO_IRQ_SHARED);
    }
    if (dev->mem_len && dev->mem_base + dev->mem_len <= 0x100000000ull)
        res_mem32(&crs, (uint32_t)dev->mem_base, (uint32_t)dev->mem_len);
    aml_name_res(a, "_CRS", &crs);
    aml_end(a);
}

/* What belongs to the board itself, so that nobody else is placed there. */
static void board_resources(struct aml *a, const struct acpi_desc *d)
{
    struct res crs = { .len = 0 };

    aml_device(a, "MBRD");
    hid(a, "_HID", "PNP0C02");
    aml_name_int(a, "_UID", 0x10);
    for (unsigned i = 0; i < d->nioapic; i++)
        res_mem32(&crs, (uint32_t)d->ioapic[i]->base, 0x1000);
    res_mem32(&crs, 0xfee00000, 0x1000); /* local APICs */
    if (d->pm) {
        const struct mobo_acpi_pm *pm = d->pm;

        if (pm->pm1_event)
            res_io(&crs, pm->pm1_event, pm->pm1_event_len);
        if (pm->pm1_control)
            res_io(&crs, pm->pm1_control, pm->pm1_control_len);
        if (pm->pm_timer)
            res_io(&crs, pm->pm_timer, pm->pm_timer_len);
        if (pm->gpe0)
            res_io(&crs, pm->gpe0, pm->gpe0_len);
    }
    aml_name_res(a, "_CRS", &crs);
    aml_end(a);
}

static void isa_devices(struct aml *a, const struct acpi_desc *d)
{
    for (unsigned i = 0; i < d->nisa; i++)
        isa_device(a, d->isa[i]);
    board_resources(a, d);
}

/* ---- the root ------------------------------------------------------------------------------------------ */

static void pci_root(struct aml *a, const struct acpi_desc *d)
{
    struct res crs = { .len = 0 };
    uint16_t port = (uint16_t)d->root->config_port;

    aml_device(a, "PCI0");
    hid(a, "_HID", "PNP0A03");
    aml_name_int(a, "_UID", 0);
    res_bus_window(&crs, (uint16_t)d->root->bus, 0xff);
    res_io(&crs, port, 8);
    res_io_window(&crs, 0, (uint16_t)(port - 1));
    res_io_window(&crs, (uint16_t)(port + 8), 0xffff);
    res_mem_window(&crs, 0xa0000, 0xbffff);
    res_mem_window(&crs, d->mem_first, d->mem_last);
    aml_name_res(a, "_CRS", &crs);
    prt(a, d);
    if (d->links) {
        static const char *const regs[4] = { "PRQA", "PRQB", "PRQC", "PRQD" };

        aml_device(a, "ISA_");
        aml_name_int(a, "_ADR", d->links_slot << 16 | d->links_fn);
        aml_opregion(a, "PIRQ", SPACE_PCI_CONFIG, d->links->reg[0], 4);
        aml_byte_field(a, "PIRQ", regs, 4);
        isa_devices(a, d);
        aml_end(a);
    } else {
        isa_devices(a, d);
    }
    aml_end(a);
}

/* The VMBus root, and above it the module that owns its addresses. */
static void vmbus_devices(struct aml *a, const struct acpi_desc *d)
{
    struct res crs = { .len = 0 }, none = { .len = 0 };

    aml_device(a, "VMOD");
    aml_name(a, "_HID");
    aml_str(a, "VMOD");
    aml_name_int(a, "_UID", 0);
    res_mem_window(&crs, (uint32_t)d->vmbus_base, (uint32_t)(d->vmbus_base + d->vmbus_len - 1));
    aml_name_res(a, "_CRS", &crs);
    aml_device(a, "VMBS");
    aml_name(a, "_HID");
    aml_str(a, "VMBus");
    aml_name_int(a, "_UID", 0);
    aml_name_res(a, "_CRS", &none); /* without one Linux does not ask for VMOD's either */
    aml_end(a);
    aml_end(a);
}

static void sleep_state(struct aml *a, const char *name, unsigned type)
{
    aml_name(a, name); /* ACPI 7.4.2 */
    aml_package(a, 4);
    aml_int(a, type);
    aml_int(a, type);
    aml_int(a, 0);
    aml_int(a, 0);
    aml_end(a);
}

void acpi_dsdt(struct aml *a, const struct acpi_desc *d)
{
    aml_scope(a, "\\_SB");
    for (unsigned i = 0; i < d->vps; i++) {
        char name[5];

        snprintf(name, sizeof(name), "CP%02X", i & 0xff);
        aml_device(a, name);
        aml_name(a, "_HID");
        aml_str(a, "ACPI0007");
        aml_name_int(a, "_UID", i);
        aml_end(a);
    }
    /* before _PRT, which names them */
    for (unsigned i = 0; i < 4 && d->root && d->links; i++)
        link_device(a, d, i);
    if (d->root)
        pci_root(a, d);
    else
        isa_devices(a, d);
    if (d->vmbus_len)
        vmbus_devices(a, d);
    aml_end(a);
    if (d->pm && d->pm->s3_type != 0xff)
        sleep_state(a, "\\_S3", d->pm->s3_type);
    if (d->pm && d->pm->s5_type != 0xff)
        sleep_state(a, "\\_S5", d->pm->s5_type);
}
