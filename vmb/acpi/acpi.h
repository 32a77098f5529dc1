/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables from a plain description, without the board: so that tests can build them. */
#ifndef VMB_ACPI_ACPI_H
#define VMB_ACPI_ACPI_H

#include <mobo/vdev.h>
#include <stdbool.h>

#include "vmb/acpi/aml.h"

enum { ACPI_MAX_ISA = 64, ACPI_MAX_IOAPIC = 8 };

struct acpi_desc {
    unsigned vps;
    const struct mobo_acpi_ioapic *ioapic[ACPI_MAX_IOAPIC];
    unsigned nioapic;
    const struct mobo_acpi_isa *isa[ACPI_MAX_ISA];
    unsigned nisa;
    const struct mobo_acpi_pm *pm;
    const struct mobo_acpi_hpet *hpet;
    const struct mobo_acpi_pci_root *root;
    const struct mobo_acpi_pci_links *links;
    unsigned links_slot, links_fn; /* where links->bridge sits */
    uint32_t legacy;               /* MOBO_ACPI_HAS_... */
    uint32_t rtc_century;
    uint32_t mem_first, mem_last; /* PCI memory window */
    uint64_t vmbus_base, vmbus_len; /* addresses of the VMBus module, length 0: none */
};

/** The body of the DSDT, without header. */
void acpi_dsdt(struct aml *a, const struct acpi_desc *d);
/** All tables for guest address @base, the RSDP first.
 * @return bytes used of @buf, 0 when they do not fit. */
size_t acpi_build(const struct acpi_desc *d, uint64_t base, uint8_t *buf, size_t len);

#endif
