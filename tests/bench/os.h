/* SPDX-License-Identifier: BSD-2-Clause */
/* The benchmark's tests of operating-system paths; see os.c. */
#ifndef BENCH_OS_H
#define BENCH_OS_H

#include "kernels.h"

extern const struct bench_kernel os_kernels[], smp_kernels[]; /* ended by a name of NULL */
extern const char *os_self; /* this program, for exec: with --exit it returns 3 at once */

#endif
