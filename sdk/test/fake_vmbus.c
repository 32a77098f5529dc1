/* SPDX-License-Identifier: MIT */
/* The fake host's VMBus: channels between a device and a test that plays the guest; and disk images
 * in memory.  See mobo_fakehost.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/test/fake_int.h"

struct packet {
    struct packet *next;
    uint16_t type, flags;
    uint64_t transaction;
    uint32_t desc_len, len;
    uint8_t bytes[]; /* desc, then data, padded to 8 */
};

struct gpadl {
    struct gpadl *next;
    uint32_t id;
    uint64_t gpa, len;
};

struct mobo_vmbus {
    struct mobo_vmbus *next;
    struct mobo_vdev *dev;
    struct mobo_vmbus_offer offer;
    struct mobo_vmbus_ops ops;
    void *ctx;
    int open, rescinded;
    int waiting, waiting_alone; /* a send found no room; packets before it, MOBO_VMBUS_ALONE */
    uint32_t room;
    char fault[128];
    struct packet *in, **in_tail, *in_held;    /* guest to device */
    struct packet *out, **out_tail, *out_held; /* device to guest */
    struct gpadl *gpadls;
};

static struct packet *packet_make(uint32_t type, uint32_t flags, uint64_t transaction,
                                  const void *desc, uint32_t desc_len, const void *data,
                                  uint32_t len)
{
    uint32_t padded = (len + 7) & ~7u;
    struct packet *p = fake_zalloc(sizeof(*p) + desc_len + padded + 8);

    p->type = (uint16_t)type;
    p->flags = (uint16_t)flags;
    p->transaction = transaction;
    p->desc_len = desc_len;
    p->len = padded;
    if (desc_len)
        memcpy(p->bytes, desc, desc_len);
    if (len)
        memcpy(p->bytes + desc_len, data, len);
    return p;
}

static void packets_free(struct packet *p)
{
    while (p) {
        struct packet *next = p->next;

        free(p);
        p = next;
    }
}

static void empty(struct mobo_vmbus *c)
{
    packets_free(c->in);
    packets_free(c->out);
    free(c->in_held);
    free(c->out_held);
    c->in = c->out = c->in_held = c->out_held = NULL;
    c->in_tail = &c->in;
    c->out_tail = &c->out;
    c->waiting = c->waiting_alone = 0;
}

static void show(const struct packet *p, struct mobo_vmbus_packet *ret)
{
    ret->type = p->type;
    ret->flags = p->flags;
    ret->transaction = p->transaction;
    ret->desc = p->bytes;
    ret->desc_len = p->desc_len;
    ret->data = p->bytes + p->desc_len;
    ret->len = p->len;
}

/* ---- services ------------------------------------------------------------------------------------ */

int fake_vmbus_offer(struct mobo_vdev *dev, const struct mobo_vmbus_offer *offer,
                     const struct mobo_vmbus_ops *ops, void *ctx, struct mobo_vmbus **ret)
{
    struct mobo_vmbus *c = fake_zalloc(sizeof(*c)), **tail = &dev->vmbus;

    if (offer->size < sizeof(*offer) || ops->size < sizeof(uint32_t))
        fake_die("vmbus_offer: the offer has no size");
    c->dev = dev;
    c->offer = *offer;
    memcpy(&c->ops, ops, ops->size < sizeof(c->ops) ? ops->size : sizeof(c->ops));
    c->ctx = ctx;
    c->room = UINT32_MAX;
    c->in_tail = &c->in;
    c->out_tail = &c->out;
    while (*tail)
        tail = &(*tail)->next;
    *tail = c;
    *ret = c;
    return 0;
}

static void check_live(const struct mobo_vmbus *c, const char *what)
{
    if (c->rescinded)
        fake_die("%s: on a channel that was rescinded", what);
}

void fake_vmbus_rescind(struct mobo_vmbus *c)
{
    check_live(c, "vmbus_rescind");
    c->rescinded = 1;
    c->open = 0;
    empty(c);
}

int fake_vmbus_receive(struct mobo_vmbus *c, struct mobo_vmbus_packet *ret)
{
    struct packet *p = c->in;

    check_live(c, "vmbus_receive");
    if (ret->size < sizeof(*ret))
        fake_die("vmbus_receive: the packet has no size");
    if (!c->open || c->fault[0])
        return -ENOTCONN;
    if (!p)
        return -EAGAIN;
    c->in = p->next;
    if (!c->in)
        c->in_tail = &c->in;
    free(c->in_held);
    c->in_held = p;
    show(p, ret);
    return 0;
}

int fake_vmbus_send(struct mobo_vmbus *c, uint32_t type, uint32_t flags, uint64_t transaction,
                    const void *desc, uint32_t desc_len, const void *data, uint32_t len)
{
    struct packet *p;

    check_live(c, "vmbus_send");
    if (!c->open || c->fault[0])
        return -ENOTCONN;
    if (desc_len % 8)
        return -EMSGSIZE;
    if (!c->room) {
        c->waiting = 1;
        return -EAGAIN;
    }
    if ((flags & MOBO_VMBUS_ALONE) && c->out) {
        c->waiting_alone = 1;
        return -EAGAIN;
    }
    if (c->room != UINT32_MAX)
        c->room--;
    p = packet_make(type, flags & ~(uint32_t)MOBO_VMBUS_ALONE, transaction, desc, desc_len, data, len);
    *c->out_tail = p;
    c->out_tail = &p->next;
    return 0;
}

void fake_vmbus_fault(struct mobo_vmbus *c, const char *why)
{
    check_live(c, "vmbus_fault");
    if (!c->fault[0])
        snprintf(c->fault, sizeof(c->fault), "%s", why && *why ? why : "?");
}

static int gpadl_at(struct mobo_vmbus *c, uint32_t id, uint64_t off, uint64_t len, uint64_t *ret)
{
    for (struct gpadl *g = c->gpadls; g; g = g->next)
        if (g->id == id) {
            if (len > g->len || off > g->len - len)
                return -EFAULT;
            *ret = g->gpa + off;
            return 0;
        }
    return -ENOENT;
}

int fake_vmbus_gpadl_read(struct mobo_vmbus *c, uint32_t id, uint64_t off, void *buf, uint32_t len)
{
    uint64_t gpa = 0;
    int err = gpadl_at(c, id, off, len, &gpa);

    return err ? err : fake_mem_read(c->dev, gpa, buf, len);
}

int fake_vmbus_gpadl_write(struct mobo_vmbus *c, uint32_t id, uint64_t off, const void *buf,
                           uint32_t len)
{
    uint64_t gpa = 0;
    int err = gpadl_at(c, id, off, len, &gpa);

    return err ? err : fake_mem_write(c->dev, gpa, buf, len);
}

int fake_vmbus_gpadl_len(struct mobo_vmbus *c, uint32_t id, uint64_t *ret)
{
    for (struct gpadl *g = c->gpadls; g; g = g->next)
        if (g->id == id) {
            *ret = g->len;
            return 0;
        }
    return -ENOENT;
}

int fake_vmbus_gpa_direct(struct mobo_vmbus *c, const struct mobo_vmbus_packet *p,
                          struct mobo_iov *iov, uint32_t max, uint32_t *ret_n, uint64_t *ret_len)
{
    uint32_t ranges, n = 0, at = 8;
    uint64_t total = 0;

    if (p->type != MOBO_VMBUS_GPA_DIRECT || p->desc_len < 8)
        return -EINVAL;
    memcpy(&ranges, p->desc + 4, 4);
    for (uint32_t i = 0; i < ranges; i++) {
        uint32_t len, off;
        uint64_t pages;

        if (p->desc_len - at < 8)
            return -EINVAL;
        memcpy(&len, p->desc + at, 4);
        memcpy(&off, p->desc + at + 4, 4);
        at += 8;
        pages = ((uint64_t)off + len + 4095) / 4096;
        if (off >= 4096 || pages > (p->desc_len - at) / 8)
            return -EINVAL;
        for (; pages; pages--, at += 8) {
            uint32_t part = len < 4096 - off ? len : 4096 - off;
            uint64_t pfn;
            void *hva;

            memcpy(&pfn, p->desc + at, 8);
            if (pfn >> 40 || fake_mem_map(c->dev, (pfn << 12) + off, part, 1, &hva))
                return -EFAULT;
            if (n && (uint8_t *)iov[n - 1].base + iov[n - 1].len == (uint8_t *)hva) {
                iov[n - 1].len += part;
            } else {
                if (n == max)
                    return -E2BIG;
                iov[n++] = (struct mobo_iov){ hva, part, (pfn << 12) + off };
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

uint32_t fake_vmbus_version(struct mobo_vmbus *c)
{
    (void)c;
    return 5 << 16 | 3;
}

void fake_mem_dirty(struct mobo_vdev *dev, uint64_t gpa, uint64_t len)
{
    if (gpa > RAM_LEN || len > RAM_LEN - gpa)
        fake_die("mem_dirty: 0x%llx is not RAM", (unsigned long long)gpa);
    (void)dev;
}

int fake_mem_reserve(struct mobo_vdev *dev, uint64_t len, uint64_t *ret_gpa)
{
    struct mobo_fake *f = dev->f;

    if (!len || len % (128 << 20))
        return -EINVAL;
    if (f->hot_max)
        return -EBUSY;
    f->hot_max = len;
    *ret_gpa = HOT_GPA;
    return 0;
}

int fake_mem_plug(struct mobo_vdev *dev, uint64_t len)
{
    struct mobo_fake *f = dev->f;

    if (len % 4096 || len > f->hot_max)
        return -EINVAL;
    f->hot_len = len;
    return 0;
}

uint64_t mobo_fake_plugged(const struct mobo_fake *f)
{
    return f->hot_len;
}

int fake_mem_discard(struct mobo_vdev *dev, uint64_t gpa, uint64_t len)
{
    if (gpa % 4096 || len % 4096)
        return -EINVAL;
    if (gpa >= HOT_GPA && gpa - HOT_GPA <= dev->f->hot_len && len <= dev->f->hot_len - (gpa - HOT_GPA))
        return 0; /* it has no contents here */
    if (gpa > RAM_LEN || len > RAM_LEN - gpa)
        return -EFAULT;
    memset(dev->f->ram + gpa, 0, len);
    return 0;
}

/* ---- what a test does ---------------------------------------------------------------------------- */

static struct mobo_vmbus *channel(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = dev->vmbus;

    while (c && n--)
        c = c->next;
    if (!c)
        fake_die("the device has not offered that many channels");
    return c;
}

unsigned mobo_fake_vmbus_count(struct mobo_vdev *dev)
{
    unsigned n = 0;

    for (struct mobo_vmbus *c = dev->vmbus; c; c = c->next)
        n++;
    return n;
}

const struct mobo_vmbus_offer *mobo_fake_vmbus_offer(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = channel(dev, n);

    return c->rescinded ? NULL : &c->offer;
}

int mobo_fake_vmbus_open(struct mobo_vdev *dev, unsigned n, const uint8_t *user_data)
{
    static const uint8_t none[MOBO_VMBUS_USER_DATA];
    struct mobo_vmbus *c = channel(dev, n);
    int err;

    if (c->rescinded || c->open)
        return -EINVAL;
    c->fault[0] = 0;
    empty(c);
    err = c->ops.open ? c->ops.open(c->ctx, user_data ? user_data : none) : 0;
    if (err)
        return err;
    c->open = 1;
    if (c->ops.signal)
        c->ops.signal(c->ctx);
    return 0;
}

void mobo_fake_vmbus_close(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = channel(dev, n);

    if (!c->open)
        return;
    c->open = 0;
    empty(c);
    if (c->ops.close)
        c->ops.close(c->ctx);
}

void mobo_fake_vmbus_restored(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = channel(dev, n);

    if (c->rescinded)
        return;
    c->fault[0] = 0;
    c->open = 1;
}

void mobo_fake_vmbus_queue(struct mobo_vdev *dev, unsigned n, uint32_t type, uint32_t flags,
                           uint64_t transaction, const void *desc, uint32_t desc_len,
                           const void *data, uint32_t len)
{
    struct mobo_vmbus *c = channel(dev, n);
    struct packet *p = packet_make(type, flags, transaction, desc, desc_len, data, len);

    *c->in_tail = p;
    c->in_tail = &p->next;
}

void mobo_fake_vmbus_signal(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = channel(dev, n);

    if (c->open && !c->rescinded && c->ops.signal)
        c->ops.signal(c->ctx);
    if (c->open && c->fault[0])
        mobo_fake_vmbus_close(dev, n);
}

void mobo_fake_vmbus_send(struct mobo_vdev *dev, unsigned n, uint32_t type, uint32_t flags,
                          uint64_t transaction, const void *desc, uint32_t desc_len,
                          const void *data, uint32_t len)
{
    mobo_fake_vmbus_queue(dev, n, type, flags, transaction, desc, desc_len, data, len);
    mobo_fake_vmbus_signal(dev, n);
}

int mobo_fake_vmbus_recv(struct mobo_vdev *dev, unsigned n, struct mobo_vmbus_packet *ret)
{
    struct mobo_vmbus *c = channel(dev, n);
    struct packet *p;

    if (!c->out && c->waiting_alone) {
        c->waiting_alone = 0;
        mobo_fake_vmbus_signal(dev, n);
    }
    p = c->out;
    if (!p)
        return 0;
    c->out = p->next;
    if (!c->out)
        c->out_tail = &c->out;
    free(c->out_held);
    c->out_held = p;
    show(p, ret);
    return 1;
}

void mobo_fake_vmbus_room(struct mobo_vdev *dev, unsigned n, uint32_t packets)
{
    struct mobo_vmbus *c = channel(dev, n);

    c->room = packets;
    if (packets && c->waiting) {
        c->waiting = 0;
        mobo_fake_vmbus_signal(dev, n);
    }
}

const char *mobo_fake_vmbus_fault(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_vmbus *c = channel(dev, n);

    return c->fault[0] ? c->fault : NULL;
}

void mobo_fake_vmbus_gpadl(struct mobo_vdev *dev, unsigned n, uint32_t id, uint64_t gpa,
                           uint64_t len)
{
    struct mobo_vmbus *c = channel(dev, n);
    struct gpadl *g = fake_zalloc(sizeof(*g));

    *g = (struct gpadl){ c->gpadls, id, gpa, len };
    c->gpadls = g;
}

int fake_vmbus_tl_listen(struct mobo_vdev *dev,
                         void (*connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service),
                         void *ctx)
{
    if (dev->tl_connect)
        return fake_fail(dev, -EBUSY, "the guest's socket connections go to '%s' already", dev->name);
    dev->tl_connect = connect;
    dev->tl_ctx = ctx;
    return 0;
}

void fake_vmbus_tl_result(struct mobo_vdev *dev, const uint8_t *endpoint, const uint8_t *service,
                          uint32_t status)
{
    (void)endpoint, (void)service;
    dev->tl_results++;
    dev->tl_status = status;
}

int mobo_fake_vmbus_connect(struct mobo_vdev *dev, const uint8_t endpoint[16],
                            const uint8_t service[16], uint32_t *ret_status)
{
    uint32_t before = dev->tl_results;

    if (!dev->tl_connect)
        fake_die("the device does not listen for connections");
    dev->tl_connect(dev->tl_ctx, endpoint, service);
    *ret_status = dev->tl_status;
    return dev->tl_results == before ? -1 : 0;
}

void fake_vmbus_reset(struct mobo_vdev *dev)
{
    for (struct mobo_vmbus *c = dev->vmbus; c; c = c->next)
        if (c->open) {
            c->open = 0;
            empty(c);
            if (c->ops.close)
                c->ops.close(c->ctx);
        }
}

void fake_vmbus_free(struct mobo_vdev *dev)
{
    while (dev->vmbus) {
        struct mobo_vmbus *c = dev->vmbus;

        dev->vmbus = c->next;
        empty(c);
        while (c->gpadls) {
            struct gpadl *g = c->gpadls;

            c->gpadls = g->next;
            free(g);
        }
        free(c);
    }
}

/* ---- disk images --------------------------------------------------------------------------------- */

struct disk {
    struct disk *next;
    char path[256];
    uint8_t *buf; /* borrowed */
    struct mobo_block_info info;
    uint32_t fail_op;
    int fail_err;
    unsigned ops[8];
};

struct mobo_block {
    struct mobo_block *next;
    struct mobo_vdev *dev;
    struct disk *disk; /* NULL: closed */
    struct mobo_block_req *queue, **tail, *stalled, **stalled_tail;
    int posted;
};

/* What of a request is ours while we have it. */
struct link {
    struct mobo_block_req *next;
};

static struct mobo_block_req **next_of(struct mobo_block_req *r)
{
    struct link *l = (void *)r->host;

    return &l->next;
}

static struct disk *disk_find(struct mobo_fake *f, const char *path)
{
    for (struct disk *d = f->disks; d; d = d->next)
        if (!strcmp(d->path, path))
            return d;
    return NULL;
}

void mobo_fake_disk(struct mobo_fake *f, const char *path, void *buf,
                    const struct mobo_block_info *info)
{
    struct disk *d = fake_zalloc(sizeof(*d));

    snprintf(d->path, sizeof(d->path), "%s", path);
    d->buf = buf;
    d->info = *info;
    d->next = f->disks;
    f->disks = d;
}

void mobo_fake_disk_fail(struct mobo_fake *f, const char *path, uint32_t op, int err)
{
    struct disk *d = disk_find(f, path);

    if (!d)
        fake_die("there is no disk '%s'", path);
    d->fail_op = op;
    d->fail_err = err;
}

unsigned mobo_fake_disk_ops(struct mobo_fake *f, const char *path, uint32_t op)
{
    struct disk *d = disk_find(f, path);

    return d && op < 8 ? d->ops[op] : 0;
}

int fake_block_open(struct mobo_vdev *dev, const char *key, uint32_t flags, struct mobo_block **ret,
                    struct mobo_block_info *info)
{
    struct param *p = fake_find_param(dev, key, 1u << MOBO_PATH);

    return p && p->text ? fake_block_open_spec(dev, p->text, flags, ret, info)
                        : fake_fail(dev, -ENOENT, "%s is not set", key);
}

int fake_block_open_spec(struct mobo_vdev *dev, const char *spec, uint32_t flags,
                         struct mobo_block **ret, struct mobo_block_info *info)
{
    struct disk *d = disk_find(dev->f, spec);
    uint32_t size = info->size;
    struct mobo_block *b;

    if (!d)
        return fake_fail(dev, -ENOENT, "%s: no such image", spec);
    b = fake_zalloc(sizeof(*b));
    b->dev = dev;
    b->disk = d;
    b->tail = &b->queue;
    b->stalled_tail = &b->stalled;
    b->next = dev->f->blocks;
    dev->f->blocks = b;
    *info = d->info;
    info->size = size;
    if (flags & MOBO_BLOCK_READ_ONLY)
        info->flags |= MOBO_BLOCK_READ_ONLY;
    *ret = b;
    return 0;
}

void fake_block_close(struct mobo_block *b)
{
    b->disk = NULL;
    b->queue = b->stalled = NULL;
    b->tail = &b->queue;
    b->stalled_tail = &b->stalled;
}

static int execute(struct disk *d, struct mobo_block_req *r)
{
    uint64_t off = r->off;

    d->ops[r->op]++;
    if (d->fail_op == r->op)
        return d->fail_err;
    switch (r->op) {
    case MOBO_BLOCK_READ:
    case MOBO_BLOCK_WRITE:
        for (uint32_t i = 0; i < r->niov; off += r->iov[i++].len) {
            if (!d->buf && r->op == MOBO_BLOCK_READ)
                memset(r->iov[i].base, 0, r->iov[i].len);
            else if (!d->buf)
                continue;
            else if (r->op == MOBO_BLOCK_READ)
                memcpy(r->iov[i].base, d->buf + off, r->iov[i].len);
            else
                memcpy(d->buf + off, r->iov[i].base, r->iov[i].len);
        }
        break;
    case MOBO_BLOCK_DISCARD_RANGE:
    case MOBO_BLOCK_WRITE_ZEROES:
        if (d->buf)
            memset(d->buf + r->off, 0, r->len);
        break;
    }
    return 0;
}

/* All that was submitted, in order. */
static void run(struct mobo_block *b)
{
    while (b->disk && b->queue) {
        struct mobo_block_req *r = b->queue;
        int err = execute(b->disk, r);

        b->queue = *next_of(r);
        if (!b->queue)
            b->tail = &b->queue;
        if (err == -ENOSPC) {
            *next_of(r) = NULL;
            *b->stalled_tail = r;
            b->stalled_tail = next_of(r);
        } else {
            r->done(r->ctx, err);
        }
    }
}

static void run_posted(void *ctx)
{
    struct mobo_block *b = ctx;

    b->posted = 0;
    run(b);
}

int fake_block_submit(struct mobo_block *b, struct mobo_block_req *r)
{
    struct mobo_block_info *i;
    uint64_t sum = 0;

    if (!b->disk || r->size < sizeof(*r) || !r->done)
        fake_die("block_submit: a closed image, or a request without size or done");
    i = &b->disk->info;
    if (r->op < MOBO_BLOCK_READ || r->op > MOBO_BLOCK_WRITE_ZEROES)
        return -EINVAL;
    if (r->op != MOBO_BLOCK_FLUSH) {
        if (r->op != MOBO_BLOCK_READ && (i->flags & MOBO_BLOCK_READ_ONLY))
            return -EINVAL;
        if (r->len > i->len || r->off > i->len - r->len || r->off % i->sector || r->len % i->sector)
            return -EINVAL;
        for (uint32_t n = 0; r->op <= MOBO_BLOCK_WRITE && n < r->niov; n++)
            sum += r->iov[n].len;
        if (r->op <= MOBO_BLOCK_WRITE && sum != r->len)
            return -EINVAL;
    }
    *next_of(r) = NULL;
    *b->tail = r;
    b->tail = next_of(r);
    if (!b->posted) {
        b->posted = 1;
        fake_work_post(b->dev, run_posted, b);
    }
    return 0;
}

void fake_block_drain(struct mobo_block *b, int cancel)
{
    run(b);
    while (cancel && b->stalled) {
        struct mobo_block_req *r = b->stalled;

        b->stalled = *next_of(r);
        if (!b->stalled)
            b->stalled_tail = &b->stalled;
        r->done(r->ctx, -ECANCELED);
        run(b);
    }
}

/* The VM goes on: what waits for space is tried again. */
void fake_block_resume(struct mobo_fake *f)
{
    for (struct mobo_block *b = f->blocks; b; b = b->next) {
        if (!b->stalled)
            continue;
        *b->tail = b->stalled;
        b->tail = b->stalled_tail;
        b->stalled = NULL;
        b->stalled_tail = &b->stalled;
        run(b);
    }
}

void fake_block_free(struct mobo_fake *f)
{
    while (f->blocks) {
        struct mobo_block *b = f->blocks;

        f->blocks = b->next;
        free(b);
    }
    while (f->disks) {
        struct disk *d = f->disks;

        f->disks = d->next;
        free(d);
    }
}
