/* SPDX-License-Identifier: BSD-2-Clause */
/* Integration services: framing, negotiation, one request at a time.  Reference: HV (ic.h), client
 * drivers/hv/channel_mgmt.c vmbus_prep_negotiate_resp(). */
#include "ic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Offsets in a message.  HV struct vmbuspipe_hdr, struct icmsg_hdr, struct icmsg_negotiate. */
enum {
    PIPE_TYPE = 0, /* u32: 1 data */
    PIPE_SIZE = 4, /* u32: of what follows */
    IC_FRAME_MAJOR = 8,
    IC_FRAME_MINOR = 10,
    IC_TYPE = 12,
    IC_MSG_MAJOR = 14,
    IC_MSG_MINOR = 16,
    IC_SIZE = 18, /* u16: of the body */
    IC_STATUS = 20,
    IC_TRANSACTION = 24, /* u8 */
    IC_FLAGS = 25,       /* u8 */
    IC_BODY = 28,
    NEGO_FRAMES = IC_BODY + 0, /* u16 */
    NEGO_MSGS = IC_BODY + 2,   /* u16 */
    NEGO_VERSIONS = IC_BODY + 8
};
enum { TYPE_NEGOTIATE = 0, FLAG_TRANSACTION = 1, FLAG_REQUEST = 2, FLAG_RESPONSE = 4 };
enum { PIPE_DATA = 1, PIPE_MODE_MESSAGE = 4 };
enum { PACKETS_AT_ONCE = 64 };

static const uint32_t frameworks[] = { IC_VERSION(3, 0), IC_VERSION(1, 0) };

static void put_version(uint8_t *p, uint32_t version)
{
    wire_put(p, version >> 16, 2);
    wire_put(p + 2, version & 0xffff, 2);
}

static void flush(struct ic *ic)
{
    int err;

    if (!ic->s.unsent)
        return;
    err = ic->host->vmbus_send(ic->ch, MOBO_VMBUS_INBAND, 0, ic->s.transaction, NULL, 0, ic->out,
                               ic->out_len);
    if (err == -EAGAIN)
        return; /* signal() follows when there is room */
    ic->s.unsent = 0;
    if (err == -EMSGSIZE)
        ic->host->vmbus_fault(ic->ch, "its ring is too small for this service");
}

/* Complete the header of the message whose body is in `out`, and send it. */
static void send(struct ic *ic, unsigned type, uint32_t body_len)
{
    uint8_t *m = ic->out;

    memset(m, 0, IC_BODY);
    wire_put(m + PIPE_TYPE, PIPE_DATA, 4);
    wire_put(m + PIPE_SIZE, IC_BODY - 8 + body_len, 4);
    put_version(m + IC_FRAME_MAJOR, type == TYPE_NEGOTIATE ? frameworks[0] : ic->s.framework);
    wire_put(m + IC_TYPE, type, 2);
    put_version(m + IC_MSG_MAJOR, type == TYPE_NEGOTIATE ? ic->svc->versions[0] : ic->s.version);
    wire_put(m + IC_SIZE, body_len, 2);
    m[IC_TRANSACTION] = ++ic->s.transaction;
    m[IC_FLAGS] = FLAG_TRANSACTION | FLAG_REQUEST;
    ic->out_len = IC_BODY + body_len;
    ic->s.waiting = ic->s.unsent = 1;
    ic->s.requests++;
    flush(ic);
}

int ic_send(struct ic *ic, const void *body, uint32_t len)
{
    if (ic->s.phase != IC_READY)
        return -ENOTCONN;
    if (ic->s.waiting)
        return -EBUSY;
    if (len > IC_BODY_MAX)
        return -EMSGSIZE;
    memcpy(ic->out + IC_BODY, body, len);
    send(ic, ic->svc->type, len);
    return 0;
}

int ic_fail(struct ic *ic, int err)
{
    return ic->host->fail(ic->dev, err, "%s",
                          err == -ENOTCONN ? "the guest runs no such service"
                          : err == -EBUSY  ? "the guest has not answered the last request yet"
                                           : strerror(-err));
}

const char *ic_status_text(uint32_t status)
{
    static char other[32];

    switch (status) {
    case IC_OK: return "ok";
    case IC_FAIL: return "failed";
    case IC_CONTINUE: return "nothing there";
    case IC_NOT_SUPPORTED: return "not supported";
    case IC_NOT_CONNECTED: return "not connected";
    case IC_INVALID: return "invalid argument";
    case IC_NOT_FOUND: return "not found";
    case IC_EXISTS: return "exists already";
    case IC_DISK_FULL: return "disk full";
    }
    snprintf(other, sizeof(other), "status 0x%08x", status);
    return other;
}

static void negotiate(struct ic *ic)
{
    uint8_t *m = ic->out;
    unsigned n = 0, msgs = 0;

    memset(m + IC_BODY, 0, 8);
    for (unsigned i = 0; i < 2; i++)
        put_version(m + NEGO_VERSIONS + 4 * n++, frameworks[i]);
    for (; msgs < IC_VERSIONS && ic->svc->versions[msgs]; msgs++)
        put_version(m + NEGO_VERSIONS + 4 * n++, ic->svc->versions[msgs]);
    wire_put(m + NEGO_FRAMES, 2, 2);
    wire_put(m + NEGO_MSGS, msgs, 2);
    ic->s.phase = IC_NEGOTIATING;
    send(ic, TYPE_NEGOTIATE, 8 + 4 * n);
}

static uint32_t version_at(const uint8_t *p)
{
    return IC_VERSION(wire_get(p, 2), wire_get(p + 2, 2));
}

/* @return what is wrong with the answer, or NULL. */
static const char *negotiated(struct ic *ic, const uint8_t *m, uint32_t len)
{
    uint32_t frame, version;
    unsigned i;

    if (len < NEGO_VERSIONS + 8)
        return "its answer about versions is too short";
    if (wire_get(m + NEGO_FRAMES, 2) != 1 || wire_get(m + NEGO_MSGS, 2) != 1) {
        ic->s.phase = IC_REFUSED;
        ic->host->log(ic->dev, MOBO_WARNING, "the guest speaks none of our versions");
        return NULL;
    }
    frame = version_at(m + NEGO_VERSIONS);
    version = version_at(m + NEGO_VERSIONS + 4);
    for (i = 0; i < IC_VERSIONS && ic->svc->versions[i] != version; i++)
        ;
    if ((frame != frameworks[0] && frame != frameworks[1]) || i == IC_VERSIONS || !version)
        return "it agrees on a version that was not offered";
    ic->s.framework = frame;
    ic->s.version = version;
    ic->s.phase = IC_READY;
    ic->host->log(ic->dev, MOBO_DEBUG, "version %u.%u, framework %u.%u", version >> 16,
                  version & 0xffff, frame >> 16, frame & 0xffff);
    ic->svc->ready(ic->ctx);
    return NULL;
}

/* @return what is wrong with the packet, or NULL. */
static const char *receive(struct ic *ic, const struct mobo_vmbus_packet *p)
{
    const uint8_t *m = p->data;

    if (p->type == MOBO_VMBUS_COMPLETION)
        return NULL;
    if (p->type != MOBO_VMBUS_INBAND)
        return "a packet of an unexpected type";
    if (p->len < IC_BODY || wire_get(m + PIPE_TYPE, 4) != PIPE_DATA)
        return "a message without its header";
    if (wire_get(m + PIPE_SIZE, 4) > p->len - 8)
        return "a message that is longer than its packet";
    if (!(m[IC_FLAGS] & FLAG_RESPONSE) || !ic->s.waiting || ic->s.unsent ||
        m[IC_TRANSACTION] != ic->s.transaction) {
        if (!ic->s.strays++)
            ic->host->log(ic->dev, MOBO_WARNING, "the guest answers what nobody asked");
        return NULL;
    }
    if (wire_get(m + IC_TYPE, 2) != wire_get(ic->out + IC_TYPE, 2))
        return "an answer of another type than the request";
    ic->s.waiting = 0;
    ic->s.answers++;
    if (ic->s.phase == IC_NEGOTIATING)
        return negotiated(ic, m, p->len);
    ic->svc->answer(ic->ctx, (uint32_t)wire_get(m + IC_STATUS, 4), m + IC_BODY, p->len - IC_BODY);
    return NULL;
}

static void channel_signal(void *ctx)
{
    struct ic *ic = ctx;

    if (ic->s.phase == IC_CLOSED)
        return;
    if (ic->s.phase == IC_OPENED)
        negotiate(ic);
    flush(ic);
    for (unsigned i = 0; i < PACKETS_AT_ONCE; i++) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };
        const char *bad;

        if (ic->host->vmbus_receive(ic->ch, &p))
            return;
        bad = receive(ic, &p);
        if (bad) {
            ic->host->vmbus_fault(ic->ch, bad);
            return;
        }
    }
    ic->host->work_post(ic->dev, channel_signal, ic); /* let others have their turn */
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct ic *ic = ctx;

    (void)user_data;
    ic->s = (struct ic_state){ .phase = IC_OPENED, .transaction = ic->s.transaction };
    return 0; /* signal() follows when packets can be sent */
}

static void channel_close(void *ctx)
{
    struct ic *ic = ctx;
    int was = ic->s.phase;

    ic->s.phase = IC_CLOSED;
    ic->s.waiting = ic->s.unsent = 0;
    if (was != IC_CLOSED && ic->svc->closed)
        ic->svc->closed(ic->ctx);
}

void ic_reset(struct ic *ic)
{
    memset(&ic->s, 0, sizeof(ic->s));
    ic->out_len = 0;
}

int ic_create(struct ic *ic, struct mobo_vdev *dev, const struct mobo_host *host,
              const struct ic_service *svc, void *ctx)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    struct mobo_vmbus_offer offer = { .size = sizeof(offer),
                                      .flags = MOBO_VMBUS_ENUMERATE_DEVICE | MOBO_VMBUS_PIPE };

    ic->dev = dev;
    ic->host = host;
    ic->svc = svc;
    ic->ctx = ctx;
    memcpy(offer.class_id, svc->class_id, 16);
    memcpy(offer.instance_id, svc->instance_id, 16);
    wire_put(offer.user_data, PIPE_MODE_MESSAGE, 4);
    return host->vmbus_offer(dev, &offer, &ops, ic, &ic->ch);
}

/* ---- state ------------------------------------------------------------------------------------- */

enum { TAG_IC = 0x100, TAG_OUT = 0x101 };

static const struct mobo_field ic_fields[] = {
    MOBO_FIELD(1, struct ic_state, phase),     MOBO_FIELD(2, struct ic_state, transaction),
    MOBO_FIELD(3, struct ic_state, waiting),   MOBO_FIELD(4, struct ic_state, unsent),
    MOBO_FIELD(5, struct ic_state, framework), MOBO_FIELD(6, struct ic_state, version),
    MOBO_FIELD(7, struct ic_state, requests),  MOBO_FIELD(8, struct ic_state, answers),
    MOBO_FIELD(9, struct ic_state, strays),
};

int ic_save(struct ic *ic, struct mobo_writer *out)
{
    int err = ic->host->save_begin(out, TAG_IC, 0);

    if (!err)
        err = ic->host->save_fields(out, MOBO_ARRAY(ic_fields), &ic->s);
    if (!err)
        err = ic->host->save_bytes(out, TAG_OUT, 0, ic->out, ic->s.waiting ? ic->out_len : 0);
    if (!err)
        err = ic->host->save_end(out);
    return err;
}

int ic_load(struct ic *ic, struct mobo_reader *in, struct ic_saved *ret)
{
    int err = ic->host->load_begin(in, TAG_IC);
    uint32_t n = 0;

    if (err == -ENOENT)
        return ic->host->fail(ic->dev, -EINVAL, "saved state without the channel's");
    memset(ret, 0, sizeof(*ret));
    if (!err)
        err = ic->host->load_bytes(in, TAG_OUT, ret->out, sizeof(ret->out), &n);
    if (err == -ENOENT || err == -EMSGSIZE)
        return ic->host->fail(ic->dev, -EINVAL, "the saved request is missing or too long");
    if (!err)
        err = ic->host->load_fields(in, MOBO_ARRAY(ic_fields), &ret->s);
    if (!err)
        err = ic->host->load_end(in);
    if (err)
        return err;
    ret->out_len = n;
    if (ret->s.phase > IC_OPENED || ret->s.waiting > 1 || ret->s.unsent > ret->s.waiting ||
        (ret->s.waiting ? n < IC_BODY : n != 0) ||
        (ret->s.waiting && ret->s.phase != IC_NEGOTIATING && ret->s.phase != IC_READY) ||
        (ret->s.phase == IC_NEGOTIATING && !ret->s.waiting))
        return ic->host->fail(ic->dev, -EINVAL, "the saved state of the channel makes no sense");
    return 0;
}

void ic_commit(struct ic *ic, const struct ic_saved *saved)
{
    ic->s = saved->s;
    memcpy(ic->out, saved->out, sizeof(ic->out));
    ic->out_len = saved->out_len;
}

void ic_inspect(struct ic *ic, struct mobo_inspect *out)
{
    static const char *const phases[] = { "not opened by the guest", "negotiating", "ready",
                                          "no common version", "opened" };
    char text[48];

    ic->host->inspect_str(out, "channel", phases[ic->s.phase]);
    if (ic->s.version) {
        snprintf(text, sizeof(text), "%u.%u, framework %u.%u", ic->s.version >> 16,
                 ic->s.version & 0xffff, ic->s.framework >> 16, ic->s.framework & 0xffff);
        ic->host->inspect_str(out, "version", text);
    }
    ic->host->inspect_uint(out, "requests", ic->s.requests);
    ic->host->inspect_uint(out, "answers", ic->s.answers);
}

/* ---- text -------------------------------------------------------------------------------------- */

/* One code point of UTF-8; '?' for a broken one, of which one byte is taken. */
static uint32_t code_point(const uint8_t **at)
{
    const uint8_t *p = *at;
    unsigned n = p[0] < 0x80 ? 0 : p[0] >= 0xf0 && p[0] < 0xf5 ? 3 : p[0] >= 0xe0 ? 2 : 1;
    uint32_t c = n == 3 ? p[0] & 7u : n == 2 ? p[0] & 15u : n ? p[0] & 31u : p[0];

    *at = p + 1;
    if (p[0] >= 0xf5 || (p[0] >= 0x80 && p[0] < 0xc2))
        return '?';
    for (unsigned i = 1; i <= n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return '?';
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((n == 2 && c < 0x800) || (n == 3 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c < 0xe000))
        return '?';
    *at = p + n + 1;
    return c;
}

uint32_t ic_utf16(const char *text, uint8_t *ret, uint32_t max)
{
    const uint8_t *p = (const uint8_t *)text;
    uint32_t n = 0;

    while (*p) {
        uint32_t c = code_point(&p);

        if (n + (c >= 0x10000 ? 2 : 1) + 1 > max)
            return 0;
        if (c >= 0x10000) {
            wire_put(ret + 2 * n++, 0xd800 + ((c - 0x10000) >> 10), 2);
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        wire_put(ret + 2 * n++, c, 2);
    }
    if (n == max)
        return 0;
    wire_put(ret + 2 * n++, 0, 2);
    return n;
}

void ic_utf8(const uint8_t *buf, uint32_t len, char *ret, uint32_t max)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i + 2 <= len; i += 2) {
        uint32_t c = (uint32_t)wire_get(buf + i, 2), low;
        unsigned more;

        if (!c)
            break;
        if (c >= 0xd800 && c < 0xe000) {
            low = i + 4 <= len ? (uint32_t)wire_get(buf + i + 2, 2) : 0;
            if (c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            } else {
                c = '?';
            }
        }
        if (c < 0x20 || c == 0x7f)
            c = '?';
        more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        if (n + more + 2 > max)
            break;
        if (!more) {
            ret[n++] = (char)c;
            continue;
        }
        ret[n++] = (char)((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | c >> 6 * more);
        while (more--)
            ret[n++] = (char)(0x80 | (c >> 6 * more & 0x3f));
    }
    if (max)
        ret[n] = 0;
}
