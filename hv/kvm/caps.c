/* SPDX-License-Identifier: BSD-2-Clause */
/* What a KVM must have and what it may have (API 4.4, 7, 8). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm.h"

static const struct cap { unsigned cap; bool needed; const char *name; } caps[] = {
    { KVM_CAP_USER_MEMORY, true, "USER_MEMORY" },
    { KVM_CAP_SET_TSS_ADDR, true, "SET_TSS_ADDR" },
    { KVM_CAP_IRQCHIP, true, "IRQCHIP" },
    { KVM_CAP_SPLIT_IRQCHIP, true, "SPLIT_IRQCHIP" },
    { KVM_CAP_IRQ_ROUTING, true, "IRQ_ROUTING" },
    { KVM_CAP_SIGNAL_MSI, true, "SIGNAL_MSI" },
    { KVM_CAP_EXT_CPUID, true, "EXT_CPUID" },
    { KVM_CAP_MP_STATE, true, "MP_STATE" },
    { KVM_CAP_VCPU_EVENTS, true, "VCPU_EVENTS" },
    { KVM_CAP_DEBUGREGS, true, "DEBUGREGS" },
    { KVM_CAP_READONLY_MEM, true, "READONLY_MEM" },
    { KVM_CAP_IMMEDIATE_EXIT, true, "IMMEDIATE_EXIT" },
    { KVM_CAP_ADJUST_CLOCK, true, "ADJUST_CLOCK" },
    { KVM_CAP_GET_TSC_KHZ, true, "GET_TSC_KHZ" },
    { KVM_CAP_X86_USER_SPACE_MSR, true, "X86_USER_SPACE_MSR" },
    { KVM_CAP_X86_MSR_FILTER, true, "X86_MSR_FILTER" },
    { KVM_CAP_HYPERV_SYNIC2, false, "HYPERV_SYNIC2" },
    { KVM_CAP_HYPERV_EVENTFD, false, "HYPERV_EVENTFD" },
    { KVM_CAP_HYPERV_ENFORCE_CPUID, false, "HYPERV_ENFORCE_CPUID" },
    { KVM_CAP_COALESCED_PIO, false, "COALESCED_PIO" },
    { KVM_CAP_DIRTY_LOG_RING, false, "DIRTY_LOG_RING" },
    { KVM_CAP_SYNC_REGS, false, "SYNC_REGS" },
    { KVM_CAP_TSC_CONTROL, false, "TSC_CONTROL" },
    { KVM_CAP_TSC_DEADLINE_TIMER, false, "TSC_DEADLINE_TIMER" },
    { KVM_CAP_XCRS, false, "XCRS" },
    { KVM_CAP_BINARY_STATS_FD, false, "BINARY_STATS_FD" },
};

static bool hidden(const char *name)
{
    const char *list = getenv("MOBO_KVM_WITHOUT"), *at = list;
    size_t len = strlen(name);

    while (at && (at = strstr(at, name))) {
        if ((at == list || at[-1] == ' ' || at[-1] == ',') && (!at[len] || at[len] == ' ' || at[len] == ','))
            return true;
        at += len;
    }
    return false;
}

int kvm_cap(int fd, unsigned cap)
{
    int r = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);

    for (unsigned i = 0; i < COUNT(caps); i++)
        if (caps[i].cap == cap && hidden(caps[i].name))
            return 0;
    return r > 0 ? r : 0;
}

int kvm_missing(int fd, bool needed, char *buf, size_t len)
{
    size_t at = 0;
    int n = 0;

    buf[0] = 0;
    for (unsigned i = 0; i < COUNT(caps); i++)
        if (caps[i].needed == needed && !kvm_cap(fd, caps[i].cap)) {
            if (at < len)
                at += (size_t)snprintf(buf + at, len - at, "%s%s", n ? " " : "", caps[i].name);
            n++;
        }
    return n;
}
