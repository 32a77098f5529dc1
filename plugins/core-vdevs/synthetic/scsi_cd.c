/* SPDX-License-Identifier: BSD-2-Clause */
/* SCSI logical units: CD and DVD readers with one read-only disc image (MMC-6).
 *
 * The disc is one data track of 2048-byte sectors in one session, as ISO 9660 images are. */
#include <string.h>

#include "scsi.h"

enum { CD_SECTORS = 450000, LEAD_OUT = 0xaa }; /* more than fits on a CD is a DVD */

static bool is_dvd(const struct scsi_lun *l)
{
    return l->nsect > CD_SECTORS;
}

static void bad_cdb(struct scsi_req *r)
{
    scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_CDB_FIELD);
}

/* An address as minute, second, frame, or as it is. */
static void put_address(uint8_t *b, uint64_t lba, bool msf)
{
    if (!msf) {
        scsi_put32(b, lba);
        return;
    }
    lba += 150;
    b[0] = 0;
    b[1] = (uint8_t)(lba / (75 * 60) > 255 ? 255 : lba / (75 * 60));
    b[2] = (uint8_t)(lba / 75 % 60);
    b[3] = (uint8_t)(lba % 75);
}

/* MMC-6 6.25 */
static void read_toc(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    bool msf = r->cdb[1] & 2;
    uint8_t format = r->cdb[2] & 15, first = r->cdb[6], b[64] = { 0 };
    uint32_t alloc = scsi_get16(r->cdb + 7), len = 4;

    if (!format)
        format = r->cdb[9] >> 6; /* where older drivers put it */
    switch (format) {
    case 0: /* tracks */
        if (first > 1 && first != LEAD_OUT) {
            bad_cdb(r);
            return;
        }
        b[2] = b[3] = 1;
        if (first <= 1) {
            b[len + 1] = 0x14; /* data track */
            b[len + 2] = 1;
            put_address(b + len + 4, 0, msf);
            len += 8;
        }
        b[len + 1] = 0x14;
        b[len + 2] = LEAD_OUT;
        put_address(b + len + 4, l->nsect, msf);
        len += 8;
        break;
    case 1: /* sessions */
        b[2] = b[3] = 1;
        b[5] = 0x14;
        b[6] = 1;
        put_address(b + 8, 0, msf);
        len = 12;
        break;
    case 2: { /* raw: first and last track, lead-out, the track */
        static const uint8_t point[] = { 0xa0, 0xa1, 0xa2, 1 };

        b[2] = b[3] = 1;
        for (unsigned i = 0; i < sizeof(point); i++, len += 11) {
            b[len] = 1;
            b[len + 1] = 0x14;
            b[len + 3] = point[i];
            if (point[i] == 0xa2 || point[i] == 1) {
                uint8_t a[4];

                put_address(a, point[i] == 1 ? 0 : l->nsect, true);
                memcpy(b + len + 8, a + 1, 3);
            } else {
                b[len + 8] = 1;
            }
        }
        break;
    }
    default: bad_cdb(r); return;
    }
    scsi_put16(b, len - 2);
    scsi_reply(r, b, len, alloc);
}

/* MMC-6 6.6; the features that the commands below make. */
static void get_configuration(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    static const struct {
        uint16_t code;
        uint8_t flags, len, data[8];
    } features[] = {
        { 0x0000, 0x03, 8, { 0, 0x10, 0, 0, 0, 0x08, 0, 0 } }, /* profiles: DVD-ROM, CD-ROM */
        { 0x0001, 0x0b, 8, { 0, 0, 0, 1, 1, 0, 0, 0 } },       /* core: SCSI, DBE */
        { 0x0002, 0x07, 4, { 2, 0, 0, 0 } },                   /* morphing: OCEvent */
        { 0x0003, 0x03, 4, { 0x29, 0, 0, 0 } },                /* removable: tray, eject, lock */
        { 0x0010, 0x01, 8, { 0, 0, 0x08, 0, 0, 1, 1, 0 } },    /* random readable, 2048 */
        { 0x001e, 0x08, 4, { 0, 0, 0, 0 } },                   /* CD read */
        { 0x001f, 0x08, 4, { 0, 0, 0, 0 } },                   /* DVD read */
        { 0x0100, 0x03, 0, { 0 } },                            /* power management */
    };
    uint8_t rt = r->cdb[1] & 3, b[128] = { 0 };
    uint16_t start = scsi_get16(r->cdb + 2);
    uint32_t len = 8, alloc = scsi_get16(r->cdb + 7);
    uint16_t profile = l->s.ejected ? 0 : is_dvd(l) ? 0x10 : 0x08;

    if (rt == 3) {
        bad_cdb(r);
        return;
    }
    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        uint16_t code = features[i].code;
        bool current = features[i].flags & 1;

        if (code == 0x10 || code == 0x1e || code == 0x1f) /* those of the medium */
            current = profile && (code == 0x10 || (code == 0x1f) == (profile == 0x10));
        if (rt == 2 ? code != start : code < start)
            continue;
        if (rt == 1 && !current)
            continue;
        scsi_put16(b + len, code);
        b[len + 2] = (uint8_t)((features[i].flags & 0xfe) | current);
        b[len + 3] = features[i].len;
        memcpy(b + len + 4, features[i].data, features[i].len);
        if (code == 0) {
            b[len + 6] = profile == 0x10;
            b[len + 10] = profile == 0x08;
        }
        len += 4u + features[i].len;
    }
    scsi_put32(b, len - 4);
    scsi_put16(b + 6, profile);
    scsi_reply(r, b, len, alloc);
}

/* MMC-6 6.7, polled only. */
static void get_event_status(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint8_t b[8] = { 0 };

    if (!(r->cdb[1] & 1)) { /* asynchronous */
        bad_cdb(r);
        return;
    }
    b[3] = 0x10; /* supported: media */
    if (!(r->cdb[4] & 0x10)) {
        b[1] = 2;
        b[2] = 0x80; /* NEA: none of those asked for */
        scsi_reply(r, b, 4, scsi_get16(r->cdb + 7));
        return;
    }
    b[1] = 6;
    b[2] = 4;
    if (l->s.attention == ASC_MEDIUM_CHANGED)
        b[4] = 2;                /* new media */
    b[5] = l->s.ejected ? 1 : 2; /* tray open, or media present */
    scsi_reply(r, b, 8, scsi_get16(r->cdb + 7));
}

static void read_disc_info(struct scsi_req *r)
{
    uint8_t b[34] = { 0 };

    if (r->cdb[1] & 7) {
        bad_cdb(r);
        return;
    }
    scsi_put16(b, 32);
    b[2] = 0x0e; /* complete disc, complete session */
    b[3] = b[4] = b[5] = b[6] = 1;
    b[7] = 0x20; /* unrestricted use */
    memset(b + 16, 0xff, 8);
    scsi_reply(r, b, sizeof(b), scsi_get16(r->cdb + 7));
}

static void read_track_info(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint32_t number = scsi_get32(r->cdb + 2);
    uint8_t b[36] = { 0 };

    switch (r->cdb[1] & 3) {
    case 0:
        if (number >= l->nsect) {
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
            return;
        }
        break;
    case 1:
    case 2:
        if (number == 1)
            break;
        /* fall through */
    default: bad_cdb(r); return;
    }
    scsi_put16(b, sizeof(b) - 2);
    b[2] = b[3] = 1;
    b[5] = 4; /* data */
    b[6] = 1;
    scsi_put32(b + 24, l->nsect);
    scsi_reply(r, b, sizeof(b), scsi_get16(r->cdb + 7));
}

/* MMC-6 6.22: what describes a pressed disc. */
static void read_dvd_structure(struct scsi_req *r)
{
    struct scsi_lun *l = r->lun;
    uint32_t alloc = scsi_get16(r->cdb + 8), len;
    uint8_t b[32] = { 0 };

    if (!is_dvd(l) || (r->cdb[1] & 15)) {
        bad_cdb(r);
        return;
    }
    switch (r->cdb[7]) {
    case 0x00:       /* physical format */
        b[4] = 0x01; /* DVD-ROM, part 1 */
        b[5] = 0x0f; /* 120 mm, rate not specified */
        b[6] = 0x01; /* one layer, embossed */
        scsi_put32(b + 8, 0x30000);
        scsi_put32(b + 12, 0x30000 + l->nsect - 1);
        len = 4 + 17;
        break;
    case 0x01: len = 8; break; /* copyright: none */
    case 0xff:                 /* list of what there is */
        b[4] = 0x00;
        b[5] = 0x40;
        scsi_put16(b + 6, 21);
        b[8] = 0x01;
        b[9] = 0x40;
        scsi_put16(b + 10, 8);
        len = 12;
        break;
    default: bad_cdb(r); return;
    }
    scsi_put16(b, len - 2);
    scsi_reply(r, b, len, alloc);
}

static void read_buffer_capacity(struct scsi_req *r)
{
    uint8_t b[12] = { 0 };

    scsi_put16(b, 10);
    if (r->cdb[1] & 1)
        b[3] = 1; /* blocks */
    scsi_reply(r, b, sizeof(b), scsi_get16(r->cdb + 7));
}

static void mechanism_status(struct scsi_req *r)
{
    uint8_t b[8] = { 0 };

    if (r->lun->s.ejected)
        b[1] = 0x10; /* door open */
    scsi_reply(r, b, sizeof(b), scsi_get16(r->cdb + 8));
}

/* MMC-6 6.8: nominal performance of reading, one range. */
static void get_performance(struct scsi_req *r)
{
    uint32_t end = (uint32_t)(r->lun->nsect - 1), speed = is_dvd(r->lun) ? 22160 : 7056;
    uint8_t b[24] = { 0 };

    if (r->cdb[10] != 0 || (r->cdb[1] & 0x04)) { /* other types; write performance */
        bad_cdb(r);
        return;
    }
    scsi_put32(b, 20);
    scsi_put32(b + 12, speed);
    scsi_put32(b + 16, end);
    scsi_put32(b + 20, speed);
    scsi_reply(r, b, scsi_get16(r->cdb + 8) ? 24 : 8, 24);
}

static void start_stop(struct scsi_req *r)
{
    struct scsi_state *s = &r->lun->s;

    if (r->cdb[4] >> 4) { /* power conditions */
        bad_cdb(r);
        return;
    }
    if (r->cdb[4] & 2) { /* LOEJ */
        if (!(r->cdb[4] & 1)) {
            if (s->prevent && !s->ejected) {
                scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_REMOVAL_PREVENTED);
                return;
            }
            s->ejected = 1;
        } else {
            if (s->ejected)
                s->attention = ASC_MEDIUM_CHANGED;
            s->ejected = 0;
        }
    }
    scsi_good(r); /* a disc that is stopped spins up by itself */
}

uint32_t scsi_cd_mode_page(struct scsi_lun *l, uint8_t page, uint8_t *b)
{
    (void)l;
    switch (page) {
    case 0x01: /* read error recovery */
        b[0] = 0x01;
        b[1] = 0x0a;
        return 12;
    case 0x0e: /* audio control, for old drivers */
        b[0] = 0x0e;
        b[1] = 0x0e;
        b[2] = 0x04;
        return 16;
    case 0x2a: /* capabilities and mechanical status, MMC-3 5.5.10 */
        b[0] = 0x2a;
        b[1] = 0x12;
        b[2] = 0x08; /* reads DVD-ROM */
        b[4] = 0x20; /* mode 2 form 1 */
        b[6] = 0x29; /* tray, eject, lock */
        scsi_put16(b + 8, 7056);
        scsi_put16(b + 12, 256);
        scsi_put16(b + 14, 7056);
        return 20;
    }
    return 0;
}

bool scsi_cd_execute(struct scsi_req *r)
{
    const uint8_t *c = r->cdb;
    struct scsi_lun *l = r->lun;
    uint8_t b[8];

    switch (c[0]) {
    case OP_READ_6:
        scsi_transfer(r, MOBO_BLOCK_READ, scsi_get24(c + 1) & 0x1fffff, c[4] ? c[4] : 256, false);
        break;
    case OP_READ_10:
        scsi_transfer(r, MOBO_BLOCK_READ, scsi_get32(c + 2), scsi_get16(c + 7), false);
        break;
    case OP_READ_12:
        scsi_transfer(r, MOBO_BLOCK_READ, scsi_get32(c + 2), scsi_get32(c + 6), false);
        break;
    case OP_READ_CAPACITY_10:
        scsi_put32(b, l->nsect - 1);
        scsi_put32(b + 4, l->sector);
        scsi_reply(r, b, 8, 8);
        break;
    case OP_SEEK_10:
        if (scsi_get32(c + 2) < l->nsect)
            scsi_good(r);
        else
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
        break;
    case OP_VERIFY_10:
        if ((uint64_t)scsi_get32(c + 2) + scsi_get16(c + 7) > l->nsect)
            scsi_sense(r, KEY_ILLEGAL_REQUEST, ASC_LBA_RANGE);
        else if (c[1] & 2)
            bad_cdb(r);
        else
            scsi_good(r);
        break;
    case OP_READ_TOC: read_toc(r); break;
    case OP_GET_CONFIGURATION: get_configuration(r); break;
    case OP_GET_EVENT_STATUS: get_event_status(r); break;
    case OP_READ_DISC_INFO: read_disc_info(r); break;
    case OP_READ_TRACK_INFO: read_track_info(r); break;
    case OP_READ_DVD_STRUCTURE: read_dvd_structure(r); break;
    case OP_READ_BUFFER_CAPACITY: read_buffer_capacity(r); break;
    case OP_MECHANISM_STATUS: mechanism_status(r); break;
    case OP_GET_PERFORMANCE: get_performance(r); break;
    case OP_SET_STREAMING: scsi_good(r); break; /* any rate that is asked for is kept */
    case OP_SYNC_CACHE_10: scsi_flush(r); break;
    case OP_START_STOP: start_stop(r); break;
    case OP_MEDIUM_REMOVAL:
        l->s.prevent = c[4] & 3;
        scsi_good(r);
        break;
    case OP_SEND_DIAGNOSTIC: scsi_good(r); break;
    default: return false;
    }
    return true;
}
