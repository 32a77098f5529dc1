/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic keyboard, protocol 1.0: sends scan codes of set 1.
 * Reference: client drivers/input/serio/hyperv-keyboard.c (cited as HK).  The layout of text that is
 * typed is that of US keyboards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mobo/vdev.h>

#include "inband.h"
#include "wire.h"

enum { MSG_REQUEST = 1, MSG_RESPONSE = 2, MSG_EVENT = 3, MSG_LEDS = 4 }; /* HK synth_kbd_msg_type */
enum { VERSION_1_0 = 0x10000, ACCEPTED = 1 };
enum { INFO_UNICODE = 1, INFO_BREAK = 2, INFO_E0 = 4, INFO_E1 = 8 };
/* Guests keep few keys that nobody has read (Linux: 64 events, three a key): keys go out in bursts. */
enum { QUEUE = 2048, ROOM = 8, BURST = 4 };

struct kbd_state {
    uint8_t open, accepted, leds;
    uint8_t held[32]; /* keys that are down: bit of code | E0 << 7 */
    uint64_t keys, dropped;
};

struct keystroke {
    uint8_t code, info;
};

struct kbd {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    mobo_vmbus_t ch;
    mobo_input_t in;
    mobo_timer_t timer; /* runs from a burst to the next */
    int paced;          /* and it does now */
    uint64_t delay_ns;
    struct kbd_state s;
    struct keystroke queue[QUEUE]; /* keys on their way; a ring */
    uint32_t first, count;
    int starved; /* input waits for room */
};

/* ---- the channel ------------------------------------------------------------------------------- */

static int send_event(struct kbd *k, struct keystroke e)
{
    uint8_t m[12] = { 0 };

    wire_put(m, MSG_EVENT, 4);
    wire_put(m + 4, e.code, 2);
    wire_put(m + 8, e.info, 4);
    return k->host->vmbus_send(k->ch, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, sizeof(m));
}

static void flush(struct kbd *k)
{
    unsigned sent = 0;

    if (k->paced)
        return;
    while (k->s.accepted && k->count && sent < BURST && !send_event(k, k->queue[k->first])) {
        k->first = (k->first + 1) % QUEUE;
        k->count--;
        k->s.keys++;
        sent++;
    }
    if (k->starved && QUEUE - k->count >= ROOM) {
        k->starved = 0;
        k->host->input_ready(k->in);
    }
    k->paced = sent != 0;
    if (k->paced)
        k->host->timer_set(k->timer, k->host->clock_ns(k->dev) + k->delay_ns);
}

static void next_burst(void *ctx, uint64_t now)
{
    struct kbd *k = ctx;

    (void)now;
    k->paced = 0;
    flush(k);
}

static void enqueue(struct kbd *k, unsigned code, unsigned info)
{
    unsigned bit = code | (info & INFO_E0 ? 0x80 : 0);

    if (k->count == QUEUE) {
        k->s.dropped++;
        return;
    }
    if (info & INFO_BREAK)
        k->s.held[bit / 8] &= (uint8_t)~(1u << bit % 8);
    else
        k->s.held[bit / 8] |= (uint8_t)(1u << bit % 8);
    k->queue[(k->first + k->count++) % QUEUE] = (struct keystroke){ (uint8_t)code, (uint8_t)info };
}

/* @return what is wrong with the message, or NULL. */
static const char *receive(void *ctx, const struct mobo_vmbus_packet *p)
{
    struct kbd *k = ctx;
    uint8_t m[8] = { 0 };

    switch (wire_get(p->data, 4)) {
    case MSG_REQUEST:
        k->s.accepted = wire_get(p->data + 4, 4) == VERSION_1_0;
        k->host->input_active(k->in, k->s.accepted);
        wire_put(m, MSG_RESPONSE, 4);
        wire_put(m + 4, k->s.accepted ? ACCEPTED : 0, 4);
        if (k->host->vmbus_send(k->ch, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, sizeof(m)))
            return "it leaves no room for answers";
        return NULL;
    case MSG_LEDS:
        k->s.leds = p->data[4] & 7;
        k->host->input_leds(k->in, k->s.leds); /* the bits are MOBO_LED_... */
        return NULL;
    }
    return "a message of an unknown type";
}

static void channel_signal(void *ctx)
{
    struct kbd *k = ctx;
    const struct inband in = { k->dev, k->host, k->ch, channel_signal, receive, k, 8, 0 };

    if (!k->s.open)
        return;
    if (inband_turn(&in))
        flush(k);
}

static void forget(struct kbd *k)
{
    k->first = k->count = 0;
    k->s.open = k->s.accepted = 0;
    k->starved = 0;
    k->host->input_active(k->in, 0);
    memset(k->s.held, 0, sizeof(k->s.held));
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct kbd *k = ctx;

    (void)user_data;
    forget(k);
    k->s.open = 1;
    return 0;
}

static void channel_close(void *ctx)
{
    forget(ctx);
}

/* ---- keys -------------------------------------------------------------------------------------- */

/* Characters of US keyboards by scan code, from 2 and 0x10 .. on; second string: with Shift. */
static const struct {
    uint8_t first;
    const char *plain, *shifted;
} rows[] = {
    { 0x02, "1234567890-=", "!@#$%^&*()_+" },
    { 0x10, "qwertyuiop[]", "QWERTYUIOP{}" },
    { 0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~" },
    { 0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?" },
    { 0x39, " ", " " },
    { 0x0e, "\b\t", "\b\t" },
    { 0x1c, "\n", "\n" },
    { 0x01, "\033", "\033" },
};

enum { SHIFT = 0x2a, E0 = 0x80 };

static const struct {
    const char *name;
    uint8_t code; /* | E0 */
} names[] = {
    { "esc", 0x01 },          { "backspace", 0x0e },    { "tab", 0x0f },
    { "enter", 0x1c },        { "ctrl", 0x1d },         { "shift", 0x2a },
    { "alt", 0x38 },          { "space", 0x39 },        { "capslock", 0x3a },
    { "f1", 0x3b },           { "f2", 0x3c },           { "f3", 0x3d },
    { "f4", 0x3e },           { "f5", 0x3f },           { "f6", 0x40 },
    { "f7", 0x41 },           { "f8", 0x42 },           { "f9", 0x43 },
    { "f10", 0x44 },          { "f11", 0x57 },          { "f12", 0x58 },
    { "numlock", 0x45 },      { "scrolllock", 0x46 },   { "rightshift", 0x36 },
    { "rightctrl", 0x1d | E0 }, { "rightalt", 0x38 | E0 }, { "home", 0x47 | E0 },
    { "up", 0x48 | E0 },      { "pageup", 0x49 | E0 },  { "left", 0x4b | E0 },
    { "right", 0x4d | E0 },   { "end", 0x4f | E0 },     { "down", 0x50 | E0 },
    { "pagedown", 0x51 | E0 }, { "insert", 0x52 | E0 }, { "delete", 0x53 | E0 },
    { "super", 0x5b | E0 },   { "menu", 0x5d | E0 },    { "print", 0x37 | E0 },
    { "minus", 0x0c },        { "plus", 0x0d },
};

/* @return the scan code of a character, 0 if there is none. */
static unsigned code_of(char c, int *ret_shift)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *plain = strchr(rows[i].plain, c), *shifted = strchr(rows[i].shifted, c);

        if (!c || (!plain && !shifted))
            continue;
        *ret_shift = !plain;
        return rows[i].first +
               (unsigned)(plain ? plain - rows[i].plain : shifted - rows[i].shifted);
    }
    return 0;
}

static void press(struct kbd *k, unsigned code, int down)
{
    enqueue(k, code & 0x7f, (code & E0 ? INFO_E0 : 0u) | (down ? 0u : INFO_BREAK));
}

/* Keys of viewers and of the control socket. */
static int input_event(void *ctx, const struct mobo_input_event *e)
{
    struct kbd *k = ctx;
    unsigned code = e->key & 0x7f, info = e->key & MOBO_KEY_E0 ? INFO_E0 : 0;

    if (QUEUE - k->count < ROOM) {
        k->starved = 1;
        return -EAGAIN;
    }
    if (e->key == MOBO_KEY_PAUSE) { /* e1 1d 45 e1 9d c5, all at once */
        for (unsigned up = 0; e->down && up <= INFO_BREAK; up += INFO_BREAK) {
            enqueue(k, 0x1d, INFO_E1 | up);
            enqueue(k, 0x45, up);
        }
    } else {
        enqueue(k, code, info | (e->down ? 0u : INFO_BREAK));
    }
    flush(k);
    return 0;
}

static int no_room(struct kbd *k)
{
    return k->host->fail(k->dev, -EAGAIN, "the guest has not taken %u earlier keys yet", k->count);
}

static int type_text(struct kbd *k, const char *text)
{
    size_t len = strlen(text);
    int shift;

    if (4 * len > QUEUE - k->count)
        return k->count ? no_room(k)
                        : k->host->fail(k->dev, -E2BIG, "at most %u characters at a time",
                                        QUEUE / 4);
    for (const char *c = text; *c; c++)
        if (!code_of(*c, &shift))
            return k->host->fail(k->dev, -EINVAL, "no key for character 0x%02x",
                                 (unsigned)(uint8_t)*c);
    for (; *text; text++) {
        unsigned code = code_of(*text, &shift);

        if (shift)
            press(k, SHIFT, 1);
        press(k, code, 1);
        press(k, code, 0);
        if (shift)
            press(k, SHIFT, 0);
    }
    return 0;
}

/* "ctrl+alt+delete": pressed in this order, released in the opposite one.  @down, @up: only that. */
static int chord(struct kbd *k, const char *arg, int down, int up)
{
    unsigned codes[8], n = 0;
    int shift;

    while (*arg) {
        size_t len = strcspn(arg, "+");
        unsigned code = 0;

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (strlen(names[i].name) == len && !memcmp(names[i].name, arg, len))
                code = names[i].code;
        if (!code && len == 1)
            code = code_of(*arg, &shift);
        if (!code || n == 8)
            return k->host->fail(k->dev, -EINVAL, code ? "more than 8 keys" : "no key '%.*s'",
                                 (int)len, arg);
        codes[n++] = code;
        arg += len + (arg[len] == '+');
    }
    if (!n)
        return k->host->fail(k->dev, -EINVAL, "which key?");
    if (2 * n > QUEUE - k->count)
        return no_room(k);
    for (unsigned i = 0; down && i < n; i++)
        press(k, codes[i], 1);
    for (unsigned i = n; up && i-- > 0;)
        press(k, codes[i], 0);
    return 0;
}

static int kbd_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct kbd *k = self;
    int err;

    if (strcmp(verb, "type") && strcmp(verb, "key") && strcmp(verb, "down") && strcmp(verb, "up"))
        return k->host->fail(k->dev, -ENOSYS, "unknown command '%s' (type, key, down, up)", verb);
    if (!k->s.accepted)
        return k->host->fail(k->dev, -ENOTCONN, "the guest has no driver for this keyboard");
    if (!strcmp(verb, "type"))
        err = type_text(k, arg);
    else
        err = chord(k, arg, strcmp(verb, "up") != 0, strcmp(verb, "down") != 0);
    if (err)
        return err;
    flush(k);
    snprintf(ret, ret_len, k->count ? "%u keys wait for the guest" : "done", k->count);
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void kbd_reset(void *self)
{
    struct kbd *k = self;

    forget(k);
    k->s = (struct kbd_state){ 0 };
    k->paced = 0;
    k->host->timer_cancel(k->timer);
}

static const struct mobo_field kbd_fields[] = {
    MOBO_FIELD(1, struct kbd_state, open),    MOBO_FIELD(2, struct kbd_state, accepted),
    MOBO_FIELD(3, struct kbd_state, leds),    MOBO_FIELD(4, struct kbd_state, held),
    MOBO_FIELD(5, struct kbd_state, keys),    MOBO_FIELD(6, struct kbd_state, dropped),
};
enum { TAG_QUEUE = 7 };

static int kbd_save(void *self, struct mobo_writer *out)
{
    struct kbd *k = self;
    struct keystroke flat[QUEUE];
    int err = k->host->save_fields(out, MOBO_ARRAY(kbd_fields), &k->s);

    for (uint32_t i = 0; i < k->count; i++)
        flat[i] = k->queue[(k->first + i) % QUEUE];
    return err ? err
               : k->host->save_bytes(out, TAG_QUEUE, 0, flat,
                                     (uint32_t)(k->count * sizeof(flat[0])));
}

static int kbd_restore(void *self, struct mobo_reader *in)
{
    struct kbd *k = self;
    struct kbd_state s;
    struct keystroke flat[QUEUE];
    uint32_t len = 0;
    int err = k->host->load_bytes(in, TAG_QUEUE, flat, sizeof(flat), &len);

    if (err == -ENOENT || err == -EMSGSIZE || len % sizeof(flat[0]))
        return k->host->fail(k->dev, -EINVAL, "the saved keys are missing or too many");
    if (!err)
        err = k->host->load_fields(in, MOBO_ARRAY(kbd_fields), &s);
    if (err)
        return err;
    if (s.open > 1 || s.accepted > s.open || s.leds > 7)
        return k->host->fail(k->dev, -EINVAL, "the saved flags make no sense");
    k->s = s;
    memcpy(k->queue, flat, len);
    k->first = 0;
    k->count = (uint32_t)(len / sizeof(flat[0]));
    k->host->input_active(k->in, s.accepted);
    k->host->input_leds(k->in, s.leds);
    k->paced = 1; /* goes on when time does */
    k->host->timer_set(k->timer, k->host->clock_ns(k->dev) + k->delay_ns);
    return 0;
}

static void kbd_inspect(void *self, struct mobo_inspect *out)
{
    struct kbd *k = self;

    k->host->inspect_str(out, "channel",
                         k->s.accepted ? "ready" : k->s.open ? "opened" : "not opened by the guest");
    k->host->inspect_uint(out, "keys_sent", k->s.keys);
    k->host->inspect_uint(out, "keys_waiting", k->count);
    k->host->inspect_uint(out, "keys_dropped", k->s.dropped);
    k->host->inspect_uint(out, "leds", k->s.leds);
}

static int kbd_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    static const struct mobo_vmbus_offer offer = {
        .size = sizeof(offer),
        .flags = MOBO_VMBUS_ENUMERATE_DEVICE,
        .class_id = MOBO_GUID(0xf912ad6d, 0x2b17, 0x48ea, 0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76,
                              0x84),
        .instance_id = MOBO_GUID(0xd34b2567, 0xb9b6, 0x42b9, 0x87, 0x78, 0x0a, 0x4e, 0xc0, 0xb9,
                                 0x55, 0xbf),
    };
    static const struct mobo_input_ops input_ops = { sizeof(input_ops), 1u << MOBO_INPUT_KEY,
                                                     input_event };
    struct kbd *k = calloc(1, sizeof(*k));
    int err;

    if (!k)
        return host->fail(dev, -ENOMEM, "out of memory");
    k->dev = dev;
    k->host = host;
    k->delay_ns = host->param_uint(dev, "delay") * 1000000;
    err = host->vmbus_offer(dev, &offer, &ops, k, &k->ch);
    if (!err)
        err = host->timer_create(dev, next_burst, k, &k->timer);
    if (!err)
        err = host->input_add(dev, &input_ops, k, &k->in);
    if (err) {
        free(k);
        return err;
    }
    *ret_self = k;
    return 0;
}

static const struct mobo_param kbd_params[] = {
    { "delay", MOBO_UINT, 0, "ms", "10", 1, 1000, NULL, "pause after every four keys" },
};

static const struct mobo_vdev_ops kbd_ops = {
    .size = sizeof(kbd_ops),
    .create = kbd_create,
    .destroy = free,
    .reset = kbd_reset,
    .save = kbd_save,
    .restore = kbd_restore,
    .inspect = kbd_inspect,
    .command = kbd_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "synthkbd",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "synthetic keyboard on VMBus",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = kbd_params,
    .nparams = sizeof(kbd_params) / sizeof(kbd_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &kbd_ops,
};
