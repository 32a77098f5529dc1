/* SPDX-License-Identifier: BSD-2-Clause */
/* For unit tests of the board: the hv functions it uses, on a flat array of memory, with a clock
 * that the test sets and VPs that wait to be cancelled. */
#include "vmb/fakehv.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POOL = 256 << 20, MAPS = 64 };

struct fake_map {
    uint64_t gpa, len, off;
    unsigned flags;
};

struct hv_partition {
    struct hv_ops ops;
    void *ctx;
    unsigned vps;
    uint8_t *pool;
    uint64_t used;
    struct fake_map map[MAPS];
    unsigned nmaps;
    uint64_t paused_at, started_host;
    bool paused, cancel[HV_MAX_VPS];
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct hv_exit inject;
    struct hv_vp_state state[HV_MAX_VPS];
};

struct fakehv fakehv;

int hv_partition_create(const struct hv_config *cfg, struct hv_partition **ret)
{
    struct hv_partition *p = calloc(1, sizeof(*p));

    p->ops = *cfg->ops;
    p->ctx = cfg->ctx;
    p->vps = cfg->vps;
    p->pool = calloc(1, POOL);
    p->paused = true;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->cond, NULL);
    memset(&fakehv, 0, sizeof(fakehv));
    fakehv.a20 = true;
    fakehv.part = p;
    *ret = p;
    return 0;
}

void hv_partition_destroy(struct hv_partition *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->cond);
    free(p->pool);
    free(p);
}

/* Boards of these tests are not enlightened. */
int hv_hyperv_get(struct hv_partition *p, struct hv_hyperv_state *ret)
{
    (void)p;
    (void)ret;
    return -EINVAL;
}

int hv_hyperv_set(struct hv_partition *p, const struct hv_hyperv_state *state)
{
    (void)p;
    (void)state;
    return -EINVAL;
}

int hv_hyperv_vp_get(struct hv_partition *p, unsigned vp, struct hv_hyperv_vp_state *ret)
{
    (void)p;
    (void)vp;
    (void)ret;
    return -EINVAL;
}

int hv_hyperv_vp_set(struct hv_partition *p, unsigned vp, const struct hv_hyperv_vp_state *state,
                     const struct hv_message *messages, unsigned n)
{
    (void)p;
    (void)vp;
    (void)state;
    (void)messages;
    (void)n;
    return -EINVAL;
}

unsigned hv_hyperv_messages(struct hv_partition *p, unsigned vp, struct hv_message *ret, unsigned max)
{
    (void)p;
    (void)vp;
    (void)ret;
    (void)max;
    return 0;
}

void hv_features_get(struct hv_partition *p, struct hv_cpu_features *ret)
{
    (void)p;
    *ret = (struct hv_cpu_features){ HV_STATE_VERSION, sizeof(*ret), { 7 } };
}

int hv_features_check(struct hv_partition *p, const struct hv_cpu_features *saved)
{
    (void)p;
    return saved->word[0] & ~7u ? -ENOTSUP : 0;
}

int hv_features_limit(struct hv_partition *p, const struct hv_cpu_features *saved)
{
    return hv_features_check(p, saved);
}

int hv_pio_posted(struct hv_partition *p, uint16_t port, unsigned len, bool on)
{
    (void)p, (void)port, (void)len, (void)on;
    return 0;
}

uint64_t hv_tsc_hz(const struct hv_partition *p)
{
    (void)p;
    return 1000000000;
}

const char *hv_partition_engine(const struct hv_partition *p)
{
    (void)p;
    return "fake";
}

const char *hv_last_error(void)
{
    return "fake error";
}

int hv_ram_alloc(struct hv_partition *p, uint64_t len, uint64_t *ret_offset)
{
    if (len > POOL - p->used)
        return -ENOMEM;
    *ret_offset = p->used;
    p->used += len;
    return 0;
}

void *hv_ram_hva(struct hv_partition *p, uint64_t offset, uint64_t len)
{
    return len <= POOL && offset <= POOL - len ? p->pool + offset : NULL;
}

int hv_gpa_unmap(struct hv_partition *p, uint64_t gpa, uint64_t len)
{
    struct fake_map old[MAPS];
    unsigned n = p->nmaps;

    memcpy(old, p->map, sizeof(old));
    p->nmaps = 0;
    for (unsigned i = 0; i < n; i++) {
        struct fake_map m = old[i];

        if (m.gpa >= gpa + len || gpa >= m.gpa + m.len) {
            p->map[p->nmaps++] = m;
            continue;
        }
        if (m.gpa < gpa)
            p->map[p->nmaps++] = (struct fake_map){ m.gpa, gpa - m.gpa, m.off, m.flags };
        if (m.gpa + m.len > gpa + len)
            p->map[p->nmaps++] = (struct fake_map){ gpa + len, m.gpa + m.len - gpa - len,
                                                    m.off + gpa + len - m.gpa, m.flags };
    }
    return 0;
}

int hv_gpa_map(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t off, unsigned flags)
{
    hv_gpa_unmap(p, gpa, len);
    p->map[p->nmaps++] = (struct fake_map){ gpa, len, off, flags };
    return 0;
}

void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write)
{
    for (unsigned i = 0; i < p->nmaps; i++) {
        struct fake_map *m = &p->map[i];

        if (gpa >= m->gpa && gpa - m->gpa < m->len)
            return len <= m->len - (gpa - m->gpa) && (!write || (m->flags & HV_MAP_WRITE))
                       ? p->pool + m->off + (gpa - m->gpa)
                       : NULL;
    }
    return NULL;
}

int hv_gpa_read(struct hv_partition *p, uint64_t gpa, void *buf, size_t len)
{
    void *h = hv_gpa_hva(p, gpa, len, false);

    if (!h)
        return -EFAULT;
    memcpy(buf, h, len);
    return 0;
}

int hv_gpa_write(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len)
{
    void *h = hv_gpa_hva(p, gpa, len, true);

    if (!h)
        return -EFAULT;
    memcpy(h, buf, len);
    return 0;
}

void hv_gpa_dirty(struct hv_partition *p, uint64_t gpa, size_t len)
{
    (void)p;
    (void)gpa;
    (void)len;
}

int hv_gpa_dirty_log(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t *bitmap)
{
    (void)p;
    (void)gpa;
    memset(bitmap, 0xff, (len / 4096 + 63) / 64 * 8);
    return 0;
}

void hv_a20_set(struct hv_partition *p, bool enabled)
{
    (void)p;
    fakehv.a20 = enabled;
}

/* Time follows the host's clock while it runs, as in the real one. */
static uint64_t host_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static pthread_mutex_t time_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t time_locked(const struct hv_partition *p)
{
    return p->paused ? p->paused_at : p->paused_at + host_ns() - p->started_host;
}

uint64_t hv_time_ns(const struct hv_partition *p)
{
    uint64_t ns;

    pthread_mutex_lock(&time_lock);
    ns = time_locked(p);
    pthread_mutex_unlock(&time_lock);
    return ns;
}

void hv_time_set_ns(struct hv_partition *p, uint64_t ns)
{
    pthread_mutex_lock(&time_lock);
    p->paused_at = ns;
    pthread_mutex_unlock(&time_lock);
}

uint64_t hv_time_to_host_ns(const struct hv_partition *p, uint64_t guest_ns)
{
    uint64_t ns;

    pthread_mutex_lock(&time_lock);
    ns = p->paused ? UINT64_MAX : guest_ns - p->paused_at + p->started_host;
    pthread_mutex_unlock(&time_lock);
    return ns;
}

void hv_time_pause(struct hv_partition *p, bool paused)
{
    pthread_mutex_lock(&time_lock);
    if (paused && !p->paused)
        p->paused_at = time_locked(p);
    if (!paused && p->paused)
        p->started_host = host_ns();
    p->paused = paused;
    pthread_mutex_unlock(&time_lock);
}

int hv_vp_run(struct hv_partition *p, unsigned vp, struct hv_exit *ret)
{
    pthread_mutex_lock(&p->lock);
    while (!p->cancel[vp] && !(vp == 0 && p->inject.reason))
        pthread_cond_wait(&p->cond, &p->lock);
    ret->reason = HV_EXIT_CANCELED;
    if (vp == 0 && p->inject.reason) {
        *ret = p->inject;
        p->inject.reason = 0;
    }
    p->cancel[vp] = false;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

void hv_vp_cancel(struct hv_partition *p, unsigned vp)
{
    pthread_mutex_lock(&p->lock);
    p->cancel[vp] = true;
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->lock);
}

void fakehv_exit(enum hv_exit_reason reason, const char *text)
{
    struct hv_partition *p = fakehv.part;

    pthread_mutex_lock(&p->lock);
    p->inject.reason = reason;
    snprintf(p->inject.text, sizeof(p->inject.text), "%s", text);
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->lock);
}

void hv_partition_reset(struct hv_partition *p)
{
    (void)p;
    fakehv.resets++;
}

int hv_msi(struct hv_partition *p, uint64_t addr, uint32_t data)
{
    (void)p;
    fakehv.msis++;
    fakehv.msi_addr = addr;
    fakehv.msi_data = data;
    return 1;
}

void hv_extint_set(struct hv_partition *p, bool level)
{
    (void)p;
    fakehv.intr = level;
}

int hv_message_post(struct hv_partition *p, unsigned vp, unsigned sint, uint32_t type,
                    const void *payload, unsigned len)
{
    (void)p, (void)vp, (void)sint, (void)type, (void)payload, (void)len;
    return -ENXIO; /* the fake guest has no SynIC */
}

int hv_event_signal(struct hv_partition *p, unsigned vp, unsigned sint, unsigned flag)
{
    (void)p, (void)vp, (void)sint, (void)flag;
    return -ENXIO;
}

void hv_nmi(struct hv_partition *p)
{
    (void)p;
    fakehv.nmis++;
}

int hv_vp_get_state(struct hv_partition *p, unsigned vp, struct hv_vp_state *ret)
{
    *ret = p->state[vp];
    return 0;
}

int hv_vp_set_state(struct hv_partition *p, unsigned vp, const struct hv_vp_state *state)
{
    p->state[vp] = *state;
    return 0;
}

int hv_vp_dump(struct hv_partition *p, unsigned vp, char *buf, size_t len)
{
    (void)p;
    return snprintf(buf, len, "registers of %u", vp);
}

uint32_t fakehv_in(unsigned port, unsigned len)
{
    return fakehv.part->ops.pio_read(fakehv.part->ctx, 0, (uint16_t)port, len);
}

void fakehv_out(unsigned port, unsigned len, uint32_t val)
{
    fakehv.part->ops.pio_write(fakehv.part->ctx, 0, (uint16_t)port, len, val);
}

uint64_t fakehv_read(uint64_t gpa, unsigned len)
{
    uint64_t val = 0;

    if (!hv_gpa_read(fakehv.part, gpa, &val, len))
        return val;
    return fakehv.part->ops.mmio_read(fakehv.part->ctx, 0, gpa, len);
}

void fakehv_write(uint64_t gpa, unsigned len, uint64_t val)
{
    if (hv_gpa_write(fakehv.part, gpa, &val, len))
        fakehv.part->ops.mmio_write(fakehv.part->ctx, 0, gpa, len, val);
}

int fakehv_ack(void)
{
    return fakehv.part->ops.extint_ack(fakehv.part->ctx, 0);
}

void fakehv_eoi(unsigned vector)
{
    fakehv.part->ops.eoi(fakehv.part->ctx, 0, vector);
}
