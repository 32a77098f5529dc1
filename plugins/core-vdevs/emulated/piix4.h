/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two functions of the PIIX4 device share; see piix4.c. */
#ifndef PIIX4_H
#define PIIX4_H

#include <mobo/vdev.h>

enum { PM_LEN = 64, SMB_LEN = 16 };
/* Values for the SMI command port. */
enum { APM_ACPI_ENABLE = 0xf1, APM_ACPI_DISABLE = 0xf0 };

struct piix4_state {
    uint8_t pirq[4]; /* PIRQRC; a copy of what configuration space has */
    uint8_t rc, port92, apm[2];
    uint8_t a20_said; /* the guest has written port 0x92 since reset */
    /* power management */
    uint16_t pm_base, smb_base;
    uint8_t pm_on, smb_on; /* whether the ports decode */
    uint8_t pm[PM_LEN];    /* registers by offset; the timer is computed */
    uint8_t smb[SMB_LEN];
    uint64_t timer_checked; /* timer count up to which TMROF_STS is right */
};

struct piix4 {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_pci_t isa, pm;
    mobo_region_t pm_ports, smb_ports;
    mobo_irq_t sci;
    mobo_timer_t timer;
    int32_t slot;
    uint8_t direct_boot, warned;
    struct piix4_state s; /* guarded by the vdev lock */
};

int piix4_pm_create(struct piix4 *p);
void piix4_pm_reset(struct piix4 *p);
void piix4_pm_mode(struct piix4 *p, int acpi);
void piix4_pm_button(struct piix4 *p);
/** @return 0, or an error with its message set. */
int piix4_pm_check(struct piix4 *p, const struct piix4_state *s);
void piix4_pm_restored(struct piix4 *p);

#endif
