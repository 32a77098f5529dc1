/* SPDX-License-Identifier: BSD-2-Clause */
/* A file for the tests of disk images: in memory, remembers every write, loses and tears what was
 * not synced, and runs out of space when told to. */
#ifndef TESTS_DISK_MEMFILE_H
#define TESTS_DISK_MEMFILE_H

#include <stdatomic.h>

#include "core/block/file.h"

enum mem_kind { MEM_WRITE, MEM_TRUNCATE, MEM_ZERO, MEM_SYNC };

struct mem_op {
    enum mem_kind kind;
    uint64_t off, len; /* truncate: off is the size */
    uint8_t *data;
};

struct memfile {
    struct bfile f;
    int fd;            /* of the contents; -1: a private view of another file's */
    uint8_t *map;
    _Atomic uint64_t size;
    bool record, no_punch;
    struct mem_op *ops;
    size_t nops, room;
    uint64_t limit;    /* growing and writing beyond it fails with -ENOSPC */
    int sync_error;    /* what sync returns, once */
    atomic_uint changes; /* writes, truncates, zeroes so far */
};

struct memfile *memfile_create(const char *path);
/** A copy-on-write view of @m as it is; @m must not change while it is there. */
struct memfile *memfile_view(const struct memfile *m);
/** Independent copy. */
struct memfile *memfile_copy(const struct memfile *m);
void memfile_destroy(struct memfile *m);
/** Apply an operation of a record; @seed 0: all of it, else maybe a part, by 512-byte sectors. */
void memfile_apply(struct memfile *m, const struct mem_op *op, uint64_t *seed);
void memfile_forget(struct memfile *m);

uint64_t rnd(uint64_t *state);

#endif
