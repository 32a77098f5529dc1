/* SPDX-License-Identifier: MIT */
/* Saved state, random accesses and inspection of the fake host. */
#include "sdk/test/fake_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---------------------------------------------------------------------------------------- */

int mobo_fake_save(struct mobo_vdev *dev, void **ret_buf, size_t *ret_len)
{
    struct mobo_writer w;
    int err;

    mobo_writer_init(&w);
    err = dev->ops.save(dev->self, &w);
    if (!err)
        err = w.err;
    if (!err && w.depth)
        fake_die("%s: save left %u groups open", dev->name, w.depth);
    if (err) {
        mobo_writer_fini(&w);
        return err;
    }
    /* exactly as long as it is, so that reading past the end shows */
    *ret_buf = fake_zalloc(w.len ? w.len : 1);
    if (w.len)
        memcpy(*ret_buf, w.buf, w.len);
    *ret_len = w.len;
    mobo_writer_fini(&w);
    return 0;
}

static void restore_fail(void *ctx, const char *msg)
{
    struct mobo_vdev *dev = ctx;

    fake_set_error(dev->f, "%s", msg);
}

int mobo_fake_restore(struct mobo_vdev *dev, const void *buf, size_t len)
{
    struct mobo_reader *r = fake_zalloc(sizeof(*r));
    int err;

    r->fail = restore_fail;
    r->ctx = dev;
    err = mobo_reader_init(r, buf, len);
    if (!err)
        err = dev->ops.restore(dev->self, r);
    if (!err && r->depth)
        fake_die("%s: restore left groups open", dev->name);
    if (!err)
        err = mobo_load_done(r);
    free(r);
    return err;
}

/* Restore @state and save again: is it the same? */
static int same_after(struct mobo_vdev *dev, const void *state, size_t len)
{
    const uint8_t *a = state;
    uint8_t *b;
    size_t lb, i = 0;

    if (mobo_fake_restore(dev, state, len) || mobo_fake_save(dev, (void **)&b, &lb))
        return -1;
    while (i < len && i < lb && a[i] == b[i])
        i++;
    free(b);
    if (i == len && i == lb)
        return 0;
    fake_set_error(dev->f, "state differs after a round trip, first at byte %zu of %zu", i, len);
    return -1;
}

int mobo_fake_same(struct mobo_vdev *dev)
{
    void *a;
    size_t len;
    int ret;

    if (mobo_fake_save(dev, &a, &len))
        return -1;
    ret = same_after(dev, a, len);
    free(a);
    return ret;
}

int mobo_fake_roundtrip(struct mobo_vdev *dev)
{
    struct mobo_fake *f = dev->f;
    void *a = NULL, *b = NULL, *part;
    size_t la = 0, lb = 0;
    int ret = -1, err;

    if (mobo_fake_save(dev, &a, &la))
        return -1;
    for (size_t cut = 0; cut < la; cut++) {
        part = fake_zalloc(cut ? cut : 1);
        memcpy(part, a, cut);
        err = mobo_fake_restore(dev, part, cut);
        free(part);
        if (!err) {
            fake_set_error(f, "state cut from %zu to %zu bytes was accepted", la, cut);
            goto out;
        }
        if (!f->error[0]) {
            fake_set_error(f, "state cut to %zu bytes was refused without a message", cut);
            goto out;
        }
        f->error[0] = 0;
    }
    if (mobo_fake_save(dev, &b, &lb))
        goto out;
    if (la != lb || memcmp(a, b, la)) {
        fake_set_error(f, "refused states changed the device");
        goto out;
    }
    dev->ops.reset(dev->self);
    ret = same_after(dev, a, la);
out:
    free(a);
    free(b);
    return ret;
}

void mobo_fake_monkey(struct mobo_fake *f, uint32_t seed, unsigned accesses)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    unsigned nregions = 0;

    for (struct mobo_region *r = f->regions; r; r = r->next)
        nregions++;
    while (f->regions && accesses--) {
        struct mobo_region *r = f->regions;
        uint32_t len, off;
        uint64_t val;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        for (unsigned i = (unsigned)(x >> 8) % nregions; i && r->next; i--)
            r = r->next;
        len = 1u << ((x >> 24) & 3);
        if (!r->mmio && len == 8)
            len = 4;
        off = (uint32_t)((x >> 32) % (r->len < 4096 || (x & 1) ? r->len : 4096));
        val = x * 0x2545f4914f6cdd1du;
        if (x & 2)
            val &= 0xff;
        fake_space_access(f, r->mmio, r->base + off, len, (x >> 28) & 1, val);
        if ((x >> 29 & 15) == 0 && !f->paused)
            mobo_fake_step(f, val % 1000000);
        f->nmsi = 0;
        f->nsys = 0;
        for (struct mobo_vdev *d = f->devs; d; d = d->next)
            for (int i = 0; i < CHARS; i++)
                d->chr[i].out_len = 0;
    }
}

/* ---- inspection ----------------------------------------------------------------------------------- */

struct text {
    char *buf;
    size_t len;
    FILE *fp;
    int depth;
};

static void t_begin(void *ctx, const char *name)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s:\n", t->depth++ * 2, "", name);
}

static void t_end(void *ctx)
{
    ((struct text *)ctx)->depth--;
}

static void t_uint(void *ctx, const char *name, uint64_t val, unsigned width)
{
    struct text *t = ctx;

    (void)width;
    fprintf(t->fp, "%*s%s: 0x%" PRIx64 "\n", t->depth * 2, "", name, val);
}

static void t_str(void *ctx, const char *name, const char *text)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s: %s\n", t->depth * 2, "", name, text);
}

static void t_array(void *ctx, const char *name, const void *buf, unsigned elem, unsigned count)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s:", t->depth * 2, "", name);
    for (unsigned i = 0; i < count; i++) {
        uint64_t v = 0;

        memcpy(&v, (const char *)buf + (size_t)i * elem, elem);
        fprintf(t->fp, " %0*" PRIx64, (int)elem * 2, v);
    }
    fputc('\n', t->fp);
}

char *mobo_fake_inspect(struct mobo_vdev *dev)
{
    struct text t = { NULL, 0, NULL, 0 };
    struct mobo_inspect out = { &t, t_begin, t_end, t_uint, t_str, t_array };

    t.fp = open_memstream(&t.buf, &t.len);
    if (!t.fp)
        fake_die("out of memory");
    if (dev->ops.inspect)
        dev->ops.inspect(dev->self, &out);
    fclose(t.fp);
    return t.buf;
}
