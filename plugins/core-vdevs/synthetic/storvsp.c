/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic storage controller: the SCSI and the IDE-accelerator form of VMBus storage.
 *
 * The protocol as the Linux client speaks it (drivers/scsi/storvsc_drv.c, cited as SV); versions 2.0,
 * 4.2, 5.1, 6.0 and 6.2.  A request comes as a packet with the command block, and the guest memory
 * of its data as GPA-direct ranges; the answer is a completion packet of the same layout.  What a
 * unit does with a command is in scsi.c and scsi_cd.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scsi.h"

enum sv_op { /* SV enum vstor_packet_operation */
             SV_COMPLETE_IO = 1,
             SV_EXECUTE_SRB = 3,
             SV_RESET_LUN = 4,
             SV_RESET_ADAPTER = 5,
             SV_RESET_BUS = 6,
             SV_BEGIN_INIT = 7,
             SV_END_INIT = 8,
             SV_QUERY_VERSION = 9,
             SV_QUERY_PROPERTIES = 10,
             SV_ENUMERATE_BUS = 11,
             SV_FC_HBA_DATA = 12,
             SV_CREATE_SUB_CHANNELS = 13
};

/* Status of a packet (NTSTATUS). */
#define SV_OK                0u
#define SV_INVALID_PARAMETER 0xc000000du
#define SV_INVALID_REQUEST   0xc0000010u
#define SV_REVISION_MISMATCH 0xc0000059u
#define SV_INVALID_STATE     0xc0000184u

enum srb_status { /* SV SRB_STATUS_... */
                  SRB_SUCCESS = 0x01,
                  SRB_ABORTED = 0x02,
                  SRB_ERROR = 0x04,
                  SRB_INVALID_REQUEST = 0x06,
                  SRB_INVALID_LUN = 0x20,
                  SRB_SENSE_VALID = 0x80
};

/* SV struct vmscsi_request; versions before 5.1 end after the command block. */
struct sv_srb {
    uint16_t length;
    uint8_t srb_status, scsi_status;
    uint8_t port, path, target, lun;
    uint8_t cdb_len, sense_len, data_in, reserved;
    uint32_t data_len;
    uint8_t payload[20]; /* command block, then sense data */
    uint16_t reserved2;
    uint8_t queue_tag, queue_action;
    uint32_t srb_flags, timeout, sort_key;
};

struct sv_properties {
    uint32_t reserved;
    uint16_t max_channels, reserved1;
    uint32_t flags, max_transfer;
    uint32_t reserved2[2];
};

struct sv_packet { /* SV struct vstor_packet */
    uint32_t op, flags, status;
    union {
        struct sv_srb srb;
        struct sv_properties properties;
        uint16_t version;
        uint16_t sub_channels;
        uint8_t bytes[0x34];
    } u;
};

enum {
    PACKET_HEAD = 12,
    PACKET_LEN = 64,     /* from version 5.1 on */
    PACKET_LEN_OLD = 48, /* before */
    WANTS_COMPLETION = 1,
    MULTI_CHANNEL = 1, /* property flags */
    EMULATED_IDE = 2,
    CDB_MAX = 16,
    SENSE_MAX = 20,
    REQUESTS_MAX = 1024, /* outstanding, a device */
    IOVS = 64,           /* of a request at first */
    INSERTED_MAX = 4095, /* bytes of an image's name */
    CHANNELS_MAX = 64
};
_Static_assert(sizeof(struct sv_packet) == PACKET_LEN, "layout");
_Static_assert(sizeof(struct sv_srb) == 0x34, "layout");

enum sv_state { SV_NEW, SV_INITIALIZING, SV_VERSION, SV_PROPERTIES, SV_READY };

struct storvsp;

struct sv_channel {
    struct storvsp *sv;
    mobo_vmbus_t vm; /* NULL: not offered */
    uint16_t index;  /* 0: primary */
    bool open;
    bool held;           /* packets wait until requests are free */
    uint32_t generation; /* counts opens: answers to a past life are not sent */
    struct sv_request *answers, **answers_tail; /* wait for room in the ring */
};

struct sv_request {
    struct scsi_req scsi;           /* first */
    struct sv_request *next, *prev; /* of those in work, or free */
    struct sv_channel *ch;
    uint32_t generation;
    uint64_t transaction;
    struct sv_packet packet;
    uint32_t packet_len;
    uint32_t cap;         /* of iov */
    struct mobo_iov *iov; /* owned */
    bool answered;        /* the packet is the answer, which could not be sent yet */
    struct sv_request *answer_next;
};

/* Negotiated with the guest; saved. */
struct sv_saved {
    uint8_t state; /* enum sv_state */
    uint16_t version;
    uint16_t sub_channels; /* offered to the guest */
    uint64_t open;         /* bit n: channel n; filled in by save() */
};

struct storvsp {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    bool ide;
    bool paused; /* or draining: nothing is received */
    uint8_t class_id[16], instance[16];
    uint16_t max_sub; /* sub-channels that the guest may ask for */
    uint32_t max_transfer;
    struct sv_saved s;
    struct sv_channel ch[CHANNELS_MAX];
    struct scsi_lun *luns[SCSI_MAX_LUNS]; /* owned; NULL: none */
    struct scsi_lun nobody;
    uint64_t lun_mask;
    struct sv_request *work; /* in work, a ring without head; NULL none */
    struct sv_request *free;
    struct sv_request *again; /* restored or stopped, to be executed again */
    unsigned requests;        /* allocated */
    unsigned outstanding, peak;
    uint64_t srbs, refused, signals;
    bool warned;
};

static const struct mobo_field sv_fields[] = {
    MOBO_FIELD(1, struct sv_saved, state), /* since 1.1 */
    MOBO_FIELD(2, struct sv_saved, version),
    MOBO_FIELD(3, struct sv_saved, sub_channels),
    MOBO_FIELD(4, struct sv_saved, open),
};
enum { TAG_LUN = 0x100, TAG_REQUESTS = 0x200 }; /* groups */
/* Of a reader, in its TAG_LUN: u64 sectors of the disc, and the name of one that was inserted.  Since 1.1;
 * states without them are taken. */
enum { TAG_SECTORS = 0x10, TAG_INSERTED = 0x11 };

static void pump(struct sv_channel *ch);
static void pump_held(struct storvsp *v);

/* ---- requests ------------------------------------------------------------------------------------ */

static void link_in(struct storvsp *v, struct sv_request *q)
{
    q->next = v->work;
    q->prev = NULL;
    if (v->work)
        v->work->prev = q;
    v->work = q;
    if (++v->outstanding > v->peak)
        v->peak = v->outstanding;
}

static void link_out(struct storvsp *v, struct sv_request *q)
{
    if (q->prev)
        q->prev->next = q->next;
    else
        v->work = q->next;
    if (q->next)
        q->next->prev = q->prev;
    v->outstanding--;
}

static void request_put(struct storvsp *v, struct sv_request *q)
{
    q->next = v->free;
    v->free = q;
}

static struct sv_request *request_get(struct storvsp *v)
{
    struct sv_request *q = v->free;

    if (q) {
        v->free = q->next;
    } else {
        if (v->requests >= REQUESTS_MAX)
            return NULL;
        q = calloc(1, sizeof(*q));
        if (q)
            q->iov = calloc(IOVS, sizeof(*q->iov));
        if (!q || !q->iov) {
            free(q);
            return NULL;
        }
        q->cap = IOVS;
        v->requests++;
    }
    link_in(v, q);
    return q;
}

static void request_free(struct sv_request *q)
{
    scsi_req_drop(&q->scsi);
    free(q->iov);
    free(q);
}

/* The guest's memory of the request's data. */
static int request_map(struct sv_request *q, const struct mobo_vmbus_packet *p)
{
    struct storvsp *v = q->ch->sv;
    uint32_t most = v->max_transfer / 4096 + 2;

    q->scsi.niov = 0;
    q->scsi.len = 0;
    q->scsi.iov = q->iov;
    if (p->type != MOBO_VMBUS_GPA_DIRECT)
        return 0;
    for (;;) {
        struct mobo_iov *more;
        int err =
            v->host->vmbus_gpa_direct(q->ch->vm, p, q->iov, q->cap, &q->scsi.niov, &q->scsi.len);

        if (err != -E2BIG || q->cap >= most)
            return err;
        more = realloc(q->iov, (size_t)most * sizeof(*more));
        if (!more)
            return -ENOMEM;
        q->iov = q->scsi.iov = more;
        q->cap = most;
    }
}

/* ---- answers ------------------------------------------------------------------------------------- */

/* Send the completion that the guest asked for, and let go of the request.
 * @return -EAGAIN: the ring is full. */
static int answer_send(struct sv_request *q)
{
    struct sv_channel *ch = q->ch;
    struct storvsp *v = ch->sv;
    int err = 0;

    if (ch->vm && ch->open && ch->generation == q->generation)
        err = v->host->vmbus_send(ch->vm, MOBO_VMBUS_COMPLETION, 0, q->transaction, NULL, 0,
                                  &q->packet, q->packet_len);
    if (err == -EAGAIN)
        return err;
    if (err == -EMSGSIZE)
        v->host->vmbus_fault(ch->vm, "its ring is too small for an answer");
    link_out(v, q);
    request_put(v, q);
    return 0;
}

/* In the order in which they were done. */
static void answer_queue(struct sv_request *q)
{
    struct sv_channel *ch = q->ch;

    if (!ch->answers && !answer_send(q))
        return;
    q->answer_next = NULL;
    if (!ch->answers)
        ch->answers_tail = &ch->answers;
    *ch->answers_tail = q;
    ch->answers_tail = &q->answer_next;
}

/* @return whether all have gone. */
static bool answers_flush(struct sv_channel *ch)
{
    while (ch->answers) {
        struct sv_request *next = ch->answers->answer_next;

        if (answer_send(ch->answers))
            return false;
        ch->answers = next;
    }
    return true;
}

static void answer(struct sv_request *q, uint32_t status)
{
    q->packet.op = SV_COMPLETE_IO;
    q->packet.status = status;
    q->answered = true;
    answer_queue(q);
}

static void srb_done(struct scsi_req *r)
{
    struct sv_request *q = (struct sv_request *)(void *)r;
    struct storvsp *v = q->ch->sv;
    struct sv_srb *s = &q->packet.u.srb;

    s->scsi_status = r->status;
    s->srb_status = r->status == SCSI_GOOD ? SRB_SUCCESS : SRB_ERROR;
    s->data_len = (uint32_t)r->moved;
    if (r->status == SCSI_CHECK_CONDITION) {
        uint8_t n = s->sense_len < SCSI_SENSE_LEN ? s->sense_len : SCSI_SENSE_LEN;

        memset(s->payload, 0, sizeof(s->payload));
        memcpy(s->payload, r->sense, n);
        s->sense_len = n;
        if (n)
            s->srb_status |= SRB_SENSE_VALID;
    } else {
        s->sense_len = 0;
    }
    MOBO_TRACE(
        v->host, v->dev, v->trace, "srb 0x%llx done: status %u moved %llu sense %02x/%02x%02x",
        (unsigned long long)q->transaction, r->status, (unsigned long long)r->moved,
        r->status ? r->sense[2] : 0, r->status ? r->sense[12] : 0, r->status ? r->sense[13] : 0);
    answer(q, SV_OK);
    pump_held(v);
}

/* Until again_execute(). */
static void srb_stopped(struct scsi_req *r)
{
    struct sv_request *q = (struct sv_request *)(void *)r;
    struct storvsp *v = q->ch->sv;

    MOBO_TRACE(v->host, v->dev, v->trace, "srb 0x%llx stopped", (unsigned long long)q->transaction);
    link_out(v, q);
    q->next = v->again;
    v->again = q;
}

static void srb_refuse(struct sv_request *q, uint8_t srb_status)
{
    q->packet.u.srb.srb_status = srb_status;
    q->packet.u.srb.scsi_status = 0;
    q->packet.u.srb.data_len = 0;
    q->packet.u.srb.sense_len = 0;
    q->ch->sv->refused++;
    answer(q, SV_OK);
}

/* ---- commands ------------------------------------------------------------------------------------ */

static struct scsi_lun *lun_of(struct storvsp *v, const struct sv_srb *s)
{
    bool here = v->ide || (s->path == 0 && s->target == 0);

    if (v->ide) /* the channel is the drive */
        return s->lun == 0 ? v->luns[0] : NULL;
    return here && s->lun < SCSI_MAX_LUNS ? v->luns[s->lun] : NULL;
}

/* @q->scsi has the data's memory. */
static void srb_execute(struct sv_request *q)
{
    struct storvsp *v = q->ch->sv;
    struct sv_srb *s = &q->packet.u.srb;
    struct scsi_lun *l;
    uint64_t mask = v->lun_mask;

    if (s->cdb_len > CDB_MAX || !s->cdb_len || s->data_len > q->scsi.len ||
        s->data_len > v->max_transfer) {
        srb_refuse(q, SRB_INVALID_REQUEST);
        return;
    }
    memset(q->scsi.cdb, 0, sizeof(q->scsi.cdb));
    memcpy(q->scsi.cdb, s->payload, s->cdb_len);
    q->scsi.len = s->data_len;
    q->scsi.dir = !s->data_len      ? SCSI_NO_DATA
                  : s->data_in == 1 ? SCSI_DATA_IN
                  : s->data_in == 0 ? SCSI_DATA_OUT
                                    : SCSI_NO_DATA;
    q->scsi.done = srb_done;
    q->scsi.stopped = srb_stopped;
    for (uint32_t i = 0; i < q->scsi.niov; i++) { /* the memory may be more than the data */
        uint64_t left = i ? q->scsi.len : s->data_len;

        if (i == 0)
            q->scsi.len = left;
        if (q->iov[i].len > left)
            q->iov[i].len = left;
        q->scsi.len = left - q->iov[i].len;
        if (!q->scsi.len) {
            q->scsi.niov = i + 1;
            break;
        }
    }
    q->scsi.len = s->data_len;
    l = lun_of(v, s);
    if (!l) {
        uint8_t op = q->scsi.cdb[0];

        /* SV takes INQUIRY for successful always, and asks every target for its list. */
        if (op != OP_INQUIRY && op != OP_REPORT_LUNS) {
            srb_refuse(q, SRB_INVALID_LUN);
            return;
        }
        if (!v->ide && (s->path || s->target))
            mask = 0;
        l = &v->nobody;
    }
    MOBO_TRACE(v->host, v->dev, v->trace,
               "srb 0x%llx lun %u op 0x%02x %02x%02x%02x%02x%02x%02x%02x%02x%02x len %u dir %u",
               (unsigned long long)q->transaction, s->lun, q->scsi.cdb[0], q->scsi.cdb[1],
               q->scsi.cdb[2], q->scsi.cdb[3], q->scsi.cdb[4], q->scsi.cdb[5], q->scsi.cdb[6],
               q->scsi.cdb[7], q->scsi.cdb[8], q->scsi.cdb[9], s->data_len, q->scsi.dir);
    v->srbs++;
    scsi_execute(l, mask, &q->scsi);
}

/* ---- standing still ------------------------------------------------------------------------------ */

/* A unit stands still when it returns.  Requests that end make room for others, which would be more to wait for:
 * those come in later. */
static void drain_lun(struct storvsp *v, struct scsi_lun *l, enum scsi_drain how)
{
    bool was = v->paused;

    v->paused = true;
    scsi_drain(l, how);
    v->paused = was;
}

static void drain(struct storvsp *v, enum scsi_drain how)
{
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        if (v->luns[i])
            drain_lun(v, v->luns[i], how);
}

static void again_execute(struct storvsp *v)
{
    while (v->again) {
        struct sv_request *q = v->again;

        v->again = q->next;
        link_in(v, q);
        if (q->answered)
            answer_queue(q);
        else
            srb_execute(q);
    }
}

static void again_drop(struct storvsp *v)
{
    while (v->again) {
        struct sv_request *q = v->again;

        v->again = q->next;
        request_put(v, q);
    }
}

/* Its channel was closed since it came. */
static bool stale(const struct sv_request *q)
{
    return q->generation != q->ch->generation;
}

/* After channels were closed: the guest has other uses for the memory of their requests, which have ended when it
 * returns.  Those of other channels may begin anew. */
static void end_stale(struct storvsp *v)
{
    bool any = false;

    for (struct sv_request *q = v->work; q && !any; q = q->next)
        any = stale(q);
    if (any)
        drain(v, SCSI_STOP);
    for (struct sv_request **at = &v->again, *q; (q = *at);) {
        if (stale(q)) {
            *at = q->next;
            request_put(v, q);
        } else {
            at = &q->next;
        }
    }
    if (any && !v->paused) {
        again_execute(v);
        pump_held(v);
    }
}

/* ---- sub-channels -------------------------------------------------------------------------------- */

static int channel_offer(struct storvsp *v, uint16_t index);

static void channel_shut(struct sv_channel *ch)
{
    ch->open = ch->held = false;
    ch->generation++;
    answers_flush(ch); /* of a past life: to nobody */
}

static uint32_t create_sub_channels(struct storvsp *v, uint16_t count)
{
    if (v->s.sub_channels)
        return SV_INVALID_STATE;
    if (!count || count > v->max_sub)
        return SV_INVALID_PARAMETER;
    for (uint16_t i = 1; i <= count; i++) {
        if (channel_offer(v, i))
            break;
        v->s.sub_channels = i;
    }
    return v->s.sub_channels ? SV_OK : SV_INVALID_REQUEST;
}

static void drop_sub_channels(struct storvsp *v)
{
    for (unsigned i = 1; i <= v->s.sub_channels; i++) {
        struct sv_channel *ch = &v->ch[i];

        if (ch->vm)
            v->host->vmbus_rescind(ch->vm);
        ch->vm = NULL;
        channel_shut(ch);
    }
    v->s.sub_channels = 0;
}

/* ---- the protocol -------------------------------------------------------------------------------- */

static bool known_version(uint16_t version)
{
    static const uint16_t versions[] = { 0x0200, 0x0402, 0x0501, 0x0600, 0x0602 };

    for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        if (versions[i] == version)
            return true;
    return false;
}

static uint32_t begin_init(struct storvsp *v)
{
    v->s.state = SV_INITIALIZING;
    v->s.version = 0;
    drop_sub_channels(v);
    end_stale(v);
    return SV_OK;
}

/* Control operations of the primary channel, in their order: SV storvsc_channel_init(). */
static uint32_t control(struct storvsp *v, struct sv_packet *p)
{
    switch (p->op) {
    case SV_BEGIN_INIT: return begin_init(v);
    case SV_QUERY_VERSION:
        if (v->s.state != SV_INITIALIZING && v->s.state != SV_VERSION)
            return SV_INVALID_STATE;
        if (!known_version(p->u.version))
            return SV_REVISION_MISMATCH;
        v->s.version = p->u.version;
        v->s.state = SV_VERSION;
        return SV_OK;
    case SV_QUERY_PROPERTIES:
        if (v->s.state != SV_VERSION)
            return SV_INVALID_STATE;
        memset(&p->u, 0, sizeof(p->u));
        if (!v->ide && v->s.version >= 0x0501 && v->max_sub) {
            p->u.properties.max_channels = v->max_sub;
            p->u.properties.flags = MULTI_CHANNEL;
        }
        if (v->ide)
            p->u.properties.flags = EMULATED_IDE;
        p->u.properties.max_transfer = v->max_transfer;
        v->s.state = SV_PROPERTIES;
        return SV_OK;
    case SV_END_INIT:
        if (v->s.state != SV_PROPERTIES)
            return SV_INVALID_STATE;
        v->s.state = SV_READY;
        return SV_OK;
    case SV_CREATE_SUB_CHANNELS:
        if (v->s.state != SV_READY || v->ide)
            return SV_INVALID_STATE;
        return create_sub_channels(v, p->u.sub_channels);
    case SV_FC_HBA_DATA: /* only on Fibre Channel adapters */
    case SV_ENUMERATE_BUS: return SV_INVALID_REQUEST;
    }
    return SV_INVALID_REQUEST;
}

/* A packet.  @return false: it is held back until a request is free. */
static void handle(struct sv_channel *ch, const struct mobo_vmbus_packet *p)
{
    struct storvsp *v = ch->sv;
    bool old = v->s.version && v->s.version < 0x0501;
    uint32_t need = old ? PACKET_LEN_OLD : PACKET_LEN, status;
    struct sv_request *q;
    int err;

    if (p->type == MOBO_VMBUS_CANCEL)
        return; /* the answer is on its way */
    if (p->type != MOBO_VMBUS_INBAND && p->type != MOBO_VMBUS_GPA_DIRECT) {
        v->host->vmbus_fault(ch->vm, "a packet of a type that storage does not have");
        return;
    }
    /* before a version is agreed on, both lengths may come */
    if (p->len < (v->s.version ? need : PACKET_LEN_OLD)) {
        v->host->vmbus_fault(ch->vm, "a packet is too short");
        return;
    }
    q = request_get(v); /* pump() saw to it that there is one */
    if (!q) {
        v->host->vmbus_fault(ch->vm, "out of memory");
        return;
    }
    q->ch = ch;
    q->generation = ch->generation;
    q->transaction = p->transaction;
    q->answered = false;
    q->packet_len = p->len < PACKET_LEN ? PACKET_LEN_OLD : PACKET_LEN;
    memset(&q->packet, 0, sizeof(q->packet));
    memcpy(&q->packet, p->data, q->packet_len);
    switch (q->packet.op) {
    case SV_EXECUTE_SRB:
        if (v->s.state != SV_READY) {
            answer(q, SV_INVALID_STATE);
            return;
        }
        err = request_map(q, p);
        if (err == -EINVAL) {
            link_out(v, q);
            request_put(v, q);
            v->host->vmbus_fault(ch->vm, "malformed ranges of a request");
        } else if (err) {
            if (!v->warned)
                v->host->log(v->dev, MOBO_WARNING,
                             "a request names memory that is not RAM, or too "
                             "much of it: refused");
            v->warned = true;
            srb_refuse(q, SRB_INVALID_REQUEST);
        } else {
            srb_execute(q);
        }
        return;
    case SV_RESET_LUN: /* requests are never stuck here: nothing to abort */
    case SV_RESET_ADAPTER:
    case SV_RESET_BUS: status = v->s.state == SV_READY ? SV_OK : SV_INVALID_STATE; break;
    default: status = ch->index ? SV_INVALID_REQUEST : control(v, &q->packet); break;
    }
    MOBO_TRACE(v->host, v->dev, v->trace, "operation %u: status 0x%x", q->packet.op, status);
    answer(q, status);
}

static void pump(struct sv_channel *ch)
{
    struct storvsp *v = ch->sv;

    if (v->paused)
        return;
    ch->held = false;
    if (!answers_flush(ch))
        return; /* a guest that does not listen is not listened to */
    while (ch->open && ch->vm && !ch->answers) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };

        if (!v->free && v->requests >= REQUESTS_MAX) {
            ch->held = true;
            break;
        }
        if (v->host->vmbus_receive(ch->vm, &p))
            break;
        handle(ch, &p);
    }
}

static void pump_held(struct storvsp *v)
{
    for (unsigned i = 0; i <= v->s.sub_channels; i++)
        if (v->ch[i].held)
            pump(&v->ch[i]);
}

/* ---- channels ------------------------------------------------------------------------------------ */

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct sv_channel *ch = ctx;
    struct storvsp *v = ch->sv;

    (void)user_data;
    if (ch->index && v->s.state != SV_READY)
        return -EINVAL;
    ch->open = true;
    ch->generation++;
    if (!ch->index)
        v->s = (struct sv_saved){ .state = SV_NEW, .sub_channels = v->s.sub_channels };
    return 0;
}

static void channel_close(void *ctx)
{
    struct sv_channel *ch = ctx;

    channel_shut(ch);
    if (!ch->index) {
        drop_sub_channels(ch->sv);
        ch->sv->s.state = SV_NEW;
    }
    end_stale(ch->sv);
}

static void channel_signal(void *ctx)
{
    struct sv_channel *ch = ctx;

    ch->sv->signals++;
    pump(ch);
}

static int channel_offer(struct storvsp *v, uint16_t index)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    struct sv_channel *ch = &v->ch[index];
    struct mobo_vmbus_offer offer = { .size = sizeof(offer), .sub_index = index };

    memcpy(offer.class_id, v->class_id, 16);
    memcpy(offer.instance_id, v->instance, 16);
    offer.flags = index ? 0 : MOBO_VMBUS_ENUMERATE_DEVICE;
    if (v->ide)
        offer.user_data[8] = EMULATED_IDE;
    ch->sv = v;
    ch->index = index;
    return v->host->vmbus_offer(v->dev, &offer, &ops, ch, &ch->vm);
}

/* ---- construction -------------------------------------------------------------------------------- */

/* A GUID from a text: the same each time, and another for another text. */
static void guid_of(const char *what, const char *text, uint8_t id[16])
{
    uint64_t h[2] = { 0xcbf29ce484222325u, 0x9e3779b97f4a7c15u };

    for (unsigned round = 0; round < 2; round++)
        for (const char *p = round ? text : what;; p++) {
            for (unsigned i = 0; i < 2; i++) {
                h[i] = (h[i] ^ (uint8_t)*p) * 0x100000001b3u;
                h[i] ^= h[i] >> (29 + i);
            }
            if (!*p)
                break;
        }
    memcpy(id, h, 16);
    id[7] = (uint8_t)((id[7] & 0x0f) | 0x80); /* version 8: vendor's own */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

static int guid_parse(const char *text, uint8_t id[16])
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            if (*text++ != '-')
                return -EINVAL;
        if (hex(text[0]) < 0 || hex(text[1]) < 0)
            return -EINVAL;
        id[order[i]] = (uint8_t)(hex(text[0]) << 4 | hex(text[1]));
        text += 2;
    }
    return *text ? -EINVAL : 0;
}

static void lun_free(struct scsi_lun *l)
{
    if (l)
        free(l->inserted);
    free(l);
}

static void sv_destroy(void *self)
{
    struct storvsp *v = self;

    for (struct sv_request *q = v->work, *next; q; q = next) {
        next = q->next;
        request_free(q);
    }
    for (struct sv_request *q = v->again, *next; q; q = next) {
        next = q->next;
        request_free(q);
    }
    for (struct sv_request *q = v->free, *next; q; q = next) {
        next = q->next;
        request_free(q);
    }
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        lun_free(v->luns[i]);
    free(v);
}

/* Make a unit of an open image. */
static int make_lun(struct storvsp *v, unsigned n, mobo_block_t block,
                    const struct mobo_block_info *info, const char *what)
{
    static const uint8_t none[16];
    struct scsi_lun *l = calloc(1, sizeof(*l));
    char text[] = "lun 00";
    uint8_t id[16];
    int err;

    text[4] = (char)('0' + n / 10);
    text[5] = (char)('0' + n % 10);
    guid_of(text, v->host->name(v->dev), id);
    err = !l ? v->host->fail(v->dev, -ENOMEM, "%s: no memory", what)
          : scsi_lun_init(l, v->host, v->dev, (uint8_t)n, block, info,
                          memcmp(info->id, none, 16) ? info->id : id)
              ? v->host->fail(v->dev, -EINVAL,
                              "%s: the image is too small for a disc, or has "
                              "sectors that a disc cannot have",
                              what)
              : 0;
    if (err) {
        v->host->block_close(block);
        free(l);
        return err;
    }
    v->luns[n] = l;
    v->lun_mask |= 1ull << n;
    return 0;
}

/* The key that names the image of unit @n. */
static void lun_key(unsigned n, char key[8])
{
    memcpy(key, "lun", 4);
    if (n > 9)
        key[3] = (char)('0' + n / 10);
    key[n > 9 ? 4 : 3] = (char)('0' + n % 10);
    key[n > 9 ? 5 : 4] = 0;
}

static int add_lun(struct storvsp *v, unsigned n, const char *key)
{
    struct mobo_block_info info = { .size = sizeof(info) };
    mobo_block_t block;
    int err = v->host->block_open(v->dev, key, 0, &block, &info);

    return err ? err : make_lun(v, n, block, &info, key);
}

static int sv_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret)
{
    static const uint8_t scsi_class[16] =
        MOBO_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f);
    static const uint8_t ide_class[16] =
        MOBO_GUID(0x32412632, 0x86cb, 0x44a2, 0x9b, 0x5c, 0x50, 0xd1, 0x41, 0x73, 0x54, 0xf5);
    struct mobo_board_info board = { .size = sizeof(board) };
    const char *instance, *form;
    struct storvsp *v;
    int err;

    if (!MOBO_HAS(host, block_drain))
        return host->fail(dev, -ENOTSUP, "this host has no disk images for devices");
    v = calloc(1, sizeof(*v));
    if (!v)
        return host->fail(dev, -ENOMEM, "no memory");
    v->dev = dev;
    v->host = host;
    v->trace = host->trace_word(dev);
    form = host->param_str(dev, "form");
    v->ide = form && !strcmp(form, "ide");
    memcpy(v->class_id, v->ide ? ide_class : scsi_class, 16);
    v->max_transfer = (uint32_t)host->param_uint(dev, "max-transfer") & ~4095u;
    host->board_info(dev, &board);
    if (host->param_is_set(dev, "channels"))
        v->max_sub = (uint16_t)(host->param_uint(dev, "channels") - 1);
    else
        v->max_sub = (uint16_t)(board.vps ? (board.vps - 1) / 4 + (board.vps > 1) : 0);
    if (v->ide)
        v->max_sub = 0;
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        v->ch[i].sv = v;
    v->nobody.host = host;
    v->nobody.dev = dev;
    v->nobody.absent = true;
    v->nobody.sector = 512;
    guid_of("instance", host->name(dev), v->instance);
    if (v->ide) { /* SV: the drive's place is in the instance */
        uint32_t path = 0, target = (uint32_t)host->param_uint(dev, "drive");

        memcpy(v->instance, &path, 4);
        v->instance[4] = (uint8_t)target;
        v->instance[5] = v->instance[6] = v->instance[7] = 0;
    }
    instance = host->param_str(dev, "instance");
    err = 0;
    if (instance && guid_parse(instance, v->instance))
        err = host->fail(dev, -EINVAL, "instance: '%s' is not a GUID", instance);
    if (!err && host->param_is_set(dev, "image")) {
        err = host->param_is_set(dev, "lun0")
                  ? host->fail(dev, -EINVAL, "image and lun0 are the same unit: set one")
                  : add_lun(v, 0, "image");
    }
    for (unsigned i = 0; !err && i < SCSI_MAX_LUNS; i++) {
        char key[8];

        lun_key(i, key);
        if (!host->param_is_set(dev, key))
            continue;
        if (i && v->ide)
            err = host->fail(dev, -EINVAL, "%s: a drive has one unit", key);
        else
            err = add_lun(v, i, key);
    }
    if (!err)
        err = channel_offer(v, 0);
    if (err) {
        sv_destroy(v);
        return err;
    }
    *ret = v;
    return 0;
}

/* ---- life ---------------------------------------------------------------------------------------- */

/* The bus has closed the channels. */
static void sv_reset(void *self)
{
    struct storvsp *v = self;

    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        channel_shut(&v->ch[i]);
    drop_sub_channels(v);
    end_stale(v);
    v->s = (struct sv_saved){ .state = SV_NEW };
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        if (v->luns[i])
            scsi_lun_reset(v->luns[i]);
}

static int sv_pause(void *self)
{
    struct storvsp *v = self;

    v->paused = true;
    drain(v, SCSI_KEEP);
    return 0;
}

static void sv_resume(void *self)
{
    struct storvsp *v = self;

    v->paused = false;
    again_execute(v);
    for (unsigned i = 0; i <= v->s.sub_channels; i++)
        pump(&v->ch[i]);
}

/* ---- state --------------------------------------------------------------------------------------- */

/* A request that waits for space on the host, is to be executed again, or whose answer waits. */
struct sv_saved_request {
    uint16_t channel, answered;
    uint32_t packet_len;
    uint64_t transaction;
    uint8_t packet[PACKET_LEN];
    uint32_t niov, reserved2;
};

static int save_request(struct storvsp *v, struct mobo_writer *out, unsigned n,
                        struct sv_request *q)
{
    struct sv_saved_request h = { .channel = q->ch->index,
                                  .answered = q->answered,
                                  .packet_len = q->packet_len,
                                  .transaction = q->transaction,
                                  .niov = q->scsi.niov };
    size_t len = sizeof(h) + (size_t)h.niov * 16;
    uint8_t *b = malloc(len);
    int err;

    if (!b)
        return v->host->fail(v->dev, -ENOMEM, "no memory");
    memcpy(h.packet, &q->packet, sizeof(h.packet));
    memcpy(b, &h, sizeof(h));
    for (uint32_t i = 0; i < h.niov; i++) {
        memcpy(b + sizeof(h) + 16 * i, &q->iov[i].gpa, 8);
        memcpy(b + sizeof(h) + 16 * i + 8, &q->iov[i].len, 8);
    }
    err = v->host->save_bytes(out, 1 + n, 0, b, (uint32_t)len);
    free(b);
    return err;
}

static int save_disc(struct storvsp *v, struct mobo_writer *out, const struct scsi_lun *l)
{
    int err = v->host->save_bytes(out, TAG_SECTORS, MOBO_FIELD_IGNORABLE, &l->nsect, sizeof(l->nsect));

    if (!err && l->inserted)
        err = v->host->save_bytes(out, TAG_INSERTED, MOBO_FIELD_IGNORABLE, l->inserted, (uint32_t)strlen(l->inserted));
    return err;
}

static int sv_save(void *self, struct mobo_writer *out)
{
    struct storvsp *v = self;
    struct sv_saved s = v->s;
    unsigned n = 0;
    int err;

    s.open = 0;
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        s.open |= (uint64_t)v->ch[i].open << i;
    err = v->host->save_fields(out, MOBO_ARRAY(sv_fields), &s);

    for (unsigned i = 0; !err && i < SCSI_MAX_LUNS; i++) {
        if (!v->luns[i])
            continue;
        err = v->host->save_begin(out, TAG_LUN + i, 0);
        if (!err)
            err = v->host->save_fields(out, scsi_state_fields, scsi_state_nfields,
                                       sizeof(struct mobo_field), &v->luns[i]->s);
        if (!err && v->luns[i]->cd)
            err = save_disc(v, out, v->luns[i]);
        if (!err)
            err = v->host->save_end(out);
    }
    if (!err)
        err = v->host->save_begin(out, TAG_REQUESTS, 0);
    for (struct sv_request *q = v->work; !err && q; q = q->next)
        if (q->ch->open && q->generation == q->ch->generation)
            err = save_request(v, out, n++, q);
    for (struct sv_request *q = v->again; !err && q; q = q->next)
        err = save_request(v, out, n++, q);
    return err ? err : v->host->save_end(out);
}

/* @return NULL when the bytes make no sense; *ret_err tells of memory. */
static struct sv_request *load_request(struct storvsp *v, const uint8_t *b, uint32_t len)
{
    struct sv_saved_request h;
    struct sv_request *q;

    if (len < sizeof(h))
        return NULL;
    memcpy(&h, b, sizeof(h));
    if (h.channel >= CHANNELS_MAX || h.answered > 1 ||
        (h.packet_len != PACKET_LEN && h.packet_len != PACKET_LEN_OLD) ||
        h.niov > v->max_transfer / 4096 + 2 || len != sizeof(h) + (size_t)h.niov * 16)
        return NULL;
    q = calloc(1, sizeof(*q));
    if (q)
        q->iov = calloc(h.niov ? h.niov : 1, sizeof(*q->iov));
    if (!q || !q->iov)
        goto bad;
    q->cap = h.niov ? h.niov : 1;
    q->ch = &v->ch[h.channel];
    q->answered = h.answered;
    q->transaction = h.transaction;
    q->packet_len = h.packet_len;
    memcpy(&q->packet, h.packet, sizeof(q->packet));
    q->scsi.iov = q->iov;
    q->scsi.niov = h.niov;
    for (uint32_t i = 0; i < h.niov; i++) {
        struct mobo_iov *io = &q->iov[i];

        memcpy(&io->gpa, b + sizeof(h) + 16 * i, 8);
        memcpy(&io->len, b + sizeof(h) + 16 * i + 8, 8);
        if (io->len > v->max_transfer || v->host->mem_map(v->dev, io->gpa, io->len, 1, &io->base))
            goto bad;
        q->scsi.len += io->len;
    }
    if (!q->answered && q->packet.u.srb.data_len > q->scsi.len) /* it was cut to what the command moves */
        q->packet.u.srb.data_len = (uint32_t)q->scsi.len;
    return q;
bad:
    if (q)
        request_free(q);
    return NULL;
}

/* The disc that a reader had when it was saved. */
struct disc {
    uint64_t sectors; /* 0: not known */
    char *inserted;   /* owned; NULL: the VM file's */
};

static int load_disc(struct storvsp *v, struct mobo_reader *in, unsigned n, struct disc *ret)
{
    char name[INSERTED_MAX + 1] = "";
    uint32_t len = 0, name_len = 0;
    int err = v->host->load_bytes(in, TAG_SECTORS, &ret->sectors, sizeof(ret->sectors), &len);
    bool sound = err || len == sizeof(ret->sectors);

    if (!err || err == -ENOENT) {
        err = v->host->load_bytes(in, TAG_INSERTED, name, INSERTED_MAX, &name_len);
        sound &= err || (name_len && strlen(name) == name_len);
    }
    if (err == -ENOENT)
        err = 0;
    if (!err && !sound)
        err = v->host->fail(v->dev, -EINVAL, "saved disc of unit %u makes no sense", n);
    if (!err && name_len && !(ret->inserted = strdup(name)))
        err = v->host->fail(v->dev, -ENOMEM, "no memory");
    return err;
}

/* The length of an image's name without the options behind it. */
static size_t image_len(const char *spec)
{
    static const char *const options[] = { ",ro", ",cdrom", ",direct", ",sector=512", ",sector=4096" };
    size_t len = strlen(spec);

    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
            size_t n = strlen(options[i]);

            if (len > n && !memcmp(spec + len - n, options[i], n)) {
                len -= n;
                more = true;
            }
        }
    }
    return len;
}

/* Whether the image of the VM file is what a person named: a relative name is the end of a path. */
static bool same_image(const char *image, const char *named)
{
    size_t len = image_len(image), n = image_len(named);

    if (len < n || memcmp(image + len - n, named, n))
        return false;
    return len == n || (named[0] != '/' && image[len - n - 1] == '/');
}

/* No file is opened because a state names it: the reader has what the VM file says.  If that is not the guest's
 * disc, the guest is to notice, and people how to bring it back. */
static void check_disc(struct storvsp *v, unsigned n, const struct disc *had)
{
    struct scsi_lun *l = v->luns[n];
    bool resized = had->sectors && had->sectors != l->nsect;
    const char *now = l->inserted;
    char key[8];

    lun_key(n, key);
    if (!now)
        now = v->host->param_str(v->dev, n || v->host->param_is_set(v->dev, key) ? key : "image");
    if (!now)
        now = "";
    if (had->inserted && (resized || !same_image(now, had->inserted)))
        v->host->log(v->dev, MOBO_WARNING,
                     "unit %u had '%.300s' inserted when the VM was saved, now it has '%.300s': another disc for the "
                     "guest; the command 'insert %u %.300s' brings it back",
                     n, had->inserted, now, n, had->inserted);
    else if (resized)
        v->host->log(v->dev, MOBO_WARNING,
                     "unit %u: '%.300s' is not as long as when the VM was saved: another disc for the guest", n, now);
    else
        return;
    if (!l->s.ejected) /* else it is told when the tray is closed */
        l->s.attention = ASC_MEDIUM_CHANGED;
}

static int sv_restore(void *self, struct mobo_reader *in)
{
    struct storvsp *v = self;
    struct sv_saved s = v->s;
    struct scsi_state st[SCSI_MAX_LUNS];
    struct disc had[SCSI_MAX_LUNS] = { 0 };
    struct sv_request *again = NULL, **tail = &again, *q;
    uint32_t most = (uint32_t)sizeof(struct sv_saved_request) + (v->max_transfer / 4096 + 2) * 16;
    uint8_t *buf = malloc(most);
    unsigned count = 0;
    int err = buf ? v->host->load_fields(in, MOBO_ARRAY(sv_fields), &s)
                  : v->host->fail(v->dev, -ENOMEM, "no memory");

    if (!err && (s.state > SV_READY || (s.version && !known_version(s.version)) ||
                 s.sub_channels > v->max_sub || (s.open >> 1 >> s.sub_channels)))
        err = v->host->fail(v->dev, -EINVAL, "saved protocol state makes no sense");
    for (unsigned i = 0; !err && i < SCSI_MAX_LUNS; i++) {
        if (!v->luns[i])
            continue;
        st[i] = v->luns[i]->s;
        err = v->host->load_begin(in, TAG_LUN + i);
        if (err == -ENOENT)
            err = v->host->fail(v->dev, -EINVAL, "unit %u is not in the saved state", i);
        if (!err)
            err = load_disc(v, in, i, &had[i]);
        if (!err)
            err = v->host->load_fields(in, scsi_state_fields, scsi_state_nfields,
                                       sizeof(struct mobo_field), &st[i]);
        if (!err)
            err = v->host->load_end(in);
        if (!err && !scsi_state_valid(&st[i]))
            err = v->host->fail(v->dev, -EINVAL, "saved state of unit %u makes no sense", i);
    }
    if (!err) {
        err = v->host->load_begin(in, TAG_REQUESTS);
        if (err == -ENOENT)
            err = v->host->fail(v->dev, -EINVAL, "the saved state has no list of requests");
    }
    while (!err && count < REQUESTS_MAX) {
        uint32_t len;

        err = v->host->load_bytes(in, 1 + count, buf, most, &len);
        if (err == -ENOENT) {
            err = 0;
            break;
        }
        if (!err) {
            q = load_request(v, buf, len);
            if (q) {
                *tail = q;
                tail = &q->next;
                count++;
            } else {
                err = v->host->fail(v->dev, -EINVAL, "saved request %u makes no sense", count);
            }
        }
    }
    if (!err)
        err = v->host->load_end(in);
    if (!err)
        err = v->host->load_done(in);
    free(buf);
    if (err) {
        while ((q = again)) {
            again = q->next;
            request_free(q);
        }
        goto out;
    }
    v->s = s;
    v->s.sub_channels = 0;
    for (uint16_t i = 1; i <= s.sub_channels && !channel_offer(v, i); i++)
        v->s.sub_channels = i;
    for (unsigned i = 0; i <= v->s.sub_channels; i++) /* the bus has its half of it */
        v->ch[i].open = s.open >> i & 1;
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        if (v->luns[i]) {
            v->luns[i]->s = st[i];
            if (v->luns[i]->cd)
                check_disc(v, i, &had[i]);
        }
    again_drop(v);
    v->again = again;
    v->requests += count;
    for (q = again; q; q = q->next)
        q->generation = q->ch->generation;
out:
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
        free(had[i].inserted);
    return err;
}

static void sv_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const states[] = { "new", "initializing", "version", "properties", "ready" };
    struct storvsp *v = self;
    const struct mobo_host *h = v->host;

    h->inspect_str(out, "form", v->ide ? "ide" : "scsi");
    h->inspect_str(out, "state", states[v->s.state]);
    h->inspect_uint(out, "protocol", v->s.version);
    h->inspect_uint(out, "sub-channels", v->s.sub_channels);
    h->inspect_uint(out, "requests", v->srbs);
    h->inspect_uint(out, "refused", v->refused);
    h->inspect_uint(out, "signals", v->signals);
    h->inspect_uint(out, "outstanding", v->outstanding);
    h->inspect_uint(out, "most outstanding", v->peak);
    for (unsigned i = 0; i < SCSI_MAX_LUNS; i++) {
        struct scsi_lun *l = v->luns[i];
        char name[] = "lun00";

        if (!l)
            continue;
        name[3] = (char)('0' + i / 10);
        name[4] = (char)('0' + i % 10);
        h->inspect_begin(out, name);
        h->inspect_str(out, "kind", l->cd ? "disc" : "disk");
        h->inspect_uint(out, "sector", l->sector);
        h->inspect_uint(out, "sectors", l->nsect);
        h->inspect_uint(out, "read only", l->info.flags & MOBO_BLOCK_READ_ONLY ? 1 : 0);
        h->inspect_uint(out, "reads", l->reads);
        h->inspect_uint(out, "read bytes", l->read_bytes);
        h->inspect_uint(out, "writes", l->writes);
        h->inspect_uint(out, "written bytes", l->written_bytes);
        h->inspect_uint(out, "flushes", l->flushes);
        h->inspect_uint(out, "unmaps", l->unmaps);
        h->inspect_uint(out, "errors", l->errors);
        h->inspect_fields(out, scsi_state_fields, scsi_state_nfields, sizeof(struct mobo_field),
                          &l->s);
        h->inspect_end(out);
    }
}

/* ---- commands of people -------------------------------------------------------------------------- */

/* Have the guest look for units again (SV storvsc_on_receive). */
static void tell_bus_changed(struct storvsp *v)
{
    struct sv_packet p = { .op = SV_ENUMERATE_BUS };
    struct sv_channel *ch = &v->ch[0];

    if (ch->vm && ch->open && v->s.state == SV_READY)
        v->host->vmbus_send(ch->vm, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, &p,
                            v->s.version < 0x0501 ? PACKET_LEN_OLD : PACKET_LEN);
}

static int open_spec(struct storvsp *v, const char *spec, uint32_t flags, mobo_block_t *ret,
                     struct mobo_block_info *info)
{
    if (!MOBO_HAS(v->host, block_open_spec))
        return v->host->fail(v->dev, -ENOTSUP, "this host opens no images while the VM runs");
    info->size = sizeof(*info);
    return v->host->block_open_spec(v->dev, spec, flags, ret, info);
}

static int sv_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct storvsp *v = self;
    const struct mobo_host *h = v->host;
    struct mobo_block_info info = { 0 };
    struct scsi_lun *l;
    mobo_block_t block = NULL;
    const char *rest;
    char *name;
    unsigned long n;
    char *end;
    int err;

    if (strcmp(verb, "add") && strcmp(verb, "remove") && strcmp(verb, "eject") &&
        strcmp(verb, "insert"))
        return h->fail(v->dev, -ENOSYS, "unknown command '%s' (add, remove, eject, insert)", verb);
    n = strtoul(arg, &end, 10);
    if (end == arg || (*end && *end != ' ') || n >= (v->ide ? 1 : SCSI_MAX_LUNS) || *arg == '-')
        return h->fail(v->dev, -EINVAL, "%s: the unit is missing: a number, 0 to %d", verb,
                       v->ide ? 0 : SCSI_MAX_LUNS - 1);
    for (rest = end; *rest == ' '; rest++)
        ;
    l = v->luns[n];
    if ((verb[0] == 'a' || verb[0] == 'i') != (*rest != 0))
        return h->fail(v->dev, -EINVAL, "%s: %s", verb,
                       *rest ? "the unit and nothing else" : "the image is missing");
    if (verb[0] == 'a') {
        if (l)
            return h->fail(v->dev, -EBUSY, "unit %lu is there already", n);
        err = open_spec(v, rest, 0, &block, &info);
        if (!err)
            err = make_lun(v, (unsigned)n, block, &info, rest);
        if (!err)
            tell_bus_changed(v);
        return err;
    }
    if (!l)
        return h->fail(v->dev, -ENODEV, "there is no unit %lu", n);
    if (verb[0] == 'r') {
        drain_lun(v, l, SCSI_ABORT);
        h->block_close(l->block);
        v->luns[n] = NULL;
        v->lun_mask &= ~(1ull << n);
        lun_free(l);
        tell_bus_changed(v);
        pump_held(v);
        return 0;
    }
    if (!l->cd)
        return h->fail(v->dev, -EINVAL, "unit %lu is not a reader of discs", n);
    if (verb[0] == 'e') {
        if (ret_len && l->s.prevent)
            strncat(ret, "the guest had locked the tray", ret_len - 1);
        l->s.ejected = 1;
        l->s.prevent = 0;
        return 0;
    }
    if (strlen(rest) > INSERTED_MAX)
        return h->fail(v->dev, -EINVAL, "insert: the name is too long");
    err = open_spec(v, rest, MOBO_BLOCK_READ_ONLY, &block, &info);
    if (err)
        return err;
    name = strdup(rest);
    if (!name || info.sector > 2048 || info.len < 2048) {
        h->block_close(block);
        err = name ? h->fail(v->dev, -EINVAL, "%s: this cannot be a disc", rest) : h->fail(v->dev, -ENOMEM, "no memory");
        free(name);
        return err;
    }
    drain_lun(v, l, SCSI_ABORT);
    h->block_close(l->block);
    l->block = block;
    free(l->inserted);
    l->inserted = name;
    l->info = info;
    l->info.flags |= MOBO_BLOCK_CDROM | MOBO_BLOCK_READ_ONLY;
    l->nsect = info.len / l->sector;
    l->s.ejected = 0;
    l->s.attention = ASC_MEDIUM_CHANGED;
    pump_held(v);
    return 0;
}

/* ---- descriptor ---------------------------------------------------------------------------------- */

#define LUN(n)                                                              \
    {                                                                       \
        "lun" #n, MOBO_PATH, 0, NULL, NULL, 0, 0, NULL, "image of unit " #n \
    }
#define LUNS(n)                                                                             \
    LUN(n##0), LUN(n##1), LUN(n##2), LUN(n##3), LUN(n##4), LUN(n##5), LUN(n##6), LUN(n##7), \
        LUN(n##8), LUN(n##9)

static const struct mobo_param sv_params[] = {
    { "form", MOBO_CHOICE, 0, NULL, "scsi", 0, 0, "scsi|ide",
      "SCSI controller, or the accelerator of an IDE drive" },
    { "image", MOBO_PATH, 0, NULL, NULL, 0, 0, NULL,
      "image of unit 0: PATH or nbd://...[,ro][,cdrom][,direct][,sector=4096]" },
    LUN(0),
    LUN(1),
    LUN(2),
    LUN(3),
    LUN(4),
    LUN(5),
    LUN(6),
    LUN(7),
    LUN(8),
    LUN(9),
    LUNS(1),
    LUNS(2),
    LUNS(3),
    LUNS(4),
    LUNS(5),
    LUN(60),
    LUN(61),
    LUN(62),
    LUN(63),
    { "channels", MOBO_UINT, 0, NULL, NULL, 1, CHANNELS_MAX, NULL,
      "VMBus channels at most; by the number of processors if not set" },
    { "max-transfer", MOBO_SIZE, 0, NULL, "8M", 64 << 10, 64 << 20, NULL, "of one request" },
    { "instance", MOBO_STRING, 0, NULL, NULL, 0, 36, NULL,
      "instance GUID; made from the device's name if not set" },
    { "drive", MOBO_UINT, 0, NULL, "0", 0, 3, NULL, "number of the IDE drive" },
};

static const struct mobo_vdev_ops sv_ops = {
    .size = sizeof(sv_ops),
    .create = sv_create,
    .destroy = sv_destroy,
    .reset = sv_reset,
    .pause = sv_pause,
    .resume = sv_resume,
    .save = sv_save,
    .restore = sv_restore,
    .inspect = sv_inspect,
    .command = sv_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "storvsp",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "synthetic storage controller (VMBus) with disks and CD/DVD readers",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .params = MOBO_ARRAY(sv_params),
    .ops = &sv_ops,
};
