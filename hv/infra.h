/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to the infrastructure files: clock and timer thread, creation and reset of VPs, the feature table. */
#ifndef MOBO_HV_INFRA_H
#define MOBO_HV_INFRA_H

#include "hv/hv_int.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- clock.c -----------------------------------------------------------------------------------
 * The guest TSC runs at 5/2 of guest nanoseconds, so that conversions are exact and cheap. */
enum { HV_TSC_NUM = 5, HV_TSC_DEN = 2 };
#define HV_TSC_HZ 2500000000ull

static inline uint64_t hv_ns_to_tsc(uint64_t ns)
{
    return ns * 2 + (ns >> 1);
}

/* Smallest ns whose TSC is at least @tsc. */
static inline uint64_t hv_tsc_to_ns(uint64_t tsc)
{
    return tsc / HV_TSC_NUM * HV_TSC_DEN +
           (tsc % HV_TSC_NUM * HV_TSC_DEN + HV_TSC_NUM - 1) / HV_TSC_NUM;
}

struct hv_clock {
    pthread_mutex_t lock;       /* writers */
    _Atomic uint32_t seq;       /* odd while a writer is at work */
    _Atomic uint64_t offset_ns; /* running: host time less guest time */
    _Atomic uint64_t frozen_ns; /* paused: guest time */
    _Atomic bool paused;
    uint64_t (*host_ns)(void); /* CLOCK_MONOTONIC; a test may put its own */
};

uint64_t hv_host_ns(void);
struct hv_clock *hv_clock_create(void);
void hv_clock_destroy(struct hv_clock *c);

/* ---- timer.c ---- */
int hv_timers_create(struct hv_partition *p);
void hv_timers_destroy(struct hv_partition *p);
/** The deadline of @vp changed, or guest time was stopped, started or set. */
void hv_timers_update(struct hv_vp *vp);
void hv_timers_poke(struct hv_partition *p);
/** Set the calling thread's timer slack to the minimum, once a thread. */
void hv_timer_slack(void);

/* ---- gpa.c ---- */
int hv_gpa_space_create(struct hv_partition *p);
void hv_gpa_space_destroy(struct hv_partition *p);

/* ---- vp.c ---- */
int hv_vp_create(struct hv_partition *p, unsigned index);
void hv_vp_destroy(struct hv_vp *vp);
/** Power-on state, or INIT (SDM 3A table 9-1). */
void hv_vp_reset(struct hv_vp *vp, bool init);
/** An INIT and a start-up IPI that wait are taken.  VP thread.  @return there were some, and registers have changed. */
bool hv_vp_startup(struct hv_vp *vp);

/* ---- cpuid.c ---- */
enum { HV_CPU_SIGNATURE = 0x000a06d1, HV_MAXPHYADDR = 46, HV_UCODE_REV = 0x0a0000d1 };
/** One debug line about what the host's CPU lacks. */
void hv_features_log(struct hv_partition *p);

#endif
