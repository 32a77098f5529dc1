/* SPDX-License-Identifier: BSD-2-Clause */
/* VHDX: the format and what its files share.
 * Reference: [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format", cited by section.
 *
 * Tables in memory are pages of 4 KiB: of the BAT, and of the sector bitmaps of differencing images.
 * A change is made in its page and marks it; a flush then
 *   1. syncs the file: guest data and new blocks are durable before anything refers to them;
 *   2. writes all marked pages as one entry into the log and syncs: they change together or not at
 *      all, however the write is torn;
 *   3. writes the pages in place.  Step 1 of the next flush makes these durable, and only after it
 *      may an entry take the place of the one before the last.
 * The log has two slots, used in turn; each entry is a sequence of its own (its tail is itself). */
#ifndef CORE_BLOCK_VHDX_INT_H
#define CORE_BLOCK_VHDX_INT_H

#include <pthread.h>

#include "core/block/block_int.h"

enum {
    VHDX_HEADER_OFF1 = 64 << 10, /* 2.2 */
    VHDX_HEADER_OFF2 = 128 << 10,
    VHDX_HEADER_LEN = 4096,
    VHDX_REGION_OFF1 = 192 << 10,
    VHDX_REGION_OFF2 = 256 << 10,
    VHDX_REGION_LEN = 64 << 10,
    VHDX_ENTRIES_MAX = 2047,     /* of the region and the metadata table */
    VHDX_PAGE = 4096,
    VHDX_LOG_MAX = 64 << 20,     /* largest log that we read */
    VHDX_LOG_DESCS = 126,        /* in the first sector of an entry: as many pages a flush */
    VHDX_BITMAP_PAGES = 256,     /* of a sector bitmap block, 1 MiB */
};
#define VHDX_SIZE_MAX (64ULL << 40) /* 2.6.2.2 */
#define VHDX_FILE_MAX (128ULL << 40)

/* BAT entries, 2.5.1: state in bits 2:0, offset in MiB in bits 63:20. */
enum vhdx_state {
    VHDX_NOT_PRESENT = 0,
    VHDX_UNDEFINED = 1,
    VHDX_ZERO = 2,
    VHDX_UNMAPPED = 3,
    VHDX_UNMAPPED_OLD = 5, /* drafts of the format */
    VHDX_PRESENT = 6,
    VHDX_PARTIAL = 7,
};

struct vhdx_page {
    uint64_t off; /* in the file */
    bool dirty, flushing;
    uint8_t data[VHDX_PAGE];
};

struct vhdx_run {
    uint64_t first, count; /* MiB of the file */
};

struct vhdx {
    struct block *b;

    /* headers, 2.2.2; guarded by flush_lock after opening */
    uint64_t seq;
    unsigned current; /* 0 or 1 */
    bool good[2], same_seq;
    uint8_t file_guid[16], data_guid[16], log_guid[16];
    uint32_t log_len;
    uint64_t log_off;
    uint64_t log_seq;
    bool log_active;  /* log_guid is in the headers */
    unsigned slot;
    bool region_good[2];

    /* layout; constant after opening */
    uint64_t bat_off, meta_off;
    uint32_t bat_len, meta_len;
    uint64_t npayload, nentries; /* BAT entries that matter */
    uint64_t chunk_ratio;        /* 2.5: payload blocks a sector bitmap block */
    bool has_parent, leave_allocated;
    uint8_t parent_linkage[16], parent_linkage2[16];
    bool has_linkage, has_linkage2;

    /* Held for reading while data of a present block is transferred, for writing while tables
     * change. */
    pthread_rwlock_t lock;
    pthread_mutex_t load_lock;   /* pages come into memory */
    pthread_mutex_t flush_lock;  /* one flush at a time; taken before lock */
    atomic_bool written;         /* guids of this session are in the headers */

    _Atomic(struct vhdx_page *) *bat;      /* bat_len / 4096 */
    _Atomic(struct vhdx_page *) **bitmaps; /* one array of 256 for each chunk, or NULL */
    uint64_t nchunks;

    /* guarded by lock */
    struct vhdx_page *dirty[VHDX_LOG_DESCS];
    unsigned ndirty, nflushing;
    uint64_t file_mib, used_room;
    uint8_t *used;               /* a bit for each MiB of the file */
    uint64_t nfree, free_hint;
    struct vhdx_run *freed;      /* wait for the flush after which nothing refers to them */
    size_t nfreed, freed_room;

    uint64_t nallocated;         /* at opening; then kept up to date */
};

extern const uint8_t vhdx_guid_bat[16], vhdx_guid_meta[16];

static inline uint64_t vhdx_bat_index(const struct vhdx *v, uint64_t blk)
{
    return blk + blk / v->chunk_ratio;
}

static inline uint64_t vhdx_sb_index(const struct vhdx *v, uint64_t chunk)
{
    return chunk * (v->chunk_ratio + 1) + v->chunk_ratio;
}

/* ---- vhdx_open.c ------------------------------------------------------------------------------- */

int vhdx_open(struct block *b, const struct block_options *opt, struct block_check *check,
              struct diag *diag);
int vhdx_create(struct bfile *f, const struct block_create_options *opt, struct block *parent,
                struct diag *diag);
int vhdx_check(struct block *b, struct block_check *check, struct diag *diag);
void vhdx_free(struct vhdx *v);
/** Write both headers with what is in @v, each made durable before the next. */
int vhdx_write_headers(struct vhdx *v, struct bfile *f);
void vhdx_guid_text(const uint8_t guid[16], char text[39]);

/* ---- vhdx_log.c ---------------------------------------------------------------------------------- */

/** Read the log; @ret_changes is an overlay on @f when there is anything to replay, else NULL.
 * The overlay owns the file then. */
int vhdx_log_read(struct vhdx *v, struct bfile *f, struct bfile **ret_changes, struct diag *diag);
/** Write @n pages as one entry, durably. */
int vhdx_log_write(struct vhdx *v, struct vhdx_page *const *pages, unsigned n, uint64_t file_size);

#endif
