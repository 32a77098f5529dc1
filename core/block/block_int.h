/* SPDX-License-Identifier: BSD-2-Clause */
/* What the image formats and the common part share. */
#ifndef CORE_BLOCK_BLOCK_INT_H
#define CORE_BLOCK_BLOCK_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/block/block.h"
#include "core/util/crc32c.h"
#include "core/block/file.h"

#define MIB (1ULL << 20)

struct block_driver {
    const char *name;
    enum block_format format;
    /** Read and check the structures in b->file; fill size, sectors, chs, type.  With @check,
     * findings are reported and the image stays open as far as it makes sense. */
    int (*open)(struct block *b, const struct block_options *opt, struct block_check *check,
                struct diag *diag);
    /** Write back what is in memory and mark the image clean (not after a failure), then free. */
    int (*close)(struct block *b);
    int (*readv)(struct block *b, uint64_t off, const struct iovec *iov, int niov);
    int (*writev)(struct block *b, uint64_t off, const struct iovec *iov, int niov);
    int (*flush)(struct block *b);
    int (*discard)(struct block *b, uint64_t off, uint64_t len);
    int (*write_zeroes)(struct block *b, uint64_t off, uint64_t len, bool unmap);
    int (*map)(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
               uint64_t *ret_len);
    void (*info)(struct block *b, struct block_info *ret);
    /** Find (and repair) what open() does not report. */
    int (*check)(struct block *b, struct block_check *check, struct diag *diag);
    int (*create)(struct bfile *f, const struct block_create_options *opt, struct block *parent,
                  struct diag *diag);
    /** Read if it needs no waiting.  @return 0; -EAGAIN.  Optional. */
    int (*readv_nowait)(struct block *b, uint64_t off, const struct iovec *iov, int niov);
    /** See block_submit(); the request is sound.  Optional. */
    int (*submit)(struct block *b, struct block_request *r);
    /** Whether @parent is the one that this differencing image was made for. */
    int (*check_parent)(struct block *b, struct block *parent, struct diag *diag);
};

struct block {
    const struct block_driver *driver;
    struct bfile *file;         /* owned */
    struct block *parent;       /* owned, NULL: none */
    void *state;                /* of the driver, owned by it */
    uint64_t size;
    uint32_t logical, physical; /* sector sizes */
    uint32_t block_size;        /* 0: none */
    uint32_t cyls, heads, spt;
    uint8_t disk_id[16];
    enum block_type type;
    bool read_only;
    bool log_pending;
    bool probed;                /* the format was found by content */
    bool opened;                /* close() may write */
    atomic_int failed;          /* -EIO: the host lost data, no more writes */
    char *parent_path;          /* as found or named; owned */
    char **parent_names;        /* where the image says its parent is, best first; NULL ends; owned */
};

extern const struct block_driver block_raw, block_vhd, block_vhdx;

/* A host error while making data durable is final. */
int block_sync(struct block *b);
/** Read from the parent: zeroes beyond its end or without one. */
int block_read_parent(struct block *b, uint64_t off, const struct iovec *iov, int niov);
/** What the parent has there. */
int block_map_parent(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
                     uint64_t *ret_len);
/** Extent of a range of b->file as flags of this image. */
int block_map_file(struct block *b, uint64_t file_off, uint64_t len, unsigned *ret_flags,
                   uint64_t *ret_len);
/** Write @len zeroes through the driver's writev. */
int block_write_zero_buffers(struct block *b, uint64_t off, uint64_t len);
/** Random bytes, never all zero. */
void block_random_id(uint8_t id[16]);
/** Add a place for the parent; @name in UTF-8 is taken over. */
int block_add_parent_name(struct block *b, char *name);
/** The way from the folder of @from to @to, both paths of files; NULL: no memory or no such. */
char *block_relative_path(const char *from, const char *to);
/** The geometry that ATA disks of VHD files have (VHD specification, appendix: CHS calculation). */
void block_chs(uint64_t nsect, uint32_t *ret_cyls, uint32_t *ret_heads, uint32_t *ret_spt);

/** A lock that a stream of readers does not keep a writer (a flush) from.  Not recursive. */
void block_lock_init(pthread_rwlock_t *lock);

void block_report(struct block_check *check, enum block_problem kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* UTF-16 as it is in files; @big: big endian.  Unpaired surrogates and NULs are refused (NULL). */
char *block_utf8(const uint8_t *utf16, size_t bytes, bool big);
/** @return bytes written, or -1: not UTF-8, or it does not fit. */
int block_utf16(const char *utf8, uint8_t *out, size_t room, bool big);


/* ---- bytes in files ---------------------------------------------------------------------------- */

static inline uint16_t get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_le32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static inline uint64_t get_le64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

static inline void put_le16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, 2);
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}

static inline void put_le64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, 8);
}

static inline uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return __builtin_bswap32(get_le32(p));
}

static inline uint64_t get_be64(const uint8_t *p)
{
    return __builtin_bswap64(get_le64(p));
}

static inline void put_be16(uint8_t *p, uint16_t v)
{
    put_le16(p, __builtin_bswap16(v));
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    put_le32(p, __builtin_bswap32(v));
}

static inline void put_be64(uint8_t *p, uint64_t v)
{
    put_le64(p, __builtin_bswap64(v));
}

static inline uint64_t div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint64_t round_up(uint64_t a, uint64_t b)
{
    return div_up(a, b) * b;
}

#endif
