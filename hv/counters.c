/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters of a VP.  Written by its own thread only, read by any. */
#include "hv/infra.h"

static const char *const counter_names[] = {
    [HV_CTR_INSNS] = "insns",
    [HV_CTR_BLOCKS_BUILT] = "blocks-built",
    [HV_CTR_TLB_FILLS] = "tlb-fills",
    [HV_CTR_TLB_FLUSHES] = "tlb-flushes",
    [HV_CTR_EXCEPTIONS] = "exceptions",
    [HV_CTR_INTERRUPTS] = "interrupts",
    [HV_CTR_PIO] = "pio",
    [HV_CTR_MMIO] = "mmio",
    [HV_CTR_HLT] = "hlt",
    [HV_CTR_CODE_WRITES] = "code-writes",
    [HV_CTR_RUN_NS] = "run-ns",
    [HV_CTR_EXIT_INSN] = "exit-insn",
    [HV_CTR_EXIT_MISS] = "exit-miss",
    [HV_CTR_EXIT_LINK] = "exit-link",
    [HV_CTR_EXIT_DISPATCH] = "exit-dispatch",
    [HV_CTR_EXIT_DROP] = "exit-drop",
    [HV_CTR_CODE_STORES] = "code-stores",
    [HV_CTR_TRANSLATE_NS] = "translate-ns",
    [HV_CTR_CODE_BYTES] = "code-bytes",
    [HV_CTR_CODE_RESETS] = "code-resets",
    [HV_CTR_CODE_EVICTIONS] = "code-evictions",
    [HV_CTR_EVENTS] = "events",
    [HV_CTR_EVENT_NS] = "event-ns",
    [HV_CTR_EVENT_MAX_NS] = "event-max-ns",
    [HV_CTR_VMEXITS] = "vmexits",
    [HV_CTR_VMEXIT_PIO] = "vmexit-pio",
    [HV_CTR_VMEXIT_MMIO] = "vmexit-mmio",
    [HV_CTR_VMEXIT_MSR] = "vmexit-msr",
    [HV_CTR_VMEXIT_HYPERCALL] = "vmexit-hypercall",
    [HV_CTR_VMEXIT_SYNIC] = "vmexit-synic",
    [HV_CTR_VMEXIT_EOI] = "vmexit-eoi",
    [HV_CTR_VMEXIT_WINDOW] = "vmexit-window",
    [HV_CTR_VMEXIT_KICK] = "vmexit-kick",
    [HV_CTR_VMEXIT_DIRTY_RING] = "vmexit-dirty-ring",
    [HV_CTR_VMEXIT_OTHER] = "vmexit-other",
};
_Static_assert(COUNT(counter_names) == HV_CTR_COUNT, "a name for each counter");

const char *hv_counter_name(enum hv_counter c)
{
    return (unsigned)c < HV_CTR_COUNT ? counter_names[c] : "(none)";
}

uint64_t hv_counter_get(struct hv_partition *p, unsigned vp, enum hv_counter c)
{
    if (vp >= p->nvps || (unsigned)c >= HV_CTR_COUNT)
        return 0;
    return __atomic_load_n(&p->vps[vp]->counters[c], __ATOMIC_RELAXED);
}

void hv_engine_counters(struct hv_partition *p, unsigned vp, void (*fn)(void *ctx, const char *name, uint64_t val),
                        void *ctx)
{
    if (vp < p->nvps && p->engine->counters)
        p->engine->counters(p->vps[vp], fn, ctx);
}

uint64_t hv_first_insn_ns(const struct hv_partition *p)
{
    return atomic_load(&p->first_insn_ns);
}
