/* SPDX-License-Identifier: BSD-2-Clause */
/* What the translator shows of its work: counters beside those of every engine, lines of trace, a file of blocks with
 * guest and host code (observe.c), names and unwind data for perf and gdb (symbols.c).  All but the counters are off
 * unless asked for: j->observe is NULL. */
#ifndef MOBO_HV_JIT_OBSERVE_H
#define MOBO_HV_JIT_OBSERVE_H

#include "hv/jit/jit.h"

struct tr;

/* By which a block is dropped. */
enum jit_drop { JIT_DROP_STORE, JIT_DROP_REMADE, JIT_DROP_EVICTED, JIT_DROPS };

/** Set up what the partition's configuration (or MOBO_JIT_DUMP) asks for.  @return 0, negative errno with a sentence. */
int jit_observe_init(struct hv_vp *vp);
void jit_observe_fini(struct jit *j);
/** The counters that only this engine has.  Thread: any. */
void jit_counters(struct hv_vp *vp, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx);

/* Only if j->observe is not NULL. */
void jit_saw_code(const struct tr *t, const struct jblock *b, uint32_t cold, uint32_t cold_end);
void jit_saw_made(struct hv_vp *vp, const struct jblock *b, uint64_t ns);
void jit_saw_link(struct hv_vp *vp, const struct jblock *from, const struct jblock *to);
void jit_saw_drop(struct hv_vp *vp, const struct jblock *b, enum jit_drop why);
void jit_saw_evict(struct hv_vp *vp, uint32_t lo, uint32_t hi, unsigned blocks);
void jit_saw_reset(struct hv_vp *vp, const char *why);

/* symbols.c */
struct jit_symbols;
/** @how: "map", "dump[=FOLDER]", "gdb", with commas.  NULL with a sentence by hv_fail, whose value goes to *@err. */
struct jit_symbols *jit_symbols_create(struct hv_vp *vp, const char *how, int *err);
void jit_symbols_destroy(struct jit_symbols *s);
void jit_symbols_block(struct jit_symbols *s, const struct jit *j, const struct jblock *b);
/** The block's room will be somebody else's. */
void jit_symbols_gone(struct jit_symbols *s, const struct jit *j, const struct jblock *b);
void jit_symbols_all_gone(struct jit_symbols *s);
/** "u64" and so on: privilege and mode of a block. */
const char *jit_mode_name(uint32_t key);
const char *jit_form_name(struct jit *j, const struct jblock *b);

#endif
