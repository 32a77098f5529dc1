/* SPDX-License-Identifier: BSD-2-Clause */
/* What KVM itself counts (API 4.133, KVM_GET_STATS_FD), and what a guest sees differently under it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"

enum { STATS_MAX = 512, NAME_MAX_LEN = 256 };

void kvm_counters(struct hv_vp *vp, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx)
{
    struct kvm_stats_header h;
    int fd = kvm_vcpu(vp)->stats;

    if (fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h) && h.num_desc <= STATS_MAX && h.name_size <= NAME_MAX_LEN)
        for (uint32_t i = 0; i < h.num_desc; i++) {
            union { struct kvm_stats_desc d; char room[sizeof(struct kvm_stats_desc) + NAME_MAX_LEN]; } u;
            size_t len = sizeof(u.d) + h.name_size;
            uint64_t val;

            if (pread(fd, &u, len, (off_t)h.desc_offset + (off_t)(i * len)) != (ssize_t)len)
                break;
            u.room[len - 1] = 0;
            if (u.d.size == 1 && (u.d.flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_CUMULATIVE &&
                (u.d.flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_NONE &&
                pread(fd, &val, 8, (off_t)h.data_offset + (off_t)u.d.offset) == 8)
                fn(ctx, u.room + sizeof(u.d), val);
        }
}

/* ---- differences ------------------------------------------------------------------------------------------------ */

struct out { void (*line)(void *ctx, const char *text); void *ctx; };

static void say(const struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct out *o, const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    o->line(o->ctx, text);
}

void kvm_differences(void (*line)(void *ctx, const char *text), void *ctx)
{
    const struct out o = { line, ctx };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "kvm", .vps = 2, .enlightened = true };
    struct hv_partition *k = NULL, *ref = NULL;
    struct hv_cpu_features want;
    char names[400];
    uint32_t a[4], b[4];
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0 && kvm_missing(fd, false, names, sizeof(names)))
        say(&o, "this KVM has no %s", names);
    if (fd >= 0)
        close(fd);
    if (hv_partition_create(&cfg, &k)) {
        say(&o, "no enlightened machine: %s", hv_last_error());
        cfg.enlightened = false;
        if (hv_partition_create(&cfg, &k))
            return;
    }
    cfg.engine = "interp";
    if (!hv_partition_create(&cfg, &ref)) {
        hv_features_get(ref, &want);
        if (hv_features_missing(k, &want, names, sizeof(names)) > 0)
            say(&o, "processor features that are not offered:%s", names);
        if (hv_tsc_hz(k) != hv_tsc_hz(ref))
            say(&o, "the TSC runs at the host's %llu kHz, not at %llu: this processor cannot scale it",
                (unsigned long long)hv_tsc_hz(k) / 1000, (unsigned long long)hv_tsc_hz(ref) / 1000);
        if (cfg.enlightened) {
            hv_cpuid(ref, 0, 0x40000003u, 0, a);
            hv_cpuid(k, 0, 0x40000003u, 0, b);
            if (a[0] & ~b[0] & 1u << 10)
                say(&o, "no guest idle MSR: a guest halts by HLT");
            if (a[0] & ~b[0] & ~(1u << 10) || a[1] & ~b[1] || a[3] & ~b[3] & ~(1u << 5))
                say(&o, "Hyper-V features that are not offered: 0x%x, 0x%x, 0x%x of leaf 0x40000003",
                    a[0] & ~b[0] & ~(1u << 10), a[1] & ~b[1], a[3] & ~b[3] & ~(1u << 5));
            hv_cpuid(ref, 0, 0x40000004u, 0, a);
            hv_cpuid(k, 0, 0x40000004u, 0, b);
            if (a[0] & ~b[0] & 1u << 3)
                say(&o, "the local APIC's synthetic MSRs are not recommended: this processor has a faster way");
            if (a[0] & ~b[0] & ~(1u << 3))
                say(&o, "Hyper-V advice that is not given: 0x%x of leaf 0x40000004", a[0] & ~b[0] & ~(1u << 3));
        }
    }
    if (cfg.enlightened) {
        say(&o, "hypercalls that KVM does not pass on answer that they do not exist: retarget interrupt, "
                "processor index of an APIC id");
        say(&o, "the runtime MSR counts the CPU time of the whole program");
        say(&o, "signals of a VMBus channel after the first do not stop the guest, and arrive a moment later");
    }
    say(&o, "timers that end while the machine is paused have ended when it goes on; A20 is always open");
    hv_partition_destroy(ref);
    hv_partition_destroy(k);
}
