/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the i8042 device share; see i8042.c. */
#ifndef I8042_H
#define I8042_H

#include "ps2.h"

enum { KBC_REPLIES = 8, INPUT_LINE = 512 };

struct kbc_state {
    uint8_t status;  /* without the lock bit, which is always 1 */
    uint8_t data;    /* output buffer */
    uint8_t command; /* waits for its argument, 0 none */
    uint8_t outport;
    uint8_t break_prefix;        /* 0x80 after a break prefix that is being translated */
    uint8_t nreplies, reply_aux; /* of the controller itself; bit n of reply_aux: the mouse's */
    uint8_t reply[KBC_REPLIES];
    uint8_t ram[32];    /* byte 0 is the command byte */
    uint64_t next_byte; /* guest time from which on a device's byte may arrive */
    struct ps2_kbd kbd;
    struct ps2_mouse mouse;
};

/* Input on its way from the backend; host side, not saved. */
struct kbc_input {
    char line[INPUT_LINE];
    unsigned len, typed; /* of `type TEXT`: what has been typed */
    uint8_t typing, waiting;
    uint8_t skip; /* the line is too long */
};

struct kbc {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_irq_t irq_kbd, irq_aux;
    mobo_timer_t timer;
    mobo_char_t chr;
    mobo_input_t input; /* NULL: the host has none */
    uint8_t direct_boot, warned, starved, mouse_starved;
    struct kbc_input in; /* guarded by the vdev lock, as is: */
    struct kbc_state s;
};

int kbc_input_open(struct kbc *k);
/** Whether bytes of the mouse reach the guest. */
int kbc_mouse_on(const struct kbc *k);
/** Go on typing when there is room in the keyboard's queue. */
void kbc_input_pump(struct kbc *k);
/** Fetch more input when it was held up and there is room. */
void kbc_input_ready(struct kbc *k);
/** Something new may be in the queues. */
void kbc_work(struct kbc *k);

#endif
