/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz targets of the image formats: an input is a list of changes to a good image.
 *
 *   byte 0     bits 1:0 which image, bit 2 read only, bit 3 leave checksums as they are,
 *              bit 4 cut the file off (the next two bytes: its size in units of 512),
 *              bit 5 check and repair instead of reading and writing
 *   then       place (1 byte), offset (2 bytes, little endian), count (1 byte), bytes ... */
#ifndef TESTS_FUZZ_DISK_FUZZ_H
#define TESTS_FUZZ_DISK_FUZZ_H

#include "core/block/block_int.h"
#include "tests/disk/memfile.h"

struct fuzz_format {
    enum block_format format;
    const uint64_t *places;
    size_t nplaces;
    /** Build image @n (0 to 3). */
    struct memfile *(*make)(unsigned n);
    void (*checksums)(struct memfile *m);
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

void fuzz_one(const struct fuzz_format *f, const uint8_t *data, size_t len);
/** A new image with some data in it; @log: as a crash leaves it; @parent: differencing. */
struct memfile *fuzz_image(enum block_format format, enum block_type type, bool log);

#endif
