/* SPDX-License-Identifier: BSD-2-Clause */
/* Hypercalls (TLFS 3): input forms, the calls that are served, their status. */
#include <sched.h>
#include <string.h>

#include "hv/hyperv/hyperv.h"
#include "hv/infra.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

enum {
    STATUS_SUCCESS = 0, STATUS_INVALID_CODE = 2, STATUS_INVALID_INPUT = 3, STATUS_INVALID_ALIGNMENT = 4,
    STATUS_INVALID_PARAMETER = 5, STATUS_ACCESS_DENIED = 6, STATUS_INVALID_CONNECTION_ID = 18
};
enum {
    CALL_FLUSH_VAS = 0x02, CALL_FLUSH_VAL = 0x03, CALL_LONG_SPIN_WAIT = 0x08, CALL_SEND_IPI = 0x0b,
    CALL_FLUSH_VAS_EX = 0x13, CALL_FLUSH_VAL_EX = 0x14, CALL_SEND_IPI_EX = 0x15, CALL_POST_MESSAGE = 0x5c,
    CALL_SIGNAL_EVENT = 0x5d, CALL_RETARGET = 0x7e, CALL_VP_INDEX_FROM_APIC_ID = 0x9a, CALL_EXT_QUERY = 0x8001,
    CALL_EXT_ZEROED_MEMORY = 0x8002, CALL_EXT_HEAT_HINT = 0x8003
};
enum { FLUSH_ALL_PROCESSORS = 1 };
enum { EXT_CAP_ZEROED_MEMORY = 1, EXT_CAP_HEAT_HINT = 2 };
#define PARTITION_SELF (~0ull)

struct call {
    struct hv_vp *vp;
    uint16_t code;
    bool fast;
    unsigned var_qwords;      /* variable header, in 8-byte units */
    unsigned reps, start;
    uint64_t in_gpa, out_gpa; /* or the first two input registers */
    uint8_t in[HV_PAGE_SIZE]; /* the whole input, copied once */
    unsigned in_len;
    unsigned done;            /* reps completed */
};

/* Bring @len bytes of input into call.in.  Fast calls have 16 bytes in registers and 96 in XMM0-5. */
static uint16_t fetch(struct call *c, unsigned len)
{
    if (c->fast) {
        if (len > 112)
            return STATUS_INVALID_INPUT;
        memcpy(c->in, &c->in_gpa, 8);
        memcpy(c->in + 8, &c->out_gpa, 8);
        if (len > 16) {
            x86_x87_spill(c->vp);
            for (unsigned i = 0; i < 6; i++)
                memcpy(c->in + 16 + 16 * i, &c->vp->cpu.ymm[i], 16);
        }
        c->in_len = len;
        return STATUS_SUCCESS;
    }
    if (c->in_gpa & 7)
        return STATUS_INVALID_ALIGNMENT;
    if ((c->in_gpa & 4095) + len > 4096)
        return STATUS_INVALID_ALIGNMENT;
    if (hv_gpa_read(c->vp->p, c->in_gpa, c->in, len))
        return STATUS_INVALID_PARAMETER;
    c->in_len = len;
    return STATUS_SUCCESS;
}

static uint64_t in64(const struct call *c, unsigned off)
{
    uint64_t v;

    memcpy(&v, c->in + off, 8);
    return v;
}

static uint32_t in32(const struct call *c, unsigned off)
{
    uint32_t v;

    memcpy(&v, c->in + off, 4);
    return v;
}

static uint64_t all_vps(const struct hv_partition *p)
{
    return p->nvps == 64 ? ~0ull : (1ull << p->nvps) - 1;
}

/* HV_VP_SET at @off (TLFS 7.8.7.3): format, valid bank mask, banks.  Only bank 0 has processors here. */
static uint16_t vp_set(const struct call *c, unsigned off, unsigned banks, uint64_t *ret)
{
    uint64_t format = in64(c, off), valid = in64(c, off + 8);

    *ret = 0;
    if (format == 1) {
        *ret = all_vps(c->vp->p);
        return STATUS_SUCCESS;
    }
    if (format != 0 || (unsigned)__builtin_popcountll(valid) != banks)
        return STATUS_INVALID_PARAMETER;
    if (valid & 1)
        *ret = in64(c, off + 16) & all_vps(c->vp->p);
    return STATUS_SUCCESS;
}

static uint16_t flush(struct call *c, bool list, bool ex)
{
    unsigned header = ex ? 32 + 8 * c->var_qwords : 24, len = header + (list ? 8 * c->reps : 0);
    uint64_t mask;
    uint16_t st;

    st = fetch(c, len);
    if (st)
        return st;
    if (ex) {
        st = vp_set(c, 16, c->var_qwords, &mask);
        if (st)
            return st;
    } else {
        mask = in64(c, 16) & all_vps(c->vp->p);
    }
    if (in64(c, 8) & FLUSH_ALL_PROCESSORS)
        mask = all_vps(c->vp->p);
    x86_tlb_flush_vps(c->vp, mask);
    c->done = c->reps;
    return STATUS_SUCCESS;
}

static uint16_t send_ipi(struct call *c, bool ex)
{
    uint64_t mask;
    uint32_t vector;
    uint16_t st = fetch(c, ex ? 24 + 8 * c->var_qwords : 16);

    if (st)
        return st;
    vector = in32(c, 0);
    if (vector < 16 || vector > 255 || c->in[4])
        return STATUS_INVALID_PARAMETER;
    if (ex) {
        st = vp_set(c, 8, c->var_qwords, &mask);
        if (st)
            return st;
    } else {
        mask = in64(c, 8);
        if (mask & ~all_vps(c->vp->p))
            return STATUS_INVALID_PARAMETER;
    }
    for (; mask; mask &= mask - 1)
        hv_lapic_fixed(c->vp->p->vps[__builtin_ctzll(mask)], vector);
    return STATUS_SUCCESS;
}

static uint16_t outside(struct call *c, bool message)
{
    struct hv_vp *vp = c->vp;
    struct hv_partition *p = vp->p;
    uint16_t st = fetch(c, message ? 256 : 8);
    uint32_t len;

    if (st)
        return st;
    if (message) {
        len = in32(c, 12);
        if (len > HV_MESSAGE_PAYLOAD || (in32(c, 8) & 0x80000000u))
            return STATUS_INVALID_PARAMETER;
        if (!p->ops.post_message)
            return STATUS_INVALID_CONNECTION_ID;
    } else if (!p->ops.signal_event) {
        return STATUS_INVALID_CONNECTION_ID;
    }
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    st = message ? p->ops.post_message(p->ctx, vp->index, in32(c, 0), in32(c, 8), c->in + 16, len)
                 : p->ops.signal_event(p->ctx, vp->index, in32(c, 0), (uint16_t)in32(c, 4));
    x86_mmu_enter(vp);
    return st;
}

/* Write @len bytes to the output area at @off.  Other VPs may have to be told: not as a guest. */
static uint16_t reply(struct call *c, unsigned off, const void *buf, unsigned len)
{
    int err;

    if ((c->out_gpa & 7) || (c->out_gpa & 4095) + off + len > 4096)
        return STATUS_INVALID_ALIGNMENT;
    x86_mmu_leave(c->vp);
    err = hv_gpa_write(c->vp->p, c->out_gpa + off, buf, len);
    x86_mmu_enter(c->vp);
    return err ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

static uint16_t vp_index_from_apic_id(struct call *c)
{
    struct hv_partition *p = c->vp->p;
    uint16_t st = fetch(c, 16 + 4 * c->reps);

    if (st)
        return st;
    if (in64(c, 0) != PARTITION_SELF && in64(c, 0) != 0)
        return STATUS_ACCESS_DENIED;
    if (c->in[8]) /* target VTL: there is only VTL 0 */
        return STATUS_INVALID_PARAMETER;
    for (unsigned i = c->start; i < c->reps; i++) {
        uint32_t id = in32(c, 16 + 4 * i);

        if (id >= p->nvps)
            return STATUS_INVALID_PARAMETER;
        st = reply(c, 4 * i, &id, 4);
        if (st)
            return st;
        c->done = i + 1;
    }
    return STATUS_SUCCESS;
}

/* Extended hypercalls: which there are; memory that is known to be zero at boot (none is claimed: the guest
 * clears what it must); hints about hot and cold memory, which the engines have no use for. */
static uint16_t extended(struct call *c)
{
    static const uint64_t caps = EXT_CAP_ZEROED_MEMORY | EXT_CAP_HEAT_HINT;
    static const uint64_t none[2]; /* start page, number of pages */

    switch (c->code) {
    case CALL_EXT_QUERY: return reply(c, 0, &caps, sizeof(caps));
    case CALL_EXT_ZEROED_MEMORY: return reply(c, 0, none, sizeof(none));
    default: {
        uint16_t st = fetch(c, 8 + 8 * c->reps);

        if (!st)
            c->done = c->reps;
        return st;
    }
    }
}

/* What each call takes. */
enum { REP = 1, VARIABLE = 2, MEMORY_ONLY = 4 };

static const struct form {
    uint16_t code;
    uint8_t form;
    uint32_t needs; /* enlightenments of which one has to be shown, 0: none */
} forms[] = {
    { CALL_FLUSH_VAS, 0, HV_ENL_REMOTE_FLUSH },
    { CALL_FLUSH_VAL, REP, HV_ENL_REMOTE_FLUSH },
    { CALL_FLUSH_VAS_EX, VARIABLE, HV_ENL_REMOTE_FLUSH },
    { CALL_FLUSH_VAL_EX, REP | VARIABLE, HV_ENL_REMOTE_FLUSH },
    { CALL_SEND_IPI, 0, HV_ENL_IPI },
    { CALL_SEND_IPI_EX, VARIABLE, HV_ENL_IPI },
    { CALL_LONG_SPIN_WAIT, 0, 0 },
    { CALL_POST_MESSAGE, MEMORY_ONLY, HV_ENL_SYNIC },
    { CALL_SIGNAL_EVENT, 0, HV_ENL_SYNIC },
    { CALL_RETARGET, VARIABLE, 0 },
    { CALL_VP_INDEX_FROM_APIC_ID, REP | MEMORY_ONLY, 0 },
    { CALL_EXT_QUERY, MEMORY_ONLY, HV_ENL_EXTENDED },
    { CALL_EXT_ZEROED_MEMORY, MEMORY_ONLY, HV_ENL_EXTENDED },
    { CALL_EXT_HEAT_HINT, REP | MEMORY_ONLY, HV_ENL_EXTENDED },
};

static uint16_t dispatch(struct call *c)
{
    const struct form *f = NULL;

    for (unsigned i = 0; i < COUNT(forms) && !f; i++)
        if (forms[i].code == c->code)
            f = &forms[i];
    if (!f)
        return STATUS_INVALID_CODE;
    if (f->needs && !(c->vp->p->hyperv->shown & f->needs))
        return STATUS_ACCESS_DENIED;
    if ((c->reps != 0) != ((f->form & REP) != 0) || (c->var_qwords && !(f->form & VARIABLE)) ||
        (c->fast && (f->form & MEMORY_ONLY)))
        return STATUS_INVALID_INPUT;
    c->done = c->start;
    switch (c->code) {
    case CALL_FLUSH_VAS: return flush(c, false, false);
    case CALL_FLUSH_VAL: return flush(c, true, false);
    case CALL_FLUSH_VAS_EX: return flush(c, false, true);
    case CALL_FLUSH_VAL_EX: return flush(c, true, true);
    case CALL_SEND_IPI: return send_ipi(c, false);
    case CALL_SEND_IPI_EX: return send_ipi(c, true);
    case CALL_LONG_SPIN_WAIT:
        x86_mmu_leave(c->vp);
        sched_yield();
        x86_mmu_enter(c->vp);
        return STATUS_SUCCESS;
    case CALL_POST_MESSAGE: return outside(c, true);
    case CALL_SIGNAL_EVENT: return outside(c, false);
    case CALL_RETARGET: return STATUS_INVALID_PARAMETER; /* no device of a virtual PCI bus: no such interrupt */
    case CALL_VP_INDEX_FROM_APIC_ID: return vp_index_from_apic_id(c);
    default: return extended(c);
    }
}

bool hv_hypercall(struct hv_vp *vp)
{
    struct hv_partition *p = vp->p;
    struct x86_cpu *cpu = &vp->cpu;
    uint64_t input, result;
    struct call c;
    bool wide = cpu->mode == X86_MODE_64;

    if (!p->hyperv || !(atomic_load(&p->hyperv->hypercall) & 1) || cpu->cpl != 0 || !(cpu->cr0 & CR0_PE))
        return false;
    memset(&c, 0, offsetof(struct call, in));
    c.vp = vp;
    c.done = 0;
    c.in_len = 0;
    if (wide) {
        input = cpu->gpr[X86_RCX];
        c.in_gpa = cpu->gpr[X86_RDX];
        c.out_gpa = cpu->gpr[X86_R8];
    } else {
        input = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
        c.in_gpa = cpu->gpr[X86_RBX] << 32 | (uint32_t)cpu->gpr[X86_RCX];
        c.out_gpa = cpu->gpr[X86_RDI] << 32 | (uint32_t)cpu->gpr[X86_RSI];
    }
    c.code = (uint16_t)input;
    c.fast = input & (1u << 16);
    c.var_qwords = (unsigned)(input >> 17) & 0x3ff;
    c.reps = (unsigned)(input >> 32) & 0xfff;
    c.start = (unsigned)(input >> 48) & 0xfff;
    if ((input & 0xf000f000f8000000ull) || (c.reps && c.start >= c.reps) || (!c.reps && c.start))
        result = STATUS_INVALID_INPUT;
    else
        result = dispatch(&c);
    result |= (uint64_t)c.done << 32;
    if (wide) {
        cpu->gpr[X86_RAX] = result;
    } else {
        cpu->gpr[X86_RAX] = (uint32_t)result;
        cpu->gpr[X86_RDX] = result >> 32;
    }
    return true;
}
