/* SPDX-License-Identifier: BSD-2-Clause */
/* Segment and gate descriptors, and the pieces of event delivery and far transfers that event.c,
 * segment.c, transfer.c and task.c share.  Reference: Intel SDM volume 3A, chapters 3, 5, 6, 7. */
#ifndef MOBO_HV_X86_DESC_H
#define MOBO_HV_X86_DESC_H

#include "hv/x86/exec.h"

/* System descriptor types, 3.5. */
enum {
    X86_ST_TSS16 = 1, X86_ST_LDT = 2, X86_ST_TSS16_BUSY = 3, X86_ST_CALL16 = 4, X86_ST_TASK = 5,
    X86_ST_INT16 = 6, X86_ST_TRAP16 = 7, X86_ST_TSS32 = 9, X86_ST_TSS32_BUSY = 11, X86_ST_CALL32 = 12,
    X86_ST_INT32 = 14, X86_ST_TRAP32 = 15, X86_ST_BUSY = 2 /* the bit */
};

/* Attributes of segments that no descriptor stands behind. */
enum {
    SEG_CODE_ACC = SEG_P | SEG_S | SEG_TYPE_CODE | SEG_TYPE_RW | SEG_TYPE_A, /* 0x9b */
    SEG_DATA_ACC = SEG_P | SEG_S | SEG_TYPE_RW | SEG_TYPE_A,                 /* 0x93 */
    SEG_VM86 = SEG_DATA_ACC | SEG_DPL                                        /* 0xf3 */
};

struct x86_desc {
    uint64_t lo;    /* the eight bytes */
    uint64_t addr;  /* linear address */
    uint16_t attr;  /* as struct x86_seg.attr */
};

static inline uint16_t x86_desc_attr(uint64_t lo)
{
    return (uint16_t)(((lo >> 40) & 0xff) | (((lo >> 52) & 0xf) << 12));
}
static inline uint32_t x86_desc_limit(uint64_t lo)
{
    uint32_t l = (uint32_t)((lo & 0xffff) | ((lo >> 32) & 0xf0000));

    return (lo >> 55) & 1 ? (l << 12) | 0xfff : l;
}
static inline uint32_t x86_desc_base(uint64_t lo)
{
    return (uint32_t)(((lo >> 16) & 0xffffff) | ((lo >> 32) & 0xff000000));
}
static inline unsigned x86_attr_dpl(unsigned attr) { return (attr >> SEG_DPL_SHIFT) & 3; }
static inline bool x86_attr_code(unsigned attr)
{
    return (attr & (SEG_S | SEG_TYPE_CODE)) == (SEG_S | SEG_TYPE_CODE);
}
static inline bool x86_attr_conforming(unsigned attr) /* of a code segment */
{
    return (attr & SEG_TYPE_CONF) != 0;
}
static inline bool x86_attr_stack(unsigned attr) /* writable data */
{
    return (attr & (SEG_S | SEG_TYPE_CODE | SEG_TYPE_RW)) == (SEG_S | SEG_TYPE_RW);
}
static inline bool x86_sel_null(uint16_t sel) { return (sel & 0xfffc) == 0; }

/* ---- segment.c ---- */
/** Read the descriptor of @sel from the GDT or LDT.  @return false: outside of the table. */
bool x86_desc_read(struct hv_vp *vp, uint16_t sel, struct x86_desc *ret);
/** Upper half of a 16-byte system descriptor in long mode.  @return false: outside of the table. */
bool x86_desc_read_hi(struct hv_vp *vp, uint16_t sel, const struct x86_desc *d, uint64_t *ret);
/** Locked: clear the type bits @clear and set @set in the descriptor in memory, if that changes it. */
void x86_desc_type(struct hv_vp *vp, struct x86_desc *d, unsigned clear, unsigned set);
void x86_desc_seg(const struct x86_desc *d, uint16_t sel, struct x86_seg *ret);

/** Is [off, off + len) inside of the segment (type and mode aside)? */
bool x86_seg_inside(const struct x86_seg *s, uint64_t off, unsigned len);

/** Segment register as real mode (@vm86: virtual-8086 mode) loads it. */
void x86_seg_load_real(struct x86_seg *s, uint16_t sel, bool vm86);
/** Unusable data segment with selector @sel; SS keeps the privilege level in its DPL. */
static inline void x86_seg_set_null(struct x86_seg *s, uint16_t sel, unsigned dpl)
{
    *s = (struct x86_seg){ .sel = sel, .attr = (uint16_t)(SEG_UNUSABLE | (dpl << SEG_DPL_SHIFT)) };
}

/** Write RSP, ESP or SP. */
static inline void x86_set_sp(struct x86_cpu *c, uint64_t sp, unsigned ssize)
{
    uint64_t *r = &c->gpr[X86_RSP];

    *r = ssize == 8 ? sp : ssize == 4 ? (uint32_t)sp : (*r & ~0xffffull) | (sp & 0xffff);
}
/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): in the far transfers SS is read when it was loaded */
static inline unsigned x86_ss_size(const struct x86_seg *ss) { return ss->attr & SEG_DB ? 4 : 2; }
static inline uint64_t x86_size_mask(unsigned size)
{
    return size == 8 ? ~0ull : (1ull << (size * 8)) - 1;
}
void x86_set_gpr(struct x86_cpu *c, unsigned reg, uint64_t val, unsigned size);

/* A stack frame that is built whole and stored at once, so that a fault leaves nothing half done. */
enum { X86_FRAME_MAX = 40 };
struct x86_frame {
    const struct x86_seg *ss; /* ignored when ssize is 8 */
    uint64_t sp;              /* before the pushes */
    unsigned ssize;           /* 2, 4, 8 */
    unsigned size;            /* of each element */
    unsigned acc;             /* X86_ACC_WRITE, with X86_ACC_SYS for a more privileged stack */
    uint32_t err;             /* error code of #SS */
    unsigned n;
    uint64_t v[X86_FRAME_MAX];
};
static inline void x86_frame_add(struct x86_frame *f, uint64_t v) { f->v[f->n++] = v; }
/** Raise what a store of the frame would raise for segment reasons. */
void x86_frame_check(struct hv_vp *vp, const struct x86_frame *f);
/** Check and store; @return the new stack pointer (not yet in RSP). */
uint64_t x86_frame_store(struct hv_vp *vp, const struct x86_frame *f);

/** Stack of privilege level @cpl from a 16- or 32-bit TSS with all checks (#TS, #SS; @ext: EXT bit). */
void x86_tss_stack(struct hv_vp *vp, unsigned cpl, unsigned ext, struct x86_seg *ss, uint64_t *sp);
/** Stack pointer from a 64-bit TSS: @slot 0-2 RSP0-2, 4-10 IST1-7. */
uint64_t x86_tss_rsp(struct hv_vp *vp, unsigned slot, unsigned ext);

/* ---- event.c ---- */
/** Deliver an event through the IVT or IDT; @ret_rip is what the handler returns to.  May raise. */
void x86_deliver(struct hv_vp *vp, unsigned vector, unsigned type, bool has_error, uint32_t error,
                 uint64_t ret_rip);
/** INT n in virtual-8086 mode through the program's own vector table (20.3.3, methods 5 and 6). */
void x86_deliver_vm86_ivt(struct hv_vp *vp, unsigned vector, uint64_t ret_rip);
/** Does DR7 enable an execution breakpoint? */
bool x86_exec_breakpoints(const struct x86_cpu *c);

/* ---- task.c ---- */
/** x86_task_switch with the address that the old task goes on at, and the EXT bit for error codes. */
void x86_task_switch_from(struct hv_vp *vp, uint16_t sel, unsigned kind, uint64_t ret_rip, bool has_error,
                          uint32_t error, unsigned ext);

enum { X86_TASK_JMP, X86_TASK_CALL, X86_TASK_IRET, X86_TASK_INT };
enum { DR6_FIXED = 0xffff0ff0u, DR6_BD = 1u << 13, DR6_BS = 1u << 14, DR6_BT = 1u << 15, DR7_GD = 1u << 13 };

#endif
