/* SPDX-License-Identifier: BSD-2-Clause */
/* A second processor in the 64-bit guests: started by INIT and SIPI, runs one function after the other.
 * Reference: Intel SDM volume 3A 8.4, 11.6. */
#ifndef BARE_SMP_H
#define BARE_SMP_H

#include "rt.h"

extern uint8_t ap_begin[], ap_end[];
static volatile uint32_t ap_alive, ap_done;
static void (*volatile ap_fn)(void);

static inline volatile uint32_t *apic(unsigned reg) { return (volatile uint32_t *)(0xfee00000ul + reg); }

/** Busy wait; TSC ticks are far below 10 GHz. */
static inline void delay(uint64_t ticks)
{
    uint64_t t = rdtsc();

    while (rdtsc() - t < ticks)
        __asm__ volatile("pause");
}

void ap_main(void)
{
    __asm__ volatile("lidt %0" ::"m"(idtr));
    ap_alive = 1;
    for (;;) {
        while (!ap_fn)
            __asm__ volatile("pause");
        ap_fn();
        ap_fn = NULL;
        ap_done++;
    }
}

static inline void ap_wait(void)
{
    while (ap_fn)
        __asm__ volatile("pause");
}

/** Run @fn on the other processor.  @return false when there is none. */
static inline bool ap_start(void (*fn)(void))
{
    if (!ap_alive) {
        uint64_t t0;

        memcpy((void *)0x8000, ap_begin, (size_t)(ap_end - ap_begin));
        *apic(0xf0) = 0x1ff;
        *apic(0x300) = 0xc4500; /* INIT to all but self */
        delay(20000000);
        *apic(0x300) = 0xc4608;
        t0 = rdtsc();
        while (!ap_alive && rdtsc() - t0 < 300000000)
            __asm__ volatile("pause");
        if (!ap_alive) {
            *apic(0x300) = 0xc4608;
            while (!ap_alive && rdtsc() - t0 < 600000000)
                __asm__ volatile("pause");
        }
        if (!ap_alive)
            return false;
    }
    ap_wait();
    ap_fn = fn;
    return true;
}

#endif
