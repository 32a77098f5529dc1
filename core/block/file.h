/* SPDX-License-Identifier: BSD-2-Clause */
/* The file below an image: what the formats need of the host, and nothing else.  Tests put a file of
 * their own here, which loses and tears writes. */
#ifndef CORE_BLOCK_FILE_H
#define CORE_BLOCK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/block/request.h"
#include "core/util/diag.h"

struct bfile;

/* All return 0 or more, or -errno. */
struct bfile_ops {
    /** Read up to the end of the file.  @return bytes. */
    ssize_t (*readv)(struct bfile *f, const struct iovec *iov, int niov, uint64_t off);
    /** Write all or fail; the file grows as needed. */
    int (*writev)(struct bfile *f, const struct iovec *iov, int niov, uint64_t off);
    int (*sync)(struct bfile *f);
    int (*truncate)(struct bfile *f, uint64_t size);
    int (*size)(struct bfile *f, uint64_t *ret);
    /** Make a range read as zeroes, with or without giving its space back, not growing the file.
     * -EOPNOTSUPP: write zeroes instead. */
    int (*zero)(struct bfile *f, uint64_t off, uint64_t len, bool punch);
    /** Reserve space, growing the file.  -EOPNOTSUPP: cannot. */
    int (*allocate)(struct bfile *f, uint64_t off, uint64_t len);
    /** Whether data or a hole is at @off, and how far that goes (at most @len; 1 or more). */
    int (*extent)(struct bfile *f, uint64_t off, uint64_t len, bool *ret_data, uint64_t *ret_len);
    void (*close)(struct bfile *f);
    /** Begin a request that lies within the file; its end is r->done(), on any thread.  Optional, and
     * never blocks.  @return 0; -EAGAIN: only the functions above can do it. */
    int (*submit)(struct bfile *f, struct block_request *r);
    /** Read all of it if that needs no waiting (for a disk or a lock).  @return 0; -EAGAIN.  Optional. */
    int (*readv_nowait)(struct bfile *f, const struct iovec *iov, int niov, uint64_t off);
    /** Somebody waits for all requests (until told that nobody does): what depends on something that
     * may never come is to fail with -ENOTCONN soon.  Optional, any thread. */
    void (*hurry)(struct bfile *f, bool on);
};

struct bfile {
    const struct bfile_ops *ops;
    char *path;              /* owned by whoever made the file; "" when it has none */
    bool device, direct, read_only;
    uint32_t logical, physical; /* sector sizes of a device; 0: a file */
    uint64_t dev, ino;       /* identity, zeroes: none */
};

/** Open a file, a block device or a network block device.  @create: a new file, for writing. */
int bfile_open(const char *path, bool create, bool read_only, bool direct, bool lock,
               struct bfile **ret, struct diag *diag);
void bfile_close(struct bfile *f);
uint64_t bfile_host_bytes(struct bfile *f);

/** All of it, or -EIO past the end. */
int bfile_read(struct bfile *f, void *buf, size_t len, uint64_t off);
int bfile_write(struct bfile *f, const void *buf, size_t len, uint64_t off);
/** Zero a range by the best means; writes zeroes where the host has none. */
int bfile_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch);
/** Write zeroes, as data. */
int bfile_write_zero_data(struct bfile *f, uint64_t off, uint64_t len);

/* ---- a file seen through changes that are not in it yet ------------------------------------------ */

/** @below is owned by the overlay from then on; see overlay_detach(). */
struct bfile *overlay_create(struct bfile *below);
/** Reads of [off, off + len) give @data (copied), or zeroes when NULL; later ones win. */
int overlay_add(struct bfile *f, uint64_t off, uint64_t len, const void *data);
/** The size that it shows, when larger than the file's. */
void overlay_size(struct bfile *f, uint64_t size);
/** Write all changes to the file below, and sync. */
int overlay_apply(struct bfile *f);
/** Give the file below back and free the overlay. */
struct bfile *overlay_detach(struct bfile *f);

/* ---- slices of an I/O vector -------------------------------------------------------------------- */

struct iov_cursor {
    const struct iovec *iov;
    int niov;
    size_t skip; /* bytes of the first one that are used up */
};
enum { IOV_SLICE = 64 };
uint64_t iov_bytes(const struct iovec *iov, int niov);
/** Take up to @len bytes into @out (IOV_SLICE elements).  @return bytes; *ret_n elements. */
size_t iov_take(struct iov_cursor *c, uint64_t len, struct iovec *out, int *ret_n);
void iov_fill(const struct iovec *iov, int niov, size_t from, int byte);

#endif
