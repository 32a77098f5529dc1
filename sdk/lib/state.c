/* SPDX-License-Identifier: MIT */
/* Saved state: tagged, length-prefixed fields.  The format is in state.h. */
#include "sdk/lib/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REC_HEAD = 8, REC_IGNORABLE = 1, REC_GROUP = 2 };

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

struct mobo_field mobo_field_at(const struct mobo_field *fields, uint32_t i, uint32_t elem)
{
    struct mobo_field f;

    memset(&f, 0, sizeof(f));
    memcpy(&f, (const char *)fields + (size_t)i * elem, elem < sizeof(f) ? elem : sizeof(f));
    return f;
}

/* ---- writer ------------------------------------------------------------------------------------ */

void mobo_writer_init(struct mobo_writer *w)
{
    memset(w, 0, sizeof(*w));
}

void mobo_writer_fini(struct mobo_writer *w)
{
    free(w->buf);
    memset(w, 0, sizeof(*w));
}

/* Room for @len more bytes, or NULL with w->err set. */
static uint8_t *writer_grow(struct mobo_writer *w, size_t len)
{
    uint8_t *p;

    if (w->err)
        return NULL;
    if (len > UINT32_MAX - w->len) { /* lengths of groups are 32 bits */
        w->err = -EFBIG;
        return NULL;
    }
    if (w->len + len > w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 1024;

        while (cap < w->len + len)
            cap *= 2;
        p = realloc(w->buf, cap);
        if (!p) {
            w->err = -ENOMEM;
            return NULL;
        }
        w->buf = p;
        w->cap = cap;
    }
    p = w->buf + w->len;
    w->len += len;
    return p;
}

static uint8_t *writer_record(struct mobo_writer *w, uint32_t tag, uint32_t flags, uint32_t len)
{
    uint8_t *p;

    if (!w->err && (tag == 0 || tag > MOBO_STATE_MAX_TAG))
        w->err = -EINVAL;
    p = writer_grow(w, (size_t)len + REC_HEAD);
    if (!p)
        return NULL;
    put16(p, tag);
    put16(p + 2, flags);
    put32(p + 4, len);
    return p + REC_HEAD;
}

int mobo_save_bytes(struct mobo_writer *w, uint32_t tag, uint32_t flags, const void *buf,
                    uint32_t len)
{
    uint8_t *p = writer_record(w, tag, flags & MOBO_FIELD_IGNORABLE ? REC_IGNORABLE : 0, len);

    if (!p)
        return w->err;
    if (len)
        memcpy(p, buf, len);
    return 0;
}

int mobo_save_fields(struct mobo_writer *w, const struct mobo_field *fields, uint32_t count,
                     uint32_t elem, const void *base)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mobo_field f = mobo_field_at(fields, i, elem);

        mobo_save_bytes(w, f.tag, f.flags, (const char *)base + f.offset, f.len);
    }
    return w->err;
}

int mobo_save_begin(struct mobo_writer *w, uint32_t tag, uint32_t flags)
{
    uint8_t *p;

    if (!w->err && w->depth == MOBO_STATE_DEPTH - 1)
        w->err = -EOVERFLOW;
    p = writer_record(w, tag, REC_GROUP | (flags & MOBO_FIELD_IGNORABLE ? REC_IGNORABLE : 0u), 0);
    if (!p)
        return w->err;
    w->group[w->depth++] = (size_t)(p - w->buf) - 4;
    return 0;
}

int mobo_save_end(struct mobo_writer *w)
{
    size_t at;

    if (!w->err && w->depth == 0)
        w->err = -EINVAL;
    if (w->err)
        return w->err;
    at = w->group[--w->depth];
    put32(w->buf + at, (uint32_t)(w->len - at - 4));
    return 0;
}

/* ---- reader ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static int refuse(struct mobo_reader *r, int err,
                                                        const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r->msg, sizeof(r->msg), fmt, ap);
    va_end(ap);
    if (r->fail)
        r->fail(r->ctx, r->msg);
    return err;
}

static int tag_test_set(uint8_t *bits, uint32_t tag)
{
    int was = bits[tag / 8] >> (tag % 8) & 1;

    bits[tag / 8] |= (uint8_t)(1u << (tag % 8));
    return was;
}

/* Every record within its group, every tag once, nesting bounded. */
static int check_group(struct mobo_reader *r, size_t at, size_t end, unsigned depth)
{
    uint8_t *seen = r->group[depth].seen; /* scratch until reading begins */

    memset(seen, 0, sizeof(r->group[depth].seen));
    while (at < end) {
        uint32_t tag, flags, len;

        if (end - at < REC_HEAD)
            return refuse(r, -EINVAL, "saved state is truncated in a field header at offset %zu",
                          at);
        tag = get16(r->buf + at);
        flags = get16(r->buf + at + 2);
        len = get32(r->buf + at + 4);
        if (tag == 0 || tag > MOBO_STATE_MAX_TAG || (flags & ~(REC_IGNORABLE | REC_GROUP)))
            return refuse(r, -EINVAL, "saved state has a bad field header at offset %zu", at);
        if (len > end - at - REC_HEAD)
            return refuse(r, -EINVAL, "saved state is truncated in field %u: %u bytes of %u", tag,
                          (unsigned)(end - at - REC_HEAD), len);
        if (tag_test_set(seen, tag))
            return refuse(r, -EINVAL, "saved state has field %u twice", tag);
        at += REC_HEAD;
        if (flags & REC_GROUP) {
            int err;

            if (depth + 1 == MOBO_STATE_DEPTH)
                return refuse(r, -EINVAL, "saved state is nested too deep at field %u", tag);
            err = check_group(r, at, at + len, depth + 1);
            if (err)
                return err;
        }
        at += len;
    }
    return 0;
}

static void enter_group(struct mobo_reader *r, unsigned depth, size_t start, size_t end)
{
    r->depth = depth;
    r->group[depth].start = start;
    r->group[depth].end = end;
    memset(r->group[depth].seen, 0, sizeof(r->group[depth].seen));
}

int mobo_reader_init(struct mobo_reader *r, const void *buf, size_t len)
{
    int err;

    r->buf = buf;
    r->msg[0] = 0;
    err = check_group(r, 0, len, 0);
    if (!err)
        enter_group(r, 0, 0, len);
    return err;
}

/* The body of the record @tag of the present group, NULL if there is none.  The structure was
 * checked by mobo_reader_init(). */
static const uint8_t *find(struct mobo_reader *r, uint32_t tag, uint32_t group, uint32_t *ret_len)
{
    size_t at = r->group[r->depth].start, end = r->group[r->depth].end;

    while (at < end) {
        const uint8_t *p = r->buf + at;
        uint32_t len = get32(p + 4);

        if (get16(p) == tag) {
            if ((get16(p + 2) & REC_GROUP) != group)
                return NULL;
            *ret_len = len;
            tag_test_set(r->group[r->depth].seen, tag);
            return p + REC_HEAD;
        }
        at += (size_t)len + REC_HEAD;
    }
    return NULL;
}

/* The first required record that was not read; 0 if none. */
static uint32_t first_unread(struct mobo_reader *r, int with_groups)
{
    size_t at = r->group[r->depth].start, end = r->group[r->depth].end;

    while (at < end) {
        const uint8_t *p = r->buf + at;
        uint32_t tag = get16(p), flags = get16(p + 2);

        if (!(flags & REC_IGNORABLE) && (with_groups || !(flags & REC_GROUP)) &&
            !(r->group[r->depth].seen[tag / 8] >> (tag % 8) & 1))
            return tag;
        at += (size_t)get32(p + 4) + REC_HEAD;
    }
    return 0;
}

int mobo_load_done(struct mobo_reader *r)
{
    uint32_t tag = first_unread(r, 1);

    if (tag)
        return refuse(r, -EINVAL, "saved state has field %u, which this version does not know",
                      tag);
    return 0;
}

int mobo_load_fields(struct mobo_reader *r, const struct mobo_field *fields, uint32_t count,
                     uint32_t elem, void *base)
{
    uint32_t tag;

    for (uint32_t i = 0; i < count; i++) {
        struct mobo_field f = mobo_field_at(fields, i, elem);
        uint32_t len = 0;
        const uint8_t *p = find(r, f.tag, 0, &len);

        if (!p) {
            if (f.flags & MOBO_FIELD_OPTIONAL)
                continue;
            return refuse(r, -EINVAL, "saved state lacks field %u (%s)", f.tag, f.name);
        }
        if (len != f.len)
            return refuse(r, -EINVAL, "saved field %u (%s) has %u bytes instead of %u", f.tag,
                          f.name, len, f.len);
        memcpy((char *)base + f.offset, p, len);
    }
    tag = first_unread(r, 0);
    if (tag)
        return refuse(r, -EINVAL, "saved state has field %u, which this version does not know",
                      tag);
    return 0;
}

int mobo_load_view(struct mobo_reader *r, uint32_t tag, const uint8_t **ret_buf, uint32_t *ret_len)
{
    uint32_t len = 0;
    const uint8_t *p = find(r, tag, 0, &len);

    if (!p)
        return -ENOENT;
    *ret_buf = p;
    *ret_len = len;
    return 0;
}

int mobo_load_bytes(struct mobo_reader *r, uint32_t tag, void *buf, uint32_t len, uint32_t *ret_len)
{
    uint32_t n = 0;
    const uint8_t *p = find(r, tag, 0, &n);

    if (!p)
        return -ENOENT;
    if (n > len)
        return refuse(r, -EMSGSIZE, "saved field %u has %u bytes, more than %u", tag, n, len);
    if (n)
        memcpy(buf, p, n);
    *ret_len = n;
    return 0;
}

int mobo_load_begin(struct mobo_reader *r, uint32_t tag)
{
    uint32_t len = 0;
    const uint8_t *p = find(r, tag, REC_GROUP, &len);

    if (!p)
        return -ENOENT;
    enter_group(r, r->depth + 1, (size_t)(p - r->buf), (size_t)(p - r->buf) + len);
    return 0;
}

int mobo_load_end(struct mobo_reader *r)
{
    int err;

    if (r->depth == 0)
        return refuse(r, -EINVAL, "load_end without load_begin");
    err = mobo_load_done(r);
    r->depth--;
    return err;
}
