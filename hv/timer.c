/* SPDX-License-Identifier: BSD-2-Clause */
/* The timer thread of a partition: sets HV_ATT_TIMER on a running VP when the deadline of one of its timers
 * comes.  A halted VP sleeps until its own deadline and needs no kick.
 *
 * A VP that sets a deadline wakes the thread only when that deadline is earlier than what the thread sleeps
 * for.  Both sides publish first and look second (sequentially consistent), so no deadline is missed; a
 * deadline that moved to later costs one early wake-up. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hv/infra.h"

struct hv_timer_thread {
    struct hv_partition *p;
    pthread_t thread;
    _Atomic uint32_t seq;      /* futex word: changes when there is something new */
    _Atomic uint64_t until_ns; /* guest time that the thread sleeps for; 0: it is awake */
    _Atomic bool stop;
};

void hv_timer_slack(void)
{
    static _Thread_local bool done;

    if (!done)
        prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    done = true;
}

/* Earliest deadline that has not been announced yet; announces those that have come. */
static uint64_t timers_scan(struct hv_partition *p)
{
    uint64_t now = hv_time_ns(p), next = UINT64_MAX;

    for (unsigned i = 0; i < p->nvps; i++) {
        struct hv_vp *vp = p->vps[i];
        uint64_t d = hv_vp_deadline_ns(vp);

        if (d == UINT64_MAX || d == atomic_load(&vp->lapic.timer_told_ns))
            continue;
        if (d > now) {
            next = d < next ? d : next;
        } else if (!atomic_load(&vp->lapic.timer_own)) {
            atomic_store(&vp->lapic.timer_told_ns, d);
            hv_vp_kick(vp, HV_ATT_TIMER);
        } /* else it sleeps, and looks at the clock before it goes on */
    }
    return next;
}

static void *timers_main(void *arg)
{
    struct hv_timer_thread *t = arg;
    struct hv_partition *p = t->p;

    hv_timer_slack();
    prctl(PR_SET_NAME, "mobo-timer");
    while (!atomic_load(&t->stop)) {
        uint32_t seq = atomic_load(&t->seq);
        uint64_t next = timers_scan(p), host;
        struct timespec ts;

        atomic_store(&t->until_ns, next);
        if (timers_scan(p) < next || atomic_load(&t->seq) != seq) {
            atomic_store(&t->until_ns, 0);
            continue;
        }
        host = hv_time_to_host_ns(p, next);
        ts.tv_sec = (time_t)(host / 1000000000ull);
        ts.tv_nsec = (long)(host % 1000000000ull);
        syscall(SYS_futex, &t->seq, FUTEX_WAIT_BITSET_PRIVATE, seq, host == UINT64_MAX ? NULL : &ts,
                NULL, FUTEX_BITSET_MATCH_ANY);
        atomic_store(&t->until_ns, 0);
    }
    return NULL;
}

static void timers_wake(struct hv_timer_thread *t)
{
    atomic_fetch_add(&t->seq, 1);
    syscall(SYS_futex, &t->seq, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void hv_timers_update(struct hv_vp *vp)
{
    struct hv_timer_thread *t = vp->p->timers;

    if (t && hv_vp_deadline_ns(vp) < atomic_load(&t->until_ns))
        timers_wake(t);
}

void hv_timers_poke(struct hv_partition *p)
{
    for (unsigned i = 0; i < p->nvps; i++) {
        if (!p->vps[i])
            continue;
        atomic_store(&p->vps[i]->lapic.timer_told_ns, UINT64_MAX);
        hv_vp_kick(p->vps[i], HV_ATT_TIMER);
    }
    if (p->timers)
        timers_wake(p->timers);
}

int hv_timers_create(struct hv_partition *p)
{
    struct hv_timer_thread *t = calloc(1, sizeof(*t));
    sigset_t all, old;
    int err;

    if (!t)
        return hv_fail(-ENOMEM, "timer thread: out of memory");
    t->p = p;
    sigfillset(&all); /* the embedder's signals are not for this thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&t->thread, NULL, timers_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err) {
        free(t);
        return hv_fail(-err, "timer thread: cannot create a thread (error %d)", err);
    }
    p->timers = t;
    return 0;
}

void hv_timers_destroy(struct hv_partition *p)
{
    struct hv_timer_thread *t = p->timers;

    if (!t)
        return;
    atomic_store(&t->stop, true);
    timers_wake(t);
    pthread_join(t->thread, NULL);
    p->timers = NULL;
    free(t);
}
