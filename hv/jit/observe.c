/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator's counters, its trace and its file of blocks.
 *
 * Trace: a line for each block that is made, chained to another, dropped or given up, and for each reset of the cache.  A
 * guest can make as many of these as it likes: more than TRACE_BURST in a second are counted and not written.
 *
 * The file of blocks is text: a line "block", then for each instruction its bytes and name and the host code that was made
 * of it, then what is seldom run.  mobo-disasm adds the instructions in words. */
#define _GNU_SOURCE
#include "hv/jit/observe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/infra.h"
#include "hv/jit/native.h"
#include "hv/jit/tr.h"

enum { TRACE_BURST = 20000, TRACE_LEVEL = 4 /* of hv_ops.log */, TOP_OPS = 12, DUMP_ROOM = 4 * JIT_BLOCK_MAX };

struct jit_observe {
    bool trace;
    uint64_t second;                /* of the lines that are counted */
    unsigned lines, left_out;
    FILE *dump;
    uint64_t lo, hi;                /* blocks that have a byte there are dumped */
    struct jit_symbols *symbols;
};

/* ---- counters ---- */

static const char *const stat_names[JIT_STATS] = {
    [JST_INSNS] = "code-insns",
    [JST_MADE_WARM] = "blocks-warm",
    [JST_MADE_HOT] = "blocks-hot",
    [JST_CHAINED] = "blocks-chained",
    [JST_UNCHAINED] = "blocks-unchained",
    [JST_DROP_STORE] = "drops-store",
    [JST_DROP_REMADE] = "drops-remade",
    [JST_DROP_EVICTED] = "drops-evicted",
    [JST_FOUND] = "dispatch-found",
    [JST_OUT] = "dispatch-out",
    [JST_MISS_READ] = "miss-read",
    [JST_MISS_WRITE] = "miss-write",
    [JST_MISS_CODE] = "miss-code-page",
    [JST_MISS_WINDOW] = "miss-window",
    [JST_MISS_C] = "miss-by-c",
    [JST_SLOT_TLB] = "slot-from-tlb",
    [JST_MISS_SLOT] = "miss-slot",
    [JST_INTERP] = "interp-steps",
};

static uint64_t read64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }

/* What programs in executors did: turns, ns of the turns and of that in the program; and why it was handed over. */
static void jit_native_counters(const struct jnat *n, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx)
{
    fn(ctx, "native-turns", read64(&n->turns));
    fn(ctx, "native-ns", read64(&n->all));
    fn(ctx, "native-program-ns", read64(&n->there));
    fn(ctx, "native-made", read64(&n->made));
    fn(ctx, "native-calls", read64(&n->calls));
    fn(ctx, "native-faults", read64(&n->faults));
    fn(ctx, "native-mapped", read64(&n->mapped));
    fn(ctx, "native-kicks", read64(&n->kicks));
    fn(ctx, "native-interpreted", read64(&n->interpreted));
}

void jit_counters(struct hv_vp *vp, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx)
{
    const struct jit *j = vp->jit;
    unsigned top[TOP_OPS], n = 0;
    uint64_t val[TOP_OPS];

    if (!j)
        return;
    if (j->nat)
        jit_native_counters(j->nat, fn, ctx);
    for (unsigned i = 0; i < JIT_STATS; i++)
        fn(ctx, stat_names[i], read64(&j->stat[i]));
    fn(ctx, "code-used", read64(&j->code_used));
    fn(ctx, "code-size", read64(&j->code_size));
    for (unsigned op = 0; op < X86_OP_COUNT; op++) {
        uint64_t v = read64(&j->by_c[op]);
        unsigned at = n;

        while (at > 0 && val[at - 1] < v)
            at--;
        if (!v || at == TOP_OPS)
            continue;
        n += n < TOP_OPS;
        for (unsigned i = n - 1; i > at; i--)
            top[i] = top[i - 1], val[i] = val[i - 1];
        top[at] = op;
        val[at] = v;
    }
    for (unsigned i = 0; i < n; i++) {
        char name[48];

        snprintf(name, sizeof(name), "by-c-%s", x86_op_name(top[i]));
        fn(ctx, name, val[i]);
    }
}

/* ---- trace ---- */

const char *jit_mode_name(uint32_t key)
{
    static const char *const names[2][2] = { { "k32", "k64" }, { "u32", "u64" } };

    return names[!!(key & X86_KEY_USER)][!!(key & X86_KEY_MODE64)];
}

const char *jit_form_name(struct jit *j, const struct jblock *b)
{
    uint8_t hint = *jit_hint(j, b->phys);

    return b->key & JKEY_SINGLE ? "single" : j->always_hot || (hint & JHINT_HOT) ? "hot" : hint & JHINT_WARM ? "warm" : "cold";
}

static void line(struct hv_vp *vp, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct hv_vp *vp, const char *fmt, ...)
{
    struct jit_observe *o = jit_of(vp)->observe;
    uint64_t now = hv_host_ns() / 1000000000;
    char text[256];
    va_list ap;

    if (now != o->second) {
        if (o->left_out)
            hv_log(vp->p, TRACE_LEVEL, "vp %u: %u lines left out", vp->index, o->left_out);
        o->second = now;
        o->lines = o->left_out = 0;
    }
    if (o->lines == TRACE_BURST) {
        o->left_out++;
        return;
    }
    o->lines++;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    hv_log(vp->p, TRACE_LEVEL, "vp %u: %s", vp->index, text);
}

typedef unsigned long long ull;

void jit_saw_made(struct hv_vp *vp, const struct jblock *b, uint64_t ns)
{
    struct jit *j = jit_of(vp);

    if (j->observe->trace)
        line(vp, "made 0x%llx ram 0x%llx %s %s, %u bytes, %u instructions, %u bytes of host code at 0x%x, %llu ns", (ull)b->made_at,
             (ull)b->phys, jit_mode_name(b->key), jit_form_name(j, b), b->len, b->ninsns, b->size, b->main, (ull)ns);
    if (j->observe->symbols)
        jit_symbols_block(j->observe->symbols, j, b);
}

void jit_saw_link(struct hv_vp *vp, const struct jblock *from, const struct jblock *to)
{
    if (jit_of(vp)->observe->trace)
        line(vp, "chained 0x%llx to 0x%llx", (ull)from->made_at, (ull)to->made_at);
}

void jit_saw_drop(struct hv_vp *vp, const struct jblock *b, enum jit_drop why)
{
    static const char *const by[JIT_DROPS] = { "by a store", "to be made again", "as the cache is full" };

    if (jit_of(vp)->observe->trace)
        line(vp, "dropped 0x%llx ram 0x%llx %s", (ull)b->made_at, (ull)b->phys, by[why]);
    if (jit_of(vp)->observe->symbols && why == JIT_DROP_EVICTED)
        jit_symbols_gone(jit_of(vp)->observe->symbols, jit_of(vp), b);
}

void jit_saw_evict(struct hv_vp *vp, uint32_t lo, uint32_t hi, unsigned blocks)
{
    struct jit *j = jit_of(vp);

    if (j->observe->trace)
        line(vp, "evicted %u blocks of host code 0x%x to 0x%x, of %u segments", blocks, lo, hi, j->nsegs);
}

void jit_saw_reset(struct hv_vp *vp, const char *why)
{
    struct jit *j = jit_of(vp);

    if (j->observe->trace)
        line(vp, "reset of the cache: %s", why);
    if (j->observe->symbols)
        jit_symbols_all_gone(j->observe->symbols);
}

/* ---- the file of blocks ---- */

static void print_code(FILE *f, const struct jit *j, const char *what, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    fprintf(f, "  %s 0x%llx", what, (ull)(uintptr_t)(j->rx + from));
    for (uint32_t k = from; k < to; k++)
        fprintf(f, " %02x", j->rw[k]);
    fprintf(f, "\n");
}

void jit_saw_code(const struct tr *t, const struct jblock *b, uint32_t cold, uint32_t cold_end)
{
    struct jit *j = t->j;
    FILE *f = j->observe->dump;

    if (!f || b->made_at > j->observe->hi || b->made_at + b->len - 1 < j->observe->lo)
        return;
    fprintf(f, "block %u vp %u rip 0x%llx ram 0x%llx mode %s form %s key 0x%x size %u\n", t->blockno, j->vp->index, (ull)b->made_at,
            (ull)b->phys, jit_mode_name(b->key), jit_form_name(j, b), b->key, b->size);
    print_code(f, j, "enter", b->ind, t->ti[0].host);
    for (unsigned i = 0; i < t->n; i++) {
        const struct ti *ti = &t->ti[i];

        fprintf(f, "  guest 0x%llx", (ull)b->made_at + ti->off);
        for (unsigned k = 0; k < ti->in.len && b->page2 == ~0ull; k++)
            fprintf(f, " %02x", t->page[(b->phys & 4095) + ti->off + k]);
        fprintf(f, " ; %s live %02x-%02x\n", x86_op_name(ti->in.op), ti->live_in, ti->live_out);
        print_code(f, j, "host", ti->host, t->ti[i + 1].host);
    }
    print_code(f, j, "leave", t->ti[t->n].host, b->end);
    print_code(f, j, "cold", cold, cold_end);
    fflush(f);
}

/* FILE[:ADDRESS-ADDRESS], in the guest. */
static int dump_open(struct jit_observe *o, const char *how, unsigned vp)
{
    const char *colon = strrchr(how, ':');
    unsigned long long lo = 0, hi = ~0ull;
    char *name, end;
    int n;

    if (colon && sscanf(colon, ":%llx-%llx%c", &lo, &hi, &end) == 2 && lo <= hi)
        n = asprintf(&name, "%.*s", (int)(colon - how), how);
    else if (colon && !strchr(colon, '/') && strchr(colon, '-'))
        return hv_fail(-EINVAL, "a dump of blocks to '%.200s': not FILE:ADDRESS-ADDRESS", how);
    else
        n = asprintf(&name, "%s", how);
    if (n < 0)
        return hv_fail(-ENOMEM, "translator: no memory");
    o->lo = lo;
    o->hi = hi;
    o->dump = vp ? NULL : fopen(name, "w");
    if (o->dump)
        fclose(o->dump);
    o->dump = vp || o->dump ? fopen(name, "a") : NULL; /* of all VPs */
    n = -errno;
    if (!o->dump)
        hv_fail_text("cannot write '%.200s': %s", name, strerror(-n));
    else
        setvbuf(o->dump, NULL, _IOFBF, DUMP_ROOM); /* a block at a time */
    free(name);
    return o->dump ? 0 : n;
}

int jit_observe_init(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    const char *dump = vp->p->jit_dump ? vp->p->jit_dump : getenv("MOBO_JIT_DUMP");
    struct jit_observe *o;
    int err = 0;

    if (!vp->p->jit_trace && !dump && !vp->p->symbols)
        return 0;
    o = calloc(1, sizeof(*o));
    if (!o)
        return hv_fail(-ENOMEM, "translator: no memory");
    j->observe = o;
    o->trace = vp->p->jit_trace;
    if (dump)
        err = dump_open(o, dump, vp->index);
    if (!err && vp->p->symbols)
        o->symbols = jit_symbols_create(vp, vp->p->symbols, &err);
    return err;
}

void jit_observe_fini(struct jit *j)
{
    struct jit_observe *o = j->observe;

    if (!o)
        return;
    if (o->left_out)
        hv_log(j->vp->p, TRACE_LEVEL, "vp %u: %u lines left out", j->vp->index, o->left_out);
    if (o->dump)
        fclose(o->dump);
    jit_symbols_destroy(o->symbols);
    free(o);
    j->observe = NULL;
}
