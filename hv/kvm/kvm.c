/* SPDX-License-Identifier: BSD-2-Clause */
/* The KVM engine: machine, processors, the run loop (API 5 for struct kvm_run).
 *
 * A kick sends the VP's thread a signal whose handler sets kvm_run.immediate_exit: KVM_RUN returns wherever the
 * signal hits between the last look at vp->attention and the guest's next instruction. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"

/* ---- kicks ---- */

static _Thread_local struct kvm_run *current_run;

static void on_kick(int sig)
{
    (void)sig;
    if (current_run)
        __atomic_store_n(&current_run->immediate_exit, 1, __ATOMIC_RELAXED);
}

static int kick_signal(void) { return SIGRTMIN + 6; }

static pthread_once_t signal_once = PTHREAD_ONCE_INIT;

static void signal_install(void)
{
    struct sigaction sa = { .sa_handler = on_kick }; /* no SA_RESTART: KVM_RUN has to end */

    sigemptyset(&sa.sa_mask);
    sigaction(kick_signal(), &sa, NULL);
}

static void kvm_kick(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);

    if (kv && atomic_load(&kv->in_run))
        syscall(SYS_tgkill, getpid(), atomic_load(&kv->tid), kick_signal());
}

/* ---- machine ---- */

static int part_fail(struct hv_partition *p, int err, const char *what)
{
    (void)p;
    return hv_fail(err, "%s: %s", what, strerror(-err));
}

enum { RING_LEN = 4096 };

/* Rings where there are any: reading the log then costs what was written, not what there is. */
static void dirty_ring(struct kvm_part *kp)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING };
    int bytes = kvm_cap(kp->fd, KVM_CAP_DIRTY_LOG_RING);
    uint32_t len = (uint32_t)bytes / sizeof(struct kvm_dirty_gfn);

    len = len > RING_LEN ? RING_LEN : len;
    cap.args[0] = len * sizeof(struct kvm_dirty_gfn);
    if (len && kvm_ioctl(kp->vm, KVM_ENABLE_CAP, &cap) >= 0)
        kp->ring_len = len;
}

static int kvm_partition_create(struct hv_partition *p)
{
    struct kvm_part *kp = calloc(1, sizeof(*kp));
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = KVM_LEVEL_VECTORS };
    struct kvm_enable_cap msr = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
                                  .args[0] = KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN };
    uint64_t identity = 0xfffbc000ul;
    int r;

    if (!kp)
        return hv_fail(-ENOMEM, "KVM: out of memory");
    kp->fd = kp->vm = -1;
    pthread_mutex_init(&kp->map_lock, NULL);
    pthread_mutex_init(&kp->route_lock, NULL);
    pthread_mutex_init(&kp->time_lock, NULL);
    pthread_mutex_init(&kp->posted_lock, NULL);
    pthread_mutex_init(&kp->ports_lock, NULL);
    p->engine_data = kp;
    pthread_once(&signal_once, signal_install);
    kp->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kp->fd < 0)
        return part_fail(p, -errno, "/dev/kvm");
    kp->vm = kvm_ioctl(kp->fd, KVM_CREATE_VM, NULL);
    if (kp->vm < 0)
        return part_fail(p, kp->vm, "KVM_CREATE_VM");
    r = kvm_ioctl(kp->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (r < (int)sizeof(struct kvm_run))
        return part_fail(p, r < 0 ? r : -EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
    kp->run_size = (size_t)r;
    r = kvm_cap(kp->fd, KVM_CAP_NR_MEMSLOTS);
    kp->max_slots = r > 0 ? (unsigned)r : 32;
    kp->slots = calloc(kp->max_slots, sizeof(*kp->slots));
    if (!kp->slots)
        return hv_fail(-ENOMEM, "KVM: out of memory");
    r = kvm_ioctl(kp->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (r >= 0)
        r = kvm_ioctl(kp->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
    if (r < 0)
        return part_fail(p, r, "KVM_SET_TSS_ADDR");
    r = kvm_ioctl(kp->vm, KVM_ENABLE_CAP, &split);
    if (r < 0)
        return part_fail(p, r, "KVM_CAP_SPLIT_IRQCHIP");
    r = kvm_ioctl(kp->vm, KVM_ENABLE_CAP, &msr);
    if (r < 0)
        return part_fail(p, r, "KVM_CAP_X86_USER_SPACE_MSR");
    kp->tsc_scaling = kvm_cap(kp->fd, KVM_CAP_TSC_CONTROL);
    kp->xcrs = kvm_cap(kp->fd, KVM_CAP_XCRS);
    kp->deadline = kvm_cap(kp->fd, KVM_CAP_TSC_DEADLINE_TIMER);
    kp->ports_can = p->enlightened && kvm_cap(kp->fd, KVM_CAP_HYPERV_EVENTFD);
    r = kvm_cap(kp->fd, KVM_CAP_SYNC_REGS);
    kp->sync_regs = (r & KVM_SYNC_ALL) == KVM_SYNC_ALL;
    dirty_ring(kp);
    r = kvm_cpuid_load(p);
    if (!r && p->enlightened)
        r = kvm_hyperv_init(p);
    return r;
}

static void kvm_partition_destroy(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);

    if (!kp)
        return;
    kvm_ports_fini(p);
    p->engine_data = NULL;
    if (kp->vm >= 0)
        close(kp->vm);
    if (kp->fd >= 0)
        close(kp->fd);
    pthread_mutex_destroy(&kp->map_lock);
    pthread_mutex_destroy(&kp->route_lock);
    pthread_mutex_destroy(&kp->time_lock);
    pthread_mutex_destroy(&kp->posted_lock);
    pthread_mutex_destroy(&kp->ports_lock);
    free(kp->supported);
    free(kp->hv_supported);
    free(kp->slots);
    free(kp);
}

/* ---- processors ---- */

/* The guest's TSC has our rate where the hardware can scale it, else the host's. */
static int tsc_rate(struct hv_vp *vp)
{
    struct kvm_part *kp = kvm_part(vp->p);
    struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
    int fd = kvm_vcpu(vp)->fd, khz = kvm_ioctl(fd, KVM_GET_TSC_KHZ, NULL), r;

    if (khz <= 0)
        return hv_fail(khz < 0 ? khz : -EIO, "KVM does not know the rate of the TSC");
    if (!kp->host_khz) {
        kp->host_khz = (uint64_t)khz;
        kp->tsc_khz = kp->tsc_scaling ? HV_TSC_HZ / 1000 : kp->host_khz;
        kp->tsc_attr = kvm_ioctl(fd, KVM_HAS_DEVICE_ATTR, &a) >= 0;
    }
    if (!kp->tsc_scaling)
        return 0;
    r = kvm_ioctl(fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)kp->tsc_khz);
    return r < 0 ? hv_fail(r, "KVM_SET_TSC_KHZ %llu: %s", (unsigned long long)kp->tsc_khz, strerror(-r)) : 0;
}

static int kvm_vp_create(struct hv_vp *vp)
{
    struct kvm_part *kp = kvm_part(vp->p);
    struct kvm_vcpu *kv = calloc(1, sizeof(*kv));
    int r;

    if (!kv)
        return hv_fail(-ENOMEM, "KVM: out of memory");
    kv->vp = vp;
    kv->stats = -1;
    vp->engine_data = kv;
    kv->fd = kvm_ioctl(kp->vm, KVM_CREATE_VCPU, (void *)(uintptr_t)vp->index);
    if (kv->fd < 0)
        return hv_fail(kv->fd, "processor %u: KVM_CREATE_VCPU: %s", vp->index, strerror(-kv->fd));
    kv->run = mmap(NULL, kp->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, kv->fd, 0);
    if (kv->run == MAP_FAILED) {
        r = -errno;
        kv->run = NULL;
        return hv_fail(r, "processor %u: mmap: %s", vp->index, strerror(-r));
    }
    if (vp->index == 0 && kvm_cap(kp->fd, KVM_CAP_COALESCED_PIO)) {
        r = kvm_cap(kp->fd, KVM_CAP_COALESCED_MMIO);
        if (r > 0 && ((size_t)r + 1) * HV_PAGE_SIZE <= kp->run_size)
            kp->posted = (struct kvm_coalesced_mmio_ring *)((uint8_t *)kv->run + r * HV_PAGE_SIZE);
    }
    if (kvm_cap(kp->fd, KVM_CAP_BINARY_STATS_FD))
        kv->stats = kvm_ioctl(kv->fd, KVM_GET_STATS_FD, NULL);
    r = tsc_rate(vp);
    if (!r)
        r = kvm_ring_init(vp);
    if (!r && vp->p->enlightened)
        r = kvm_hyperv_vp_init(vp);
    return r;
}

static void kvm_vp_destroy(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);

    if (!kv)
        return;
    kvm_ring_fini(vp);
    vp->engine_data = NULL;
    if (vp->index == 0)
        kvm_part(vp->p)->posted = NULL;
    if (kv->run)
        munmap(kv->run, kvm_part(vp->p)->run_size);
    if (kv->stats >= 0)
        close(kv->stats);
    if (kv->fd >= 0)
        close(kv->fd);
    free(kv);
}

static void kvm_reset(struct hv_vp *vp)
{
    struct hv_partition *p = vp->p;
    int err;

    if (p->enlightened && !p->hyperv)
        return; /* still being created */
    if (vp->index == 0)
        kvm_ports_clear(p);
    /* The SINT routes need all the processors. */
    err = vp->index == 0 && p->enlightened ? kvm_irq_routes(p) : 0;
    if (!err)
        err = kvm_state_push(vp);
    if (err)
        hv_vp_exit(vp, HV_EXIT_ERROR, "%s", hv_last_error());
}

/* hv_vp_set_state calls reset first, which has pushed everything. */
static int kvm_set_state(struct hv_vp *vp)
{
    uint32_t att = atomic_load(&vp->attention);

    if (!(att & HV_ATT_EXIT) || vp->exit.reason != HV_EXIT_ERROR)
        return 0;
    atomic_fetch_and(&vp->attention, (uint32_t)~HV_ATT_EXIT);
    return hv_fail(-ENOTSUP, "%s", vp->exit.text);
}

/* ---- exits ---- */

static void exit_io(struct hv_vp *vp, struct kvm_run *run)
{
    struct hv_partition *p = vp->p;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned len = run->io.size;

    for (uint32_t i = 0; i < run->io.count; i++, data += len) {
        uint32_t val = 0;

        vp->counters[HV_CTR_PIO]++;
        if (run->io.direction == KVM_EXIT_IO_IN) {
            val = p->ops.pio_read(p->ctx, vp->index, run->io.port, len);
            memcpy(data, &val, len);
        } else {
            memcpy(&val, data, len);
            p->ops.pio_write(p->ctx, vp->index, run->io.port, len, val);
        }
    }
}

static void exit_mmio(struct hv_vp *vp, struct kvm_run *run)
{
    struct hv_partition *p = vp->p;
    uint64_t val = 0;

    vp->counters[HV_CTR_MMIO]++;
    if (run->mmio.is_write) {
        memcpy(&val, run->mmio.data, run->mmio.len);
        p->ops.mmio_write(p->ctx, vp->index, run->mmio.phys_addr, run->mmio.len, val);
    } else {
        val = p->ops.mmio_read(p->ctx, vp->index, run->mmio.phys_addr, run->mmio.len);
        memcpy(run->mmio.data, &val, run->mmio.len);
    }
}

static void exit_triple_fault(struct hv_vp *vp)
{
    char dump[4096];
    bool gone;

    kvm_state_pull(vp);
    vp->run_state = HV_VP_SHUTDOWN;
    /* KVM resets the registers of an AMD processor that shuts down: they do not tell where it was. */
    gone = vp->cpu.rip == 0xfff0 && vp->cpu.seg[X86_CS].base == 0xffff0000u && !(vp->cpu.cr0 & CR0_PE) &&
           !vp->cpu.gdtr.base && !vp->cpu.cr3;
    if (hv_vp_dump(vp->p, vp->index, dump, sizeof(dump)) > 0)
        for (char *line = dump, *end; *line; line = end) {
            size_t len = strcspn(line, "\n");

            end = line + len + (line[len] != 0);
            if (len)
                hv_log(vp->p, 3, "%.*s", (int)len, line);
        }
    if (gone)
        hv_vp_exit(vp, HV_EXIT_TRIPLE_FAULT, "vp %u: triple fault (where is not known: the registers are those of a "
                   "reset)", vp->index);
    else
        hv_vp_exit(vp, HV_EXIT_TRIPLE_FAULT, "vp %u: triple fault at %04x:%016llx", vp->index,
                   vp->cpu.seg[X86_CS].sel, (unsigned long long)vp->cpu.rip);
}

/* What KVM calls an internal error (API 5, KVM_EXIT_INTERNAL_ERROR). */
static void exit_internal(struct hv_vp *vp, struct kvm_run *run)
{
    static const char *const what[] = {
        [0] = "KVM cannot go on",
        [KVM_INTERNAL_ERROR_EMULATION] = "KVM cannot emulate an instruction",
        [KVM_INTERNAL_ERROR_SIMUL_EX] = "KVM cannot deliver an exception within an exception",
        [KVM_INTERNAL_ERROR_DELIVERY_EV] = "the guest's interrupt table or stack cannot be reached to deliver an event",
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "the processor left the guest for a reason that KVM does not know",
    };
    uint32_t sub = run->internal.suberror;
    char more[80] = "";
    size_t at = 0;

    if (sub == KVM_INTERNAL_ERROR_EMULATION) {
        if (run->emulation_failure.ndata >= 3 &&
            (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
            for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
                at += (size_t)snprintf(more + at, sizeof(more) - at, "%s %02x", i ? "" : ", bytes",
                                       run->emulation_failure.insn_bytes[i]);
    } else {
        for (unsigned i = 0; i < run->internal.ndata && i < 3; i++)
            at += (size_t)snprintf(more + at, sizeof(more) - at, "%s 0x%llx", i ? "" : ", data",
                                   (unsigned long long)run->internal.data[i]);
    }
    hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: %s at %04x:%016llx (error %u%s)", vp->index,
               what[sub < COUNT(what) ? sub : 0], vp->cpu.seg[X86_CS].sel, (unsigned long long)vp->cpu.rip, sub, more);
}

static void exit_error(struct hv_vp *vp, struct kvm_run *run)
{
    kvm_state_pull(vp);
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
        hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: the processor refuses to enter the guest (reason 0x%llx) at %04x:%016llx",
                   vp->index, (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
                   vp->cpu.seg[X86_CS].sel, (unsigned long long)vp->cpu.rip);
    } else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        exit_internal(vp, run);
    } else if (run->exit_reason == KVM_EXIT_UNKNOWN) {
        hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: KVM leaves the guest again and again at %04x:%016llx without a reason "
                   "(the processor's: 0x%llx)", vp->index, vp->cpu.seg[X86_CS].sel, (unsigned long long)vp->cpu.rip,
                   (unsigned long long)run->hw.hardware_exit_reason);
    } else {
        hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: KVM left the guest for an unknown reason, %u", vp->index,
                   run->exit_reason);
    }
}

/* What an exit is counted as. */
static enum hv_counter exit_counter(uint32_t reason)
{
    switch (reason) {
    case KVM_EXIT_IO: return HV_CTR_VMEXIT_PIO;
    case KVM_EXIT_MMIO: return HV_CTR_VMEXIT_MMIO;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR: return HV_CTR_VMEXIT_MSR;
    case KVM_EXIT_IOAPIC_EOI: return HV_CTR_VMEXIT_EOI;
    case KVM_EXIT_IRQ_WINDOW_OPEN: return HV_CTR_VMEXIT_WINDOW;
    case KVM_EXIT_INTR: return HV_CTR_VMEXIT_KICK;
    case KVM_EXIT_DIRTY_RING_FULL: return HV_CTR_VMEXIT_DIRTY_RING;
    default: return HV_CTR_VMEXIT_OTHER;
    }
}

enum { UNKNOWN_MAX = 1000 };

static void exit_handle(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    struct kvm_run *run = kv->run;
    struct hv_partition *p = vp->p;

    if (run->exit_reason == KVM_EXIT_HYPERV)
        vp->counters[run->hyperv.type == KVM_EXIT_HYPERV_HCALL ? HV_CTR_VMEXIT_HYPERCALL : HV_CTR_VMEXIT_SYNIC]++;
    else
        vp->counters[exit_counter(run->exit_reason)]++;
    kvm_posted_drain(vp);
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        kv->pending = true;
        exit_io(vp, run);
        break;
    case KVM_EXIT_MMIO:
        kv->pending = true;
        exit_mmio(vp, run);
        break;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kv->pending = true;
        kvm_msr_exit(vp, run->exit_reason == KVM_EXIT_X86_WRMSR);
        break;
    case KVM_EXIT_HYPERV:
        kv->pending = true;
        kvm_hyperv_exit(vp);
        break;
    case KVM_EXIT_IOAPIC_EOI: p->ops.eoi(p->ctx, vp->index, run->eoi.vector); break;
    case KVM_EXIT_DIRTY_RING_FULL: kvm_ring_full(p); break;
    case KVM_EXIT_HLT: vp->counters[HV_CTR_HLT]++; break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN: break;
    case KVM_EXIT_UNKNOWN: /* nothing to do for us, once */
        if (++kv->unknown >= UNKNOWN_MAX)
            exit_error(vp, run);
        return;
    case KVM_EXIT_SHUTDOWN: exit_triple_fault(vp); break;
    case KVM_EXIT_SYSTEM_EVENT:
        if (run->system_event.type == KVM_SYSTEM_EVENT_CRASH)
            hv_vp_exit(vp, HV_EXIT_CRASH, "the guest crashed");
        else
            hv_vp_exit(vp, HV_EXIT_RESET, "the guest asked for a reset");
        break;
    default: exit_error(vp, run); break;
    }
    kv->unknown = 0;
}

/* ---- running ---- */

/* The 8259 pair's interrupt: taken when KVM says that the guest can, else KVM tells when it can. */
static void extint(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    struct hv_partition *p = vp->p;

    if (atomic_load(&p->extint) && kv->run->ready_for_interrupt_injection) {
        int vec = p->ops.extint_ack(p->ctx, vp->index);

        if (vec >= 0) {
            struct kvm_interrupt irq = { .irq = (uint32_t)vec & 0xff };

            if (kvm_ioctl(kv->fd, KVM_INTERRUPT, &irq) >= 0)
                vp->counters[HV_CTR_INTERRUPTS]++;
            kv->run->ready_for_interrupt_injection = 0;
        }
    }
    kv->run->request_interrupt_window = atomic_load(&p->extint);
}

/* hv_nmi: through LINT1 (SDM 3A 11.5.1). */
static void nmi(struct hv_vp *vp)
{
    struct kvm_lapic_state l;
    uint32_t lint1;

    if (kvm_ioctl(kvm_vcpu(vp)->fd, KVM_GET_LAPIC, &l) < 0)
        return;
    memcpy(&lint1, l.regs + APIC_LVT_LINT1 * 16, 4);
    if (!(lint1 & APIC_LVT_MASKED) && (lint1 & APIC_LVT_MODE) == (uint32_t)HV_NMI << 8)
        kvm_ioctl(kvm_vcpu(vp)->fd, KVM_NMI, NULL);
}

static void guest_leave(struct kvm_vcpu *kv) { atomic_store(&kv->in_run, 0); }

/* @return false: something came up. */
static bool guest_enter(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    struct kvm_part *kp = kvm_part(vp->p);

    __atomic_store_n(&kv->run->immediate_exit, 0, __ATOMIC_RELAXED);
    atomic_store(&kv->in_run, 1);
    if (atomic_load(&kp->stop)) {
        guest_leave(kv);
        syscall(SYS_futex, &kp->stop, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
        return false;
    }
    if (atomic_load(&vp->attention)) {
        guest_leave(kv);
        return false;
    }
    return true;
}

/* Let KVM finish the access whose answer is in kvm_run, without running the guest. */
static void finish_pending(struct kvm_vcpu *kv)
{
    if (!kv->pending)
        return;
    __atomic_store_n(&kv->run->immediate_exit, 1, __ATOMIC_RELAXED);
    kvm_ioctl(kv->fd, KVM_RUN, NULL);
    __atomic_store_n(&kv->run->immediate_exit, 0, __ATOMIC_RELAXED);
    kv->pending = false;
}

static void kvm_run_vp(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    sigset_t set, old;

    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, &old);
    atomic_store(&kv->tid, (int32_t)syscall(SYS_gettid));
    current_run = kv->run;
    /* What waited when the state was made, which has no place in KVM. */
    if (hv_vp_startup(vp) && kvm_state_push(vp))
        hv_vp_exit(vp, HV_EXIT_ERROR, "%s", hv_last_error());
    kv->inside = true;
    kvm_time_sync(vp);
    for (;;) {
        uint32_t att = atomic_fetch_and(&vp->attention,
                                        (uint32_t) ~(HV_ATT_INTR | HV_ATT_TIMER | HV_ATT_SYNC));
        int r;

        if (att & (HV_ATT_CANCEL | HV_ATT_EXIT))
            break;
        if (atomic_load(&kvm_part(vp->p)->broken)) {
            finish_pending(kv);
            kvm_state_pull(vp);
            hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: KVM did not take a change of the guest's memory", vp->index);
            break;
        }
        if (att & HV_ATT_TIMER)
            kvm_time_sync(vp);
        if (vp->index == 0)
            extint(vp);
        if (atomic_exchange(&kv->nmi, 0))
            nmi(vp);
        if (atomic_load(&vp->hyperv.waits)) /* each time: KVM's timers use slots, and take back that more waits */
            hv_synic_run(vp);
        if (!guest_enter(vp))
            continue;
        r = kvm_ioctl(kv->fd, KVM_RUN, NULL);
        guest_leave(kv);
        vp->counters[HV_CTR_VMEXITS]++;
        if (r == -EINTR || r == -EAGAIN) {
            vp->counters[HV_CTR_VMEXIT_KICK]++;
            kv->pending = false; /* finished before it looked at the signal */
            continue;
        }
        kv->pending = false;
        if (r < 0) {
            kvm_state_pull(vp);
            hv_vp_exit(vp, HV_EXIT_ERROR, "vp %u: KVM_RUN: %s at %04x:%016llx", vp->index, strerror(-r),
                       vp->cpu.seg[X86_CS].sel, (unsigned long long)vp->cpu.rip);
            break;
        }
        exit_handle(vp);
    }
    finish_pending(kv);
    kv->inside = false;
    current_run = NULL;
    kvm_posted_drain(vp);
    kvm_ports_drain(vp->p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static int kvm_get_state(struct hv_vp *vp) { return kvm_state_pull(vp); }

static void kvm_nmi_all(struct hv_partition *p)
{
    for (unsigned i = 0; i < p->nvps; i++) {
        atomic_store(&kvm_vcpu(p->vps[i])->nmi, 1);
        hv_vp_kick(p->vps[i], HV_ATT_INTR);
    }
}

static uint64_t kvm_tsc_hz(const struct hv_partition *p) { return kvm_part(p)->tsc_khz * 1000; }

static void kvm_code_drop(struct hv_vp *vp, uint64_t ram_page, uint64_t lines) { (void)vp, (void)ram_page, (void)lines; }
static void kvm_stop_block(struct hv_vp *vp) { (void)vp; }

const struct hv_engine hv_engine_kvm = {
    .name = "kvm",
    .summary = "hardware virtualization through /dev/kvm",
    .probe = kvm_probe,
    .partition_create = kvm_partition_create,
    .partition_destroy = kvm_partition_destroy,
    .vp_create = kvm_vp_create,
    .vp_destroy = kvm_vp_destroy,
    .run = kvm_run_vp,
    .reset = kvm_reset,
    .code_drop = kvm_code_drop,
    .stop_block = kvm_stop_block,
    .map_changed = kvm_mem_changed,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .set_hyperv = kvm_hyperv_push,
    .kick = kvm_kick,
    .interrupt = kvm_irq_request,
    .nmi = kvm_nmi_all,
    .sint = kvm_irq_sint,
    .dirty_sync = kvm_mem_dirty_sync,
    .cpuid_changed = kvm_cpuid_changed,
    .cpuid_filter = kvm_cpuid_filter,
    .tsc_hz = kvm_tsc_hz,
    .tsc_at = kvm_tsc_at,
    .posted_port = kvm_posted_port,
    .counters = kvm_counters,
    .differences = kvm_differences,
};
