/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings of a channel, GPADL contents, packets (HV struct hv_ring_buffer, struct vmpacket_descriptor). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus/vmbus_int.h"

struct pkt_header { uint16_t type, offset8, len8, flags; uint64_t transaction; };
_Static_assert(sizeof(struct pkt_header) == 16, "packet header");

static int half_open(struct vmbus_channel *ch, struct ring *r, const struct gpadl *g, uint32_t first, uint32_t n)
{
    struct vmbus *v = ch->bus;

    memset(r, 0, sizeof(*r));
    if (n < 2)
        return -EINVAL;
    r->size = (n - 1) * 4096;
    r->data = calloc(n - 1, sizeof(*r->data));
    r->gpa = calloc(n - 1, sizeof(*r->gpa));
    if (!r->data || !r->gpa)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t gpa = g->pfn[first + i] << 12;
        void *hva = v->ops.page(v->ctx, gpa);

        if (!hva)
            return -EFAULT;
        if (i == 0) {
            r->page = hva;
            r->page_gpa = gpa;
        } else {
            r->data[i - 1] = hva;
            r->gpa[i - 1] = gpa;
        }
    }
    return 0;
}

static void half_close(struct ring *r)
{
    free(r->data);
    free(r->gpa);
    memset(r, 0, sizeof(*r));
}

/* Both rings and the packet buffer; the indices are the caller's. */
static int ring_map(struct vmbus_channel *ch, const struct gpadl *g, uint32_t down)
{
    int err;

    if (!g->created || g->nranges != 1 || g->range[0].offset || down < 2 || down >= g->npages || g->npages - down < 2)
        return -EINVAL;
    err = half_open(ch, &ch->in, g, 0, down);
    if (!err)
        err = half_open(ch, &ch->out, g, down, g->npages - down);
    if (!err) {
        ch->buf_len = ch->in.size < VMBUS_MAX_PACKET ? ch->in.size : VMBUS_MAX_PACKET;
        ch->buf = malloc(ch->buf_len);
        if (!ch->buf)
            err = -ENOMEM;
    }
    return err;
}

static bool indices_fit(const struct vmbus_channel *ch)
{
    return ch->in.index < ch->in.size && !(ch->in.index % 8) && ch->out.index < ch->out.size && !(ch->out.index % 8);
}

int ring_open(struct vmbus_channel *ch, struct gpadl *g, uint32_t down)
{
    int err = ring_map(ch, g, down);

    if (!err) {
        /* Both start where the guest says, if that makes sense: a reopened channel has zeroes. */
        ch->in.index = atomic_load(&ch->in.page->read_index);
        ch->out.index = atomic_load(&ch->out.page->write_index);
        if (!indices_fit(ch))
            err = -EINVAL;
    }
    if (!err) {
        ch->room_wanted = false;
        atomic_store(&ch->out.page->feature_bits, 1); /* we use pending_send_size */
    } else {
        ring_close(ch);
    }
    return err;
}

int ring_restore(struct vmbus_channel *ch, const struct gpadl *g, uint32_t down, uint32_t in, uint32_t out)
{
    int err = ring_map(ch, g, down);

    if (!err) {
        ch->in.index = in;
        ch->out.index = out;
        if (!indices_fit(ch))
            err = -EINVAL;
    }
    if (err)
        ring_close(ch);
    return err;
}

void ring_close(struct vmbus_channel *ch)
{
    half_close(&ch->in);
    half_close(&ch->out);
    free(ch->buf);
    ch->buf = NULL;
    ch->buf_len = 0;
}

static uint32_t copy_out(const struct ring *r, uint32_t at, void *buf, uint32_t len)
{
    uint8_t *b = buf;

    while (len) {
        uint32_t n = 4096 - at % 4096;

        if (n > len)
            n = len;
        memcpy(b, r->data[at / 4096] + at % 4096, n);
        at += n;
        if (at == r->size)
            at = 0;
        b += n;
        len -= n;
    }
    return at;
}

static uint32_t copy_in(struct vmbus_channel *ch, struct ring *r, uint32_t at, const void *buf, uint32_t len)
{
    static const uint8_t zero[8];
    const uint8_t *b = buf ? buf : zero;

    while (len) {
        uint32_t n = 4096 - at % 4096;

        if (n > len)
            n = len;
        memcpy(r->data[at / 4096] + at % 4096, b, n);
        ch->bus->ops.page_dirty(ch->bus->ctx, r->gpa[at / 4096] + at % 4096, n);
        at += n;
        if (at == r->size)
            at = 0;
        b += n;
        len -= n;
    }
    return at;
}

/* Bytes from @read to @write. */
static uint32_t used(const struct ring *r, uint32_t write, uint32_t read)
{
    return write >= read ? write - read : r->size - read + write;
}

static void break_channel(struct vmbus_channel *ch, const char *why)
{
    if (!ch->broken)
        vmbus_logf(ch->bus, 1, "%s: %s: the channel is closed", ch->name, why);
    ch->broken = true;
    ch->bus->broken_channels = true;
    ch->bus->ops.service_wanted(ch->bus->ctx);
}

void vmbus_fault(struct vmbus_channel *ch, const char *why)
{
    pthread_mutex_lock(&ch->lock);
    break_channel(ch, why);
    pthread_mutex_unlock(&ch->lock);
}

static void signal_guest(struct vmbus_channel *ch)
{
    ch->bus->ops.event_signal(ch->bus->ctx, ch->target_vp, ch->relid);
}

int vmbus_receive(struct vmbus_channel *ch, struct vmbus_packet *ret)
{
    struct ring *r = &ch->in;
    struct pkt_header h;
    uint32_t write, avail, total, off, at, pending;
    int err = 0;

    pthread_mutex_lock(&ch->lock);
    if (ch->state != CH_OPEN || ch->broken) {
        err = -ENOTCONN;
        goto out;
    }
    atomic_store(&r->page->interrupt_mask, 1);
    write = atomic_load(&r->page->write_index);
    if (write == r->index) {
        /* Empty: ask for a signal, then look once more. */
        atomic_store(&r->page->interrupt_mask, 0);
        write = atomic_load(&r->page->write_index);
        if (write == r->index) {
            err = -EAGAIN;
            goto out;
        }
        atomic_store(&r->page->interrupt_mask, 1);
    }
    if (write >= r->size || write % 8) {
        break_channel(ch, "write index out of range");
        err = -EPROTO;
        goto out;
    }
    avail = used(r, write, r->index);
    if (avail < sizeof(h) + 8) {
        break_channel(ch, "a packet is cut short");
        err = -EPROTO;
        goto out;
    }
    at = copy_out(r, r->index, &h, sizeof(h));
    total = (uint32_t)h.len8 * 8;
    off = (uint32_t)h.offset8 * 8;
    if (total < sizeof(h) || total + 8 > avail || off < sizeof(h) || off > total) {
        break_channel(ch, "a packet has impossible lengths");
        err = -EPROTO;
        goto out;
    }
    at = copy_out(r, at, ch->buf, total - (uint32_t)sizeof(h));
    ret->type = h.type;
    ret->flags = h.flags;
    ret->transaction = h.transaction;
    ret->desc = ch->buf;
    ret->desc_len = off - (uint32_t)sizeof(h);
    ret->data = ch->buf + ret->desc_len;
    ret->len = total - off;

    at += 8; /* the trailer */
    if (at >= r->size)
        at -= r->size;
    r->index = at;
    atomic_store(&r->page->read_index, at);
    ch->bus->ops.page_dirty(ch->bus->ctx, r->page_gpa, sizeof(struct ring_page));
    /* Does the guest wait for room, and is there enough just now?  The write index is read again, behind the store
     * of the read index: a guest that has filled the ring since this packet was looked at decided to wait by the
     * old read index, so that this packet's room is what it waits for (HV hv_pkt_iter_close). */
    pending = atomic_load(&r->page->pending_send_size);
    if (pending && (atomic_load(&r->page->feature_bits) & 1)) {
        write = atomic_load(&r->page->write_index);
        if (write < r->size && !(write % 8)) { /* else the next call sees to it */
            uint32_t free_now = r->size - used(r, write, at), free_before = free_now - (total + 8);

            if (free_before <= pending && free_now > pending)
                signal_guest(ch);
        }
    }
out:
    pthread_mutex_unlock(&ch->lock);
    return err;
}

int vmbus_send(struct vmbus_channel *ch, uint16_t type, uint16_t flags, uint64_t transaction, const void *desc,
               uint32_t desc_len, const void *data, uint32_t len)
{
    struct ring *r = &ch->out;
    uint32_t padded, total, need, read, at, start, room;
    struct pkt_header h;
    bool retry = false;
    uint64_t trailer;
    int err = 0;

    if (desc_len % 8 || len > VMBUS_MAX_PACKET || desc_len > VMBUS_MAX_PACKET)
        return -EMSGSIZE;
    padded = (len + 7) & ~7u;
    total = (uint32_t)sizeof(h) + desc_len + padded;
    if (total > VMBUS_MAX_PACKET)
        return -EMSGSIZE;
    h = (struct pkt_header){ type, (uint16_t)((sizeof(h) + desc_len) / 8), (uint16_t)(total / 8),
                             flags & (uint16_t)~VMBUS_PKT_ALONE, transaction };
    pthread_mutex_lock(&ch->lock);
    if (ch->state != CH_OPEN || ch->broken) {
        err = -ENOTCONN;
        goto out;
    }
    if (total + 8 >= r->size) {
        err = -EMSGSIZE;
        goto out;
    }
    /* More than that has to be free.  Never quite full: equal indices mean empty. */
    need = flags & VMBUS_PKT_ALONE ? r->size - 8 : total + 8;
    for (int again = 0;; again = 1) {
        read = atomic_load(&r->page->read_index);
        if (read >= r->size || read % 8) {
            break_channel(ch, "read index out of range");
            err = -EPROTO;
            goto out;
        }
        room = r->size - used(r, r->index, read);
        if (room > need)
            break;
        if (again) {
            ch->room_wanted = true;
            err = -EAGAIN;
            goto out;
        }
        atomic_store(&r->page->pending_send_size, need);
        /* and look again, as the guest may have read meanwhile */
    }
    atomic_store(&r->page->pending_send_size, 0);
    /* Some other send may wait for room still and nobody would signal it: have the owner try again. */
    retry = ch->room_wanted;
    ch->room_wanted = false;
    start = r->index;
    at = copy_in(ch, r, start, &h, sizeof(h));
    at = copy_in(ch, r, at, desc, desc_len);
    at = copy_in(ch, r, at, data, len);
    at = copy_in(ch, r, at, NULL, padded - len);
    trailer = (uint64_t)start << 32;
    at = copy_in(ch, r, at, &trailer, sizeof(trailer));
    r->index = at;
    atomic_store(&r->page->write_index, at);
    ch->bus->ops.page_dirty(ch->bus->ctx, r->page_gpa, sizeof(struct ring_page));
    /* HV hv_signal_on_write: only the step from empty wakes the reader. */
    if (!atomic_load(&r->page->interrupt_mask) && atomic_load(&r->page->read_index) == start)
        signal_guest(ch);
out:
    pthread_mutex_unlock(&ch->lock);
    if (retry && ch->ops.signal)
        ch->ops.signal(ch->ctx);
    return err;
}

bool vmbus_is_open(struct vmbus_channel *ch)
{
    bool open;

    pthread_mutex_lock(&ch->lock);
    open = ch->state == CH_OPEN && !ch->broken;
    pthread_mutex_unlock(&ch->lock);
    return open;
}

/* ---- GPADLs --------------------------------------------------------------------------------------- */

static int gpadl_copy(struct vmbus_channel *ch, uint32_t id, uint64_t off, void *buf, uint32_t len, bool write)
{
    struct vmbus *v = ch->bus;
    struct gpadl *g;
    uint8_t *b = buf;
    int err = 0;

    pthread_mutex_lock(&v->lock);
    g = vmbus_gpadl_find(ch, id);
    if (!g || !g->created)
        err = -ENOENT;
    else if (len > g->len || off > g->len - len)
        err = -EFAULT;
    for (uint32_t i = 0; !err && len; i++) {
        const struct gpadl_range *r = &g->range[i];
        uint64_t in = off - r->start;

        if (in >= r->len) /* len bytes at off are inside, so that a range with them comes */
            continue;
        while (!err && len && in < r->len) {
            uint32_t at = (uint32_t)((in + r->offset) % 4096), n = 4096 - at;
            uint64_t gpa = g->pfn[r->first_page + (in + r->offset) / 4096] << 12;
            uint8_t *hva = v->ops.page(v->ctx, gpa);

            if (n > len)
                n = len;
            if (n > r->len - in)
                n = (uint32_t)(r->len - in);
            if (!hva) {
                err = -EFAULT;
            } else if (write) {
                memcpy(hva + at, b, n);
                v->ops.page_dirty(v->ctx, gpa + at, n);
            } else {
                memcpy(b, hva + at, n);
            }
            b += n;
            in += n;
            off += n;
            len -= n;
        }
    }
    pthread_mutex_unlock(&v->lock);
    return err;
}

int vmbus_gpadl_read(struct vmbus_channel *ch, uint32_t id, uint64_t off, void *buf, uint32_t len)
{
    return gpadl_copy(ch, id, off, buf, len, false);
}

int vmbus_gpadl_write(struct vmbus_channel *ch, uint32_t id, uint64_t off, const void *buf, uint32_t len)
{
    return gpadl_copy(ch, id, off, (void *)(uintptr_t)buf, len, true);
}

int vmbus_gpadl_len(struct vmbus_channel *ch, uint32_t id, uint64_t *ret_len)
{
    struct gpadl *g;
    int err = -ENOENT;

    pthread_mutex_lock(&ch->bus->lock);
    g = vmbus_gpadl_find(ch, id);
    if (g && g->created) {
        *ret_len = g->len;
        err = 0;
    }
    pthread_mutex_unlock(&ch->bus->lock);
    return err;
}

int vmbus_gpa_direct(struct vmbus_channel *ch, const struct vmbus_packet *pkt, struct vmbus_iov *iov, uint32_t max,
                     uint32_t *ret_n, uint64_t *ret_len)
{
    struct vmbus *v = ch->bus;
    uint32_t count, n = 0, pos = 8;
    uint64_t total = 0;

    if (pkt->type != VMBUS_PKT_GPA_DIRECT || pkt->desc_len < 8)
        return -EINVAL;
    memcpy(&count, pkt->desc + 4, 4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len, off;

        if (pkt->desc_len - pos < 8)
            return -EINVAL;
        memcpy(&len, pkt->desc + pos, 4);
        memcpy(&off, pkt->desc + pos + 4, 4);
        pos += 8;
        if (off >= 4096)
            return -EINVAL;
        uint64_t pages = ((uint64_t)off + len + 4095) / 4096;

        if (pages > (pkt->desc_len - pos) / 8)
            return -EINVAL;
        if (!len) { /* names a page and nothing of it */
            pos += (uint32_t)pages * 8;
            continue;
        }
        for (uint64_t p = 0; p < pages; p++, pos += 8) {
            uint64_t pfn, gpa;
            uint32_t part = 4096 - off;
            uint8_t *hva;

            memcpy(&pfn, pkt->desc + pos, 8);
            if (part > len)
                part = len;
            hva = pfn < 1ull << 40 ? v->ops.page(v->ctx, pfn << 12) : NULL;
            if (!hva)
                return -EFAULT;
            gpa = (pfn << 12) + off;
            hva += off;
            if (n && (uint8_t *)iov[n - 1].base + iov[n - 1].len == hva && iov[n - 1].gpa + iov[n - 1].len == gpa) {
                iov[n - 1].len += part;
            } else {
                if (n == max)
                    return -E2BIG;
                iov[n++] = (struct vmbus_iov){ hva, part, gpa };
            }
            total += part;
            len -= part;
            off = 0;
        }
    }
    *ret_n = n;
    *ret_len = total;
    return 0;
}
