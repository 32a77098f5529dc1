/* SPDX-License-Identifier: BSD-2-Clause */
/* A bare partition for engine tests: RAM, one VP in a chosen mode, a blob of code, no devices.
 *
 * Ports: a write to 0xf4 ends the run with its value; bytes written to 0xe9 are collected. */
#ifndef MOBO_TESTS_HARNESS_H
#define MOBO_TESTS_HARNESS_H

#include <mobo/hv.h>

enum { HARNESS_CODE = 0x100000, HARNESS_STACK = 0x200000, HARNESS_RAM = 64 << 20 };

struct harness {
    struct hv_partition *p;
    uint8_t *ram;          /* HARNESS_RAM bytes at guest-physical 0 */
    uint32_t exit_value;   /* last write to port 0xf4 */
    bool exited;
    char out[4096];
    size_t nout;
};

/** Create with @engine and @vps processors.  @return 0 or a negative errno. */
int harness_open(struct harness *h, const char *engine, unsigned vps);
/** For a program's start: where @engine does not work on this host, says why and ends the process with 77 (skipped). */
void harness_needs(const char *engine);
void harness_close(struct harness *h);
/** VP @vp in long mode (CPL 0 or 3), identity mapping of all RAM by 2 MB pages (user accessible, writable), GDT
 * with flat segments, at HARNESS_CODE with RSP = HARNESS_STACK. */
void harness_long_mode(struct harness *h, unsigned vp, unsigned cpl);
/** VP @vp in flat 32-bit protected mode without paging. */
void harness_protected(struct harness *h, unsigned vp);
/** Run VP 0 until port 0xf4 is written, something else ends it, or @timeout_ms passed.
 * @return the exit reason; HV_EXIT_CANCELED with h->exited for the port. */
int harness_run(struct harness *h, unsigned timeout_ms, struct hv_exit *ret);

#endif
