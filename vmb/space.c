/* SPDX-License-Identifier: BSD-2-Clause */
/* Port space and MMIO space: who answers where.
 *
 * Lookups are the hot side: a table of all ports, and a sorted array of disjoint ranges for memory.
 * Regions live as long as the board; changes rebuild what they touch. */
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/lib/access.h"

enum { ISA_HOLE = 0xa0000, ISA_HOLE_END = 0x100000 };
/* Written for the time that it takes (Linux: io_delay).  While no device has it, the processor need not stop for that. */
enum { DELAY_PORT = 0x80 };

void space_delay_port(struct vmb *v)
{
    bool free = !atomic_load_explicit(&v->space.port[DELAY_PORT], memory_order_acquire);

    hv_pio_posted(v->part, DELAY_PORT, 1, free);
}

int space_init(struct space *s)
{
    pthread_mutex_init(&s->lock, NULL);
    pthread_rwlock_init(&s->mmio_lock, NULL);
    return 0;
}

void space_fini(struct space *s)
{
    for (unsigned i = 0; i < s->nregions; i++)
        free(s->regions[i]);
    free(s->mmio);
    pthread_rwlock_destroy(&s->mmio_lock);
    pthread_mutex_destroy(&s->lock);
}

static uint64_t base_of(const struct mobo_region *r)
{
    return atomic_load_explicit(&r->base, memory_order_acquire);
}

static bool enabled(const struct mobo_region *r)
{
    return atomic_load_explicit(&r->enabled, memory_order_acquire);
}

static bool covers(const struct mobo_region *r, uint64_t addr)
{
    uint64_t base = base_of(r);

    return enabled(r) && addr >= base && addr - base < r->len;
}

/* ---- changes ------------------------------------------------------------------------------------ */

/* Work out anew who answers at the ports [base, base + len). */
static void ports_update(struct space *s, uint64_t base, uint64_t len)
{
    for (uint64_t port = base; port < base + len && port < 65536; port++) {
        uint16_t owner = 0;

        for (unsigned i = 0; i < s->nregions && !owner; i++)
            if (!s->regions[i]->mmio && !(s->regions[i]->flags & MOBO_REGION_EXACT) &&
                covers(s->regions[i], port))
                owner = (uint16_t)(i + 1);
        atomic_store_explicit(&s->port[port], owner, memory_order_release);
    }
}

static int cmp_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Build the array of ranges anew. */
static int mmio_update(struct space *s)
{
    struct mmio_range *out = NULL, *old;
    uint64_t *cut = NULL;
    unsigned ncut = 0, n = 0;

    cut = malloc((s->nregions * 2 + 1) * sizeof(*cut));
    out = malloc((s->nregions * 2 + 1) * sizeof(*out));
    if (!cut || !out) {
        free(cut);
        free(out);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < s->nregions; i++)
        if (s->regions[i]->mmio && enabled(s->regions[i])) {
            cut[ncut++] = base_of(s->regions[i]);
            cut[ncut++] = base_of(s->regions[i]) + s->regions[i]->len;
        }
    qsort(cut, ncut, sizeof(*cut), cmp_u64);
    for (unsigned c = 0; c + 1 < ncut; c++) {
        if (cut[c] == cut[c + 1])
            continue;
        for (unsigned i = 0; i < s->nregions; i++) {
            struct mobo_region *r = s->regions[i];

            if (!r->mmio || !covers(r, cut[c]))
                continue;
            if (n && out[n - 1].region == r && out[n - 1].last + 1 == cut[c]) {
                out[n - 1].last = cut[c + 1] - 1;
            } else {
                out[n].start = cut[c];
                out[n].last = cut[c + 1] - 1;
                out[n++].region = r;
            }
            break;
        }
    }
    free(cut);
    pthread_rwlock_wrlock(&s->mmio_lock);
    old = s->mmio;
    s->mmio = out;
    s->nmmio = n;
    pthread_rwlock_unlock(&s->mmio_lock);
    free(old);
    return 0;
}

static bool fits(bool mmio, uint64_t base, uint64_t len)
{
    uint64_t top = mmio ? (uint64_t)1 << 52 : 0x10000;

    return len && len <= top && base <= top - len;
}

static bool in_isa_hole(uint64_t base, uint64_t len)
{
    return base < ISA_HOLE_END && base + len > ISA_HOLE;
}

/* Set base and enable under space.lock. */
static int place_locked(struct space *s, struct mobo_region *r, uint64_t base, bool on)
{
    uint64_t old = base_of(r);
    bool was = enabled(r);

    if (old == base && was == on)
        return 0;
    atomic_store_explicit(&r->base, base, memory_order_release);
    atomic_store_explicit(&r->enabled, on, memory_order_release);
    if (r->flags & MOBO_REGION_EXACT)
        return 0;
    if (!r->mmio) {
        if (was)
            ports_update(s, old, r->len);
        if (on)
            ports_update(s, base, r->len);
        if ((was && old <= DELAY_PORT && DELAY_PORT - old < r->len) ||
            (on && base <= DELAY_PORT && DELAY_PORT - base < r->len))
            space_delay_port(r->dev->board);
        return 0;
    }
    if (was && in_isa_hole(old, r->len))
        mem_isa_hole(r->dev->board, old, r->len, false);
    if (on && in_isa_hole(base, r->len))
        mem_isa_hole(r->dev->board, base, r->len, true);
    return mmio_update(s);
}

int space_place(struct mobo_region *r, uint64_t base, bool on)
{
    struct space *s = &r->dev->board->space;
    int err;

    if (on && !fits(r->mmio, base, r->len))
        return -EINVAL;
    pthread_mutex_lock(&s->lock);
    err = place_locked(s, r, base, on);
    pthread_mutex_unlock(&s->lock);
    return err;
}

int space_add(struct mobo_vdev *dev, bool mmio, bool bar, const char *name, uint64_t base,
              uint64_t len, uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
              struct mobo_region **ret)
{
    struct space *s = &dev->board->space;
    struct mobo_region *r, *other = NULL;
    int err = 0;

    if (!name || !mobo_access_valid(ops) ||
        (flags & ~(MOBO_REGION_EXACT | MOBO_REGION_DISABLED | MOBO_REGION_UNLOCKED)))
        return vdev_fail(dev, -EINVAL, "%s: bad description of a region", name ? name : "region");
    if (!fits(mmio, base, len))
        return vdev_fail(dev, -EINVAL, "%s: 0x%" PRIx64 " and 0x%" PRIx64 " bytes is beyond the %s",
                         name, base, len, mmio ? "address space" : "65536 ports");
    if (mmio && (flags & MOBO_REGION_EXACT))
        return vdev_fail(dev, -EINVAL, "%s: exact regions are for ports", name);
    if (mmio && !bar && base + len > 0x100000 && base < dev->board->ram_low)
        return vdev_fail(dev, -EBUSY, "%s: 0x%" PRIx64 "-0x%" PRIx64 " is RAM", name, base,
                         base + len - 1);
    if (mmio && in_isa_hole(base, len) && (base % HV_PAGE_SIZE || len % HV_PAGE_SIZE))
        return vdev_fail(dev, -EINVAL, "%s: below 1 MiB only whole pages can be claimed", name);
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->nregions && !(flags & MOBO_REGION_DISABLED); i++) {
        struct mobo_region *q = s->regions[i];

        if (q->mmio == mmio && !q->bar && enabled(q) &&
            (q->flags & MOBO_REGION_EXACT) == (flags & MOBO_REGION_EXACT) &&
            base < base_of(q) + q->len && base_of(q) < base + len)
            other = q;
    }
    if (other) {
        err = vdev_fail(dev, -EBUSY,
                        "%s: 0x%" PRIx64 "-0x%" PRIx64 " is taken by '%s' (%s 0x%" PRIx64
                        "-0x%" PRIx64 ")",
                        name, base, base + len - 1, other->dev->name, other->name, base_of(other),
                        base_of(other) + other->len - 1);
        goto out;
    }
    r = calloc(1, sizeof(*r));
    if (!r || s->nregions == VMB_MAX_REGIONS ||
        ((flags & MOBO_REGION_EXACT) && s->nexact == VMB_MAX_EXACT)) {
        free(r);
        err = vdev_fail(dev, -ENOSPC, "%s: too many regions on this board", name);
        goto out;
    }
    r->dev = dev;
    snprintf(r->name, sizeof(r->name), "%s", name);
    r->mmio = mmio;
    r->bar = bar;
    r->flags = flags;
    memcpy(&r->ops, ops, sizeof(r->ops));
    r->ctx = ctx;
    r->len = len;
    r->seq = s->nregions;
    atomic_store(&r->base, base);
    s->regions[s->nregions++] = r;
    if (flags & MOBO_REGION_EXACT) {
        s->exact[s->nexact] = r;
        atomic_fetch_add_explicit(&s->nexact, 1, memory_order_release);
    }
    if (!(flags & MOBO_REGION_DISABLED))
        err = place_locked(s, r, base, true);
    if (ret)
        *ret = r;
out:
    pthread_mutex_unlock(&s->lock);
    return err;
}

/* ---- accesses ----------------------------------------------------------------------------------- */

/* The part of an access that lies in @r, under its vdev's lock.  *@len comes back as what was done;
 * the region may have moved since it was looked up, then nobody answers for one byte. */
static uint64_t region_access(struct mobo_region *r, uint64_t addr, unsigned *len, bool write,
                              uint64_t val)
{
    bool lock = !(r->flags & MOBO_REGION_UNLOCKED);
    struct vdev_enter e = { 0 };
    uint64_t ret = UINT64_MAX, off;

    if (lock)
        e = vdev_enter(r->dev);
    off = addr - base_of(r);
    if (enabled(r) && off < r->len) {
        if (*len > r->len - off)
            *len = (unsigned)(r->len - off);
        if (write)
            mobo_access_write(&r->ops, r->ctx, r->len, off, *len, val);
        else
            ret = mobo_access_read(&r->ops, r->ctx, r->len, off, *len);
    } else {
        *len = 1;
    }
    if (lock)
        vdev_leave(r->dev, e);
    return ret & mobo_ones(*len);
}

static struct mobo_region *find_exact(struct space *s, uint32_t port, unsigned len)
{
    unsigned n = atomic_load_explicit(&s->nexact, memory_order_acquire);

    for (unsigned i = 0; i < n; i++) {
        struct mobo_region *r = s->exact[i];

        if ((r->ops.widths & len) && covers(r, port) && (port - base_of(r)) % len == 0 &&
            port - base_of(r) + len <= r->len)
            return r;
    }
    return NULL;
}

static uint32_t pio_access(struct vmb *v, uint32_t port, unsigned len, bool write, uint32_t val)
{
    struct space *s = &v->space;
    struct mobo_region *r = find_exact(s, port, len);
    uint64_t ret = 0;

    if (r)
        return (uint32_t)region_access(r, port, &len, write, val);
    for (unsigned done = 0; done < len;) {
        uint32_t at = port + done; /* past 0xffff nobody answers */
        uint16_t i = at > 0xffff ? 0 : atomic_load_explicit(&s->port[at], memory_order_acquire);
        unsigned n = len - done;
        uint64_t v8 = 0xff;

        if (i)
            v8 = region_access(s->regions[i - 1], at, &n, write, val >> (done * 8));
        else
            n = 1;
        ret |= v8 << (done * 8);
        done += n;
    }
    return (uint32_t)(ret & mobo_ones(len));
}

uint32_t space_pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)vp;
    return pio_access(ctx, port, len, false, 0);
}

void space_pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    (void)vp;
    pio_access(ctx, port, len, true, val);
}

static struct mobo_region *find_mmio(struct space *s, uint64_t gpa)
{
    struct mobo_region *r = NULL;
    unsigned lo = 0, hi;

    pthread_rwlock_rdlock(&s->mmio_lock);
    hi = s->nmmio;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (gpa < s->mmio[mid].start) {
            hi = mid;
        } else if (gpa > s->mmio[mid].last) {
            lo = mid + 1;
        } else {
            r = s->mmio[mid].region;
            break;
        }
    }
    pthread_rwlock_unlock(&s->mmio_lock);
    return r;
}

static uint64_t mmio_access(struct vmb *v, uint64_t gpa, unsigned len, bool write, uint64_t val)
{
    uint64_t ret = 0;

    for (unsigned done = 0; done < len;) {
        struct mobo_region *r = find_mmio(&v->space, gpa + done);
        unsigned n = len - done;
        uint64_t v8 = 0xff;

        if (r)
            v8 = region_access(r, gpa + done, &n, write, val >> (done * 8));
        else
            n = 1;
        ret |= v8 << (done * 8);
        done += n;
    }
    return ret;
}

uint64_t space_mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len)
{
    (void)vp;
    return mmio_access(ctx, gpa, len, false, 0);
}

void space_mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)vp;
    mmio_access(ctx, gpa, len, true, val);
}
