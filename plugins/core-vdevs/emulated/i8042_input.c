/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys and mouse movements for the i8042, as lines of text from a character backend:
 *
 *     press KEY            down and up; several keys with '+': press leftctrl+leftalt+delete
 *     down KEY, up KEY
 *     type TEXT            as on a US keyboard; \n is enter, \t tab, \\ a backslash
 *     move DX DY [DZ]      right, down, wheel towards the user
 *     button NAME down|up  left, right, middle, side, extra
 *
 * Keys have the names of evdev in lower case.  A line that is not understood is logged.
 * Besides, the host brings keys and movements of viewers and of its control socket. */
#include "i8042.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest that one key press can put into the queue, modifiers included, times two. */
enum { ROOM = 48 };

static void complain(struct kbc *k, const char *what, const char *arg)
{
    k->host->log(k->dev, MOBO_WARNING, "input: %s '%.60s'", what, arg);
}

static void key(struct kbc *k, unsigned n, int down)
{
    ps2_kbd_key(&k->s.kbd, n, down, k->host->clock_ns(k->dev));
}

static void press(struct kbc *k, char *names)
{
    unsigned list[8], n = 0;
    char *save = NULL;

    for (char *w = strtok_r(names, "+", &save); w; w = strtok_r(NULL, "+", &save)) {
        unsigned one = ps2_key(w);

        if (!one || n == sizeof(list) / sizeof(list[0])) {
            complain(k, one ? "too many keys at" : "unknown key", w);
            return;
        }
        list[n++] = one;
    }
    for (unsigned i = 0; i < n; i++)
        key(k, list[i], 1);
    while (n--)
        key(k, list[n], 0);
}

static void button(struct kbc *k, const char *name, const char *how)
{
    static const char *const names[] = { "left", "right", "middle", "side", "extra" };

    for (unsigned i = 0; i < 5; i++)
        if (!strcmp(name, names[i]) && (!strcmp(how, "down") || !strcmp(how, "up"))) {
            ps2_mouse_buttons(&k->s.mouse, 1u << i, *how == 'd');
            return;
        }
    complain(k, "not a button and down or up:", name);
}

static void line(struct kbc *k)
{
    char *text = k->in.line, word[32], arg[160], end;
    int dx, dy, dz = 0, n, down;

    if (!strncmp(text, "type ", 5)) {
        k->in.typing = 1;
        k->in.typed = 5;
        return;
    }
    if (sscanf(text, "move %d %d %n", &dx, &dy, &n) == 2) {
        if (text[n] && sscanf(text + n, "%d %c", &dz, &end) != 1)
            complain(k, "not three numbers:", text);
        else
            ps2_mouse_move(&k->s.mouse, dx, dy, dz);
        return;
    }
    n = sscanf(text, "%31s %159s", word, arg);
    if (n < 1) /* an empty line */
        return;
    if (n == 2 && !strcmp(word, "press")) {
        press(k, arg);
    } else if (n == 2 && ((down = !strcmp(word, "down")) || !strcmp(word, "up"))) {
        if (ps2_key(arg))
            key(k, ps2_key(arg), down);
        else
            complain(k, "unknown key", arg);
    } else if (!strcmp(word, "button") && sscanf(text, "button %31s %159s", word, arg) == 2) {
        button(k, word, arg);
    } else {
        complain(k, "not understood:", text);
    }
}

static int room(const struct kbc *k)
{
    return k->s.kbd.q.nevents + ROOM <= PS2_QUEUE;
}

void kbc_input_pump(struct kbc *k)
{
    unsigned shift_key = ps2_key("leftshift");

    if (!k->in.typing)
        return;
    while (k->in.typed < k->in.len && room(k)) {
        char c = k->in.line[k->in.typed++];
        int shift = 0;
        unsigned n;

        if (c == '\\' && k->in.typed < k->in.len) {
            c = k->in.line[k->in.typed++];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        n = ps2_key_of(c, &shift);
        if (!n)
            continue;
        if (shift)
            key(k, shift_key, 1);
        key(k, n, 1);
        key(k, n, 0);
        if (shift)
            key(k, shift_key, 0);
    }
    if (k->in.typed >= k->in.len) {
        k->in.typing = 0;
        k->in.len = 0;
    }
}

/* Another click would be lost.  Not while the port is off: who knows for how long. */
static int clicks_wait(const struct kbc *k)
{
    return kbc_mouse_on(k) && ps2_mouse_behind(&k->s.mouse);
}

void kbc_input_ready(struct kbc *k)
{
    if ((k->starved && room(k)) || (k->mouse_starved && !clicks_wait(k))) {
        k->starved = k->starved && !room(k);
        k->mouse_starved = k->mouse_starved && clicks_wait(k);
        k->host->input_ready(k->input);
    }
    if (!k->in.waiting || k->in.typing || !room(k))
        return;
    k->in.waiting = 0;
    k->host->char_ready(k->chr);
}

static uint32_t input_can_read(void *self)
{
    struct kbc *k = self;

    /* byte by byte: the end of a line decides whether there may be more */
    if (!k->in.typing && room(k))
        return 1;
    k->in.waiting = 1;
    return 0;
}

static void input_read(void *self, const uint8_t *buf, uint32_t len)
{
    struct kbc *k = self;

    for (uint32_t i = 0; i < len; i++) {
        char c = (char)buf[i];

        if (c == '\r')
            continue;
        if (c != '\n') {
            if (k->in.len < INPUT_LINE - 1)
                k->in.line[k->in.len++] = c ? c : ' ';
            else
                k->in.skip = 1;
            continue;
        }
        k->in.line[k->in.len] = 0;
        if (k->in.skip)
            complain(k, "line is too long:", k->in.line);
        else
            line(k);
        k->in.skip = 0;
        if (!k->in.typing)
            k->in.len = 0;
        kbc_work(k);
    }
}

static int host_event(void *self, const struct mobo_input_event *e)
{
    struct kbc *k = self;

    if (e->kind == MOBO_INPUT_KEY) {
        if (!room(k)) {
            k->starved = 1;
            return -EAGAIN;
        }
        key(k, ps2_key_scan(e->key), e->down != 0);
    } else if ((e->buttons & 31) != k->s.mouse.buttons && clicks_wait(k)) {
        k->mouse_starved = 1;
        return -EAGAIN;
    } else { /* the bits are MOBO_BUTTON_...; the wheel counts the other way round */
        ps2_mouse_buttons(&k->s.mouse, e->buttons & 31, 1);
        ps2_mouse_buttons(&k->s.mouse, ~e->buttons & 31, 0);
        ps2_mouse_move(&k->s.mouse, e->x, e->y, -e->wheel);
    }
    kbc_work(k);
    return 0;
}

int kbc_input_open(struct kbc *k)
{
    static const struct mobo_char_ops ops = { sizeof(ops), 0, input_can_read, input_read, NULL };
    static const struct mobo_input_ops input_ops = {
        sizeof(input_ops), 1u << MOBO_INPUT_KEY | 1u << MOBO_INPUT_MOVE, host_event
    };
    int err = k->host->char_open(k->dev, "input", &ops, k, &k->chr);

    if (!err && MOBO_HAS(k->host, input_add))
        err = k->host->input_add(k->dev, &input_ops, k, &k->input);
    return err;
}
