/* SPDX-License-Identifier: BSD-2-Clause */
/* libFuzzer target: damaged and hostile VHDX images.  Input: see disk_fuzz.h. */
#include "tests/fuzz/disk_fuzz.h"

static const uint64_t places[] = {
    0,         64 << 10,          128 << 10, 192 << 10, 256 << 10,         1 << 20,
    (1 << 20) + 4096, (1 << 20) + (512 << 10), 2 << 20, (2 << 20) + (64 << 10), 3 << 20,
    (2 << 20) + (64 << 10) + 48, 4 << 20, 5 << 20,
};

static struct memfile *make(unsigned n)
{
    static const enum block_type types[] = { BLOCK_TYPE_DYNAMIC, BLOCK_TYPE_DYNAMIC,
                                             BLOCK_TYPE_DIFFERENCING, BLOCK_TYPE_FIXED };

    return fuzz_image(BLOCK_VHDX, types[n], n == 1 || n == 2);
}

static void crc(struct memfile *m, uint64_t at, uint64_t len)
{
    if (at + len > m->size)
        return;
    put_le32(m->map + at + 4, 0);
    put_le32(m->map + at + 4, crc32c(0, m->map + at, (size_t)len));
}

static void checksums(struct memfile *m)
{
    crc(m, 64 << 10, 4096);
    crc(m, 128 << 10, 4096);
    crc(m, 192 << 10, 64 << 10);
    crc(m, 256 << 10, 64 << 10);
    for (uint64_t slot = 0; slot < 2; slot++) {
        uint64_t at = (1 << 20) + slot * (512 << 10);
        uint32_t len = get_le32(m->map + at + 8);
        if (memcmp(m->map + at, "loge", 4) == 0 && len >= 4096 && len <= 512 << 10)
            crc(m, at, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct fuzz_format f = { BLOCK_VHDX, places, COUNT(places), make, checksums };

    fuzz_one(&f, data, len);
    return 0;
}
