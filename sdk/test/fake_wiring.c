/* SPDX-License-Identifier: MIT */
/* Interrupt lines and the PCI bus of the fake host. */
#include "sdk/test/fake_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- interrupts -------------------------------------------------------------------------------- */

static void line_update(struct mobo_fake *f, uint32_t line)
{
    int level = f->ext_level[line];

    for (struct mobo_irq *q = f->irqs; q; q = q->next)
        level |= q->line == line && q->level;
    for (struct mobo_pci *p = f->pci; p; p = p->next)
        if (p->intx && !(mobo_pciconf_command(&p->conf) & PCI_CMD_INTX_OFF)) {
            uint32_t pirq = (p->slot + p->pin + 2) & 3;
            int32_t to = f->routed ? f->pirq[pirq] : 16 + (int32_t)pirq;

            level |= to == (int32_t)line;
        }
    if (level == f->level[line])
        return;
    f->level[line] = level;
    f->edges[line] += level;
    for (struct sink *s = f->sinks; s; s = s->next)
        if (line >= s->first && line - s->first < s->count)
            s->level(s->ctx, line, level);
}

void fake_lines_update(struct mobo_fake *f)
{
    for (uint32_t i = 0; i < MOBO_IRQ_LINES; i++)
        line_update(f, i);
}

int fake_irq_claim(struct mobo_vdev *dev, uint32_t line, uint32_t flags, mobo_irq_t *ret)
{
    struct mobo_irq *q;

    if (line >= MOBO_IRQ_LINES)
        return fake_fail(dev, -EINVAL, "irq: there is no line %u", line);
    for (q = dev->f->irqs; q; q = q->next)
        if (q->line == line && (q->flags != (MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED) ||
                                flags != (MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED)))
            return fake_fail(dev, -EBUSY, "irq: line %u is taken by '%s'", line, q->dev->name);
    q = fake_zalloc(sizeof(*q));
    q->dev = dev;
    q->line = line;
    q->flags = flags;
    q->next = dev->f->irqs;
    dev->f->irqs = q;
    *ret = q;
    return 0;
}

void fake_irq_set(mobo_irq_t q, int level)
{
    q->level = level != 0;
    line_update(q->dev->f, q->line);
}

void fake_irq_pulse(mobo_irq_t q)
{
    fake_irq_set(q, 1);
    fake_irq_set(q, 0);
}

int fake_irq_sink_add(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                      void (*level)(void *ctx, uint32_t line, int level), void *ctx)
{
    struct sink *s;

    if (!level || !count || first >= MOBO_IRQ_LINES || count > MOBO_IRQ_LINES - first)
        return -EINVAL;
    s = fake_zalloc(sizeof(*s));
    s->dev = dev;
    s->first = first;
    s->count = count;
    s->level = level;
    s->ctx = ctx;
    s->next = dev->f->sinks;
    dev->f->sinks = s;
    return 0;
}

int fake_intack_set(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx)
{
    if (dev->f->intack)
        return fake_fail(dev, -EBUSY, "another device acknowledges interrupts");
    dev->f->intack = intack;
    dev->f->intack_ctx = ctx;
    dev->f->intack_dev = dev;
    return 0;
}

void fake_intr_set(struct mobo_vdev *dev, int level)
{
    dev->f->intr = level != 0;
}

int fake_eoi_watch(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector), void *ctx)
{
    struct eoi *e = fake_zalloc(sizeof(*e));

    e->dev = dev;
    e->fn = eoi;
    e->ctx = ctx;
    e->next = dev->f->eois;
    dev->f->eois = e;
    return 0;
}

int fake_msi_send(struct mobo_vdev *dev, uint64_t addr, uint32_t data)
{
    struct mobo_fake *f = dev->f;

    if (addr >> 20 != 0xfee)
        return -EINVAL;
    if (f->nmsi == MSI_LOG)
        fake_die("more than %d interrupt messages not looked at", MSI_LOG);
    f->msi[f->nmsi].addr = addr;
    f->msi[f->nmsi++].data = data;
    return 1;
}

void fake_nmi_pulse(struct mobo_vdev *dev)
{
    dev->f->nmis++;
}

void fake_a20_set(struct mobo_vdev *dev, int open)
{
    dev->a20 = open != 0;
}

int mobo_fake_line(struct mobo_fake *f, uint32_t line)
{
    return f->level[line];
}

unsigned mobo_fake_edges(struct mobo_fake *f, uint32_t line)
{
    return f->edges[line];
}

void mobo_fake_drive(struct mobo_fake *f, uint32_t line, int level)
{
    f->ext_level[line] = level != 0;
    line_update(f, line);
}

int32_t mobo_fake_pirq(struct mobo_fake *f, uint32_t pirq)
{
    return f->routed ? f->pirq[pirq] : 16 + (int32_t)pirq;
}

int mobo_fake_intr(struct mobo_fake *f)
{
    return f->intr;
}

int mobo_fake_intack(struct mobo_fake *f)
{
    return f->intack ? f->intack(f->intack_ctx) : -1;
}

void mobo_fake_eoi(struct mobo_fake *f, uint32_t vector)
{
    for (struct eoi *e = f->eois; e; e = e->next)
        e->fn(e->ctx, vector);
}

int mobo_fake_msi(struct mobo_fake *f, uint64_t *ret_addr, uint32_t *ret_data)
{
    if (!f->nmsi)
        return 0;
    *ret_addr = f->msi[0].addr;
    *ret_data = f->msi[0].data;
    memmove(f->msi, f->msi + 1, --f->nmsi * sizeof(f->msi[0]));
    return 1;
}

unsigned mobo_fake_nmis(struct mobo_fake *f)
{
    return f->nmis;
}

int mobo_fake_a20(struct mobo_fake *f)
{
    int any = 0;

    for (struct mobo_vdev *d = f->devs; d; d = d->next) {
        if (d->a20 == 1)
            return 1;
        any |= d->a20 == 0;
    }
    return !any;
}

/* ---- PCI --------------------------------------------------------------------------------------- */

static struct mobo_pci *pci_at(struct mobo_fake *f, uint32_t slot, uint32_t fn)
{
    for (struct mobo_pci *p = f->pci; p; p = p->next)
        if (p->slot == slot && p->fn == fn)
            return p;
    return NULL;
}

/* Let BARs decode where configuration space says. */
void fake_pci_sync(struct mobo_pci *p)
{
    for (uint32_t n = 0; n < 6; n++) {
        uint64_t addr = 0;
        int on = mobo_pciconf_bar(&p->conf, n, &addr);

        if (p->bar[n]) {
            p->bar[n]->enabled = on;
            if (on)
                p->bar[n]->base = addr;
        }
        if (p->bar_ram[n]) {
            p->bar_ram[n]->mapped = on;
            p->bar_ram[n]->gpa = addr;
        }
    }
    fake_lines_update(p->dev->f);
}

int fake_pci_add(struct mobo_vdev *dev, const struct mobo_pci_info *info,
                 const struct mobo_pci_ops *ops, void *ctx, mobo_pci_t *ret)
{
    struct mobo_pci *p;
    uint32_t slot = (uint32_t)info->slot;

    if (info->size < sizeof(*info) || info->slot < MOBO_PCI_SLOT_AUTO || info->slot > 31)
        return -EINVAL;
    if (info->slot == MOBO_PCI_SLOT_AUTO)
        for (slot = 2; slot < 31 && pci_at(dev->f, slot, 0); slot++)
            ;
    if (pci_at(dev->f, slot, info->function))
        return fake_fail(dev, -EBUSY, "slot: %u.%u is taken by '%s'", slot, info->function,
                         pci_at(dev->f, slot, info->function)->dev->name);
    p = fake_zalloc(sizeof(*p));
    if (mobo_pciconf_init(&p->conf, info)) {
        free(p);
        return fake_fail(dev, -EINVAL, "bad PCI header values");
    }
    if (ops)
        memcpy(&p->ops, ops, ops->size < sizeof(*ops) ? ops->size : sizeof(*ops));
    p->dev = dev;
    p->ctx = ctx;
    p->slot = slot;
    p->fn = info->function;
    p->pin = info->pin;
    p->next = dev->f->pci;
    dev->f->pci = p;
    *ret = p;
    return 0;
}

int fake_pci_config_init(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t reset,
                         uint32_t writable, uint32_t w1c)
{
    return mobo_pciconf_define(&p->conf, off, len, reset, writable, w1c);
}

uint32_t fake_pci_config_get(mobo_pci_t p, uint32_t off, uint32_t len)
{
    return mobo_pciconf_get(&p->conf, off, len);
}

void fake_pci_config_set(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t val)
{
    mobo_pciconf_set(&p->conf, off, len, val);
}

int fake_pci_bar_add(mobo_pci_t p, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                     const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret)
{
    char name[16];
    int err = mobo_pciconf_bar_add(&p->conf, n, kind, len);

    if (err)
        return fake_fail(p->dev, err, "BAR %u does not fit", n);
    snprintf(name, sizeof(name), "BAR %u", n);
    err = fake_region_add(p->dev, (kind & 0xf) != MOBO_BAR_IO, name, 0, len,
                          flags | MOBO_REGION_DISABLED, ops, ctx, &p->bar[n]);
    if (!err && ret)
        *ret = p->bar[n];
    return err;
}

int fake_pci_bar_ram(mobo_pci_t p, uint32_t n, uint32_t kind, mobo_ram_t ram)
{
    int err = mobo_pciconf_bar_add(&p->conf, n, kind, ram->len);

    if (!err)
        p->bar_ram[n] = ram;
    return err;
}

int fake_pci_cap_add(mobo_pci_t p, uint32_t id, uint32_t len, uint32_t *ret_off)
{
    return mobo_pciconf_cap_add(&p->conf, id, len, ret_off);
}

int fake_pci_msi_add(mobo_pci_t p, uint32_t vectors)
{
    return mobo_pciconf_msi_add(&p->conf, vectors);
}

void fake_pci_irq_set(mobo_pci_t p, int level)
{
    p->intx = level && p->pin;
    mobo_pciconf_set(&p->conf, PCI_STATUS, 1,
                     (mobo_pciconf_get(&p->conf, PCI_STATUS, 1) & ~PCI_STATUS_INTX) |
                         (p->intx ? PCI_STATUS_INTX : 0));
    fake_lines_update(p->dev->f);
}

int fake_pci_msi_enabled(mobo_pci_t p)
{
    return mobo_pciconf_msi_enabled(&p->conf);
}

static int master(mobo_pci_t p)
{
    return mobo_pciconf_command(&p->conf) & PCI_CMD_MASTER;
}

int fake_pci_msi_send(mobo_pci_t p, uint32_t n)
{
    uint64_t addr;
    uint32_t data;
    int err = master(p) ? mobo_pciconf_msi(&p->conf, n, &addr, &data) : -EACCES;

    if (!err)
        fake_msi_send(p->dev, addr, data);
    return err;
}

int fake_pci_dma_read(mobo_pci_t p, uint64_t gpa, void *buf, uint64_t len)
{
    return master(p) ? fake_mem_read(p->dev, gpa, buf, len) : -EACCES;
}

int fake_pci_dma_write(mobo_pci_t p, uint64_t gpa, const void *buf, uint64_t len)
{
    return master(p) ? fake_mem_write(p->dev, gpa, buf, len) : -EACCES;
}

static uint32_t conf_read(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                          uint32_t len)
{
    struct mobo_pci *p = pci_at(f, slot, fn);
    uint32_t val;

    if (!p || off + len > 256)
        return (uint32_t)mobo_ones(len);
    val = mobo_pciconf_get(&p->conf, off, len);
    return p->ops.config_read ? p->ops.config_read(p->ctx, off, len, val) : val;
}

static void conf_write(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off, uint32_t len,
                       uint32_t val)
{
    struct mobo_pci *p = pci_at(f, slot, fn);

    if (!p || off + len > 256)
        return;
    mobo_pciconf_write(&p->conf, off, len, val);
    fake_pci_sync(p);
    if (p->ops.config_written)
        p->ops.config_written(p->ctx, off, len);
}

uint32_t fake_pci_config_read(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                              uint32_t len)
{
    return bus ? (uint32_t)mobo_ones(len) : conf_read(dev->f, devfn >> 3, devfn & 7, off, len);
}

void fake_pci_config_write(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                           uint32_t len, uint32_t val)
{
    if (!bus)
        conf_write(dev->f, devfn >> 3, devfn & 7, off, len, val);
}

int fake_pci_pirq_route(struct mobo_vdev *dev, uint32_t pirq, int32_t line)
{
    struct mobo_fake *f = dev->f;

    if (pirq > 3 || line < -1 || line >= MOBO_IRQ_LINES)
        return -EINVAL;
    if (!f->routed)
        for (int i = 0; i < 4; i++)
            f->pirq[i] = -1;
    f->routed = 1;
    f->pirq[pirq] = line;
    fake_lines_update(f);
    return 0;
}

uint32_t mobo_fake_pci_read(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                            uint32_t len)
{
    fake_check_access(len, 0);
    return conf_read(f, slot, fn, off, len);
}

void mobo_fake_pci_write(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                         uint32_t len, uint32_t val)
{
    fake_check_access(len, 0);
    conf_write(f, slot, fn, off, len, val);
}

int mobo_fake_intx(struct mobo_fake *f, uint32_t slot, uint32_t fn)
{
    struct mobo_pci *p = pci_at(f, slot, fn);

    if (!p)
        fake_die("no PCI function at %u.%u", slot, fn);
    return p->intx;
}
