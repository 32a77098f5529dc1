/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest-physical memory: one memfd as backing store, a sorted table of regions, the dirty log.
 *
 * The table is read lock-free under a sequence lock: it has room for the largest number of regions from the
 * beginning (address space only), so readers never meet freed memory.  The backing store is mapped once,
 * into one reserved stretch of address space, and stays until the partition goes: a host address that was
 * looked up is always memory of the partition, whatever happened to the map since. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/infra.h"

enum { GPA_MAX_REGIONS = 16384, GPA_MAX_OVERLAYS = 4 * HV_MAX_VPS + 16 };
#define RAM_RESERVE (1ull << 40)
#define RAM_ALIGN   (2ull << 20)

struct gpa_region {
    uint64_t gpa, len, offset;
    uint32_t flags, reserved;
};

struct hv_gpa_space {
    pthread_mutex_t lock; /* writers */
    int fd;
    uint8_t *ram; /* owned: ram_reserved bytes, mapped up to ram_len */
    uint64_t ram_reserved, ram_len;
    _Atomic uint32_t seq; /* odd while the table changes */
    _Atomic uint32_t n;
    struct gpa_region *tab; /* sorted by gpa, no overlaps: what the guest sees */
    /* Guarded by lock: what is mapped, without the overlay pages; the overlays; tables under construction. */
    struct gpa_region *base; /* second half: a base to come */
    struct gpa_region *scratch, *scratch2;
    uint32_t nbase, noverlays;
    struct gpa_region overlay[GPA_MAX_OVERLAYS]; /* a page each, later ones on top */
    _Atomic uint64_t *dirty;                     /* one bit a page of backing store */
};

static void *reserve(size_t len, int prot)
{
    void *m = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return m == MAP_FAILED ? NULL : m;
}

static size_t dirty_bytes(const struct hv_gpa_space *s)
{
    return (size_t)(s->ram_reserved / HV_PAGE_SIZE / 8);
}

int hv_gpa_space_create(struct hv_partition *p)
{
    struct hv_gpa_space *s = calloc(1, sizeof(*s));

    if (!s)
        return hv_fail(-ENOMEM, "guest memory: out of memory");
    p->gpa = s;
    pthread_mutex_init(&s->lock, NULL);
    s->fd = memfd_create("mobo-ram", MFD_CLOEXEC);
    if (s->fd < 0) {
        int err = errno;

        return hv_fail(-err, "guest memory: memfd: %s", strerror(err));
    }
    for (s->ram_reserved = RAM_RESERVE; s->ram_reserved >= 1ull << 30; s->ram_reserved >>= 1) {
        s->ram = reserve(s->ram_reserved, PROT_NONE);
        if (s->ram)
            break;
    }
    s->tab = reserve(GPA_MAX_REGIONS * sizeof(*s->tab), PROT_READ | PROT_WRITE);
    s->base = reserve(2 * GPA_MAX_REGIONS * sizeof(*s->tab), PROT_READ | PROT_WRITE);
    s->scratch = reserve(GPA_MAX_REGIONS * sizeof(*s->tab), PROT_READ | PROT_WRITE);
    s->scratch2 = reserve(GPA_MAX_REGIONS * sizeof(*s->tab), PROT_READ | PROT_WRITE);
    s->dirty = s->ram ? reserve(dirty_bytes(s), PROT_READ | PROT_WRITE) : NULL;
    if (!s->ram || !s->tab || !s->base || !s->scratch || !s->scratch2 || !s->dirty)
        return hv_fail(-ENOMEM, "guest memory: not enough address space");
    madvise((void *)s->dirty, dirty_bytes(s), MADV_DONTDUMP);
    return 0;
}

void hv_gpa_space_destroy(struct hv_partition *p)
{
    struct hv_gpa_space *s = p->gpa;

    if (!s)
        return;
    if (s->dirty)
        munmap((void *)s->dirty, dirty_bytes(s));
    struct gpa_region *tables[] = { s->tab, s->base, s->scratch, s->scratch2 };

    for (unsigned i = 0; i < COUNT(tables); i++)
        if (tables[i])
            munmap(tables[i], (tables[i] == s->base ? 2 : 1) * GPA_MAX_REGIONS * sizeof(*s->tab));
    if (s->ram)
        munmap(s->ram, s->ram_reserved);
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
    p->gpa = NULL;
}

/* ---- backing store ---- */

int hv_ram_alloc(struct hv_partition *p, uint64_t len, uint64_t *ret_offset)
{
    struct hv_gpa_space *s = p->gpa;
    uint64_t off;
    int err = 0;

    if (len == 0 || len % HV_PAGE_SIZE)
        return hv_fail(-EINVAL, "guest memory: length 0x%llx is not a multiple of 4 KB",
                       (unsigned long long)len);
    pthread_mutex_lock(&s->lock);
    off = s->ram_len;
    if (len >= RAM_ALIGN)
        off = (off + RAM_ALIGN - 1) & ~(RAM_ALIGN - 1);
    if (off > s->ram_reserved || len > s->ram_reserved - off) {
        err =
            hv_fail(-ENOMEM, "guest memory: %llu MB more do not fit into %llu MB of address space",
                    (unsigned long long)(len >> 20), (unsigned long long)(s->ram_reserved >> 20));
    } else if (ftruncate(s->fd, (off_t)(off + len)) < 0) {
        err = hv_fail(-errno, "guest memory: cannot grow to %llu MB: %s",
                      (unsigned long long)((off + len) >> 20), strerror(errno));
    } else if (mmap(s->ram + off, len, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED | MAP_NORESERVE, s->fd, (off_t)off) == MAP_FAILED) {
        err = hv_fail(-errno, "guest memory: cannot map %llu MB: %s",
                      (unsigned long long)(len >> 20), strerror(errno));
    } else {
        madvise(s->ram + off, len, MADV_DONTDUMP);
        s->ram_len = off + len;
        *ret_offset = off;
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

uint64_t hv_ram_len(const struct hv_partition *p)
{
    return p->gpa->ram_len;
}

int hv_ram_fd(struct hv_partition *p)
{
    return p->gpa->fd;
}

void *hv_ram_hva(struct hv_partition *p, uint64_t offset, uint64_t len)
{
    struct hv_gpa_space *s = p->gpa;

    if (offset > s->ram_len || len > s->ram_len - offset)
        return NULL;
    return s->ram + offset;
}

/* ---- the table ---- */

#define LOAD(x)     __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)

/* The region that holds @gpa, or false. */
static bool gpa_find(const struct hv_gpa_space *s, uint64_t gpa, struct gpa_region *ret)
{
    for (;;) {
        uint32_t seq = atomic_load_explicit(&s->seq, memory_order_acquire);
        uint32_t lo = 0, hi = atomic_load_explicit(&s->n, memory_order_relaxed);
        struct gpa_region r = { 0 };
        bool hit = false;

        while (lo < hi) {
            uint32_t mid = (lo + hi) / 2;

            if (gpa < LOAD(s->tab[mid].gpa))
                hi = mid;
            else
                lo = mid + 1;
        }
        if (lo > 0) {
            const struct gpa_region *t = &s->tab[lo - 1];

            r.gpa = LOAD(t->gpa);
            r.len = LOAD(t->len);
            r.offset = LOAD(t->offset);
            r.flags = LOAD(t->flags);
            hit = gpa - r.gpa < r.len;
        }
        atomic_thread_fence(memory_order_acquire);
        if (!(seq & 1) && seq == atomic_load_explicit(&s->seq, memory_order_relaxed)) {
            if (hit)
                *ret = r;
            return hit;
        }
    }
}

bool hv_gpa_lookup(struct hv_partition *p, uint64_t gpa, struct hv_gpa_ref *ret)
{
    struct gpa_region r;

    if (!gpa_find(p->gpa, gpa, &r))
        return false;
    uint64_t off = r.offset + ((gpa & ~(uint64_t)(HV_PAGE_SIZE - 1)) - r.gpa);

    ret->hva = p->gpa->ram + off;
    ret->flags = r.flags;
    ret->ram_page = off / HV_PAGE_SIZE;
    return true;
}

/* Append to a table, joined with its last entry where both are one.  false: full. */
static bool put(struct gpa_region *tab, uint32_t *n, struct gpa_region r)
{
    struct gpa_region *last = *n ? &tab[*n - 1] : NULL;

    if (!r.len)
        return true;
    if (last && last->gpa + last->len == r.gpa && last->offset + last->len == r.offset &&
        last->flags == r.flags) {
        last->len += r.len;
        return true;
    }
    if (*n == GPA_MAX_REGIONS)
        return false;
    tab[(*n)++] = r;
    return true;
}

enum gpa_change { GPA_MAP, GPA_UNMAP, GPA_PROTECT };

/* @to = @from with one change.  @return its number of regions, or UINT32_MAX: full. */
static uint32_t gpa_apply(struct gpa_region *to, const struct gpa_region *from, uint32_t nfrom,
                          enum gpa_change kind, struct gpa_region c)
{
    uint64_t end = c.gpa + c.len;
    bool ok = true, placed = kind != GPA_MAP;
    uint32_t n = 0;

    for (uint32_t i = 0; i < nfrom && ok; i++) {
        struct gpa_region r = from[i], part = r;
        uint64_t rend = r.gpa + r.len, lo, hi;

        if (!placed && r.gpa >= c.gpa) {
            ok = put(to, &n, c);
            placed = true;
        }
        if (rend <= c.gpa || r.gpa >= end) {
            ok = ok && put(to, &n, r);
            continue;
        }
        lo = r.gpa > c.gpa ? r.gpa : c.gpa;
        hi = rend < end ? rend : end;
        part.len = lo - r.gpa; /* what lies before the change */
        ok = ok && put(to, &n, part);
        if (!placed) {
            ok = ok && put(to, &n, c);
            placed = true;
        }
        if (kind == GPA_PROTECT) {
            part.gpa = lo;
            part.len = hi - lo;
            part.offset = r.offset + (lo - r.gpa);
            part.flags = c.flags;
            ok = ok && put(to, &n, part);
        }
        part = r; /* and behind */
        part.gpa = hi;
        part.len = rend - hi;
        part.offset = r.offset + (hi - r.gpa);
        ok = ok && put(to, &n, part);
    }
    if (!placed)
        ok = ok && put(to, &n, c);
    return ok ? n : UINT32_MAX;
}

/* Lay the overlays over the table in @tab and show the result to the guest. */
static int gpa_publish(struct hv_gpa_space *s, struct gpa_region *tab, uint32_t n,
                       struct gpa_region *spare)
{
    for (uint32_t i = 0; i < s->noverlays; i++) {
        struct gpa_region *swap = tab;

        n = gpa_apply(spare, tab, n, GPA_MAP, s->overlay[i]);
        if (n == UINT32_MAX)
            return -ENOSPC;
        tab = spare;
        spare = swap;
    }
    atomic_fetch_add_explicit(&s->seq, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (uint32_t i = 0; i < n; i++) {
        STORE(s->tab[i].gpa, tab[i].gpa);
        STORE(s->tab[i].len, tab[i].len);
        STORE(s->tab[i].offset, tab[i].offset);
        STORE(s->tab[i].flags, tab[i].flags);
    }
    atomic_store_explicit(&s->n, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->seq, 1, memory_order_release);
    return 0;
}

/* Nobody may go on with the old map; a VP that waits for a callback of ours is not in guest context. */
static int gpa_changed(struct hv_partition *p)
{
    x86_tlb_shootdown(p);
    return p->engine && p->engine->map_changed ? p->engine->map_changed(p) : 0;
}

static int gpa_change(struct hv_partition *p, enum gpa_change kind, struct gpa_region c)
{
    struct hv_gpa_space *s = p->gpa;
    uint64_t end = c.gpa + c.len;
    uint32_t n;

    if (c.len == 0 || (c.gpa | c.len) % HV_PAGE_SIZE || end < c.gpa || end > 1ull << HV_MAXPHYADDR)
        return hv_fail(-EINVAL, "guest memory: range 0x%llx+0x%llx is not a page range below 2^%d",
                       (unsigned long long)c.gpa, (unsigned long long)c.len, HV_MAXPHYADDR);
    if (kind != GPA_UNMAP &&
        (!(c.flags & HV_MAP_READ) || (c.flags & ~(unsigned)(HV_MAP_RWX | HV_MAP_DIRTY_LOG))))
        return hv_fail(-EINVAL, "guest memory: flags 0x%x at 0x%llx", c.flags,
                       (unsigned long long)c.gpa);

    pthread_mutex_lock(&s->lock);
    if (kind == GPA_MAP &&
        (c.offset % HV_PAGE_SIZE || c.offset > s->ram_len || c.len > s->ram_len - c.offset)) {
        pthread_mutex_unlock(&s->lock);
        return hv_fail(-EINVAL, "guest memory: backing 0x%llx+0x%llx is not allocated",
                       (unsigned long long)c.offset, (unsigned long long)c.len);
    }
    n = gpa_apply(s->scratch, s->base, s->nbase, kind, c);
    if (n != UINT32_MAX) {
        /* Publish first: the overlays may not fit any more. */
        uint32_t nbase = n;

        memcpy(s->scratch2, s->scratch, n * sizeof(*s->tab));
        memcpy(s->base + GPA_MAX_REGIONS, s->scratch, n * sizeof(*s->tab));
        if (gpa_publish(s, s->scratch2, n, s->scratch))
            n = UINT32_MAX;
        else
            memcpy(s->base, s->base + GPA_MAX_REGIONS, (s->nbase = nbase) * sizeof(*s->tab));
    }
    pthread_mutex_unlock(&s->lock);
    if (n == UINT32_MAX)
        return hv_fail(-ENOSPC, "guest memory: more than %d regions", GPA_MAX_REGIONS);
    return gpa_changed(p);
}

int hv_overlay_map(struct hv_partition *p, uint64_t gpa, uint64_t offset, unsigned flags)
{
    struct hv_gpa_space *s = p->gpa;
    int err = 0;

    if (gpa % HV_PAGE_SIZE || gpa >= 1ull << HV_MAXPHYADDR)
        return hv_fail(-EINVAL, "overlay page at 0x%llx", (unsigned long long)gpa);
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->noverlays; i++)
        if (s->overlay[i].offset == offset) {
            memmove(&s->overlay[i], &s->overlay[i + 1],
                    (s->noverlays - i - 1) * sizeof(s->overlay[0]));
            s->noverlays--;
            break;
        }
    if (s->noverlays == GPA_MAX_OVERLAYS) {
        err = hv_fail(-ENOSPC, "more than %d overlay pages", GPA_MAX_OVERLAYS);
    } else {
        s->overlay[s->noverlays++] = (struct gpa_region){ gpa, HV_PAGE_SIZE, offset, flags, 0 };
        memcpy(s->scratch, s->base, s->nbase * sizeof(*s->tab));
        err = gpa_publish(s, s->scratch, s->nbase, s->scratch2);
        if (err)
            s->noverlays--;
    }
    pthread_mutex_unlock(&s->lock);
    return err ? err : gpa_changed(p);
}

void hv_overlay_unmap(struct hv_partition *p, uint64_t offset)
{
    struct hv_gpa_space *s = p->gpa;
    bool found = false;

    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->noverlays && !found; i++)
        if (s->overlay[i].offset == offset) {
            memmove(&s->overlay[i], &s->overlay[i + 1],
                    (s->noverlays - i - 1) * sizeof(s->overlay[0]));
            s->noverlays--;
            found = true;
        }
    if (found) {
        memcpy(s->scratch, s->base, s->nbase * sizeof(*s->tab));
        gpa_publish(s, s->scratch, s->nbase, s->scratch2); /* fewer regions than before: fits */
    }
    pthread_mutex_unlock(&s->lock);
    if (found)
        gpa_changed(p);
}

int hv_gpa_map(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t offset, unsigned flags)
{
    return gpa_change(p, GPA_MAP, (struct gpa_region){ gpa, len, offset, flags, 0 });
}

int hv_gpa_unmap(struct hv_partition *p, uint64_t gpa, uint64_t len)
{
    return gpa_change(p, GPA_UNMAP, (struct gpa_region){ gpa, len, 0, 0, 0 });
}

int hv_gpa_protect(struct hv_partition *p, uint64_t gpa, uint64_t len, unsigned flags)
{
    return gpa_change(p, GPA_PROTECT, (struct gpa_region){ gpa, len, 0, flags, 0 });
}

/* ---- access ---- */

/* Host address of [gpa, gpa+*len) cut to one region; NULL when not mapped (for this use). */
static uint8_t *gpa_piece(struct hv_partition *p, uint64_t gpa, uint64_t *len, bool write,
                          unsigned *ret_flags)
{
    struct gpa_region r;

    if (!gpa_find(p->gpa, gpa, &r) || (write && !(r.flags & HV_MAP_WRITE)))
        return NULL;
    if (*len > r.len - (gpa - r.gpa))
        *len = r.len - (gpa - r.gpa);
    if (ret_flags)
        *ret_flags = r.flags;
    return p->gpa->ram + r.offset + (gpa - r.gpa);
}

static int gpa_check(struct hv_partition *p, uint64_t gpa, uint64_t len, bool write)
{
    if (len > UINT64_MAX - gpa)
        return hv_fail(-EFAULT, "guest memory: 0x%llx+0x%llx wraps", (unsigned long long)gpa,
                       (unsigned long long)len);
    while (len) {
        uint64_t n = len;

        if (!gpa_piece(p, gpa, &n, write, NULL))
            return hv_fail(-EFAULT, "guest memory: no %s memory at 0x%llx",
                           write ? "writable" : "readable", (unsigned long long)gpa);
        gpa += n;
        len -= n;
    }
    return 0;
}

static void mark_ram(struct hv_gpa_space *s, uint64_t page, uint64_t npages)
{
    for (; npages; page++, npages--) {
        uint64_t bit = 1ull << (page % 64);

        if (!(atomic_load_explicit(&s->dirty[page / 64], memory_order_relaxed) & bit))
            atomic_fetch_or(&s->dirty[page / 64], bit);
    }
}

void hv_gpa_mark_dirty(struct hv_partition *p, uint64_t gpa)
{
    struct hv_gpa_ref ref;

    if (hv_gpa_lookup(p, gpa, &ref))
        mark_ram(p->gpa, ref.ram_page, 1);
}

void hv_gpa_mark_dirty_range(struct hv_partition *p, uint64_t offset, uint64_t len)
{
    mark_ram(p->gpa, offset / HV_PAGE_SIZE, len / HV_PAGE_SIZE);
}

void hv_gpa_ranges(struct hv_partition *p, void (*fn)(void *ctx, const struct hv_gpa_range *r), void *ctx)
{
    struct hv_gpa_space *s = p->gpa;

    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0, n = atomic_load(&s->n); i < n; i++) {
        struct hv_gpa_range r = { s->tab[i].gpa, s->tab[i].len, s->tab[i].offset, s->tab[i].flags };

        fn(ctx, &r);
    }
    pthread_mutex_unlock(&s->lock);
}

int hv_gpa_read(struct hv_partition *p, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *out = buf;
    int err = gpa_check(p, gpa, len, false);

    if (err)
        return err;
    while (len) {
        uint64_t n = len;
        const uint8_t *hva = gpa_piece(p, gpa, &n, false, NULL);

        if (!hva)
            return hv_fail(-EFAULT, "guest memory: 0x%llx was unmapped meanwhile",
                           (unsigned long long)gpa);
        memcpy(out, hva, n);
        out += n;
        gpa += n;
        len -= n;
    }
    return 0;
}

int hv_gpa_write(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *in = buf;
    int err = gpa_check(p, gpa, len, true);

    if (err)
        return err;
    while (len) {
        uint64_t n = len;
        uint8_t *hva = gpa_piece(p, gpa, &n, true, NULL);

        if (!hva)
            return hv_fail(-EFAULT, "guest memory: 0x%llx was unmapped meanwhile",
                           (unsigned long long)gpa);
        memcpy(hva, in, n);
        hv_gpa_dirty(p, gpa, n);
        in += n;
        gpa += n;
        len -= n;
    }
    return 0;
}

void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write)
{
    uint64_t n = len;
    uint8_t *hva = gpa_piece(p, gpa, &n, write, NULL);

    return hva && n == len ? hva : NULL;
}

void hv_gpa_dirty(struct hv_partition *p, uint64_t gpa, size_t len)
{
    uint64_t left = len, at = gpa;

    while (left) {
        uint64_t n = left;
        unsigned flags = 0;
        uint8_t *hva = gpa_piece(p, at, &n, false, &flags);

        if (!hva)
            break;
        if (flags & HV_MAP_DIRTY_LOG) {
            uint64_t off = (uint64_t)(hva - p->gpa->ram);

            mark_ram(p->gpa, off / HV_PAGE_SIZE,
                     (off % HV_PAGE_SIZE + n + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE);
        }
        at += n;
        left -= n;
    }
    x86_code_dirty(p, gpa, len);
}

/* Stores that use a translation made before the bits were cleared hit pages whose bits are in the answer;
 * the shootdown at the end makes the next store to each page set its bit again. */
int hv_gpa_dirty_log(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t *bitmap)
{
    struct hv_gpa_space *s = p->gpa;

    if ((gpa | len) % HV_PAGE_SIZE || len > UINT64_MAX - gpa)
        return hv_fail(-EINVAL, "dirty log: 0x%llx+0x%llx is not a page range",
                       (unsigned long long)gpa, (unsigned long long)len);
    memset(bitmap, 0, (size_t)((len / HV_PAGE_SIZE + 63) / 64 * 8));
    if (p->engine && p->engine->dirty_sync)
        p->engine->dirty_sync(p, gpa, len);
    for (uint64_t i = 0; i < len / HV_PAGE_SIZE; i++) {
        struct hv_gpa_ref ref;
        bool dirty;

        if (!hv_gpa_lookup(p, gpa + i * HV_PAGE_SIZE, &ref))
            continue;
        if (ref.flags & HV_MAP_DIRTY_LOG) {
            uint64_t bit = 1ull << (ref.ram_page % 64);
            _Atomic uint64_t *w = &s->dirty[ref.ram_page / 64];

            dirty = (atomic_load(w) & bit) && (atomic_fetch_and(w, ~bit) & bit);
        } else {
            dirty = true;
        }
        if (dirty)
            bitmap[i / 64] |= 1ull << (i % 64);
    }
    x86_tlb_shootdown(p);
    return 0;
}

void hv_a20_set(struct hv_partition *p, bool enabled)
{
    if (atomic_exchange(&p->a20_masked, !enabled) != !enabled)
        x86_tlb_shootdown(p);
}
