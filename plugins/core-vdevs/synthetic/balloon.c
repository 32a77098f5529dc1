/* SPDX-License-Identifier: BSD-2-Clause */
/* Dynamic memory: takes pages from the guest and gives them back, adds more; hears of its memory pressure.
 * Reference: client drivers/hv/hv_balloon.c (cited as HB), protocols 0.3, 1.0, 2.0. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mobo/vdev.h>

#include "inband.h"
#include "wire.h"

/* HB enum dm_message_type.  A header is u16 type, u16 size with it, u32 transaction. */
enum {
    DM_ERROR = 0,
    DM_VERSION_REQUEST = 1,       /* u32 version, u32 flags: 1 last attempt */
    DM_VERSION_RESPONSE = 2,      /* u64: 1 accepted */
    DM_CAPABILITIES_REPORT = 3,   /* u64 capabilities, u64 least pages, u64 highest page */
    DM_CAPABILITIES_RESPONSE = 4, /* u64: 1 accepted */
    DM_STATUS_REPORT = 5,         /* u64 available, committed, page file, free; u32 writes, i/o */
    DM_BALLOON_REQUEST = 6,       /* u32 pages, u32 0 */
    DM_BALLOON_RESPONSE = 7,      /* u32 0, u32 count << 1 | more, ranges */
    DM_UNBALLOON_REQUEST = 8,     /* u32 more, u32 count, ranges */
    DM_UNBALLOON_RESPONSE = 9,
    DM_HOT_ADD_REQUEST = 10,      /* range */
    DM_HOT_ADD_RESPONSE = 11,     /* u32 pages added, u32 result */
    DM_INFO = 12 /* u32 0, u32 size, { u32 type, u32 size, u64 pages } */
};
enum { HEAD = 8, MSG_MAX = 4096, RANGES_MAX = (MSG_MAX - 16) / 8 };
enum { CAP_BALLOON = 1, CAP_HOT_ADD = 2, CAP_ALIGNMENT = 2 /* shift, 4 bits: 2^n MiB */ };
enum { PAGE = 4096, ASK_MAX = 65536 };
/* Memory is added in whole blocks of 128 MiB (HB HA_CHUNK), and a few of them a request: a guest that has to wait for
 * its user space with each answers late. */
enum { HOT_BLOCK = 32768, HOT_ASK_MAX = 4 * HOT_BLOCK };

/* A range: first page in bits 39:0, count in bits 63:40. */
#define RANGE_FIRST(r)       ((r) & 0xffffffffffull)
#define RANGE_COUNT(r)       ((r) >> 40)
#define RANGE(first, count)  ((first) | (uint64_t)(count) << 40)
#define RANGE_COUNT_MAX      0xffffffull

enum dm_phase { DM_CLOSED = 0, DM_OPEN = 1, DM_VERSIONED = 2, DM_READY = 3 };
enum dm_work { DM_IDLE = 0, DM_INFLATE = 1, DM_DEFLATE = 2, DM_DEFLATE_WAIT = 3, DM_HOT_ADD = 4 };

struct balloon_state {
    uint8_t phase, work; /* enum dm_phase, dm_work */
    uint8_t short_given; /* the guest gave less than asked for: it has no more */
    uint8_t unsent;      /* the request under way was not sent: no room */
    uint32_t version, transaction;
    uint64_t caps, least_pages, highest_page;
    uint64_t target;           /* pages that the balloon shall have */
    uint64_t asked, given;     /* of the request under way */
    uint64_t available, committed, page_file, zero_free, reports; /* last status, in pages */
    uint64_t taken, returned;  /* in all */
    uint64_t hot, hot_target;  /* pages added, and those that shall be */
};

struct balloon {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    mobo_vmbus_t ch;
    struct balloon_state s;
    uint8_t *map;       /* owned; a bit a page: it is in the balloon */
    uint64_t npages;    /* bits of the map */
    uint64_t in;        /* pages in the balloon */
    uint64_t low, high; /* pages of RAM from 0, from 4 GiB */
    uint64_t total, minimum; /* total: what the machine starts with */
    uint64_t hot_first, hot_max; /* pages that can be added */
    uint8_t out[MSG_MAX]; /* deflating: the message that waits for room */
    uint32_t out_len;
    uint64_t errors; /* that the guest has reported since it opened the channel */
};

enum { FOUR_G = 1 << 20 }; /* in pages */

static int in_balloon(const struct balloon *b, uint64_t page)
{
    return b->map[page / 8] >> page % 8 & 1;
}

static void mark(struct balloon *b, uint64_t first, uint64_t count, int in)
{
    for (uint64_t p = first, end = first + count; p < end;) {
        if (p % 8 == 0 && end - p >= 8) {
            memset(b->map + p / 8, in ? 0xff : 0, (size_t)((end - p) / 8));
            p += (end - p) / 8 * 8;
            continue;
        }
        if (in)
            b->map[p / 8] |= (uint8_t)(1u << p % 8);
        else
            b->map[p / 8] &= (uint8_t)~(1u << p % 8);
        p++;
    }
    b->in += in ? count : -count;
}

/* @return the first page from @p on that is in the balloon (not @in), or is not (@in); @end: none before. */
static uint64_t run_end(const struct balloon *b, uint64_t p, uint64_t end, int in)
{
    const uint64_t all = in ? ~0ull : 0;

    while (p < end && in_balloon(b, p) == in)
        p += p % 64 == 0 && end - p >= 64 && !memcmp(b->map + p / 8, &all, 8) ? 64 : 1;
    return p;
}

/* @return the next range in the balloon from *at on, at most RANGE_COUNT_MAX pages; 0: none. */
static uint64_t next_range(const struct balloon *b, uint64_t *at)
{
    uint64_t first = run_end(b, *at, b->npages, 0);

    if (first >= b->npages)
        return 0;
    *at = run_end(b, first, b->npages - first < RANGE_COUNT_MAX ? b->npages : first + RANGE_COUNT_MAX, 1);
    return RANGE(first, *at - first);
}

/* Whether [first, first + count) is RAM that is not in the balloon. */
static int may_take(const struct balloon *b, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;

    if (!count || !((first < b->low && end <= b->low) ||
                    (first >= FOUR_G && end <= FOUR_G + b->high) ||
                    (first >= b->hot_first && end <= b->hot_first + b->s.hot)))
        return 0;
    return run_end(b, first, end, 0) == end;
}

static int send(struct balloon *b, unsigned type, uint32_t transaction, uint8_t *m, uint32_t len)
{
    wire_put(m, type, 2);
    wire_put(m + 2, len, 2);
    wire_put(m + 4, transaction, 4);
    return b->host->vmbus_send(b->ch, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, len);
}

/* ---- towards the target ------------------------------------------------------------------------ */

static void inflate(struct balloon *b)
{
    uint64_t want = b->s.target - b->in;
    uint8_t m[16] = { 0 };

    b->s.asked = want < ASK_MAX ? want : ASK_MAX;
    b->s.given = 0;
    wire_put(m + 8, b->s.asked, 4);
    b->s.unsent = send(b, DM_BALLOON_REQUEST, ++b->s.transaction, m, sizeof(m)) != 0;
    b->s.work = DM_INFLATE;
}

/* Give back ranges, as many messages as there is room for. */
static void deflate(struct balloon *b)
{
    b->s.work = DM_DEFLATE;
    for (;;) {
        uint64_t at = 0, r, excess = b->in > b->s.target ? b->in - b->s.target : 0;
        uint32_t n = 0;

        if (!b->out_len) {
            memset(b->out, 0, 16);
            while (excess && n < RANGES_MAX && (r = next_range(b, &at))) {
                if (RANGE_COUNT(r) > excess)
                    r = RANGE(RANGE_FIRST(r), excess);
                wire_put(b->out + 16 + 8 * n++, r, 8);
                excess -= RANGE_COUNT(r);
                b->s.returned += RANGE_COUNT(r);
                mark(b, RANGE_FIRST(r), RANGE_COUNT(r), 0);
            }
            wire_put(b->out + 8, excess != 0, 4);
            wire_put(b->out + 12, n, 4);
            b->out_len = 16 + 8 * n;
        }
        b->s.unsent = 1;
        if (send(b, DM_UNBALLOON_REQUEST, ++b->s.transaction, b->out, b->out_len))
            return; /* signal() follows when there is room */
        b->s.unsent = 0;
        b->out_len = 0;
        if (!(b->out[8] & 1))
            break;
    }
    b->s.work = DM_DEFLATE_WAIT;
}

/* Whole blocks are added and the balloon takes what is too much of them: less of one is less of the other. */
static void hot_is_all(struct balloon *b, uint64_t hot, const char *who)
{
    uint64_t missing = b->s.hot_target - hot;

    b->host->log(b->dev, MOBO_WARNING, "%s: %llu MiB are added of %llu", who, (unsigned long long)(hot * PAGE >> 20),
                 (unsigned long long)(b->s.hot_target * PAGE >> 20));
    b->s.hot_target = hot;
    b->s.target -= b->s.target < missing ? b->s.target : missing;
}

/* What the guest is offered is RAM before it hears of it.  @return 1: a request is under way. */
static int hot_add(struct balloon *b)
{
    uint64_t want = b->s.hot_target - b->s.hot;
    uint8_t m[16] = { 0 };

    b->s.asked = want < HOT_ASK_MAX ? want : HOT_ASK_MAX;
    if (b->host->mem_plug(b->dev, (b->s.hot + b->s.asked) * PAGE)) {
        hot_is_all(b, b->s.hot, "the host has no more memory");
        return 0;
    }
    wire_put(m + 8, RANGE(b->hot_first + b->s.hot, b->s.asked), 8);
    b->s.unsent = send(b, DM_HOT_ADD_REQUEST, ++b->s.transaction, m, sizeof(m)) != 0;
    b->s.work = DM_HOT_ADD;
    return 1;
}

static void step(struct balloon *b)
{
    if (b->s.phase != DM_READY)
        return;
    if (b->s.unsent && b->s.work == DM_DEFLATE) {
        deflate(b);
        return;
    }
    if (b->s.unsent) { /* a request to take, or to add, that never left */
        b->s.unsent = 0;
        b->s.work = DM_IDLE;
    }
    if (b->s.work != DM_IDLE)
        return;
    if (b->in > b->s.target)
        deflate(b);
    else if (b->s.hot < b->s.hot_target && hot_add(b))
        ;
    else if (b->in < b->s.target && !b->s.short_given)
        inflate(b);
}

/* ---- messages of the guest --------------------------------------------------------------------- */

static const char *version_request(struct balloon *b, const uint8_t *m)
{
    static const uint32_t known[] = { 0x20000, 0x10000, 0x00003 };
    uint32_t version = (uint32_t)wire_get(m + 8, 4);
    uint8_t r[16] = { 0 };
    int ok = 0;

    for (unsigned i = 0; i < 3; i++)
        ok |= version == known[i];
    r[8] = (uint8_t)ok;
    if (ok) {
        b->s.version = version;
        b->s.phase = DM_VERSIONED;
    }
    return send(b, DM_VERSION_RESPONSE, (uint32_t)wire_get(m + 4, 4), r, sizeof(r))
               ? "it leaves no room for answers"
               : NULL;
}

static const char *capabilities(struct balloon *b, const uint8_t *m)
{
    uint8_t r[16] = { 0 }, info[HEAD + 24] = { 0 };

    b->s.caps = wire_get(m + 8, 8);
    b->s.least_pages = wire_get(m + 16, 8);
    b->s.highest_page = wire_get(m + 24, 8);
    r[8] = 1;
    if (send(b, DM_CAPABILITIES_RESPONSE, (uint32_t)wire_get(m + 4, 4), r, sizeof(r)))
        return "it leaves no room for answers";
    if (b->s.version >= 0x10000) {
        wire_put(info + HEAD + 4, 16, 4);
        wire_put(info + HEAD + 12, 8, 4); /* type 0: most pages */
        wire_put(info + HEAD + 16, b->total + b->hot_max, 8);
        send(b, DM_INFO, ++b->s.transaction, info, sizeof(info)); /* for its log only */
    }
    b->s.phase = DM_READY;
    step(b);
    return NULL;
}

static const char *balloon_response(struct balloon *b, const uint8_t *m, uint32_t len)
{
    uint32_t word = (uint32_t)wire_get(m + 12, 4), n = word >> 1;

    if (b->s.work != DM_INFLATE || b->s.unsent)
        return "it gives pages that nobody asked for";
    if (n > (len - 16) / 8)
        return "a list of pages that is longer than its message";
    for (uint32_t i = 0; i < n; i++) {
        uint64_t r = wire_get(m + 16 + 8 * i, 8), first = RANGE_FIRST(r), count = RANGE_COUNT(r);

        if (count > b->s.asked - b->s.given)
            return "it gives more pages than asked for";
        if (!may_take(b, first, count))
            return "it gives pages that are not its own";
        b->host->mem_discard(b->dev, first * PAGE, count * PAGE);
        mark(b, first, count, 1);
        b->s.given += count;
        b->s.taken += count;
    }
    if (word & 1)
        return NULL;
    b->s.work = DM_IDLE;
    if (b->s.given < b->s.asked) {
        b->s.short_given = 1;
        b->host->log(b->dev, MOBO_INFO, "the guest gives no more memory: %llu MiB of %llu",
                     (unsigned long long)(b->in * PAGE >> 20),
                     (unsigned long long)(b->s.target * PAGE >> 20));
    }
    step(b);
    return NULL;
}

static const char *hot_add_response(struct balloon *b, const uint8_t *m)
{
    uint64_t n = wire_get(m + 8, 4);

    if (b->s.work != DM_HOT_ADD || b->s.unsent)
        return "it adds memory that nobody offered";
    if (n > b->s.asked)
        return "it adds more memory than offered";
    b->s.hot += (n + HOT_BLOCK - 1) / HOT_BLOCK * HOT_BLOCK; /* a block that it has in part stays whole */
    if (n < b->s.asked) /* HB: no more of it, at least not now */
        hot_is_all(b, b->s.hot, "the guest adds no more memory");
    b->s.work = DM_IDLE;
    b->host->mem_plug(b->dev, b->s.hot * PAGE); /* fewer than now, which cannot fail */
    step(b);
    return NULL;
}

/* @return what is wrong with the message, or NULL. */
static const char *receive(void *ctx, const struct mobo_vmbus_packet *p)
{
    struct balloon *b = ctx;
    static const uint8_t least[] = { HEAD, 16, 16, 32, 16, 48, 16, 16, 16, HEAD, 16, 16, 16 };
    const uint8_t *m = p->data;
    unsigned type, size;

    type = (unsigned)wire_get(m, 2);
    size = (unsigned)wire_get(m + 2, 2);
    if (type >= sizeof(least) || size > p->len || size < least[type])
        return "a message of an unknown type or a wrong size";
    switch (type) {
    case DM_VERSION_REQUEST:
        return b->s.phase == DM_READY ? "it changes its version later" : version_request(b, m);
    case DM_CAPABILITIES_REPORT:
        return b->s.phase != DM_VERSIONED ? "capabilities out of order" : capabilities(b, m);
    case DM_STATUS_REPORT:
        b->s.available = wire_get(m + 8, 8);
        b->s.committed = wire_get(m + 16, 8);
        b->s.page_file = wire_get(m + 24, 8);
        b->s.zero_free = wire_get(m + 32, 8);
        b->s.reports++;
        return NULL;
    case DM_BALLOON_RESPONSE: return balloon_response(b, m, size);
    case DM_UNBALLOON_RESPONSE:
        if (b->s.work != DM_DEFLATE_WAIT)
            return "it thanks for pages that it did not get";
        b->s.work = DM_IDLE;
        step(b);
        return NULL;
    case DM_HOT_ADD_RESPONSE: return hot_add_response(b, m);
    case DM_ERROR:
        if (!b->errors++)
            b->host->log(b->dev, MOBO_WARNING, "the guest reports an error");
        return NULL;
    }
    return "a message that only the host sends";
}

static void channel_signal(void *ctx)
{
    struct balloon *b = ctx;
    const struct inband in = { b->dev, b->host, b->ch, channel_signal, receive, b, HEAD, 0 };

    if (b->s.phase == DM_CLOSED)
        return;
    step(b);
    inband_turn(&in);
}

/* The driver is gone and its pages with it: Linux frees them when it is unloaded.  What was added stays, as the
 * guest goes on using it; so does what it was just being offered, as nobody knows. */
static void forget(struct balloon *b, int phase)
{
    uint64_t target = b->s.target, hot = b->s.hot + (b->s.work == DM_HOT_ADD ? b->s.asked : 0);

    if (target > b->total + hot - b->minimum)
        target = b->total + hot - b->minimum;
    b->s = (struct balloon_state){ .phase = (uint8_t)phase, .target = target, .hot = hot, .hot_target = hot };
    memset(b->map, 0, (b->npages + 7) / 8);
    b->in = 0;
    b->out_len = 0;
    b->errors = 0;
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    (void)user_data;
    forget(ctx, DM_OPEN);
    return 0;
}

static void channel_close(void *ctx)
{
    forget(ctx, DM_CLOSED);
}

/* ---- commands ---------------------------------------------------------------------------------- */

/* A size as in VM files: bytes, or with K, M, G. */
static int parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMG";
    const char *unit;
    char *end;
    uint64_t val;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    val = strtoull(text, &end, 0);
    if (errno)
        return -ERANGE;
    if (*end) {
        unit = strchr(units, *end);
        if (!unit || end[1])
            return -EINVAL;
        for (const char *u = units; u <= unit; u++) {
            if (val >> 54)
                return -ERANGE;
            val <<= 10;
        }
    }
    *ret = val;
    return 0;
}

static int bl_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct balloon *b = self;
    uint64_t size = 0, pages, target, have = b->total + b->s.hot, hot = b->s.hot_target;
    int is_target = !strcmp(verb, "target");

    if (!is_target && strcmp(verb, "take") && strcmp(verb, "give"))
        return b->host->fail(b->dev, -ENOSYS, "unknown command '%s' (target, take, give)", verb);
    if (*arg ? parse_size(arg, &size) : strcmp(verb, "give") != 0)
        return b->host->fail(b->dev, -EINVAL, "%s: '%s' is not a size", verb, arg);
    if (!*arg)
        size = b->in * PAGE; /* give: all of it */
    if (b->s.phase != DM_READY)
        return b->host->fail(b->dev, -ENOTCONN, "the guest has no driver for dynamic memory");
    if (!(b->s.caps & CAP_BALLOON))
        return b->host->fail(b->dev, -EOPNOTSUPP, "the guest does not balloon");
    pages = size / PAGE;
    if (b->s.work == DM_HOT_ADD)
        have += b->s.asked;
    if (is_target && pages > have) {
        hot = (pages - b->total + HOT_BLOCK - 1) / HOT_BLOCK * HOT_BLOCK;
        if (hot > b->hot_max)
            return b->host->fail(b->dev, -ERANGE, "the guest can have %llu MiB at most",
                                 (unsigned long long)((b->total + b->hot_max) * PAGE >> 20));
        if (!(b->s.caps & CAP_HOT_ADD) || (b->s.caps >> CAP_ALIGNMENT & 15) > 7) /* 2^7 MiB are a block */
            return b->host->fail(b->dev, -EOPNOTSUPP, "the guest adds no memory while it runs");
        have = b->total + hot;
        target = have - pages;
    } else if (is_target) {
        target = have - pages;
        hot = have - b->total;
    } else if (!strcmp(verb, "take")) {
        target = b->in + pages;
    } else {
        target = pages < b->in ? b->in - pages : 0;
    }
    if (target > have - b->minimum)
        return b->host->fail(b->dev, -ERANGE, "the guest would have less than %llu MiB",
                             (unsigned long long)(b->minimum * PAGE >> 20));
    b->s.target = target;
    b->s.hot_target = hot;
    b->s.short_given = 0;
    step(b);
    snprintf(ret, ret_len, "the guest shall have %llu MiB, the balloon has %llu MiB",
             (unsigned long long)((have - target) * PAGE >> 20),
             (unsigned long long)(b->in * PAGE >> 20));
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void bl_reset(void *self)
{
    struct balloon *b = self;

    b->s = (struct balloon_state){ 0 };
    forget(b, DM_CLOSED);
    if (b->hot_max)
        b->host->mem_plug(b->dev, 0);
}

static const struct mobo_field bl_fields[] = {
    MOBO_FIELD(1, struct balloon_state, phase),
    MOBO_FIELD(2, struct balloon_state, work),
    MOBO_FIELD(3, struct balloon_state, short_given),
    MOBO_FIELD(4, struct balloon_state, unsent),
    MOBO_FIELD(5, struct balloon_state, version),
    MOBO_FIELD(6, struct balloon_state, transaction),
    MOBO_FIELD(7, struct balloon_state, caps),
    MOBO_FIELD(8, struct balloon_state, least_pages),
    MOBO_FIELD(9, struct balloon_state, highest_page),
    MOBO_FIELD(10, struct balloon_state, target),
    MOBO_FIELD(11, struct balloon_state, asked),
    MOBO_FIELD(12, struct balloon_state, given),
    MOBO_FIELD(13, struct balloon_state, available),
    MOBO_FIELD(14, struct balloon_state, committed),
    MOBO_FIELD(15, struct balloon_state, page_file),
    MOBO_FIELD(16, struct balloon_state, zero_free),
    MOBO_FIELD(17, struct balloon_state, reports),
    MOBO_FIELD(18, struct balloon_state, taken),
    MOBO_FIELD(19, struct balloon_state, returned),
};
/* Only with `maximum`. */
static const struct mobo_field hot_fields[] = {
    MOBO_FIELD(1, struct balloon_state, hot),
    MOBO_FIELD(2, struct balloon_state, hot_target),
};
enum { TAG_PAGES = 20, TAG_OUT = 21, TAG_HOT = 22 };

static int bl_save(void *self, struct mobo_writer *out)
{
    struct balloon *b = self;
    uint64_t at = 0, r, n = 0, cap = 0;
    uint8_t *list = NULL;
    int err = b->host->save_fields(out, MOBO_ARRAY(bl_fields), &b->s);

    while (!err && (r = next_range(b, &at))) {
        if (n == cap) {
            uint8_t *more = realloc(list, 8 * (cap = cap ? 2 * cap : 64));

            if (!more) {
                free(list);
                return b->host->fail(b->dev, -ENOMEM, "out of memory");
            }
            list = more;
        }
        wire_put(list + 8 * n++, r, 8);
    }
    if (!err)
        err = b->host->save_bytes(out, TAG_PAGES, 0, list, (uint32_t)(8 * n));
    if (!err)
        err = b->host->save_bytes(out, TAG_OUT, 0, b->out, b->out_len);
    free(list);
    if (!err && b->hot_max) {
        b->host->save_begin(out, TAG_HOT, 0);
        err = b->host->save_fields(out, MOBO_ARRAY(hot_fields), &b->s);
        b->host->save_end(out);
    }
    return err;
}

static int sane(const struct balloon *b, const struct balloon_state *s, uint32_t out_len)
{
    uint64_t ask_max = s->work == DM_HOT_ADD ? HOT_ASK_MAX : ASK_MAX;

    if (s->phase > DM_READY || s->work > DM_HOT_ADD || s->short_given > 1 || s->unsent > 1)
        return 0;
    if (s->hot % HOT_BLOCK || s->hot > s->hot_target || s->hot_target % HOT_BLOCK || s->hot_target > b->hot_max ||
        (s->work == DM_HOT_ADD && (!s->asked || s->asked % HOT_BLOCK || s->asked > s->hot_target - s->hot)))
        return 0;
    if (s->work != DM_IDLE && s->phase != DM_READY)
        return 0;
    if (s->unsent != (s->work == DM_DEFLATE) && s->work != DM_INFLATE && s->work != DM_HOT_ADD)
        return 0;
    return s->target <= b->total + s->hot_target - b->minimum && s->asked <= ask_max && s->given <= s->asked &&
           (s->work == DM_DEFLATE ? out_len >= 16 : out_len == 0);
}

static int bl_restore(void *self, struct mobo_reader *in)
{
    struct balloon *b = self;
    struct balloon_state s = { 0 };
    uint8_t out[MSG_MAX], *list = NULL, *old = b->map;
    uint32_t len = 0, out_len = 0;
    uint64_t max = (b->total + b->hot_max) * 8 + 8, was_hot = b->s.hot;
    int err = 0;

    if (max > 256u << 20)
        max = 256u << 20;
    list = malloc(max);
    b->map = calloc(1, (b->npages + 7) / 8);
    if (!list || !b->map)
        err = b->host->fail(b->dev, -ENOMEM, "out of memory");
    if (!err)
        err = b->host->load_bytes(in, TAG_PAGES, list, (uint32_t)max, &len);
    if (!err)
        err = b->host->load_bytes(in, TAG_OUT, out, sizeof(out), &out_len);
    if (err == -ENOENT || err == -EMSGSIZE || len % 8)
        err = b->host->fail(b->dev, -EINVAL, "the saved list of pages is missing or broken");
    if (!err && b->hot_max) {
        err = b->host->load_begin(in, TAG_HOT);
        if (!err)
            err = b->host->load_fields(in, MOBO_ARRAY(hot_fields), &s);
        if (!err)
            err = b->host->load_end(in);
        if (err)
            err = b->host->fail(b->dev, -EINVAL, "the saved size of what was added is missing or broken");
    }
    if (!err)
        err = b->host->load_fields(in, MOBO_ARRAY(bl_fields), &s);
    if (!err && !sane(b, &s, out_len))
        err = b->host->fail(b->dev, -EINVAL, "the saved state makes no sense");
    if (!err) {
        uint64_t was = b->in;

        b->in = 0;
        b->s.hot = s.hot;
        for (uint32_t i = 0; i < len && !err; i += 8) {
            uint64_t r = wire_get(list + i, 8);

            if (may_take(b, RANGE_FIRST(r), RANGE_COUNT(r)))
                mark(b, RANGE_FIRST(r), RANGE_COUNT(r), 1);
            else
                err = b->host->fail(b->dev, -EINVAL, "a saved page is none of this guest's");
        }
        if (!err && b->hot_max && b->host->mem_plug(b->dev, (s.hot + (s.work == DM_HOT_ADD ? s.asked : 0)) * PAGE))
            err = b->host->fail(b->dev, -ENOMEM, "the memory that was added has no room");
        if (err) {
            b->in = was;
            b->s.hot = was_hot;
        }
    }
    free(list);
    if (err) {
        free(b->map);
        b->map = old;
        return err;
    }
    free(old);
    b->s = s;
    memcpy(b->out, out, out_len);
    b->out_len = out_len;
    return 0;
}

static void bl_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const phases[] = { "not opened by the guest", "opened", "version agreed",
                                          "ready" };
    static const char *const works[] = { "idle", "taking", "giving", "giving", "adding" };
    struct balloon *b = self;
    const struct mobo_host *h = b->host;
    char text[16];

    h->inspect_str(out, "channel", phases[b->s.phase]);
    snprintf(text, sizeof(text), "%u.%u", b->s.version >> 16, b->s.version & 0xffff);
    h->inspect_str(out, "version", text);
    h->inspect_str(out, "guest_balloons", b->s.caps & CAP_BALLOON ? "yes" : "no");
    h->inspect_str(out, "guest_hot_adds", b->s.caps & CAP_HOT_ADD ? "yes" : "no");
    h->inspect_str(out, "activity", works[b->s.work]);
    h->inspect_uint(out, "memory", b->total * PAGE);
    h->inspect_uint(out, "maximum", (b->total + b->hot_max) * PAGE);
    h->inspect_uint(out, "added", b->s.hot * PAGE);
    h->inspect_uint(out, "assigned", (b->total + b->s.hot - b->in) * PAGE);
    h->inspect_uint(out, "ballooned", b->in * PAGE);
    h->inspect_uint(out, "target", (b->total + b->s.hot_target - b->s.target) * PAGE);
    h->inspect_uint(out, "taken_in_all", b->s.taken * PAGE);
    h->inspect_uint(out, "given_back_in_all", b->s.returned * PAGE);
    h->inspect_uint(out, "reported_errors", b->errors);
    h->inspect_uint(out, "reports", b->s.reports);
    if (!b->s.reports)
        return;
    h->inspect_uint(out, "guest_available", b->s.available * PAGE);
    h->inspect_uint(out, "guest_committed", b->s.committed * PAGE);
    if (b->total)
        h->inspect_uint(out, "pressure_percent",
                        b->s.committed < UINT64_MAX / 100 ? b->s.committed * 100 / (b->total + b->s.hot) : 100);
}

static void bl_destroy(void *self)
{
    struct balloon *b = self;

    free(b->map);
    free(b);
}

static int bl_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    static const struct mobo_vmbus_offer offer = {
        .size = sizeof(offer),
        .flags = MOBO_VMBUS_ENUMERATE_DEVICE,
        .class_id = MOBO_GUID(0x525074dc, 0x8985, 0x46e2, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18, 0xa5,
                              0x02),
        .instance_id = MOBO_GUID(0x1eccfd72, 0x4b41, 0x45ef, 0xb7, 0x3a, 0x4a, 0x6e, 0x44, 0xc1,
                                 0x29, 0x24),
    };
    struct mobo_board_info info = { .size = sizeof(info) };
    struct balloon *b = calloc(1, sizeof(*b));
    uint64_t maximum;
    int err = 0;

    if (!b)
        return host->fail(dev, -ENOMEM, "out of memory");
    b->dev = dev;
    b->host = host;
    host->board_info(dev, &info);
    b->low = info.ram_below_4g / PAGE;
    b->high = info.ram_above_4g / PAGE;
    b->total = b->low + b->high;
    b->npages = b->high ? FOUR_G + b->high : b->low;
    b->minimum = host->param_uint(dev, "minimum") / PAGE;
    if (b->minimum > b->total)
        b->minimum = b->total; /* a small guest keeps all */
    maximum = host->param_uint(dev, "maximum") / PAGE;
    if (!MOBO_HAS(host, mem_discard))
        err = host->fail(dev, -ENOSYS, "this host cannot take memory back");
    if (!err && maximum && maximum < b->total)
        err = host->fail(dev, -EINVAL, "maximum: the machine has %llu MiB from the start",
                         (unsigned long long)(b->total * PAGE >> 20));
    if (!err && maximum > b->total)
        b->hot_max = (maximum - b->total) / HOT_BLOCK * HOT_BLOCK;
    if (!err && b->hot_max) {
        uint64_t gpa = 0;

        err = MOBO_HAS(host, mem_plug) ? host->mem_reserve(dev, b->hot_max * PAGE, &gpa)
                                       : host->fail(dev, -ENOSYS, "maximum: this host cannot add memory");
        b->hot_first = gpa / PAGE;
        b->npages = b->hot_first + b->hot_max;
    }
    if (!err) {
        b->map = calloc(1, (b->npages + 7) / 8);
        err = b->map ? 0 : host->fail(dev, -ENOMEM, "out of memory");
    }
    if (!err)
        err = host->vmbus_offer(dev, &offer, &ops, b, &b->ch);
    if (err) {
        bl_destroy(b);
        return err;
    }
    *ret_self = b;
    return 0;
}

static const struct mobo_param bl_params[] = {
    { "minimum", MOBO_SIZE, 0, "bytes", "32M", 0, 1ull << 40, NULL,
      "memory that the guest keeps at least" },
    { "maximum", MOBO_SIZE, 0, "bytes", "0", 0, 1ull << 40, NULL,
      "memory that the guest can have at most, by adding some while it runs; 0: what it starts with" },
};

static const struct mobo_vdev_ops bl_ops = {
    .size = sizeof(bl_ops),
    .create = bl_create,
    .destroy = bl_destroy,
    .reset = bl_reset,
    .save = bl_save,
    .restore = bl_restore,
    .inspect = bl_inspect,
    .command = bl_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "balloon",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "dynamic memory: takes memory from the guest, gives it back, adds more",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = bl_params,
    .nparams = sizeof(bl_params) / sizeof(bl_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &bl_ops,
};
