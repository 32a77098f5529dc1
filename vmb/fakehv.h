/* SPDX-License-Identifier: BSD-2-Clause */
/* The hv library as unit tests of the board have it; one partition at a time. */
#ifndef VMB_FAKEHV_H
#define VMB_FAKEHV_H

#include <mobo/hv.h>

struct fakehv {
    struct hv_partition *part;
    bool a20, intr;
    unsigned resets, msis, nmis;
    uint64_t msi_addr;
    uint32_t msi_data;
};

extern struct fakehv fakehv;

/* Accesses as VP 0 would make them. */
uint32_t fakehv_in(unsigned port, unsigned len);
void fakehv_out(unsigned port, unsigned len, uint32_t val);
uint64_t fakehv_read(uint64_t gpa, unsigned len);
void fakehv_write(uint64_t gpa, unsigned len, uint64_t val);
int fakehv_ack(void);
void fakehv_eoi(unsigned vector);
/* Make hv_vp_run of VP 0 return so. */
void fakehv_exit(enum hv_exit_reason reason, const char *text);

#endif
