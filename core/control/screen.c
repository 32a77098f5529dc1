/* SPDX-License-Identifier: BSD-2-Clause */
/* Methods of the control socket for what a person at the screen does.
 *
 *   screenshot {device}           -> {device, width, height, png: base64}
 *   type {text}                   -> {waiting: keys that the guest has not taken yet}
 *   key {keys, action}            the same; "leftctrl+c"; action: press (default), down or up
 *   pointer {x, y | dx, dy, down, up, click, wheel, pan}
 *                                 pixels of the picture; buttons by name */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/control/control_int.h"
#include "core/display/keymap.h"

static json_t *refuse(struct rpc_error *e, int code, int err, const char *text)
{
    e->code = code;
    diag_set(&e->diag, err, "%s", text);
    return NULL;
}

/* ---- screenshot ---------------------------------------------------------------------------------- */

/* RFC 4648 section 4.  @return malloc()ed text, NULL: no memory. */
static char *base64(const uint8_t *buf, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;

    for (size_t i = 0; text && i < len; i += 3) {
        uint32_t v = (uint32_t)buf[i] << 16 | (i + 1 < len ? (uint32_t)buf[i + 1] << 8 : 0) |
                     (i + 2 < len ? buf[i + 2] : 0u);

        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        *at++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
        *at++ = i + 2 < len ? digits[v & 63] : '=';
    }
    if (text)
        *at = 0;
    return text;
}

json_t *rpc_screenshot(struct worker *w, json_t *params, struct rpc_error *e)
{
    const char *name;
    struct vmb_display *d;
    struct picture p;
    uint8_t *png = NULL;
    size_t len = 0;
    char *text = NULL;
    json_t *result = NULL;
    int err;

    if (!rpc_text(params, "device", NULL, &name, e))
        return NULL;
    d = display_find(&w->displays, name);
    if (!d) {
        e->code = RPC_FAILED;
        if (name)
            diag_set(&e->diag, -ENOENT, "no display '%s'", DIAG_Q(name));
        else
            diag_set(&e->diag, -ENOENT, "this VM has no display");
        return NULL;
    }
    err = display_grab(d, &p);
    if (err)
        return refuse(e, RPC_FAILED, err,
                      err == -ENODATA ? "the display shows no picture"
                                      : "no memory for the picture");
    err = picture_png(&p, &png, &len);
    if (!err)
        text = base64(png, len);
    if (text)
        result = json_pack("{s:s, s:i, s:i, s:s}", "device", display_name(d), "width", (int)p.width,
                           "height", (int)p.height, "png", text);
    if (!result)
        refuse(e, RPC_FAILED, err ? err : -ENOMEM,
               err == -ENOTSUP ? "this mobo was built without libpng"
                               : "no memory for the picture");
    free(text);
    free(png);
    picture_free(&p);
    return result;
}

/* ---- input --------------------------------------------------------------------------------------- */

static json_t *inject(struct worker *w, const struct mobo_input_event *list, unsigned n,
                      struct rpc_error *e)
{
    int err = w->paused ? -EBUSY : vmb_input(w->vmb, list, n);

    switch (-err) {
    case 0: return json_pack("{s:i}", "waiting", (int)vmb_input_waiting(w->vmb));
    case EAGAIN: return refuse(e, RPC_BUSY, err, "the guest has not taken earlier input yet");
    case EBUSY: return refuse(e, RPC_FAILED, err, "the VM is paused");
    case ENODEV:
        return refuse(e, RPC_FAILED, err, "the guest uses no keyboard or mouse that takes it");
    }
    return refuse(e, RPC_PARAMS, err, "a value is out of range");
}

json_t *rpc_type(struct worker *w, json_t *params, struct rpc_error *e)
{
    enum { TEXT_MAX = 512 };
    struct mobo_input_event list[TEXT_MAX * KEYMAP_EVENTS_PER_CHAR];
    const char *text, *wrong;
    int n;

    if (!rpc_text(params, "text", NULL, &text, e))
        return NULL;
    if (!text || strlen(text) > TEXT_MAX)
        return refuse(e, RPC_PARAMS, -EINVAL,
                      text ? "'text' is longer than 512 bytes" : "'text' is missing");
    n = keymap_text(text, list, &wrong);
    if (n < 0) {
        e->code = RPC_PARAMS;
        diag_set(&e->diag, n, "no key of a US keyboard types byte 0x%02x",
                 (unsigned)(unsigned char)*wrong);
        return NULL;
    }
    return inject(w, list, (unsigned)n, e);
}

json_t *rpc_key(struct worker *w, json_t *params, struct rpc_error *e)
{
    struct mobo_input_event list[2 * KEYMAP_CHORD];
    const char *keys, *action, *wrong = NULL;
    int how, n;

    if (!rpc_text(params, "keys", NULL, &keys, e) ||
        !rpc_text(params, "action", "press", &action, e))
        return NULL;
    how = !strcmp(action, "down") ? 1 : !strcmp(action, "up") ? -1 : 0;
    if (!how && strcmp(action, "press") != 0)
        return refuse(e, RPC_PARAMS, -EINVAL, "'action' is press, down or up");
    if (!keys)
        return refuse(e, RPC_PARAMS, -EINVAL, "'keys' is missing");
    n = keymap_chord(keys, how, list, &wrong);
    if (n == -E2BIG)
        return refuse(e, RPC_PARAMS, n, "more than 8 keys");
    if (n < 0) {
        char word[32];

        snprintf(word, sizeof(word), "%.*s", (int)strcspn(wrong, "+"), wrong);
        e->code = RPC_PARAMS;
        diag_set(&e->diag, n, "no key '%s'%s", DIAG_Q(word), DID_YOU_MEAN(keymap_nearest(word)));
        return NULL;
    }
    return inject(w, list, (unsigned)n, e);
}

/* @return false: not the name of a button. */
static bool button(json_t *params, const char *key, uint32_t *ret, struct rpc_error *e)
{
    static const char *const names[] = { "left", "right", "middle", "back", "forward" };
    const char *name;

    *ret = 0;
    if (!rpc_text(params, key, NULL, &name, e))
        return false;
    for (unsigned i = 0; name && i < COUNT(names); i++)
        if (!strcmp(names[i], name))
            *ret = 1u << i;
    if (!name || *ret)
        return true;
    e->code = RPC_PARAMS;
    diag_set(&e->diag, -EINVAL, "'%s': left, right, middle, back or forward", key);
    return false;
}

json_t *rpc_pointer(struct worker *w, json_t *params, struct rpc_error *e)
{
    enum { FAR = MOBO_DISPLAY_MAX };
    struct mobo_input_event list[2] = { { .size = sizeof(list[0]), .kind = MOBO_INPUT_MOVE } };
    json_int_t x, y, dx, dy, wheel, pan;
    uint32_t down, up, click;
    unsigned width, height, n = 1;
    json_t *result;

    if (!rpc_int(params, "x", 0, FAR, -1, &x, e) || !rpc_int(params, "y", 0, FAR, -1, &y, e) ||
        !rpc_int(params, "dx", -FAR, FAR, 0, &dx, e) ||
        !rpc_int(params, "dy", -FAR, FAR, 0, &dy, e) ||
        !rpc_int(params, "wheel", -127, 127, 0, &wheel, e) ||
        !rpc_int(params, "pan", -127, 127, 0, &pan, e) || !button(params, "down", &down, e) ||
        !button(params, "up", &up, e) || !button(params, "click", &click, e))
        return NULL;
    if ((x < 0) != (y < 0) || (x >= 0 && (dx || dy)))
        return refuse(e, RPC_PARAMS, -EINVAL, "x and y, or dx and dy");
    list[0].x = (int32_t)dx;
    list[0].y = (int32_t)dy;
    if (x >= 0) {
        if (!display_size(display_find(&w->displays, NULL), &width, &height))
            return refuse(e, RPC_FAILED, -ENODATA, "there is no picture that x and y are in");
        if (x >= width || y >= height)
            return refuse(e, RPC_PARAMS, -EINVAL, "x and y are outside the picture");
        list[0].kind = MOBO_INPUT_POINT;
        list[0].x = (int32_t)((2 * x + 1) * (MOBO_POINT_MAX + 1) / (2 * width));
        list[0].y = (int32_t)((2 * y + 1) * (MOBO_POINT_MAX + 1) / (2 * height));
    }
    list[0].wheel = (int32_t)wheel;
    list[0].pan = (int32_t)pan;
    list[0].buttons = ((w->buttons | down) & ~up) | click;
    if (click) {
        list[n] = (struct mobo_input_event){ .size = sizeof(list[0]), .kind = MOBO_INPUT_MOVE };
        list[n++].buttons = list[0].buttons & ~click;
    }
    result = inject(w, list, n, e);
    if (result)
        w->buttons = list[n - 1].buttons;
    return result;
}
