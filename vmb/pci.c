/* SPDX-License-Identifier: BSD-2-Clause */
/* The PCI bus: slots, configuration cycles, BAR decoding, INTx wiring, MSI, bus mastering.
 * Reference: PCI Local Bus Specification 3.0.  The contents of configuration space are in
 * sdk/lib/pciconf.c. */
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/lib/access.h"

void pci_init(struct pci *p)
{
    pthread_mutex_init(&p->lock, NULL);
}

void pci_fini(struct pci *p)
{
    for (struct mobo_pci *f = p->fns, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    pthread_mutex_destroy(&p->lock);
}

static unsigned pirq_of(const struct mobo_pci *p)
{
    return (p->slot + p->pin + 2u) & 3; /* slot 1, INTA#: PIRQ A */
}

/* Tell irq.c of the pin as it is seen behind the command register. */
static void intx_update_locked(struct mobo_pci *p)
{
    bool level = p->intx && p->pin && !(mobo_pciconf_command(&p->conf) & PCI_CMD_INTX_OFF);

    if (level != p->intx_seen) {
        p->intx_seen = level;
        irq_pirq_change(p->dev->board, pirq_of(p), level);
    }
}

/* Let BARs decode where configuration space says, and the pin with them. */
static void sync_fn(struct mobo_pci *p)
{
    struct pci *pci = &p->dev->board->pci;
    uint64_t addr[6];
    int on[6];

    pthread_mutex_lock(&pci->lock);
    for (uint32_t n = 0; n < 6; n++)
        on[n] = mobo_pciconf_bar(&p->conf, n, &addr[n]);
    intx_update_locked(p);
    pthread_mutex_unlock(&pci->lock);
    for (uint32_t n = 0; n < 6; n++) {
        if (p->bar[n])
            space_place(p->bar[n], on[n] ? addr[n] : atomic_load(&p->bar[n]->base), on[n]);
        if (p->bar_ram[n] && (!on[n] || mem_ram_map(p->bar_ram[n], addr[n])))
            mem_ram_unmap(p->bar_ram[n]);
    }
}

int pci_add(struct mobo_vdev *dev, const struct mobo_pci_info *info, const struct mobo_pci_ops *ops,
            void *ctx, struct mobo_pci **ret)
{
    struct pci *pci = &dev->board->pci;
    struct mobo_pci *p, **tail;
    int32_t slot = info->slot;
    uint32_t fn = info->function;

    if (vdev_creating(dev, "pci_add"))
        return -EPERM;
    if (info->size < sizeof(*info) || slot < MOBO_PCI_SLOT_AUTO || slot > 31 || fn > 7)
        return vdev_fail(dev, -EINVAL, "bad description of a PCI function");
    if (info->flags & MOBO_PCI_HOST_BRIDGE)
        pci->have_root = true;
    else if (!pci->have_root)
        return vdev_fail(dev, -ENODEV, "there is no PCI bus on this board (no host bridge)");
    if (slot == MOBO_PCI_SLOT_AUTO && dev->slot >= 0) {
        slot = dev->slot;
        if (dev->slot_fn >= 0 && fn == 0)
            fn = (uint32_t)dev->slot_fn;
    } else if (slot == MOBO_PCI_SLOT_AUTO) {
        for (slot = 2; slot < 32; slot++) {
            bool used = false;

            for (unsigned i = 0; i < 8; i++)
                used |= pci->at[slot << 3 | (int)i] != NULL;
            if (!used)
                break;
        }
        if (slot == 32)
            return vdev_fail(dev, -ENOSPC, "all PCI slots are taken");
    }
    if (pci->at[(uint32_t)slot << 3 | fn])
        return vdev_fail(dev, -EBUSY, "slot: %d.%u is taken by '%s'", slot, fn,
                         pci->at[(uint32_t)slot << 3 | fn]->dev->name);
    p = calloc(1, sizeof(*p));
    if (!p)
        return vdev_fail(dev, -ENOMEM, "pci: no memory");
    if (mobo_pciconf_init(&p->conf, info)) {
        free(p);
        return vdev_fail(dev, -EINVAL, "bad values in a PCI header");
    }
    if (ops)
        memcpy(&p->ops, ops, ops->size < sizeof(*ops) ? ops->size : sizeof(*ops));
    p->dev = dev;
    p->ctx = ctx;
    p->slot = (uint8_t)slot;
    p->fn = (uint8_t)fn;
    p->pin = info->pin;
    p->bridge = info->flags & MOBO_PCI_HOST_BRIDGE;
    for (tail = &pci->fns; *tail; tail = &(*tail)->next)
        ;
    *tail = p;
    pci->at[(uint32_t)slot << 3 | fn] = p;
    *ret = p;
    return 0;
}

/* ---- configuration space for the device ---------------------------------------------------------- */

int pci_config_init(struct mobo_pci *p, uint32_t off, uint32_t len, uint32_t reset,
                    uint32_t writable, uint32_t w1c)
{
    struct pci *pci = &p->dev->board->pci;
    int err = -EINVAL;

    if (vdev_creating(p->dev, "pci_config_init"))
        return -EPERM;
    pthread_mutex_lock(&pci->lock);
    if (off < 0x10 || off >= 0x28) /* not in BARs */
        err = mobo_pciconf_define(&p->conf, off, len, reset, writable, w1c);
    pthread_mutex_unlock(&pci->lock);
    return err ? vdev_fail(p->dev, err, "bad PCI register 0x%x of %u bytes", off, len) : 0;
}

uint32_t pci_config_get(struct mobo_pci *p, uint32_t off, uint32_t len)
{
    struct pci *pci = &p->dev->board->pci;
    uint32_t val;

    pthread_mutex_lock(&pci->lock);
    val = mobo_pciconf_get(&p->conf, off, len);
    pthread_mutex_unlock(&pci->lock);
    return val;
}

void pci_config_set(struct mobo_pci *p, uint32_t off, uint32_t len, uint32_t val)
{
    struct pci *pci = &p->dev->board->pci;

    vdev_check(p->dev, "pci_config_set");
    pthread_mutex_lock(&pci->lock);
    mobo_pciconf_set(&p->conf, off, len, val);
    pthread_mutex_unlock(&pci->lock);
    if (off < 0x28)
        sync_fn(p);
}

int pci_bar_add(struct mobo_pci *p, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                const struct mobo_io_ops *ops, void *ctx, struct mobo_region **ret)
{
    char name[16];
    int err;

    if (vdev_creating(p->dev, "pci_bar_add"))
        return -EPERM;
    err = mobo_pciconf_bar_add(&p->conf, n, kind, len);
    if (err)
        return vdev_fail(p->dev, err, "BAR %u of 0x%" PRIx64 " bytes does not fit", n, len);
    snprintf(name, sizeof(name), "BAR %u", n);
    err = space_add(p->dev, (kind & 0xf) != MOBO_BAR_IO, true, name, 0, len,
                    (flags & MOBO_REGION_UNLOCKED) | MOBO_REGION_DISABLED, ops, ctx, &p->bar[n]);
    if (!err && ret)
        *ret = p->bar[n];
    return err;
}

int pci_bar_ram(struct mobo_pci *p, uint32_t n, uint32_t kind, struct mobo_ram *ram)
{
    int err;

    if (vdev_creating(p->dev, "pci_bar_ram"))
        return -EPERM;
    err = (kind & 0xf) == MOBO_BAR_IO ? -EINVAL : mobo_pciconf_bar_add(&p->conf, n, kind, ram->len);
    if (err)
        return vdev_fail(p->dev, err, "BAR %u for memory '%s' does not fit", n, ram->name);
    p->bar_ram[n] = ram;
    return 0;
}

int pci_cap_add(struct mobo_pci *p, uint32_t id, uint32_t len, uint32_t *ret_off)
{
    int err;

    if (vdev_creating(p->dev, "pci_cap_add"))
        return -EPERM;
    err = mobo_pciconf_cap_add(&p->conf, id, len, ret_off);
    return err ? vdev_fail(p->dev, err, "no room for PCI capability 0x%x", id) : 0;
}

int pci_msi_add(struct mobo_pci *p, uint32_t vectors)
{
    int err;

    if (vdev_creating(p->dev, "pci_msi_add"))
        return -EPERM;
    err = mobo_pciconf_msi_add(&p->conf, vectors);
    return err ? vdev_fail(p->dev, err, "MSI with %u vectors does not fit", vectors) : 0;
}

/* ---- interrupts and DMA -------------------------------------------------------------------------- */

void pci_irq_set(struct mobo_pci *p, int level)
{
    struct pci *pci = &p->dev->board->pci;

    if (vdev_current && vdev_current->is_sink)
        return; /* see irq.c */
    pthread_mutex_lock(&pci->lock);
    p->intx = level && p->pin;
    mobo_pciconf_set(&p->conf, PCI_STATUS, 1,
                     (mobo_pciconf_get(&p->conf, PCI_STATUS, 1) & ~(uint32_t)PCI_STATUS_INTX) |
                         (p->intx ? PCI_STATUS_INTX : 0));
    intx_update_locked(p);
    pthread_mutex_unlock(&pci->lock);
}

static bool master_locked(struct mobo_pci *p)
{
    return mobo_pciconf_command(&p->conf) & PCI_CMD_MASTER;
}

int pci_msi_send(struct mobo_pci *p, uint32_t n)
{
    struct pci *pci = &p->dev->board->pci;
    uint64_t addr = 0;
    uint32_t data = 0;
    int err;

    pthread_mutex_lock(&pci->lock);
    err = master_locked(p) ? mobo_pciconf_msi(&p->conf, n, &addr, &data) : -EACCES;
    pthread_mutex_unlock(&pci->lock);
    if (!err)
        hv_msi(p->dev->board->part, addr, data);
    return err;
}

int pci_msi_enabled(struct mobo_pci *p)
{
    struct pci *pci = &p->dev->board->pci;
    int on;

    pthread_mutex_lock(&pci->lock);
    on = mobo_pciconf_msi_enabled(&p->conf);
    pthread_mutex_unlock(&pci->lock);
    return on;
}

static bool master(struct mobo_pci *p)
{
    struct pci *pci = &p->dev->board->pci;
    bool on;

    pthread_mutex_lock(&pci->lock);
    on = master_locked(p);
    pthread_mutex_unlock(&pci->lock);
    return on;
}

int pci_dma_read(struct mobo_pci *p, uint64_t gpa, void *buf, uint64_t len)
{
    return master(p) ? hv_gpa_read(p->dev->board->part, gpa, buf, len) : -EACCES;
}

int pci_dma_write(struct mobo_pci *p, uint64_t gpa, const void *buf, uint64_t len)
{
    return master(p) ? hv_gpa_write(p->dev->board->part, gpa, buf, len) : -EACCES;
}

/* ---- configuration cycles ------------------------------------------------------------------------ */

static struct mobo_pci *decode(struct vmb *v, uint32_t bus, uint32_t devfn, uint32_t off,
                               uint32_t len)
{
    if (bus || devfn > 255 || off > 255 || (len != 1 && len != 2 && len != 4) ||
        (off & 3) + len > 4)
        return NULL;
    return v->pci.at[devfn];
}

uint32_t pci_config_read(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                         uint32_t len)
{
    struct mobo_pci *p = decode(dev->board, bus, devfn, off, len);
    struct vdev_enter e;
    uint32_t val;

    if (!p)
        return (uint32_t)mobo_ones(len);
    e = vdev_enter(p->dev);
    val = pci_config_get(p, off, len);
    if (p->ops.config_read)
        val = p->ops.config_read(p->ctx, off, len, val) & (uint32_t)mobo_ones(len);
    vdev_leave(p->dev, e);
    return val;
}

void pci_config_write(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                      uint32_t len, uint32_t val)
{
    struct mobo_pci *p = decode(dev->board, bus, devfn, off, len);
    struct pci *pci = &dev->board->pci;
    struct vdev_enter e;

    if (!p)
        return;
    e = vdev_enter(p->dev);
    pthread_mutex_lock(&pci->lock);
    mobo_pciconf_write(&p->conf, off, len, val);
    pthread_mutex_unlock(&pci->lock);
    if (off < 0x28)
        sync_fn(p);
    if (p->ops.config_written)
        p->ops.config_written(p->ctx, off, len);
    vdev_leave(p->dev, e);
}

/* ---- reset and firmware's work ------------------------------------------------------------------- */

void pci_reset(struct vmb *v)
{
    for (struct mobo_pci *p = v->pci.fns; p; p = p->next) {
        struct vdev_enter e = vdev_enter(p->dev);

        pthread_mutex_lock(&v->pci.lock);
        p->intx = false;
        mobo_pciconf_reset(&p->conf);
        intx_update_locked(p);
        pthread_mutex_unlock(&v->pci.lock);
        sync_fn(p);
        vdev_leave(p->dev, e);
    }
}

/* Place one BAR.  Biggest first, so that aligned ones leave no gaps. */
static void assign_bar(struct mobo_pci *p, uint32_t n, uint64_t *next_io, uint64_t *next_mem)
{
    bool io = (p->conf.bar[n].kind & 0xf) == MOBO_BAR_IO;
    uint64_t *next = io ? next_io : next_mem, len = p->conf.bar[n].len;
    uint64_t base = (*next + len - 1) & ~(len - 1), end = io ? 0x10000 : p->dev->board->bus ? VMB_VMBUS_MMIO : VMB_PCI_END;

    if (base >= end || len > end - base) {
        vmb_log(p->dev->board, MOBO_WARNING, p->dev->name,
                "no room for BAR %u of 0x%" PRIx64 " bytes", n, len);
        return;
    }
    mobo_pciconf_bar_place(&p->conf, n, base);
    *next = base + len;
}

void pci_assign(struct vmb *v)
{
    uint64_t next_io = 0xc000, next_mem = 0xe0000000;

    for (int shift = 40; shift >= 2; shift--)
        for (struct mobo_pci *p = v->pci.fns; p; p = p->next)
            for (uint32_t n = 0; n < 6; n++)
                if (p->conf.bar[n].len == (uint64_t)1 << shift) {
                    pthread_mutex_lock(&v->pci.lock);
                    assign_bar(p, n, &next_io, &next_mem);
                    pthread_mutex_unlock(&v->pci.lock);
                }
    for (struct mobo_pci *p = v->pci.fns; p; p = p->next) {
        struct vdev_enter e = vdev_enter(p->dev);
        uint32_t cmd = 0;

        pthread_mutex_lock(&v->pci.lock);
        for (uint32_t n = 0; n < 6; n++)
            if (p->conf.bar[n].len)
                cmd |= (p->conf.bar[n].kind & 0xf) == MOBO_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEM;
        if (!p->bridge)
            mobo_pciconf_write(&p->conf, PCI_COMMAND, 2, mobo_pciconf_command(&p->conf) | cmd);
        if (p->pin) {
            int32_t line = v->irq.route[pirq_of(p)]; /* VPs stand still */

            mobo_pciconf_write(&p->conf, PCI_INT_LINE, 1, line < 0 ? 0xff : (uint32_t)line);
        }
        pthread_mutex_unlock(&v->pci.lock);
        sync_fn(p);
        vdev_leave(p->dev, e);
    }
}

/* ---- state --------------------------------------------------------------------------------------- */

/* One group a function: 1 devfn, 2 configuration space, 3 INTx. */
int pci_save(struct mobo_vdev *dev, struct mobo_writer *w)
{
    struct pci *pci = &dev->board->pci;
    uint32_t tag = 1;

    pthread_mutex_lock(&pci->lock);
    for (struct mobo_pci *p = pci->fns; p; p = p->next) {
        uint8_t devfn = (uint8_t)(p->slot << 3 | p->fn), intx = p->intx;

        if (p->dev != dev)
            continue;
        mobo_save_begin(w, tag++, 0);
        mobo_save_bytes(w, 1, 0, &devfn, 1);
        mobo_save_bytes(w, 2, 0, p->conf.data, sizeof(p->conf.data));
        mobo_save_bytes(w, 3, 0, &intx, 1);
        mobo_save_end(w);
    }
    pthread_mutex_unlock(&pci->lock);
    return w->err;
}

int pci_restore(struct mobo_vdev *dev, struct mobo_reader *r, char *msg, size_t len)
{
    struct pci *pci = &dev->board->pci;
    uint32_t tag = 1;

    for (struct mobo_pci *p = pci->fns; p; p = p->next) {
        uint8_t devfn = 0, intx = 0, data[256];
        uint32_t n1 = 0, n2 = 0, n3 = 0;

        if (p->dev != dev)
            continue;
        if (mobo_load_begin(r, tag++) || mobo_load_bytes(r, 1, &devfn, 1, &n1) ||
            mobo_load_bytes(r, 2, data, sizeof(data), &n2) ||
            mobo_load_bytes(r, 3, &intx, 1, &n3) || n1 != 1 || n2 != sizeof(data) || n3 != 1 ||
            mobo_load_end(r)) {
            snprintf(msg, len, "saved PCI function of '%s' is incomplete", dev->name);
            return -EINVAL;
        }
        if (devfn != (p->slot << 3 | p->fn)) {
            snprintf(msg, len, "saved PCI function of '%s' is at %u.%u, on this board at %u.%u",
                     dev->name, devfn >> 3, devfn & 7u, p->slot, p->fn);
            return -EINVAL;
        }
        pthread_mutex_lock(&pci->lock);
        /* what no guest can change comes from this board */
        for (unsigned i = 0; i < sizeof(data); i++) {
            bool fixed = i < PCI_COMMAND || (i >= 8 && i < 12) || i == 0x0e ||
                         (i >= 0x2c && i < 0x30) || i == PCI_CAP_PTR || i == PCI_INT_PIN ||
                         (i >= PCI_BAR0 && i < PCI_BAR0 + 24 && !p->conf.wmask[i]);

            if (!fixed)
                p->conf.data[i] = data[i];
        }
        for (uint32_t n = 0; n < 6; n++) /* the type bits of BARs */
            if (p->conf.bar[n].len)
                p->conf.data[PCI_BAR0 + n * 4] =
                    (uint8_t)((data[PCI_BAR0 + n * 4] & p->conf.wmask[PCI_BAR0 + n * 4]) |
                              (p->conf.reset[PCI_BAR0 + n * 4] & ~p->conf.wmask[PCI_BAR0 + n * 4]));
        p->intx = intx && p->pin;
        intx_update_locked(p);
        pthread_mutex_unlock(&pci->lock);
        sync_fn(p);
    }
    return 0;
}
