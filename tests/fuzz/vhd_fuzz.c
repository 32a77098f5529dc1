/* SPDX-License-Identifier: BSD-2-Clause */
/* libFuzzer target: damaged and hostile VHD images.  Input: see disk_fuzz.h. */
#include "tests/fuzz/disk_fuzz.h"

static const uint64_t places[] = { 0, 512, 512 + 576, 1536, 2048, 4096, 4 << 20, 2 << 20, 40, 544 };

static struct memfile *make(unsigned n)
{
    static const enum block_type types[] = { BLOCK_TYPE_DYNAMIC, BLOCK_TYPE_DYNAMIC,
                                             BLOCK_TYPE_DIFFERENCING, BLOCK_TYPE_FIXED };

    return fuzz_image(BLOCK_VHD, types[n], n == 1);
}

static void sum(struct memfile *m, uint64_t at, unsigned len, unsigned field)
{
    uint32_t s = 0;

    if (at + len > m->size)
        return;
    put_be32(m->map + at + field, 0);
    for (unsigned i = 0; i < len; i++)
        s += m->map[at + i];
    put_be32(m->map + at + field, ~s);
}

/* Both footers are the changed one: else they are of different disks. */
static void checksums(struct memfile *m)
{
    sum(m, 512, 1024, 36);
    if (m->size < 1024 || memcmp(m->map, "conectix", 8) != 0)
        return;
    sum(m, 0, 512, 64);
    memcpy(m->map + m->size - 512, m->map, 512);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct fuzz_format f = { BLOCK_VHD, places, COUNT(places), make, checksums };

    fuzz_one(&f, data, len);
    return 0;
}
