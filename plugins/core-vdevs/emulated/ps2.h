/* SPDX-License-Identifier: BSD-2-Clause */
/* The two devices behind the i8042: PS/2 keyboard and mouse, as byte streams. */
#ifndef PS2_H
#define PS2_H

#include <stdint.h>
#include <mobo/vdev.h>

enum { PS2_QUEUE = 128, PS2_REPLIES = 16 };

/* Bytes to the controller: answers to commands go before what the user did. */
struct ps2_queue {
    uint8_t nreplies, nevents;
    uint8_t reply[PS2_REPLIES];
    uint8_t event[PS2_QUEUE];
};

void ps2_clear(struct ps2_queue *q);
void ps2_reply(struct ps2_queue *q, uint8_t val);
/** All bytes or none.  @return whether they fit. */
int ps2_event(struct ps2_queue *q, const uint8_t *buf, unsigned len);
static inline int ps2_waiting(const struct ps2_queue *q)
{
    return q->nreplies || q->nevents;
}
/** The queue must not be empty. */
uint8_t ps2_take(struct ps2_queue *q);
int ps2_queue_valid(const struct ps2_queue *q);

#define PS2_QUEUE_FIELDS(tag, type, q)                                               \
    MOBO_FIELD((tag) + 0, type, q.nreplies), MOBO_FIELD((tag) + 1, type, q.nevents), \
        MOBO_FIELD_ARRAY((tag) + 2, type, q.reply), MOBO_FIELD_ARRAY((tag) + 3, type, q.event)

/* ---- keyboard ---------------------------------------------------------------------------------- */

struct ps2_kbd {
    struct ps2_queue q;
    uint8_t command; /* waits for its argument, 0 none */
    uint8_t scanning;
    uint8_t set; /* scan code set, 1 or 2 */
    uint8_t leds;
    uint8_t rate;       /* typematic, as programmed */
    uint8_t last;       /* byte sent last, for "resend" */
    uint8_t held;       /* key that repeats, 0 none */
    uint64_t repeat_at; /* guest time of the next repetition, 0 none */
};

#define PS2_KBD_FIELDS(tag, type, k)                                                  \
    PS2_QUEUE_FIELDS(tag, type, k.q), MOBO_FIELD((tag) + 8, type, k.command),         \
        MOBO_FIELD((tag) + 9, type, k.scanning), MOBO_FIELD((tag) + 10, type, k.set), \
        MOBO_FIELD((tag) + 11, type, k.leds), MOBO_FIELD((tag) + 12, type, k.rate),   \
        MOBO_FIELD((tag) + 13, type, k.last), MOBO_FIELD((tag) + 14, type, k.held),   \
        MOBO_FIELD((tag) + 15, type, k.repeat_at)

void ps2_kbd_reset(struct ps2_kbd *k);
/** A byte from the host side. */
void ps2_kbd_write(struct ps2_kbd *k, uint8_t val);
/** Number of the key of that name ("a", "enter", "leftshift"), 0 if there is none. */
unsigned ps2_key(const char *name);
/** The key that types an ASCII character on a US layout, 0 if none; *@ret_shift: with shift. */
unsigned ps2_key_of(char c, int *ret_shift);
/** The key that has a scan code of set 1, as MOBO_INPUT_KEY gives it; 0 if none. */
unsigned ps2_key_scan(unsigned code);
void ps2_kbd_key(struct ps2_kbd *k, unsigned key, int down, uint64_t now);
/** Do what is due.  */
void ps2_kbd_repeat(struct ps2_kbd *k, uint64_t now);
int ps2_kbd_valid(const struct ps2_kbd *k);
/** A byte of scan code set 2 as the controller translates it to set 1. */
uint8_t ps2_translate(uint8_t val);

/* ---- mouse ------------------------------------------------------------------------------------- */

enum { PS2_LEFT = 1, PS2_RIGHT = 2, PS2_MIDDLE = 4, PS2_SIDE = 8, PS2_EXTRA = 16 };

struct ps2_mouse {
    struct ps2_queue q;
    uint8_t command;
    uint8_t id; /* 0, 3 with a wheel, 4 with a wheel and five buttons */
    uint8_t reporting, remote, wrap, scale2;
    uint8_t resolution, rate;
    uint8_t knock[2]; /* the last two sample rates: they unlock the other identities */
    uint8_t last;
    uint8_t buttons, sent_buttons;
    int32_t dx, dy, dz; /* moved and not reported */
};

#define PS2_MOUSE_FIELDS(tag, type, m)                                                      \
    PS2_QUEUE_FIELDS(tag, type, m.q), MOBO_FIELD((tag) + 8, type, m.command),               \
        MOBO_FIELD((tag) + 9, type, m.id), MOBO_FIELD((tag) + 10, type, m.reporting),       \
        MOBO_FIELD((tag) + 11, type, m.remote), MOBO_FIELD((tag) + 12, type, m.wrap),       \
        MOBO_FIELD((tag) + 13, type, m.scale2), MOBO_FIELD((tag) + 14, type, m.resolution), \
        MOBO_FIELD((tag) + 15, type, m.rate), MOBO_FIELD_ARRAY((tag) + 16, type, m.knock),  \
        MOBO_FIELD((tag) + 17, type, m.last), MOBO_FIELD((tag) + 18, type, m.buttons),      \
        MOBO_FIELD((tag) + 19, type, m.sent_buttons), MOBO_FIELD((tag) + 20, type, m.dx),   \
        MOBO_FIELD((tag) + 21, type, m.dy), MOBO_FIELD((tag) + 22, type, m.dz)

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t val);
/** @dy counts downwards, as screens do; @dz towards the user. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz);
void ps2_mouse_buttons(struct ps2_mouse *m, unsigned mask, int down);
/** Put a packet into the queue when there is news and room. */
void ps2_mouse_report(struct ps2_mouse *m);
/** Whether a change of buttons waits to be reported: another one would hide it. */
int ps2_mouse_behind(const struct ps2_mouse *m);
int ps2_mouse_valid(const struct ps2_mouse *m);

#endif
