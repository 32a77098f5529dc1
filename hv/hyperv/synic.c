/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic interrupt controller: messages, event flags, SINTs (TLFS 11), and synthetic timers (TLFS 12.4). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/hyperv/hyperv.h"
#include "hv/infra.h"

enum { MSR_SCONTROL = 0x40000080, MSR_SVERSION, MSR_SIEFP, MSR_SIMP, MSR_EOM, MSR_SINT0 = 0x40000090 };
#define SINT_MASKED (1ull << 16)
#define SINT_AUTO_EOI (1ull << 17)
#define SINT_POLLING (1ull << 18)
#define SINT_VALID (0xff | SINT_MASKED | SINT_AUTO_EOI | SINT_POLLING)
enum { MSG_TIMER_EXPIRED = 0x80000010u };

/* A slot of the message page, TLFS 11.8.2. */
struct message_slot {
    _Atomic uint32_t type;
    uint8_t len;
    _Atomic uint8_t flags; /* bit 0: another message waits */
    uint16_t reserved;
    uint64_t origin;
    uint8_t payload[HV_MESSAGE_PAYLOAD];
};
_Static_assert(sizeof(struct message_slot) == 256, "message slot");

struct hv_queued_message {
    struct hv_queued_message *next;
    uint32_t type;
    uint8_t len;
    uint8_t payload[HV_MESSAGE_PAYLOAD];
};

static struct message_slot *slot_of(struct hv_vp *vp, unsigned sint)
{
    struct message_slot *page = hv_ram_hva(vp->p, vp->hyperv.simp_off, HV_PAGE_SIZE);

    return &page[sint];
}

static bool messages_on(const struct hv_hyperv_vp *v) { return (v->scontrol & 1) && (v->simp & 1); }

static void sint_interrupt(struct hv_vp *vp, unsigned sint)
{
    uint64_t s = vp->hyperv.sint[sint];

    if (vp->p->engine->sint) {
        vp->p->engine->sint(vp, sint);
        return;
    }
    if (!(s & (SINT_MASKED | SINT_POLLING)))
        hv_lapic_fixed(vp, (unsigned)s & 0xff);
}

/* The slot is free: fill it.  @more: another one waits behind. */
static void slot_fill(struct hv_vp *vp, unsigned sint, uint32_t type, const void *payload, unsigned len, bool more)
{
    struct message_slot *m = slot_of(vp, sint);

    memcpy(m->payload, payload, len);
    memset(m->payload + len, 0, sizeof(m->payload) - len);
    m->len = (uint8_t)len;
    m->reserved = 0;
    m->origin = 0;
    atomic_store(&m->flags, more);
    atomic_store(&m->type, type);
    sint_interrupt(vp, sint);
}

/* Move the messages that wait for @sint on, as far as its slot is free; else say that more waits.  Lock held. */
static void queue_run(struct hv_vp *vp, unsigned sint)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    struct message_slot *m = slot_of(vp, sint);
    struct hv_queued_message *q = v->queue[sint].head;

    if (!q || !messages_on(v))
        return;
    if (atomic_load(&m->type)) {
        /* The guest may free the slot before it sees the flag: look again behind the flag. */
        atomic_fetch_or(&m->flags, 1);
        if (atomic_load(&m->type))
            return;
    }
    v->queue[sint].head = q->next;
    v->queue[sint].n--;
    slot_fill(vp, sint, q->type, q->payload, q->len, q->next != NULL);
    free(q);
}

/* Lock held, by the VP's thread where the engine has a SynIC of its own. */
static void queues_run(struct hv_vp *vp)
{
    bool waits = false;

    for (unsigned i = 0; i < HV_NSINTS; i++) {
        queue_run(vp, i);
        waits = waits || vp->hyperv.queue[i].head;
    }
    atomic_store(&vp->hyperv.waits, waits);
}

/* There is something in a queue.  Lock held.  An engine's own SynIC fills slots as well, while the VP is in the guest:
 * there the VP's thread moves the messages, before it enters the guest. */
static void queues_changed(struct hv_vp *vp)
{
    if (!vp->p->engine->sint) {
        queues_run(vp);
        return;
    }
    atomic_store(&vp->hyperv.waits, true);
    hv_vp_kick(vp, HV_ATT_INTR);
}

void hv_synic_run(struct hv_vp *vp)
{
    pthread_mutex_lock(&vp->hyperv.lock);
    queues_run(vp);
    pthread_mutex_unlock(&vp->hyperv.lock);
}

/* Lock held. */
static int queue_add(struct hv_hyperv_vp *v, unsigned sint, uint32_t type, const void *payload, unsigned len)
{
    struct hv_queued_message *q;

    if (v->queue[sint].n >= HV_QUEUE_MAX)
        return -ENOBUFS;
    q = malloc(sizeof(*q));
    if (!q)
        return -ENOBUFS;
    q->next = NULL;
    q->type = type;
    q->len = (uint8_t)len;
    memcpy(q->payload, payload, len);
    if (v->queue[sint].head)
        v->queue[sint].tail->next = q;
    else
        v->queue[sint].head = q;
    v->queue[sint].tail = q;
    /* the queue owns it, queue_drop frees it: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    v->queue[sint].n++;
    return 0;
}

int hv_synic_post(struct hv_vp *vp, unsigned sint, uint32_t type, const void *payload, unsigned len)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    int err;

    if (sint >= HV_NSINTS || len > HV_MESSAGE_PAYLOAD || !type)
        return -EINVAL;
    pthread_mutex_lock(&v->lock);
    err = messages_on(v) ? queue_add(v, sint, type, payload, len) : -ENXIO;
    if (!err)
        queues_changed(vp);
    pthread_mutex_unlock(&v->lock);
    return err;
}

int hv_synic_post_timer(struct hv_vp *vp, unsigned sint, const void *payload, unsigned len)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    bool waits = false;

    pthread_mutex_lock(&v->lock);
    for (struct hv_queued_message *q = v->queue[sint].head; q && !waits; q = q->next)
        waits = q->type == MSG_TIMER_EXPIRED && !memcmp(q->payload, payload, 4);
    pthread_mutex_unlock(&v->lock);
    return waits ? 0 : hv_synic_post(vp, sint, MSG_TIMER_EXPIRED, payload, len);
}

int hv_synic_signal(struct hv_vp *vp, unsigned sint, unsigned flag)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    _Atomic uint64_t *page = hv_ram_hva(vp->p, v->siefp_off, HV_PAGE_SIZE);
    int err = 0;

    if (sint >= HV_NSINTS || flag >= 2048)
        return -EINVAL;
    pthread_mutex_lock(&v->lock);
    if (!(v->scontrol & 1) || !(v->siefp & 1))
        err = -ENXIO;
    else if (!(atomic_fetch_or(&page[sint * 32 + flag / 64], 1ull << (flag % 64)) & (1ull << (flag % 64))))
        sint_interrupt(vp, sint);
    pthread_mutex_unlock(&v->lock);
    return err;
}

int hv_message_post(struct hv_partition *p, unsigned vp, unsigned sint, uint32_t type, const void *payload,
                    unsigned len)
{
    if (!p->hyperv || vp >= p->nvps)
        return hv_fail(-EINVAL, "message: no processor %u with a synthetic interrupt controller", vp);
    return hv_synic_post(p->vps[vp], sint, type, payload, len);
}

int hv_event_signal(struct hv_partition *p, unsigned vp, unsigned sint, unsigned flag)
{
    if (!p->hyperv || vp >= p->nvps)
        return hv_fail(-EINVAL, "event: no processor %u with a synthetic interrupt controller", vp);
    return hv_synic_signal(p->vps[vp], sint, flag);
}

static void auto_eoi_update(struct hv_hyperv_vp *v)
{
    uint32_t map[8] = { 0 };

    for (unsigned i = 0; i < HV_NSINTS; i++)
        if ((v->sint[i] & SINT_AUTO_EOI) && !(v->sint[i] & SINT_MASKED))
            map[(v->sint[i] & 0xff) / 32] |= 1u << (v->sint[i] % 32);
    for (unsigned i = 0; i < 8; i++)
        atomic_store_explicit(&v->auto_eoi[i], map[i], memory_order_relaxed);
}

int hv_synic_read(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    const struct hv_hyperv_vp *v = &vp->hyperv;

    switch (msr) {
    case MSR_SCONTROL: *val = v->scontrol; return 0;
    case MSR_SVERSION: *val = 1; return 0;
    case MSR_SIEFP: *val = v->siefp; return 0;
    case MSR_SIMP: *val = v->simp; return 0;
    case MSR_EOM: *val = 0; return 0;
    default:
        if (msr < MSR_SINT0 || msr >= MSR_SINT0 + HV_NSINTS)
            return -1;
        *val = v->sint[msr - MSR_SINT0];
        return 0;
    }
}

static void page_write(struct hv_vp *vp, uint64_t *reg, uint64_t val, uint64_t offset)
{
    if ((val & 1) && !(*reg & 1))
        memset(hv_ram_hva(vp->p, offset, HV_PAGE_SIZE), 0, HV_PAGE_SIZE);
    pthread_mutex_lock(&vp->hyperv.lock);
    *reg = val;
    queues_run(vp); /* a message page came back: its slots are empty */
    pthread_mutex_unlock(&vp->hyperv.lock);
    hv_overlay_place(vp, vp->p, val, offset, HV_MAP_READ | HV_MAP_WRITE);
}

int hv_synic_write(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    unsigned n = msr - MSR_SINT0;

    switch (msr) {
    case MSR_SCONTROL:
        pthread_mutex_lock(&v->lock);
        v->scontrol = val & 1;
        queues_run(vp);
        pthread_mutex_unlock(&v->lock);
        return 0;
    case MSR_SIEFP: page_write(vp, &v->siefp, val, v->siefp_off); return 0;
    case MSR_SIMP: page_write(vp, &v->simp, val, v->simp_off); return 0;
    case MSR_EOM: hv_synic_run(vp); return 0;
    default:
        if (msr < MSR_SINT0 || n >= HV_NSINTS)
            return -1; /* SVERSION and holes */
        if (!(val & SINT_MASKED) && (val & 0xff) < 16)
            return -1;
        pthread_mutex_lock(&v->lock);
        v->sint[n] = val & SINT_VALID;
        auto_eoi_update(v);
        pthread_mutex_unlock(&v->lock);
        return 0;
    }
}

static void queue_drop(struct hv_hyperv_vp *v)
{
    for (unsigned i = 0; i < HV_NSINTS; i++) {
        while (v->queue[i].head) {
            struct hv_queued_message *q = v->queue[i].head;

            v->queue[i].head = q->next;
            free(q);
        }
        v->queue[i].tail = NULL;
        v->queue[i].n = 0;
    }
}

void hv_synic_fini(struct hv_vp *vp)
{
    queue_drop(&vp->hyperv);
}

void hv_synic_reset(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;

    pthread_mutex_lock(&v->lock);
    queue_drop(v);
    v->scontrol = v->siefp = v->simp = 0;
    for (unsigned i = 0; i < HV_NSINTS; i++)
        v->sint[i] = SINT_MASKED;
    auto_eoi_update(v);
    pthread_mutex_unlock(&v->lock);
    hv_overlay_place(vp, vp->p, 0, v->simp_off, 0);
    hv_overlay_place(vp, vp->p, 0, v->siefp_off, 0);
}

unsigned hv_synic_queued(struct hv_vp *vp, struct hv_message *ret, unsigned max)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    unsigned n = 0;

    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < HV_NSINTS; i++)
        for (struct hv_queued_message *q = v->queue[i].head; q; q = q->next, n++)
            if (n < max) {
                memset(&ret[n], 0, sizeof(ret[n]));
                ret[n].type = q->type;
                ret[n].sint = (uint8_t)i;
                ret[n].len = q->len;
                memcpy(ret[n].payload, q->payload, q->len);
            }
    pthread_mutex_unlock(&v->lock);
    return n;
}

/* ---- synthetic timers -------------------------------------------------------------------------------------- */

#define STIMER_ENABLE 1ull
#define STIMER_PERIODIC 2ull
#define STIMER_LAZY 4ull
#define STIMER_AUTO_ENABLE 8ull
#define STIMER_CONFIG_MASK 0xf1fffull /* enable..auto, vector, direct, SINT */

static void deadlines_tell(struct hv_vp *vp)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < HV_NSTIMERS; i++)
        if (vp->hyperv.stimer[i].deadline_ns < next)
            next = vp->hyperv.stimer[i].deadline_ns;
    atomic_store(&vp->hyperv.deadline_ns, next);
    if (next != UINT64_MAX)
        hv_timers_update(vp);
}

/* Start or stop after a change of configuration or count. */
static void stimer_place(struct hv_vp *vp, struct hv_stimer *t)
{
    t->deadline_ns = UINT64_MAX;
    if ((t->config & STIMER_ENABLE) && t->count) {
        if (t->config & STIMER_PERIODIC) {
            uint64_t period = t->count < 1000 ? 1000 : t->count; /* at least 100 us */

            t->deadline_ns = period > UINT64_MAX / 200 ? UINT64_MAX : hv_time_ns(vp->p) + period * 100;
        } else {
            t->deadline_ns = t->count > UINT64_MAX / 200 ? UINT64_MAX : t->count * 100;
        }
    }
    deadlines_tell(vp);
    if (t->deadline_ns <= hv_time_ns(vp->p))
        hv_vp_kick(vp, HV_ATT_TIMER);
}

/* What of a written configuration stays: SINT 0 cannot take timer messages (12.4.2.1). */
static uint64_t stimer_trim(uint64_t config)
{
    config &= STIMER_CONFIG_MASK;
    return hv_stimer_direct(config) || ((config >> 16) & 15) ? config : config & ~STIMER_ENABLE;
}

void hv_stimer_config(struct hv_vp *vp, unsigned n, uint64_t config)
{
    struct hv_stimer *t = &vp->hyperv.stimer[n];

    t->config = stimer_trim(config);
    stimer_place(vp, t);
}

void hv_stimer_count(struct hv_vp *vp, unsigned n, uint64_t count)
{
    struct hv_stimer *t = &vp->hyperv.stimer[n];

    t->count = count;
    if (!count)
        t->config &= ~STIMER_ENABLE;
    else if (t->config & STIMER_AUTO_ENABLE)
        t->config = stimer_trim(t->config | STIMER_ENABLE);
    stimer_place(vp, t);
}

void hv_stimer_reset(struct hv_vp *vp)
{
    for (unsigned i = 0; i < HV_NSTIMERS; i++)
        vp->hyperv.stimer[i] = (struct hv_stimer){ .deadline_ns = UINT64_MAX };
    atomic_store(&vp->hyperv.deadline_ns, UINT64_MAX);
}

/* @return false: no buffer for the message, to be tried again. */
static bool stimer_expire(struct hv_vp *vp, unsigned n, uint64_t now)
{
    struct hv_stimer *t = &vp->hyperv.stimer[n];
    struct { uint32_t index, reserved; uint64_t expiration, delivery; } m = {
        n, 0, t->deadline_ns / 100, now / 100 };

    if (hv_stimer_direct(t->config)) {
        hv_lapic_fixed(vp, (unsigned)(t->config >> 4) & 0xff);
        return true;
    }
    return hv_synic_post_timer(vp, (unsigned)(t->config >> 16) & 15, &m, sizeof(m)) != -ENOBUFS;
}

void hv_stimer_poll(struct hv_vp *vp, uint64_t now)
{
    if (atomic_load_explicit(&vp->hyperv.deadline_ns, memory_order_relaxed) > now)
        return;
    for (unsigned i = 0; i < HV_NSTIMERS; i++) {
        struct hv_stimer *t = &vp->hyperv.stimer[i];

        if (t->deadline_ns > now)
            continue;
        if (!stimer_expire(vp, i, now)) {
            t->deadline_ns = now + 1000000;
            continue;
        }
        if (t->config & STIMER_PERIODIC) {
            uint64_t period = (t->count < 1000 ? 1000 : t->count) * 100;

            /* Lazy timers leave out what was missed (12.4.2.1); others catch up, within reason. */
            t->deadline_ns += period;
            if (t->deadline_ns <= now && ((t->config & STIMER_LAZY) || now - t->deadline_ns > 64 * period))
                t->deadline_ns = now + period - (now - t->deadline_ns) % period;
        } else {
            t->config &= ~STIMER_ENABLE;
            t->deadline_ns = UINT64_MAX;
        }
    }
    deadlines_tell(vp);
}

/* ---- saved state --------------------------------------------------------------------------------------------- */

const char *hv_synic_check(const struct hv_hyperv_vp_state *s, const struct hv_message *m, unsigned n)
{
    unsigned waiting[HV_NSINTS] = { 0 };

    if (s->scontrol & ~1ull)
        return "SCONTROL";
    for (unsigned i = 0; i < HV_NSINTS; i++)
        if ((s->sint[i] & ~SINT_VALID) ||
            (!(s->sint[i] & SINT_MASKED) && (s->sint[i] & 0xff) < 16))
            return "SINT";
    for (unsigned i = 0; i < HV_NSTIMERS; i++)
        if (s->stimer[i].config != stimer_trim(s->stimer[i].config))
            return "synthetic timer";
    for (unsigned i = 0; i < n; i++)
        if (m[i].sint >= HV_NSINTS || !m[i].type || m[i].len > HV_MESSAGE_PAYLOAD ||
            ++waiting[m[i].sint] > HV_QUEUE_MAX)
            return "message";
    return NULL;
}

void hv_synic_trim(struct hv_hyperv_vp *v)
{
    for (unsigned i = 0; i < HV_NSINTS; i++)
        v->sint[i] &= SINT_VALID;
    for (unsigned i = 0; i < HV_NSTIMERS; i++)
        v->stimer[i].config = stimer_trim(v->stimer[i].config);
}

int hv_synic_set(struct hv_vp *vp, const struct hv_hyperv_vp_state *s, const struct hv_message *m, unsigned n)
{
    struct hv_hyperv_vp *v = &vp->hyperv, fresh = { 0 };
    int err = 0;

    for (unsigned i = 0; i < n && !err; i++)
        err = queue_add(&fresh, m[i].sint, m[i].type, m[i].payload, m[i].len);
    if (err) {
        queue_drop(&fresh);
        return -ENOMEM;
    }
    pthread_mutex_lock(&v->lock);
    queue_drop(v);
    memcpy(v->queue, fresh.queue, sizeof(v->queue));
    v->scontrol = s->scontrol;
    v->siefp = s->siefp;
    v->simp = s->simp;
    memcpy(v->sint, s->sint, sizeof(v->sint));
    auto_eoi_update(v);
    queues_changed(vp); /* posted while the VP stood */
    pthread_mutex_unlock(&v->lock);
    for (unsigned i = 0; i < HV_NSTIMERS; i++) {
        struct hv_stimer *t = &v->stimer[i];

        t->config = s->stimer[i].config;
        t->count = s->stimer[i].count;
        stimer_place(vp, t);
        if (t->deadline_ns != UINT64_MAX && s->stimer[i].deadline_ns != UINT64_MAX)
            t->deadline_ns = s->stimer[i].deadline_ns;
    }
    deadlines_tell(vp);
    return 0;
}
