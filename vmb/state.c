/* SPDX-License-Identifier: BSD-2-Clause */
/* Saved state of the whole board but guest RAM.
 *
 * Outermost group: 1 board, 2 VPs, 3 interrupt lines, 4 devices.  A device: 1 name, 2 type,
 * 3 plug-in version (for messages), 4 its own fields, 5 PCI functions, 6.. its RAM in order of
 * creation (name, place, contents). */
#include "vmb/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T_BOARD = 1, T_VPS, T_IRQ, T_DEVS };
enum { D_NAME = 1, D_TYPE, D_VERSION, D_FIELDS, D_PCI, D_RAM };
enum { B_TIME = 1, B_LAYOUT, B_ENGINE };

struct layout { /* what has to be the same on the board that restores */
    uint64_t ram_low, ram_high;
    uint32_t vps, generation;
};

static const struct mobo_field layout_fields[] = {
    MOBO_FIELD(1, struct layout, ram_low),
    MOBO_FIELD(2, struct layout, ram_high),
    MOBO_FIELD(3, struct layout, vps),
    MOBO_FIELD(4, struct layout, generation),
};

/* ---- save ---------------------------------------------------------------------------------------- */

static void save_str(struct mobo_writer *w, uint32_t tag, const char *s)
{
    mobo_save_bytes(w, tag, 0, s, (uint32_t)strlen(s));
}

/* The memory of a device that the guest can change, oldest first. */
static struct mobo_ram *ram_nth(struct mobo_vdev *d, unsigned n)
{
    unsigned count = 0;

    for (struct mobo_ram *m = d->board->rams; m; m = m->next)
        count += m->dev == d;
    for (struct mobo_ram *m = d->board->rams; m; m = m->next) /* newest first */
        if (m->dev == d && --count == n)
            return m;
    return NULL;
}

static int save_dev(struct mobo_vdev *d, struct mobo_writer *w, char *msg, size_t len)
{
    struct vdev_enter e;
    struct mobo_ram *m;
    int err;

    save_str(w, D_NAME, d->name);
    save_str(w, D_TYPE, d->plugin->desc.type);
    save_str(w, D_VERSION, d->plugin->desc.version);
    mobo_save_begin(w, D_FIELDS, 0);
    unsigned depth = w->depth;
    e = vdev_enter(d);
    d->msg[0] = 0;
    err = d->ops.save(d->self, w);
    vdev_leave(d, e);
    if (!err)
        err = w->err;
    if (!err && w->depth != depth) {
        vdev_fail(d, -EINVAL, "its save operation leaves groups open");
        err = -EINVAL;
    }
    if (err) {
        snprintf(msg, len, "[vdev %s] cannot be saved: %s", d->name,
                 d->msg[0] ? d->msg : strerror(-err));
        return err;
    }
    mobo_save_end(w);
    mobo_save_begin(w, D_PCI, 0);
    pci_save(d, w);
    mobo_save_end(w);
    for (unsigned n = 0; (m = ram_nth(d, n)); n++) {
        uint8_t mapped = m->mapped;

        mobo_save_begin(w, D_RAM + n, 0);
        save_str(w, 1, m->name);
        mobo_save_bytes(w, 2, 0, &mapped, 1);
        mobo_save_bytes(w, 3, 0, &m->gpa, 8);
        if (!(m->flags & (MOBO_RAM_NO_SAVE | MOBO_RAM_READ_ONLY)))
            mobo_save_bytes(w, 4, 0, m->hva, (uint32_t)m->len);
        mobo_save_end(w);
    }
    return 0;
}

int vmb_save(struct vmb *v, void **ret_buf, size_t *ret_len, char *msg, size_t len)
{
    const struct layout lay = { v->ram_low, v->ram_high, v->vps, v->generation };
    struct hv_vp_state *vs = NULL;
    struct mobo_writer w;
    uint64_t now = hv_time_ns(v->part);
    uint32_t tag = 1;
    int err = 0;

    if (!v->powered || !v->paused) {
        snprintf(msg, len, "only a paused VM can be saved");
        return -EINVAL;
    }
    if (hv_enlightenments_used(v->part)) {
        snprintf(msg, len, "the guest uses the Hyper-V interface, whose state cannot be saved yet "
                           "(set enlightened = no)");
        return -ENOTSUP;
    }
    mobo_writer_init(&w);
    mobo_save_begin(&w, T_BOARD, 0);
    mobo_save_bytes(&w, B_TIME, 0, &now, sizeof(now));
    mobo_save_begin(&w, B_LAYOUT, 0);
    mobo_save_fields(&w, MOBO_ARRAY(layout_fields), &lay);
    mobo_save_end(&w);
    mobo_save_bytes(&w, B_ENGINE, MOBO_FIELD_IGNORABLE, hv_partition_engine(v->part),
                    (uint32_t)strlen(hv_partition_engine(v->part)));
    mobo_save_end(&w);
    vs = malloc(sizeof(*vs));
    if (!vs)
        err = -ENOMEM;
    mobo_save_begin(&w, T_VPS, 0);
    for (unsigned i = 0; i < v->vps && !err; i++) {
        memset(vs, 0, sizeof(*vs));
        err = hv_vp_get_state(v->part, i, vs);
        if (err)
            snprintf(msg, len, "processor %u cannot be saved: %s", i, hv_last_error());
        else
            mobo_save_bytes(&w, i + 1, 0, vs, sizeof(*vs));
    }
    free(vs);
    mobo_save_end(&w);
    mobo_save_begin(&w, T_IRQ, 0);
    irq_save(v, &w);
    mobo_save_end(&w);
    mobo_save_begin(&w, T_DEVS, 0);
    for (struct mobo_vdev *d = v->devs; d && !err; d = d->next) {
        mobo_save_begin(&w, tag++, 0);
        err = save_dev(d, &w, msg, len);
        mobo_save_end(&w);
    }
    mobo_save_end(&w);
    if (!err && w.err) {
        err = w.err;
        snprintf(msg, len, "the state cannot be saved: %s", strerror(-err));
    }
    if (err) {
        mobo_writer_fini(&w);
        return err;
    }
    *ret_buf = w.buf;
    *ret_len = w.len;
    return 0;
}

/* ---- restore ------------------------------------------------------------------------------------- */

static void reader_failed(void *ctx, const char *msg)
{
    struct mobo_vdev **dev = ctx;

    if (*dev)
        vdev_fail(*dev, -EINVAL, "%s", msg);
}

static bool same_str(struct mobo_reader *r, uint32_t tag, const char *s)
{
    const uint8_t *p;
    uint32_t n;

    return !mobo_load_view(r, tag, &p, &n) && n == strlen(s) && !memcmp(p, s, n);
}

static int restore_ram(struct mobo_vdev *d, struct mobo_reader *r, char *msg, size_t len)
{
    struct mobo_ram *m;

    for (unsigned n = 0; (m = ram_nth(d, n)); n++) {
        uint8_t mapped = 0;
        uint64_t gpa = 0;
        const uint8_t *p = NULL;
        uint32_t n2 = 0, n3 = 0, n4 = 0;
        bool saved = !(m->flags & (MOBO_RAM_NO_SAVE | MOBO_RAM_READ_ONLY));

        if (mobo_load_begin(r, D_RAM + n) || !same_str(r, 1, m->name) ||
            mobo_load_bytes(r, 2, &mapped, 1, &n2) || n2 != 1 ||
            mobo_load_bytes(r, 3, &gpa, 8, &n3) || n3 != 8 ||
            (saved && (mobo_load_view(r, 4, &p, &n4) || n4 != m->len)) || mobo_load_end(r)) {
            snprintf(msg, len, "saved memory '%s' of [vdev %s] does not fit", m->name, d->name);
            return -EINVAL;
        }
        if (saved) {
            bool was = m->mapped;

            memcpy(m->hva, p, m->len);
            if (was)
                hv_gpa_dirty(d->board->part, m->gpa, m->len);
        }
        if (!mapped) {
            mem_ram_unmap(m);
        } else if (mem_ram_map(m, gpa)) {
            snprintf(msg, len, "saved memory '%s' of [vdev %s] is at a bad place", m->name,
                     d->name);
            return -EINVAL;
        }
    }
    return 0;
}

static int restore_dev(struct mobo_vdev *d, struct mobo_reader *r, char *msg, size_t len)
{
    struct vdev_enter e;
    unsigned depth;
    int err;

    if (mobo_load_begin(r, D_FIELDS)) {
        snprintf(msg, len, "saved state of [vdev %s] is missing", d->name);
        return -EINVAL;
    }
    depth = r->depth;
    e = vdev_enter(d);
    d->msg[0] = 0;
    err = d->ops.restore(d->self, r);
    vdev_leave(d, e);
    if (!err && r->depth != depth) {
        vdev_fail(d, -EINVAL, "its restore operation leaves groups open");
        err = -EINVAL;
    }
    if (!err)
        err = mobo_load_end(r);
    if (err)
        snprintf(msg, len, "[vdev %s] cannot be restored: %s", d->name,
                 d->msg[0] ? d->msg : strerror(-err));
    return err;
}

/* Go into the group of one device; its name and type have to match. */
static int begin_dev(struct mobo_vdev *d, struct mobo_reader *r, uint32_t tag, char *msg,
                     size_t len)
{
    const uint8_t *p;
    uint32_t n;

    if (mobo_load_begin(r, tag) || !same_str(r, D_NAME, d->name) ||
        !same_str(r, D_TYPE, d->plugin->desc.type) || mobo_load_view(r, D_VERSION, &p, &n)) {
        snprintf(msg, len,
                 "the saved devices are not those of this board: [vdev %s] of type '%s' "
                 "is missing or at another place",
                 d->name, d->plugin->desc.type);
        return -EINVAL;
    }
    return 0;
}

/* PCI first, for all: where a device's registers are may matter to others. */
static int restore_devs(struct vmb *v, struct mobo_reader *r, struct mobo_vdev **cur, char *msg,
                        size_t len)
{
    uint32_t tag;
    int err;

    tag = 1;
    for (struct mobo_vdev *d = v->devs; d; d = d->next, tag++) {
        unsigned depth = r->depth;

        err = begin_dev(d, r, tag, msg, len);
        if (!err && mobo_load_begin(r, D_PCI)) {
            snprintf(msg, len, "saved PCI state of [vdev %s] is missing", d->name);
            err = -EINVAL;
        }
        if (!err)
            err = pci_restore(d, r, msg, len);
        if (err)
            return err;
        r->depth = depth; /* comes back for the rest */
    }
    tag = 1;
    for (struct mobo_vdev *d = v->devs; d; d = d->next, tag++) {
        *cur = d;
        err = begin_dev(d, r, tag, msg, len);
        if (!err && mobo_load_begin(r, D_PCI) == 0)
            r->depth--;
        if (!err)
            err = restore_ram(d, r, msg, len);
        if (!err)
            err = restore_dev(d, r, msg, len);
        *cur = NULL;
        if (err)
            return err;
        if (mobo_load_end(r)) {
            snprintf(msg, len, "[vdev %s]: %s", d->name, r->msg);
            return -EINVAL;
        }
    }
    return 0;
}

static int restore_vps(struct vmb *v, struct mobo_reader *r, char *msg, size_t len)
{
    struct hv_vp_state *vs = malloc(sizeof(*vs));
    int err = vs ? 0 : -ENOMEM;

    for (unsigned i = 0; i < v->vps && !err; i++) {
        uint32_t n = 0;

        if (mobo_load_bytes(r, i + 1, vs, sizeof(*vs), &n) || n != sizeof(*vs)) {
            snprintf(msg, len, "saved state of processor %u is missing or has a wrong length", i);
            err = -EINVAL;
        } else {
            err = hv_vp_set_state(v->part, i, vs);
            if (err)
                snprintf(msg, len, "processor %u cannot be restored: %s", i, hv_last_error());
        }
    }
    free(vs);
    return err;
}

static int restore_board(struct vmb *v, struct mobo_reader *r, char *msg, size_t len)
{
    struct layout lay = { 0, 0, 0, 0 };
    uint64_t now = 0;
    uint32_t n = 0;

    if (mobo_load_bytes(r, B_TIME, &now, sizeof(now), &n) || n != sizeof(now) ||
        mobo_load_begin(r, B_LAYOUT) || mobo_load_fields(r, MOBO_ARRAY(layout_fields), &lay) ||
        mobo_load_end(r)) {
        snprintf(msg, len, "saved board: %s", r->msg[0] ? r->msg : "a field is missing");
        return -EINVAL;
    }
    if (lay.ram_low != v->ram_low || lay.ram_high != v->ram_high || lay.vps != v->vps ||
        lay.generation != v->generation) {
        snprintf(msg, len,
                 "the state is of a VM with %u processors and %llu MiB, this one has %u "
                 "and %llu MiB",
                 lay.vps, (unsigned long long)((lay.ram_low + lay.ram_high) >> 20), v->vps,
                 (unsigned long long)((v->ram_low + v->ram_high) >> 20));
        return -EINVAL;
    }
    hv_time_set_ns(v->part, now);
    return 0;
}

int vmb_restore_state(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len)
{
    static const char *const names[] = { "board", "processors", "interrupt lines", "devices" };
    struct mobo_vdev *cur = NULL;
    struct mobo_reader *r = calloc(1, sizeof(*r));
    int err = r ? 0 : -ENOMEM;

    if (r) {
        r->fail = reader_failed;
        r->ctx = &cur;
        err = mobo_reader_init(r, buf, len);
        if (err)
            snprintf(msg, msg_len, "%s", r->msg);
    }
    for (uint32_t tag = T_BOARD; tag <= T_DEVS && !err; tag++) {
        r->msg[0] = 0;
        if (mobo_load_begin(r, tag)) {
            snprintf(msg, msg_len, "saved %s are missing", names[tag - 1]);
            err = -EINVAL;
            break;
        }
        switch (tag) {
        case T_BOARD: err = restore_board(v, r, msg, msg_len); break;
        case T_VPS: err = restore_vps(v, r, msg, msg_len); break;
        case T_IRQ: err = irq_restore(v, r, msg, msg_len); break;
        default: err = restore_devs(v, r, &cur, msg, msg_len); break;
        }
        if (!err && mobo_load_end(r)) {
            snprintf(msg, msg_len, "saved %s: %s", names[tag - 1], r->msg);
            err = -EINVAL;
        }
    }
    if (!err && mobo_load_done(r)) {
        snprintf(msg, msg_len, "%s", r->msg);
        err = -EINVAL;
    }
    if (!err)
        irq_restored(v);
    free(r);
    return err;
}

int vmb_restore(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len)
{
    return board_start(v, buf, len, msg, msg_len);
}
