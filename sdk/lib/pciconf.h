/* SPDX-License-Identifier: MIT */
/* The configuration space of one PCI function: type 0 header, BARs, capabilities, MSI.
 * Reference: PCI Local Bus Specification 3.0, chapter 6, cited as PCI. */
#ifndef MOBO_LIB_PCICONF_H
#define MOBO_LIB_PCICONF_H

#include <mobo/vdev.h>

enum {
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_BAR0 = 0x10,
    PCI_CAP_PTR = 0x34,
    PCI_INT_LINE = 0x3c,
    PCI_INT_PIN = 0x3d
};
enum {
    PCI_CMD_IO = 1,
    PCI_CMD_MEM = 2,
    PCI_CMD_MASTER = 4,
    PCI_CMD_INTX_OFF = 0x400,
    PCI_STATUS_INTX = 8,
    PCI_STATUS_CAPS = 0x10
};

struct mobo_pciconf {
    uint8_t data[256];
    uint8_t reset[256]; /* values after reset */
    uint8_t wmask[256]; /* bits a guest may write */
    uint8_t w1c[256];   /* bits a guest clears by writing 1 */
    struct {
        uint32_t kind;
        uint64_t len; /* 0: no such BAR */
    } bar[6];
    uint8_t flags, cap_free, msi_off, msi_log2;
};

/** @return 0 or -EINVAL. */
int mobo_pciconf_init(struct mobo_pciconf *c, const struct mobo_pci_info *info);
void mobo_pciconf_reset(struct mobo_pciconf *c);
int mobo_pciconf_define(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t reset,
                        uint32_t writable, uint32_t write_1_clears);
int mobo_pciconf_bar_add(struct mobo_pciconf *c, uint32_t n, uint32_t kind, uint64_t len);
int mobo_pciconf_cap_add(struct mobo_pciconf *c, uint32_t id, uint32_t len, uint32_t *ret_off);
int mobo_pciconf_msi_add(struct mobo_pciconf *c, uint32_t vectors);

uint32_t mobo_pciconf_get(const struct mobo_pciconf *c, uint32_t off, uint32_t len);
void mobo_pciconf_set(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t val);
/** A guest's write: through the masks. */
void mobo_pciconf_write(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t val);

/** Where BAR @n decodes now.  @return 1 with the address, 0 when it does not decode. */
int mobo_pciconf_bar(const struct mobo_pciconf *c, uint32_t n, uint64_t *ret_addr);
/** Give BAR @n an address, as firmware would. */
void mobo_pciconf_bar_place(struct mobo_pciconf *c, uint32_t n, uint64_t addr);
int mobo_pciconf_msi_enabled(const struct mobo_pciconf *c);
/** @return 0 with message @n, -EACCES while MSI is off, -EINVAL. */
int mobo_pciconf_msi(const struct mobo_pciconf *c, uint32_t n, uint64_t *ret_addr,
                     uint32_t *ret_data);
static inline uint32_t mobo_pciconf_command(const struct mobo_pciconf *c)
{
    return mobo_pciconf_get(c, PCI_COMMAND, 2);
}

#endif
