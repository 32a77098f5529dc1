/* SPDX-License-Identifier: BSD-2-Clause */
/* In-band messages of a synthetic device's channel, the part that dynamic memory, keyboard, mouse and video have in
 * common: taking them in turns, confirming what wants confirmation, the frame of a message pipe.  Linked into each. */
#ifndef SYNTHETIC_INBAND_H
#define SYNTHETIC_INBAND_H

#include <mobo/vdev.h>

enum { PIPE_DATA = 1 }; /* type of a pipe's messages (Linux, struct pipe_msg_hdr) */

struct inband {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    mobo_vmbus_t ch;
    void (*again)(void *ctx); /* the channel's signal function: posted when others shall have their turn */
    /* A message of at least @least bytes.  @return what is wrong with it, or NULL. */
    const char *(*receive)(void *ctx, const struct mobo_vmbus_packet *p);
    void *ctx;
    uint32_t least;
    int pipe; /* messages begin with a pipe's header: u32 1, u32 size of what follows */
};

/** Take what the guest has sent; a message that is wrong ends in vmbus_fault().
 * @return 1: the ring is empty now; 0: a fault, or more is there and again() will be called. */
int inband_turn(const struct inband *in);

#endif
