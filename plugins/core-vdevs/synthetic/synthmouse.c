/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic mouse, protocol 2.0: a HID device with an absolute pointer, five buttons, two wheels.
 * Reference: client drivers/hid/hid-hyperv.c (cited as HM); USB Device Class Definition for HID 1.11. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mobo/vdev.h>

#include "inband.h"
#include "wire.h"

/* HM enum synthhid_msg_type.  Before each: u32 pipe type 1, u32 length; then u32 type, u32 length. */
enum { HID_REQUEST = 0, HID_RESPONSE = 1, HID_INFO = 2, HID_INFO_ACK = 3, HID_REPORT = 4 };
enum { HEAD = 16, VERSION_2_0 = 0x20000 };
enum { REPORT_LEN = 7, AXIS_MAX = 32767, BUTTONS = 5 };
enum { QUEUE = 256, ROOM = 4, BURST = 4 };

/* Buttons, X and Y absolute, wheel and pan relative: a report of 7 bytes. */
static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x02,       /* usage: mouse */
    0xa1, 0x01,       /* collection: application */
    0x09, 0x01,       /*   usage: pointer */
    0xa1, 0x00,       /*   collection: physical */
    0x05, 0x09,       /*     usage page: buttons */
    0x19, 0x01,       /*     usage minimum: 1 */
    0x29, BUTTONS,    /*     usage maximum */
    0x15, 0x00,       /*     logical minimum: 0 */
    0x25, 0x01,       /*     logical maximum: 1 */
    0x95, BUTTONS,    /*     report count */
    0x75, 0x01,       /*     report size: 1 */
    0x81, 0x02,       /*     input: variable, absolute */
    0x95, 0x01,       /*     report count: 1 */
    0x75, 0x03,       /*     report size: 3 */
    0x81, 0x01,       /*     input: constant */
    0x05, 0x01,       /*     usage page: generic desktop */
    0x09, 0x30,       /*     usage: X */
    0x09, 0x31,       /*     usage: Y */
    0x15, 0x00,       /*     logical minimum: 0 */
    0x26, 0xff, 0x7f, /*     logical maximum: 32767 */
    0x75, 0x10,       /*     report size: 16 */
    0x95, 0x02,       /*     report count: 2 */
    0x81, 0x02,       /*     input: variable, absolute */
    0x09, 0x38,       /*     usage: wheel */
    0x15, 0x81,       /*     logical minimum: -127 */
    0x25, 0x7f,       /*     logical maximum: 127 */
    0x75, 0x08,       /*     report size: 8 */
    0x95, 0x01,       /*     report count: 1 */
    0x81, 0x06,       /*     input: variable, relative */
    0x05, 0x0c,       /*     usage page: consumer */
    0x0a, 0x38, 0x02, /*     usage: AC pan */
    0x95, 0x01,       /*     report count: 1 */
    0x81, 0x06,       /*     input: variable, relative */
    0xc0,             /*   end */
    0xc0              /* end */
};

enum { MOUSE_CLOSED = 0, MOUSE_OPEN = 1, MOUSE_INFORMED = 2, MOUSE_READY = 3 };

struct mouse_state {
    uint8_t phase, buttons;
    uint16_t x, y;
    uint64_t reports, dropped;
};

struct report {
    uint8_t bytes[REPORT_LEN];
};

struct mouse {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    mobo_vmbus_t ch;
    mobo_input_t in;
    mobo_timer_t timer; /* runs from a burst to the next */
    int paced;          /* and it does now */
    uint64_t delay_ns;
    struct mouse_state s;
    struct report queue[QUEUE]; /* on their way; a ring */
    uint32_t first, count;
    int starved; /* input waits for room */
};

/* ---- the channel ------------------------------------------------------------------------------- */

static int send(struct mouse *k, unsigned type, uint8_t *m, uint32_t body_len)
{
    wire_put(m, PIPE_DATA, 4);
    wire_put(m + 4, 8 + body_len, 4);
    wire_put(m + 8, type, 4);
    wire_put(m + 12, body_len, 4);
    return k->host->vmbus_send(k->ch, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, HEAD + body_len);
}

static int send_report(struct mouse *k, const struct report *r)
{
    uint8_t m[HEAD + REPORT_LEN];

    memcpy(m + HEAD, r->bytes, REPORT_LEN);
    return send(k, HID_REPORT, m, REPORT_LEN);
}

static int send_info(struct mouse *k)
{
    enum { INFO = HEAD, DESC = INFO + 32, REPORT = DESC + 9 };
    uint8_t m[REPORT + sizeof(report_descriptor)] = { 0 };

    wire_put(m + INFO, 32, 4);
    wire_put(m + INFO + 4, 0x045e, 2); /* what hid-hyperv binds to, HM mousevsc_devices */
    wire_put(m + INFO + 6, 0x0621, 2);
    wire_put(m + INFO + 8, 0x0200, 2);
    m[DESC] = 9;                       /* HID descriptor, HID 1.11 section 6.2.1 */
    m[DESC + 1] = 0x21;
    wire_put(m + DESC + 2, 0x0111, 2);
    m[DESC + 5] = 1;
    m[DESC + 6] = 0x22;
    wire_put(m + DESC + 7, sizeof(report_descriptor), 2);
    memcpy(m + REPORT, report_descriptor, sizeof(report_descriptor));
    return send(k, HID_INFO, m, sizeof(m) - HEAD);
}

static void set_phase(struct mouse *k, unsigned phase)
{
    k->s.phase = (uint8_t)phase;
    k->host->input_active(k->in, phase == MOUSE_READY);
}

static void flush(struct mouse *k)
{
    unsigned sent = 0;

    if (k->paced)
        return;
    while (k->s.phase == MOUSE_READY && k->count && sent < BURST &&
           !send_report(k, &k->queue[k->first])) {
        k->first = (k->first + 1) % QUEUE;
        k->count--;
        k->s.reports++;
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
    struct mouse *k = ctx;

    (void)now;
    k->paced = 0;
    flush(k);
}

/* @return what is wrong with the message, or NULL. */
static const char *receive(void *ctx, const struct mobo_vmbus_packet *p)
{
    struct mouse *k = ctx;
    uint8_t m[HEAD + 5] = { 0 };

    switch (wire_get(p->data + 8, 4)) {
    case HID_REQUEST:
        if (p->len < HEAD + 4)
            return "a request without a version";
        memcpy(m + HEAD, p->data + HEAD, 4);
        m[HEAD + 4] = wire_get(p->data + HEAD, 4) == VERSION_2_0;
        set_phase(k, m[HEAD + 4] ? MOUSE_INFORMED : MOUSE_OPEN);
        if (send(k, HID_RESPONSE, m, 5) || (m[HEAD + 4] && send_info(k)))
            return "it leaves no room for answers";
        return NULL;
    case HID_INFO_ACK:
        if (k->s.phase < MOUSE_INFORMED)
            return "an acknowledgement out of order";
        set_phase(k, MOUSE_READY);
        return NULL;
    }
    return "a message of an unknown type";
}

static void channel_signal(void *ctx)
{
    struct mouse *k = ctx;
    const struct inband in = { k->dev, k->host, k->ch, channel_signal, receive, k, HEAD, 1 };

    if (k->s.phase == MOUSE_CLOSED)
        return;
    if (inband_turn(&in))
        flush(k);
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct mouse *k = ctx;

    (void)user_data;
    k->first = k->count = 0;
    k->starved = 0;
    k->s.buttons = 0;
    set_phase(k, MOUSE_OPEN);
    return 0;
}

static void channel_close(void *ctx)
{
    struct mouse *k = ctx;

    k->first = k->count = 0;
    k->starved = 0;
    k->s.buttons = 0;
    set_phase(k, MOUSE_CLOSED);
}

/* ---- commands ---------------------------------------------------------------------------------- */

static void enqueue(struct mouse *k, int wheel, int pan)
{
    struct report *r = &k->queue[(k->first + k->count++) % QUEUE];

    r->bytes[0] = k->s.buttons;
    wire_put(r->bytes + 1, k->s.x, 2);
    wire_put(r->bytes + 3, k->s.y, 2);
    r->bytes[5] = (uint8_t)wheel;
    r->bytes[6] = (uint8_t)pan;
}

/* Movements of viewers and of the control socket. */
static int input_event(void *ctx, const struct mobo_input_event *e)
{
    struct mouse *k = ctx;

    if (QUEUE - k->count < ROOM) {
        k->starved = 1;
        return -EAGAIN;
    }
    k->s.x = (uint16_t)e->x;
    k->s.y = (uint16_t)e->y;
    k->s.buttons = (uint8_t)(e->buttons & ((1u << BUTTONS) - 1)); /* the bits are MOBO_BUTTON_... */
    enqueue(k, e->wheel, e->pan);
    flush(k);
    return 0;
}

static int number(const char **arg, long min, long max, long *ret)
{
    char *end;

    errno = 0;
    *ret = strtol(*arg, &end, 10);
    if (end == *arg || errno || *ret < min || *ret > max || (*end && *end != ' '))
        return -1;
    *arg = end + strspn(end, " ");
    return 0;
}

static unsigned button_bit(const char *name)
{
    static const char *const names[BUTTONS] = { "left", "right", "middle", "back", "forward" };

    if (!*name)
        return 1;
    for (unsigned i = 0; i < BUTTONS; i++)
        if (!strcmp(name, names[i]))
            return 1u << i;
    return 0;
}

/* move X Y | down B | up B | click B | wheel N | pan N */
static int mouse_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct mouse *k = self;
    int move = !strcmp(verb, "move"), down = !strcmp(verb, "down"), up = !strcmp(verb, "up");
    int click = !strcmp(verb, "click"), wheel = !strcmp(verb, "wheel"), pan = !strcmp(verb, "pan");
    long a = 0, b = 0;
    unsigned bit = 0;
    int bad = 0;

    if (!move && !down && !up && !click && !wheel && !pan)
        return k->host->fail(k->dev, -ENOSYS,
                             "unknown command '%s' (move, down, up, click, wheel, pan)", verb);
    if (move)
        bad = number(&arg, 0, AXIS_MAX, &a) || number(&arg, 0, AXIS_MAX, &b) || *arg;
    else if (wheel || pan)
        bad = number(&arg, -127, 127, &a) || *arg;
    else
        bad = !(bit = button_bit(arg));
    if (bad)
        return k->host->fail(k->dev, -EINVAL, "%s: %s", verb,
                             move           ? "X and Y, each 0 to 32767"
                             : wheel || pan ? "a number from -127 to 127"
                                            : "left, right, middle, back or forward");
    if (k->s.phase != MOUSE_READY)
        return k->host->fail(k->dev, -ENOTCONN, "the guest has no driver for this mouse");
    if (k->count + 2 > QUEUE) {
        k->s.dropped++;
        return k->host->fail(k->dev, -EAGAIN, "the guest has not taken earlier moves yet");
    }
    if (move) {
        k->s.x = (uint16_t)a;
        k->s.y = (uint16_t)b;
    }
    if (down || click)
        k->s.buttons |= (uint8_t)bit;
    if (click)
        enqueue(k, 0, 0);
    if (up || click)
        k->s.buttons &= (uint8_t)~bit;
    enqueue(k, wheel ? (int)a : 0, pan ? (int)a : 0);
    flush(k);
    snprintf(ret, ret_len, "done");
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void mouse_reset(void *self)
{
    struct mouse *k = self;

    k->s = (struct mouse_state){ 0 };
    set_phase(k, MOUSE_CLOSED);
    k->first = k->count = 0;
    k->starved = 0;
    k->paced = 0;
    k->host->timer_cancel(k->timer);
}

static const struct mobo_field mouse_fields[] = {
    MOBO_FIELD(1, struct mouse_state, phase),   MOBO_FIELD(2, struct mouse_state, buttons),
    MOBO_FIELD(3, struct mouse_state, x),       MOBO_FIELD(4, struct mouse_state, y),
    MOBO_FIELD(5, struct mouse_state, reports), MOBO_FIELD(6, struct mouse_state, dropped),
};
enum { TAG_QUEUE = 7 };

static int mouse_save(void *self, struct mobo_writer *out)
{
    struct mouse *k = self;
    struct report flat[QUEUE];
    int err = k->host->save_fields(out, MOBO_ARRAY(mouse_fields), &k->s);

    for (uint32_t i = 0; i < k->count; i++)
        flat[i] = k->queue[(k->first + i) % QUEUE];
    return err ? err
               : k->host->save_bytes(out, TAG_QUEUE, 0, flat,
                                     (uint32_t)(k->count * sizeof(flat[0])));
}

static int mouse_restore(void *self, struct mobo_reader *in)
{
    struct mouse *k = self;
    struct mouse_state s;
    struct report flat[QUEUE];
    uint32_t len = 0;
    int err = k->host->load_bytes(in, TAG_QUEUE, flat, sizeof(flat), &len);

    if (err == -ENOENT || err == -EMSGSIZE || len % sizeof(flat[0]))
        return k->host->fail(k->dev, -EINVAL, "the saved reports are missing or too many");
    if (!err)
        err = k->host->load_fields(in, MOBO_ARRAY(mouse_fields), &s);
    if (err)
        return err;
    if (s.phase > MOUSE_READY || s.buttons >> BUTTONS || s.x > AXIS_MAX || s.y > AXIS_MAX)
        return k->host->fail(k->dev, -EINVAL, "the saved state makes no sense");
    k->s = s;
    memcpy(k->queue, flat, len);
    k->first = 0;
    k->count = (uint32_t)(len / sizeof(flat[0]));
    set_phase(k, s.phase);
    k->paced = 1; /* goes on when time does */
    k->host->timer_set(k->timer, k->host->clock_ns(k->dev) + k->delay_ns);
    return 0;
}

static void mouse_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const phases[] = { "not opened by the guest", "opened", "described",
                                          "ready" };
    struct mouse *k = self;

    k->host->inspect_str(out, "channel", phases[k->s.phase]);
    k->host->inspect_uint(out, "x", k->s.x);
    k->host->inspect_uint(out, "y", k->s.y);
    k->host->inspect_uint(out, "buttons", k->s.buttons);
    k->host->inspect_uint(out, "reports_sent", k->s.reports);
    k->host->inspect_uint(out, "reports_waiting", k->count);
    k->host->inspect_uint(out, "reports_dropped", k->s.dropped);
}

static int mouse_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    static const struct mobo_vmbus_offer offer = {
        .size = sizeof(offer),
        .flags = MOBO_VMBUS_ENUMERATE_DEVICE | MOBO_VMBUS_PIPE,
        .user_data = { 4 }, /* a pipe of messages */
        .class_id = MOBO_GUID(0xcfa8b69e, 0x5b4a, 0x4cc0, 0xb9, 0x8b, 0x8b, 0xa1, 0xa1, 0xf3, 0xf9,
                              0x5a),
        .instance_id = MOBO_GUID(0x58f75a6d, 0xd949, 0x4320, 0x99, 0xe1, 0xa2, 0xa2, 0x57, 0x6d,
                                 0x58, 0x1c),
    };
    static const struct mobo_input_ops input_ops = { sizeof(input_ops), 1u << MOBO_INPUT_POINT,
                                                     input_event };
    struct mouse *k = calloc(1, sizeof(*k));
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

static const struct mobo_param mouse_params[] = {
    { "delay", MOBO_UINT, 0, "ms", "10", 1, 1000, NULL, "pause after every four reports" },
};

static const struct mobo_vdev_ops mouse_ops = {
    .size = sizeof(mouse_ops),
    .create = mouse_create,
    .destroy = free,
    .reset = mouse_reset,
    .save = mouse_save,
    .restore = mouse_restore,
    .inspect = mouse_inspect,
    .command = mouse_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "synthmouse",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "synthetic mouse on VMBus, an absolute pointer",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = mouse_params,
    .nparams = sizeof(mouse_params) / sizeof(mouse_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &mouse_ops,
};
