/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt lines: the OR of all who drive one, told to all controllers that cover it. */
#include "vmb/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void irq_init(struct irq *q)
{
    pthread_mutex_init(&q->lock, NULL);
    for (unsigned i = 0; i < 4; i++)
        q->route[i] = 16 + (int32_t)i; /* boards without a router */
}

#define FREE_LIST(type, head)                        \
    for (type *it_ = (head), *nx_; it_; it_ = nx_) { \
        nx_ = it_->next;                             \
        free(it_);                                   \
    }

void irq_fini(struct irq *q)
{
    FREE_LIST(struct mobo_irq, q->claims);
    FREE_LIST(struct irq_sink, q->sinks);
    FREE_LIST(struct eoi_watch, q->eois);
    pthread_mutex_destroy(&q->lock);
}

/* The level of @line anew; tell the controllers of a change.  The lock stays held while they hear,
 * so that they hear in order. */
static void line_update_locked(struct irq *q, uint32_t line)
{
    bool level = q->claimed[line] > 0;

    if (q->restoring)
        return;
    for (unsigned i = 0; i < 4; i++)
        level |= q->pirq[i] && q->route[i] == (int32_t)line;
    if (level == q->level[line])
        return;
    q->level[line] = level;
    for (struct irq_sink *s = q->sinks; s; s = s->next)
        if (line >= s->first && line - s->first < s->count) {
            struct vdev_enter e = vdev_enter(s->dev);

            s->level(s->ctx, line, level);
            vdev_leave(s->dev, e);
        }
}

/* Interrupt controllers come after irq.lock in the lock order, so they must not drive lines. */
static bool allowed(struct mobo_vdev *dev)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;

    if (!vdev_current || !vdev_current->is_sink)
        return true;
    if (!atomic_flag_test_and_set(&told))
        vmb_log(dev->board, MOBO_ERROR, vdev_current->name,
                "drives an interrupt line, which an interrupt controller must not; ignored");
    return false;
}

int irq_claim(struct mobo_vdev *dev, uint32_t line, uint32_t flags, struct mobo_irq **ret)
{
    enum { SHAREABLE = MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED };
    struct irq *q = &dev->board->irq;
    struct mobo_irq *c;

    if (vdev_creating(dev, "irq_claim"))
        return -EPERM;
    if (line >= MOBO_IRQ_LINES || (flags & ~(uint32_t)SHAREABLE))
        return vdev_fail(dev, -EINVAL, "irq: there is no line %u", line);
    for (c = q->claims; c; c = c->next)
        if (c->line == line && !(c->flags == SHAREABLE && flags == SHAREABLE))
            return vdev_fail(dev, -EBUSY, "irq: line %u is taken by '%s'", line, c->dev->name);
    c = calloc(1, sizeof(*c));
    if (!c)
        return vdev_fail(dev, -ENOMEM, "irq: no memory");
    c->dev = dev;
    c->line = line;
    c->flags = flags;
    c->next = q->claims;
    q->claims = c;
    *ret = c;
    return 0;
}

static void claim_level_locked(struct irq *q, struct mobo_irq *c, bool level)
{
    if (c->level == level)
        return;
    c->level = level;
    if (level)
        q->claimed[c->line]++;
    else
        q->claimed[c->line]--;
    line_update_locked(q, c->line);
}

void irq_set(struct mobo_irq *c, int level)
{
    struct irq *q = &c->dev->board->irq;

    if (!allowed(c->dev))
        return;
    pthread_mutex_lock(&q->lock);
    claim_level_locked(q, c, level != 0);
    pthread_mutex_unlock(&q->lock);
}

void irq_pulse(struct mobo_irq *c)
{
    struct irq *q = &c->dev->board->irq;

    if (!allowed(c->dev))
        return;
    pthread_mutex_lock(&q->lock);
    claim_level_locked(q, c, true);
    claim_level_locked(q, c, false);
    pthread_mutex_unlock(&q->lock);
}

int irq_sink_add(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                 void (*level)(void *ctx, uint32_t line, int level), void *ctx)
{
    struct irq_sink *s, **tail;

    if (vdev_creating(dev, "irq_sink_add"))
        return -EPERM;
    if (!level || !count || first >= MOBO_IRQ_LINES || count > MOBO_IRQ_LINES - first)
        return vdev_fail(dev, -EINVAL, "irq: there are no lines %u to %u", first,
                         first + count - 1);
    if (!dev->is_sink)
        return vdev_fail(dev, -EINVAL, "irq: an interrupt controller has to say so in its flags");
    s = calloc(1, sizeof(*s));
    if (!s)
        return vdev_fail(dev, -ENOMEM, "irq: no memory");
    s->dev = dev;
    s->first = first;
    s->count = count;
    s->level = level;
    s->ctx = ctx;
    for (tail = &dev->board->irq.sinks; *tail; tail = &(*tail)->next)
        ;
    *tail = s;
    return 0;
}

int irq_intack_set(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx)
{
    struct irq *q = &dev->board->irq;

    if (vdev_creating(dev, "intack_set"))
        return -EPERM;
    if (q->intack)
        return vdev_fail(dev, -EBUSY, "'%s' acknowledges external interrupts already",
                         q->intack_dev->name);
    q->intack_dev = dev;
    q->intack_ctx = ctx;
    q->intack = intack;
    return 0;
}

int irq_eoi_watch(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector), void *ctx)
{
    struct eoi_watch *w;

    if (vdev_creating(dev, "eoi_watch"))
        return -EPERM;
    w = calloc(1, sizeof(*w));
    if (!w)
        return vdev_fail(dev, -ENOMEM, "irq: no memory");
    w->dev = dev;
    w->eoi = eoi;
    w->ctx = ctx;
    w->next = dev->board->irq.eois;
    dev->board->irq.eois = w;
    return 0;
}

/* ---- PIRQ --------------------------------------------------------------------------------------- */

int irq_pirq_route(struct mobo_vdev *dev, uint32_t pirq, int32_t line)
{
    struct irq *q = &dev->board->irq;
    int32_t old;

    if (pirq > 3 || line < -1 || line >= MOBO_IRQ_LINES)
        return -EINVAL;
    if (!allowed(dev))
        return -EINVAL;
    pthread_mutex_lock(&q->lock);
    if (q->router && q->router != dev) {
        pthread_mutex_unlock(&q->lock);
        return vdev_fail(dev, -EBUSY, "'%s' routes PCI interrupts already", q->router->name);
    }
    if (!q->router) {
        q->router = dev;
        for (unsigned i = 0; i < 4; i++) {
            int32_t was = q->route[i];

            q->route[i] = -1;
            line_update_locked(q, (uint32_t)was);
        }
    }
    old = q->route[pirq];
    q->route[pirq] = line;
    if (old >= 0)
        line_update_locked(q, (uint32_t)old);
    if (line >= 0)
        line_update_locked(q, (uint32_t)line);
    pthread_mutex_unlock(&q->lock);
    return 0;
}

void irq_pirq_change(struct vmb *v, uint32_t pirq, bool level)
{
    struct irq *q = &v->irq;

    pthread_mutex_lock(&q->lock);
    if (level)
        q->pirq[pirq]++;
    else
        q->pirq[pirq]--;
    if (q->route[pirq] >= 0)
        line_update_locked(q, (uint32_t)q->route[pirq]);
    pthread_mutex_unlock(&q->lock);
}

int32_t irq_pirq_line(struct vmb *v, uint32_t pirq)
{
    int32_t line;

    pthread_mutex_lock(&v->irq.lock);
    line = v->irq.route[pirq];
    pthread_mutex_unlock(&v->irq.lock);
    return line;
}

void irq_reset(struct vmb *v)
{
    struct irq *q = &v->irq;

    pthread_mutex_lock(&q->lock);
    for (struct mobo_irq *c = q->claims; c; c = c->next)
        claim_level_locked(q, c, false);
    pthread_mutex_unlock(&q->lock);
}

/* ---- from the processors ------------------------------------------------------------------------ */

int irq_ack(void *ctx, unsigned vp)
{
    struct irq *q = &((struct vmb *)ctx)->irq;
    struct vdev_enter e;
    int vector;

    (void)vp;
    if (!q->intack)
        return -1;
    e = vdev_enter(q->intack_dev);
    vector = q->intack(q->intack_ctx);
    vdev_leave(q->intack_dev, e);
    return vector < 0 || vector > 255 ? -1 : vector;
}

void irq_eoi(void *ctx, unsigned vp, unsigned vector)
{
    struct vmb *v = ctx;

    (void)vp;
    for (struct eoi_watch *w = v->irq.eois; w; w = w->next) {
        struct vdev_enter e = vdev_enter(w->dev);

        w->eoi(w->ctx, vector);
        vdev_leave(w->dev, e);
    }
}

/* ---- state ---------------------------------------------------------------------------------------
 * Which claims are asserted, by device and line.  PIRQ levels come back with the PCI functions,
 * routes with the router; the controllers have their own idea of the levels, which must not be
 * disturbed meanwhile: between irq_restore() and irq_restored() nobody is told anything. */

void irq_save(struct vmb *v, struct mobo_writer *w)
{
    struct irq *q = &v->irq;
    uint8_t levels[MOBO_IRQ_LINES];
    uint32_t tag = 2;

    pthread_mutex_lock(&q->lock);
    for (unsigned i = 0; i < MOBO_IRQ_LINES; i++)
        levels[i] = q->level[i];
    mobo_save_bytes(w, 1, 0, levels, sizeof(levels));
    for (struct mobo_irq *c = q->claims; c; c = c->next) {
        uint8_t line = (uint8_t)c->line;

        if (!c->level || tag > MOBO_STATE_MAX_TAG)
            continue;
        mobo_save_begin(w, tag++, 0);
        mobo_save_bytes(w, 1, 0, c->dev->name, (uint32_t)strlen(c->dev->name));
        mobo_save_bytes(w, 2, 0, &line, 1);
        mobo_save_end(w);
    }
    pthread_mutex_unlock(&q->lock);
}

int irq_restore(struct vmb *v, struct mobo_reader *r, char *msg, size_t len)
{
    struct irq *q = &v->irq;
    uint8_t levels[MOBO_IRQ_LINES];
    uint32_t n = 0;

    if (mobo_load_bytes(r, 1, levels, sizeof(levels), &n) || n != sizeof(levels)) {
        snprintf(msg, len, "saved interrupt lines are missing or have a wrong length");
        return -EINVAL;
    }
    pthread_mutex_lock(&q->lock);
    q->restoring = true;
    for (struct mobo_irq *c = q->claims; c; c = c->next) /* a reset may have raised some: a timer's output */
        c->level = false;
    memset(q->claimed, 0, sizeof(q->claimed));
    for (unsigned i = 0; i < MOBO_IRQ_LINES; i++)
        q->level[i] = levels[i] != 0;
    pthread_mutex_unlock(&q->lock);
    for (uint32_t tag = 2; tag <= MOBO_STATE_MAX_TAG && !mobo_load_begin(r, tag); tag++) {
        char name[256] = "";
        uint8_t line = 0;
        uint32_t nl = 0;
        struct mobo_irq *c = NULL;

        n = 0;
        if (!mobo_load_bytes(r, 1, name, sizeof(name) - 1, &n) &&
            !mobo_load_bytes(r, 2, &line, 1, &nl) && nl == 1)
            for (c = q->claims; c; c = c->next)
                if (c->line == line && strlen(c->dev->name) == n &&
                    !memcmp(c->dev->name, name, n) && !c->level)
                    break;
        if (!c) {
            snprintf(msg, len, "saved interrupt line %u of '%s' is not on this board", line, name);
            return -EINVAL;
        }
        pthread_mutex_lock(&q->lock);
        c->level = true;
        q->claimed[line]++;
        pthread_mutex_unlock(&q->lock);
        if (mobo_load_end(r)) {
            snprintf(msg, len, "%s", r->msg);
            return -EINVAL;
        }
    }
    return 0;
}

void irq_restored(struct vmb *v)
{
    struct irq *q = &v->irq;

    pthread_mutex_lock(&q->lock);
    q->restoring = false;
    for (uint32_t line = 0; line < MOBO_IRQ_LINES; line++)
        line_update_locked(q, line);
    pthread_mutex_unlock(&q->lock);
}
