/* SPDX-License-Identifier: MIT */
/* The configuration space of one PCI function.
 * Reference: PCI Local Bus Specification 3.0, chapter 6, cited as PCI. */
#include "sdk/lib/pciconf.h"

#include <errno.h>
#include <string.h>

uint32_t mobo_pciconf_get(const struct mobo_pciconf *c, uint32_t off, uint32_t len)
{
    uint32_t v = 0;

    for (uint32_t i = 0; i < len && off + i < 256; i++)
        v |= (uint32_t)c->data[off + i] << (i * 8);
    return v;
}

void mobo_pciconf_set(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t val)
{
    for (uint32_t i = 0; i < len && off + i < 256; i++)
        c->data[off + i] = (uint8_t)(val >> (i * 8));
}

void mobo_pciconf_write(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t val)
{
    for (uint32_t i = 0; i < len && off + i < 256; i++) {
        uint8_t *b = &c->data[off + i], m = c->wmask[off + i], v = (uint8_t)(val >> (i * 8));

        *b = (uint8_t)((*b & ~m) | (v & m));
        *b &= (uint8_t) ~(v & c->w1c[off + i]);
    }
}

int mobo_pciconf_define(struct mobo_pciconf *c, uint32_t off, uint32_t len, uint32_t reset,
                        uint32_t writable, uint32_t write_1_clears)
{
    if ((len != 1 && len != 2 && len != 4) || off > 256 - len || (writable & write_1_clears))
        return -EINVAL;
    for (uint32_t i = 0; i < len; i++) {
        c->reset[off + i] = c->data[off + i] = (uint8_t)(reset >> (i * 8));
        c->wmask[off + i] = (uint8_t)(writable >> (i * 8));
        c->w1c[off + i] = (uint8_t)(write_1_clears >> (i * 8));
    }
    return 0;
}

int mobo_pciconf_init(struct mobo_pciconf *c, const struct mobo_pci_info *info)
{
    int bridge = info->flags & MOBO_PCI_HOST_BRIDGE;

    memset(c, 0, sizeof(*c));
    if (info->pin > 4 || info->function > 7 || info->class_code > 0xffffff)
        return -EINVAL;
    c->flags = (uint8_t)info->flags;
    c->cap_free = 0x40;
    mobo_pciconf_define(c, 0x00, 2, info->vendor, 0, 0);
    mobo_pciconf_define(c, 0x02, 2, info->device, 0, 0);
    /* PCI 6.2.2: I/O, memory, master, parity response, SERR# enable, interrupt disable */
    mobo_pciconf_define(c, PCI_COMMAND, 2, bridge ? PCI_CMD_MEM | PCI_CMD_MASTER : 0,
                        bridge ? 0x0140 : 0x0547, 0);
    mobo_pciconf_define(c, PCI_STATUS, 2, 0, 0, 0xf900); /* PCI 6.2.3: error bits */
    mobo_pciconf_define(c, 0x08, 4, info->class_code << 8 | info->revision, 0, 0);
    mobo_pciconf_define(c, 0x0c, 2, 0, 0xffff, 0); /* cache line size, latency timer */
    mobo_pciconf_define(c, 0x0e, 1, info->flags & MOBO_PCI_MULTIFUNCTION ? 0x80 : 0, 0, 0);
    mobo_pciconf_define(c, 0x2c, 2, info->subsys_vendor, 0, 0);
    mobo_pciconf_define(c, 0x2e, 2, info->subsys_device, 0, 0);
    mobo_pciconf_define(c, PCI_INT_LINE, 1, 0, info->pin ? 0xff : 0, 0);
    mobo_pciconf_define(c, PCI_INT_PIN, 1, info->pin, 0, 0);
    return 0;
}

void mobo_pciconf_reset(struct mobo_pciconf *c)
{
    memcpy(c->data, c->reset, sizeof(c->data));
}

int mobo_pciconf_bar_add(struct mobo_pciconf *c, uint32_t n, uint32_t kind, uint64_t len)
{
    uint32_t type = kind & 0xf, off = PCI_BAR0 + n * 4, low;
    uint64_t mask = ~(len - 1);

    if (n > 5 || type > MOBO_BAR_MEM64 || (kind & ~0x1fu) || (len & (len - 1)))
        return -EINVAL;
    if (type == MOBO_BAR_IO ? len < 4 || len > 256 || (kind & MOBO_BAR_PREFETCH) : len < 16)
        return -EINVAL;
    if (type == MOBO_BAR_MEM64 ? n == 5 || len > (uint64_t)1 << 40 : len > 0x80000000u)
        return -EINVAL;
    if (c->bar[n].len || (n && c->bar[n - 1].len && (c->bar[n - 1].kind & 0xf) == MOBO_BAR_MEM64) ||
        (type == MOBO_BAR_MEM64 && c->bar[n + 1].len))
        return -EBUSY;
    c->bar[n].kind = kind;
    c->bar[n].len = len;
    /* PCI 6.2.5.1 */
    low = type == MOBO_BAR_IO ? 1 : type == MOBO_BAR_MEM64 ? 4 : 0;
    if (kind & MOBO_BAR_PREFETCH)
        low |= 8;
    mobo_pciconf_define(c, off, 4, low, (uint32_t)mask & (type == MOBO_BAR_IO ? ~3u : ~15u), 0);
    if (type == MOBO_BAR_MEM64)
        mobo_pciconf_define(c, off + 4, 4, 0, (uint32_t)(mask >> 32), 0);
    return 0;
}

static uint64_t bar_raw(const struct mobo_pciconf *c, uint32_t n)
{
    uint32_t type = c->bar[n].kind & 0xf;
    uint64_t a = mobo_pciconf_get(c, PCI_BAR0 + n * 4, 4) & (type == MOBO_BAR_IO ? ~3u : ~15u);

    if (type == MOBO_BAR_MEM64)
        a |= (uint64_t)mobo_pciconf_get(c, PCI_BAR0 + n * 4 + 4, 4) << 32;
    return a;
}

int mobo_pciconf_bar(const struct mobo_pciconf *c, uint32_t n, uint64_t *ret_addr)
{
    uint32_t type, cmd = mobo_pciconf_command(c);
    uint64_t addr, last;

    if (n > 5 || !c->bar[n].len)
        return 0;
    type = c->bar[n].kind & 0xf;
    addr = bar_raw(c, n);
    last = addr + c->bar[n].len - 1;
    if (!(cmd & (type == MOBO_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEM)))
        return 0;
    /* an address of 0 is "not placed", one at the very top is a sizing probe */
    if (addr == 0 || last < addr || (type == MOBO_BAR_IO && last > 0xffff) || last == 0xffffffffu ||
        last >= (uint64_t)1 << 52)
        return 0;
    *ret_addr = addr;
    return 1;
}

void mobo_pciconf_bar_place(struct mobo_pciconf *c, uint32_t n, uint64_t addr)
{
    mobo_pciconf_write(c, PCI_BAR0 + n * 4, 4, (uint32_t)addr);
    if ((c->bar[n].kind & 0xf) == MOBO_BAR_MEM64)
        mobo_pciconf_write(c, PCI_BAR0 + n * 4 + 4, 4, (uint32_t)(addr >> 32));
}

int mobo_pciconf_cap_add(struct mobo_pciconf *c, uint32_t id, uint32_t len, uint32_t *ret_off)
{
    uint32_t off = c->cap_free, used = (len + 3) & ~3u;

    if (len < 2 || id > 0xff)
        return -EINVAL;
    /* skip what the device defined as registers of its own */
    for (uint32_t i = off; i < off + used && i < 256; i++)
        if (c->reset[i] || c->wmask[i] || c->w1c[i])
            off = (i + 4) & ~3u;
    if (off + used > 256)
        return -ENOSPC;
    /* PCI 6.7: new ones go to the head of the list */
    mobo_pciconf_define(c, off, 1, id, 0, 0);
    mobo_pciconf_define(c, off + 1, 1, c->reset[PCI_CAP_PTR], 0, 0);
    mobo_pciconf_define(c, PCI_CAP_PTR, 1, off, 0, 0);
    c->reset[PCI_STATUS] |= PCI_STATUS_CAPS;
    c->data[PCI_STATUS] |= PCI_STATUS_CAPS;
    c->cap_free = (uint8_t)(off + used < 256 ? off + used : 255);
    *ret_off = off;
    return 0;
}

int mobo_pciconf_msi_add(struct mobo_pciconf *c, uint32_t vectors)
{
    uint32_t off = 0, log2 = 0;
    int err;

    if (c->msi_off)
        return -EBUSY;
    while (log2 < 5 && 1u << log2 != vectors)
        log2++;
    if (1u << log2 != vectors)
        return -EINVAL;
    err = mobo_pciconf_cap_add(c, 0x05, 14, &off);
    if (err)
        return err;
    /* PCI 6.8.1: 64-bit capable; enable and multiple message enable are the guest's */
    mobo_pciconf_define(c, off + 2, 2, 0x80 | log2 << 1, 0x71, 0);
    mobo_pciconf_define(c, off + 4, 4, 0, 0xfffffffc, 0);
    mobo_pciconf_define(c, off + 8, 4, 0, 0xffffffff, 0);
    mobo_pciconf_define(c, off + 12, 2, 0, 0xffff, 0);
    c->msi_off = (uint8_t)off;
    c->msi_log2 = (uint8_t)log2;
    return 0;
}

int mobo_pciconf_msi_enabled(const struct mobo_pciconf *c)
{
    return c->msi_off && (c->data[c->msi_off + 2] & 1);
}

int mobo_pciconf_msi(const struct mobo_pciconf *c, uint32_t n, uint64_t *ret_addr,
                     uint32_t *ret_data)
{
    uint32_t off = c->msi_off, mme, data;

    if (!mobo_pciconf_msi_enabled(c))
        return -EACCES;
    if (n >> c->msi_log2)
        return -EINVAL;
    mme = c->data[off + 2] >> 4 & 7;
    if (mme > c->msi_log2)
        mme = c->msi_log2;
    data = mobo_pciconf_get(c, off + 12, 2);
    /* PCI 6.8.3.4: the function may change the low bits that were given to it */
    data = (data & ~((1u << mme) - 1)) | (n & ((1u << mme) - 1));
    *ret_addr = mobo_pciconf_get(c, off + 4, 4) | (uint64_t)mobo_pciconf_get(c, off + 8, 4) << 32;
    *ret_data = data;
    return 0;
}
