/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/engines/harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint32_t pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp, (void)port;
    return len == 1 ? 0xff : len == 2 ? 0xffff : 0xffffffff;
}

static void pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    struct harness *h = ctx;

    (void)len;
    if (port == 0xf4) {
        h->exit_value = val;
        h->exited = true;
        hv_vp_cancel(h->p, vp);
    } else if (port == 0xe9 && h->nout < sizeof(h->out) - 1) {
        h->out[h->nout++] = (char)val;
    }
}

static uint64_t mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len)
{
    (void)ctx, (void)vp, (void)gpa, (void)len;
    return ~0ull;
}

static void mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)ctx, (void)vp, (void)gpa, (void)len, (void)val;
}

static void log_line(void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level < 2)
        fprintf(stderr, "hv: %s\n", line);
}

void harness_needs(const char *engine)
{
    struct hv_engine_info info = { 0 };

    if (hv_engine_query(engine, &info) == 0 && info.usable)
        return;
    printf("SKIP: %s: %s\n", engine, info.name ? info.reason : "not in this build");
    exit(77);
}

int harness_open(struct harness *h, const char *engine, unsigned vps)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .pio_read = pio_read, .pio_write = pio_write,
                                       .mmio_read = mmio_read, .mmio_write = mmio_write, .log = log_line };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = engine, .vps = vps, .ops = &ops, .ctx = h };
    uint64_t off;
    int err;

    memset(h, 0, sizeof(*h));
    err = hv_partition_create(&cfg, &h->p);
    if (err)
        return err;
    err = hv_ram_alloc(h->p, HARNESS_RAM, &off);
    if (!err)
        err = hv_gpa_map(h->p, 0, HARNESS_RAM, off, HV_MAP_RWX);
    if (err) {
        harness_close(h);
        return err;
    }
    h->ram = hv_ram_hva(h->p, off, HARNESS_RAM);
    hv_time_pause(h->p, false);
    return 0;
}

void harness_close(struct harness *h)
{
    hv_partition_destroy(h->p);
    h->p = NULL;
}

static struct hv_segment seg(uint16_t sel, uint16_t attr)
{
    return (struct hv_segment){ .limit = 0xffffffff, .selector = sel, .attr = attr };
}

void harness_long_mode(struct harness *h, unsigned vp, unsigned cpl)
{
    uint64_t *pml4 = (uint64_t *)(h->ram + 0x1000), *pdpt = (uint64_t *)(h->ram + 0x2000), *pd = (uint64_t *)(h->ram + 0x3000);
    uint64_t *gdt = (uint64_t *)(h->ram + 0x4000);
    struct hv_vp_state s;

    pml4[0] = 0x2007;
    pdpt[0] = 0x3007;
    for (unsigned i = 0; i < HARNESS_RAM >> 21; i++)
        pd[i] = (uint64_t)i << 21 | 0x87;
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    gdt[3] = 0x00cff3000000ffff;
    gdt[4] = 0x00affb000000ffff;
    hv_vp_get_state(h->p, vp, &s);
    s.cr0 = 0x80010033;
    s.cr4 = 0x6b0 | 1u << 18;
    s.xcr0 = 7;
    s.cr3 = 0x1000;
    s.efer = 0xd01;
    s.gdtr_base = 0x4000;
    s.gdtr_limit = 5 * 8 - 1;
    s.cs = cpl ? seg(4 * 8 + 3, 0xa0fb) : seg(8, 0xa09b);
    s.ss = s.ds = s.es = s.fs = s.gs = cpl ? seg(3 * 8 + 3, 0xc0f3) : seg(16, 0xc093);
    s.rip = HARNESS_CODE;
    s.gpr[4] = HARNESS_STACK;
    s.rflags = cpl ? 0x3002 : 2; /* IOPL 3, so that the exit port works in ring 3 */
    s.run_state = HV_VP_RUNNING;
    if (hv_vp_set_state(h->p, vp, &s))
        fprintf(stderr, "harness: %s\n", hv_last_error());
}

void harness_protected(struct harness *h, unsigned vp)
{
    uint64_t *gdt = (uint64_t *)(h->ram + 0x4000);
    struct hv_vp_state s;

    gdt[1] = 0x00cf9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    hv_vp_get_state(h->p, vp, &s);
    s.cr0 = 0x33;
    s.cr4 = 0x600;
    s.gdtr_base = 0x4000;
    s.gdtr_limit = 3 * 8 - 1;
    s.cs = seg(8, 0xc09b);
    s.ss = s.ds = s.es = s.fs = s.gs = seg(16, 0xc093);
    s.rip = HARNESS_CODE;
    s.gpr[4] = HARNESS_STACK;
    s.rflags = 2;
    s.run_state = HV_VP_RUNNING;
    if (hv_vp_set_state(h->p, vp, &s))
        fprintf(stderr, "harness: %s\n", hv_last_error());
}

struct watchdog { struct harness *h; unsigned ms; pthread_mutex_t m; pthread_cond_t c; bool done; };

static void *watchdog_main(void *arg)
{
    struct watchdog *w = arg;
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += w->ms / 1000;
    ts.tv_nsec += (long)(w->ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&w->m);
    while (!w->done)
        if (pthread_cond_timedwait(&w->c, &w->m, &ts) == ETIMEDOUT)
            break;
    if (!w->done)
        hv_vp_cancel(w->h->p, 0);
    pthread_mutex_unlock(&w->m);
    return NULL;
}

int harness_run(struct harness *h, unsigned timeout_ms, struct hv_exit *ret)
{
    struct watchdog w = { .h = h, .ms = timeout_ms, .m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER };
    pthread_t t;
    int err;

    h->exited = false;
    pthread_create(&t, NULL, watchdog_main, &w);
    err = hv_vp_run(h->p, 0, ret);
    pthread_mutex_lock(&w.m);
    w.done = true;
    pthread_cond_signal(&w.c);
    pthread_mutex_unlock(&w.m);
    pthread_join(t, NULL);
    return err ? err : (int)ret->reason;
}
