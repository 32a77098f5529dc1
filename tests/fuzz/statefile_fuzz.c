/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target: any bytes as the file of a saved VM, with their checksums put right, so that more than those is
 * looked at.  The first byte says which: 1 header, 2 sections, 4 data. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/state/state.h"
#include "core/util/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RAM = 16 * 4096, INPUT_MAX = 1 << 17, HEADER = 64 };

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

static void put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}

static void checksums(uint8_t *b, size_t len, unsigned which)
{
    size_t at = HEADER;

    if (len < HEADER)
        return;
    while (at + HEADER <= len) {
        uint64_t n = u64_at(b + at + 8);

        if (n > len - at - HEADER)
            n = len - at - HEADER;
        if (which & 4)
            put32(b + at + 56, crc32c(0, b + at + HEADER, n));
        if (which & 2)
            put32(b + at + 60, crc32c(0, b + at, 60));
        at += HEADER + n + (8 - n % 8) % 8;
    }
    if (which & 1) {
        uint64_t total = len;

        memcpy(b + 16, &total, 8);
        put32(b + 60, crc32c(0, b, 60));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t ram[2][RAM], b[INPUT_MAX];
    const struct state_ram r[] = { { RAM, ram[0], -1, 0 }, { RAM, ram[1], -1, 0 } };
    struct diag diag = { "" };
    struct state_file *f;
    int fd, err;

    if (!len || len > INPUT_MAX)
        return 0;
    memcpy(b, data + 1, len - 1);
    checksums(b, len - 1, data[0]);
    fd = memfd_create("state", MFD_CLOEXEC);
    if (fd < 0 || write(fd, b, len - 1) != (ssize_t)len - 1)
        return 0;
    err = state_open_fd(fd, "x", &f, &diag);
    if (!err) {
        err = state_load_ram(f, r, 2, &diag);
        state_close(f);
    }
    if (err && !diag.text[0])
        __builtin_trap();
    return 0;
}
