/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC of one VP (SDM 3A chapter 11): xAPIC and x2APIC, timer, interrupt command register.
 *
 * There is no lock.  The registers are written by the VP's own thread; what other threads do to a local
 * APIC (accept an interrupt, INIT, SIPI, NMI, a receive error) are single atomic operations followed by
 * hv_vp_kick.  Other threads read the identification registers to match a destination. */
#ifndef MOBO_HV_LAPIC_H
#define MOBO_HV_LAPIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hv_vp;

/* Register numbers: byte offset / 16, MSR number - 0x800 (SDM tables 11-1 and 11-6). */
enum hv_apic_reg {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_APR = 0x09,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_RRD = 0x0c,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10,
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_LVT_CMCI = 0x2f,
    APIC_ICR = 0x30,
    APIC_ICR_HI = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_THERMAL = 0x33,
    APIC_LVT_PMC = 0x34,
    APIC_LVT_LINT0 = 0x35,
    APIC_LVT_LINT1 = 0x36,
    APIC_LVT_ERROR = 0x37,
    APIC_TMICT = 0x38,
    APIC_TMCCT = 0x39,
    APIC_DCR = 0x3e,
    APIC_SELF_IPI = 0x3f,
    APIC_NREGS = 0x40
};

enum {
    APIC_VERSION_VALUE = 0x00050014, /* integrated, six LVT entries, no directed EOI */
    APIC_SVR_ENABLE = 1u << 8,
    APIC_SVR_NO_EOI_BROADCAST = 1u << 12, /* taken though the version does not show it: KVM's does */
    APIC_SVR_VALID = 0x3ff | APIC_SVR_NO_EOI_BROADCAST,
    APIC_LVT_MASKED = 1u << 16,
    APIC_LVT_MODE = 7u << 8,
    APIC_LVT_LEVEL = 1u << 15,
    APIC_TIMER_MODE = 3u << 17,
    APIC_TIMER_ONESHOT = 0,
    APIC_TIMER_PERIODIC = 1u << 17,
    APIC_TIMER_DEADLINE = 2u << 17,
    APIC_ESR_SEND_ACCEPT = 1u << 2,
    APIC_ESR_SEND_ILLEGAL = 1u << 5,
    APIC_ESR_RECV_ILLEGAL = 1u << 6,
    APIC_ESR_ILLEGAL_REG = 1u << 7,
    APIC_BASE_BSP = 1u << 8,
    APIC_BASE_X2 = 1u << 10,
    APIC_BASE_EN = 1u << 11
};
#define APIC_DEFAULT_BASE 0xfee00000ull
#define APIC_TIMER_HZ     1000000000ull /* the core crystal clock, CPUID leaf 0x15: one count is 1 ns */

struct hv_lapic {
    _Atomic uint32_t reg[APIC_NREGS];
    _Atomic uint64_t base;              /* IA32_APIC_BASE */
    uint64_t tsc_deadline;              /* IA32_TSC_DEADLINE, 0 disarmed */
    uint64_t timer_start_ns;            /* guest time at which the running count began */
    _Atomic uint64_t timer_deadline_ns; /* guest time of the next expiry, UINT64_MAX none */
    _Atomic uint64_t timer_told_ns; /* the deadline that the timer thread has kicked the VP for */
    _Atomic bool timer_own;         /* the VP sleeps until its own deadline */
    _Atomic uint32_t esr_pending;   /* errors since the last write to ESR */
    _Atomic uint8_t init_pending, sipi_pending, nmi_pending, extint_pending, sipi_vector;
};

/** Power-on state, or with @init the state after an INIT (11.4.7.3: base and mode stay). */
void hv_lapic_reset(struct hv_vp *vp, bool init);

/** The register page: @off 0-4095.  VP thread only, as all below unless said. */
uint64_t hv_lapic_mmio_read(struct hv_vp *vp, unsigned off, unsigned len);
void hv_lapic_mmio_write(struct hv_vp *vp, unsigned off, unsigned len, uint64_t val);

/** MSRs 0x800-0x8ff.  @return 0 or -1: #GP(0). */
int hv_lapic_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int hv_lapic_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val);
/** IA32_APIC_BASE with the transitions of figure 11-27. */
int hv_lapic_base_write(struct hv_vp *vp, uint64_t val);
uint64_t hv_lapic_deadline_read(struct hv_vp *vp);
void hv_lapic_deadline_write(struct hv_vp *vp, uint64_t val);
/** The VP's TSC jumped (TSC, TSC_ADJUST): place the TSC deadline anew. */
void hv_lapic_tsc_changed(struct hv_vp *vp);

uint8_t hv_lapic_tpr_get(const struct hv_vp *vp);
void hv_lapic_tpr_set(struct hv_vp *vp, uint8_t tpr);

/** The vector that the processor should take now, or -1.  ack moves it from IRR to ISR. */
int hv_lapic_pending(const struct hv_vp *vp);
int hv_lapic_ack(struct hv_vp *vp);

/** A fixed, edge-triggered interrupt to this very VP, if its local APIC is on.  Any thread. */
void hv_lapic_fixed(struct hv_vp *vp, unsigned vector);
/** What a write of the EOI register does. */
void hv_lapic_eoi(struct hv_vp *vp);
/** The same for an interrupt that is known to be edge-triggered: nobody but the local APIC hears of it. */
void hv_lapic_eoi_edge(struct hv_vp *vp);
/** Does any interrupt wait in IRR?  Is @vector the only one in service, and edge-triggered? */
bool hv_lapic_irr_any(const struct hv_vp *vp);
bool hv_lapic_only_edge(const struct hv_vp *vp, unsigned vector);
/** ICR as one 64-bit register, in either mode of the local APIC (TLFS 10.2.1).  @return 0 or -1. */
int hv_lapic_icr_read(struct hv_vp *vp, uint64_t *val);
int hv_lapic_icr_write(struct hv_vp *vp, uint64_t val);

/** Does the INTR input reach the processor as ExtINT through this local APIC? */
bool hv_lapic_takes_extint(const struct hv_vp *vp);
/** Drive local interrupt pin 0 or 1 with an edge.  Any thread. */
void hv_lapic_lint(struct hv_vp *vp, unsigned pin);

/** Expire the timer if its deadline has come at guest time @now_ns. */
void hv_lapic_timer_poll(struct hv_vp *vp, uint64_t now_ns);

static inline uint64_t hv_lapic_deadline_ns(const struct hv_lapic *a)
{
    return atomic_load_explicit(&a->timer_deadline_ns, memory_order_relaxed);
}

/** Saved form: the register page (registers at offset n * 16).  VP not running.
 * check: NULL or what is wrong.  trim: clear what it would refuse and another local APIC (KVM's) may have taken. */
void hv_lapic_save(struct hv_vp *vp, uint8_t page[4096]);
void hv_lapic_trim(uint8_t page[4096]);
const char *hv_lapic_check(const struct hv_vp *vp, const uint8_t page[4096], uint64_t base);
void hv_lapic_load(struct hv_vp *vp, const uint8_t page[4096], uint64_t base, uint64_t tsc_deadline,
                   uint64_t timer_start_ns);

#endif
