/* SPDX-License-Identifier: BSD-2-Clause */
/* SCSI logical units: the commands of disks and what all units share.  See scsi.h. */
#include "scsi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE = 64 << 10,         /* of WRITE SAME with a pattern, and of VERIFY */
    WRITE_SAME_MAX = 1 << 30, /* bytes */
    UNMAP_MAX_DESCRIPTORS = 256,
    PARAMETER_MAX = 8 + 16 * UNMAP_MAX_DESCRIPTORS
};

const struct mobo_field scsi_state_fields[] = {
    MOBO_FIELD(1, struct scsi_state, stopped), /* since 1.1 */
    MOBO_FIELD(2, struct scsi_state, ejected),       MOBO_FIELD(3, struct scsi_state, prevent),
    MOBO_FIELD(4, struct scsi_state, wce),           MOBO_FIELD(5, struct scsi_state, attention),
    MOBO_FIELD(6, struct scsi_state, pr_registered), MOBO_FIELD(7, struct scsi_state, pr_type),
    MOBO_FIELD(8, struct scsi_state, pr_generation), MOBO_FIELD(9, struct scsi_state, pr_key),
};
const uint32_t scsi_state_nfields = sizeof(scsi_state_fields) / sizeof(scsi_state_fields[0]);

/* ---- ends of a command --------------------------------------------------------------------------- */

void scsi_req_drop(struct scsi_req *r)
{
    free(r->buf);
    r->buf = NULL;
}

static void complete(struct scsi_req *r)
{
    scsi_req_drop(r);
    r->done(r);
}

void scsi_good(struct scsi_req *r)
{
    r->status = SCSI_GOOD;
    complete(r);
}

/* Fixed format, SPC-4 4.5.3. */
static void fill_sense(uint8_t *s, uint8_t key, uint16_t asc)
{
    memset(s, 0, SCSI_SENSE_LEN);
    s[0] = 0x70;
    s[2] = key;
    s[7] = SCSI_SENSE_LEN - 8;
    s[12] = (uint8_t)(asc >> 8);
    s[13] = (uint8_t)asc;
}

void scsi_sense(struct scsi_req *r, uint8_t key, uint16_t asc)
{
    r->status = SCSI_CHECK_CONDITION;
    r->moved = 0;
    fill_sense(r->sense, key, asc);
    complete(r);
}

static void bad_cdb(struct scsi_req *r)
{
    scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_CDB_FIELD);
}

static void failed(struct scsi_req *r, int err)
{
    bool read = r->io.op == MOBO_BLOCK_READ;

    r->lun->errors++;
    switch (err) {
    case -ECANCELED: scsi_sense(r, KEY_ABORTED_COMMAND, ASC_NONE); break;
    case -ENOMEM: scsi_sense(r, KEY_HARDWARE_ERROR, ASC_INTERNAL_FAILURE); break;
    case -EINVAL: bad_cdb(r); break;
    default: scsi_sense(r, KEY_MEDIUM_ERROR, read ? ASC_READ_ERROR : ASC_WRITE_FAULT); break;
    }
}

/* ---- data ------------------------------------------------------------------------------------------ */

/* From guest memory.  @return bytes: fewer when there are fewer. */
static uint32_t fetch(struct scsi_req *r, uint64_t off, void *buf, uint32_t len)
{
    uint32_t did = 0;

    for (uint32_t i = 0; i < r->niov && did < len; i++) {
        uint64_t n = r->iov[i].len;

        if (off >= n) {
            off -= n;
            continue;
        }
        n -= off;
        if (n > len - did)
            n = len - did;
        memcpy((uint8_t *)buf + did, (uint8_t *)r->iov[i].base + off, n);
        did += (uint32_t)n;
        off = 0;
    }
    return did;
}

/* The parameter list of a command: a copy of up to @len bytes. */
static uint32_t parameters(struct scsi_req *r, void *buf, uint32_t len)
{
    uint32_t n = r->dir == SCSI_DATA_OUT ? fetch(r, 0, buf, len) : 0;

    r->moved = n;
    return n;
}

void scsi_reply(struct scsi_req *r, const void *buf, uint32_t len, uint32_t alloc)
{
    uint32_t did = 0;

    if (len > alloc)
        len = alloc;
    if (r->dir != SCSI_DATA_IN)
        len = 0;
    for (uint32_t i = 0; i < r->niov && did < len; i++) {
        uint64_t n = r->iov[i].len;

        if (n > len - did)
            n = len - did;
        memcpy(r->iov[i].base, (const uint8_t *)buf + did, n);
        r->lun->host->mem_dirty(r->lun->dev, r->iov[i].gpa, n);
        did += (uint32_t)n;
    }
    r->moved = did;
    scsi_good(r);
}

/* ---- block I/O ------------------------------------------------------------------------------------- */

static void io_done(void *ctx, int err)
{
    struct scsi_req *r = ctx;
    uint8_t drain = r->lun->drain;

    if (drain && !err && r->next) /* the guest says how many pieces there are: nobody waits for all */
        err = -ECANCELED;
    if (err == -ECANCELED && drain && drain != SCSI_ABORT) {
        scsi_req_drop(r);
        r->stopped(r);
    } else if (err) {
        failed(r, err);
    } else if (r->next) {
        r->next(r);
    } else {
        scsi_good(r);
    }
}

static void submit(struct scsi_req *r, uint32_t op, uint64_t lba, uint64_t count, uint32_t flags,
                   const struct mobo_iov *iov, uint32_t niov)
{
    struct scsi_lun *l = r->lun;
    int err;

    r->io.size = sizeof(r->io);
    r->io.op = op;
    r->io.flags = flags;
    r->io.off = lba * l->sector;
    r->io.len = count * l->sector;
    r->io.iov = iov;
    r->io.niov = niov;
    r->io.done = io_done;
    r->io.ctx = r;
    err = l->host->block_submit(l->block, &r->io);
    if (err)
        failed(r, err);
}

/* Whether the sectors exist; else the command is done. */
static bool in_range(struct scsi_req *r, uint64_t lba, uint64_t count)
{
    struct scsi_lun *l = r->lun;

    if (lba <= l->nsect && count <= l->nsect - lba)
        return true;
    scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
    return false;
}

static bool writable(struct scsi_req *r)
{
    if (!(r->lun->info.flags & MOBO_BLOCK_READ_ONLY))
        return true;
    scsi_sense(r, KEY_DATA_PROTECT, ASC_WRITE_PROTECTED);
    return false;
}

/* Cut the request's memory to what the command moves. */
static bool trim(struct scsi_req *r, uint64_t bytes, uint8_t dir)
{
    uint64_t left = bytes;
    uint32_t i;

    if (r->len < bytes || r->dir != dir) {
        bad_cdb(r);
        return false;
    }
    for (i = 0; i < r->niov && left; i++) {
        if (r->iov[i].len > left)
            r->iov[i].len = left;
        left -= r->iov[i].len;
    }
    r->niov = i;
    r->moved = bytes;
    return true;
}

void scsi_transfer(struct scsi_req *r, uint32_t op, uint64_t lba, uint64_t count, bool fua)
{
    struct scsi_lun *l = r->lun;
    bool write = op == MOBO_BLOCK_WRITE;

    if ((write && !writable(r)) || !in_range(r, lba, count))
        return;
    if (!count) {
        scsi_good(r);
        return;
    }
    if (!trim(r, count * l->sector, write ? SCSI_DATA_OUT : SCSI_DATA_IN))
        return;
    if (write) {
        l->writes++;
        l->written_bytes += r->moved;
    } else {
        l->reads++;
        l->read_bytes += r->moved;
    }
    submit(r, op, lba, count, write && (fua || !l->s.wce) ? MOBO_BLOCK_FUA : 0, r->iov, r->niov);
}

void scsi_flush(struct scsi_req *r)
{
    if (r->lun->info.flags & MOBO_BLOCK_READ_ONLY) {
        scsi_good(r);
        return;
    }
    r->lun->flushes++;
    submit(r, MOBO_BLOCK_FLUSH, 0, 0, 0, NULL, 0);
}

/* ---- VERIFY, WRITE AND VERIFY ----------------------------------------------------------------------- */

static bool own_buffer(struct scsi_req *r, uint32_t len)
{
    r->buf = malloc(len);
    if (r->buf) {
        r->own = (struct mobo_iov){ r->buf, len, MOBO_NO_GPA };
        return true;
    }
    scsi_sense(r, KEY_HARDWARE_ERROR, ASC_INTERNAL_FAILURE);
    return false;
}

/* Compares what was read with the guest's memory, piece by piece. */
static bool same(struct scsi_req *r, uint64_t off, const uint8_t *buf, uint32_t len)
{
    uint8_t part[4096];

    for (uint32_t at = 0; at < len; at += sizeof(part)) {
        uint32_t n = len - at < sizeof(part) ? len - at : (uint32_t)sizeof(part);

        if (fetch(r, off + at, part, n) != n || memcmp(part, buf + at, n))
            return false;
    }
    return true;
}

static void verify_next(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint64_t n;

    if (r->step) { /* sectors that were just read */
        if (r->compare && !same(r, (uint64_t)r->steps * l->sector, r->buf, r->step * l->sector)) {
            scsi_sense(r, KEY_MISCOMPARE, ASC_MISCOMPARE);
            return;
        }
        r->steps += r->step; /* sectors done */
        r->lba += r->step;
        r->left -= r->step;
    }
    if (!r->left) {
        scsi_good(r);
        return;
    }
    n = r->left < PIECE / l->sector ? r->left : PIECE / l->sector;
    r->step = (uint32_t)n;
    r->own.len = n * l->sector;
    submit(r, MOBO_BLOCK_READ, r->lba, n, 0, &r->own, 1);
}

static void verify_begin(struct scsi_req *r)
{
    r->step = r->steps = 0;
    r->next = verify_next;
    if (own_buffer(r, PIECE))
        verify_next(r);
}

/* @bytchk: 0 only look whether it can be read, 1 compare. */
static void verify(struct scsi_req *r, uint64_t lba, uint64_t count, uint8_t bytchk)
{
    if (bytchk > 1) {
        bad_cdb(r);
        return;
    }
    if (!in_range(r, lba, count) ||
        (bytchk && count && !trim(r, count * r->lun->sector, SCSI_DATA_OUT)))
        return;
    r->lba = lba;
    r->left = count;
    r->compare = bytchk != 0;
    verify_begin(r);
}

static void write_verify(struct scsi_req *r, uint64_t lba, uint64_t count, uint8_t bytchk)
{
    if (bytchk > 1) {
        bad_cdb(r);
        return;
    }
    r->lba = lba;
    r->left = count;
    r->compare = bytchk != 0;
    r->next = verify_begin;
    scsi_transfer(r, MOBO_BLOCK_WRITE, lba, count, true);
}

/* ---- UNMAP, WRITE SAME ------------------------------------------------------------------------------ */

static void unmap_next(struct scsi_req *r)
{
    while (r->step < r->steps) {
        const uint8_t *d = r->buf + 8 + 16 * r->step++;
        uint64_t lba = scsi_get64(d), count = scsi_get32(d + 8);

        if (!count)
            continue;
        submit(r, MOBO_BLOCK_DISCARD_RANGE, lba, count, 0, NULL, 0);
        return;
    }
    scsi_good(r);
}

static void unmap(struct scsi_req *r)
{
    uint32_t len = scsi_get16(r->cdb + 7), have, n;

    if (r->cdb[1] & 1) { /* ANCHOR: not offered */
        bad_cdb(r);
        return;
    }
    if (!writable(r))
        return;
    if (!len) {
        scsi_good(r);
        return;
    }
    if (!own_buffer(r, PARAMETER_MAX))
        return;
    have = parameters(r, r->buf, len < PARAMETER_MAX ? len : PARAMETER_MAX);
    if (have < 8) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    n = scsi_get16(r->buf + 2) / 16;
    if (n > (have - 8) / 16)
        n = (have - 8) / 16;
    if (scsi_get16(r->buf + 2) / 16 > UNMAP_MAX_DESCRIPTORS) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST);
        return;
    }
    for (uint32_t i = 0; i < n; i++) /* all or nothing */
        if (!in_range(r, scsi_get64(r->buf + 8 + 16 * i), scsi_get32(r->buf + 16 + 16 * i)))
            return;
    r->step = 0;
    r->steps = n;
    r->next = unmap_next;
    r->lun->unmaps++;
    unmap_next(r);
}

static void pattern_next(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint64_t n = r->left < PIECE / l->sector ? r->left : PIECE / l->sector, lba = r->lba;

    if (!n) {
        scsi_good(r);
        return;
    }
    r->lba += n;
    r->left -= n;
    r->own.len = n * l->sector;
    submit(r, MOBO_BLOCK_WRITE, lba, n, l->s.wce ? 0 : MOBO_BLOCK_FUA, &r->own, 1);
}

/* @flags: byte 1 of the CDB. */
static void write_same(struct scsi_req *r, uint64_t lba, uint64_t count, uint8_t flags)
{
    struct scsi_lun *l = r->lun;
    bool zero = true;

    if ((flags & 0xf6) & ~0x08) { /* WRPROTECT, ANCHOR, obsolete bits */
        bad_cdb(r);
        return;
    }
    if (!count || count > WRITE_SAME_MAX / l->sector) { /* WSNZ */
        bad_cdb(r);
        return;
    }
    if (!writable(r) || !in_range(r, lba, count) || !own_buffer(r, PIECE))
        return;
    if (!(flags & 1)) { /* NDOB */
        if (parameters(r, r->buf, l->sector) != l->sector) {
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
            return;
        }
        for (uint32_t i = 0; zero && i < l->sector; i++)
            zero = r->buf[i] == 0;
    }
    l->writes++;
    if (zero) {
        submit(r, MOBO_BLOCK_WRITE_ZEROES, lba, count,
               (flags & 8 ? MOBO_BLOCK_MAY_UNMAP : 0) | (l->s.wce ? 0 : MOBO_BLOCK_FUA), NULL, 0);
        return;
    }
    for (uint32_t at = l->sector; at < PIECE; at += l->sector)
        memcpy(r->buf + at, r->buf, l->sector);
    r->lba = lba;
    r->left = count;
    r->next = pattern_next;
    pattern_next(r);
}

/* ---- INQUIRY ---------------------------------------------------------------------------------------- */

static void hex_id(const uint8_t *id, uint8_t *ret)
{
    for (unsigned i = 0; i < 16; i++) {
        ret[2 * i] = (uint8_t) "0123456789abcdef"[id[i] >> 4];
        ret[2 * i + 1] = (uint8_t) "0123456789abcdef"[id[i] & 15];
    }
}

static uint32_t vpd_page(struct scsi_lun *l, uint8_t page, uint8_t *b)
{
    static const uint8_t disk_pages[] = { 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2 };
    static const uint8_t cd_pages[] = { 0x00, 0x80, 0x83 };
    bool thin = l->info.flags & MOBO_BLOCK_DISCARD;
    uint32_t unit = l->info.discard_unit / l->sector;

    b[0] = l->cd ? 5 : 0;
    b[1] = page;
    switch (page) {
    case 0x00: /* SPC-4 7.8.10 */
        b[3] = l->cd ? sizeof(cd_pages) : sizeof(disk_pages);
        memcpy(b + 4, l->cd ? cd_pages : disk_pages, b[3]);
        return 4u + b[3];
    case 0x80: /* unit serial number, 7.8.15 */
        b[3] = 32;
        hex_id(l->id, b + 4);
        return 36;
    case 0x83:       /* device identification, 7.8.6 */
        b[4] = 0x02; /* ASCII */
        b[5] = 0x01; /* T10 vendor ID based */
        b[7] = 8 + 32;
        memcpy(b + 8, "mobo    ", 8);
        hex_id(l->id, b + 16);
        b[48] = 0x01; /* binary */
        b[49] = 0x03; /* NAA */
        b[51] = 8;
        memcpy(b + 52, l->id, 8);
        b[52] = 0x30 | (b[52] & 15); /* locally assigned */
        b[3] = 56;
        return 60;
    case 0xb0: /* block limits, SBC-3 6.6.4 */
        if (l->cd)
            return 0;
        b[3] = 0x3c;
        b[4] = 1;                                        /* WSNZ */
        scsi_put16(b + 6, l->info.physical / l->sector); /* optimal granularity */
        if (thin) {
            scsi_put32(b + 20, UINT32_MAX);
            scsi_put32(b + 24, UNMAP_MAX_DESCRIPTORS);
            scsi_put32(b + 28, unit ? unit : 1);
            scsi_put32(b + 32, 0x80000000u); /* alignment valid: 0 */
        }
        scsi_put64(b + 36, WRITE_SAME_MAX / l->sector);
        return 64;
    case 0xb1: /* block device characteristics: not rotating */
        if (l->cd)
            return 0;
        b[3] = 0x3c;
        scsi_put16(b + 4, 1);
        return 64;
    case 0xb2: /* logical block provisioning */
        if (l->cd)
            return 0;
        b[3] = 4;
        if (thin) {
            b[5] = 0xe0; /* UNMAP, WRITE SAME(16), WRITE SAME(10) */
            if (l->info.flags & MOBO_BLOCK_DISCARD_ZEROES)
                b[5] |= 4; /* LBPRZ */
            b[6] = 2;      /* thin */
        }
        return 8;
    }
    return 0;
}

static void inquiry(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint32_t alloc = scsi_get16(r->cdb + 3), len;
    uint8_t b[256] = { 0 };

    if ((r->cdb[1] & 1) && !l->absent) {
        len = vpd_page(l, r->cdb[2], b);
        if (len)
            scsi_reply(r, b, len, alloc);
        else
            bad_cdb(r);
        return;
    }
    if (r->cdb[2] || (r->cdb[1] & 3)) {
        bad_cdb(r);
        return;
    }
    b[0] = l->absent ? 0x7f : l->cd ? 5 : 0; /* 7f: no unit can be there */
    b[1] = l->cd ? 0x80 : 0;                 /* removable */
    b[2] = 6;                                /* SPC-4 */
    b[3] = 2;
    b[4] = 68 - 5;
    b[7] = 2; /* CMDQUE */
    /* The names are those that guests know from this controller; drivers go by them. */
    memcpy(b + 8, "Msft    ", 8);
    memcpy(b + 16, l->cd ? "Virtual DVD-ROM " : "Virtual Disk    ", 16);
    memcpy(b + 32, "1.0 ", 4);
    scsi_put16(b + 58, 0x00a0);                  /* SAM-5 */
    scsi_put16(b + 60, 0x0460);                  /* SPC-4 */
    scsi_put16(b + 62, l->cd ? 0x0560 : 0x04c0); /* MMC-6, SBC-3 */
    scsi_reply(r, b, 68, alloc);
}

/* ---- mode pages ------------------------------------------------------------------------------------- */

/* @pc: 0 current, 1 changeable, 2 default values (SPC-4 6.11).  @return bytes. */
static uint32_t mode_page(struct scsi_lun *l, uint8_t page, uint8_t pc, uint8_t *b)
{
    switch (page) {
    case 0x08: /* caching, SBC-3 6.5.5 */
        if (l->cd)
            return 0;
        b[0] = 0x08;
        b[1] = 0x12;
        if (pc == 1 || (pc == 2) || l->s.wce)
            b[2] = 0x04; /* WCE */
        return 20;
    case 0x0a: /* control, SPC-4 7.5.8 */
        b[0] = 0x0a;
        b[1] = 0x0a;
        if (pc != 1)
            b[3] = 0x10; /* unrestricted reordering */
        return 12;
    case 0x1c: /* informational exceptions control */
        b[0] = 0x1c;
        b[1] = 0x0a;
        return 12;
    }
    return l->cd ? scsi_cd_mode_page(l, page, b) : 0;
}

void scsi_mode_sense(struct scsi_req *r)
{
    static const uint8_t pages[] = { 0x01, 0x08, 0x0a, 0x0e, 0x1a, 0x1c, 0x2a };
    struct scsi_lun *l = r->lun;
    bool ten = r->cdb[0] == OP_MODE_SENSE_10, dbd = (r->cdb[1] & 8) || l->cd, found = false;
    uint8_t pc = r->cdb[2] >> 6, page = r->cdb[2] & 0x3f, sub = r->cdb[3], b[512] = { 0 };
    uint32_t head = ten ? 8 : 4, len = head, alloc = ten ? scsi_get16(r->cdb + 7) : r->cdb[4];
    uint8_t special = (l->info.flags & MOBO_BLOCK_READ_ONLY ? 0x80 : 0) | 0x10; /* WP, DPOFUA */

    if (pc == 3) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_SAVING_PARAMETERS);
        return;
    }
    if (l->cd)
        special = 0;
    if (!dbd) { /* short block descriptor */
        scsi_put32(b + len, l->nsect > UINT32_MAX ? UINT32_MAX : l->nsect);
        scsi_put32(b + len + 4, l->sector);
        if (l->nsect > UINT32_MAX >> 8 && !ten)
            scsi_put32(b + len, UINT32_MAX);
        len += 8;
    }
    for (unsigned i = 0; i < sizeof(pages); i++)
        if ((page == pages[i] || page == 0x3f) && (sub == 0 || (sub == 0xff && page == 0x3f))) {
            uint32_t n = mode_page(l, pages[i], pc, b + len);

            len += n;
            found |= n > 0;
        }
    if (!found) {
        bad_cdb(r);
        return;
    }
    if (ten) {
        scsi_put16(b, len - 2);
        b[3] = special;
        b[7] = dbd ? 0 : 8;
    } else {
        b[0] = (uint8_t)(len - 1);
        b[2] = special;
        b[3] = dbd ? 0 : 8;
    }
    scsi_reply(r, b, len, alloc);
}

/* Only the write cache can be changed. */
static void mode_select(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    bool ten = r->cdb[0] == OP_MODE_SELECT_10;
    uint32_t want = ten ? scsi_get16(r->cdb + 7) : r->cdb[4], head = ten ? 8 : 4, at, have;
    uint8_t b[256], wce = l->s.wce;

    if (!(r->cdb[1] & 0x10) || (r->cdb[1] & 1)) { /* PF; SP: nothing is saved */
        bad_cdb(r);
        return;
    }
    if (!want) {
        scsi_good(r);
        return;
    }
    have = parameters(r, b, want < sizeof(b) ? want : (uint32_t)sizeof(b));
    if (have < head) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    for (at = head + (ten ? scsi_get16(b + 6) : b[3]); at + 2 <= have; at += 2u + b[at + 1]) {
        uint8_t page[64] = { 0 }, mask[64] = { 0 };
        uint32_t n = mode_page(l, b[at] & 0x3f, 0, page);

        mode_page(l, b[at] & 0x3f, 1, mask);
        if (!n || (b[at] & 0x40) || b[at + 1] != page[1] || at + n > have)
            goto bad;
        for (uint32_t i = 2; i < n; i++)
            if ((b[at + i] ^ page[i]) & (uint8_t)~mask[i])
                goto bad;
        if ((b[at] & 0x3f) == 0x08)
            wce = (b[at + 2] >> 2) & 1;
    }
    if (at != have)
        goto bad;
    l->s.wce = wce;
    if (wce)
        scsi_good(r);
    else
        scsi_flush(r); /* what was cached so far as well */
    return;
bad:
    scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST);
}

/* ---- capacity --------------------------------------------------------------------------------------- */

static void read_capacity_10(struct scsi_req *r)
{
    uint64_t last = r->lun->nsect - 1;
    uint8_t b[8];

    scsi_put32(b, last > UINT32_MAX ? UINT32_MAX : last);
    scsi_put32(b + 4, r->lun->sector);
    scsi_reply(r, b, sizeof(b), sizeof(b));
}

static void service_action_in_16(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint32_t alloc = scsi_get32(r->cdb + 10), ratio = l->info.physical / l->sector;
    uint64_t lba = scsi_get64(r->cdb + 2), n;
    uint8_t b[32] = { 0 };

    switch (r->cdb[1] & 0x1f) {
    case 0x10: /* READ CAPACITY(16), SBC-3 5.16 */
        scsi_put64(b, l->nsect - 1);
        scsi_put32(b + 8, l->sector);
        while (ratio > 1) { /* logical blocks per physical one, as an exponent */
            ratio >>= 1;
            b[13]++;
        }
        if (l->info.flags & MOBO_BLOCK_DISCARD)
            b[14] |= 0x80; /* LBPME */
        if (l->info.flags & MOBO_BLOCK_DISCARD_ZEROES)
            b[14] |= 0x40; /* LBPRZ */
        scsi_reply(r, b, 32, alloc);
        break;
    case 0x12: /* GET LBA STATUS, 5.5: what is not known to be unmapped is mapped */
        if (lba >= l->nsect) {
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
            break;
        }
        n = l->nsect - lba;
        scsi_put32(b, 20);
        scsi_put64(b + 8, lba);
        scsi_put32(b + 16, n > UINT32_MAX ? UINT32_MAX : n);
        scsi_reply(r, b, 24, alloc);
        break;
    default: bad_cdb(r); break;
    }
}

/* ---- persistent reservations: there is one initiator ------------------------------------------------ */

static void pr_in(struct scsi_req *r)
{
    struct scsi_state *s = &r->lun->s;
    uint32_t alloc = scsi_get16(r->cdb + 7), len = 8;
    uint8_t b[64] = { 0 };

    scsi_put32(b, s->pr_generation);
    switch (r->cdb[1] & 0x1f) {
    case 0: /* READ KEYS */
        if (s->pr_registered) {
            scsi_put64(b + 8, s->pr_key);
            len = 16;
        }
        break;
    case 1: /* READ RESERVATION */
        if (s->pr_type) {
            scsi_put64(b + 8, s->pr_key);
            b[21] = s->pr_type;
            len = 24;
        }
        break;
    case 2: /* REPORT CAPABILITIES */
        memset(b, 0, 8);
        scsi_put16(b, 8);
        b[3] = 0x80; /* TMV */
        b[4] = 0xea; /* types 1, 3, 5, 6, 7 */
        b[5] = 0x01; /* type 8 */
        scsi_reply(r, b, 8, alloc);
        return;
    case 3: /* READ FULL STATUS */
        if (s->pr_registered) {
            scsi_put64(b + 8, s->pr_key);
            b[20] = s->pr_type ? 1 : 0; /* holder */
            b[21] = s->pr_type;
            scsi_put16(b + 26, 1); /* relative target port */
            len = 32;
        }
        break;
    default: bad_cdb(r); return;
    }
    scsi_put32(b + 4, len - 8);
    scsi_reply(r, b, len, alloc);
}

static void pr_out(struct scsi_req *r)
{
    struct scsi_state *s = &r->lun->s;
    uint8_t action = r->cdb[1] & 0x1f, scope = r->cdb[2] >> 4, type = r->cdb[2] & 15, b[24];
    uint64_t key, new_key;
    bool holds_all = type >= 5 && type <= 8, known = type == 1 || type == 3 || holds_all;

    if (scsi_get32(r->cdb + 5) != sizeof(b) || parameters(r, b, sizeof(b)) != sizeof(b)) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    key = scsi_get64(b);
    new_key = scsi_get64(b + 8);
    if (b[20] & 0x0d) { /* SPEC_I_PT, ALL_TG_PT, APTPL: not offered */
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST);
        return;
    }
    if (action != 6 && (s->pr_registered ? key != s->pr_key : action != 0 || key != 0)) {
        r->status = 0x18; /* RESERVATION CONFLICT */
        r->moved = 0;
        complete(r);
        return;
    }
    switch (action) {
    case 0: /* REGISTER */
    case 6: /* REGISTER AND IGNORE EXISTING KEY */
        s->pr_registered = new_key != 0;
        s->pr_key = new_key;
        if (!new_key)
            s->pr_type = 0;
        s->pr_generation++;
        break;
    case 1: /* RESERVE */
        if (scope || !known)
            goto bad;
        if (s->pr_type && s->pr_type != type) {
            r->status = 0x18;
            complete(r);
            return;
        }
        s->pr_type = type;
        break;
    case 2: /* RELEASE */
        if (s->pr_type && (scope || s->pr_type != type)) {
            scsi_sense(r, KEY_ILLEGAL_REQUEST, 0x2604); /* invalid release */
            return;
        }
        s->pr_type = 0;
        break;
    case 3: /* CLEAR */
        s->pr_registered = s->pr_type = 0;
        s->pr_key = 0;
        s->pr_generation++;
        break;
    case 4: /* PREEMPT: of ourselves, there is nobody else */
    case 5:
        if (scope || !known)
            goto bad;
        s->pr_type = type;
        s->pr_generation++;
        break;
    default: goto bad;
    }
    scsi_good(r);
    return;
bad:
    bad_cdb(r);
}

/* ---- other disk commands ----------------------------------------------------------------------------- */

static void start_stop(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;

    if ((r->cdb[4] & 2) || (r->cdb[4] >> 4)) { /* LOEJ: nothing to eject; power conditions */
        bad_cdb(r);
        return;
    }
    l->s.stopped = !(r->cdb[4] & 1);
    if (l->s.stopped && !(r->cdb[4] & 4))
        scsi_flush(r);
    else
        scsi_good(r);
}

static void format_unit(struct scsi_req *r)
{
    uint8_t b[8] = { 0 };

    if (!writable(r))
        return;
    if (r->cdb[1] & 0xc0) { /* protection information */
        bad_cdb(r);
        return;
    }
    if (r->cdb[1] & 0x10) { /* FMTDATA: a header that asks for nothing special */
        if (parameters(r, b, 4) < 4 || (b[1] & 0x08) || scsi_get16(b + 2)) {
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_PARAMETER_LIST);
            return;
        }
    }
    scsi_flush(r); /* the medium is formatted; what it holds afterwards is up to us (SBC-3 5.3) */
}

static void disk_execute(struct scsi_req *r)
{
    const uint8_t *c = r->cdb;
    uint64_t lba, n;

    switch (c[0]) {
    case OP_READ_6:
    case OP_WRITE_6:
        n = c[4] ? c[4] : 256;
        lba = scsi_get24(c + 1) & 0x1fffff;
        scsi_transfer(r, c[0] == OP_READ_6 ? MOBO_BLOCK_READ : MOBO_BLOCK_WRITE, lba, n, false);
        return;
    case OP_READ_10:
    case OP_WRITE_10:
    case OP_VERIFY_10:
    case OP_WRITE_VERIFY_10:
    case OP_WRITE_SAME_10:
        lba = scsi_get32(c + 2);
        n = scsi_get16(c + 7);
        break;
    case OP_READ_12:
    case OP_WRITE_12:
    case OP_VERIFY_12:
    case OP_WRITE_VERIFY_12:
        lba = scsi_get32(c + 2);
        n = scsi_get32(c + 6);
        break;
    case OP_READ_16:
    case OP_WRITE_16:
    case OP_VERIFY_16:
    case OP_WRITE_VERIFY_16:
    case OP_WRITE_SAME_16:
        lba = scsi_get64(c + 2);
        n = scsi_get32(c + 10);
        break;
    default: lba = n = 0; break;
    }
    switch (c[0]) {
    case OP_READ_10:
    case OP_READ_12:
    case OP_READ_16:
    case OP_WRITE_10:
    case OP_WRITE_12:
    case OP_WRITE_16:
        if (c[1] & 0xe0) { /* protection information */
            bad_cdb(r);
            break;
        }
        scsi_transfer(r, (c[0] & 2) ? MOBO_BLOCK_WRITE : MOBO_BLOCK_READ, lba, n, c[1] & 8);
        break;
    case OP_VERIFY_10:
    case OP_VERIFY_12:
    case OP_VERIFY_16: verify(r, lba, n, (c[1] >> 1) & 3); break;
    case OP_WRITE_VERIFY_10:
    case OP_WRITE_VERIFY_12:
    case OP_WRITE_VERIFY_16: write_verify(r, lba, n, (c[1] >> 1) & 3); break;
    case OP_WRITE_SAME_10: write_same(r, lba, n, c[1] & 0xfe); break;
    case OP_WRITE_SAME_16: write_same(r, lba, n, c[1]); break;
    case OP_UNMAP: unmap(r); break;
    case OP_SYNC_CACHE_10:
    case OP_SYNC_CACHE_16: scsi_flush(r); break;
    case OP_SEEK_6:
        if (in_range(r, scsi_get24(c + 1) & 0x1fffff, 1))
            scsi_good(r);
        break;
    case OP_SEEK_10:
        if (in_range(r, scsi_get32(c + 2), 1))
            scsi_good(r);
        break;
    case OP_READ_CAPACITY_10: read_capacity_10(r); break;
    case OP_SERVICE_ACTION_IN_16: service_action_in_16(r); break;
    case OP_MODE_SELECT_6:
    case OP_MODE_SELECT_10: mode_select(r); break;
    case OP_START_STOP: start_stop(r); break;
    case OP_FORMAT_UNIT: format_unit(r); break;
    case OP_MEDIUM_REMOVAL: scsi_good(r); break; /* it cannot be removed at all */
    case OP_RESERVE_6:
    case OP_RELEASE_6:
    case OP_RESERVE_10:
    case OP_RELEASE_10:
        if (c[1] & 0x11) /* third parties, extents */
            bad_cdb(r);
        else
            scsi_good(r);
        break;
    case OP_PR_IN: pr_in(r); break;
    case OP_PR_OUT: pr_out(r); break;
    case OP_SEND_DIAGNOSTIC:
        if ((c[1] & 0x13) || scsi_get16(c + 3)) /* nothing but the default self-test */
            bad_cdb(r);
        else
            scsi_good(r);
        break;
    default: scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_OPCODE); break;
    }
}

/* ---- dispatch ---------------------------------------------------------------------------------------- */

static void report_luns(struct scsi_req *r, uint64_t luns)
{
    uint32_t n = 0, alloc = scsi_get32(r->cdb + 6);
    uint8_t b[8 + 8 * SCSI_MAX_LUNS] = { 0 };

    if (r->cdb[2] > 2) {
        bad_cdb(r);
        return;
    }
    if (r->cdb[2] == 1) /* only well-known units: none */
        luns = 0;
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        if (luns >> i & 1)
            b[8 + 8 * n++ + 1] = (uint8_t)i;
    scsi_put32(b, 8 * n);
    scsi_reply(r, b, 8 + 8 * n, alloc);
}

static void request_sense(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint8_t b[SCSI_SENSE_LEN];

    if (l->absent)
        fill_sense(b, KEY_ILLEGAL_REQUEST, ASC_LUN_NOT_SUPPORTED);
    else if (l->s.attention)
        fill_sense(b, KEY_UNIT_ATTENTION, l->s.attention);
    else if (l->cd && l->s.ejected)
        fill_sense(b, KEY_NOT_READY, ASC_NO_MEDIUM);
    else if (l->s.stopped)
        fill_sense(b, KEY_NOT_READY, ASC_NOT_READY_STOPPED);
    else
        fill_sense(b, KEY_NO_SENSE, ASC_NONE);
    l->s.attention = 0;
    scsi_reply(r, b, sizeof(b), r->cdb[4]);
}

/* Commands that need the medium to be there. */
static bool needs_medium(const uint8_t *cdb)
{
    switch (cdb[0]) {
    case OP_MODE_SENSE_6:
    case OP_MODE_SENSE_10:
    case OP_MODE_SELECT_6:
    case OP_MODE_SELECT_10:
    case OP_START_STOP:
    case OP_MEDIUM_REMOVAL:
    case OP_PR_IN:
    case OP_PR_OUT:
    case OP_RESERVE_6:
    case OP_RELEASE_6:
    case OP_RESERVE_10:
    case OP_RELEASE_10:
    case OP_SEND_DIAGNOSTIC:
    case OP_GET_CONFIGURATION:
    case OP_GET_EVENT_STATUS:
    case OP_MECHANISM_STATUS:
    case OP_SYNC_CACHE_10:
    case OP_SYNC_CACHE_16: return false;
    }
    return true;
}

void scsi_execute(struct scsi_lun *l, uint64_t luns, struct scsi_req *r)
{
    r->lun = l;
    r->status = SCSI_GOOD;
    r->moved = 0;
    r->buf = NULL;
    r->next = NULL;
    r->step = r->steps = 0;
    memset(r->sense, 0, sizeof(r->sense));
    switch (r->cdb[0]) { /* never held up by a unit attention, SAM-5 5.14 */
    case OP_INQUIRY: inquiry(r); return;
    case OP_REPORT_LUNS: report_luns(r, luns); return;
    case OP_REQUEST_SENSE: request_sense(r); return;
    }
    if (l->absent) {
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LUN_NOT_SUPPORTED);
        return;
    }
    if (l->s.attention && r->cdb[0] != OP_GET_CONFIGURATION && r->cdb[0] != OP_GET_EVENT_STATUS) {
        uint16_t asc = l->s.attention;

        l->s.attention = 0;
        scsi_sense(r, KEY_UNIT_ATTENTION, asc);
        return;
    }
    if (needs_medium(r->cdb)) {
        if (l->cd && l->s.ejected) {
            scsi_sense(r, KEY_NOT_READY, ASC_NO_MEDIUM);
            return;
        }
        if (l->s.stopped) {
            scsi_sense(r, KEY_NOT_READY, ASC_NOT_READY_STOPPED);
            return;
        }
    }
    switch (r->cdb[0]) {
    case OP_TEST_UNIT_READY: scsi_good(r); return;
    case OP_MODE_SENSE_6:
    case OP_MODE_SENSE_10: scsi_mode_sense(r); return;
    }
    if (!l->cd)
        disk_execute(r);
    else if (!scsi_cd_execute(r))
        scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_OPCODE);
}

/* ---- units ------------------------------------------------------------------------------------------- */

int scsi_lun_init(struct scsi_lun *l, const struct mobo_host *host, struct mobo_vdev *dev,
                  uint8_t number, mobo_block_t block, const struct mobo_block_info *info,
                  const uint8_t id[16])
{
    memset(l, 0, sizeof(*l));
    l->host = host;
    l->dev = dev;
    l->number = number;
    l->block = block;
    l->info = *info;
    l->cd = info->flags & MOBO_BLOCK_CDROM;
    l->sector = l->cd ? 2048 : info->sector;
    l->nsect = info->len / l->sector;
    if (l->info.physical < l->sector)
        l->info.physical = l->sector;
    memcpy(l->id, id, 16);
    scsi_lun_reset(l);
    return l->nsect && (!l->cd || info->sector <= 2048) ? 0 : -EINVAL;
}

void scsi_drain(struct scsi_lun *l, enum scsi_drain how)
{
    l->drain = (uint8_t)how;
    l->host->block_drain(l->block, how != SCSI_KEEP);
    l->drain = 0;
}

void scsi_lun_reset(struct scsi_lun *l)
{
    l->s = (struct scsi_state){ .wce = 1 };
}

bool scsi_state_valid(const struct scsi_state *s)
{
    return s->stopped <= 1 && s->ejected <= 1 && s->prevent <= 3 && s->wce <= 1 &&
           s->pr_registered <= 1 && s->pr_type <= 8 && (s->pr_registered || !s->pr_type);
}
