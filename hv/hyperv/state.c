/* SPDX-License-Identifier: BSD-2-Clause */
/* The Hyper-V interface as a saved state: taken, checked, set. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hv/hyperv/hyperv.h"
#include "hv/infra.h"

_Static_assert((int)HV_NSINTS == HV_STATE_SINTS && (int)HV_NSTIMERS == HV_STATE_STIMERS, "state");
_Static_assert(sizeof(struct hv_hyperv_state) == 104 && sizeof(struct hv_message) == 248, "no holes");
_Static_assert(sizeof(struct hv_hyperv_vp_state) == 280 + 3 * HV_PAGE_SIZE, "no holes");

/* As in a VM description. */
static const char *const names[] = { "vp_runtime", "reference_tsc", "synic", "stimers", "direct_stimers", "idle",
                                     "reset", "frequencies", "crash", "remote_flush", "ipi", "relaxed_timing",
                                     "tsc_invariant", "extended_hypercalls" };
_Static_assert(1 << COUNT(names) == HV_ENL_ALL + 1, "a name each");

static int vp_of(struct hv_partition *p, unsigned index)
{
    if (!p->hyperv)
        return hv_fail(-EINVAL, "the partition has no Hyper-V interface");
    if (index >= p->nvps)
        return hv_fail(-EINVAL, "processor %u does not exist", index);
    if (atomic_load(&p->vps[index]->running))
        return hv_fail(-EBUSY, "processor %u runs", index);
    return 0;
}

static void *overlay(struct hv_partition *p, uint64_t off) { return hv_ram_hva(p, off, HV_PAGE_SIZE); }

int hv_hyperv_get(struct hv_partition *p, struct hv_hyperv_state *s)
{
    const struct hv_reference_tsc_page *page;
    const struct hv_hyperv *h = p->hyperv;
    int err = vp_of(p, 0);

    if (!err && p->engine->get_state)
        err = p->engine->get_state(p->vps[0]);
    if (err)
        return err;
    memset(s, 0, sizeof(*s));
    s->version = HV_HYPERV_STATE_VERSION;
    s->size = sizeof(*s);
    s->shown = h->shown;
    s->tsc_invariant = atomic_load(&h->tsc_invariant);
    s->guest_os_id = atomic_load(&h->guest_os_id);
    s->hypercall = atomic_load(&h->hypercall);
    s->reference_tsc = h->reference_tsc;
    memcpy(s->crash, h->crash, sizeof(s->crash));
    page = overlay(p, h->tsc_off);
    s->tsc_seq = page->seq;
    s->tsc_scale = page->scale;
    s->tsc_offset = page->offset;
    return 0;
}

/* What one has and the other has not, for a message. */
static void list(uint32_t bits, char *buf, size_t len)
{
    size_t at = 0;

    buf[0] = 0;
    for (unsigned i = 0; i < COUNT(names); i++)
        if ((bits & 1u << i) && at < len)
            at += (size_t)snprintf(buf + at, len - at, " %s", names[i]);
}

int hv_hyperv_set(struct hv_partition *p, const struct hv_hyperv_state *s)
{
    struct hv_reference_tsc_page *page;
    struct hv_hyperv *h = p->hyperv;
    char gone[200], more[200];
    struct hv_vp *vp;
    int err = vp_of(p, 0);

    if (err)
        return err;
    if (s->version != HV_HYPERV_STATE_VERSION || s->size != sizeof(*s))
        return hv_fail(-EINVAL, "Hyper-V state version %u, size %u; this is version %d, size %zu", s->version,
                       s->size, HV_HYPERV_STATE_VERSION, sizeof(*s));
    if (s->shown != h->shown) {
        list(s->shown & ~h->shown, gone, sizeof(gone));
        list(h->shown & ~s->shown, more, sizeof(more));
        return hv_fail(-EINVAL, "the guest was shown other enlightenments:%s%s%s%s", *gone ? " these are missing:" : "",
                       gone, *more ? " these are too many:" : "", more);
    }
    if (s->tsc_invariant > 1 || ((s->hypercall & 1) && !s->guest_os_id))
        return hv_fail(-EINVAL, "no guest can have brought the Hyper-V interface into this state");

    vp = p->vps[0];
    atomic_store(&h->tsc_invariant, s->tsc_invariant);
    atomic_store(&h->guest_os_id, s->guest_os_id);
    memcpy(h->crash, s->crash, sizeof(h->crash));
    hv_hypercall_place(vp, s->hypercall);

    page = overlay(p, h->tsc_off);
    memset(page, 0, HV_PAGE_SIZE);
    page->seq = s->tsc_seq;
    page->scale = s->tsc_scale;
    page->offset = s->tsc_offset;
    h->reference_tsc = s->reference_tsc;
    if ((s->reference_tsc & 1) && s->tsc_scale != hv_reference_tsc_scale(p) &&
        (s->tsc_seq || !p->engine->set_hyperv)) {
        /* Made by an engine whose TSC ran at another pace.  Rounded down, time could step back by one unit.  An engine
         * that fills in the page itself does so when VP 0 runs: until then others may have read it. */
        hv_reference_tsc_start(vp, s->tsc_seq + 1 ? s->tsc_seq + 1 : 1); /* 0: the page is not to be used */
        page->offset++;
    }
    /* an engine that fills in the page itself does it as the guest would */
    hv_overlay_place(vp, p, s->reference_tsc, h->tsc_off,
                     p->engine->set_hyperv ? HV_MAP_READ | HV_MAP_WRITE : HV_MAP_READ);
    return p->engine->set_hyperv ? p->engine->set_hyperv(vp) : 0;
}

int hv_hyperv_vp_get(struct hv_partition *p, unsigned index, struct hv_hyperv_vp_state *s)
{
    const struct hv_hyperv_vp *v;
    struct hv_vp *vp;
    int err = vp_of(p, index);

    if (err)
        return err;
    vp = p->vps[index];
    v = &vp->hyperv;
    if (p->engine->get_state)
        err = p->engine->get_state(vp);
    if (err)
        return err;
    hv_lazy_eoi_end(vp);
    memset(s, 0, sizeof(*s));
    s->version = HV_HYPERV_STATE_VERSION;
    s->size = sizeof(*s);
    s->scontrol = v->scontrol;
    s->siefp = v->siefp;
    s->simp = v->simp;
    memcpy(s->sint, v->sint, sizeof(s->sint));
    s->assist = v->assist;
    for (unsigned i = 0; i < HV_NSTIMERS; i++)
        s->stimer[i] = (struct hv_stimer_state){ v->stimer[i].config, v->stimer[i].count, v->stimer[i].deadline_ns };
    s->runtime_ns = v->runtime_ns;
    s->lazy_eoi = v->lazy_eoi;
    s->idle = vp->idle;
    memcpy(s->message_page, overlay(p, v->simp_off), HV_PAGE_SIZE);
    memcpy(s->event_page, overlay(p, v->siefp_off), HV_PAGE_SIZE);
    memcpy(s->assist_page, overlay(p, v->assist_off), HV_PAGE_SIZE);
    return 0;
}

unsigned hv_hyperv_messages(struct hv_partition *p, unsigned index, struct hv_message *ret, unsigned max)
{
    return p->hyperv && index < p->nvps ? hv_synic_queued(p->vps[index], ret, max) : 0;
}

int hv_hyperv_vp_set(struct hv_partition *p, unsigned index, const struct hv_hyperv_vp_state *s,
                     const struct hv_message *m, unsigned n)
{
    struct hv_hyperv_vp *v;
    const char *what;
    struct hv_vp *vp;
    int err = vp_of(p, index);

    if (err)
        return err;
    if (s->version != HV_HYPERV_STATE_VERSION || s->size != sizeof(*s))
        return hv_fail(-EINVAL, "processor %u: Hyper-V state version %u, size %u; this is version %d, size %zu", index,
                       s->version, s->size, HV_HYPERV_STATE_VERSION, sizeof(*s));
    vp = p->vps[index];
    v = &vp->hyperv;
    what = hv_synic_check(s, m, n);
    if (!what && (s->lazy_eoi > 1 || (s->lazy_eoi && !(s->assist & 1))))
        what = "assist page";
    if (!what && (s->idle > 1 || (s->idle && vp->run_state != HV_VP_HALTED)))
        what = "idle";
    if (what)
        return hv_fail(-EINVAL, "processor %u: no guest can have brought it into this state: %s", index, what);

    memcpy(overlay(p, v->simp_off), s->message_page, HV_PAGE_SIZE);
    memcpy(overlay(p, v->siefp_off), s->event_page, HV_PAGE_SIZE);
    memcpy(overlay(p, v->assist_off), s->assist_page, HV_PAGE_SIZE);
    hv_overlay_place(vp, p, s->simp, v->simp_off, HV_MAP_READ | HV_MAP_WRITE);
    hv_overlay_place(vp, p, s->siefp, v->siefp_off, HV_MAP_READ | HV_MAP_WRITE);
    hv_overlay_place(vp, p, s->assist, v->assist_off, HV_MAP_READ | HV_MAP_WRITE);
    v->assist = s->assist;
    v->lazy_eoi = s->lazy_eoi;
    v->runtime_ns = s->runtime_ns;
    v->runtime_thread_ns = 0;
    vp->idle = s->idle;
    err = hv_synic_set(vp, s, m, n);
    if (err)
        return hv_fail(err, "processor %u: out of memory", index);
    hv_vp_kick(vp, HV_ATT_INTR | HV_ATT_TIMER);
    return p->engine->set_hyperv ? p->engine->set_hyperv(vp) : 0;
}
