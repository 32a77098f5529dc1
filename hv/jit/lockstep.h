/* SPDX-License-Identifier: BSD-2-Clause */
/* Comparison of translated blocks with the shared semantics; see lockstep.c. */
#ifndef MOBO_HV_JIT_LOCKSTEP_H
#define MOBO_HV_JIT_LOCKSTEP_H

#include "hv/jit/jit.h"

/** Set up what the partition's check (or MOBO_JIT_CHECK) asks for; before the first block is made.
 * @return 0, -EINVAL, -ENOMEM. */
int jit_lockstep_init(struct hv_vp *vp);
/** Print the counts, free. */
void jit_lockstep_fini(struct jit *j);
/** Is the next block to be compared?  Sets j->single, for which JKEY_SINGLE blocks are made. */
void jit_lockstep_turn(struct hv_vp *vp);
/** Block @b, of JKEY_SINGLE, is about to run from the run loop.  @return true: jit_lockstep_after has to follow. */
bool jit_lockstep_before(struct hv_vp *vp, const struct jblock *b);
void jit_lockstep_after(struct hv_vp *vp, const struct jblock *b);
/** An exception was raised, perhaps by a block that is compared.  Before the VP lets the others go on. */
void jit_lockstep_fault(struct hv_vp *vp);
/** Decode what is at cpu.rip.  Raises faults. */
void jit_decode_at_rip(struct hv_vp *vp, struct x86_insn *in);

#endif
