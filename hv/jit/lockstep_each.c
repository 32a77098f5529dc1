/* SPDX-License-Identifier: BSD-2-Clause */
/* Lock-step of each block (lockstep.c): none is used freely before it has been equal to the reference.
 *
 * Where a block that leads on to others (one without JKEY_SINGLE) would be made, its twin that comes back to the run loop
 * is made instead, of the same instructions with the same hints, and compared as often as was asked for; then the block
 * itself is made.  When that is made again in another way (it runs often, its slots miss), so is the twin, and both begin
 * anew.  This costs a few comparisons for each block, whatever the guest does with it: a boot is hardly longer.
 *
 * So that as much as possible is compared, blocks end before an instruction that cannot be, and such an instruction is a
 * block of its own.  What else was not compared is counted by its cause. */
#include "hv/jit/lockstep.h"

#include <stdio.h>

static struct lockstep_limit *limit_of(const struct lockstep *l, uint64_t phys)
{
    uint64_t h = phys * 0x9e3779b97f4a7c15ull;

    return (struct lockstep_limit *)&l->limit[h >> 48 & (LOCKSTEP_LIMITS - 1)];
}

unsigned jit_lockstep_limit(const struct jit *j, uint64_t phys, uint32_t key)
{
    const struct lockstep_limit *m = limit_of(j->lockstep, phys);

    if (!(key & JKEY_SINGLE) && !j->lockstep->times)
        return JIT_MAX_INSNS - 1;
    return m->n && m->phys == phys ? m->n : JIT_MAX_INSNS - 1;
}

bool jit_lockstep_cut(struct jit *j, const struct jblock *b)
{
    unsigned n = j->lockstep->done ? j->lockstep->done : 1;

    *limit_of(j->lockstep, b->phys) = (struct lockstep_limit){ b->phys, (uint8_t)n };
    if (n >= b->ninsns)
        return false;
    jit_block_drop(j, &j->blocks[b - j->blocks]);
    return true;
}

bool jit_lockstep_may_make(struct hv_vp *vp, uint64_t phys, uint32_t key)
{
    struct jit *j = jit_of(vp);
    struct lockstep *l = j->lockstep;
    const struct jblock *twin;

    if (key & JKEY_SINGLE)
        return true;
    if (l->from && !l->all && vp->cpu.rip >= l->from)
        l->all = true; /* single_key is of no use then */
    if (!l->times && !l->all)
        return true;
    if (!l->all) {
        twin = jit_block_find(j, vp->cpu.rip, phys, key | JKEY_SINGLE);
        if (twin && twin->tries >= l->times) {
            if (twin->equal)
                l->distinct++;
            else
                l->unseen[twin->why]++;
            return true;
        }
    }
    j->gated = true;
    j->single_key = (key & JKEY_NOGROUP) | JKEY_SINGLE;
    return false;
}

void jit_lockstep_remade(struct jit *j, struct jblock *b)
{
    struct jblock *twin = b->key & JKEY_SINGLE ? NULL : jit_block_find(j, jit_rip_of(j, b), b->phys, b->key | JKEY_SINGLE);

    if (twin)
        jit_block_drop(j, twin);
}

void jit_lockstep_each_report(const struct jit *j)
{
    const struct lockstep *l = j->lockstep;

    if (l->times)
        fprintf(stderr,
                "translator: VP %u: %llu blocks made after their equals, and %llu not comparable: %llu by their operation, %llu by "
                "their accesses, %llu left early\n",
                j->vp->index, (unsigned long long)l->distinct,
                (unsigned long long)l->unseen[LOCKSTEP_OP] + l->unseen[LOCKSTEP_MEMORY] + l->unseen[LOCKSTEP_LEFT] + l->unseen[LOCKSTEP_NONE],
                (unsigned long long)l->unseen[LOCKSTEP_OP], (unsigned long long)l->unseen[LOCKSTEP_MEMORY],
                (unsigned long long)l->unseen[LOCKSTEP_LEFT] + l->unseen[LOCKSTEP_NONE]);
}
