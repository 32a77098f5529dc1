/* SPDX-License-Identifier: MIT */
/* Saved state: tagged, length-prefixed fields in nested groups, in one buffer.
 *
 * A record is u16 tag, u16 flags (1: may be ignored, 2: group), u32 length, then that many bytes,
 * all little-endian; the bytes of a group are records again.  A tag occurs once in its group. */
#ifndef MOBO_LIB_STATE_H
#define MOBO_LIB_STATE_H

#include <mobo/vdev.h>

enum { MOBO_STATE_DEPTH = 8, MOBO_STATE_MAX_TAG = 0x7fff };

struct mobo_writer {
    uint8_t *buf; /* owned */
    size_t len, cap;
    size_t group[MOBO_STATE_DEPTH]; /* offsets of the length words of open groups */
    unsigned depth;
    int err; /* first error, sticky */
};

void mobo_writer_init(struct mobo_writer *w);
void mobo_writer_fini(struct mobo_writer *w);

int mobo_save_fields(struct mobo_writer *w, const struct mobo_field *fields, uint32_t count,
                     uint32_t elem, const void *base);
int mobo_save_bytes(struct mobo_writer *w, uint32_t tag, uint32_t flags, const void *buf,
                    uint32_t len);
int mobo_save_begin(struct mobo_writer *w, uint32_t tag, uint32_t flags);
int mobo_save_end(struct mobo_writer *w);

struct mobo_reader {
    const uint8_t *buf; /* borrowed */
    struct {
        size_t start, end;
        uint8_t seen[(MOBO_STATE_MAX_TAG + 1) / 8]; /* tags that were read */
    } group[MOBO_STATE_DEPTH];
    unsigned depth;                           /* index of the present group */
    void (*fail)(void *ctx, const char *msg); /* told of every refusal; may be NULL */
    void *ctx;
    char msg[200];
};

/** Check the structure of the whole buffer and start at its outermost group.
 * @return 0, or -EINVAL with r->msg set. */
int mobo_reader_init(struct mobo_reader *r, const void *buf, size_t len);

int mobo_load_fields(struct mobo_reader *r, const struct mobo_field *fields, uint32_t count,
                     uint32_t elem, void *base);
int mobo_load_bytes(struct mobo_reader *r, uint32_t tag, void *buf, uint32_t len,
                    uint32_t *ret_len);
/** A field in place, of any length, borrowed from the buffer.  @return 0 or -ENOENT. */
int mobo_load_view(struct mobo_reader *r, uint32_t tag, const uint8_t **ret_buf, uint32_t *ret_len);
int mobo_load_begin(struct mobo_reader *r, uint32_t tag);
int mobo_load_end(struct mobo_reader *r);
int mobo_load_done(struct mobo_reader *r);

/* Row @i of a table whose elements are @elem bytes apart, completed with zeroes. */
struct mobo_field mobo_field_at(const struct mobo_field *fields, uint32_t i, uint32_t elem);

#endif
