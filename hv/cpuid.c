/* SPDX-License-Identifier: BSD-2-Clause */
/* CPUID: the one virtual processor that every guest sees (Intel SDM volume 2A, CPUID; leaf numbers are its).
 *
 * A feature is shown when the engines implement it and, where they execute the instruction itself on the
 * host, the host has it too.  The rest is the same on every host. */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hv/infra.h"

/* ---- features ---- */

enum host_reg { HOST_NONE, H1_C, H7_B, H7_C, HX_C };

/* Instruction-set features.  host/bit: where the host's CPUID says that it has what we execute there. */
static const struct feature {
    const char *name;
    bool shown;        /* implemented by the engines */
    uint8_t host, bit; /* HOST_NONE: implemented in C, no need of the host */
    bool avx;          /* also needs the host's operating system to keep YMM state */
} features[X86_FEAT_COUNT] = {
    [X86_FEAT_NONE] = { "", true, HOST_NONE, 0, false },
    [X86_FEAT_FPU] = { "fpu", true, HOST_NONE, 0, false },
    [X86_FEAT_CMOV] = { "cmov", true, HOST_NONE, 0, false },
    [X86_FEAT_CX8] = { "cx8", true, HOST_NONE, 0, false },
    [X86_FEAT_CX16] = { "cx16", true, H1_C, 13, false },
    [X86_FEAT_MMX] = { "mmx", true, HOST_NONE, 0, false },
    [X86_FEAT_FXSR] = { "fxsr", true, HOST_NONE, 0, false },
    [X86_FEAT_SSE] = { "sse", true, HOST_NONE, 0, false },
    [X86_FEAT_SSE2] = { "sse2", true, HOST_NONE, 0, false },
    [X86_FEAT_SSE3] = { "sse3", true, H1_C, 0, false },
    [X86_FEAT_SSSE3] = { "ssse3", true, H1_C, 9, false },
    [X86_FEAT_SSE41] = { "sse4.1", true, H1_C, 19, false },
    [X86_FEAT_SSE42] = { "sse4.2", true, H1_C, 20, false },
    [X86_FEAT_AES] = { "aes", true, H1_C, 25, false },
    [X86_FEAT_PCLMUL] = { "pclmulqdq", true, H1_C, 1, false },
    [X86_FEAT_SHA] = { "sha", true, HOST_NONE, 0, false },
    [X86_FEAT_POPCNT] = { "popcnt", true, H1_C, 23, false },
    [X86_FEAT_LZCNT] = { "lzcnt", true, HX_C, 5, false },
    [X86_FEAT_BMI1] = { "bmi1", true, H7_B, 3, false },
    [X86_FEAT_BMI2] = { "bmi2", true, H7_B, 8, false },
    [X86_FEAT_ADX] = { "adx", true, H7_B, 19, false },
    [X86_FEAT_MOVBE] = { "movbe", true, HOST_NONE, 0, false },
    [X86_FEAT_RDRAND] = { "rdrand", true, HOST_NONE, 0, false },
    [X86_FEAT_RDSEED] = { "rdseed", true, HOST_NONE, 0, false },
    [X86_FEAT_AVX] = { "avx", true, H1_C, 28, true },
    [X86_FEAT_AVX2] = { "avx2", true, H7_B, 5, true },
    [X86_FEAT_FMA] = { "fma", true, H1_C, 12, true },
    [X86_FEAT_F16C] = { "f16c", true, H1_C, 29, true },
    [X86_FEAT_XSAVE] = { "xsave", true, HOST_NONE, 0, false },
    [X86_FEAT_XSAVEOPT] = { "xsaveopt", true, HOST_NONE, 0, false },
    [X86_FEAT_XSAVEC] = { "xsavec", true, HOST_NONE, 0, false },
    [X86_FEAT_FSGSBASE] = { "fsgsbase", true, HOST_NONE, 0, false },
    [X86_FEAT_RDTSCP] = { "rdtscp", true, HOST_NONE, 0, false },
    [X86_FEAT_RDPID] = { "rdpid", true, HOST_NONE, 0, false },
    [X86_FEAT_INVPCID] = { "invpcid", true, HOST_NONE, 0, false },
    [X86_FEAT_CLFLUSHOPT] = { "clflushopt", true, HOST_NONE, 0, false },
    [X86_FEAT_CLWB] = { "clwb", true, HOST_NONE, 0, false },
    [X86_FEAT_SMAP] = { "smap", true, HOST_NONE, 0, false },
    [X86_FEAT_MONITOR] = { "monitor", false, HOST_NONE, 0, false },
    [X86_FEAT_SYSCALL] = { "syscall", true, HOST_NONE, 0, false },
    [X86_FEAT_PREFETCHW] = { "prefetchw", true, HOST_NONE, 0, false },
    [X86_FEAT_LAHF64] = { "lahf_lm", true, HOST_NONE, 0, false },
    [X86_FEAT_UMIP] = { "umip", true, HOST_NONE, 0, false },
    [X86_FEAT_VAES] = { "vaes", false, H7_C, 9, true },
    [X86_FEAT_VPCLMUL] = { "vpclmulqdq", false, H7_C, 10, true },
    [X86_FEAT_GFNI] = { "gfni", false, H7_C, 8, false },
};

static bool have[X86_FEAT_COUNT];
static char lacking[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void probe_host(void)
{
    uint32_t r[HX_C + 1] = { 0 }, a, b, c, d, xcr0 = 0, hi;
    bool ymm;

    if (__get_cpuid(1, &a, &b, &c, &d))
        r[H1_C] = c;
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d))
        r[HX_C] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        r[H7_B] = b;
        r[H7_C] = c;
    }
    if (r[H1_C] & bit_OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(hi) : "c"(0));
    ymm = (xcr0 & 6) == 6;
    for (unsigned i = 0; i < X86_FEAT_COUNT; i++) {
        const struct feature *f = &features[i];
        bool host = f->host == HOST_NONE || ((r[f->host] & (1u << f->bit)) && (!f->avx || ymm));

        have[i] = f->shown && host;
        if (f->shown && !host) {
            size_t n = strlen(lacking);

            snprintf(lacking + n, sizeof(lacking) - n, " %s", f->name);
        }
    }
    if (!have[X86_FEAT_AVX]) /* what extends AVX goes with it */
        have[X86_FEAT_AVX2] = have[X86_FEAT_FMA] = have[X86_FEAT_F16C] = false;
}

bool hv_feature(const struct hv_partition *p, unsigned feature)
{
    (void)p;
    pthread_once(&once, probe_host);
    return feature < X86_FEAT_COUNT && have[feature];
}

void hv_features_log(struct hv_partition *p)
{
    pthread_once(&once, probe_host);
    if (lacking[0])
        hv_log(p, 3, "the host's processor lacks, and so do guests:%s", lacking);
    else
        hv_log(p, 3, "the host's processor has all that guests are offered");
}

uint64_t hv_xcr0_mask(const struct hv_partition *p)
{
    return hv_feature(p, X86_FEAT_AVX) ? 7 : 3;
}

uint64_t hv_cr4_mask(const struct hv_partition *p)
{
    (void)p;
    return CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
           CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
           CR4_SMEP | CR4_SMAP;
}

unsigned hv_maxphyaddr(const struct hv_partition *p)
{
    (void)p;
    return HV_MAXPHYADDR;
}

/* ---- leaves ---- */

enum { MAX_BASIC = 0x1f, BASE_MHZ = 2500, BUS_MHZ = 100 };
#define MAX_EXTENDED 0x80000008u

struct cpuid_bit {
    uint8_t bit, feature;
};

static uint32_t bits_of(const struct hv_partition *p, const struct cpuid_bit *tab, size_t n,
                        uint32_t always)
{
    for (size_t i = 0; i < n; i++)
        if (hv_feature(p, tab[i].feature))
            always |= 1u << tab[i].bit;
    return always;
}

static const struct cpuid_bit leaf1_ecx[] = {
    { 0, X86_FEAT_SSE3 },    { 1, X86_FEAT_PCLMUL }, { 3, X86_FEAT_MONITOR },
    { 9, X86_FEAT_SSSE3 },   { 12, X86_FEAT_FMA },   { 13, X86_FEAT_CX16 },
    { 19, X86_FEAT_SSE41 },  { 20, X86_FEAT_SSE42 }, { 22, X86_FEAT_MOVBE },
    { 23, X86_FEAT_POPCNT }, { 25, X86_FEAT_AES },   { 26, X86_FEAT_XSAVE },
    { 28, X86_FEAT_AVX },    { 29, X86_FEAT_F16C },  { 30, X86_FEAT_RDRAND },
};
static const struct cpuid_bit leaf7_ebx[] = {
    { 0, X86_FEAT_FSGSBASE }, { 3, X86_FEAT_BMI1 },     { 5, X86_FEAT_AVX2 },
    { 8, X86_FEAT_BMI2 },     { 10, X86_FEAT_INVPCID }, { 18, X86_FEAT_RDSEED },
    { 19, X86_FEAT_ADX },     { 20, X86_FEAT_SMAP },    { 23, X86_FEAT_CLFLUSHOPT },
    { 24, X86_FEAT_CLWB },    { 29, X86_FEAT_SHA },
};
static const struct cpuid_bit leaf7_ecx[] = {
    { 2, X86_FEAT_UMIP },     { 8, X86_FEAT_GFNI },   { 9, X86_FEAT_VAES },
    { 10, X86_FEAT_VPCLMUL }, { 22, X86_FEAT_RDPID },
};

enum {
    /* Leaf 1 ECX: PCID, x2APIC, TSC deadline.  EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA
     * CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2 SS; APIC (9) and HTT (28) are added. */
    LEAF1_ECX = 1 << 17 | 1 << 21 | 1 << 24,
    LEAF1_EDX = 0x0f8bfbff & ~(1 << 9),
    /* Leaf 7 EBX: TSC_ADJUST, FDP only on exceptions, SMEP, ERMS, no FCS and FDS. */
    LEAF7_EBX = 1 << 1 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 13,
};
/* Leaf 7 EDX: FSRM, IBRS and IBPB, STIBP, ARCH_CAPABILITIES, SSBD. */
#define LEAF7_EDX (1u << 4 | 1u << 26 | 1u << 27 | 1u << 29 | 1u << 31)

static unsigned log2_ceil(unsigned n)
{
    unsigned k = 0;

    while ((1u << k) < n)
        k++;
    return k;
}

/* Leaf 4: deterministic cache parameters.  Sharing is given by the number of APIC ids. */
static void leaf_cache(const struct hv_partition *p, uint32_t sub, uint32_t r[4])
{
    static const struct {
        uint8_t type, level, ways;
        uint16_t sets;
        bool shared;
    } caches[] = {
        { 1, 1, 12, 64, false },   /* 48 KB data */
        { 2, 1, 8, 64, false },    /* 32 KB code */
        { 3, 2, 16, 2048, false }, /* 2 MB */
        { 3, 3, 16, 32768, true }, /* 32 MB */
    };
    unsigned ids = 1u << log2_ceil(p->nvps);

    if (sub >= COUNT(caches))
        return;
    r[0] = caches[sub].type | (uint32_t)caches[sub].level << 5 | 1u << 8 |
           (caches[sub].shared ? (ids - 1) << 14 : 0) | (ids - 1) << 26;
    r[1] = 63 | (uint32_t)(caches[sub].ways - 1) << 22;
    r[2] = caches[sub].sets - 1u;
    r[3] = caches[sub].shared ? 1u << 2 : 0; /* complex indexing */
}

/* Leaves 0x0b and 0x1f: one thread a core, all cores in one package. */
static void leaf_topology(const struct hv_vp *vp, uint32_t sub, uint32_t r[4])
{
    r[2] = sub & 0xff;
    r[3] = vp->index;
    if (sub == 0) {
        r[0] = 0;
        r[1] = 1;
        r[2] |= 1u << 8;
    } else if (sub == 1) {
        r[0] = log2_ceil(vp->p->nvps);
        r[1] = vp->p->nvps;
        r[2] |= 2u << 8;
    }
}

/* Leaf 0x0d: extended state; standard-format offsets and sizes (SDM 1 13.4). */
static void leaf_xsave(const struct hv_vp *vp, uint32_t sub, uint32_t r[4])
{
    uint64_t mask = hv_xcr0_mask(vp->p);

    if (!hv_feature(vp->p, X86_FEAT_XSAVE))
        return;
    switch (sub) {
    case 0:
        r[0] = (uint32_t)mask;
        r[1] = vp->cpu.xcr0 & 4 ? 832 : 576;
        r[2] = mask & 4 ? 832 : 576;
        break;
    case 1:
        r[0] = 1u << 2 | (hv_feature(vp->p, X86_FEAT_XSAVEOPT) ? 1u : 0) |
               (hv_feature(vp->p, X86_FEAT_XSAVEC) ? 2u : 0);
        r[1] = vp->cpu.xcr0 & 4 ? 832 : 576;
        break;
    case 2:
        if (mask & 4) {
            r[0] = 256;
            r[1] = 576;
        }
        break;
    }
}

static void leaf_brand(uint32_t n, uint32_t r[4])
{
    static const char brand[48] = "mobo Virtual CPU @ 2.50GHz";

    memcpy(r, brand + n * 16, 16);
}

static void query_extended(const struct hv_vp *vp, uint32_t leaf, uint32_t r[4])
{
    const struct hv_partition *p = vp->p;

    switch (leaf) {
    case 0x80000000u: r[0] = MAX_EXTENDED; break;
    case 0x80000001u:
        r[2] = (hv_feature(p, X86_FEAT_LAHF64) ? 1u : 0) |
               (hv_feature(p, X86_FEAT_LZCNT) ? 1u << 5 : 0) |
               (hv_feature(p, X86_FEAT_PREFETCHW) ? 1u << 8 : 0);
        r[3] =
            1u << 11 | 1u << 26 | 1u << 27 | 1u << 29; /* SYSCALL, 1 GB pages, RDTSCP, long mode */
        if (!(vp->cpu.misc_enable & 1ull << 34))
            r[3] |= 1u << 20; /* NX */
        break;
    case 0x80000002u:
    case 0x80000003u:
    case 0x80000004u: leaf_brand(leaf - 0x80000002u, r); break;
    case 0x80000006u:
        r[2] = 2048u << 16 | 8u << 12 | 64; /* level 2: 2 MB, 16 ways, lines of 64 bytes */
        break;
    case 0x80000007u:
        r[3] = 1u << 8; /* invariant TSC; with its enlightenment only once the guest asks for it */
        if (vp->p->hyperv && (vp->p->hyperv->shown & HV_ENL_TSC_INVARIANT) &&
            !atomic_load(&vp->p->hyperv->tsc_invariant))
            r[3] = 0;
        break;
    case 0x80000008u: r[0] = 48u << 8 | HV_MAXPHYADDR; break;
    }
}

static void query(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    const struct hv_partition *p = vp->p;

    memset(r, 0, 4 * sizeof(r[0]));
    if (leaf >= 0x40000000u && leaf <= 0x4fffffffu) {
        if (p->hyperv)
            hv_hyperv_cpuid(vp, leaf, r);
        return;
    }
    if (leaf >= 0x80000000u && leaf <= MAX_EXTENDED) {
        query_extended(vp, leaf, r);
        return;
    }
    if (leaf > MAX_BASIC) /* as Intel's do: the answer of the highest basic leaf */
        leaf = MAX_BASIC;

    switch (leaf) {
    case 0:
        r[0] = vp->cpu.misc_enable & 1ull << 22 ? 2 : MAX_BASIC;
        memcpy(&r[1], "Genu", 4);
        memcpy(&r[3], "ineI", 4);
        memcpy(&r[2], "ntel", 4);
        break;
    case 1:
        r[0] = HV_CPU_SIGNATURE;
        r[1] =
            vp->index << 24 | (1u << log2_ceil(p->nvps)) << 16 | 8u << 8; /* CLFLUSH: 8 * 8 bytes */
        r[2] = bits_of(p, leaf1_ecx, COUNT(leaf1_ecx), LEAF1_ECX);
        if (vp->cpu.cr4 & CR4_OSXSAVE)
            r[2] |= 1u << 27;
        if (p->hyperv)
            r[2] |= 1u << 31; /* a hypervisor is there */
        r[3] = LEAF1_EDX;
        if (atomic_load_explicit(&vp->lapic.base, memory_order_relaxed) & APIC_BASE_EN)
            r[3] |= 1u << 9;
        if (p->nvps > 1)
            r[3] |= 1u << 28;
        break;
    case 2:
        r[0] = 0x00feff01; /* caches in leaf 4, TLBs in leaf 0x18 */
        r[3] = 0xf0;       /* 64-byte prefetching */
        break;
    case 4: leaf_cache(p, sub, r); break;
    case 6:
        /* ARAT: the APIC timer never stops.  Hyper-V does not say so, and Linux relies on that: with the bit it
         * makes the APIC timer its broadcast device, and has none left when hv_vmbus gives its timers back. */
        r[0] = p->enlightened ? 0 : 1u << 2;
        break;
    case 7:
        if (sub == 0) {
            r[0] = 2; /* highest subleaf */
            r[1] = bits_of(p, leaf7_ebx, COUNT(leaf7_ebx), LEAF7_EBX);
            r[2] = bits_of(p, leaf7_ecx, COUNT(leaf7_ecx), 0);
            r[3] = LEAF7_EDX;
        } else if (sub == 2) {
            r[3] =
                1u
                << 4; /* BHI_CTRL: one MSR bit, where guests would else clear branch history by loops */
        }
        break;
    case 0x0b:
    case 0x1f: leaf_topology(vp, sub, r); break;
    case 0x0d: leaf_xsave(vp, sub, r); break;
    case 0x15: /* TSC = crystal * 5 / 2; the crystal also drives the APIC timer */
        r[0] = HV_TSC_DEN;
        r[1] = HV_TSC_NUM;
        r[2] = APIC_TIMER_HZ;
        break;
    case 0x16:
        r[0] = BASE_MHZ;
        r[1] = BASE_MHZ;
        r[2] = BUS_MHZ;
        break;
    }
}

/* ---- what a saved guest has seen ---- */

/* Words of struct hv_cpu_features; bits in @mutable change while a guest runs and are no features. */
static const struct feature_word {
    uint32_t leaf;
    uint8_t sub, reg;
    uint32_t mutable;
    const char *where;
    const struct cpuid_bit *tab;
    size_t n;
} words[] = {
    { 1, 0, 2, 1u << 27 | 1u << 31, "1.ecx", leaf1_ecx, COUNT(leaf1_ecx) },
    { 1, 0, 3, 1u << 9 | 1u << 10, "1.edx", NULL, 0 }, /* bit 10 is reserved; it was once shown */
    { 7, 0, 1, 0, "7.ebx", leaf7_ebx, COUNT(leaf7_ebx) },
    { 7, 0, 2, 1u << 4, "7.ecx", leaf7_ecx, COUNT(leaf7_ecx) }, /* OSPKE */
    { 7, 0, 3, 0, "7.edx", NULL, 0 },
    { 7, 1, 0, 0, "7.1.eax", NULL, 0 },
    { 7, 2, 3, 0, "7.2.edx", NULL, 0 },
    { 0x0d, 0, 0, 0, "0xd.eax", NULL, 0 },
    { 0x0d, 1, 0, 0, "0xd.1.eax", NULL, 0 },
    { 0x80000001u, 0, 2, 0, "0x80000001.ecx", NULL, 0 },
    { 0x80000001u, 0, 3, 1u << 20, "0x80000001.edx", NULL, 0 },
};
_Static_assert(COUNT(words) <= HV_FEATURE_WORDS, "words");

void hv_cpuid_query(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    const struct hv_partition *p = vp->p;

    query(vp, leaf, sub, r);
    for (unsigned i = 0; p->limited && i < COUNT(words); i++)
        if (words[i].leaf == leaf && words[i].sub == sub)
            r[words[i].reg] &= p->limit[i] | words[i].mutable;
}

/* Names of bits that are no instructions, or are not in a table above. */
static const struct { uint8_t word, bit; const char *name; } other_bits[] = {
    { 0, 17, "pcid" },     { 0, 21, "x2apic" },   { 0, 24, "tsc_deadline" }, { 1, 15, "cmov" },
    { 1, 1, "vme" },       { 2, 6, "fdp_excptn_only" }, { 2, 13, "zero_fcs_fds" },
    { 1, 16, "pat" },      { 1, 23, "mmx" },      { 1, 24, "fxsr" },         { 1, 25, "sse" },
    { 1, 26, "sse2" },     { 2, 1, "tsc_adjust" }, { 2, 7, "smep" },         { 2, 9, "erms" },
    { 4, 4, "fsrm" },      { 4, 26, "ibrs" },     { 4, 27, "stibp" },        { 4, 29, "arch_capabilities" },
    { 4, 31, "ssbd" },     { 6, 4, "bhi_ctrl" },  { 7, 1, "sse state" },     { 7, 2, "avx state" },
    { 7, 0, "x87 state" },
    { 8, 0, "xsaveopt" },  { 8, 1, "xsavec" },     { 8, 2, "xgetbv1" },    { 9, 0, "lahf_lm" },       { 9, 5, "lzcnt" },
    { 9, 8, "prefetchw" }, { 10, 11, "syscall" }, { 10, 26, "1 GB pages" },  { 10, 27, "rdtscp" },
    { 10, 29, "long mode" },
};

void hv_features_get(struct hv_partition *p, struct hv_cpu_features *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->version = HV_STATE_VERSION;
    ret->size = sizeof(*ret);
    for (unsigned i = 0; i < COUNT(words); i++) {
        uint32_t r[4];

        hv_cpuid(p, 0, words[i].leaf, words[i].sub, r);
        ret->word[i] = r[words[i].reg] & ~words[i].mutable;
    }
}

static void bit_name(unsigned word, unsigned bit, char *buf, size_t len)
{
    for (size_t i = 0; i < words[word].n; i++)
        if (words[word].tab[i].bit == bit) {
            snprintf(buf, len, " %s", features[words[word].tab[i].feature].name);
            return;
        }
    for (unsigned i = 0; i < COUNT(other_bits); i++)
        if (other_bits[i].word == word && other_bits[i].bit == bit) {
            snprintf(buf, len, " %s", other_bits[i].name);
            return;
        }
    snprintf(buf, len, " cpuid:%s[%u]", words[word].where, bit);
}

int hv_features_missing(struct hv_partition *p, const struct hv_cpu_features *saved, char *names, size_t len)
{
    struct hv_cpu_features here;
    int n = 0;

    names[0] = 0;
    hv_features_get(p, &here);
    for (unsigned i = 0; i < HV_FEATURE_WORDS; i++) {
        uint32_t missing = saved->word[i] & ~here.word[i] & ~(i < COUNT(words) ? words[i].mutable : 0);

        if (missing && i >= COUNT(words))
            return hv_fail(-EINVAL, "list of processor features: word %u is not known here", i);
        for (; missing; missing &= missing - 1, n++) {
            size_t at = strlen(names);

            bit_name(i, (unsigned)__builtin_ctz(missing), names + at, len - at);
        }
    }
    return n;
}

int hv_features_check(struct hv_partition *p, const struct hv_cpu_features *saved)
{
    char names[256];
    int n;

    if (saved->version != HV_STATE_VERSION || saved->size != sizeof(*saved))
        return hv_fail(-EINVAL, "list of processor features: version %u, size %u; this is version %d, size %zu",
                       saved->version, saved->size, HV_STATE_VERSION, sizeof(*saved));
    n = hv_features_missing(p, saved, names, sizeof(names));
    if (n > 0)
        return hv_fail(-ENOTSUP, "the guest uses processor features that engine %s cannot offer on this host:%s",
                       p->engine->name, names);
    return n;
}

int hv_features_limit(struct hv_partition *p, const struct hv_cpu_features *saved)
{
    int err = hv_features_check(p, saved);

    if (err)
        return err;
    memcpy(p->limit, saved->word, sizeof(p->limit));
    p->limited = true;
    for (unsigned i = 0; !err && i < p->nvps && p->engine->cpuid_changed; i++)
        err = p->engine->cpuid_changed(p->vps[i]);
    return err;
}
