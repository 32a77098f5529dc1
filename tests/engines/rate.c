/* SPDX-License-Identifier: BSD-2-Clause */
/* Instruction rate of an engine on CPU-bound code (no operating system): rate ENGINE BLOB. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/engines/harness.h"

int main(int argc, char **argv)
{
    const char *engine = argc > 1 ? argv[1] : "interp";
    struct harness h;
    struct hv_exit e;
    struct timespec a, b;
    FILE *f = fopen(argc > 2 ? argv[2] : "kernels.bin", "rb");
    int r;

    if (!f || harness_open(&h, engine, 1)) {
        fprintf(stderr, "rate: %s\n", f ? hv_last_error() : "cannot open the blob");
        return 2;
    }
    size_t len = fread(h.ram + HARNESS_CODE, 1, 1 << 20, f);
    fclose(f);
    if (!len)
        return 2;
    harness_long_mode(&h, 0, 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    r = harness_run(&h, 300000, &e);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    if (r != HV_EXIT_CANCELED || !h.exited) {
        fprintf(stderr, "rate: ended with %d: %s\n", r, e.text);
        return 1;
    }
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    double n = (double)hv_counter_get(h.p, 0, HV_CTR_INSNS);

    printf("%s: result 0x%08x, %.0f M instructions, %.2f s CPU, %.0f MIPS\n", engine, h.exit_value, n * 1e-6, s, n * 1e-6 / s);
    harness_close(&h);
    return 0;
}
