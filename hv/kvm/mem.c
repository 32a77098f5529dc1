/* SPDX-License-Identifier: BSD-2-Clause */
/* KVM's memory slots follow the GPA map, overlay pages included; the dirty log (API 4.35, 4.8).
 *
 * A change of the map may cut a slot in which a VP runs, and KVM has no way to replace one slot by three at once:
 * the VPs stay out of the guest meanwhile. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"

void kvm_stop(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);

    atomic_store(&kp->stop, 1);
    for (unsigned i = 0; i < HV_MAX_VPS; i++) {
        struct kvm_vcpu *kv = p->vps[i] ? kvm_vcpu(p->vps[i]) : NULL;

        for (unsigned n = 0; kv && atomic_load(&kv->in_run); n++) {
            struct timespec ts = { 0, 50000 };

            if (n % 64 == 0)
                p->engine->kick(p->vps[i]);
            if (n < 16)
                sched_yield();
            else
                nanosleep(&ts, NULL);
        }
    }
}

void kvm_resume(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);

    atomic_store(&kp->stop, 0);
    syscall(SYS_futex, &kp->stop, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* ---- slots ---- */

static int slot_write(struct hv_partition *p, unsigned n, bool remove)
{
    struct kvm_part *kp = kvm_part(p);
    const struct kvm_slot *s = &kp->slots[n];
    struct kvm_userspace_memory_region r = {
        .slot = n,
        .flags = (s->flags & HV_MAP_WRITE ? 0 : KVM_MEM_READONLY) |
                 (s->flags & HV_MAP_DIRTY_LOG ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = s->gpa,
        .memory_size = remove ? 0 : s->len,
        .userspace_addr = (uintptr_t)hv_ram_hva(p, s->offset, s->len),
    };
    int err = kvm_ioctl(kp->vm, KVM_SET_USER_MEMORY_REGION, &r);

    return err < 0 ? err : 0;
}

/* ---- dirty rings (API 8.29): each VP has one, KVM adds the pages that it takes note of ---- */

int kvm_ring_init(struct hv_vp *vp)
{
    struct kvm_part *kp = kvm_part(vp->p);
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    size_t len = kp->ring_len * sizeof(struct kvm_dirty_gfn);
    int err;

    if (!len)
        return 0;
    kv->ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, kv->fd, KVM_DIRTY_LOG_PAGE_OFFSET * HV_PAGE_SIZE);
    if (kv->ring != MAP_FAILED)
        return 0;
    err = -errno;
    kv->ring = NULL;
    return hv_fail(err, "processor %u: dirty ring: %s", vp->index, strerror(-err));
}

void kvm_ring_fini(struct hv_vp *vp)
{
    if (kvm_vcpu(vp)->ring)
        munmap(kvm_vcpu(vp)->ring, kvm_part(vp->p)->ring_len * sizeof(struct kvm_dirty_gfn));
}

/* Move what is in the rings into our log.  map_lock held. */
static void rings_drain(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    bool any = false;

    for (unsigned i = 0; i < HV_MAX_VPS; i++) {
        struct kvm_vcpu *kv = p->vps[i] ? kvm_vcpu(p->vps[i]) : NULL;

        if (!kv || !kv->ring)
            continue;
        for (;;) {
            struct kvm_dirty_gfn *g = &kv->ring[kv->ring_at % kp->ring_len];
            uint32_t slot;
            uint64_t at;

            if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
                break;
            slot = g->slot & 0xffff;
            at = g->offset;
            if (slot < kp->nslots && at < kp->slots[slot].len / HV_PAGE_SIZE)
                hv_gpa_mark_dirty_range(p, kp->slots[slot].offset + at * HV_PAGE_SIZE, HV_PAGE_SIZE);
            __atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
            kv->ring_at++;
            any = true;
        }
    }
    if (any)
        kvm_ioctl(kp->vm, KVM_RESET_DIRTY_RINGS, NULL);
}

void kvm_ring_full(struct hv_partition *p)
{
    pthread_mutex_lock(&kvm_part(p)->map_lock);
    rings_drain(p);
    pthread_mutex_unlock(&kvm_part(p)->map_lock);
}

/* Move KVM's dirty bits of a slot into ours.  Lock held. */
static void slot_drain(struct hv_partition *p, unsigned n)
{
    struct kvm_part *kp = kvm_part(p);
    const struct kvm_slot *s = &kp->slots[n];
    uint64_t pages = s->len / HV_PAGE_SIZE;
    struct kvm_dirty_log log = { .slot = n };
    uint64_t *bits;

    if (!s->len || !(s->flags & HV_MAP_DIRTY_LOG))
        return;
    if (kp->ring_len) {
        rings_drain(p);
        return;
    }
    bits = calloc((size_t)((pages + 63) / 64), 8);
    if (!bits) { /* all may be dirty: the safe answer */
        hv_gpa_mark_dirty_range(p, s->offset, s->len);
        return;
    }
    log.dirty_bitmap = bits;
    if (kvm_ioctl(kp->vm, KVM_GET_DIRTY_LOG, &log) < 0) {
        hv_gpa_mark_dirty_range(p, s->offset, s->len);
    } else {
        for (uint64_t i = 0; i < (pages + 63) / 64; i++)
            for (uint64_t w = bits[i]; w; w &= w - 1)
                hv_gpa_mark_dirty_range(
                    p, s->offset + (i * 64 + (unsigned)__builtin_ctzll(w)) * HV_PAGE_SIZE, HV_PAGE_SIZE);
    }
    free(bits);
}

void kvm_mem_dirty_sync(struct hv_partition *p, uint64_t gpa, uint64_t len)
{
    struct kvm_part *kp = kvm_part(p);

    pthread_mutex_lock(&kp->map_lock);
    if (kp->ring_len) {
        kvm_stop(p); /* a processor may keep some to itself until it leaves the guest */
        rings_drain(p);
        kvm_resume(p);
    }
    for (unsigned n = 0; n < kp->nslots && !kp->ring_len; n++)
        if (kp->slots[n].len && kp->slots[n].gpa < gpa + len && gpa < kp->slots[n].gpa + kp->slots[n].len)
            slot_drain(p, n);
    pthread_mutex_unlock(&kp->map_lock);
}

static bool slot_same(const struct kvm_slot *s, const struct hv_gpa_range *r)
{
    return s->len == r->len && s->gpa == r->gpa && s->offset == r->offset &&
           !((s->flags ^ r->flags) & (HV_MAP_WRITE | HV_MAP_DIRTY_LOG));
}

struct map_ctx {
    struct hv_gpa_range *r;
    uint32_t n, max;
    unsigned phys_bits;
    bool full;
};

static void map_add(void *ctx, const struct hv_gpa_range *r)
{
    struct map_ctx *m = ctx;

    if (r->gpa >> m->phys_bits && r->len == HV_PAGE_SIZE)
        return; /* the guest has placed an overlay where no address of its reaches; KVM would refuse the slot */
    if (m->n == m->max) {
        uint32_t max = m->max ? m->max * 2 : 64;
        struct hv_gpa_range *t = realloc(m->r, max * sizeof(*t));

        if (!t) {
            m->full = true;
            return;
        }
        m->r = t;
        m->max = max;
    }
    m->r[m->n++] = *r;
}

int kvm_mem_changed(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    struct map_ctx m = { .phys_bits = kp ? kp->phys_bits : 0 };
    unsigned free_slot = 0;
    bool stopped = false;
    int err = 0;

    if (!kp)
        return 0;
    pthread_mutex_lock(&kp->map_lock);
    hv_gpa_ranges(p, map_add, &m);
    if (m.full)
        err = -ENOMEM;
    /* Both lists are small and the map is sorted: what is in both stays. */
    for (unsigned n = 0; !err && n < kp->nslots; n++) {
        uint32_t lo = 0, hi = m.n;

        if (!kp->slots[n].len)
            continue;
        while (lo < hi) {
            uint32_t mid = (lo + hi) / 2;

            if (m.r[mid].gpa < kp->slots[n].gpa)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo < m.n && slot_same(&kp->slots[n], &m.r[lo])) {
            m.r[lo].len = 0; /* is there */
            continue;
        }
        if (!stopped)
            kvm_stop(p);
        stopped = true;
        slot_drain(p, n);
        err = slot_write(p, n, true);
        kp->slots[n].len = 0;
    }
    for (uint32_t i = 0; !err && i < m.n; i++) {
        if (!m.r[i].len)
            continue;
        while (free_slot < kp->nslots && kp->slots[free_slot].len)
            free_slot++;
        if (free_slot >= kp->max_slots) {
            err = -ENOSPC;
            break;
        }
        kp->slots[free_slot] = (struct kvm_slot){ m.r[i].gpa, m.r[i].len, m.r[i].offset, m.r[i].flags };
        err = slot_write(p, free_slot, false);
        if (err)
            kp->slots[free_slot].len = 0;
        else if (free_slot == kp->nslots)
            kp->nslots++;
    }
    atomic_store(&kp->broken, err != 0); /* a VP that comes by ends with an error */
    if (stopped)
        kvm_resume(p);
    if (err)
        for (unsigned i = 0; i < HV_MAX_VPS; i++)
            if (p->vps[i] && kvm_vcpu(p->vps[i]))
                p->engine->kick(p->vps[i]);
    pthread_mutex_unlock(&kp->map_lock);
    free(m.r);
    if (err == -ENOSPC)
        return hv_fail(err, "guest memory: this KVM has no more than %u memory slots", kp->max_slots);
    return err ? hv_fail(err, "guest memory: KVM_SET_USER_MEMORY_REGION: %s", strerror(-err)) : 0;
}
