/* SPDX-License-Identifier: BSD-2-Clause */
/* Compares the x86 decoder with Zydis 4: accept or reject, length, operands, memory operand fields.
 *
 *   gcc -std=gnu11 -O2 -g -Wall -Wextra -I. -o /tmp/decode_zydis tests/engines/decode_zydis.c \
 *       hv/x86/decode.c -lZydis && /tmp/decode_zydis
 *
 * decode_zydis [COUNT [SEED [ELF-FILE...]]]: COUNT byte strings (default 300000), each in all three
 * modes; then a sweep over the executable segments of this process (the C library among them) and
 * over the executable sections of the files, e.g. a libcrypto or an uncompressed kernel image.  The
 * same arguments give the same strings.  Exit status 0: agreement but for the deliberate
 * differences listed below. */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "hv/x86/decode.h"

enum { UD = -6, TOO_LONG = -13, MAX_REPORTS = 40 };

static ZydisDecoder decoders[3];
static const enum x86_mode modes[3] = { X86_MODE_16, X86_MODE_32, X86_MODE_64 };
static const unsigned mode_bits[3] = { 16, 32, 64 };

static unsigned long n_strings, n_accepted, n_operands, n_differences, n_reports;

static unsigned zaccess(ZydisOperandActions a)
{
    return (a & ZYDIS_OPERAND_ACTION_MASK_READ ? X86_RD : 0u) |
           (a & ZYDIS_OPERAND_ACTION_MASK_WRITE ? X86_WR : 0u);
}

/* ---- reporting: once per kind of difference and opcode ---- */

static unsigned char reported[8][8][256][4][8];

static void report(unsigned kind, const char *what, const uint8_t *b, size_t len, unsigned m,
                   const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *zo,
                   const struct x86_insn *in, int ret)
{
    unsigned map = zi ? zi->opcode_map & 7u : in ? in->map : 7u;
    unsigned opc = zi ? zi->opcode : in ? in->opcode : b[0];
    unsigned pp = in ? in->pp : 0, reg = in && in->has_modrm ? in->modrm >> 3 & 7 : 0;
    size_t i;

    n_differences++;
    if (reported[kind][map][opc & 255][pp][reg] || n_reports >= MAX_REPORTS)
        return;
    reported[kind][map][opc & 255][pp][reg] = 1;
    n_reports++;
    printf("%s (%u bits):", what, mode_bits[m]);
    for (i = 0; i < len && i < X86_MAX_INSN; i++)
        printf(" %02x", b[i]);
    printf("\n    here: ");
    if (in) {
        printf("%s len %u", x86_op_name(in->op), in->len);
        for (i = 0; i < in->nops; i++)
            printf(" [kind %u reg %u size %u flags %u]", in->o[i].kind, in->o[i].reg, in->o[i].size,
                   in->o[i].flags);
    } else {
        printf("%d", ret);
    }
    printf("\n    Zydis: ");
    if (zi) {
        char text[128] = "?";
        ZydisFormatter fmt;

        ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
        ZydisFormatterFormatInstruction(&fmt, zi, zo, zi->operand_count_visible, text, sizeof text,
                                        ZYDIS_RUNTIME_ADDRESS_NONE, NULL);
        printf("%s, len %u %s\n", text, zi->length, ZydisISAExtGetString(zi->meta.isa_ext));
        for (i = 0; i < zi->operand_count; i++)
            printf("%s[%s %s size %u access %u]", i ? " " : "        ",
                   zo[i].type == ZYDIS_OPERAND_TYPE_REGISTER ?
                   ZydisRegisterGetString(zo[i].reg.value) : "",
                   zo[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ? "hidden" : "",
                   zo[i].size / 8, zaccess(zo[i].actions));
        printf("\n");
    } else {
        printf("rejects\n");
    }
}

/* ---- deliberate differences ---- */

/* Zydis accepts, we do not: extensions that the product never offers. */
static bool not_offered(const ZydisDecodedInstruction *zi)
{
    switch (zi->encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_3DNOW:
    case ZYDIS_INSTRUCTION_ENCODING_XOP:
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
    case ZYDIS_INSTRUCTION_ENCODING_MVEX:
        return true;
    default:
        break;
    }
    switch (zi->meta.isa_ext) {
    case ZYDIS_ISA_EXT_AMD3DNOW: case ZYDIS_ISA_EXT_KNC: case ZYDIS_ISA_EXT_KNCE:
    case ZYDIS_ISA_EXT_KNCV: case ZYDIS_ISA_EXT_XOP:
    case ZYDIS_ISA_EXT_AMX_BF16: case ZYDIS_ISA_EXT_AMX_INT8: case ZYDIS_ISA_EXT_AMX_TILE:
    case ZYDIS_ISA_EXT_AMD_INVLPGB: case ZYDIS_ISA_EXT_AVX512VEX: case ZYDIS_ISA_EXT_AVX_VNNI:
    case ZYDIS_ISA_EXT_CET: case ZYDIS_ISA_EXT_CLZERO: case ZYDIS_ISA_EXT_ENQCMD:
    case ZYDIS_ISA_EXT_FMA4: case ZYDIS_ISA_EXT_HRESET: case ZYDIS_ISA_EXT_KEYLOCKER:
    case ZYDIS_ISA_EXT_KEYLOCKER_WIDE: case ZYDIS_ISA_EXT_MCOMMIT: case ZYDIS_ISA_EXT_MONITORX:
    case ZYDIS_ISA_EXT_MOVDIR: case ZYDIS_ISA_EXT_PADLOCK: case ZYDIS_ISA_EXT_PCONFIG:
    case ZYDIS_ISA_EXT_PKU: case ZYDIS_ISA_EXT_PT: case ZYDIS_ISA_EXT_RDPRU:
    case ZYDIS_ISA_EXT_RTM: case ZYDIS_ISA_EXT_SERIALIZE: case ZYDIS_ISA_EXT_SGX:
    case ZYDIS_ISA_EXT_SGX_ENCLV: case ZYDIS_ISA_EXT_SMX: case ZYDIS_ISA_EXT_SNP:
    case ZYDIS_ISA_EXT_SSE4A: case ZYDIS_ISA_EXT_SVM: case ZYDIS_ISA_EXT_TBM:
    case ZYDIS_ISA_EXT_TDX: case ZYDIS_ISA_EXT_TSX_LDTRK: case ZYDIS_ISA_EXT_UINTR:
    case ZYDIS_ISA_EXT_VMFUNC: case ZYDIS_ISA_EXT_VTX: case ZYDIS_ISA_EXT_WAITPKG:
        return true;
    default:
        return false;
    }
}

/* Operands of these are not compared; each was checked against the manual, the marked ones also on
 * processors. */
static bool oracle_differs(const struct x86_insn *in, const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_PAUSE:   /* F3 with REX.B: XCHG r8 (checked on processors) */
        return in->op == X86_OP_XCHG;
    case ZYDIS_MNEMONIC_MOVSXD:  /* with 66: r16, r/m16 (SDM 2B MOVSX); Zydis reads 32 bits */
        return in->osize == 2;
    case ZYDIS_MNEMONIC_LAR:     /* register source: 16 bits; Zydis has 32 */
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_MOVMSKPS: /* a 64-bit destination is the zero-extended 32-bit one */
    case ZYDIS_MNEMONIC_MOVMSKPD:
        return in->modrm >= 0xc0;
    default:
        return false;
    }
}

/* The destination keeps some or all of its bits (BSF, BSR: when the source is zero): we say read
 * and write, Zydis says write. */
static bool merges(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_BSF: case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_CVTPI2PS: case ZYDIS_MNEMONIC_CVTSD2SS: case ZYDIS_MNEMONIC_CVTSS2SD:
    case ZYDIS_MNEMONIC_CVTSI2SS: case ZYDIS_MNEMONIC_CVTSI2SD: case ZYDIS_MNEMONIC_MOVHLPS:
    case ZYDIS_MNEMONIC_MOVHPD: case ZYDIS_MNEMONIC_MOVHPS: case ZYDIS_MNEMONIC_MOVLHPS:
    case ZYDIS_MNEMONIC_MOVLPD: case ZYDIS_MNEMONIC_MOVLPS: case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSS: case ZYDIS_MNEMONIC_RCPSS: case ZYDIS_MNEMONIC_ROUNDSD:
    case ZYDIS_MNEMONIC_ROUNDSS: case ZYDIS_MNEMONIC_RSQRTSS: case ZYDIS_MNEMONIC_SQRTSD:
    case ZYDIS_MNEMONIC_SQRTSS:
        return true;
    default:
        return false;
    }
}

/* ---- operands ---- */

/* Register number in our numbering and its size; -1 for what we do not compare. */
static int zreg(ZydisRegister r, unsigned *ret_kind, unsigned *ret_size, unsigned *ret_high)
{
    *ret_high = 0;
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) {
        int n = (int)(r - ZYDIS_REGISTER_AL);

        *ret_kind = X86_O_GPR;
        *ret_size = 1;
        if (n >= 4 && n < 8)
            *ret_high = 1;
        return n < 8 ? n : n - 4;
    }
    *ret_size = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, r) / 8u;
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: *ret_kind = X86_O_GPR; break;
    case ZYDIS_REGCLASS_MMX:   *ret_kind = X86_O_MMX; break;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:   *ret_kind = X86_O_VEC; break;
    case ZYDIS_REGCLASS_SEGMENT: *ret_kind = X86_O_SREG; break;
    case ZYDIS_REGCLASS_CONTROL: *ret_kind = X86_O_CR; break;
    case ZYDIS_REGCLASS_DEBUG: *ret_kind = X86_O_DR; break;
    case ZYDIS_REGCLASS_X87:   *ret_kind = X86_O_ST; break;
    default: return -1;
    }
    return ZydisRegisterGetId(r);
}

static int zaddr_reg(ZydisRegister r)
{
    unsigned k, s, h;

    if (r == ZYDIS_REGISTER_NONE)
        return X86_REG_NONE;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return X86_REG_RIP;
    return zreg(r, &k, &s, &h);
}

static const char *compare_mem(const struct x86_insn *in, const ZydisDecodedOperand *z)
{
    unsigned scale = z->mem.scale == 8 ? 3 : z->mem.scale == 4 ? 2 : z->mem.scale == 2 ? 1 : 0;
    int64_t disp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;

    /* Zydis 4.0 names r13d as base of a SIB without base when 67 and REX.B are there; SDM 2A table
     * 2-5 and processors have none.  It then also loses the displacement. */
    if (z->mem.base == ZYDIS_REGISTER_R13D && in->base == X86_REG_NONE && in->modrm < 0x40)
        return NULL;
    if (zaddr_reg(z->mem.base) != in->base)
        return "base";
    if (zaddr_reg(z->mem.index) != in->index)
        return "index";
    if (in->index != X86_REG_NONE && scale != in->scale)
        return "scale";
    if (disp != in->disp)
        return "displacement";
    if (z->mem.type == ZYDIS_MEMOP_TYPE_MEM || z->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
        if (z->mem.segment != (ZydisRegister)(ZYDIS_REGISTER_ES + in->seg))
            return "segment";
    return NULL;
}

static const char *compare_operands(const struct x86_insn *in, const ZydisDecodedInstruction *zi,
                                    const ZydisDecodedOperand *zo)
{
    unsigned i, j = 0;

    if (oracle_differs(in, zi))
        return NULL;
    for (i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];
        const ZydisDecodedOperand *z;
        unsigned kind, size, high;

        n_operands++;
        if (j == zi->operand_count)
            return "number of operands";
        z = &zo[j++];
        switch (z->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (!o->flags)
                break; /* operands that are only encoded: NOP, UD0, UD1 */
            if (zreg(z->reg.value, &kind, &size, &high) != o->reg)
                return "register";
            if (kind != o->kind)
                return "register class";
            if (kind == X86_O_GPR && (size != o->size || high != (o->flags & X86_F_HIGH8) / 4u))
                return "register size";
            if (zaccess(z->actions) != (o->flags & X86_RW) &&
                !((o->flags & X86_RW) == X86_RW && zaccess(z->actions) == X86_WR &&
                  (merges(zi) || (z->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))))
                return "register access";
            if (kind == X86_O_VEC && (size == 32) != (o->size == 32))
                return "vector length";
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY: {
            const char *d = compare_mem(in, z);

            if (o->kind != X86_O_MEM)
                return "operand kind";
            if (d)
                return d;
            if (!o->flags)
                break;
            if (o->size && z->size != o->size * 8)
                return "memory size";
            if (zaccess(z->actions) != (o->flags & X86_RW) &&
                in->op != X86_OP_XSAVE && in->op != X86_OP_XSAVEOPT) /* header: Zydis reads it */
                return "memory access";
            break;
        }
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            if (o->kind == X86_O_REL) {
                if (z->imm.value.s != in->imm)
                    return "branch displacement";
            } else if (o->kind == X86_O_IMM2) {
                if (z->imm.value.s != in->imm2)
                    return "second immediate";
            } else if (o->kind != X86_O_IMM) {
                return "operand kind";
            } else if (o->size == 1 ? (z->imm.value.u & 0xff) != (uint64_t)in->imm :
                                      z->imm.value.s != in->imm) {
                return "immediate";
            }
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            if (o->kind != X86_O_FAR || z->ptr.offset != (uint32_t)in->imm ||
                z->ptr.segment != in->imm2)
                return "far pointer";
            break;
        default:
            return "operand kind";
        }
    }
    return NULL;
}

/* What o[] does not list: string elements, the stack operand's size, the segment of implicit
 * memory. */
static const char *compare_hidden(const struct x86_insn *in, const ZydisDecodedInstruction *zi,
                                  const ZydisDecodedOperand *zo)
{
    unsigned i;

    if (zi->address_width != in->asize * 8)
        return "address size";
    for (i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *z = &zo[i];

        if (z->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        switch (in->op) {
        case X86_OP_MOVS: case X86_OP_CMPS: case X86_OP_STOS: case X86_OP_LODS:
        case X86_OP_SCAS: case X86_OP_INS: case X86_OP_OUTS:
            if (z->size != in->o[0].size * 8)
                return "element size";
            if (in->op != X86_OP_MOVS && in->op != X86_OP_CMPS &&
                z->mem.segment != (ZydisRegister)(ZYDIS_REGISTER_ES + in->seg))
                return "string segment";
            if (z->mem.base == (in->asize == 8 ? ZYDIS_REGISTER_RSI : in->asize == 4 ?
                                ZYDIS_REGISTER_ESI : ZYDIS_REGISTER_SI) &&
                z->mem.segment != (ZydisRegister)(ZYDIS_REGISTER_ES + in->seg))
                return "string source segment";
            break;
        case X86_OP_XLAT: case X86_OP_MASKMOVQ: case X86_OP_MASKMOVDQU: case X86_OP_MONITOR:
            if (z->mem.segment != (ZydisRegister)(ZYDIS_REGISTER_ES + in->seg))
                return "implicit segment";
            break;
        case X86_OP_PUSH: case X86_OP_POP: case X86_OP_PUSH_SREG: case X86_OP_POP_SREG:
        case X86_OP_PUSHF: case X86_OP_POPF: case X86_OP_CALL_NEAR: case X86_OP_CALL_IND:
        case X86_OP_RET_NEAR: case X86_OP_LEAVE:
            if (z->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && z->size != in->osize * 8)
                return "stack operand size";
            break;
        default:
            break;
        }
    }
    return NULL;
}

/* ---- one byte string in one mode ---- */

static int compare(const uint8_t *b, size_t len, unsigned m)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus zs = ZydisDecoderDecodeFull(&decoders[m], b, len, &zi, zo);
    struct x86_insn in;
    int ret = x86_decode(b, len, modes[m], &in);
    const char *diff;

    n_strings++;
    if (ret <= 0) {
        if (ZYAN_SUCCESS(zs) && !not_offered(&zi))
            report(0, "rejected here", b, len, m, &zi, zo, NULL, ret);
        return ZYAN_SUCCESS(zs) ? zi.length : 0;
    }
    if (!ZYAN_SUCCESS(zs)) {
        report(1, "accepted here", b, len, m, NULL, NULL, &in, ret);
        return ret;
    }
    n_accepted++;
    if (ret != zi.length)
        report(2, "length", b, len, m, &zi, zo, &in, ret);
    diff = compare_operands(&in, &zi, zo);
    if (!diff)
        diff = compare_hidden(&in, &zi, zo);
    if (diff)
        report(3, diff, b, len, m, &zi, zo, &in, ret);
    return ret;
}

/* ---- byte strings ---- */

static uint64_t rng_state[2];

static uint64_t rng(void) /* xorshift128+, Vigna 2014 */
{
    uint64_t a = rng_state[0], b = rng_state[1];

    rng_state[0] = b;
    a ^= a << 23;
    rng_state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return rng_state[1] + b;
}

static void random_string(uint8_t b[16])
{
    static const uint8_t prefixes[] = {
        0x66, 0x66, 0x66, 0xf3, 0xf3, 0xf2, 0xf2, 0x67, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65,
        0x48
    };
    uint64_t r = rng(), x[2] = { rng(), rng() };
    unsigned n = 0, i, np = r & 3, shape = r >> 2 & 15;

    memcpy(b, x, 16);
    if (shape == 0)
        return; /* as it is */
    if ((r >> 8 & 15) == 0)
        np = r >> 12 & 15;
    if (shape < 12)
        for (i = 0; i < np; i++)
            b[n++] = prefixes[r >> (16 + 4 * (i & 7)) & 15];
    if (shape < 12 && (r >> 56 & 3) == 0)
        b[n++] = (uint8_t)(0x40 | (r >> 52 & 15));
    if (n > 12)
        return;
    switch (shape) {
    case 1: case 2: case 3: case 4:
        break;
    case 5: case 6: case 7: case 8:
        b[n] = 0x0f;
        break;
    case 9: case 10:
        b[n] = 0x0f;
        b[n + 1] = 0x38;
        break;
    case 11:
        b[n] = 0x0f;
        b[n + 1] = 0x3a;
        break;
    case 12:
        b[0] = 0xc5;
        if (r >> 60 & 1)
            b[1] |= 0x78;
        break;
    default:
        b[0] = 0xc4;
        b[1] = (uint8_t)((b[1] & 0xe0) | (r >> 61) % 5);
        if (r >> 60 & 1)
            b[2] |= 0x78;
        if (r >> 59 & 1)
            b[1] |= 0xc0;
        break;
    }
}

/* A proper prefix of an instruction asks for more; of an undefined one it may know already. */
static void check_prefixes(const uint8_t *b, unsigned m)
{
    struct x86_insn in;
    int ret = x86_decode(b, 16, modes[m], &in), i;

    for (i = 0; i < (ret > 0 ? ret : X86_MAX_INSN); i++) {
        int r = x86_decode(b, (size_t)i, modes[m], &in);

        if (r != 0 && (ret > 0 || r != UD))
            report(4, "truncated", b, (size_t)i, m, NULL, NULL, r > 0 ? &in : NULL, r);
    }
}

static void sweep(const uint8_t *p, size_t len)
{
    size_t pos = 0;

    while (pos < len) {
        size_t left = len - pos < X86_MAX_INSN ? len - pos : X86_MAX_INSN;
        int n = compare(p + pos, left, 2);

        compare(p + pos, left, 0); /* any bytes will do for the other modes */
        compare(p + pos, left, 1);
        pos += n > 0 ? (size_t)n : 1;
    }
}

static int sweep_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
    int i;

    (void)size;
    (void)arg;
    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X))
            sweep((const uint8_t *)(info->dlpi_addr + ph->p_vaddr), ph->p_memsz);
    }
    return 0;
}

static int sweep_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long len = 0;
    Elf64_Ehdr eh;
    unsigned i;

    if (f && fseek(f, 0, SEEK_END) == 0)
        len = ftell(f);
    if (len > (long)sizeof eh && (data = malloc((size_t)len)) && fseek(f, 0, SEEK_SET) == 0 &&
        fread(data, 1, (size_t)len, f) == (size_t)len) {
        memcpy(&eh, data, sizeof eh);
        if (memcmp(eh.e_ident, ELFMAG "\2\1", 6) != 0 || eh.e_machine != EM_X86_64 ||
            eh.e_shoff > (size_t)len ||
            eh.e_shnum > ((size_t)len - eh.e_shoff) / sizeof(Elf64_Shdr))
            len = 0;
        for (i = 0; len && i < eh.e_shnum; i++) {
            Elf64_Shdr sh;

            memcpy(&sh, data + eh.e_shoff + i * sizeof sh, sizeof sh);
            if (sh.sh_type == SHT_PROGBITS && (sh.sh_flags & SHF_EXECINSTR) &&
                sh.sh_size <= (size_t)len && sh.sh_offset <= (size_t)len - sh.sh_size)
                sweep(data + sh.sh_offset, sh.sh_size);
        }
    } else {
        len = 0;
    }
    free(data);
    if (f)
        fclose(f);
    if (!len)
        fprintf(stderr, "%s: not a readable x86-64 ELF file\n", path);
    return len ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 300000, i;
    unsigned m;
    int status = 0, a;

    rng_state[0] = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng_state[1] = 0x9e3779b97f4a7c15u;
    ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&decoders[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (m = 0; m < 3; m++) { /* an older processor's view of the hint space */
        ZydisDecoderEnableMode(&decoders[m], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[m], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[m], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[m], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    }

    for (i = 0; i < count; i++) {
        uint8_t b[16];

        random_string(b);
        for (m = 0; m < 3; m++) {
            compare(b, X86_MAX_INSN, m);
            if ((i & 15) == 0)
                check_prefixes(b, m);
        }
    }
    dl_iterate_phdr(sweep_segments, NULL);
    for (a = 3; a < argc; a++)
        if (sweep_file(argv[a]))
            status = 2;
    printf("%lu decoded, %lu accepted by both, %lu operands compared, %lu differences\n", n_strings,
           n_accepted, n_operands, n_differences);
    return n_differences ? 1 : status;
}
