/* SPDX-License-Identifier: BSD-2-Clause */
/* Copies of pages of code in which instructions that an executor must not run are replaced.
 *
 * What looks like one may be data, or another instruction's middle: so only where one has been executed, or can be come to from
 * there by what comes next and by direct branches, or has a form that nothing else has, HLT is put, which raises #GP.
 * Where a page has others, too, it is not executed at all. */
#define _GNU_SOURCE
#include "hv/jit/native.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HLT = 0xf4 };

int jnat_patches_init(struct jnat *n)
{
    void *p;

    n->patch_fd = memfd_create("mobo-patch", MFD_CLOEXEC);
    if (n->patch_fd < 0)
        return -errno;
    p = ftruncate(n->patch_fd, JNAT_PATCHES * 4096) ? MAP_FAILED :
        mmap(NULL, JNAT_PATCHES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, n->patch_fd, 0);
    if (p == MAP_FAILED) {
        close(n->patch_fd);
        return -ENOMEM;
    }
    n->patch = p;
    return 0;
}

void jnat_patches_fini(struct jnat *n)
{
    if (!n->patch)
        return;
    munmap(n->patch, JNAT_PATCHES * 4096);
    close(n->patch_fd);
    n->patch = NULL;
}

static uint64_t *seen_at(struct jnat *n, uint64_t what) { return &n->seen[(what * 0x9e3779b97f4a7c15ull) >> 54]; }
static uint64_t page_of(uint64_t seen) { return seen >> 13; }
static unsigned place_of(uint64_t seen) { return (unsigned)(seen >> 1) & 4095; }

/* Its code is not mapped in executors any more. */
static void not_runnable(struct jnat *n, uint64_t ram_page)
{
    if (!(n->page[ram_page] & JNAT_CAN_RUN))
        return;
    if (n->page[ram_page] & JNAT_PATCHED)
        n->patch_of[jnat_code_from(n, ram_page) / 4096] = 0;
    n->page[ram_page] = (uint8_t)(n->page[ram_page] & ~JNAT_CAN_RUN);
    n->gone++;
}

static bool is_replaced(const struct jnat *n, uint64_t ram_page, unsigned off)
{
    uint64_t at = jnat_code_from(n, ram_page);

    return ~at && n->patch[at + off] == HLT;
}

void jnat_executed(struct jnat *n, uint64_t ram_page, unsigned off, bool sensitive)
{
    uint64_t what = ram_page << 13 | off << 1 | sensitive;

    if (*seen_at(n, what) == what)
        return;
    *seen_at(n, what) = what;
    n->page[ram_page] |= JNAT_SEEN;
    if (sensitive && (n->page[ram_page] & JNAT_CAN_RUN) && !is_replaced(n, ram_page, off)) /* it was not known: not to be run any more */
        not_runnable(n, ram_page);
    n->page[ram_page] = (uint8_t)(n->page[ram_page] & ~JNAT_SENSITIVE); /* to be looked at anew */
}

void jit_native_seen(struct hv_vp *vp, const struct x86_insn *in, uint64_t ram_page, unsigned off)
{
    struct jnat *n = vp->jit->nat;
    const uint8_t *p = vp->mmu.ram + (ram_page << 12);

    _Static_assert(JNAT_SEEN_SITES == 1 << (64 - 54), "the hash");
    if (!n || !jnat_is_sensitive(in->op))
        return;
    while (off < 4096 && p[off] != 0x0f) /* prefixes */
        off++;
    if (off < 4096)
        jnat_executed(n, ram_page, off, true);
}

/* What is known of a page's bytes, as bits: an instruction begins there, is there; 0F of one that must not run is. */
struct known { uint64_t begin[64], code[64], sensitive[64]; };

/* Instructions of the page @p, which does not change, that can be come to from @from. */
static void follow(const uint8_t *p, unsigned from, struct known *k)
{
    uint16_t stack[64];
    unsigned depth = 0;
    struct x86_insn in;

    stack[depth++] = (uint16_t)from;
    while (depth) {
        unsigned at = stack[--depth];

        while (at < 4096 && !jnat_bit(k->begin, at)) {
            int len = x86_decode(p + at, 4096 - at, X86_MODE_64, &in);
            int64_t to;

            if (len <= 0)
                break;
            jnat_set_bit(k->begin, at, true);
            for (unsigned i = at; i < at + (unsigned)len; i++)
                jnat_set_bit(k->code, i, true);
            if (jnat_is_sensitive(in.op)) {
                unsigned i = at;

                while (i < at + (unsigned)len && p[i] != 0x0f) /* prefixes */
                    i++;
                if (i < 4096)
                    jnat_set_bit(k->sensitive, i, true);
            }
            to = (int64_t)at + len + in.imm;
            if (in.nops && in.o[0].kind == X86_O_REL && to >= 0 && to < 4096 && depth < 64)
                stack[depth++] = (uint16_t)to;
            if (in.op == X86_OP_JMP_NEAR || in.op == X86_OP_JMP_IND || in.op == X86_OP_RET_NEAR || in.op == X86_OP_UD2 || in.op == X86_OP_INT3 || in.op == X86_OP_HLT)
                break;
            at += (unsigned)len;
        }
    }
}

/* What has been executed and was not found, as data are around it. */
static unsigned add_seen(const struct jnat *n, uint64_t ram_page, struct jnat_site *site, unsigned num)
{
    for (unsigned i = 0; i < JNAT_SEEN_SITES && num <= JNAT_SITES; i++) {
        unsigned at = place_of(n->seen[i]), k = 0;

        if (page_of(n->seen[i]) != ram_page || !(n->seen[i] & 1))
            continue;
        while (k < num && site[k].at != at)
            k++;
        if (k == num && num++ < JNAT_SITES)
            site[k] = (struct jnat_site){ (uint16_t)at, true };
    }
    return num;
}

void jnat_look_through(struct jnat *n, uint64_t ram_page, const uint8_t *p, const uint8_t *before)
{
    struct jnat_site site[JNAT_SITES];
    struct known known = { 0 };
    uint8_t page[4096], *to; /* other processors and devices may write to it meanwhile; then it is looked at again */
    unsigned num, slot;

    memcpy(page, p, sizeof(page));
    num = jnat_scan(page, before, site, JNAT_SITES);
    if (n->page[ram_page] & JNAT_SEEN)
        num = add_seen(n, ram_page, site, num);
    if (!num) {
        n->page[ram_page] |= JNAT_CLEAN;
        return;
    }
    n->page[ram_page] |= JNAT_SENSITIVE;
    if (num > JNAT_SITES)
        return;
    if (n->page[ram_page] & JNAT_SEEN)
        for (unsigned i = 0; i < JNAT_SEEN_SITES; i++) { /* from there on: it is known that code is there */
            if (page_of(n->seen[i]) != ram_page || !n->seen[i])
                continue;
            if (n->seen[i] & 1)
                jnat_set_bit(known.sensitive, place_of(n->seen[i]), true);
            follow(page, place_of(n->seen[i]), &known);
        }
    for (unsigned i = 0; i < num; i++) {
        unsigned at = site[i].at;

        if (jnat_bit(known.sensitive, at) || site[i].sure)
            continue;
        if (!jnat_bit(known.code, at)) /* nobody knows */
            return;
        site[i--] = site[--num]; /* something else's middle */
    }
    if (!num) {
        n->page[ram_page] = (uint8_t)((n->page[ram_page] & ~JNAT_SENSITIVE) | JNAT_CLEAN);
        return;
    }
    slot = n->next_patch++ % JNAT_PATCHES;
    if (n->patch_of[slot])
        jnat_patch_forget(n, n->patch_of[slot] - 1);
    to = n->patch + slot * 4096;
    memcpy(to, page, sizeof(page));
    for (unsigned i = 0; i < num; i++)
        to[site[i].at] = HLT;
    n->patch_of[slot] = (uint32_t)ram_page + 1;
    n->page[ram_page] = (uint8_t)((n->page[ram_page] & ~JNAT_SENSITIVE) | JNAT_PATCHED);
}

uint64_t jnat_code_from(const struct jnat *n, uint64_t ram_page)
{
    unsigned slot = 0;

    if (!(n->page[ram_page] & JNAT_PATCHED))
        return ~0ull;
    while (slot < JNAT_PATCHES - 1 && n->patch_of[slot] != ram_page + 1)
        slot++;
    return (uint64_t)slot * 4096;
}

void jnat_patch_forget(struct jnat *n, uint64_t ram_page)
{
    not_runnable(n, ram_page);
    if (n->page[ram_page] & JNAT_SEEN)
        for (unsigned i = 0; i < JNAT_SEEN_SITES; i++)
            if (page_of(n->seen[i]) == ram_page)
                n->seen[i] = 0;
    n->page[ram_page] &= JNAT_WRITTEN;
}
