/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic video, protocol 3.0 to 3.5: a frame buffer that the guest places in its address space and
 * says what it drew.
 *
 * The video memory is the device's own, shown where the guest wants it; or it is guest RAM, when that is
 * what the guest names.  It stays where it is when the channel closes, until a reset: a boot loader draws
 * on after its driver has gone.
 *
 * References: clients drivers/gpu/drm/hyperv/hyperv_drm_proto.c (cited as DRM) and
 * drivers/video/fbdev/hyperv_fb.c; the server vm/devices/uidevices/src/video of OpenVMM (cited as OV). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mobo/vdev.h>

#include "inband.h"
#include "synthvideo.h"
#include "wire.h"

enum { /* OV protocol.rs */
       MSG_VERSION = 1,
       MSG_VERSION_RESPONSE = 2,
       MSG_VRAM = 3,
       MSG_VRAM_ACK = 4,
       MSG_SITUATION = 5,
       MSG_SITUATION_ACK = 6,
       MSG_POINTER = 7,
       MSG_SHAPE = 8,
       MSG_FEATURES = 9,
       MSG_DIRT = 10,
       MSG_BIOS = 11,
       MSG_BIOS_RESPONSE = 12,
       MSG_MODES = 13,
       MSG_MODES_RESPONSE = 14,
       MSG_CAPABILITY = 15,
       MSG_CAPABILITY_RESPONSE = 16
};
/* Before each message: u32 pipe type 1, u32 length; then u32 type, u32 length. */
enum { HEAD = 16, ACCEPTED = 2 };
enum { MODES_HEAD = VIDEO_EDID + 3, SHAPE_HEAD = 18, SITUATION_HEAD = 9, OUTPUT_LEN = 18 };
enum { CURSOR_BYTES = VIDEO_CURSOR * VIDEO_CURSOR * 4, SHAPE_COMPLETE = 0xff };
enum { MIB = 1 << 20, SETTLE_MS = 500 };

struct video_state {
    uint8_t open;
    uint8_t told;    /* a feature change has been sent */
    uint8_t dirt;    /* and with it, that dirt is needed */
    uint8_t located; /* the driver of now has said where the video memory is */
    uint8_t placed;  /* a driver has */
    uint8_t in_ram;  /* and it is guest RAM */
    uint8_t active;  /* a picture is on */
    uint8_t depth;
    uint8_t visible;                                    /* the pointer */
    uint32_t version;                                   /* minor << 16 | major, 0: not agreed */
    uint32_t offset, width, height, pitch;              /* of the picture */
    uint64_t gpa;                                       /* of the video memory */
    int32_t x, y;                                       /* of the pointer's upper left pixel */
    uint32_t cursor_width, cursor_height, hot_x, hot_y; /* 0: it has no picture */
    uint64_t messages, rects, ignored;
};

struct video {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    mobo_vmbus_t ch;
    mobo_display_t display;
    mobo_ram_t ram;
    mobo_timer_t timer;
    uint8_t *vram;
    void *mapped; /* the guest RAM that serves as video memory, NULL: none does */
    uint64_t vram_len;
    struct video_mode want, hint; /* hint: of a viewer, width 0: none */
    uint8_t generation2, watched;
    uint8_t refresh; /* show everything anew when the guest has heard of the viewer */
    uint8_t warned;
    struct video_state s;
    uint32_t cursor[VIDEO_CURSOR * VIDEO_CURSOR];
    /* a pointer's picture that comes in parts */
    uint32_t parts, part_len;
    uint8_t part[CURSOR_BYTES];
    uint8_t out[HEAD + MODES_HEAD + VIDEO_MODES * 4];
};

/* ---- the picture --------------------------------------------------------------------------------- */

static uint32_t format_of(uint8_t depth)
{
    switch (depth) {
    case 32: return MOBO_PIXEL_XRGB8888;
    case 24: return MOBO_PIXEL_RGB888;
    case 16: return MOBO_PIXEL_RGB565;
    case 15: return MOBO_PIXEL_XRGB1555;
    }
    return 0;
}

/* Show what the state says. */
static void show(struct video *k)
{
    struct mobo_surface s = { .size = sizeof(s),
                              .format = format_of(k->s.depth),
                              .width = k->s.width,
                              .height = k->s.height,
                              .stride = k->s.pitch };
    uint8_t *memory = k->mapped ? k->mapped : k->vram;

    if (!k->s.active || !k->s.placed || k->s.offset > k->vram_len) {
        k->host->display_surface(k->display, NULL);
        return;
    }
    s.pixels = memory + k->s.offset;
    s.len = k->vram_len - k->s.offset;
    if (k->host->display_surface(k->display, &s) && !k->warned) {
        k->warned = 1;
        k->host->log(
            k->dev, MOBO_WARNING,
            "the guest shows %ux%u pixels of %u bits, %u bytes a line, at 0x%x: that is no "
            "picture in its video memory",
            k->s.width, k->s.height, k->s.depth, k->s.pitch, k->s.offset);
    }
}

static void show_pointer(struct video *k)
{
    const struct mobo_cursor c = { .size = sizeof(c),
                                   .width = k->s.cursor_width,
                                   .height = k->s.cursor_height,
                                   .hot_x = k->s.hot_x,
                                   .hot_y = k->s.hot_y,
                                   .argb = k->cursor };

    k->host->display_cursor(k->display, c.width ? &c : NULL);
    k->host->display_cursor_move(k->display, (int32_t)((int64_t)k->s.x + k->s.hot_x),
                                 (int32_t)((int64_t)k->s.y + k->s.hot_y), k->s.visible && c.width);
}

/* The guest draws without a word until it has heard that somebody looks: after its answer, or a little
 * later, all is shown anew. */
static void caught_up(struct video *k)
{
    if (!k->refresh)
        return;
    k->refresh = 0;
    k->host->timer_cancel(k->timer);
    if (k->s.active && k->s.width && k->s.height)
        k->host->display_dirty(k->display, 0, 0, k->s.width, k->s.height);
}

static void settled(void *ctx, uint64_t now)
{
    (void)now;
    caught_up(ctx);
}

/* ---- messages to the guest ------------------------------------------------------------------------ */

static int send(struct video *k, unsigned type, unsigned len)
{
    wire_put(k->out, PIPE_DATA, 4);
    wire_put(k->out + 4, 8 + len, 4);
    wire_put(k->out + 8, type, 4);
    wire_put(k->out + 12, 8 + len, 4);
    return k->host->vmbus_send(k->ch, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, k->out, HEAD + len);
}

/* What the guest need tell us: dirt only while somebody looks. */
static void send_features(struct video *k)
{
    if (!k->s.open || !k->s.located || (k->s.told && k->s.dirt == k->watched))
        return;
    k->out[HEAD] = k->watched;
    k->out[HEAD + 1] = k->out[HEAD + 2] = k->out[HEAD + 3] = 1;
    if (send(k, MSG_FEATURES, 4))
        return; /* no room: when it signals */
    k->s.told = 1;
    k->s.dirt = k->watched;
    k->refresh = k->watched;
    if (k->refresh)
        k->host->timer_set(k->timer, k->host->clock_ns(k->dev) + SETTLE_MS * 1000000ull);
}

/* ---- messages of the guest: each @return what is wrong with it, or NULL ---------------------------- */

static const char no_room[] = "it leaves no room for answers";

static const char *got_version(struct video *k, const uint8_t *m)
{
    uint32_t version = (uint32_t)wire_get(m, 4), minor = version >> 16 & 0xff;
    int good = (version & 0xffff) == 3 && (minor == 0 || (minor >= 2 && minor <= 5));

    k->s.version = good ? version : 0;
    wire_put(k->out + HEAD, version, 4);
    k->out[HEAD + 4] = good ? ACCEPTED : 0;
    k->out[HEAD + 5] = 1; /* screens */
    return send(k, MSG_VERSION_RESPONSE, 6) ? no_room : NULL;
}

static void unplace(struct video *k)
{
    k->host->display_surface(k->display, NULL);
    if (k->mapped)
        k->host->mem_unmap(k->dev, k->s.gpa, k->vram_len, 0, k->mapped);
    k->mapped = NULL;
    k->host->ram_unmap(k->ram);
    k->s.placed = k->s.in_ram = 0;
}

/* @return 0, or -errno: no memory can be there. */
static int place(struct video *k, uint64_t gpa)
{
    unplace(k);
    if (gpa % 4096)
        return -EINVAL;
    if (!k->host->mem_map(k->dev, gpa, k->vram_len, 0, &k->mapped))
        k->s.in_ram = 1;
    else if (k->host->ram_map(k->ram, gpa))
        return -EINVAL;
    k->s.gpa = gpa;
    k->s.placed = 1;
    return 0;
}

static const char *got_vram(struct video *k, const uint8_t *m)
{
    /* without an address it is where it was */
    if (m[8] && place(k, wire_get(m + 9, 8)))
        return "it puts its video memory where none can be";
    show(k);
    memcpy(k->out + HEAD, m, 8);
    if (send(k, MSG_VRAM_ACK, 8))
        return no_room;
    k->s.located = 1;
    send_features(k);
    return NULL;
}

static const char *got_situation(struct video *k, const uint8_t *m, uint32_t len)
{
    struct video_state *s = &k->s;
    const uint8_t *o = m + SITUATION_HEAD;

    if (m[8] && len < SITUATION_HEAD + OUTPUT_LEN)
        return "a picture's description that is too short";
    s->active = m[8] && o[0];
    if (s->active) {
        s->offset = (uint32_t)wire_get(o + 1, 4);
        s->depth = o[5];
        s->width = (uint32_t)wire_get(o + 6, 4);
        s->height = (uint32_t)wire_get(o + 10, 4);
        s->pitch = (uint32_t)wire_get(o + 14, 4);
    }
    show(k);
    memcpy(k->out + HEAD, m, 8);
    if (send(k, MSG_SITUATION_ACK, 8))
        return no_room;
    caught_up(k);
    return NULL;
}

static const char *got_pointer(struct video *k, const uint8_t *m)
{
    k->s.visible = m[0] != 0;
    k->s.x = (int32_t)wire_get(m + 2, 4);
    k->s.y = (int32_t)wire_get(m + 6, 4);
    /* far outside is as good as outside, and does not overflow */
    k->s.x = k->s.x > 65535 ? 65535 : k->s.x < -65535 ? -65535 : k->s.x;
    k->s.y = k->s.y > 65535 ? 65535 : k->s.y < -65535 ? -65535 : k->s.y;
    show_pointer(k);
    caught_up(k);
    return NULL;
}

static const char *got_shape(struct video *k, const uint8_t *m, uint32_t len)
{
    uint32_t part = m[0], w = (uint32_t)wire_get(m + 2, 4), h = (uint32_t)wire_get(m + 6, 4);
    uint32_t hot_x = (uint32_t)wire_get(m + 10, 4), hot_y = (uint32_t)wire_get(m + 14, 4);
    int argb = m[1] != 0;
    uint32_t need;

    if (!w || !h || w > VIDEO_CURSOR || h > VIDEO_CURSOR || hot_x >= w || hot_y >= h)
        return "a pointer's picture of an impossible size";
    need = argb ? w * h * 4 : (w + 7) / 8 * h * 2;
    if (part != SHAPE_COMPLETE && part != k->parts)
        return "parts of a pointer's picture out of order";
    if (!part || (part == SHAPE_COMPLETE && !k->parts))
        k->part_len = 0;
    len -= SHAPE_HEAD;
    if (len > need - (k->part_len < need ? k->part_len : need))
        len = need - (k->part_len < need ? k->part_len : need); /* padding */
    memcpy(k->part + k->part_len, m + SHAPE_HEAD, len);
    k->part_len += len;
    if (part != SHAPE_COMPLETE) {
        k->parts++;
        return NULL;
    }
    k->parts = 0;
    if (k->part_len > need)
        k->part_len = need;
    memset(k->part + k->part_len, 0, need - k->part_len); /* left out: transparent, or black */
    video_cursor(k->cursor, k->part, argb, w, h);
    k->part_len = 0;
    k->s.cursor_width = w;
    k->s.cursor_height = h;
    k->s.hot_x = hot_x;
    k->s.hot_y = hot_y;
    show_pointer(k);
    caught_up(k);
    return NULL;
}

static const char *got_dirt(struct video *k, const uint8_t *m, uint32_t len)
{
    if (2u + 16u * m[1] > len)
        return "a list of rectangles that is too short";
    for (unsigned i = 0; i < m[1]; i++) {
        const uint8_t *r = m + 2 + 16 * i;
        int32_t x1 = (int32_t)wire_get(r, 4), y1 = (int32_t)wire_get(r + 4, 4);
        int32_t x2 = (int32_t)wire_get(r + 8, 4), y2 = (int32_t)wire_get(r + 12, 4);

        k->s.rects++;
        if (k->s.active && x2 > x1 && y2 > y1)
            k->host->display_dirty(k->display, x1, y1, (uint32_t)x2 - (uint32_t)x1,
                                   (uint32_t)y2 - (uint32_t)y1);
    }
    return NULL;
}

static const char *got_modes(struct video *k, const uint8_t *m)
{
    struct video_mode list[VIDEO_MODES], want = k->hint.width ? k->hint : k->want;
    uint8_t *p = k->out + HEAD;
    unsigned index, n = video_modes(k->vram_len, want, m[0], list, &index);

    video_edid(want, p);
    p[VIDEO_EDID] = (uint8_t)n;
    p[VIDEO_EDID + 1] = (uint8_t)index;
    p[VIDEO_EDID + 2] = 0; /* not just the usual ones */
    for (unsigned i = 0; i < n; i++) {
        wire_put(p + MODES_HEAD + 4 * i, list[i].width, 2);
        wire_put(p + MODES_HEAD + 4 * i + 2, list[i].height, 2);
    }
    return send(k, MSG_MODES_RESPONSE, MODES_HEAD + 4 * n) ? no_room : NULL;
}

static const char *receive(void *ctx, const struct mobo_vmbus_packet *p)
{
    struct video *k = ctx;
    static const uint8_t least[] = {
        [MSG_VERSION] = 4,  [MSG_VRAM] = 17,          [MSG_SITUATION] = SITUATION_HEAD,
        [MSG_POINTER] = 10, [MSG_SHAPE] = SHAPE_HEAD, [MSG_DIRT] = 2,
        [MSG_MODES] = 1,    [MSG_CAPABILITY] = 0
    };
    const uint8_t *m;
    uint32_t type, len;

    m = p->data + HEAD;
    len = (uint32_t)wire_get(p->data + 4, 4); /* without the packet's padding */
    if (len < HEAD - 8 || len > p->len - 8)
        return "a message of another length than it says";
    len -= HEAD - 8;
    type = (uint32_t)wire_get(p->data + 8, 4);
    k->s.messages++;
    if (type < sizeof(least) && len < least[type])
        return "a message that is too short";
    if (type == MSG_VERSION)
        return got_version(k, m);
    if (!k->s.version)
        return "a message before the version is agreed";
    memset(k->out + HEAD, 0, sizeof(k->out) - HEAD);
    switch (type) {
    case MSG_VRAM: return got_vram(k, m);
    case MSG_SITUATION: return got_situation(k, m, len);
    case MSG_POINTER: return got_pointer(k, m);
    case MSG_SHAPE: return got_shape(k, m, len);
    case MSG_DIRT: return got_dirt(k, m, len);
    case MSG_MODES: return got_modes(k, m);
    case MSG_BIOS: /* OV: whether the guest may stop the device; 16 bytes */
        k->out[HEAD] = k->generation2;
        return send(k, MSG_BIOS_RESPONSE, 16) ? no_room : NULL;
    case MSG_CAPABILITY: /* OV: lock on disconnect: no; 64 bytes */
        return send(k, MSG_CAPABILITY_RESPONSE, 64) ? no_room : NULL;
    }
    k->s.ignored++; /* of a later version */
    return NULL;
}

/* ---- the channel ------------------------------------------------------------------------------- */

static void channel_signal(void *ctx)
{
    struct video *k = ctx;
    const struct inband in = { k->dev, k->host, k->ch, channel_signal, receive, k, HEAD, 1 };

    if (!k->s.open)
        return;
    if (inband_turn(&in))
        send_features(k);
}

static void forget(struct video *k)
{
    k->s.open = k->s.told = k->s.dirt = k->s.located = 0;
    k->s.version = 0;
    k->parts = k->part_len = 0;
    k->refresh = k->warned = 0;
    k->host->timer_cancel(k->timer);
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct video *k = ctx;

    (void)user_data;
    forget(k);
    k->s.open = 1;
    return 0;
}

static void channel_close(void *ctx)
{
    forget(ctx);
}

/* ---- viewers ------------------------------------------------------------------------------------ */

static void watch(void *ctx, int watched)
{
    struct video *k = ctx;

    k->watched = watched != 0;
    send_features(k);
}

static void size_hint(void *ctx, uint32_t width, uint32_t height)
{
    struct video *k = ctx;

    /* the protocol has no way to ask for a size later: when the guest asks next */
    if (width >= 320 && height >= 200 && (uint64_t)width * height * 4 <= k->vram_len)
        k->hint = (struct video_mode){ (uint16_t)width, (uint16_t)height };
}

/* ---- the device -------------------------------------------------------------------------------- */

static void video_reset(void *self)
{
    struct video *k = self;

    forget(k);
    unplace(k);
    k->s = (struct video_state){ 0 };
    show_pointer(k);
}

#define F(tag, member) MOBO_FIELD(tag, struct video_state, member)
static const struct mobo_field video_fields[] = {
    F(1, open),      F(2, told),          F(3, dirt),           F(4, placed),   F(5, in_ram),
    F(6, active),    F(7, depth),         F(8, visible),        F(9, version),  F(10, offset),
    F(11, width),    F(12, height),       F(13, pitch),         F(14, gpa),     F(15, x),
    F(16, y),        F(17, cursor_width), F(18, cursor_height), F(19, hot_x),   F(20, hot_y),
    F(21, messages), F(22, rects),        F(23, ignored),       F(24, located),
};
enum { TAG_CURSOR = 32, TAG_PARTS = 33, TAG_PART = 34 };

static int video_save(void *self, struct mobo_writer *out)
{
    struct video *k = self;
    uint8_t parts[4];
    int err = k->host->save_fields(out, MOBO_ARRAY(video_fields), &k->s);

    wire_put(parts, k->parts, 4);
    if (!err)
        err = k->host->save_bytes(out, TAG_CURSOR, 0, k->cursor,
                                  k->s.cursor_width * k->s.cursor_height * 4);
    if (!err)
        err = k->host->save_bytes(out, TAG_PARTS, 0, parts, sizeof(parts));
    return err ? err : k->host->save_bytes(out, TAG_PART, 0, k->part, k->part_len);
}

static int state_sound(const struct video *k, const struct video_state *s)
{
    return s->open <= 1 && s->told <= s->located && s->located <= s->open && s->dirt <= 1 &&
           s->placed <= 1 && s->in_ram <= s->placed && s->active <= 1 && s->visible <= 1 &&
           (!s->version || s->open) && s->gpa % 4096 == 0 &&
           !s->cursor_width == !s->cursor_height && s->cursor_width <= VIDEO_CURSOR &&
           s->cursor_height <= VIDEO_CURSOR &&
           (s->cursor_width ? s->hot_x < s->cursor_width && s->hot_y < s->cursor_height
                            : !s->hot_x && !s->hot_y) &&
           s->x >= -65535 && s->x <= 65535 && s->y >= -65535 && s->y <= 65535 && k->vram_len;
}

static int video_restore(void *self, struct mobo_reader *in)
{
    struct video *k = self;
    struct video_state s;
    uint32_t cursor[VIDEO_CURSOR * VIDEO_CURSOR];
    uint8_t part[CURSOR_BYTES];
    uint32_t len[3] = { 0, 0, 0 };
    uint8_t parts[4] = { 0 };
    int err = k->host->load_bytes(in, TAG_CURSOR, cursor, sizeof(cursor), &len[0]);

    if (!err)
        err = k->host->load_bytes(in, TAG_PARTS, parts, sizeof(parts), &len[1]);
    if (!err)
        err = k->host->load_bytes(in, TAG_PART, part, sizeof(part), &len[2]);
    if (err == -ENOENT || err == -EMSGSIZE)
        return k->host->fail(k->dev, -EINVAL, "the saved pointer is missing or too large");
    if (!err)
        err = k->host->load_fields(in, MOBO_ARRAY(video_fields), &s);
    if (err)
        return err;
    if (!state_sound(k, &s) || len[0] != s.cursor_width * s.cursor_height * 4 || len[1] != 4 ||
        wire_get(parts, 4) > SHAPE_COMPLETE)
        return k->host->fail(k->dev, -EINVAL, "the saved state makes no sense");
    if (k->mapped)
        k->host->mem_unmap(k->dev, k->s.gpa, k->vram_len, 0, k->mapped);
    k->mapped = NULL;
    if (s.in_ram && k->host->mem_map(k->dev, s.gpa, k->vram_len, 0, &k->mapped))
        return k->host->fail(k->dev, -EINVAL, "the saved video memory is not in RAM");
    k->s = s;
    memcpy(k->cursor, cursor, len[0]);
    memcpy(k->part, part, len[2]);
    k->parts = (uint32_t)wire_get(parts, 4);
    k->part_len = len[2];
    /* the host has put the video memory back where it was */
    show(k);
    show_pointer(k);
    if (k->s.told && k->s.dirt != k->watched) /* the viewers are others now */
        k->host->work_post(k->dev, channel_signal, k);
    return 0;
}

static void video_inspect(void *self, struct mobo_inspect *out)
{
    struct video *k = self;

    k->host->inspect_str(out, "channel",
                         !k->s.open      ? "not opened by the guest"
                         : !k->s.version ? "opened"
                                         : "ready");
    k->host->inspect_uint(out, "version_minor", k->s.version >> 16 & 0xff);
    k->host->inspect_uint(out, "vram", k->vram_len);
    if (k->s.placed)
        k->host->inspect_uint(out, "vram_gpa", k->s.gpa);
    if (k->s.active) {
        k->host->inspect_uint(out, "width", k->s.width);
        k->host->inspect_uint(out, "height", k->s.height);
        k->host->inspect_uint(out, "depth", k->s.depth);
    }
    k->host->inspect_uint(out, "watched", k->watched);
    k->host->inspect_uint(out, "messages", k->s.messages);
    k->host->inspect_uint(out, "rectangles", k->s.rects);
    k->host->inspect_uint(out, "messages_ignored", k->s.ignored);
}

/* How much video memory, and whether the wanted mode fits. */
static int measure(struct video *k)
{
    const struct mobo_host *h = k->host;
    uint64_t need, vram = h->param_uint(k->dev, "vram");

    k->want.width = (uint16_t)h->param_uint(k->dev, "width");
    k->want.height = (uint16_t)h->param_uint(k->dev, "height");
    need = (uint64_t)k->want.width * k->want.height * 4;
    if (!vram) {
        vram = (need + MIB - 1) / MIB * MIB;
        vram = vram < 8 * MIB ? 8 * MIB : vram;
    }
    if (vram % MIB)
        return h->fail(k->dev, -EINVAL, "vram: a whole number of megabytes is needed");
    if (need > vram)
        return h->fail(k->dev, -EINVAL, "%ux%u pixels need %u MB of video memory, vram is %u MB",
                       k->want.width, k->want.height, (unsigned)((need + MIB - 1) / MIB),
                       (unsigned)(vram / MIB));
    k->vram_len = vram;
    return 0;
}

static int video_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    static const struct mobo_display_ops display_ops = { sizeof(display_ops), 0, watch, size_hint };
    struct mobo_vmbus_offer offer = {
        .size = sizeof(offer),
        .flags = MOBO_VMBUS_ENUMERATE_DEVICE | MOBO_VMBUS_PIPE,
        .user_data = { 4 }, /* a pipe of messages */
        .class_id =
            MOBO_GUID(0xda0a7802, 0xe377, 0x4aac, 0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8),
        .instance_id =
            MOBO_GUID(0x5620e0c7, 0x8062, 0x4dce, 0xae, 0xb7, 0x52, 0x0c, 0x7e, 0xf7, 0x61, 0x71),
    };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct video *k;
    void *vram;
    int err;

    k = calloc(1, sizeof(*k));
    if (!k)
        return host->fail(dev, -ENOMEM, "out of memory");
    k->dev = dev;
    k->host = host;
    k->generation2 = !host->board_info(dev, &board) && board.generation == 2;
    err = measure(k);
    offer.mmio_megabytes = (uint16_t)(k->vram_len / MIB);
    if (!err)
        err = host->ram_add(dev, "vram", k->vram_len, 0, &k->ram, &vram);
    if (!err)
        err = host->display_open(dev, "display", &display_ops, k, &k->display);
    if (!err)
        err = host->timer_create(dev, settled, k, &k->timer);
    if (!err)
        err = host->vmbus_offer(dev, &offer, &ops, k, &k->ch);
    if (err) {
        free(k);
        return err;
    }
    k->vram = vram;
    *ret_self = k;
    return 0;
}

static const struct mobo_param video_params[] = {
    { "width", MOBO_UINT, 0, "pixels", "1024", 320, 4088, NULL,
      "of the picture that the guest starts with" },
    { "height", MOBO_UINT, 0, "pixels", "768", 200, 4088, NULL,
      "of the picture that the guest starts with" },
    { "vram", MOBO_SIZE, 0, NULL, NULL, MIB, 60 * MIB, NULL,
      "video memory; 8M, or as much as the picture needs" },
    { "display", MOBO_STRING, 0, NULL, "null", 0, 0, NULL,
      "who looks at it: vnc:ADDRESS:DISPLAY, vnc:unix:PATH or null" },
};

static const struct mobo_vdev_ops video_ops = {
    .size = sizeof(video_ops),
    .create = video_create,
    .destroy = free,
    .reset = video_reset,
    .save = video_save,
    .restore = video_restore,
    .inspect = video_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "synthvideo",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "synthetic video adapter on VMBus, a frame buffer",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = video_params,
    .nparams = sizeof(video_params) / sizeof(video_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &video_ops,
};
