/* SPDX-License-Identifier: BSD-2-Clause */
/* Walk the board for people: every device with its type, resources and own report. */
#include "sdk/lib/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmb/board.h"

static void show_regions(struct mobo_vdev *d, struct mobo_inspect *out)
{
    struct space *s = &d->board->space;
    char text[96];

    for (unsigned i = 0; i < s->nregions; i++) {
        struct mobo_region *r = s->regions[i];
        uint64_t base = atomic_load(&r->base);

        if (r->dev != d)
            continue;
        snprintf(text, sizeof(text), "%s 0x%" PRIx64 "-0x%" PRIx64 "%s", r->mmio ? "mmio" : "port",
                 base, base + r->len - 1, atomic_load(&r->enabled) ? "" : " (off)");
        mobo_inspect_str(out, r->name, text);
    }
    for (struct mobo_ram *m = d->board->rams; m; m = m->next) {
        if (m->dev != d)
            continue;
        if (m->mapped)
            snprintf(text, sizeof(text), "memory 0x%" PRIx64 "-0x%" PRIx64, m->gpa,
                     m->gpa + m->len - 1);
        else
            snprintf(text, sizeof(text), "memory of 0x%" PRIx64 " bytes (off)", m->len);
        mobo_inspect_str(out, m->name, text);
    }
}

static void show_wiring(struct mobo_vdev *d, struct mobo_inspect *out)
{
    struct vmb *v = d->board;
    char name[16], text[64];

    pthread_mutex_lock(&v->irq.lock);
    for (struct mobo_irq *c = v->irq.claims; c; c = c->next) {
        if (c->dev != d)
            continue;
        snprintf(name, sizeof(name), "irq %u", c->line);
        snprintf(text, sizeof(text), "%s%s, %s", c->flags & MOBO_IRQ_LEVEL ? "level" : "edge",
                 c->flags & MOBO_IRQ_SHARED ? " shared" : "", c->level ? "asserted" : "idle");
        mobo_inspect_str(out, name, text);
    }
    pthread_mutex_unlock(&v->irq.lock);
    for (struct mobo_pci *p = v->pci.fns; p; p = p->next) {
        if (p->dev != d)
            continue;
        snprintf(name, sizeof(name), "pci %u.%u", p->slot, p->fn);
        pthread_mutex_lock(&v->pci.lock);
        snprintf(text, sizeof(text), "%04x:%04x command 0x%04x%s", mobo_pciconf_get(&p->conf, 0, 2),
                 mobo_pciconf_get(&p->conf, 2, 2), mobo_pciconf_command(&p->conf),
                 p->intx ? " INTx asserted" : "");
        pthread_mutex_unlock(&v->pci.lock);
        mobo_inspect_str(out, name, text);
    }
}

int vmb_inspect(struct vmb *v, const char *dev, struct mobo_inspect *out)
{
    bool any = false;

    for (struct mobo_vdev *d = v->devs; d; d = d->next) {
        struct vdev_enter e;

        if (dev && strcmp(dev, d->name))
            continue;
        any = true;
        mobo_inspect_begin(out, d->name);
        mobo_inspect_str(out, "type", d->plugin->desc.type);
        mobo_inspect_begin(out, "resources");
        show_regions(d, out);
        show_wiring(d, out);
        mobo_inspect_end(out);
        if (d->ops.inspect && d->self) {
            mobo_inspect_begin(out, "state");
            e = vdev_enter(d);
            d->ops.inspect(d->self, out);
            vdev_leave(d, e);
            mobo_inspect_end(out);
        }
        mobo_inspect_end(out);
    }
    return any || !dev ? 0 : -ENOENT;
}
