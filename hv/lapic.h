/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC of one VP (SDM 3A chapter 11): xAPIC and x2APIC, timer, interrupt command register. */
#ifndef MOBO_HV_LAPIC_H
#define MOBO_HV_LAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct hv_vp;

struct hv_lapic {
    pthread_mutex_t lock;        /* guards all below; taken by any thread */
    uint32_t reg[64];            /* register n at byte offset n * 16 (SDM table 11-1) */
    uint64_t base;               /* IA32_APIC_BASE */
    uint64_t tsc_deadline;
    uint64_t timer_start_ns;
    uint64_t timer_deadline_ns;  /* guest ns, UINT64_MAX none */
    _Atomic uint8_t init_pending, sipi_pending, nmi_pending;
    uint8_t sipi_vector;
};

#endif
