/* SPDX-License-Identifier: BSD-2-Clause */
/* CPUID under KVM: the virtual processor of every engine, less what this KVM cannot do (API 4.46, 4.118). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm.h"

static struct kvm_cpuid2 *table(void)
{
    struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + KVM_CPUID_MAX * sizeof(t->entries[0]));

    if (t)
        t->nent = KVM_CPUID_MAX;
    return t;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *t, uint32_t leaf, uint32_t sub)
{
    static const struct kvm_cpuid_entry2 none;

    for (unsigned i = 0; t && i < t->nent; i++)
        if (t->entries[i].function == leaf &&
            (!(t->entries[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || t->entries[i].index == sub))
            return &t->entries[i];
    return &none;
}

/* The processor serves the local APIC by itself, EOIs through the x2APIC's MSR included. */
static bool apic_in_hardware(void)
{
    static const char *const files[] = { "/sys/module/kvm_intel/parameters/enable_apicv",
                                         "/sys/module/kvm_amd/parameters/avic" };

    for (unsigned i = 0; i < COUNT(files); i++) {
        FILE *f = fopen(files[i], "re");
        int c = f ? fgetc(f) : EOF;

        if (f)
            fclose(f);
        if (c == 'Y' || c == '1')
            return true;
    }
    return false;
}

int kvm_cpuid_load(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    int err;

    kp->supported = table();
    if (!kp->supported)
        return hv_fail(-ENOMEM, "KVM: out of memory");
    err = kvm_ioctl(kp->fd, KVM_GET_SUPPORTED_CPUID, kp->supported);
    if (err < 0)
        return hv_fail(err, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-err));
    kp->phys_bits = find(kp->supported, 0x80000008u, 0)->eax & 0xff;
    kp->apic_in_hardware = apic_in_hardware();
    if (kp->phys_bits < 36 || kp->phys_bits > HV_MAXPHYADDR)
        kp->phys_bits = HV_MAXPHYADDR;
    return 0;
}

/* The TSC's rate as a fraction of the crystal's 1 GHz.  Linux multiplies numerator and crystal in 32 bits of kHz:
 * the numerator stays below 4294. */
static void tsc_ratio(uint64_t khz, uint32_t *den, uint32_t *num)
{
    uint64_t best = UINT64_MAX;

    for (uint32_t d = 1; d < 4294; d++) {
        uint64_t n = (khz * d + 500000) / 1000000, err;

        if (n > 4294)
            break;
        err = (n * 1000000 > khz * d ? n * 1000000 - khz * d : khz * d - n * 1000000) * 1000000 / d;
        if (n && err < best) {
            best = err;
            *den = d;
            *num = (uint32_t)n;
        }
    }
}

void kvm_cpuid_filter(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    const struct kvm_part *kp = kvm_part(vp->p);
    const struct kvm_cpuid_entry2 *e;

    if (leaf >= 0x40000000u && leaf <= 0x4fffffffu) {
        e = find(kp->hv_supported, leaf, 0);
        switch (leaf) {
        case 0x40000003u: /* KVM has no idle MSR (bit 10, and its sign in EDX) */
            r[0] &= e->eax;
            r[1] &= e->ebx;
            r[3] &= e->edx;
            break;
        case 0x40000004u:
            r[0] &= e->eax | 1u << 9; /* not to use auto-EOI is advice that is always true */
            /* The synthetic MSR of the EOI is an exit, and KVM offers no other way then. */
            if (kp->apic_in_hardware)
                r[0] &= ~(1u << 3);
            break;
        }
        return;
    }
    e = find(kp->supported, leaf, sub);
    switch (leaf) {
    case 1:
        r[2] &= e->ecx | 1u << 27 /* OSXSAVE follows CR4 */ | 1u << 31 | (kp->deadline ? 1u << 24 : 0);
        r[3] &= e->edx | 1u << 28 /* threads: topology is ours to say */ | 1u << 27 /* self-snoop */;
        break;
    case 7:
        if (sub == 0 && r[0] > e->eax)
            r[0] = e->eax;
        r[1] &= e->ebx;
        r[2] &= e->ecx;
        r[3] &= e->edx;
        break;
    case 0x0d:
        if (!(find(kp->supported, 1, 0)->ecx & 1u << 26)) { /* no XSAVE */
            memset(r, 0, 4 * sizeof(r[0]));
            break;
        }
        if (sub < 2)
            r[0] &= e->eax;
        if (!(find(kp->supported, leaf, 0)->eax & 4)) {
            if (sub == 0)
                r[1] = r[2] = 576;
            else if (sub == 2)
                memset(r, 0, 4 * sizeof(r[0]));
        }
        break;
    case 0x15:
        if (kp->tsc_khz != HV_TSC_HZ / 1000)
            tsc_ratio(kp->tsc_khz, &r[0], &r[1]);
        break;
    case 0x16:
        r[0] = r[1] = (uint32_t)(kp->tsc_khz / 1000);
        break;
    case 0x80000001u:
        r[2] &= e->ecx;
        r[3] &= e->edx;
        break;
    case 0x80000007u: r[3] &= e->edx; break;
    case 0x80000008u:
        if ((r[0] & 0xff) > kp->phys_bits)
            r[0] = (r[0] & ~0xffu) | kp->phys_bits;
        break;
    }
}

/* Can the guest ask for the invariant TSC by MSR 0x40000118? */
static bool tsc_control(const struct hv_vp *vp)
{
    uint32_t r[4];

    hv_cpuid_query(vp, 0x40000003u, 0, r);
    kvm_cpuid_filter(vp, 0x40000003u, 0, r);
    return r[0] & 1u << 15;
}

static void put(struct hv_vp *vp, struct kvm_cpuid2 *t, uint32_t leaf, uint32_t sub, bool indexed)
{
    uint32_t r[4];

    if (t->nent >= KVM_CPUID_MAX)
        return;
    hv_cpuid_query(vp, leaf, sub, r);
    if (leaf == 0x80000007u && tsc_control(vp))
        r[3] = 1u << 8; /* KVM hides it until the guest has asked */
    kvm_cpuid_filter(vp, leaf, sub, r);
    t->entries[t->nent++] = (struct kvm_cpuid_entry2){
        .function = leaf, .index = sub, .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = r[0], .ebx = r[1], .ecx = r[2], .edx = r[3] };
}

int kvm_cpuid_set(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    struct kvm_cpuid2 *t;
    uint32_t r[4];
    int err;

    if (kv->cpuid_set) /* it may not change once the processor has run */
        return 0;
    t = table();
    if (!t)
        return hv_fail(-ENOMEM, "KVM: out of memory");
    t->nent = 0;
    hv_cpuid_query(vp, 0, 0, r);
    for (uint32_t leaf = 0, last = r[0]; leaf <= last; leaf++) {
        unsigned subs = leaf == 4 ? 5 : leaf == 7 || leaf == 0x0b || leaf == 0x0d || leaf == 0x1f ? 3 : 1;

        for (uint32_t sub = 0; sub < subs; sub++)
            put(vp, t, leaf, sub, subs > 1);
    }
    if (vp->p->hyperv)
        for (uint32_t leaf = 0x40000000u; leaf <= 0x4000000au; leaf++)
            put(vp, t, leaf, 0, false);
    hv_cpuid_query(vp, 0x80000000u, 0, r);
    for (uint32_t leaf = 0x80000000u, last = r[0]; leaf <= last; leaf++)
        put(vp, t, leaf, 0, false);
    err = kvm_ioctl(kv->fd, KVM_SET_CPUID2, t);
    free(t);
    kv->cpuid_set = err >= 0;
    return err < 0 ? hv_fail(err, "KVM_SET_CPUID2: %s", strerror(-err)) : 0;
}

int kvm_cpuid_changed(struct hv_vp *vp)
{
    kvm_vcpu(vp)->cpuid_set = false;
    return kvm_cpuid_set(vp);
}
