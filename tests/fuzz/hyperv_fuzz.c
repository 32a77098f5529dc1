/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for the Hyper-V interface: a guest that calls any hypercall in any form and sets any synthetic register,
 * while the host sends it messages and events and time passes.  The processor does not run: registers and hypercalls
 * are used as the engine would. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hv/infra.h"
#include "hv/x86/exec.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

extern const unsigned long fuzz_inputs;
const unsigned long fuzz_inputs = 200; /* some milliseconds each: see driver.c */

enum { RAM = 1 << 20, IN = 0x20000, OUT = 0x21000, VPS = 2, SINTS = 16 };

static struct hv_partition *p;
static struct hv_vp *vp;
static uint8_t *ram;
static uint64_t now_ns;

static uint64_t fake_ns(void)
{
    return now_ns;
}

/* What comes out of the guest has been checked. */
static uint16_t post_message(void *ctx, unsigned v, uint32_t conn, uint32_t type, const void *payload, unsigned len)
{
    static volatile uint8_t sum;

    (void)ctx;
    if (v >= VPS || len > HV_MESSAGE_PAYLOAD || (type & 0x80000000u))
        abort();
    for (unsigned i = 0; i < len; i++)
        sum = sum ^ ((const uint8_t *)payload)[i];
    (void)sum;
    return conn == 4 ? 0 : 18;
}

static uint16_t signal_event(void *ctx, unsigned v, uint32_t conn, uint16_t flag)
{
    (void)ctx, (void)flag;
    if (v >= VPS)
        abort();
    return conn == 0x10001 ? 0 : 18;
}

static void make(uint8_t how)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .post_message = post_message, .signal_event = signal_event };
    static const struct hv_ops no_ops = { .size = sizeof(no_ops) };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "interp", .vps = VPS, .enlightened = true,
                             .ops = how & 1 ? &no_ops : &ops, .enl_hide = how & 2 ? HV_ENL_IPI | HV_ENL_REMOTE_FLUSH : 0,
                             .enl_show = how & 4 ? 0 : HV_ENL_ALL };
    uint64_t off;

    if (hv_partition_create(&cfg, &p) || hv_ram_alloc(p, RAM, &off) || hv_gpa_map(p, 0, RAM, off, HV_MAP_RWX))
        abort();
    ram = hv_ram_hva(p, off, RAM);
    vp = p->vps[0];
    now_ns = 1000000000;
    p->clock->host_ns = fake_ns;
    hv_time_pause(p, false);
    vp->cpu.cr0 |= CR0_PE;
    vp->cpu.cpl = 0;
    vp->cpu.mode = X86_MODE_64;
}

/* What a proper guest does first. */
static void hello(void)
{
    for (unsigned i = 0; i < VPS; i++) {
        hv_hyperv_msr_write(p->vps[i], 0x40000083, (0x10000 + 0x2000 * i) | 1);
        hv_hyperv_msr_write(p->vps[i], 0x40000082, (0x11000 + 0x2000 * i) | 1);
        hv_hyperv_msr_write(p->vps[i], 0x40000092, 0x40);
        hv_hyperv_msr_write(p->vps[i], 0x40000093, 0x41 | 1 << 17);
        hv_hyperv_msr_write(p->vps[i], 0x40000080, 1);
        hv_msr_write(p->vps[i], 0x1b, 0xfee00000 | 0x800 | (i ? 0 : 0x100));
        hv_lapic_mmio_write(p->vps[i], 0xf0, 4, 0x1ff);
    }
    hv_hyperv_msr_write(vp, 0x40000000, 0x8100000000000000ull);
    hv_hyperv_msr_write(vp, 0x40000001, 0x50001);
}

/* Addresses that matter, or any: pages, their ends, overlays, what is no memory. */
static uint64_t address(struct input *in)
{
    static const uint64_t list[] = { IN,      OUT,     IN + 8,  IN + 4,      IN + 4088,  RAM - 8, RAM,       RAM - 4096,
                                     0x10000, 0x11000, 0x50000, 0xfee00000u, 1ull << 45, 0,       UINT64_MAX };
    unsigned n = take(in, 1);

    return n < 240 ? list[n % (sizeof(list) / sizeof(list[0]))] : take64(in, 8);
}

static void hypercall(struct input *in)
{
    static const uint16_t codes[] = { 0x02, 0x03, 0x08, 0x0b, 0x13,   0x14,   0x15,   0x5c,
                                      0x5d, 0x7e, 0x9a, 0x50, 0x8001, 0x8002, 0x8003, 0x8004 };
    uint32_t how = take(in, 2);
    uint64_t input = how & 0x200 ? take(in, 2) : codes[how & 15], a, b;

    if (how & 0x10) /* fast */
        input |= 1 << 16;
    if (how & 0x20)
        input |= (uint64_t)(take(in, 1) % 5) << 17;
    if (how & 0x40)
        input |= (uint64_t)(take(in, 1) % 20) << 32;
    if (how & 0x80)
        input |= (uint64_t)(take(in, 1) % 20) << 48;
    if (how & 0x100)
        input ^= 1ull << (take(in, 1) & 63);
    a = how & 0x10 ? take64(in, 1 + (how >> 12 & 7)) : address(in);
    b = how & 0x10 ? take64(in, 1 + (how >> 12 & 7)) : address(in);
    if (how & 0x400) { /* what the call reads */
        uint8_t n = (uint8_t)take(in, 1);

        take_bytes(in, ram + IN, n);
        memcpy(vp->cpu.ymm, ram + IN, 96);
    }
    vp->cpu.mode = how & 0x800 ? X86_MODE_32 : X86_MODE_64;
    if (how & 0x800) {
        vp->cpu.gpr[X86_RDX] = input >> 32;
        vp->cpu.gpr[X86_RAX] = (uint32_t)input;
        vp->cpu.gpr[X86_RBX] = a >> 32;
        vp->cpu.gpr[X86_RCX] = (uint32_t)a;
        vp->cpu.gpr[X86_RDI] = b >> 32;
        vp->cpu.gpr[X86_RSI] = (uint32_t)b;
    } else {
        vp->cpu.gpr[X86_RCX] = input;
        vp->cpu.gpr[X86_RDX] = a;
        vp->cpu.gpr[X86_R8] = b;
    }
    vp->cpu.cpl = how & 0x8000 && how & 0x400 ? 3 : 0;
    x86_mmu_enter(vp);
    if (hv_hypercall(vp)) {
        uint64_t reps = input >> 32 & 0xfff, result = vp->cpu.gpr[X86_RAX];

        if (how & 0x800)
            result = (uint32_t)result | vp->cpu.gpr[X86_RDX] << 32;
        if (vp->cpu.cpl || (result >> 32 & 0xfff) > reps || (result & 0xffff0000u))
            abort();
    }
    x86_mmu_leave(vp);
    vp->cpu.cpl = 0;
}

static void msr(struct input *in, struct hv_vp *to)
{
    static const uint32_t msrs[] = {
        0x40000000, 0x40000001, 0x40000002, 0x40000003, 0x40000010, 0x40000020, 0x40000021, 0x40000022, 0x40000023,
        0x40000070, 0x40000071, 0x40000072, 0x40000073, 0x40000080, 0x40000081, 0x40000082, 0x40000083, 0x40000084,
        0x40000090, 0x40000092, 0x40000093, 0x4000009f, 0x400000b0, 0x400000b1, 0x400000b2, 0x400000b3, 0x400000b4,
        0x400000b5, 0x400000b6, 0x400000b7, 0x400000f0, 0x40000100, 0x40000102, 0x40000103, 0x40000104, 0x40000105,
        0x40000118
    };
    uint32_t n = take(in, 1), how = take(in, 1);
    uint32_t which = n < 250 ? msrs[n % (sizeof(msrs) / sizeof(msrs[0]))] : 0x40000000 + take(in, 2) % 0x200;
    uint64_t val = how & 1 ? take64(in, 1 + (how >> 1 & 7)) : address(in) | (how >> 1 & 7);

    if (how & 0x40) { /* a count that comes soon */
        val = hv_reference_time(p) + take(in, 2);
    }
    if (how & 0x80)
        hv_hyperv_msr_read(to, which, &val);
    else
        hv_hyperv_msr_write(to, which, val);
    to->run_state = HV_VP_RUNNING;
    to->idle = 0;
}

/* The guest's end of the message page: it frees a slot and says so, or not. */
static void end_of_message(struct input *in, struct hv_vp *to)
{
    static const uint8_t zero[4];
    uint32_t how = take(in, 1);

    hv_gpa_write(p, (to->hyperv.simp & ~0xfffull) + 256 * (how & 15), zero, 4);
    if (how & 0x10)
        hv_hyperv_msr_write(to, 0x40000084, 0);
}

/* A saved state with changed bytes is taken or refused. */
static void restore(struct input *in, unsigned n)
{
    static struct hv_hyperv_vp_state s;
    static struct hv_message m[SINTS * 20];
    struct hv_hyperv_state h;
    unsigned count;
    uint8_t *bytes = (uint8_t *)&s;

    if (hv_hyperv_get(p, &h) || hv_hyperv_vp_get(p, n, &s))
        abort();
    count = hv_hyperv_messages(p, n, m, sizeof(m) / sizeof(m[0]));
    if (count > sizeof(m) / sizeof(m[0]))
        count = sizeof(m) / sizeof(m[0]);
    for (unsigned i = take(in, 1) % 8; i; i--) {
        size_t at = take(in, 2);

        if (at & 0x8000)
            ((uint8_t *)&h)[at % sizeof(h)] = (uint8_t)take(in, 1);
        else
            bytes[at % (at & 0x4000 ? sizeof(s) : offsetof(struct hv_hyperv_vp_state, message_page))] = (uint8_t)take(in, 1);
    }
    if (count && take(in, 1) & 1)
        ((uint8_t *)m)[take(in, 2) % (count * sizeof(m[0]))] = (uint8_t)take(in, 1);
    (void)hv_hyperv_set(p, &h);
    if (hv_hyperv_vp_set(p, n, &s, m, count) == 0 && hv_hyperv_vp_get(p, n, &s))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input in = { data, len };
    uint8_t payload[256] = { 0 };

    make((uint8_t)take(&in, 1));
    hello();
    for (unsigned steps = 0; in.left && steps < 300; steps++) {
        uint32_t what = take(&in, 1);
        struct hv_vp *to = p->vps[what >> 7];

        switch (what % 16) {
        case 0: hello(); break;
        case 1:
        case 2:
        case 3: msr(&in, to); break;
        case 4: (void)hv_message_post(p, what >> 7, take(&in, 1) % 17, take(&in, 1), payload, take(&in, 1)); break;
        case 5:
        case 6: (void)hv_event_signal(p, take(&in, 1) % 3, take(&in, 1) % 17, take(&in, 2) % 2050); break;
        case 7: end_of_message(&in, to); break;
        case 8:
            now_ns += take64(&in, 3) * 100;
            hv_stimer_poll(to, hv_time_ns(p));
            break;
        case 9: {
            int vector = hv_lapic_ack(to);

            if (vector >= 0 && (what & 0x40))
                hv_lapic_eoi(to);
            else if (vector >= 0)
                hv_lazy_eoi_offer(to, (unsigned)vector);
            hv_lazy_eoi_check(to);
            break;
        }
        case 10: {
            uint32_t regs[4];

            hv_hyperv_cpuid(to, 0x40000000 + take(&in, 1), regs);
            break;
        }
        case 11:
            if (what & 0x40)
                hv_partition_reset(p);
            vp->cpu.cr0 |= CR0_PE;
            break;
        case 12: restore(&in, what >> 7); break;
        default: hypercall(&in); break;
        }
    }
    /* Every message that waits is one that the host may have sent. */
    for (unsigned i = 0; i < VPS; i++) {
        static struct hv_message m[SINTS * 200];
        unsigned n = hv_synic_queued(p->vps[i], m, sizeof(m) / sizeof(m[0]));

        for (unsigned k = 0; k < n && k < sizeof(m) / sizeof(m[0]); k++)
            if (m[k].len > HV_MESSAGE_PAYLOAD || !m[k].type || m[k].sint >= SINTS)
                abort();
    }
    hv_partition_destroy(p);
    return 0;
}
