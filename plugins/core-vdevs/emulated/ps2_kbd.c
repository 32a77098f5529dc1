/* SPDX-License-Identifier: BSD-2-Clause */
/* PS/2 keyboard with 104 keys, scan code sets 1 and 2.
 * References: "IBM PS/2 Hardware Interface Technical Reference", keyboards section, cited as IBM;
 * "Keyboard Scan Code Specification" (Microsoft, revision 1.3a), appendix C, for codes. */
#include "ps2.h"

#include <string.h>

/* ---- queue, shared with the mouse ----------------------------------------------------------------- */

void ps2_clear(struct ps2_queue *q)
{
    q->nreplies = q->nevents = 0;
    memset(q->reply, 0, sizeof(q->reply));
    memset(q->event, 0, sizeof(q->event));
}

void ps2_reply(struct ps2_queue *q, uint8_t val)
{
    if (q->nreplies < PS2_REPLIES)
        q->reply[q->nreplies++] = val;
}

int ps2_event(struct ps2_queue *q, const uint8_t *buf, unsigned len)
{
    if (len > PS2_QUEUE - (unsigned)q->nevents)
        return 0;
    memcpy(q->event + q->nevents, buf, len);
    q->nevents = (uint8_t)(q->nevents + len);
    return 1;
}

uint8_t ps2_take(struct ps2_queue *q)
{
    uint8_t val;

    if (q->nreplies) {
        val = q->reply[0];
        memmove(q->reply, q->reply + 1, --q->nreplies);
    } else {
        val = q->event[0];
        memmove(q->event, q->event + 1, --q->nevents);
    }
    return val;
}

int ps2_queue_valid(const struct ps2_queue *q)
{
    return q->nreplies <= PS2_REPLIES && q->nevents <= PS2_QUEUE;
}

/* ---- keys --------------------------------------------------------------------------------------- */

enum { EXT = 0x100 };                  /* the code follows 0xe0 */
enum { KEY_PAUSE = 1, KEY_PRINT = 2 }; /* whose codes are sequences; index + 1 in keys[] */

/* Names are those of evdev, in lower case and without KEY_; codes of set 2. */
static const struct {
    const char *name;
    uint16_t code;
    char plain, shifted; /* what it types on a US layout */
} keys[] = {
    { "pause", 0, 0, 0 },
    { "sysrq", 0, 0, 0 },
    { "esc", 0x76, 27, 0 },
    { "f1", 0x05, 0, 0 },
    { "f2", 0x06, 0, 0 },
    { "f3", 0x04, 0, 0 },
    { "f4", 0x0c, 0, 0 },
    { "f5", 0x03, 0, 0 },
    { "f6", 0x0b, 0, 0 },
    { "f7", 0x83, 0, 0 },
    { "f8", 0x0a, 0, 0 },
    { "f9", 0x01, 0, 0 },
    { "f10", 0x09, 0, 0 },
    { "f11", 0x78, 0, 0 },
    { "f12", 0x07, 0, 0 },
    { "grave", 0x0e, '`', '~' },
    { "1", 0x16, '1', '!' },
    { "2", 0x1e, '2', '@' },
    { "3", 0x26, '3', '#' },
    { "4", 0x25, '4', '$' },
    { "5", 0x2e, '5', '%' },
    { "6", 0x36, '6', '^' },
    { "7", 0x3d, '7', '&' },
    { "8", 0x3e, '8', '*' },
    { "9", 0x46, '9', '(' },
    { "0", 0x45, '0', ')' },
    { "minus", 0x4e, '-', '_' },
    { "equal", 0x55, '=', '+' },
    { "backspace", 0x66, '\b', 0 },
    { "tab", 0x0d, '\t', 0 },
    { "q", 0x15, 'q', 'Q' },
    { "w", 0x1d, 'w', 'W' },
    { "e", 0x24, 'e', 'E' },
    { "r", 0x2d, 'r', 'R' },
    { "t", 0x2c, 't', 'T' },
    { "y", 0x35, 'y', 'Y' },
    { "u", 0x3c, 'u', 'U' },
    { "i", 0x43, 'i', 'I' },
    { "o", 0x44, 'o', 'O' },
    { "p", 0x4d, 'p', 'P' },
    { "leftbrace", 0x54, '[', '{' },
    { "rightbrace", 0x5b, ']', '}' },
    { "backslash", 0x5d, '\\', '|' },
    { "capslock", 0x58, 0, 0 },
    { "a", 0x1c, 'a', 'A' },
    { "s", 0x1b, 's', 'S' },
    { "d", 0x23, 'd', 'D' },
    { "f", 0x2b, 'f', 'F' },
    { "g", 0x34, 'g', 'G' },
    { "h", 0x33, 'h', 'H' },
    { "j", 0x3b, 'j', 'J' },
    { "k", 0x42, 'k', 'K' },
    { "l", 0x4b, 'l', 'L' },
    { "semicolon", 0x4c, ';', ':' },
    { "apostrophe", 0x52, '\'', '"' },
    { "enter", 0x5a, '\n', 0 },
    { "leftshift", 0x12, 0, 0 },
    { "102nd", 0x61, 0, 0 },
    { "z", 0x1a, 'z', 'Z' },
    { "x", 0x22, 'x', 'X' },
    { "c", 0x21, 'c', 'C' },
    { "v", 0x2a, 'v', 'V' },
    { "b", 0x32, 'b', 'B' },
    { "n", 0x31, 'n', 'N' },
    { "m", 0x3a, 'm', 'M' },
    { "comma", 0x41, ',', '<' },
    { "dot", 0x49, '.', '>' },
    { "slash", 0x4a, '/', '?' },
    { "rightshift", 0x59, 0, 0 },
    { "leftctrl", 0x14, 0, 0 },
    { "leftmeta", EXT | 0x1f, 0, 0 },
    { "leftalt", 0x11, 0, 0 },
    { "space", 0x29, ' ', 0 },
    { "rightalt", EXT | 0x11, 0, 0 },
    { "rightmeta", EXT | 0x27, 0, 0 },
    { "compose", EXT | 0x2f, 0, 0 },
    { "rightctrl", EXT | 0x14, 0, 0 },
    { "scrolllock", 0x7e, 0, 0 },
    { "insert", EXT | 0x70, 0, 0 },
    { "home", EXT | 0x6c, 0, 0 },
    { "pageup", EXT | 0x7d, 0, 0 },
    { "delete", EXT | 0x71, 0, 0 },
    { "end", EXT | 0x69, 0, 0 },
    { "pagedown", EXT | 0x7a, 0, 0 },
    { "up", EXT | 0x75, 0, 0 },
    { "left", EXT | 0x6b, 0, 0 },
    { "down", EXT | 0x72, 0, 0 },
    { "right", EXT | 0x74, 0, 0 },
    { "numlock", 0x77, 0, 0 },
    { "kpslash", EXT | 0x4a, 0, 0 },
    { "kpasterisk", 0x7c, 0, 0 },
    { "kpminus", 0x7b, 0, 0 },
    { "kpplus", 0x79, 0, 0 },
    { "kpenter", EXT | 0x5a, 0, 0 },
    { "kpdot", 0x71, 0, 0 },
    { "kp0", 0x70, 0, 0 },
    { "kp1", 0x69, 0, 0 },
    { "kp2", 0x72, 0, 0 },
    { "kp3", 0x7a, 0, 0 },
    { "kp4", 0x6b, 0, 0 },
    { "kp5", 0x73, 0, 0 },
    { "kp6", 0x74, 0, 0 },
    { "kp7", 0x6c, 0, 0 },
    { "kp8", 0x75, 0, 0 },
    { "kp9", 0x7d, 0, 0 },
};
enum { NKEYS = sizeof(keys) / sizeof(keys[0]) };

unsigned ps2_key(const char *name)
{
    for (unsigned i = 0; i < NKEYS; i++)
        if (!strcmp(keys[i].name, name))
            return i + 1;
    return 0;
}

unsigned ps2_key_of(char c, int *ret_shift)
{
    for (unsigned i = 0; c && i < NKEYS; i++)
        if (keys[i].plain == c || keys[i].shifted == c) {
            *ret_shift = keys[i].plain != c;
            return i + 1;
        }
    return 0;
}

/* IBM, "8042 keyboard controller": codes of set 2 to set 1; from 0x80 on all but two stay. */
static const uint8_t set1[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

uint8_t ps2_translate(uint8_t val)
{
    return val < 128 ? set1[val] : val == 0x83 ? 0x41 : val == 0x84 ? 0x54 : val;
}

unsigned ps2_key_scan(unsigned code)
{
    if (code == MOBO_KEY_PAUSE)
        return KEY_PAUSE;
    if (code == (MOBO_KEY_E0 | 0x37))
        return KEY_PRINT;
    for (unsigned i = KEY_PRINT; i < NKEYS; i++)
        if (ps2_translate((uint8_t)keys[i].code) == (code & 0x7f) &&
            !(keys[i].code & EXT) == !(code & MOBO_KEY_E0))
            return i + 1;
    return 0;
}

/* Codes of a key in set 2.  @return their number, 0 when there is nothing to send. */
static unsigned codes(unsigned key, int down, uint8_t *buf)
{
    static const uint8_t pause[8] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
    static const uint8_t print[4] = { 0xe0, 0x12, 0xe0, 0x7c };
    static const uint8_t print_up[6] = { 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12 };
    unsigned n = 0;

    if (key == KEY_PAUSE) { /* all at once, nothing when let go */
        memcpy(buf, pause, sizeof(pause));
        return down ? sizeof(pause) : 0;
    }
    if (key == KEY_PRINT) {
        if (down)
            memcpy(buf, print, sizeof(print));
        else
            memcpy(buf, print_up, sizeof(print_up));
        return down ? sizeof(print) : sizeof(print_up);
    }
    if (keys[key - 1].code & EXT)
        buf[n++] = 0xe0;
    if (!down)
        buf[n++] = 0xf0;
    buf[n++] = (uint8_t)keys[key - 1].code;
    return n;
}

static int send_key(struct ps2_kbd *k, unsigned key, int down)
{
    uint8_t buf[8], out[8];
    unsigned n = codes(key, down, buf), m = 0, up = 0;

    if (k->set == 2)
        return ps2_event(&k->q, buf, n);
    for (unsigned i = 0; i < n; i++) {
        if (buf[i] == 0xf0) {
            up = 0x80;
            continue;
        }
        out[m++] = (uint8_t)(ps2_translate(buf[i]) | up);
        up = 0;
    }
    return ps2_event(&k->q, out, m);
}

/* IBM, "set typematic rate/delay". */
static uint64_t repeat_delay(const struct ps2_kbd *k)
{
    return ((k->rate >> 5 & 3) + 1) * UINT64_C(250000000);
}

static uint64_t repeat_period(const struct ps2_kbd *k)
{
    return (8 + (k->rate & 7u)) * (UINT64_C(1) << (k->rate >> 3 & 3)) * 4170000;
}

void ps2_kbd_key(struct ps2_kbd *k, unsigned key, int down, uint64_t now)
{
    if (!key || key > NKEYS || !k->scanning)
        return;
    if (down && key != KEY_PAUSE) {
        k->held = (uint8_t)key;
        k->repeat_at = now + repeat_delay(k);
    } else if (!down && key == k->held) {
        k->held = 0;
        k->repeat_at = 0;
    }
    if (!send_key(k, key, down) && k->q.nevents < PS2_QUEUE) { /* IBM: overrun */
        uint8_t overrun = k->set == 1 ? 0xff : 0x00;

        ps2_event(&k->q, &overrun, 1);
    }
}

void ps2_kbd_repeat(struct ps2_kbd *k, uint64_t now)
{
    if (!k->held || !k->repeat_at || now < k->repeat_at)
        return;
    /* not faster than the guest reads */
    if (k->scanning && k->q.nevents < 16)
        send_key(k, k->held, 1);
    k->repeat_at = now + repeat_period(k);
}

/* ---- commands ----------------------------------------------------------------------------------- */

enum {
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SET = 0xf0,
    CMD_IDENTIFY = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_ALL_FIRST = 0xf7,
    CMD_ALL_LAST = 0xfa,
    CMD_KEY_FIRST = 0xfb,
    CMD_KEY_LAST = 0xfd,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_OK = 0xaa,
    RATE_DEFAULT = 0x2b
};

static void defaults(struct ps2_kbd *k)
{
    k->q.nevents = 0;
    k->command = 0;
    k->set = 2;
    k->rate = RATE_DEFAULT;
    k->held = 0;
    k->repeat_at = 0;
}

void ps2_kbd_reset(struct ps2_kbd *k)
{
    ps2_clear(&k->q);
    defaults(k);
    k->leds = 0;
    k->last = 0;
    k->scanning = 1;
}

/* Arguments of CMD_LEDS, CMD_SET, CMD_RATE and CMD_KEY_... */
static void argument(struct ps2_kbd *k, uint8_t val)
{
    uint8_t cmd = k->command;

    k->command = 0;
    switch (cmd) {
    case CMD_LEDS:
        k->leds = val & 7;
        ps2_reply(&k->q, ACK);
        break;
    case CMD_RATE:
        k->rate = val & 0x7f;
        ps2_reply(&k->q, ACK);
        break;
    case CMD_SET:
        if (val == 0) {
            ps2_reply(&k->q, ACK);
            ps2_reply(&k->q, k->set);
        } else if (val <= 2) {
            k->set = val;
            k->q.nevents = 0;
            ps2_reply(&k->q, ACK);
        } else { /* set 3 is not offered */
            ps2_reply(&k->q, RESEND);
        }
        break;
    default: /* key types, which only set 3 knows */ ps2_reply(&k->q, ACK);
    }
}

void ps2_kbd_write(struct ps2_kbd *k, uint8_t val)
{
    if (k->command && val < CMD_LEDS) {
        argument(k, val);
        return;
    }
    k->command = 0; /* IBM: another command ends one that waits */
    if (val == CMD_RESEND) {
        ps2_reply(&k->q, k->last);
        return;
    }
    if (val == CMD_ECHO) {
        ps2_reply(&k->q, CMD_ECHO);
        return;
    }
    if (val < CMD_LEDS || val == 0xef || val == 0xf1) {
        ps2_reply(&k->q, RESEND);
        return;
    }
    ps2_reply(&k->q, ACK);
    switch (val) {
    case CMD_LEDS:
    case CMD_SET:
    case CMD_RATE: k->command = val; break;
    case CMD_IDENTIFY:
        ps2_reply(&k->q, 0xab);
        ps2_reply(&k->q, 0x83);
        break;
    case CMD_ENABLE:
        k->q.nevents = 0;
        k->scanning = 1;
        break;
    case CMD_DISABLE:
        defaults(k);
        k->scanning = 0;
        break;
    case CMD_DEFAULTS: defaults(k); break;
    case CMD_RESET:
        ps2_kbd_reset(k);
        ps2_reply(&k->q, ACK);
        ps2_reply(&k->q, SELF_TEST_OK);
        break;
    default:
        if (val >= CMD_KEY_FIRST && val <= CMD_KEY_LAST)
            k->command = val;
    }
}

int ps2_kbd_valid(const struct ps2_kbd *k)
{
    return ps2_queue_valid(&k->q) && k->scanning <= 1 && (k->set == 1 || k->set == 2) &&
           k->leds <= 7 && k->rate <= 0x7f && k->held <= NKEYS && !k->held == !k->repeat_at;
}
