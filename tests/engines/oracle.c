/* SPDX-License-Identifier: BSD-2-Clause */
/* Random instruction sequences on the host CPU and on an engine, compared: general registers, RFLAGS, RIP,
 * vector registers, MXCSR, x87 state, memory, and the kind, error code and address of a fault.
 *
 * oracle [-n INSTRUCTIONS] [-s SEED] [-m 16|32|64] [-l LENGTH] [-e ENGINE] [-o MNEMONIC] [-r ROW] [-u] [-c] [-x MAX]
 *   -n  default 10 million, a tenth of that in sanitizer builds
 *   -u  also compare flags that the manuals leave undefined
 *   -c  print how often each opcode row was run
 *   -x  stop after MAX different mismatches (default 20)
 *
 * Both sides run the same bytes at the same linear addresses in ring 3.  A sequence ends with INT3 or with a
 * fault.  After a mismatch the sequence is cut to find its first wrong instruction.
 *
 * Not compared, with reasons:
 *   - flags that SDM 2 leaves undefined (table in oracle_gen.c), at the end of a sequence only: inside one, a
 *     compare instruction follows at once;
 *   - FOP, FIP, FDP, FCS, FDS in stored x87 images, and MXCSR_MASK (x87.c says what the engines keep);
 *   - RFLAGS.RF (set in what a fault pushes) and the error code of page faults in the kernel half;
 *   - which operand of CMPS faults when both do: SDM and APM do not say (Zen 4 reads [rdi] first, Zen 5 [rsi]);
 *   - operations that cannot run in a user process (oracle_gen.c, usable());
 *   - 32-bit and 16-bit code where the host has none of it: a line of the output says so, and all sequences are
 *     of 64-bit code. */
#define _GNU_SOURCE
#include "tests/engines/oracle.h"

#include <errno.h>
#include <mobo/hv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<Zydis/Zydis.h>)
#include <Zydis/Zydis.h>
#define HAVE_ZYDIS 1
#endif

#include "hv/hv_int.h"

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
enum { DEFAULT_COUNT = 1000000 };
#else
enum { DEFAULT_COUNT = 10000000 };
#endif

/* Guest-physical layout below 64 KB, seen by the guest at G_HIGH + address. */
enum {
    G_PML4 = 0x1000,
    G_PDPT = 0x2000,
    G_PD = 0x3000,
    G_GDT = 0x4000,
    G_PT_CODE = 0x5000,
    G_PT_WIN = 0x6000,
    G_IDT = 0x7000,
    G_TSS = 0x8000,
    G_HANDLERS = 0x9000,
    G_STACK = 0xb000,
    G_PDPT2 = 0xc000,
    G_PD2 = 0xd000,
    G_PT2 = 0xe000,
    G_RAM = 64 << 20
};
#define G_HIGH 0xffff800000000000ull

static struct hv_partition *part;
static uint8_t *ram;
static struct hv_vp_state base_state;
static const char *engine = "interp";

/* ---- guest ---------------------------------------------------------------------------------------------------------- */

static uint32_t pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp, (void)port, (void)len;
    return ~0u;
}

static void pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    (void)ctx, (void)port, (void)len, (void)val;
    hv_vp_cancel(part, vp);
}

static uint64_t mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len)
{
    (void)ctx, (void)vp, (void)gpa, (void)len;
    return ~0ull;
}

static void mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)ctx, (void)vp, (void)gpa, (void)len, (void)val;
}

static void log_line(void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level < 2)
        fprintf(stderr, "hv: %s\n", line);
}

static void put64(uint32_t at, uint64_t v)
{
    memcpy(ram + at, &v, 8);
}

static struct hv_segment segment(uint16_t sel, uint16_t attr)
{
    return (struct hv_segment){ .limit = 0xffffffff, .selector = sel, .attr = attr };
}

static bool shown(unsigned feature)
{
    return hv_feature(part, feature);
}

static int guest_init(void)
{
    static const struct hv_ops ops = { .size = sizeof ops,
                                       .pio_read = pio_read,
                                       .pio_write = pio_write,
                                       .mmio_read = mmio_read,
                                       .mmio_write = mmio_write,
                                       .log = log_line };
    struct hv_config cfg = { .size = sizeof cfg, .engine = engine, .vps = 1, .ops = &ops };
    uint64_t off;
    int err = hv_partition_create(&cfg, &part);

    if (!err)
        err = hv_ram_alloc(part, G_RAM, &off);
    if (!err)
        err = hv_gpa_map(part, 0, G_RAM, off, HV_MAP_RWX);
    if (err) {
        fprintf(stderr, "oracle: %s\n", hv_last_error());
        return err;
    }
    ram = hv_ram_hva(part, off, G_RAM);
    hv_time_pause(part, false);
    return 0;
}

static void guest_setup(void)
{
    struct hv_vp_state *s = &base_state;

    put64(G_PML4, G_PDPT | 7);
    put64(G_PML4 + 8 * 256, G_PDPT2 | 3);
    put64(G_PDPT, G_PD | 7);
    put64(G_PD + 8 * (OR_CODE >> 21), G_PT_CODE | 7);
    put64(G_PD + 8 * (OR_WIN >> 21), G_PT_WIN | 7);
    put64(G_PT_CODE + 8 * (OR_CODE >> 12 & 511), OR_CODE | 7);
    for (unsigned i = 0; i < OR_WIN_SIZE >> 12; i++)
        put64(G_PT_WIN + 8 * i, (OR_WIN + 4096 * i) | (i < OR_DATA_SIZE >> 12 ? 7 : 5));
    put64(G_PDPT2, G_PD2 | 3);
    put64(G_PD2, G_PT2 | 3);
    for (unsigned i = 1; i < 16; i++)
        put64(G_PT2 + 8 * i, 4096 * i | 3);

    put64(G_GDT + 8, 0x00af9b000000ffff);
    put64(G_GDT + 16, 0x00cf93000000ffff);
    put64(G_GDT + (OR_CS32 & ~7), 0x00cffb000000ffff);
    put64(G_GDT + (OR_DS & ~7), 0x00cff3000000ffff);
    put64(G_GDT + (OR_CS64 & ~7), 0x00affb000000ffff);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t h = G_HIGH + G_HANDLERS + 16 * i;
        unsigned dpl = i == 3 || i == 4 ? 0xee00 : 0x8e00;

        put64(G_IDT + 16 * i,
              (h & 0xffff) | 8 << 16 | (uint64_t)dpl << 32 | (h >> 16 & 0xffff) << 48);
        put64(G_IDT + 16 * i + 8, h >> 32);
        memcpy(ram + G_HANDLERS + 16 * i, "\xe6\xf4\xf4\xeb\xfd", 5); /* out 0xf4, al; hlt; jmp */
    }
    put64(G_TSS + 4, G_HIGH + G_STACK);
    ram[G_TSS + 0x66] = 0x68; /* no I/O permission bitmap */

    hv_vp_get_state(part, 0, s);
    s->cr0 = 0x80050033;
    s->cr4 = 0x10000 | 0x40000 | 0x600 | 0x20;
    s->xcr0 = 7;
    s->cr3 = G_PML4;
    s->efer = 0xd01;
    s->gdtr_base = G_HIGH + G_GDT;
    s->gdtr_limit = 0xfff;
    s->idtr_base = G_HIGH + G_IDT;
    s->idtr_limit = 32 * 16 - 1;
    s->tr = (struct hv_segment){
        .base = G_HIGH + G_TSS, .limit = 0x67, .selector = 0x60, .attr = 0x8b
    };
    s->ss = s->ds = s->es = segment(OR_DS, 0xc0f3);
    s->fs = (struct hv_segment){ .attr = 0x100 };
    s->gs = segment(or_host_gs(), 0xc0f3);
    s->gs.base = OR_GS_BASE;
    s->run_state = HV_VP_RUNNING;
}

static void guest_run(const struct or_seq *q, struct or_state *out)
{
    struct hv_vp_state s = base_state;
    struct hv_exit why;
    uint64_t frame[6];
    uint64_t bv = 7;
    unsigned has_error;

    memcpy(ram + OR_WIN, q->win, OR_WIN_SIZE);
    hv_gpa_write(part, OR_CODE, q->code, OR_CODE_SIZE);
    memcpy(s.gpr, q->in.gpr, sizeof s.gpr);
    s.rip = q->in.rip;
    s.rflags = q->in.rflags;
    if (q->mode == X86_MODE_16)
        s.cs = (struct hv_segment){
            .base = OR_CODE, .limit = 0xffff, .selector = OR_CS16, .attr = 0xfb
        };
    else
        s.cs = q->mode == X86_MODE_32 ? segment(OR_CS32, 0xc0fb) : segment(OR_CS64, 0xa0fb);
    memset(s.xsave, 0, sizeof s.xsave);
    memcpy(s.xsave, q->in.fx, 416);
    memcpy(s.xsave + 512, &bv, 8);
    memcpy(s.xsave + 576, q->in.ymmh, 256);
    if (hv_vp_set_state(part, 0, &s)) {
        fprintf(stderr, "oracle: %s\n", hv_last_error());
        exit(2);
    }
    memset(ram + G_STACK - 64, 0, 64);
    alarm(20);
    hv_vp_run(part, 0, &why);
    hv_vp_get_state(part, 0, &s);
    memset(out, 0, sizeof *out);
    if (why.reason != HV_EXIT_CANCELED || s.rip - (G_HIGH + G_HANDLERS) >= 32 * 16) {
        fprintf(stderr, "oracle: the guest ended oddly: %s, rip 0x%llx\n", why.text,
                (unsigned long long)s.rip);
        out->vector = 0xff;
        return;
    }
    memcpy(out->gpr, s.gpr, sizeof s.gpr);
    out->vector = (uint8_t)((s.rip - (G_HIGH + G_HANDLERS)) / 16);
    has_error = out->vector == 8 || (out->vector >= 10 && out->vector <= 14) || out->vector == 17;
    memcpy(frame, ram + G_STACK - 8 * (5 + has_error), 8 * (5 + has_error));
    if (has_error)
        out->error = (uint32_t)frame[0];
    out->rip = frame[has_error];
    out->rflags = frame[has_error + 2];
    out->gpr[4] = frame[has_error + 3];
    out->cr2 = s.cr2;
    memcpy(out->fx, s.xsave, 416);
    memcpy(out->ymmh, s.xsave + 576, 256);
}

/* ---- comparison ---------------------------------------------------------------------------------------------------- */

static bool strict;

static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

/* Did both sides fault at the same CMPS, each on one of its operands? */
static bool cmps_order(const struct or_seq *q, const struct or_state *h, const struct or_state *g)
{
    const struct or_state *s[2] = { h, g };
    unsigned at = (unsigned)h->rip & (OR_CODE_SIZE - 1);
    struct x86_insn in;

    if (h->rip != g->rip || at >= q->len + q->at || x86_decode(q->code + at, 15, q->mode, &in) <= 0 ||
        in.op != X86_OP_CMPS)
        return false;
    for (unsigned i = 0; i < 2; i++) {
        unsigned a = (unsigned)s[i]->cr2 & 0xfff, si = (unsigned)h->gpr[6] & 0xfff, di = (unsigned)h->gpr[7] & 0xfff;

        /* Of the first byte, or of the second page's when the operand crosses. */
        if (s[i]->vector != 13 && s[i]->vector != 17 && (s[i]->vector != 14 || (a && a != si && a != di)))
            return false;
    }
    return true;
}

/* Differences, printed when @print; @return their number. */
static unsigned compare(const struct or_seq *q, const struct or_state *h, const struct or_state *g,
                        uint32_t undef, bool print)
{
    unsigned n = 0;
    bool narrow = q->mode != X86_MODE_64;
    uint64_t mask = narrow ? 0xffffffff : ~0ull;
    uint32_t fmask = 0x244fd5 & ~(strict ? 0 : undef);

#define DIFF(name, fmt, a, b)                                              \
    do {                                                                   \
        n++;                                                               \
        if (print)                                                         \
            printf("    %-8s host " fmt "  engine " fmt "\n", name, a, b); \
    } while (0)
    /* There the engine has memory of its own, which the host's side, in this process, reaches as well. */
    if (g->vector == 14 && g->cr2 >> 30 == 1)
        return 0;
    if (g->vector == 0xff) {
        if (print)
            printf("    the guest did not end in a handler; host vector %u\n", h->vector);
        return 1;
    }
    bool order = h->vector != 3 && cmps_order(q, h, g);

    if (h->vector != g->vector && !order)
        DIFF("vector", "%u", h->vector, g->vector);
    if (h->vector == g->vector && h->vector != 3 && !order) {
        if (h->vector == 14 && h->cr2 != g->cr2)
            DIFF("cr2", "%llx", (unsigned long long)h->cr2, (unsigned long long)g->cr2);
        if (h->error != g->error && (h->vector == 13 || (h->vector == 14 && h->cr2 < 1ull << 47)))
            DIFF("error", "%x", h->error, g->error);
    }
    for (unsigned i = 0; i < (narrow ? 8u : 16u); i++)
        if ((h->gpr[i] ^ g->gpr[i]) & mask)
            DIFF(gpr_name[i], "%016llx", (unsigned long long)h->gpr[i],
                 (unsigned long long)g->gpr[i]);
    if (h->rip != g->rip)
        DIFF("rip", "%llx", (unsigned long long)h->rip, (unsigned long long)g->rip);
    if ((h->rflags ^ g->rflags) & fmask)
        DIFF("rflags", "%llx", (unsigned long long)h->rflags, (unsigned long long)g->rflags);
    for (unsigned i = 0; i < 416; i += 2) {
        char name[32];

        if ((i >= 6 && i < 24) || (i >= 28 && i < 32) || i == 4 + 1)
            continue;
        if (i >= 32 && i < 160 && (i & 15) >= 10)
            continue;
        if (!memcmp(h->fx + i, g->fx + i, 2))
            continue;
        if (i == 4 && h->fx[4] == g->fx[4])
            continue;
        snprintf(name, sizeof name,
                 i == 0    ? "fcw"
                 : i == 2  ? "fsw"
                 : i == 4  ? "ftw"
                 : i < 28  ? "mxcsr+%u"
                 : i < 160 ? "st%u+"
                           : "xmm%u",
                 i < 28    ? i - 24
                 : i < 160 ? (i - 32) / 16
                           : (i - 160) / 16);
        if (i < 32) {
            DIFF(name, "%04x", h->fx[i] | h->fx[i + 1] << 8, g->fx[i] | g->fx[i + 1] << 8);
        } else {
            unsigned long long a[2], b[2];

            i &= ~15u;
            memcpy(a, h->fx + i, 16);
            memcpy(b, g->fx + i, 16);
            n++;
            if (print)
                printf("    %-8s host %016llx:%016llx  engine %016llx:%016llx\n", name, a[1], a[0],
                       b[1], b[0]);
            i += 14;
        }
    }
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(h->ymmh[i], g->ymmh[i], 16)) {
            unsigned long long a[2], b[2];
            char name[16];

            memcpy(a, h->ymmh[i], 16);
            memcpy(b, g->ymmh[i], 16);
            snprintf(name, sizeof name, "ymm%u.hi", i);
            n++;
            if (print)
                printf("    %-8s host %016llx:%016llx  engine %016llx:%016llx\n", name, a[1], a[0],
                       b[1], b[0]);
        }
    if (memcmp(or_host_window(), ram + OR_WIN, OR_WIN_SIZE)) {
        unsigned shown_n = 0;

        n++;
        for (unsigned i = 0; print && i < OR_WIN_SIZE && shown_n < 8; i += 8)
            if (memcmp(or_host_window() + i, ram + OR_WIN + i, 8)) {
                unsigned long long a, b, c;

                memcpy(&a, or_host_window() + i, 8);
                memcpy(&b, ram + OR_WIN + i, 8);
                memcpy(&c, q->win + i, 8);
                printf("    [%x]  host %016llx  engine %016llx  before %016llx\n", OR_WIN + i, a, b,
                       c);
                shown_n++;
            }
    }
    return n;
}

static void print_insn(const struct or_seq *q, unsigned k)
{
    unsigned at = q->start[k];
    struct x86_insn in;
    int len = x86_decode(q->code + at, 15, q->mode, &in);

    printf("  %x:", OR_CODE + at);
    for (int i = 0; i < len; i++)
        printf(" %02x", q->code[at + (unsigned)i]);
#ifdef HAVE_ZYDIS
    {
        ZydisDisassembledInstruction d;

        if (ZYAN_SUCCESS(ZydisDisassembleIntel(q->mode == X86_MODE_64 ? ZYDIS_MACHINE_MODE_LONG_64
                                               : q->mode == X86_MODE_32
                                                   ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                                   : ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
                                               OR_CODE + at, q->code + at, 15, &d)))
            printf("   %s", d.text);
    }
#endif
    printf("   (%s)\n", len > 0 ? x86_op_name(in.op) : "bad");
}

static void print_state(const struct or_state *s, bool narrow)
{
    for (unsigned i = 0; i < (narrow ? 8u : 16u); i++)
        printf("%s%-3s %016llx%s", i & 3 ? "  " : "    ", gpr_name[i],
               (unsigned long long)s->gpr[i], (i & 3) == 3 ? "\n" : "");
    printf("    rflags %llx  fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %02x%02x\n",
           (unsigned long long)s->rflags, s->fx[1], s->fx[0], s->fx[3], s->fx[2], s->fx[4],
           s->fx[25], s->fx[24]);
}

static void print_vectors(const struct or_state *s, const struct or_seq *q, unsigned k)
{
    struct x86_insn in;
    int len = x86_decode(q->code + q->start[k], 15, q->mode, &in);

    for (unsigned i = 0; len > 0 && i < in.nops; i++)
        if (in.o[i].kind == X86_O_VEC) {
            unsigned long long v[4];

            memcpy(v, s->fx + 160 + 16 * in.o[i].reg, 16);
            memcpy(v + 2, s->ymmh[in.o[i].reg], 16);
            printf("    ymm%u %016llx:%016llx:%016llx:%016llx\n", in.o[i].reg, v[3], v[2], v[1],
                   v[0]);
        }
    if (len > 0 && (in.attr & (X86_A_FPU | X86_A_MMX)))
        for (unsigned i = 0; i < 8; i++) {
            unsigned long long m;
            unsigned short e;

            memcpy(&m, s->fx + 32 + 16 * i, 8);
            memcpy(&e, s->fx + 40 + 16 * i, 2);
            printf("    st%u %04x:%016llx\n", i, e, m);
        }
}

static bool run_both(const struct or_seq *q, unsigned upto, bool print)
{
    unsigned left = or_host_tries();
    struct or_state h, g;
    uint32_t undef;

    guest_run(q, &g);
    do {
        or_host_run(q, &h);
        undef = q->undef[h.vector == 1 ? 0 : upto - 1]; /* 1: single step */
        if (!compare(q, &h, &g, undef, false))
            return false;
    } while (--left);
    if (print)
        compare(q, &h, &g, undef, true);
    return true;
}

static uint64_t seen[256];
static unsigned nseen;

static void bisect(const struct or_seq *q)
{
    static struct or_seq cut;
    struct or_state before;
    struct x86_insn in;
    unsigned k;
    uint64_t sig;

    for (k = 1; k <= q->n; k++) {
        if (q->dirty[k - 1])
            continue;
        cut = *q;
        memset(cut.code + q->start[k], 0xcc, OR_CODE_SIZE - q->start[k]);
        if (run_both(&cut, k, false))
            break;
    }
    if (k > q->n) {
        printf("a mismatch of the whole sequence does not show in its parts (branch between?)\n");
        k = q->n;
        cut = *q;
    }
    if (x86_decode(q->code + q->start[k - 1], 15, q->mode, &in) <= 0)
        memset(&in, 0, sizeof in);
    sig = (uint64_t)in.op << 32 | (uint64_t)(in.vex != 0) << 31 | in.map << 24 | in.pp << 16 |
          in.opcode << 8 | (in.op == X86_OP_X87 ? in.modrm & 0xf8 : q->mode);
    for (unsigned i = 0; i < nseen; i++)
        if (seen[i] == sig)
            return;
    if (nseen < 256)
        seen[nseen++] = sig;
    printf("MISMATCH (%u bits)\n", (unsigned)q->mode * 8);
    for (unsigned i = k; i > 1 && q->dirty[i - 2]; i--)
        print_insn(q, i - 2);
    print_insn(q, k - 1);
    memset(cut.code + q->start[k - 1], 0xcc, OR_CODE_SIZE - q->start[k - 1]);
    or_host_run(&cut, &before);
    printf("  before:\n");
    print_state(&before, q->mode != X86_MODE_64);
    print_vectors(&before, q, k - 1);
    cut = *q;
    memset(cut.code + q->start[k], 0xcc, OR_CODE_SIZE - q->start[k]);
    run_both(&cut, k, true);
    fflush(stdout);
}

/* The modes that the host runs; a line says what is missing. */
static unsigned host_modes(void)
{
    const char *why32 = or_host_refuses(X86_MODE_32), *why16 = or_host_refuses(X86_MODE_16);

    if (why32 && why16)
        printf("not compared: 32-bit code (%s), 16-bit code (%s)\n", why32, why16);
    else if (why32 || why16)
        printf("not compared: %s code (%s)\n", why32 ? "32-bit" : "16-bit", why32 ? why32 : why16);
    return X86_MODE_64 | (why32 ? 0u : X86_MODE_32) | (why16 ? 0u : X86_MODE_16);
}

static uint64_t number(const char *s, const char *what)
{
    char *end;
    uint64_t v;

    errno = 0;
    v = strtoull(s, &end, 0);
    if (errno || !*s || *end) {
        fprintf(stderr, "oracle: bad %s '%s'\n", what, s);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    uint64_t total = DEFAULT_COUNT, seed = 1, done = 0, sequences = 0;
    unsigned length = 20, max = 20, modes;
    enum x86_mode mode = 0;
    struct or_gen_options opt = { .feature = shown, .row = -1 };
    struct or_rng rng;
    static struct or_seq q;
    bool coverage = false;
    const char *err, *native;
    struct timespec t0, t1;
    int c;

    while ((c = getopt(argc, argv, "n:s:m:l:e:o:r:ucx:")) != -1)
        switch (c) {
        case 'n': total = number(optarg, "count"); break;
        case 's': seed = number(optarg, "seed"); break;
        case 'm':
            mode = (enum x86_mode)(number(optarg, "mode") / 8);
            if (mode != X86_MODE_16 && mode != X86_MODE_32 && mode != X86_MODE_64) {
                fprintf(stderr, "oracle: the mode is 16, 32 or 64\n");
                return 2;
            }
            break;
        case 'l': length = (unsigned)number(optarg, "length"); break;
        case 'e': engine = optarg; break;
        case 'o': opt.only = optarg; break;
        case 'r': opt.row = (int)number(optarg, "row"); break;
        case 'u': strict = true; break;
        case 'c': coverage = true; break;
        case 'x': max = (unsigned)number(optarg, "maximum"); break;
        default: return 2;
        }
    if (guest_init())
        return 2;
    err = or_host_init();
    if (err) {
        printf("SKIP: %s\n", err);
        return 77;
    }
    if (mode && or_host_refuses(mode)) {
        printf("SKIP: %s\n", or_host_refuses(mode));
        return 77;
    }
    opt.modes = mode ? mode : host_modes();
    guest_setup();
    native = getenv("MOBO_JIT_NATIVE");
    opt.no_selectors = native && !strcmp(native, "always"); /* executors have the host's */
    or_gen_init(&opt);
    if (!or_gen_rows()) {
        fprintf(stderr, "oracle: no instruction matches\n");
        return 2;
    }
    modes = or_gen_modes();
    rng.s[0] = seed * 0x9e3779b97f4a7c15ull + 1;
    rng.s[1] = seed ^ 0xd1b54a32d192ed03ull;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    while (done < total && nseen < max) {
        static const enum x86_mode turn[] = { X86_MODE_64, X86_MODE_32, X86_MODE_64, X86_MODE_16 };

        unsigned i = (unsigned)sequences++;

        while (!(turn[i & 3] & modes))
            i++;
        or_gen_sequence(&rng, turn[i & 3], 1 + or_below(&rng, length), &q);
        or_host_adapt(&q);
        done += q.n;
        if (run_both(&q, q.n, false))
            bisect(&q);
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    if (coverage)
        for (unsigned i = 0; i < or_gen_rows(); i++) {
            char text[64];

            or_gen_row_text(i, text, sizeof text);
            printf("%4u  %-24s %llu\n", i, text, (unsigned long long)or_gen_row_count(i));
        }
    {
        unsigned never = 0;

        for (unsigned i = 0; i < or_gen_rows(); i++)
            never += !or_gen_row_count(i);
        printf("%llu instructions in %llu sequences, %u opcode rows (%u not reached), seed %llu, "
               "%.1f s: %u mismatches\n",
               (unsigned long long)done, (unsigned long long)sequences, or_gen_rows(), never,
               (unsigned long long)seed,
               (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9, nseen);
    }
    hv_partition_destroy(part);
    return nseen ? 1 : 0;
}
