/* SPDX-License-Identifier: BSD-2-Clause */
/* A processor over a flat array of memory, for the unit tests of event.c, segment.c, transfer.c and task.c:
 * linear address = index, single pages can be made absent or read-only. */
#ifndef MOBO_HV_X86_SYS_TEST_H
#define MOBO_HV_X86_SYS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hv/x86/desc.h"

enum { ST_MEM = 1 << 20, ST_GDT = 0x1000, ST_LDT = 0x1800, ST_IDT = 0x2000, ST_TSS = 0x3000,
       ST_TSS2 = 0x3800, ST_STACK0 = 0x8000, ST_STACK3 = 0xa000, ST_CODE = 0x10000 };

struct sys_test {
    struct hv_vp vp;
    struct hv_partition p;
    uint8_t mem[ST_MEM];
    uint8_t page[ST_MEM / 4096]; /* bit 0 absent, bit 1 read-only */
    unsigned stores;             /* calls of x86_lin_write */
};
extern struct sys_test st;

static inline void st_put(uint32_t at, uint64_t v, unsigned len) { memcpy(st.mem + at, &v, len); }
static inline uint64_t st_get(uint32_t at, unsigned len)
{
    uint64_t v = 0;

    memcpy(&v, st.mem + at, len);
    return v;
}

/* A descriptor from its parts; @attr as struct x86_seg.attr; limit in units as stored. */
static inline uint64_t st_desc(uint32_t base, uint32_t limit, unsigned attr)
{
    return (limit & 0xffffu) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(attr >> 12 & 15) << 52 |
           (uint64_t)(base >> 24) << 56;
}
static inline uint64_t st_gate(uint16_t sel, uint32_t off, unsigned type, unsigned dpl, unsigned count)
{
    return (off & 0xffffu) | (uint64_t)sel << 16 | (uint64_t)count << 32 |
           (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(off >> 16) << 48;
}
static inline void st_gdt(uint16_t sel, uint64_t d) { st_put(ST_GDT + (sel & ~7u), d, 8); }

/* Outcome of a step: -1 completed, else the vector raised (vp.exc has the rest). */
#define ST_TRY(expr) (setjmp(st.vp.jmp) ? (int)st.vp.exc.vector : ((void)(expr), -1))

#endif
