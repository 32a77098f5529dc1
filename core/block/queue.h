/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to a disk image that do not block: a few I/O threads, completions on an eventfd.
 *
 *   submit (a VP or the device's thread) -> I/O threads -> the eventfd is readable -> reap (the event
 *   loop) -> done()
 *
 * Requests that are in flight together have no order.  A flush covers the writes that had completed
 * (their done() was called, or reap could have called it) when it was submitted. */
#ifndef CORE_BLOCK_QUEUE_H
#define CORE_BLOCK_QUEUE_H

#include "core/block/block.h"

struct block_queue;

/** @threads: 0 for the default.  The image is borrowed and outlives the queue. */
int block_queue_create(struct block *b, unsigned threads, struct block_queue **ret);
/** Completes everything (calling done()), then ends the threads.  Takes NULL. */
void block_queue_destroy(struct block_queue *q);
/** Readable while completions wait for block_queue_reap(). */
int block_queue_fd(const struct block_queue *q);
/** Thread: any.  Blocks: never. */
void block_queue_submit(struct block_queue *q, struct block_request *r);
/** Call done() of what has completed, on this thread.  @return how many. */
unsigned block_queue_reap(struct block_queue *q);
/** Wait until nothing is in flight, reaping. */
void block_queue_drain(struct block_queue *q);

#endif
