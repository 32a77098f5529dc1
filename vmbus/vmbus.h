/* SPDX-License-Identifier: BSD-2-Clause */
/* VMBus, the host's side: connection, offers, GPADLs, channels, rings.
 *
 * Knows channels and the connection protocol, no device protocol.  Client and best specification: the Linux
 * drivers in drivers/hv; numbers in <linux/hyperv.h> (cited as HV).
 *
 * Threads.  The guest's messages and signals arrive on VP threads (vmbus_post_message, vmbus_signal_event)
 * and only make the embedder call back later on its service thread: vmbus_service() handles all waiting
 * messages there.  Ring functions may be called from any thread; a channel's lock is taken inside.
 *
 * Hostile guests.  Everything in guest memory is copied, then checked; indices of the host's half of a ring
 * are kept here and only published.  What breaks the protocol closes the channel with one line in the log. */
#ifndef MOBO_VMBUS_H
#define MOBO_VMBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vmbus;
struct vmbus_channel;

enum { VMBUS_MAX_CHANNELS = 2048, VMBUS_MAX_SOCKETS = 1024, VMBUS_SINT = 2, VMBUS_USER_DATA = 120 };

/* What the embedder provides; no lock of ours is held during a callback unless said. */
struct vmbus_ops {
    /* Post a message of type 1 to VMBUS_SINT of @vp; set an event flag there.  0 or -errno.  Called with
     * locks held; must not call back. */
    int (*message_post)(void *ctx, unsigned vp, const void *payload, unsigned len);
    int (*event_signal)(void *ctx, unsigned vp, unsigned flag);
    /* Host address of a page of guest RAM that the guest may write, valid while the partition lives; NULL
     * when there is none.  Called with locks held. */
    void *(*page)(void *ctx, uint64_t gpa);
    /* A page was written through that address. */
    void (*page_dirty)(void *ctx, uint64_t gpa, unsigned len);
    /* Have vmbus_service() called soon on the service thread.  Any thread. */
    void (*service_wanted)(void *ctx);
    void (*log)(void *ctx, int level, const char *line);
    /* Have vmbus_monitor_poll() called every millisecond or so, or no more.  Called with locks held. */
    void (*monitor)(void *ctx, bool on);
};

/* An offer, as the guest sees it (HV struct vmbus_channel_offer). */
struct vmbus_offer {
    uint8_t class_id[16], instance_id[16]; /* in wire order */
    uint16_t flags;
    uint16_t mmio_megabytes;
    uint16_t sub_index;
    bool monitored; /* the guest signals by the monitor page */
    uint8_t user_data[VMBUS_USER_DATA];
    const char *name; /* for messages; borrowed */
};

/* A channel's owner; all on the service thread. */
struct vmbus_channel_ops {
    int (*open)(void *ctx, const uint8_t user_data[VMBUS_USER_DATA]); /* 0, or the guest is refused */
    void (*close)(void *ctx);  /* the guest closed it, went away, or broke the protocol */
    void (*signal)(void *ctx); /* called on a VP thread: packets wait or room has come; defer the work */
    void (*released)(void *ctx); /* after vmbus_rescind(): the guest has let go of the channel; may be NULL */
};

int vmbus_create(const struct vmbus_ops *ops, void *ctx, unsigned vps, struct vmbus **ret);
void vmbus_destroy(struct vmbus *v);
/** The guest is gone (reset): close channels, forget the connection.  Service thread. */
void vmbus_reset(struct vmbus *v);

/** Hypercalls of the guest, any VP thread.  @return a hypercall status. */
uint16_t vmbus_post_message(struct vmbus *v, unsigned vp, uint32_t connection, uint32_t type, const void *payload,
                            unsigned len);
uint16_t vmbus_signal_event(struct vmbus *v, unsigned vp, uint32_t connection, uint16_t flag);
/** Handle what came.  Service thread. */
void vmbus_service(struct vmbus *v);
/** Look for signals in the monitor page.  Any thread. */
void vmbus_monitor_poll(struct vmbus *v);

/** Offer a channel; the guest hears of it now or when it asks.  @return 0, -ENOSPC, -ENOMEM. */
int vmbus_offer(struct vmbus *v, const struct vmbus_offer *offer, const struct vmbus_channel_ops *ops, void *ctx,
                struct vmbus_channel **ret);
/** Take it back: closes it; freed when the guest has released it, at once when it never knew; either way
 * ops.released() says so. */
void vmbus_rescind(struct vmbus_channel *ch);

/** Hear of hvsocket connection requests (TlConnect); the answer is vmbus_tl_result(). */
void vmbus_tl_listen(struct vmbus *v, void (*connect)(void *ctx, const uint8_t endpoint[16], const uint8_t service[16]),
                     void *ctx);
void vmbus_tl_result(struct vmbus *v, const uint8_t endpoint[16], const uint8_t service[16], int32_t status);

/* ---- saved state ---------------------------------------------------------------------------------------
 * Connection, offers by instance, GPADLs, rings with the host's indices.  Guest memory, the hypervisor's state and
 * the owners' are saved by others.  To restore: guest memory, then vmbus_load(), which checks everything and changes
 * nothing; then the owners, which offer their sub-channels again; then vmbus_commit().  An owner whose channel was open
 * gets no open() for it: its own state says so.  Owners look at their rings after that (ops.signal).  Connections of
 * hvsocket do not outlive their host side: they are rescinded. */

struct mobo_writer;
struct mobo_reader;
struct vmbus_saved;

/** Into the present group.  Handles what waits first.  No VP runs.  Service thread.  @return 0, -errno. */
int vmbus_save(struct vmbus *v, struct mobo_writer *w);
/** The present group.  @return 0; -EINVAL, -ENOMEM with a sentence. */
int vmbus_load(struct vmbus *v, struct mobo_reader *r, struct vmbus_saved **ret, char *msg, size_t len);
/** Takes over and frees @s.  The bus has had no guest since it was created or reset.
 * @return 0; -ENOENT, -EINVAL, -ENOMEM with a sentence, then nothing has changed. */
int vmbus_commit(struct vmbus *v, struct vmbus_saved *s, char *msg, size_t len);
void vmbus_saved_free(struct vmbus_saved *s);

/* ---- rings ------------------------------------------------------------------------------------------ */

enum {
    VMBUS_PKT_XFER_PAGES = 7, VMBUS_PKT_INBAND = 6, VMBUS_PKT_GPA_DIRECT = 9, VMBUS_PKT_CANCEL = 10,
    VMBUS_PKT_COMPLETION = 11, VMBUS_PKT_WANTS_COMPLETION = 1,
    VMBUS_PKT_ALONE = 0x8000 /* to vmbus_send(), not sent: there is room only once the guest has read all before */
};

struct vmbus_packet {
    uint16_t type, flags;
    uint64_t transaction;
    const uint8_t *desc; /* descriptor behind the first 16 bytes (ranges); borrowed until the next receive */
    uint32_t desc_len;
    const uint8_t *data;
    uint32_t len;        /* multiple of 8: padding included */
};

/** The next packet.  @return 0; -EAGAIN: none (the guest will signal); -ENOTCONN; -EPROTO: the ring is broken
 * and the channel is being closed. */
int vmbus_receive(struct vmbus_channel *ch, struct vmbus_packet *ret);
/** Send.  @return 0; -EAGAIN: no room (ops.signal follows when there is); -ENOTCONN; -EMSGSIZE: never fits. */
int vmbus_send(struct vmbus_channel *ch, uint16_t type, uint16_t flags, uint64_t transaction, const void *desc,
               uint32_t desc_len, const void *data, uint32_t len);
bool vmbus_is_open(struct vmbus_channel *ch);
/** The guest broke the device's protocol: close with a line in the log. */
void vmbus_fault(struct vmbus_channel *ch, const char *why);

/** Copy from or to a GPADL of the channel.  @return 0, -ENOENT, -EFAULT (outside, or not RAM). */
int vmbus_gpadl_read(struct vmbus_channel *ch, uint32_t gpadl, uint64_t off, void *buf, uint32_t len);
int vmbus_gpadl_write(struct vmbus_channel *ch, uint32_t gpadl, uint64_t off, const void *buf, uint32_t len);
int vmbus_gpadl_len(struct vmbus_channel *ch, uint32_t gpadl, uint64_t *ret_len);

struct vmbus_iov { void *base; uint64_t len; uint64_t gpa; };
/** The memory that a GPA-direct packet names (its desc), cut to pages, neighbours joined.
 * @return 0 with entries and total length; -EINVAL: malformed; -EFAULT: not RAM; -E2BIG: more than @max. */
int vmbus_gpa_direct(struct vmbus_channel *ch, const struct vmbus_packet *pkt, struct vmbus_iov *iov, uint32_t max,
                     uint32_t *ret_n, uint64_t *ret_len);

uint32_t vmbus_version(struct vmbus *v);

#endif
