/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtual disk images behind one interface: VHDX, VHD, raw files and block devices.
 *
 * An image behaves like a disk with a volatile write cache: a write is durable when a flush that
 * began after it has succeeded; before that, each sector of it may be old or new after a crash.
 * A flush is a real fsync().  The structures of a format (tables, bitmaps) are crash-safe at every
 * moment, whatever the order in which the host made unflushed writes durable.
 *
 * Every offset and length is in bytes and a multiple of the logical sector size.  Errors are
 * negative errno values; two have a meaning of their own:
 *   -ENOSPC  the host has no room: nothing is lost, the same request succeeds later (pause the VM)
 *   -EIO     the host could not store what it had taken: the image refuses writes from then on
 *   -ENOTCONN  the server of the image cannot be reached: as -ENOSPC
 *
 * Threads: the I/O functions may be called from any thread, also at the same time; open, close and
 * check are for one thread.  All of them block; block_queue has the form that does not. */
#ifndef CORE_BLOCK_BLOCK_H
#define CORE_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/block/request.h"
#include "core/util/diag.h"

struct block;
struct bfile;

enum block_format { BLOCK_AUTO, BLOCK_RAW, BLOCK_VHD, BLOCK_VHDX };
enum block_type { BLOCK_TYPE_FIXED, BLOCK_TYPE_DYNAMIC, BLOCK_TYPE_DIFFERENCING };

struct block_options {
    enum block_format format; /* BLOCK_AUTO: by content; a raw image only if it has no signature */
    bool read_only;
    bool direct;              /* O_DIRECT for aligned requests, where the file system can */
    bool no_lock;             /* do not claim the file: for images that someone else has open */
    bool no_parent;           /* do not open parents; reading unallocated sectors fails (info, check) */
    const char *parent;       /* overrides the place of the parent that the image names, or NULL */
};

struct block_create_options {
    enum block_format format;      /* BLOCK_AUTO: by the name's ending, else raw */
    enum block_type type;
    uint64_t size;                 /* bytes; 0 with a parent: the parent's */
    uint32_t block_size;           /* 0: default (VHDX 32M dynamic, 2M differencing; VHD 2M) */
    uint32_t logical_sector_size;  /* 0: 512, or the parent's */
    uint32_t physical_sector_size; /* 0: 4096 (VHDX), 512 (VHD) */
    const char *parent;            /* path, for differencing images */
};

struct block_info {
    const char *format, *type;     /* "vhdx", "dynamic"; constant strings */
    uint64_t size;                 /* of the disk */
    uint32_t logical_sector_size, physical_sector_size;
    uint32_t block_size;           /* allocation unit, 0: none */
    uint32_t cylinders, heads, sectors; /* CHS geometry for ATA disks */
    uint8_t disk_id[16];           /* stable identity in storage order; zeroes: none */
    bool read_only, direct, device;
    bool discard_zeroes;           /* what block_discard() took reads as zeroes */
    bool log_pending;              /* a log had to be taken into account on opening */
    uint64_t file_size;            /* of the image file */
    uint64_t host_bytes;           /* allocated on the host */
    uint64_t blocks, blocks_allocated;
    const char *parent;            /* path as found or named; NULL: none; valid until close */
};

/** Open an image and the chain of its parents.  Damage that the log of the image cannot repair is
 * refused, with the reason, and the file is left as it was.
 * @return 0 with *ret, or -errno with one line in @diag. */
int block_open(const char *path, const struct block_options *opt, struct block **ret,
               struct diag *diag);

/** Flush, mark the image clean, close it and its parents.  Takes NULL.
 * @return 0, or the error of the flush (everything is closed nonetheless). */
int block_close(struct block *b);

/** Make an image; an existing file is not touched (-EEXIST).  Nothing is left behind on failure. */
int block_create(const char *path, const struct block_create_options *opt, struct diag *diag);

void block_get_info(struct block *b, struct block_info *ret);
uint64_t block_size(const struct block *b);
uint32_t block_sector_size(const struct block *b);
bool block_read_only(const struct block *b);

int block_readv(struct block *b, uint64_t off, const struct iovec *iov, int niov);
int block_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov);
int block_read(struct block *b, uint64_t off, void *buf, size_t len);
int block_write(struct block *b, uint64_t off, const void *buf, size_t len);
int block_flush(struct block *b);
/** The contents are of no use any more; reads may give zeroes or what was there. */
int block_discard(struct block *b, uint64_t off, uint64_t len);
/** Reads give zeroes afterwards.  @unmap: host space may be given back. */
int block_write_zeroes(struct block *b, uint64_t off, uint64_t len, bool unmap);

/** Read if all of it is at hand: never waits for a disk or a lock.
 * @return 0; -EAGAIN: use block_readv(). */
int block_readv_nowait(struct block *b, uint64_t off, const struct iovec *iov, int niov);
/** Begin a request where that needs no thread: its end is r->done(), on any thread, perhaps before this
 * returns.  Never blocks.
 * @return 0; -EAGAIN: use the functions above; else the error, done() is not called. */
int block_submit(struct block *b, struct block_request *r);
/** Somebody waits for all requests, or does not any more: those that wait for a server fail soon with
 * -ENOTCONN.  Any thread. */
void block_hurry(struct block *b, bool on);

enum {
    BLOCK_MAP_DATA = 1, /* may hold something else than zeroes */
    BLOCK_MAP_OWN = 2,  /* in this image, not in a parent */
};
/** What is at @off: BLOCK_MAP_ flags for the @ret_len (1 to @len) bytes from there on. */
int block_map(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags, uint64_t *ret_len);

struct block_range {
    uint64_t off, len;
};
/** Ranges that may hold data, in order, neighbours joined; at most @max.
 * @ret_next  where to go on, or off + len at the end. */
int block_allocated_ranges(struct block *b, uint64_t off, uint64_t len, struct block_range *ranges,
                           size_t max, size_t *ret_count, uint64_t *ret_next);

/* ---- checking ---------------------------------------------------------------------------------- */

enum block_problem { BLOCK_NOTE, BLOCK_LEAK, BLOCK_ERROR };

struct block_check {
    /** One line for each finding; NULL: none wanted. */
    void (*report)(void *ctx, enum block_problem kind, const char *text);
    void *ctx;
    bool repair;
    /* results */
    unsigned errors;      /* what remains damaged */
    unsigned fixed;       /* what was damaged, and is no more */
    uint64_t leaked;      /* bytes of the file that nothing refers to */
    bool log_pending;     /* the log holds changes: opening for writing, or a repair, applies them */
    uint64_t blocks, blocks_allocated;
};

/** Check an image (parents are not looked at).  Without repair nothing is written.  A repair applies
 * the log, restores copies of headers and tables and frees leaked space; it never guesses.
 * @return 0 with the results, or -errno with @diag when it is no image that can be checked. */
int block_check(const char *path, const struct block_options *opt, struct block_check *check,
                struct diag *diag);

/* ---- copying ----------------------------------------------------------------------------------- */

/** Copy all of @from (not larger than @to) without what is zero, and flush; @to is new.
 * @progress  is told the bytes done, may end the copy with nonzero (-ECANCELED); NULL: none. */
int block_copy(struct block *from, struct block *to,
               int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
               struct diag *diag);

const char *block_format_name(enum block_format f);
/** @return 0, or -EINVAL. */
int block_format_parse(const char *name, enum block_format *ret);
/** By the ending of a file name: .vhdx, .vhd, else raw. */
enum block_format block_format_of_name(const char *path);

/* ---- on files that are open already (tests, network backends) ----------------------------------- */

/** The same on a file of the caller's making; it is owned by the image on success only. */
int block_open_file(struct bfile *file, const struct block_options *opt, struct block **ret,
                    struct diag *diag);
int block_create_file(struct bfile *file, const struct block_create_options *opt,
                      struct block *parent, struct diag *diag);
int block_check_file(struct bfile *file, const struct block_options *opt,
                     struct block_check *check, struct diag *diag);

#endif
