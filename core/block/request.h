/* SPDX-License-Identifier: BSD-2-Clause */
/* A request to a disk that does not block whoever makes it. */
#ifndef CORE_BLOCK_REQUEST_H
#define CORE_BLOCK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum block_op { BLOCK_OP_READ, BLOCK_OP_WRITE, BLOCK_OP_FLUSH, BLOCK_OP_DISCARD, BLOCK_OP_ZERO };

/* The caller's until submission, then the taker's until done(). */
struct block_request {
    enum block_op op;
    bool fua;                /* BLOCK_OP_WRITE, BLOCK_OP_ZERO: durable before done() */
    bool unmap;              /* BLOCK_OP_ZERO */
    uint64_t off, len;       /* len: discard and zero only */
    const struct iovec *iov; /* borrowed, with the memory, until done() */
    int niov;
    /** @err: 0 or -errno.  May free or submit the request again. */
    void (*done)(struct block_request *r, int err);
    void *ctx;
    /* the taker's */
    struct block_request *next;
    int err;
};

#endif
