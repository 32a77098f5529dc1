/* SPDX-License-Identifier: BSD-2-Clause */
/* Integration services, the part that all have in common: framing, version negotiation, one request at a
 * time.  Linked into each of them.
 *
 * A message is a pipe header, an IC header and a body (<linux/hyperv.h> struct vmbuspipe_hdr and icmsg_hdr,
 * cited as HV).  Only the host asks; the guest answers by sending the message back with a status. */
#ifndef SYNTHETIC_IC_H
#define SYNTHETIC_IC_H

#include <mobo/vdev.h>

#include "wire.h"

enum { IC_VERSIONS = 6, IC_BODY_MAX = 13312 };

/* Status of an answer (HV HV_S_... and HV_E_...). */
enum {
    IC_OK = 0,
    IC_FAIL = 0x80004005,
    IC_CONTINUE = 0x80070103,     /* also: no more items */
    IC_NOT_SUPPORTED = 0x80070032,
    IC_NOT_CONNECTED = 0x8007048f,
    IC_INVALID = 0x80070057,
    IC_NOT_FOUND = 0x80041002,
    IC_EXISTS = 0x80070050,
    IC_DISK_FULL = 0x80070070
};

#define IC_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))

struct ic_service {
    uint8_t class_id[16], instance_id[16];
    uint16_t type;                   /* of its messages */
    uint32_t versions[IC_VERSIONS];  /* that we speak, 0 ends */
    /* The guest's service is there, with versions agreed on: ic.s.version. */
    void (*ready)(void *ctx);
    /* The answer to the request under way; @body is as long as the guest sent it, padding included. */
    void (*answer)(void *ctx, uint32_t status, const uint8_t *body, uint32_t len);
    /* It went away, and with it what was under way.  May be NULL. */
    void (*closed)(void *ctx);
};

enum ic_phase { IC_CLOSED = 0, IC_NEGOTIATING = 1, IC_READY = 2, IC_REFUSED = 3, IC_OPENED = 4 };

struct ic_state {
    uint8_t phase; /* enum ic_phase */
    uint8_t transaction;
    uint8_t waiting;  /* for an answer */
    uint8_t unsent;   /* the request is in `out`, there was no room */
    uint32_t framework, version;
    uint64_t requests, answers, strays;
};

struct ic {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    const struct ic_service *svc;
    void *ctx;
    mobo_vmbus_t ch;
    struct ic_state s;
    uint8_t out[28 + IC_BODY_MAX]; /* the request under way */
    uint32_t out_len;
};

/** Offer the service.  To be called in create(). */
int ic_create(struct ic *ic, struct mobo_vdev *dev, const struct mobo_host *host,
              const struct ic_service *svc, void *ctx);
void ic_reset(struct ic *ic);
/** Ask the guest.  @return 0; -ENOTCONN: there is no service in the guest; -EBUSY: a request is under way;
 * -EMSGSIZE. */
int ic_send(struct ic *ic, const void *body, uint32_t len);
/** What -errno of ic_send() means, for fail(). */
int ic_fail(struct ic *ic, int err);
const char *ic_status_text(uint32_t status);

/* A group of fields of its own, tag 0x100. */
int ic_save(struct ic *ic, struct mobo_writer *out);
/** Into the caller's copies; ic_commit() takes them over. */
struct ic_saved {
    struct ic_state s;
    uint8_t out[28 + IC_BODY_MAX];
    uint32_t out_len;
};
int ic_load(struct ic *ic, struct mobo_reader *in, struct ic_saved *ret);
void ic_commit(struct ic *ic, const struct ic_saved *saved);
void ic_inspect(struct ic *ic, struct mobo_inspect *out);

/** UTF-8 to UTF-16 with a terminator, at most @max units with it; broken sequences become '?'.
 * @return units with the terminator; 0: does not fit (nothing useful is written then). */
uint32_t ic_utf16(const char *text, uint8_t *ret, uint32_t max);
/** Back: up to @len bytes of UTF-16 (or its terminator); control characters become '?'. */
void ic_utf8(const uint8_t *buf, uint32_t len, char *ret, uint32_t max);

#endif
