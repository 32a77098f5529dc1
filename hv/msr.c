/* SPDX-License-Identifier: BSD-2-Clause */
/* Model-specific registers (Intel SDM volume 4; section numbers are those of volume 3A).
 *
 * What CPUID shows exists; the rest raises #GP, with one line in the log a register. */
#include "hv/infra.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

enum {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_EBL_CR_POWERON = 0x2a,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDT_TRIG = 0x79,
    MSR_BIOS_SIGN_ID = 0x8b,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LASTBRANCH_FROM = 0x1db,
    MSR_LASTINT_TO = 0x1de,
    MSR_MTRR_VAR = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
    MSR_X2APIC_END = 0x8ff
};
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

/* None of the speculation flaws concerns an engine of ours as the guest could mend it: RDCL_NO IBRS_ALL
 * SKIP_L1DFL_VMENTRY SSB_NO MDS_NO IF_PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO
 * GDS_NO RFDS_NO ITS_NO (bits 0 1 3 4 5 6 8 13 14 15 20 24 26 27 62). */
#define ARCH_CAP                                                                                \
    (1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 |        \
     1ull << 13 | 1ull << 14 | 1ull << 15 | 1ull << 20 | 1ull << 24 | 1ull << 26 | 1ull << 27 | \
     1ull << 62)

enum {
    MISC_FAST_STRINGS = 1 << 0,
    MISC_BTS_UNAVAIL = 1 << 11,
    MISC_PEBS_UNAVAIL = 1 << 12,
    MISC_LIMIT_CPUID = 1 << 22
};
#define MISC_XD_DISABLE (1ull << 34)

enum { MTRRCAP = 0x508 /* write-combining, fixed ranges, 8 variable ranges */ };

static uint64_t phys_mask(const struct hv_vp *vp)
{
    return (1ull << hv_maxphyaddr(vp->p)) - 1;
}

static bool mem_type_valid(unsigned t)
{
    return t == 0 || t == 1 || (t >= 4 && t <= 6); /* table 12-8 */
}

static bool types_valid(uint64_t val, bool pat)
{
    for (unsigned i = 0; i < 8; i++, val >>= 8)
        if (!mem_type_valid(val & 0xff) && !(pat && (val & 0xff) == 7))
            return false;
    return true;
}

/* The fixed-range MTRR slot of @msr, or -1. */
static int mtrr_fixed_slot(uint32_t msr)
{
    if (msr == MSR_MTRR_FIX64K)
        return 0;
    if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
        return 1 + (int)(msr - MSR_MTRR_FIX16K);
    if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
        return 3 + (int)(msr - MSR_MTRR_FIX4K);
    return -1;
}

static int unknown(struct hv_vp *vp, uint32_t msr, const char *verb, uint64_t val)
{
    /* One line a register: a set of those already reported, hashed; a collision only saves a line. */
    static _Atomic uint64_t seen[64];
    uint32_t h = (msr * 0x9e3779b1u) >> 20;
    uint64_t bit = 1ull << (h & 63);

    if (!(atomic_fetch_or(&seen[(h >> 6) & 63], bit) & bit)) {
        x86_x87_spill(vp);
        hv_log(vp->p, 3, "vp%u: %s of MSR 0x%x (0x%llx) refused, rip 0x%llx", vp->index, verb, msr,
               (unsigned long long)val, (unsigned long long)vp->cpu.rip);
    }
    return -1;
}

int hv_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    const struct x86_cpu *c = &vp->cpu;
    int slot;

    switch (msr) {
    case MSR_TSC: *val = hv_tsc_read(vp); return 0;
    case MSR_PLATFORM_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_MCG_CAP: /* no banks */
    case MSR_DEBUGCTL:
    case 0: /* P5_MC_ADDR and P5_MC_TYPE */
    case 1: *val = 0; return 0;
    case MSR_FEATURE_CONTROL:
        *val = 1; /* locked, nothing enabled */
        return 0;
    case MSR_APIC_BASE:
        *val = atomic_load_explicit(&vp->lapic.base, memory_order_relaxed);
        return 0;
    case MSR_TSC_ADJUST: *val = c->tsc_adjust; return 0;
    case MSR_SPEC_CTRL: *val = c->spec_ctrl; return 0;
    case MSR_BIOS_SIGN_ID: *val = (uint64_t)HV_UCODE_REV << 32; return 0;
    case MSR_MTRRCAP: *val = MTRRCAP; return 0;
    case MSR_ARCH_CAPABILITIES: *val = ARCH_CAP; return 0;
    case MSR_SYSENTER_CS: *val = c->sysenter_cs; return 0;
    case MSR_SYSENTER_ESP: *val = c->sysenter_esp; return 0;
    case MSR_SYSENTER_EIP: *val = c->sysenter_eip; return 0;
    case MSR_MCG_STATUS: *val = c->mcg_status; return 0;
    case MSR_MISC_ENABLE: *val = c->misc_enable | MISC_BTS_UNAVAIL | MISC_PEBS_UNAVAIL; return 0;
    case MSR_PAT: *val = c->pat; return 0;
    case MSR_MTRR_DEF: *val = c->mtrr_def; return 0;
    case MSR_TSC_DEADLINE: *val = hv_lapic_deadline_read(vp); return 0;
    case MSR_EFER: *val = c->efer; return 0;
    case MSR_STAR: *val = c->star; return 0;
    case MSR_LSTAR: *val = c->lstar; return 0;
    case MSR_CSTAR: *val = c->cstar; return 0;
    case MSR_SFMASK: *val = c->sfmask; return 0;
    case MSR_FS_BASE: *val = c->seg[X86_FS].base; return 0;
    case MSR_GS_BASE: *val = c->seg[X86_GS].base; return 0;
    case MSR_KERNEL_GS_BASE: *val = c->kernel_gs_base; return 0;
    case MSR_TSC_AUX: *val = c->tsc_aux; return 0;
    }
    if (msr >= 0x40000000u && msr <= 0x400001ffu && vp->p->hyperv)
        return hv_hyperv_msr_read(vp, msr, val) ? unknown(vp, msr, "read", 0) : 0;
    if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_END)
        return hv_lapic_msr_read(vp, msr, val);
    if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 16) {
        *val = c->mtrr_var[msr - MSR_MTRR_VAR];
        return 0;
    }
    if (msr >= MSR_LASTBRANCH_FROM && msr <= MSR_LASTINT_TO) {
        *val = 0; /* there is no branch recording */
        return 0;
    }
    slot = mtrr_fixed_slot(msr);
    if (slot >= 0) {
        *val = c->mtrr_fixed[slot];
        return 0;
    }
    return unknown(vp, msr, "read", 0);
}

static int efer_write(struct hv_vp *vp, uint64_t val)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t changed;

    if (val & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
        return -1;
    if ((val & EFER_NXE) && (c->misc_enable & MISC_XD_DISABLE))
        return -1;
    changed = val ^ c->efer;
    if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
        return -1;
    c->efer = (val & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    if (changed & EFER_NXE)
        x86_tlb_flush_all(vp);
    x86_update_mode(vp);
    return 0;
}

static int canonical(uint64_t *reg, uint64_t val)
{
    if (!x86_canonical(val))
        return -1;
    *reg = val;
    return 0;
}

static int masked(uint64_t *reg, uint64_t val, uint64_t allowed)
{
    if (val & ~allowed)
        return -1;
    *reg = val;
    return 0;
}

int hv_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t delta;
    int slot, err;

    switch (msr) {
    case MSR_TSC: /* 18.17.3: the difference also goes into TSC_ADJUST */
        delta = val - hv_tsc_read(vp);
        c->tsc_adjust += delta;
        hv_lapic_tsc_changed(vp);
        return 0;
    case MSR_TSC_ADJUST:
        c->tsc_adjust = val;
        hv_lapic_tsc_changed(vp);
        return 0;
    case MSR_APIC_BASE:
        err = hv_lapic_base_write(vp, val);
        if (!err) /* the register page may have moved under a cached translation */
            x86_tlb_flush_all(vp);
        return err;
    case MSR_SPEC_CTRL: /* IBRS, STIBP, SSBD, BHI_DIS_S: nothing to do */
        return masked(&c->spec_ctrl, val, 0x407);
    case MSR_PRED_CMD: return val & ~1ull ? -1 : 0;
    case MSR_BIOS_UPDT_TRIG:
    case MSR_BIOS_SIGN_ID:
    case 0:
    case 1: return 0;
    case MSR_SYSENTER_CS: c->sysenter_cs = (uint32_t)val; return 0;
    case MSR_SYSENTER_ESP: return canonical(&c->sysenter_esp, val);
    case MSR_SYSENTER_EIP: return canonical(&c->sysenter_eip, val);
    case MSR_MCG_STATUS: return masked(&c->mcg_status, val, 7);
    case MSR_MISC_ENABLE:
        if (val & ~(MISC_FAST_STRINGS | MISC_BTS_UNAVAIL | MISC_PEBS_UNAVAIL | MISC_LIMIT_CPUID |
                    MISC_XD_DISABLE))
            return unknown(vp, msr, "write", val);
        if ((val & MISC_XD_DISABLE) && (c->efer & EFER_NXE))
            return -1;
        c->misc_enable = val & (MISC_FAST_STRINGS | MISC_LIMIT_CPUID | MISC_XD_DISABLE);
        return 0;
    case MSR_DEBUGCTL: /* LBR and BTF may be asked for and do nothing */
        return val & ~3ull ? -1 : 0;
    case MSR_PAT:
        if (!types_valid(val, true))
            return -1;
        c->pat = val;
        return 0;
    case MSR_MTRR_DEF:
        if ((val & ~0xcffull) || !mem_type_valid(val & 0xff))
            return -1;
        c->mtrr_def = val;
        return 0;
    case MSR_TSC_DEADLINE: hv_lapic_deadline_write(vp, val); return 0;
    case MSR_EFER: return efer_write(vp, val);
    case MSR_STAR: c->star = val; return 0;
    case MSR_LSTAR: return canonical(&c->lstar, val);
    case MSR_CSTAR: return canonical(&c->cstar, val);
    case MSR_SFMASK: return masked(&c->sfmask, val, 0xffffffff);
    case MSR_FS_BASE: return canonical(&c->seg[X86_FS].base, val);
    case MSR_GS_BASE: return canonical(&c->seg[X86_GS].base, val);
    case MSR_KERNEL_GS_BASE: return canonical(&c->kernel_gs_base, val);
    case MSR_TSC_AUX: return masked(&c->tsc_aux, val, 0xffffffff);
    }
    if (msr >= 0x40000000u && msr <= 0x400001ffu && vp->p->hyperv)
        return hv_hyperv_msr_write(vp, msr, val) ? unknown(vp, msr, "write", val) : 0;
    if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_END)
        return hv_lapic_msr_write(vp, msr, val);
    if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 16) {
        if (msr & 1)
            return masked(&c->mtrr_var[msr - MSR_MTRR_VAR], val,
                          (phys_mask(vp) & ~0xfffull) | 0x800);
        if (!mem_type_valid(val & 0xff))
            return -1;
        return masked(&c->mtrr_var[msr - MSR_MTRR_VAR], val, (phys_mask(vp) & ~0xfffull) | 0xff);
    }
    slot = mtrr_fixed_slot(msr);
    if (slot >= 0) {
        if (!types_valid(val, false))
            return -1;
        c->mtrr_fixed[slot] = val;
        return 0;
    }
    return unknown(vp, msr, "write", val);
}
