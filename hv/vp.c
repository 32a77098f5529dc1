/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtual processors: running, waiting, events between instructions, reset, register state.
 *
 * A VP that has nothing to do sleeps on vp->wake_seq: 1 says that it sleeps or is about to.  It publishes
 * that first and looks at vp->attention second; hv_vp_kick sets the bits first and looks at the word second,
 * so one of them sees the other.  Section numbers are those of the Intel SDM volume 3A. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hv/infra.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

#ifndef MAP_32BIT
#define MAP_32BIT 0x40
#endif

/* ---- kicks and exits ---- */

void hv_vp_kick(struct hv_vp *vp, uint32_t bits)
{
    if (!atomic_fetch_or(&vp->attention, bits) && !atomic_load(&vp->wake_seq))
        atomic_store_explicit(&vp->kicked_ns, hv_host_ns(), memory_order_relaxed);
    if (atomic_load(&vp->wake_seq) && atomic_exchange(&vp->wake_seq, 0))
        syscall(SYS_futex, &vp->wake_seq, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    if (vp->p->engine->kick)
        vp->p->engine->kick(vp);
}

void hv_vp_cancel(struct hv_partition *p, unsigned vp)
{
    if (vp < p->nvps)
        hv_vp_kick(p->vps[vp], HV_ATT_CANCEL);
}

void hv_vp_exit(struct hv_vp *vp, enum hv_exit_reason reason, const char *fmt, ...)
{
    va_list ap;

    vp->exit.reason = reason;
    va_start(ap, fmt);
    vsnprintf(vp->exit.text, sizeof(vp->exit.text), fmt, ap);
    va_end(ap);
    atomic_fetch_or(&vp->attention, HV_ATT_EXIT);
}

/* Sleep until kicked or until guest time @deadline_ns. */
static void vp_sleep(struct hv_vp *vp, uint64_t deadline_ns)
{
    struct timespec ts;
    uint64_t host;

    if (vp->p->ops.idle && !atomic_load(&vp->attention))
        vp->p->ops.idle(vp->p->ctx, vp->index);
    atomic_store(&vp->lapic.timer_own, true);
    atomic_store(&vp->wake_seq, 1);
    if (!atomic_load(&vp->attention)) {
        host = hv_time_to_host_ns(vp->p, deadline_ns);
        ts.tv_sec = (time_t)(host / 1000000000ull);
        ts.tv_nsec = (long)(host % 1000000000ull);
        syscall(SYS_futex, &vp->wake_seq, FUTEX_WAIT_BITSET_PRIVATE, 1,
                host == UINT64_MAX ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
    }
    atomic_store(&vp->wake_seq, 0);
    atomic_store(&vp->lapic.timer_own, false);
}

/* ---- events ---- */

static void note_latency(struct hv_vp *vp)
{
    uint64_t since = atomic_exchange_explicit(&vp->kicked_ns, 0, memory_order_relaxed), now;

    if (!since)
        return;
    now = hv_host_ns();
    vp->counters[HV_CTR_EVENTS]++;
    vp->counters[HV_CTR_EVENT_NS] += now - since;
    if (now - since > vp->counters[HV_CTR_EVENT_MAX_NS])
        vp->counters[HV_CTR_EVENT_MAX_NS] = now - since;
}

static void halt_end(struct hv_vp *vp)
{
    vp->run_state = HV_VP_RUNNING;
    vp->idle = 0;
}

/* Deliver the most important event that can be taken now.  @return one was; false: none, and want_window says
 * whether one waits for the window.  May leave by a longjmp. */
static bool take_event(struct hv_vp *vp)
{
    struct hv_lapic *a = &vp->lapic;
    struct hv_partition *p = vp->p;
    bool line, want = false;
    int vec;

    if (atomic_load_explicit(&a->nmi_pending, memory_order_relaxed)) {
        if (!vp->cpu.nmi_masked && vp->cpu.int_shadow != 2) {
            atomic_store(&a->nmi_pending, 0);
            halt_end(vp);
            x86_interrupt(vp, X86_EXC_NMI, X86_EV_NMI);
            return true;
        }
        want = true;
    }
    if (vp->hyperv.lazy_eoi)
        hv_lazy_eoi_check(vp);
    line = (vp->index == 0 && atomic_load_explicit(&p->extint, memory_order_relaxed) &&
            hv_lapic_takes_extint(vp)) ||
           atomic_load_explicit(&a->extint_pending, memory_order_relaxed);
    if (line || hv_lapic_pending(vp) >= 0) {
        if (!(vp->cpu.eflags & EF_IF) || vp->cpu.int_shadow) {
            vp->want_window = 1;
            return false;
        }
        vec = -1;
        if (line) {
            atomic_store(&a->extint_pending, 0);
            x86_x87_spill(vp);
            x86_mmu_leave(vp);
            vec = p->ops.extint_ack(p->ctx, vp->index);
            x86_mmu_enter(vp);
        }
        if (vec < 0) {
            vec = hv_lapic_ack(vp);
            if (vec >= 0 && (vp->hyperv.assist & 1))
                hv_lazy_eoi_offer(vp, (unsigned)vec);
        }
        if (vec >= 0) {
            vp->want_window = want;
            halt_end(vp);
            vp->counters[HV_CTR_INTERRUPTS]++;
            x86_interrupt(vp, (unsigned)vec & 0xff, X86_EV_EXTINT);
            return true;
        }
    }
    vp->want_window = want;
    return false;
}

static void startup_ipi(struct hv_vp *vp)
{
    struct x86_seg *cs = &vp->cpu.seg[X86_CS];
    uint8_t vector = atomic_load(&vp->lapic.sipi_vector);

    cs->sel = (uint16_t)(vector << 8); /* 9.4.4.1 */
    cs->base = (uint64_t)vector << 12;
    vp->cpu.rip = 0;
    vp->run_state = HV_VP_RUNNING;
    x86_update_mode(vp);
}

bool hv_vp_startup(struct hv_vp *vp)
{
    struct hv_lapic *a = &vp->lapic;
    bool some = false;

    if (atomic_load_explicit(&a->init_pending, memory_order_relaxed)) {
        atomic_store(&a->init_pending, 0);
        hv_vp_reset(vp, true);
        some = true;
    }
    if (atomic_load_explicit(&a->sipi_pending, memory_order_relaxed)) {
        atomic_store(&a->sipi_pending, 0);
        if (vp->run_state == HV_VP_WAIT_SIPI) {
            startup_ipi(vp);
            some = true;
        }
    }
    return some;
}

bool hv_vp_events(struct hv_vp *vp)
{
    struct hv_lapic *a = &vp->lapic;

    for (;;) {
        uint32_t att = atomic_fetch_and(&vp->attention,
                                        (uint32_t) ~(HV_ATT_INTR | HV_ATT_TIMER | HV_ATT_SYNC));

        if (atomic_load_explicit(&vp->kicked_ns, memory_order_relaxed))
            note_latency(vp);
        if (att & HV_ATT_SYNC)
            x86_mmu_sync(vp);
        if (att & (HV_ATT_CANCEL | HV_ATT_EXIT))
            return true;
        if (hv_vp_deadline_ns(vp) != UINT64_MAX &&
            ((att & HV_ATT_TIMER) || vp->run_state != HV_VP_RUNNING)) {
            uint64_t now = hv_time_ns(vp->p);

            if (hv_lapic_deadline_ns(a) != UINT64_MAX)
                hv_lapic_timer_poll(vp, now);
            hv_stimer_poll(vp, now);
        }
        hv_vp_startup(vp);
        if (vp->run_state == HV_VP_HALTED && vp->cpu.int_shadow) {
            vp->cpu.int_shadow = 0; /* HLT was the instruction in the shadow */
            x86_update_mode(vp);
        }
        if (vp->run_state <= HV_VP_HALTED) {
            if (vp->exc.valid) { /* restored with a delivery begun */
                halt_end(vp);
                x86_exception_entry(vp);
                continue;
            }
            if (take_event(vp))
                continue;
            /* Whatever comes ends it, also what IF or a priority holds off (TLFS 10.1.4). */
            if (vp->idle && (vp->want_window || hv_lapic_irr_any(vp)))
                halt_end(vp);
        } else if (vp->run_state == HV_VP_SHUTDOWN && atomic_load(&a->nmi_pending) &&
                   !vp->cpu.nmi_masked) {
            vp->run_state = HV_VP_HALTED; /* 6.15: NMI ends the shutdown state */
            continue;
        }
        if (vp->run_state == HV_VP_RUNNING) {
            if (!atomic_load_explicit(&vp->attention, memory_order_relaxed))
                return false;
            continue;
        }
        x86_x87_spill(vp);
        x86_mmu_leave(vp);
        vp_sleep(vp, vp->run_state == HV_VP_HALTED ? hv_vp_deadline_ns(vp) : UINT64_MAX);
        x86_mmu_enter(vp);
    }
}

static pthread_mutex_t timers_lock = PTHREAD_MUTEX_INITIALIZER;

int hv_vp_run(struct hv_partition *p, unsigned index, struct hv_exit *ret_exit)
{
    struct hv_vp *vp;
    uint64_t t0, zero = 0;
    uint32_t att;

    if (index >= p->nvps || !ret_exit)
        return hv_fail(-EINVAL, "processor %u does not exist", index);
    vp = p->vps[index];
    if (atomic_exchange(&vp->running, true))
        return hv_fail(-EBUSY, "processor %u runs already", index);
    /* The timer thread begins with the first run, so that what the embedder gives up before (capabilities) is
     * given up for it too. */
    pthread_mutex_lock(&timers_lock);
    int err = p->timers ? 0 : hv_timers_create(p);

    pthread_mutex_unlock(&timers_lock);
    if (err) {
        atomic_store(&vp->running, false);
        return err;
    }
    hv_timer_slack();
    t0 = hv_host_ns();
    if (vp->run_state == HV_VP_RUNNING)
        atomic_compare_exchange_strong(&p->first_insn_ns, &zero, t0);
    atomic_fetch_or(&vp->attention, HV_ATT_INTR | HV_ATT_TIMER);
    p->engine->run(vp);
    vp->counters[HV_CTR_RUN_NS] += hv_host_ns() - t0;

    att = atomic_load(&vp->attention);
    if (att & HV_ATT_EXIT) {
        *ret_exit = vp->exit;
        memset(&vp->exit, 0, sizeof(vp->exit));
        atomic_fetch_and(&vp->attention, (uint32_t)~HV_ATT_EXIT);
    } else {
        memset(ret_exit, 0, sizeof(*ret_exit));
        ret_exit->reason = HV_EXIT_CANCELED;
        snprintf(ret_exit->text, sizeof(ret_exit->text), "canceled");
        atomic_fetch_and(&vp->attention, (uint32_t)~HV_ATT_CANCEL);
    }
    atomic_store(&vp->running, false);
    return 0;
}

/* ---- outside world ---- */

uint32_t hv_pio_read(struct hv_vp *vp, uint16_t port, unsigned len)
{
    struct hv_partition *p = vp->p;
    uint32_t val;

    vp->counters[HV_CTR_PIO]++;
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    val = p->ops.pio_read(p->ctx, vp->index, port, len);
    x86_mmu_enter(vp);
    return len == 4 ? val : val & ((1u << (len * 8)) - 1);
}

void hv_pio_write(struct hv_vp *vp, uint16_t port, unsigned len, uint32_t val)
{
    struct hv_partition *p = vp->p;

    vp->counters[HV_CTR_PIO]++;
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    p->ops.pio_write(p->ctx, vp->index, port, len, len == 4 ? val : val & ((1u << (len * 8)) - 1));
    x86_mmu_enter(vp);
}

static bool in_lapic_page(const struct hv_vp *vp, uint64_t gpa)
{
    uint64_t base = atomic_load_explicit(&vp->lapic.base, memory_order_relaxed);

    return (base & (APIC_BASE_EN | APIC_BASE_X2)) == APIC_BASE_EN && (gpa ^ base) < HV_PAGE_SIZE;
}

uint64_t hv_mmio_read(struct hv_vp *vp, uint64_t gpa, unsigned len)
{
    struct hv_partition *p = vp->p;
    uint64_t val;

    vp->counters[HV_CTR_MMIO]++;
    if (in_lapic_page(vp, gpa & ~0xfffull))
        return hv_lapic_mmio_read(vp, gpa & 0xfff, len);
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    val = p->ops.mmio_read(p->ctx, vp->index, gpa, len);
    x86_mmu_enter(vp);
    return len >= 8 ? val : val & ((1ull << (len * 8)) - 1);
}

void hv_mmio_write(struct hv_vp *vp, uint64_t gpa, unsigned len, uint64_t val)
{
    struct hv_partition *p = vp->p;

    vp->counters[HV_CTR_MMIO]++;
    if (in_lapic_page(vp, gpa & ~0xfffull)) {
        hv_lapic_mmio_write(vp, gpa & 0xfff, len, val);
        return;
    }
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    p->ops.mmio_write(p->ctx, vp->index, gpa, len,
                      len >= 8 ? val : val & ((1ull << (len * 8)) - 1));
    x86_mmu_enter(vp);
}

int hv_pio_posted(struct hv_partition *p, uint16_t port, unsigned len, bool on)
{
    if (!len || len > 0x10000u - port)
        return hv_fail(-EINVAL, "posted ports: 0x%x and %u bytes", port, len);
    return p->engine->posted_port ? p->engine->posted_port(p, port, len, on) : 0;
}

/* ---- creation and reset ---- */

/* Vector state needs more than malloc's alignment, and a translator addresses the VP with 32 bits. */
static size_t vp_size(void)
{
    return (sizeof(struct hv_vp) + HV_PAGE_SIZE - 1) & ~(size_t)(HV_PAGE_SIZE - 1);
}

int hv_vp_create(struct hv_partition *p, unsigned index)
{
    struct hv_vp *vp = mmap(NULL, vp_size(), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

    if (vp == MAP_FAILED)
        vp = mmap(NULL, vp_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (vp == MAP_FAILED)
        return hv_fail(-ENOMEM, "processor %u: out of memory", index);
    vp->p = p;
    vp->index = index;
    atomic_store(&vp->lapic.timer_deadline_ns, UINT64_MAX);
    atomic_store(&vp->hyperv.deadline_ns, UINT64_MAX);
    pthread_mutex_init(&vp->hyperv.lock, NULL);
    p->vps[index] = vp;
    if (x86_mmu_init(vp) < 0 || x86_vec_init(vp) < 0)
        return hv_fail(-ENOMEM, "processor %u: out of memory for the engine", index);
    hv_fail_text("processor %u: out of memory for the engine", index); /* unless the engine knows better */
    return p->engine->vp_create(vp) < 0 ? -ENOMEM : 0;
}

void hv_vp_destroy(struct hv_vp *vp)
{
    if (!vp)
        return;
    vp->p->vps[vp->index] = NULL;
    vp->p->engine->vp_destroy(vp);
    x86_vec_fini(vp);
    x86_mmu_fini(vp);
    hv_synic_fini(vp);
    pthread_mutex_destroy(&vp->hyperv.lock);
    munmap(vp, vp_size());
}

/* Table 9-1.  INIT leaves alone: x87 and vector state, XCR0, TSC, MTRRs, PAT, most MSRs, CR0.CD and CR0.NW. */
void hv_vp_reset(struct hv_vp *vp, bool init)
{
    struct x86_cpu *c = &vp->cpu;
    static const struct x86_seg data = { 0, 0xffff, 0, SEG_P | SEG_S | SEG_TYPE_RW | SEG_TYPE_A };

    x86_x87_spill(vp);
    memset(c->gpr, 0, sizeof(c->gpr));
    c->gpr[X86_RDX] = HV_CPU_SIGNATURE;
    c->rip = 0xfff0;
    c->fl = x86_eflags_to_fl(0);
    c->eflags = EF_R1;
    for (unsigned i = 0; i < X86_SEG_NONE; i++)
        c->seg[i] = data;
    c->seg[X86_CS] = (struct x86_seg){ 0xffff0000, 0xffff, 0xf000,
                                       SEG_P | SEG_S | SEG_TYPE_CODE | SEG_TYPE_RW | SEG_TYPE_A };
    c->ldtr = (struct x86_seg){ 0, 0xffff, 0, SEG_P | 2 };
    c->tr = (struct x86_seg){ 0, 0xffff, 0, SEG_P | 11 };
    c->gdtr = c->idtr = (struct x86_dtr){ 0, 0xffff };
    c->cr0 = CR0_ET | (init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
    c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
    memset(c->dr, 0, sizeof(c->dr));
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    memset(c->pdpte, 0, sizeof(c->pdpte));
    c->int_shadow = c->nmi_masked = c->nmi_pending = 0;
    if (!init) {
        c->xcr0 = 1;
        c->star = c->lstar = c->cstar = c->sfmask = c->kernel_gs_base = c->tsc_aux = 0;
        c->pat = 0x0007040600070406;
        c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
        c->tsc_offset = 0; /* goes on through a reset: the processors stay in step */
        c->tsc_adjust = 0;
        c->misc_enable = 1; /* fast strings */
        c->spec_ctrl = c->mcg_status = 0;
        c->mtrr_def = 0;
        memset(c->mtrr_fixed, 0, sizeof(c->mtrr_fixed));
        memset(c->mtrr_var, 0, sizeof(c->mtrr_var));
        x86_vec_reset(vp);
    }
    memset(&vp->exc, 0, sizeof(vp->exc));
    memset(&vp->delivering, 0, sizeof(vp->delivering));
    vp->want_window = vp->rep_begun = 0;
    hv_lapic_reset(vp, init);
    hv_hyperv_vp_reset(vp);
    vp->idle = 0;
    vp->run_state = vp->index == 0 ? HV_VP_RUNNING : HV_VP_WAIT_SIPI;
    x86_tlb_flush_all(vp);
    x86_mmu_watch_changed(vp);
    x86_update_mode(vp);
    vp->p->engine->reset(vp);
}

/* ---- register state ---- */

static struct hv_segment seg_get(const struct x86_seg *s)
{
    return (struct hv_segment){ s->base, s->limit, s->sel, s->attr };
}

static struct x86_seg seg_put(const struct hv_segment *s)
{
    return (struct x86_seg){ s->base, s->limit, s->selector, s->attr };
}

int hv_vp_get_state(struct hv_partition *p, unsigned index, struct hv_vp_state *s)
{
    struct hv_vp *vp;
    struct x86_cpu *c;

    if (index >= p->nvps)
        return hv_fail(-EINVAL, "processor %u does not exist", index);
    vp = p->vps[index];
    c = &vp->cpu;
    if (p->engine->get_state) {
        int err = p->engine->get_state(vp);

        if (err)
            return err;
    }
    hv_lazy_eoi_end(vp); /* not every engine can go on with it */
    memset(s, 0, sizeof(*s));
    s->version = HV_STATE_VERSION;
    s->size = sizeof(*s);
    memcpy(s->gpr, c->gpr, sizeof(s->gpr));
    s->rip = c->rip;
    s->rflags = x86_flags_get(c);
    s->es = seg_get(&c->seg[X86_ES]);
    s->cs = seg_get(&c->seg[X86_CS]);
    s->ss = seg_get(&c->seg[X86_SS]);
    s->ds = seg_get(&c->seg[X86_DS]);
    s->fs = seg_get(&c->seg[X86_FS]);
    s->gs = seg_get(&c->seg[X86_GS]);
    s->ldtr = seg_get(&c->ldtr);
    s->tr = seg_get(&c->tr);
    s->gdtr_base = c->gdtr.base;
    s->gdtr_limit = c->gdtr.limit;
    s->idtr_base = c->idtr.base;
    s->idtr_limit = c->idtr.limit;
    s->cr0 = c->cr0;
    s->cr2 = c->cr2;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->cr8 = hv_lapic_tpr_get(vp) >> 4;
    s->efer = c->efer;
    s->xcr0 = c->xcr0;
    memcpy(s->dr, c->dr, sizeof(s->dr));
    memcpy(s->pdpte, c->pdpte, sizeof(s->pdpte));
    x86_xsave_get(vp, s->xsave);
    s->star = c->star;
    s->lstar = c->lstar;
    s->cstar = c->cstar;
    s->sfmask = c->sfmask;
    s->kernel_gs_base = c->kernel_gs_base;
    s->tsc_aux = c->tsc_aux;
    s->pat = c->pat;
    s->sysenter_cs = c->sysenter_cs;
    s->sysenter_esp = c->sysenter_esp;
    s->sysenter_eip = c->sysenter_eip;
    s->tsc_adjust = c->tsc_adjust;
    s->tsc_offset = c->tsc_offset;
    s->misc_enable = c->misc_enable;
    s->spec_ctrl = c->spec_ctrl;
    s->mcg_status = c->mcg_status;
    s->mtrr_def = c->mtrr_def;
    memcpy(s->mtrr_fixed, c->mtrr_fixed, sizeof(s->mtrr_fixed));
    memcpy(s->mtrr_var, c->mtrr_var, sizeof(s->mtrr_var));
    hv_lapic_save(vp, s->apic);
    s->apic_base = atomic_load(&vp->lapic.base);
    s->tsc_deadline = vp->lapic.tsc_deadline;
    s->apic_timer_start_ns = vp->lapic.timer_start_ns;
    s->run_state = vp->run_state;
    s->int_shadow = c->int_shadow;
    s->nmi_masked = c->nmi_masked;
    s->nmi_pending = atomic_load(&vp->lapic.nmi_pending);
    s->pending_valid = vp->exc.valid;
    if (vp->exc.valid) {
        s->pending_vector = vp->exc.vector;
        s->pending_type = vp->exc.type;
        s->pending_has_error = vp->exc.has_error;
        s->pending_error = vp->exc.error;
        if (vp->exc.vector == X86_EXC_PF)
            s->cr2 = vp->exc.cr2;
    }
    return 0;
}

static bool pat_valid(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++, pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

static bool seg_valid(const struct hv_segment *s)
{
    return !(s->attr & 0x0e00);
}

/* What a processor cannot be in, as a few words, or NULL. */
static const char *state_check(struct hv_vp *vp, const struct hv_vp_state *s)
{
    uint64_t phys = ~((1ull << HV_MAXPHYADDR) - 1);
    const struct hv_segment *segs[] = { &s->es, &s->cs, &s->ss,   &s->ds,
                                        &s->fs, &s->gs, &s->ldtr, &s->tr };
    bool lma = s->efer & EFER_LMA, cs64 = lma && (s->cs.attr & SEG_L);
    uint32_t mxcsr;

    if (s->run_state > HV_VP_SHUTDOWN)
        return "run state";
    if ((s->cr0 & ~(uint64_t)(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP |
                              CR0_AM | CR0_NW | CR0_CD | CR0_PG)) ||
        ((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE)) || ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
        return "CR0";
    if (s->cr4 & ~hv_cr4_mask(vp->p))
        return "CR4";
    if (s->efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
        return "EFER";
    if (lma != ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)))
        return "EFER.LMA without EFER.LME and CR0.PG";
    if (lma && !(s->cr4 & CR4_PAE))
        return "long mode without CR4.PAE";
    if ((s->cr4 & CR4_PCIDE) && !lma)
        return "CR4.PCIDE outside long mode";
    if (s->cr3 & phys)
        return "CR3";
    if (s->cr8 > 15)
        return "CR8";
    if (!(s->xcr0 & 1) || (s->xcr0 & ~hv_xcr0_mask(vp->p)) || ((s->xcr0 & 4) && !(s->xcr0 & 2)))
        return "XCR0";
    if ((s->rflags & ~0x3f7fd7ull) || !(s->rflags & EF_R1))
        return "RFLAGS";
    if ((s->rflags & EF_VM) && (lma || !(s->cr0 & CR0_PE)))
        return "RFLAGS.VM";
    if (cs64 ? !x86_canonical(s->rip) : s->rip >> 32 != 0)
        return "RIP";
    if (cs64 && (s->cs.attr & SEG_DB))
        return "CS: both L and D";
    for (unsigned i = 0; i < COUNT(segs); i++)
        if (!seg_valid(segs[i]) || !x86_canonical(segs[i]->base))
            return "segment register";
    if (s->gdtr_limit > 0xffff || s->idtr_limit > 0xffff || !x86_canonical(s->gdtr_base) ||
        !x86_canonical(s->idtr_base))
        return "GDTR or IDTR";
    if ((s->dr[6] >> 32) || (s->dr[7] >> 32))
        return "DR6 or DR7";
    if ((s->cr4 & CR4_PAE) && (s->cr0 & CR0_PG) && !lma)
        for (unsigned i = 0; i < 4; i++)
            if ((s->pdpte[i] & 1) && (s->pdpte[i] & (phys | 0x1e6)))
                return "PDPTE";
    if (!pat_valid(s->pat))
        return "PAT";
    if ((s->mtrr_def & ~0xcffull) || (s->spec_ctrl & ~0x407ull) || (s->mcg_status & ~7ull) ||
        (s->misc_enable & ~0x400400001ull))
        return "MSR";
    for (unsigned i = 0; i < COUNT(s->mtrr_var); i++)
        if (s->mtrr_var[i] & (phys | (i & 1 ? 0x7ffull : 0xf00ull)))
            return "MTRR";
    if (!x86_canonical(s->lstar) || !x86_canonical(s->cstar) || !x86_canonical(s->kernel_gs_base) ||
        !x86_canonical(s->sysenter_esp) || !x86_canonical(s->sysenter_eip) || (s->tsc_aux >> 32) ||
        (s->sfmask >> 32))
        return "system-call MSR";
    if (s->int_shadow > 2 || s->nmi_masked > 1 || s->nmi_pending > 1 || s->pending_valid > 1)
        return "interruptibility";
    if (s->pending_valid && (s->pending_vector > 255 || s->pending_type > X86_EV_SOFTEXC ||
                             s->pending_type == 1 || s->pending_has_error > 1))
        return "pending event";
    memcpy(&mxcsr, s->xsave + 24, 4);
    if (mxcsr & ~0xffffu)
        return "MXCSR";
    return hv_lapic_check(vp, s->apic, s->apic_base);
}

int hv_vp_set_state(struct hv_partition *p, unsigned index, const struct hv_vp_state *s)
{
    struct hv_vp *vp;
    struct x86_cpu *c;
    const char *what;

    if (index >= p->nvps)
        return hv_fail(-EINVAL, "processor %u does not exist", index);
    if (s->version != HV_STATE_VERSION || s->size != sizeof(*s))
        return hv_fail(-EINVAL,
                       "processor %u: state version %u, size %u; this is version %d, size %zu",
                       index, s->version, s->size, HV_STATE_VERSION, sizeof(*s));
    vp = p->vps[index];
    c = &vp->cpu;
    if (atomic_load(&vp->running))
        return hv_fail(-EBUSY, "processor %u runs", index);
    what = state_check(vp, s);
    if (what)
        return hv_fail(-EINVAL, "processor %u: no processor can be in this state: %s", index, what);
    x86_x87_spill(vp);
    if (x86_xsave_put(vp, s->xsave) < 0)
        return hv_fail(-EINVAL, "processor %u: no processor can be in this state: XSAVE area",
                       index);

    memcpy(c->gpr, s->gpr, sizeof(s->gpr));
    c->rip = s->rip;
    c->fl = x86_eflags_to_fl((uint32_t)s->rflags);
    c->eflags = ((uint32_t)s->rflags & ~(uint32_t)EF_ARITH) | EF_R1;
    c->seg[X86_ES] = seg_put(&s->es);
    c->seg[X86_CS] = seg_put(&s->cs);
    c->seg[X86_SS] = seg_put(&s->ss);
    c->seg[X86_DS] = seg_put(&s->ds);
    c->seg[X86_FS] = seg_put(&s->fs);
    c->seg[X86_GS] = seg_put(&s->gs);
    c->ldtr = seg_put(&s->ldtr);
    c->tr = seg_put(&s->tr);
    c->gdtr = (struct x86_dtr){ s->gdtr_base, s->gdtr_limit };
    c->idtr = (struct x86_dtr){ s->idtr_base, s->idtr_limit };
    c->cr0 = s->cr0 | CR0_ET;
    c->cr2 = s->cr2;
    c->cr3 = s->cr3;
    c->cr4 = s->cr4;
    c->efer = s->efer;
    c->xcr0 = s->xcr0;
    memcpy(c->dr, s->dr, sizeof(c->dr));
    c->dr[4] = c->dr[5] = 0;
    c->dr[6] = (s->dr[6] & 0xe00f) | 0xffff0ff0;
    c->dr[7] = (s->dr[7] & 0xffff23ff) | 0x400;
    memcpy(c->pdpte, s->pdpte, sizeof(c->pdpte));
    c->star = s->star;
    c->lstar = s->lstar;
    c->cstar = s->cstar;
    c->sfmask = s->sfmask;
    c->kernel_gs_base = s->kernel_gs_base;
    c->tsc_aux = s->tsc_aux;
    c->pat = s->pat;
    c->sysenter_cs = s->sysenter_cs;
    c->sysenter_esp = s->sysenter_esp;
    c->sysenter_eip = s->sysenter_eip;
    c->tsc_adjust = s->tsc_adjust;
    c->tsc_offset = s->tsc_offset;
    c->misc_enable = s->misc_enable;
    c->spec_ctrl = s->spec_ctrl;
    c->mcg_status = s->mcg_status;
    c->mtrr_def = s->mtrr_def;
    memcpy(c->mtrr_fixed, s->mtrr_fixed, sizeof(c->mtrr_fixed));
    memcpy(c->mtrr_var, s->mtrr_var, sizeof(c->mtrr_var));
    hv_lapic_load(vp, s->apic, s->apic_base, s->tsc_deadline, s->apic_timer_start_ns);
    atomic_store(&vp->lapic.reg[APIC_TPR],
                 (uint32_t)((atomic_load(&vp->lapic.reg[APIC_TPR]) & 0xf) | s->cr8 << 4));
    atomic_store(&vp->lapic.nmi_pending, s->nmi_pending);
    vp->run_state = s->run_state;
    c->int_shadow = s->int_shadow;
    if (s->run_state == HV_VP_HALTED) {
        c->int_shadow = 0; /* HLT was the instruction in the shadow */
        if (s->pending_valid)
            vp->run_state = HV_VP_RUNNING;
    }
    c->nmi_masked = s->nmi_masked;
    vp->want_window = vp->rep_begun = 0;
    memset(&vp->delivering, 0, sizeof(vp->delivering));
    vp->exc = (struct x86_pending){
        .valid = s->pending_valid,
        .vector = (uint8_t)s->pending_vector,
        .type = s->pending_type,
        .has_error = s->pending_has_error,
        .error = s->pending_error,
        .cr2 = s->cr2,
    };
    x86_tlb_flush_all(vp);
    x86_mmu_watch_changed(vp);
    x86_update_mode(vp);
    p->engine->reset(vp);
    hv_vp_kick(vp, HV_ATT_INTR | HV_ATT_TIMER);
    return p->engine->set_state ? p->engine->set_state(vp) : 0;
}

int hv_vp_dump(struct hv_partition *p, unsigned index, char *buf, size_t len)
{
    static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15" };
    static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    static const char *const states[] = { "running", "halted", "waits for SIPI", "shut down" };
    const struct hv_vp *vp;
    const struct x86_cpu *c;
    size_t at = 0;

    if (index >= p->nvps)
        return snprintf(buf, len, "vp%u does not exist", index);
    vp = p->vps[index];
    c = &vp->cpu;
#define PUT(...) \
    (at += (size_t)snprintf(at < len ? buf + at : NULL, at < len ? len - at : 0, __VA_ARGS__))
    PUT("vp%u %s, %u-bit, cpl %u\n", index, states[vp->run_state & 3], c->mode * 8u, c->cpl);
    PUT("rip %016llx rflags %08x cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %04llx\n",
        (unsigned long long)c->rip, x86_flags_get(c), (unsigned long long)c->cr0,
        (unsigned long long)c->cr2, (unsigned long long)c->cr3, (unsigned long long)c->cr4,
        (unsigned long long)c->efer);
    for (unsigned i = 0; i < 16; i++)
        PUT("%s %016llx%c", names[i], (unsigned long long)c->gpr[i], i % 4 == 3 ? '\n' : ' ');
    for (unsigned i = 0; i < X86_SEG_NONE; i++)
        PUT("%s %04x base %016llx limit %08x attr %04x\n", segs[i], c->seg[i].sel,
            (unsigned long long)c->seg[i].base, c->seg[i].limit, c->seg[i].attr);
    PUT("ldtr %04x base %016llx limit %08x  tr %04x base %016llx limit %08x\n", c->ldtr.sel,
        (unsigned long long)c->ldtr.base, c->ldtr.limit, c->tr.sel, (unsigned long long)c->tr.base,
        c->tr.limit);
    PUT("gdtr %016llx/%04x idtr %016llx/%04x dr6 %08llx dr7 %08llx xcr0 %llx\n",
        (unsigned long long)c->gdtr.base, c->gdtr.limit, (unsigned long long)c->idtr.base,
        c->idtr.limit, (unsigned long long)c->dr[6], (unsigned long long)c->dr[7],
        (unsigned long long)c->xcr0);
#undef PUT
    return (int)at;
}

void hv_cpuid(struct hv_partition *p, unsigned vp, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    memset(ret, 0, 4 * sizeof(ret[0]));
    if (vp < p->nvps)
        hv_cpuid_query(p->vps[vp], leaf, subleaf, ret);
    if (vp < p->nvps && p->engine->cpuid_filter)
        p->engine->cpuid_filter(p->vps[vp], leaf, subleaf, ret);
}
