/* SPDX-License-Identifier: BSD-2-Clause */
/* Saved state of the whole board but guest RAM.
 *
 * Outermost group: 1 board, 2 VPs, 3 interrupt lines, 4 devices, 5 Hyper-V interface, 6 VMBus (the
 * last two of enlightened boards).  A device: 1 name, 2 type, 3 plug-in version (for messages),
 * 4 its own fields, 5 PCI functions, 6.. its RAM in order of creation (name, place, contents),
 * 0x1000 the settings that the guest can tell. */
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T_BOARD = 1, T_VPS, T_IRQ, T_DEVS, T_HYPERV, T_BUS };
enum { D_NAME = 1, D_TYPE, D_VERSION, D_FIELDS, D_PCI, D_RAM, D_SETTINGS = 0x1000 };
enum { B_TIME = 1, B_LAYOUT, B_ENGINE, B_FEATURES };
enum { H_PARTITION = 1, H_VP = 0x10 };
enum { SETTINGS_MAX = 1000 }; /* a plug-in has no more parameters */

struct layout { /* what has to be the same on the board that restores */
    uint64_t ram_low, ram_high, tsc_hz, ram_hot;
    uint32_t vps, generation, enlightened;
    uint64_t plugged; /* of ram_hot; not that of the board, which gets it */
};

static const struct mobo_field layout_fields[] = {
    MOBO_FIELD(1, struct layout, ram_low),
    MOBO_FIELD(2, struct layout, ram_high),
    MOBO_FIELD(3, struct layout, vps),
    MOBO_FIELD(4, struct layout, generation),
    MOBO_FIELD(5, struct layout, enlightened),
    MOBO_FIELD(6, struct layout, tsc_hz), /* may differ, with a warning */
    MOBO_FIELD_FLAGS(7, struct layout, ram_hot, MOBO_FIELD_OPTIONAL | MOBO_FIELD_IGNORABLE),
    MOBO_FIELD_FLAGS(8, struct layout, plugged, MOBO_FIELD_OPTIONAL | MOBO_FIELD_IGNORABLE),
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

/* Numbers, choices and switches are the guest's to see; paths, backends and texts are the host's. */
static bool is_setting(const struct vdev_param *p)
{
    return p->kind == MOBO_UINT || p->kind == MOBO_SIZE || p->kind == MOBO_BOOL || p->kind == MOBO_CHOICE;
}

static void setting(const struct vdev_param *p, char *buf, size_t len)
{
    if (p->kind == MOBO_CHOICE)
        snprintf(buf, len, "%s=%s", p->name, p->text ? p->text : "");
    else
        snprintf(buf, len, "%s=%" PRIu64, p->name, p->val.num);
}

static void save_settings(const struct mobo_vdev *d, struct mobo_writer *w)
{
    char text[256];
    uint32_t tag = 1;

    mobo_save_begin(w, D_SETTINGS, 0);
    for (unsigned i = 0; i < d->nparams; i++)
        if (is_setting(&d->params[i])) {
            setting(&d->params[i], text, sizeof(text));
            save_str(w, tag++, text);
        }
    mobo_save_end(w);
}

static int save_dev(struct mobo_vdev *d, struct mobo_writer *w, char *msg, size_t len)
{
    struct vdev_enter e;
    struct mobo_ram *m;
    int err;

    save_str(w, D_NAME, d->name);
    save_str(w, D_TYPE, d->plugin->desc.type);
    save_str(w, D_VERSION, d->plugin->desc.version);
    save_settings(d, w);
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

static int save_vps(struct vmb *v, struct mobo_writer *w, char *msg, size_t len)
{
    struct hv_vp_state *vs = malloc(sizeof(*vs));
    int err = vs ? 0 : -ENOMEM;

    for (unsigned i = 0; i < v->vps && !err; i++) {
        memset(vs, 0, sizeof(*vs));
        err = hv_vp_get_state(v->part, i, vs);
        if (err)
            snprintf(msg, len, "processor %u cannot be saved: %s", i, hv_last_error());
        else
            mobo_save_bytes(w, i + 1, 0, vs, sizeof(*vs));
    }
    free(vs);
    return err;
}

static int save_hyperv(struct vmb *v, struct mobo_writer *w, char *msg, size_t len)
{
    struct hv_hyperv_vp_state *vs = malloc(sizeof(*vs));
    struct hv_message *m = NULL;
    struct hv_hyperv_state s;
    int err = vs ? hv_hyperv_get(v->part, &s) : -ENOMEM;

    if (!err)
        mobo_save_bytes(w, H_PARTITION, 0, &s, sizeof(s));
    for (unsigned i = 0; i < v->vps && !err; i++) {
        unsigned n = hv_hyperv_messages(v->part, i, NULL, 0);

        free(m);
        m = calloc(n + 1u, sizeof(*m));
        err = m ? hv_hyperv_vp_get(v->part, i, vs) : -ENOMEM;
        if (err)
            break;
        hv_hyperv_messages(v->part, i, m, n);
        mobo_save_begin(w, H_VP + i, 0);
        mobo_save_bytes(w, 1, 0, vs, sizeof(*vs));
        mobo_save_bytes(w, 2, 0, m, (uint32_t)(n * sizeof(*m)));
        mobo_save_end(w);
    }
    if (err)
        snprintf(msg, len, "the Hyper-V interface cannot be saved: %s",
                 err == -ENOMEM ? strerror(ENOMEM) : hv_last_error());
    free(m);
    free(vs);
    return err;
}

static void save_board(struct vmb *v, struct mobo_writer *w)
{
    const struct layout lay = { v->ram_low, v->ram_high, hv_tsc_hz(v->part), v->ram_hot.max, v->vps, v->generation,
                                v->bus != NULL, v->ram_hot.len };
    uint64_t now = hv_time_ns(v->part);
    struct hv_cpu_features f;

    mobo_save_bytes(w, B_TIME, 0, &now, sizeof(now));
    mobo_save_begin(w, B_LAYOUT, 0);
    mobo_save_fields(w, MOBO_ARRAY(layout_fields), &lay);
    mobo_save_end(w);
    mobo_save_bytes(w, B_ENGINE, MOBO_FIELD_IGNORABLE, hv_partition_engine(v->part),
                    (uint32_t)strlen(hv_partition_engine(v->part)));
    hv_features_get(v->part, &f);
    mobo_save_bytes(w, B_FEATURES, 0, &f, sizeof(f));
}

int vmb_save(struct vmb *v, void **ret_buf, size_t *ret_len, char *msg, size_t len)
{
    struct mobo_writer w;
    uint32_t tag = 1;
    int err;

    if (!v->powered || !v->paused) {
        snprintf(msg, len, "only a paused VM can be saved");
        return -EINVAL;
    }
    bus_settle(v); /* what the guest asked of the bus is done, also where that concerns devices */
    mobo_writer_init(&w);
    mobo_save_begin(&w, T_BOARD, 0);
    save_board(v, &w);
    mobo_save_end(&w);
    mobo_save_begin(&w, T_VPS, 0);
    err = save_vps(v, &w, msg, len);
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
    if (v->bus && !err) {
        mobo_save_begin(&w, T_HYPERV, 0);
        err = save_hyperv(v, &w, msg, len);
        mobo_save_end(&w);
    }
    if (v->bus && !err) {
        mobo_save_begin(&w, T_BUS, 0);
        err = bus_save(v, &w);
        if (err)
            snprintf(msg, len, "the VMBus cannot be saved: %s", strerror(-err));
        mobo_save_end(&w);
    }
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

static const char *const names[] = { "board",   "processors",        "interrupt lines",
                                     "devices", "Hyper-V interface", "VMBus" };

/* The record at @at of our own state: its tag, and the length of its contents. */
static uint32_t record(const uint8_t *p, size_t at, size_t *ret_len)
{
    uint16_t tag;
    uint32_t n;

    memcpy(&tag, p + at, 2);
    memcpy(&n, p + at + 4, 4);
    *ret_len = n;
    return tag;
}

unsigned vmb_state_parts(const void *buf, size_t len, struct vmb_state_part *ret, unsigned max)
{
    enum { HEAD = 8 };
    const uint8_t *p = buf;
    struct vmb_state_part part;
    size_t start = 0, n, inner;
    unsigned count = 0;

    for (size_t at = 0; at + HEAD <= len; at += HEAD + n) {
        uint32_t tag = record(p, at, &n);
        size_t end = at + HEAD + n, dev = at + HEAD;

        if (!tag || tag > COUNT(names) || n > len - at - HEAD)
            return 0;
        /* a device: begins with the record of its name; the group's own header goes with the first */
        for (; tag == T_DEVS && dev + 2 * HEAD <= end; dev += HEAD + n) {
            record(p, dev, &n);
            if (record(p, dev + HEAD, &inner) != D_NAME || n > end - dev - HEAD || inner + HEAD > n)
                return 0;
            snprintf(part.name, sizeof(part.name), "device %.*s", inner > 40 ? 40 : (int)inner,
                     (const char *)p + dev + 2 * HEAD);
            part.data = p + start;
            part.len = dev + HEAD + n - start;
            start = dev + HEAD + n;
            if (count < max)
                ret[count] = part;
            count++;
        }
        n = end - at - HEAD;
        if (start == end)
            continue;
        snprintf(part.name, sizeof(part.name), "%s", names[tag - 1]);
        part.data = p + start;
        part.len = end - start;
        start = end;
        if (count < max)
            ret[count] = part;
        count++;
    }
    return count;
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

/* A setting of the present board against the saved ones; one that the state does not know is new. */
static int check_settings(struct mobo_vdev *d, struct mobo_reader *r, char *msg, size_t len)
{
    const uint8_t *p;
    uint32_t n;

    if (mobo_load_begin(r, D_SETTINGS)) {
        snprintf(msg, len, "saved settings of [vdev %s] are missing", d->name);
        return -EINVAL;
    }
    /* each is looked up once: all are read, none is unknown */
    for (uint32_t tag = 1; tag <= SETTINGS_MAX && !mobo_load_view(r, tag, &p, &n); tag++)
        for (unsigned i = 0; i < d->nparams; i++) {
            char text[256];
            size_t key = strlen(d->params[i].name) + 1;

            if (!is_setting(&d->params[i]) || n < key)
                continue;
            setting(&d->params[i], text, sizeof(text));
            if (memcmp(p, text, key) || (n == strlen(text) && !memcmp(p, text, n)))
                continue;
            snprintf(msg, len, "[vdev %s] has another '%s' than when the state was made: %.*s was saved, %s is here",
                     d->name, d->params[i].name, (int)(n - key > 64 ? 64 : n - key), (const char *)p + key, text + key);
            for (char *c = msg; *c; c++)
                if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
                    *c = '?';
            return -EINVAL;
        }
    return mobo_load_end(r) ? snprintf(msg, len, "saved settings of [vdev %s] make no sense", d->name), -EINVAL : 0;
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
        if (!err)
            err = check_settings(d, r, msg, len);
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
        if (!err && mobo_load_begin(r, D_SETTINGS) == 0)
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

static int restore_hyperv(struct vmb *v, struct mobo_reader *r, char *msg, size_t len)
{
    struct hv_hyperv_vp_state *vs = malloc(sizeof(*vs));
    struct hv_hyperv_state s;
    struct hv_message *m = NULL;
    uint32_t n = 0;
    int err = 0;

    if (!vs || mobo_load_bytes(r, H_PARTITION, &s, sizeof(s), &n) || n != sizeof(s)) {
        snprintf(msg, len, "the saved Hyper-V interface is missing or has a wrong length");
        err = -EINVAL;
    } else {
        err = hv_hyperv_set(v->part, &s);
        if (err)
            snprintf(msg, len, "the Hyper-V interface cannot be restored: %s", hv_last_error());
    }
    for (unsigned i = 0; i < v->vps && !err; i++) {
        const uint8_t *list;
        uint32_t nlist = 0;

        if (mobo_load_begin(r, H_VP + i) || mobo_load_bytes(r, 1, vs, sizeof(*vs), &n) || n != sizeof(*vs) ||
            mobo_load_view(r, 2, &list, &nlist) || nlist % sizeof(*m) || mobo_load_end(r)) {
            snprintf(msg, len, "the saved Hyper-V interface of processor %u is missing or has a wrong length", i);
            err = -EINVAL;
            break;
        }
        free(m);
        m = malloc(nlist + 1u);
        if (m) {
            memcpy(m, list, nlist); /* the buffer knows no alignment */
            err = hv_hyperv_vp_set(v->part, i, vs, m, (unsigned)(nlist / sizeof(*m)));
        } else {
            err = -ENOMEM;
        }
        if (err)
            snprintf(msg, len, "the Hyper-V interface cannot be restored: %s",
                     m ? hv_last_error() : strerror(ENOMEM));
    }
    free(m);
    free(vs);
    return err;
}

/* Enters and leaves the layout, and compares it with this board. */
static int check_layout(struct vmb *v, struct mobo_reader *r, struct layout *lay, char *msg, size_t len)
{
    *lay = (struct layout){ .ram_hot = v->ram_hot.max };
    if (mobo_load_begin(r, B_LAYOUT) || mobo_load_fields(r, MOBO_ARRAY(layout_fields), lay) || mobo_load_end(r)) {
        snprintf(msg, len, "saved board: %s", r->msg[0] ? r->msg : "a field is missing");
        return -EINVAL;
    }
    if (lay->ram_low != v->ram_low || lay->ram_high != v->ram_high || lay->vps != v->vps ||
        lay->generation != v->generation) {
        snprintf(msg, len,
                 "the state is of a VM with %u processors and %llu MiB, this one has %u "
                 "and %llu MiB",
                 lay->vps, (unsigned long long)((lay->ram_low + lay->ram_high) >> 20), v->vps,
                 (unsigned long long)((v->ram_low + v->ram_high) >> 20));
        return -EINVAL;
    }
    if (lay->ram_hot != v->ram_hot.max) {
        snprintf(msg, len,
                 "the state is of a VM to which %llu MiB can be added while it runs, to this one %llu MiB "
                 "('maximum' of type balloon)",
                 (unsigned long long)(lay->ram_hot >> 20), (unsigned long long)(v->ram_hot.max >> 20));
        return -EINVAL;
    }
    if (lay->plugged > v->ram_hot.max || lay->plugged % HV_PAGE_SIZE) { /* ram_hot may be absent */
        snprintf(msg, len, "saved board: the memory that was added makes no sense");
        return -EINVAL;
    }
    if (lay->enlightened != (v->bus != NULL)) {
        snprintf(msg, len, "the state is of a VM with enlightened = %s", lay->enlightened ? "yes" : "no");
        return -EINVAL;
    }
    return 0;
}

int vmb_restore_check(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len)
{
    struct mobo_reader *r = calloc(1, sizeof(*r));
    struct layout lay;
    int err = r ? mobo_reader_init(r, buf, len) : -ENOMEM;

    if (!err)
        err = mobo_load_begin(r, T_BOARD);
    if (err)
        snprintf(msg, msg_len, "saved %s: %s", names[T_BOARD - 1], r && r->msg[0] ? r->msg : "they are missing");
    else
        err = check_layout(v, r, &lay, msg, msg_len);
    free(r);
    return err;
}

static int restore_board(struct vmb *v, struct mobo_reader *r, char *msg, size_t len)
{
    struct hv_cpu_features f;
    struct layout lay;
    uint64_t now = 0;
    uint32_t n = 0;
    int err;

    if (mobo_load_bytes(r, B_TIME, &now, sizeof(now), &n) || n != sizeof(now) ||
        mobo_load_bytes(r, B_FEATURES, &f, sizeof(f), &n) || n != sizeof(f)) {
        snprintf(msg, len, "saved board: %s", r->msg[0] ? r->msg : "a field is missing");
        return -EINVAL;
    }
    if (now > INT64_MAX / 2) { /* devices reckon with it, signed numbers among them */
        snprintf(msg, len, "saved board: its time makes no sense");
        return -EINVAL;
    }
    err = check_layout(v, r, &lay, msg, len);
    if (err)
        return err;
    if (hv_features_limit(v->part, &f)) {
        snprintf(msg, len, "%s", hv_last_error());
        return -ENOTSUP;
    }
    if (lay.tsc_hz != hv_tsc_hz(v->part))
        vmb_log(v, MOBO_WARNING, "vmb", "the time-stamp counter ran at %" PRIu64 " Hz when the VM was saved and runs "
                "at %" PRIu64 " Hz here: a guest that uses it without the reference TSC page will see time run at "
                "another pace", lay.tsc_hz, hv_tsc_hz(v->part));
    /* Rings and buffers may be there, before its device is restored: the guest uses what was added first. */
    if (lay.plugged && (!v->ram_hot.dev || mem_hot_plug(v->ram_hot.dev, lay.plugged))) {
        snprintf(msg, len, "saved board: the memory that was added has no room");
        return -EINVAL;
    }
    hv_time_set_ns(v->part, now);
    return 0;
}

/* The parts in the order in which they are restored. */
static int restore_part(struct vmb *v, uint32_t tag, struct mobo_reader *r, struct mobo_vdev **cur,
                        struct vmbus_saved **bus, char *msg, size_t len)
{
    switch (tag) {
    case T_BOARD: return restore_board(v, r, msg, len);
    case T_VPS: return restore_vps(v, r, msg, len);
    case T_HYPERV: return restore_hyperv(v, r, msg, len);
    case T_BUS: return vmbus_load(v->bus, r, bus, msg, len);
    case T_IRQ: return irq_restore(v, r, msg, len);
    default: return restore_devs(v, r, cur, msg, len);
    }
}

int vmb_restore_state(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len)
{
    static const uint8_t order[] = { T_BOARD, T_VPS, T_HYPERV, T_BUS, T_IRQ, T_DEVS };
    struct vmbus_saved *bus = NULL;
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
    for (unsigned i = 0; i < COUNT(order) && !err; i++) {
        uint32_t tag = order[i];

        if (!v->bus && (tag == T_HYPERV || tag == T_BUS))
            continue;
        r->msg[0] = 0;
        if (mobo_load_begin(r, tag)) {
            snprintf(msg, msg_len, "saved %s are missing", names[tag - 1]);
            err = -EINVAL;
            break;
        }
        err = restore_part(v, tag, r, &cur, &bus, msg, msg_len);
        if (!err && mobo_load_end(r)) {
            snprintf(msg, msg_len, "saved %s: %s", names[tag - 1], r->msg);
            err = -EINVAL;
        }
    }
    if (!err && mobo_load_done(r)) {
        snprintf(msg, msg_len, "%s", r->msg);
        err = -EINVAL;
    }
    if (!err && bus) {
        err = bus_commit(v, bus, msg, msg_len);
        bus = NULL;
    }
    vmbus_saved_free(bus);
    if (!err)
        irq_restored(v);
    free(r);
    return err;
}

int vmb_restore(struct vmb *v, const void *buf, size_t len, int (*load_ram)(void *ctx, char *msg, size_t msg_len),
                void *ctx, char *msg, size_t msg_len)
{
    const struct board_state s = { buf, len, load_ram, ctx };

    return board_start(v, &s, msg, msg_len);
}
