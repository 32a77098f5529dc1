/* SPDX-License-Identifier: BSD-2-Clause */
/* SCSI logical units: disks and CD/DVD readers on a block backend.
 *
 * Cited: SAM-5, SPC-4, SBC-3, MMC-6 (T10 working drafts).  A transport makes a request, fills in the
 * first part and calls scsi_execute(); done() comes within that call or later.  Everything runs
 * under the vdev lock. */
#ifndef STORVSP_SCSI_H
#define STORVSP_SCSI_H

#include <mobo/vdev.h>
#include <stdbool.h>

enum { SCSI_MAX_LUNS = 64, SCSI_SENSE_LEN = 18 };
enum scsi_status { SCSI_GOOD = 0, SCSI_CHECK_CONDITION = 2 };
enum scsi_dir { SCSI_NO_DATA, SCSI_DATA_IN, SCSI_DATA_OUT };

/* Additional sense codes (SPC-4 table 47): code << 8 | qualifier. */
enum scsi_asc {
    ASC_NONE = 0x0000,
    ASC_NOT_READY_STOPPED = 0x0402,
    ASC_WRITE_FAULT = 0x0300,
    ASC_READ_ERROR = 0x1100,
    ASC_PARAMETER_LIST_LENGTH = 0x1a00,
    ASC_MISCOMPARE = 0x1d00,
    ASC_OPCODE = 0x2000,
    ASC_LBA_RANGE = 0x2100,
    ASC_CDB_FIELD = 0x2400,
    ASC_LUN_NOT_SUPPORTED = 0x2500,
    ASC_PARAMETER_LIST = 0x2600,
    ASC_WRITE_PROTECTED = 0x2700,
    ASC_MEDIUM_CHANGED = 0x2800,
    ASC_SAVING_PARAMETERS = 0x3900,
    ASC_NO_MEDIUM = 0x3a00,
    ASC_LUNS_CHANGED = 0x3f0e,
    ASC_INTERNAL_FAILURE = 0x4400,
    ASC_REMOVAL_PREVENTED = 0x5302
};
enum scsi_key {
    KEY_NO_SENSE = 0,
    KEY_NOT_READY = 2,
    KEY_MEDIUM_ERROR = 3,
    KEY_HARDWARE_ERROR = 4,
    KEY_ILLEGAL_REQUEST = 5,
    KEY_UNIT_ATTENTION = 6,
    KEY_DATA_PROTECT = 7,
    KEY_ABORTED_COMMAND = 11,
    KEY_MISCOMPARE = 14
};

struct scsi_lun;

struct scsi_req {
    /* the transport's */
    uint8_t cdb[16];
    uint8_t dir;          /* enum scsi_dir */
    struct mobo_iov *iov; /* guest memory; changed by the execution */
    uint32_t niov;
    uint64_t len; /* of it all */
    void (*done)(struct scsi_req *r);
    /* In place of done(), within scsi_drain(): there is no answer yet.  What was done of the command is done
     * again when it is executed anew, and the result is the same. */
    void (*stopped)(struct scsi_req *r);
    /* the answer */
    uint8_t status; /* enum scsi_status */
    uint8_t sense[SCSI_SENSE_LEN];
    uint64_t moved; /* bytes transferred */
    /* in work */
    struct scsi_lun *lun;
    struct mobo_block_req io;
    struct mobo_iov own; /* of buf */
    uint8_t *buf;        /* owned, or NULL */
    uint64_t lba, left;  /* sectors to go */
    uint32_t step, steps;
    bool verify, compare;
    void (*next)(struct scsi_req *r); /* after a successful piece; NULL: complete */
};

/* What is saved of a unit. */
struct scsi_state {
    uint8_t stopped, ejected, prevent, wce;
    uint16_t attention;             /* enum scsi_asc of a unit attention to tell, 0 none */
    uint8_t pr_registered, pr_type; /* SPC-4 5.13; type 0: not reserved */
    uint32_t pr_generation;
    uint64_t pr_key;
};

/* What becomes of requests when a unit is to stand still: of those that go on in pieces after each piece, and
 * of those that the host holds back. */
enum scsi_drain {
    SCSI_KEEP = 1, /* the former are stopped, the latter stay where they are */
    SCSI_STOP,     /* all are stopped */
    SCSI_ABORT     /* all end with ABORTED COMMAND */
};

struct scsi_lun {
    const struct mobo_host *host; /* borrowed, as dev */
    struct mobo_vdev *dev;
    mobo_block_t block;
    struct mobo_block_info info;
    bool cd;
    bool absent; /* stands for units that are not there */
    uint8_t number;
    uint8_t id[16]; /* identity for the guest */
    char *inserted; /* owned: the image in place of the VM file's, as a person named it; NULL: none */
    uint32_t sector;
    uint64_t nsect;
    struct scsi_state s;
    uint8_t drain; /* enum scsi_drain within scsi_drain(), else 0 */
    uint64_t reads, writes, flushes, unmaps, errors, read_bytes, written_bytes;
};

extern const struct mobo_field scsi_state_fields[];
extern const uint32_t scsi_state_nfields;

/** Set up a unit on an open image.  @return 0, or -EINVAL: too small for its kind. */
int scsi_lun_init(struct scsi_lun *l, const struct mobo_host *host, struct mobo_vdev *dev,
                  uint8_t number, mobo_block_t block, const struct mobo_block_info *info,
                  const uint8_t id[16]);
void scsi_lun_reset(struct scsi_lun *l);
/** Whether a loaded state makes sense. */
bool scsi_state_valid(const struct scsi_state *s);
/** @luns: bit n: unit n exists, for REPORT LUNS. */
void scsi_execute(struct scsi_lun *l, uint64_t luns, struct scsi_req *r);
/** Wait for the I/O that is under way.  The transport executes nothing meanwhile. */
void scsi_drain(struct scsi_lun *l, enum scsi_drain how);
/** Free what a request holds that will not be completed any more. */
void scsi_req_drop(struct scsi_req *r);

/* ---- scsi.c and scsi_cd.c ---------------------------------------------------------------------- */

void scsi_good(struct scsi_req *r);
void scsi_sense(struct scsi_req *r, uint8_t key, uint16_t asc);
/** Answer with data, cut to the CDB's @alloc and to the buffer. */
void scsi_reply(struct scsi_req *r, const void *buf, uint32_t len, uint32_t alloc);
/** Read or write @count sectors at @lba from or to the request's memory. */
void scsi_transfer(struct scsi_req *r, uint32_t op, uint64_t lba, uint64_t count, bool fua);
void scsi_flush(struct scsi_req *r);
/** MODE SENSE(6) and (10), with the unit's own pages. */
void scsi_mode_sense(struct scsi_req *r);
/** Commands of a CD/DVD reader.  @return whether it is one. */
bool scsi_cd_execute(struct scsi_req *r);
uint32_t scsi_cd_mode_page(struct scsi_lun *l, uint8_t page, uint8_t *buf);

static inline void scsi_put16(uint8_t *p, uint64_t v)
{
    p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v;
}
static inline void scsi_put32(uint8_t *p, uint64_t v)
{
    scsi_put16(p, v >> 16), scsi_put16(p + 2, v);
}
static inline void scsi_put64(uint8_t *p, uint64_t v)
{
    scsi_put32(p, v >> 32), scsi_put32(p + 4, v);
}
static inline uint16_t scsi_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t scsi_get24(const uint8_t *p)
{
    return (uint32_t)(p[0] << 16 | p[1] << 8 | p[2]);
}
static inline uint32_t scsi_get32(const uint8_t *p)
{
    return (uint32_t)scsi_get16(p) << 16 | scsi_get16(p + 2);
}
static inline uint64_t scsi_get64(const uint8_t *p)
{
    return (uint64_t)scsi_get32(p) << 32 | scsi_get32(p + 4);
}

/* Operation codes (SPC-4, SBC-3, MMC-6). */
enum scsi_op {
    OP_TEST_UNIT_READY = 0x00,
    OP_REQUEST_SENSE = 0x03,
    OP_FORMAT_UNIT = 0x04,
    OP_READ_6 = 0x08,
    OP_WRITE_6 = 0x0a,
    OP_SEEK_6 = 0x0b,
    OP_INQUIRY = 0x12,
    OP_MODE_SELECT_6 = 0x15,
    OP_RESERVE_6 = 0x16,
    OP_RELEASE_6 = 0x17,
    OP_MODE_SENSE_6 = 0x1a,
    OP_START_STOP = 0x1b,
    OP_SEND_DIAGNOSTIC = 0x1d,
    OP_MEDIUM_REMOVAL = 0x1e,
    OP_READ_CAPACITY_10 = 0x25,
    OP_READ_10 = 0x28,
    OP_WRITE_10 = 0x2a,
    OP_SEEK_10 = 0x2b,
    OP_WRITE_VERIFY_10 = 0x2e,
    OP_VERIFY_10 = 0x2f,
    OP_SYNC_CACHE_10 = 0x35,
    OP_WRITE_SAME_10 = 0x41,
    OP_UNMAP = 0x42,
    OP_READ_TOC = 0x43,
    OP_GET_CONFIGURATION = 0x46,
    OP_GET_EVENT_STATUS = 0x4a,
    OP_READ_DISC_INFO = 0x51,
    OP_READ_TRACK_INFO = 0x52,
    OP_MODE_SELECT_10 = 0x55,
    OP_RESERVE_10 = 0x56,
    OP_RELEASE_10 = 0x57,
    OP_MODE_SENSE_10 = 0x5a,
    OP_READ_BUFFER_CAPACITY = 0x5c,
    OP_PR_IN = 0x5e,
    OP_PR_OUT = 0x5f,
    OP_READ_16 = 0x88,
    OP_WRITE_16 = 0x8a,
    OP_WRITE_VERIFY_16 = 0x8e,
    OP_VERIFY_16 = 0x8f,
    OP_SYNC_CACHE_16 = 0x91,
    OP_WRITE_SAME_16 = 0x93,
    OP_SERVICE_ACTION_IN_16 = 0x9e,
    OP_REPORT_LUNS = 0xa0,
    OP_READ_12 = 0xa8,
    OP_WRITE_12 = 0xaa,
    OP_GET_PERFORMANCE = 0xac,
    OP_READ_DVD_STRUCTURE = 0xad,
    OP_WRITE_VERIFY_12 = 0xae,
    OP_VERIFY_12 = 0xaf,
    OP_SET_STREAMING = 0xb6,
    OP_MECHANISM_STATUS = 0xbd
};

#endif
