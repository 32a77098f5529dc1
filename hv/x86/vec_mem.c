/* SPDX-License-Identifier: BSD-2-Clause */
/* Vector instructions that access memory element by element under a mask: MASKMOVQ, MASKMOVDQU, VMASKMOV,
 * VPMASKMOV, gathers.  Elements that the mask leaves out are not accessed and cannot fault.
 *
 * References: Intel SDM 2B MASKMOVDQU, MASKMOVQ, SDM 2D VMASKMOV, VPMASKMOV, VPGATHERDD and relatives. */
#include "hv/x86/vec_int.h"

static uint64_t asize_mask(const struct x86_insn *in)
{
    return in->asize == 8 ? ~0ull : in->asize == 4 ? 0xffffffffull : 0xffffull;
}

/* Store the bytes of @data whose mask byte has bit 7, all or none of them. */
static void maskmov(struct hv_vp *vp, const struct x86_insn *in, const uint8_t *data,
                    const uint8_t *mask, unsigned len)
{
    uint64_t off = vp->cpu.gpr[X86_RDI] & asize_mask(in), lin;
    unsigned i, n;

    lin = x86_seg_lin(vp, in->seg, off, len, X86_ACC_WRITE);
    for (int store = 0; store < 2; store++)
        for (i = 0; i < len; i += n) {
            for (n = 1; i + n < len && !(mask[i + n] >> 7) == !(mask[i] >> 7); n++)
                ;
            if (!(mask[i] >> 7))
                continue;
            if (store)
                x86_lin_write(vp, lin + i, data + i, n, X86_ACC_WRITE);
            else
                x86_lin_probe(vp, lin + i, n, X86_ACC_WRITE);
        }
}

static void vmaskmov(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    bool ps = in->opcode == 0x2c || in->opcode == 0x2e,
         pd = in->opcode == 0x2d || in->opcode == 0x2f;
    unsigned size = ps ? 4 : pd ? 8 : in->rex & 8 ? 8 : 4, len = in->vexl ? 32 : 16;
    bool load = in->o[0].kind == X86_O_VEC;
    unsigned rm = in->mode == X86_MODE_64 ? 15 : 7;
    uint8_t mask[32], buf[32] = { 0 };
    uint64_t ea = x86_ea(vp, in);
    unsigned acc = load ? X86_ACC_READ : X86_ACC_WRITE;

    memcpy(mask, &c->ymm[in->vvvv & rm], len);
    if (!load)
        memcpy(buf, &c->ymm[in->o[2].reg & rm], len);
    for (int pass = load; pass < 2; pass++)
        for (unsigned i = 0; i < len; i += size) {
            uint64_t lin;

            if (!(mask[i + size - 1] >> 7))
                continue;
            lin = x86_seg_lin(vp, in->seg, ea + i, size, acc); /* one operand: no wrap inside */
            if (load)
                x86_lin_read(vp, lin, buf + i, size, X86_ACC_READ);
            else if (pass)
                x86_lin_write(vp, lin, buf + i, size, X86_ACC_WRITE);
            else
                x86_lin_probe(vp, lin, size, X86_ACC_WRITE);
        }
    if (load)
        memcpy(&c->ymm[in->o[0].reg & rm], buf, 32);
}

/* On a fault the elements before it are done and their mask is clear: the instruction is restartable. */
static void gather(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->rex & 8 ? 8 : 4, isize = in->opcode & 1 ? 8 : 4, len = in->vexl ? 32 : 16;
    unsigned n = len / (size > isize ? size : isize), rm = in->mode == X86_MODE_64 ? 15 : 7;
    unsigned d = in->o[0].reg & rm, m = in->vvvv & rm, x = in->index & rm;
    uint8_t *dst = (uint8_t *)&c->ymm[d], *mask = (uint8_t *)&c->ymm[m];
    const uint8_t *idx = (const uint8_t *)&c->ymm[x];

    if (d == m || d == x || m == x)
        x86_raise(vp, X86_EXC_UD);
    /* every mask element becomes all ones or all zeroes first */
    for (unsigned i = 0; i < n; i++)
        memset(mask + i * size, mask[i * size + size - 1] >> 7 ? 0xff : 0, size);
    memset(mask + n * size, 0, 32 - n * size);
    for (unsigned i = 0; i < n; i++) {
        int64_t index = isize == 8 ? (int64_t)ld64(idx + 8 * i) : (int32_t)ld32(idx + 4 * i);
        uint64_t off, lin, v;

        if (!mask[i * size])
            continue;
        off = c->gpr[in->base == X86_REG_NONE ? X86_REG_NONE : in->base] +
              ((uint64_t)index << in->scale) + (uint64_t)in->disp;
        lin = x86_seg_lin(vp, in->seg, off & asize_mask(in), size, X86_ACC_READ);
        x86_lin_read(vp, lin, &v, size, X86_ACC_READ);
        memcpy(dst + i * size, &v, size);
        memset(mask + i * size, 0, size);
    }
    memset(dst + n * size, 0, 32 - n * size);
}

bool vec_exec_masked(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned rm = in->mode == X86_MODE_64 ? 15 : 7;
    uint8_t mm[2][8];

    switch (in->op) {
    case X86_OP_MASKMOVQ:
        st64(mm[0], x87_mmx_read(c, in->o[0].reg & 7));
        st64(mm[1], x87_mmx_read(c, in->o[1].reg & 7));
        maskmov(vp, in, mm[0], mm[1], 8);
        x87_to_mmx(c);
        vec_done(vp, in);
        return true;
    case X86_OP_MASKMOVDQU:
        maskmov(vp, in, (const uint8_t *)&c->ymm[in->o[0].reg & rm],
                (const uint8_t *)&c->ymm[in->o[1].reg & rm], 16);
        vec_done(vp, in);
        return true;
    case X86_OP_VMASKMOV:
        vmaskmov(vp, in);
        vec_done(vp, in);
        return true;
    case X86_OP_VGATHER:
        gather(vp, in);
        vec_done(vp, in);
        return true;
    default: return false;
    }
}
