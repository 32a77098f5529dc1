/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest clock: CLOCK_MONOTONIC less the time spent paused.  TSC and APIC timer derive from it.
 *
 * Readers are lock-free (a sequence lock); the TSC runs at a fixed 2.5 GHz on every host, so that a VM
 * can move without its clock changing pace (SDM 3B 18.17, "invariant TSC"). */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "hv/infra.h"

_Static_assert(HV_TSC_HZ *HV_TSC_DEN == 1000000000ull * HV_TSC_NUM, "TSC ratio");

uint64_t hv_host_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

struct hv_clock *hv_clock_create(void)
{
    struct hv_clock *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->host_ns = hv_host_ns;
    atomic_store(&c->paused, true);
    return c;
}

void hv_clock_destroy(struct hv_clock *c)
{
    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* A consistent view of the clock: @return paused, with frozen time or offset in *ret. */
static bool clock_read(const struct hv_clock *c, uint64_t *ret)
{
    for (;;) {
        uint32_t seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        bool paused = atomic_load_explicit(&c->paused, memory_order_relaxed);
        uint64_t val = paused ? atomic_load_explicit(&c->frozen_ns, memory_order_relaxed)
                              : atomic_load_explicit(&c->offset_ns, memory_order_relaxed);

        atomic_thread_fence(memory_order_acquire);
        if (!(seq & 1) && seq == atomic_load_explicit(&c->seq, memory_order_relaxed)) {
            *ret = val;
            return paused;
        }
    }
}

static void clock_write_locked(struct hv_clock *c, bool paused, uint64_t frozen, uint64_t offset)
{
    atomic_fetch_add_explicit(&c->seq, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&c->paused, paused, memory_order_relaxed);
    atomic_store_explicit(&c->frozen_ns, frozen, memory_order_relaxed);
    atomic_store_explicit(&c->offset_ns, offset, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->seq, 1, memory_order_release);
}

uint64_t hv_time_ns(const struct hv_partition *p)
{
    uint64_t val;

    if (clock_read(p->clock, &val))
        return val;
    return p->clock->host_ns() - val;
}

uint64_t hv_time_to_host_ns(const struct hv_partition *p, uint64_t guest_ns)
{
    uint64_t val, host;

    if (guest_ns == UINT64_MAX || clock_read(p->clock, &val))
        return UINT64_MAX;
    host = guest_ns + val;
    /* The offset is less than zero where the guest's time is more than the host's: its state is of a host that had run for
     * longer. */
    if (val >> 63)
        return guest_ns < -val ? 0 : host;
    return host < guest_ns ? UINT64_MAX : host;
}

void hv_time_set_ns(struct hv_partition *p, uint64_t ns)
{
    struct hv_clock *c = p->clock;

    pthread_mutex_lock(&c->lock);
    if (atomic_load(&c->paused))
        clock_write_locked(c, true, ns, 0);
    else
        clock_write_locked(c, false, 0, c->host_ns() - ns);
    pthread_mutex_unlock(&c->lock);
    hv_timers_poke(p);
}

void hv_time_pause(struct hv_partition *p, bool paused)
{
    struct hv_clock *c = p->clock;
    bool was;

    pthread_mutex_lock(&c->lock);
    was = atomic_load(&c->paused);
    if (paused && !was)
        clock_write_locked(c, true, c->host_ns() - atomic_load(&c->offset_ns), 0);
    else if (!paused && was)
        clock_write_locked(c, false, 0, c->host_ns() - atomic_load(&c->frozen_ns));
    pthread_mutex_unlock(&c->lock);
    if (was != paused)
        hv_timers_poke(p);
}

uint64_t hv_tsc_hz(const struct hv_partition *p)
{
    return p->engine->tsc_hz ? p->engine->tsc_hz(p) : HV_TSC_HZ;
}

static uint64_t tsc_at(const struct hv_vp *vp, uint64_t ns)
{
    return hv_ns_to_tsc(ns) + vp->cpu.tsc_offset + vp->cpu.tsc_adjust;
}

uint64_t hv_tsc_read(struct hv_vp *vp)
{
    return tsc_at(vp, hv_time_ns(vp->p));
}

uint64_t hv_tsc_at(struct hv_vp *vp, uint64_t ns)
{
    return vp->p->engine->tsc_at ? vp->p->engine->tsc_at(vp, ns) : tsc_at(vp, ns);
}
