/* SPDX-License-Identifier: BSD-2-Clause */
/* PS/2 mouse, with the wheel and five-button extensions.
 * References: "IBM PS/2 Hardware Interface Technical Reference", mouse section, cited as IBM; the
 * extensions' sample-rate sequences: "Wheel support" (Microsoft, 1998). */
#include "ps2.h"

#include <string.h>

enum {
    CMD_SCALE1 = 0xe6,
    CMD_SCALE2 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ = 0xeb,
    CMD_UNWRAP = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_OK = 0xaa
};
enum { MAX_MOVE = 255, MAX_HELD = 1 << 16 };

static void defaults(struct ps2_mouse *m)
{
    m->q.nevents = 0;
    m->command = 0;
    m->reporting = m->remote = m->wrap = m->scale2 = 0;
    m->resolution = 2;
    m->rate = 100;
    m->knock[0] = m->knock[1] = 0;
    m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    uint8_t held = m->buttons;

    ps2_clear(&m->q);
    defaults(m);
    m->id = 0;
    m->last = 0;
    m->buttons = m->sent_buttons = held;
}

static int32_t clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* IBM, "data report"; the fourth byte is the wheel extension's. */
static unsigned packet(struct ps2_mouse *m, uint8_t *buf)
{
    int32_t dx = clamp(m->dx, -MAX_MOVE, MAX_MOVE), dy = clamp(m->dy, -MAX_MOVE, MAX_MOVE);
    int32_t dz = clamp(m->dz, -8, 7), up = -dy;

    m->dx -= dx;
    m->dy -= dy;
    m->dz -= dz;
    m->sent_buttons = m->buttons;
    buf[0] = (uint8_t)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (up < 0 ? 0x20 : 0));
    buf[1] = (uint8_t)dx;
    buf[2] = (uint8_t)up;
    if (m->id == 0) {
        m->dz = 0;
        return 3;
    }
    buf[3] = (uint8_t)dz;
    if (m->id == 4)
        buf[3] = (uint8_t)((dz & 0x0f) | (m->buttons & PS2_SIDE ? 0x10 : 0) |
                           (m->buttons & PS2_EXTRA ? 0x20 : 0));
    return 4;
}

static int reports(const struct ps2_mouse *m)
{
    return m->reporting && !m->remote && !m->wrap;
}

int ps2_mouse_behind(const struct ps2_mouse *m)
{
    return reports(m) && m->buttons != m->sent_buttons;
}

void ps2_mouse_report(struct ps2_mouse *m)
{
    uint8_t buf[4];

    /* movements add up until the last packet is on its way */
    while (reports(m) && m->q.nevents <= 8 &&
           (m->dx || m->dy || (m->dz && m->id) || m->buttons != m->sent_buttons))
        ps2_event(&m->q, buf, packet(m, buf));
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz)
{
    if (!m->reporting && !m->remote)
        return;
    m->dx = clamp(m->dx + clamp(dx, -MAX_HELD, MAX_HELD), -MAX_HELD, MAX_HELD);
    m->dy = clamp(m->dy + clamp(dy, -MAX_HELD, MAX_HELD), -MAX_HELD, MAX_HELD);
    m->dz = clamp(m->dz + clamp(dz, -MAX_HELD, MAX_HELD), -MAX_HELD, MAX_HELD);
    ps2_mouse_report(m);
}

void ps2_mouse_buttons(struct ps2_mouse *m, unsigned mask, int down)
{
    m->buttons = (uint8_t)((down ? m->buttons | mask : m->buttons & ~mask) & 0x1f);
    ps2_mouse_report(m);
}

static void set_rate(struct ps2_mouse *m, uint8_t val)
{
    /* 200, 100, 80 asks for the wheel, 200, 200, 80 for five buttons */
    if (val == 80 && m->knock[0] == 200 && m->knock[1] == 100)
        m->id = 3;
    else if (val == 80 && m->knock[0] == 200 && m->knock[1] == 200 && m->id == 3)
        m->id = 4;
    m->knock[0] = m->knock[1];
    m->knock[1] = val;
    m->rate = val;
}

static void status(struct ps2_mouse *m)
{
    ps2_reply(&m->q,
              (uint8_t)((m->remote ? 0x40 : 0) | (m->reporting ? 0x20 : 0) |
                        (m->scale2 ? 0x10 : 0) | (m->buttons & PS2_LEFT ? 4 : 0) |
                        (m->buttons & PS2_MIDDLE ? 2 : 0) | (m->buttons & PS2_RIGHT ? 1 : 0)));
    ps2_reply(&m->q, m->resolution);
    ps2_reply(&m->q, m->rate);
}

static void command(struct ps2_mouse *m, uint8_t val)
{
    uint8_t buf[4];
    unsigned n;

    ps2_reply(&m->q, ACK);
    switch (val) {
    case CMD_SCALE1: m->scale2 = 0; break;
    case CMD_SCALE2: m->scale2 = 1; break;
    case CMD_RESOLUTION:
    case CMD_RATE: m->command = val; break;
    case CMD_STATUS: status(m); break;
    case CMD_STREAM: m->remote = 0; break;
    case CMD_READ:
        n = packet(m, buf);
        for (unsigned i = 0; i < n; i++)
            ps2_reply(&m->q, buf[i]);
        break;
    case CMD_UNWRAP: m->wrap = 0; break;
    case CMD_WRAP: m->wrap = 1; break;
    case CMD_REMOTE: m->remote = 1; break;
    case CMD_ID: ps2_reply(&m->q, m->id); break;
    case CMD_ENABLE: m->reporting = 1; break;
    case CMD_DISABLE:
        m->reporting = 0;
        m->q.nevents = 0;
        break;
    case CMD_DEFAULTS: defaults(m); break;
    case CMD_RESET:
        ps2_mouse_reset(m);
        ps2_reply(&m->q, ACK);
        ps2_reply(&m->q, SELF_TEST_OK);
        ps2_reply(&m->q, 0);
        break;
    default: m->q.reply[m->q.nreplies - 1] = RESEND; break;
    }
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t val)
{
    if (m->wrap && val != CMD_UNWRAP && val != CMD_RESET) {
        ps2_reply(&m->q, val);
        return;
    }
    if (m->command) {
        uint8_t cmd = m->command;

        m->command = 0;
        if (cmd == CMD_RATE)
            set_rate(m, val);
        else
            m->resolution = val & 3;
        ps2_reply(&m->q, ACK);
        return;
    }
    if (val == CMD_RESEND) {
        ps2_reply(&m->q, m->last);
        return;
    }
    /* a command drops answers that nobody fetched, so that there is always room */
    m->q.nreplies = 0;
    command(m, val);
    ps2_mouse_report(m);
}

int ps2_mouse_valid(const struct ps2_mouse *m)
{
    return ps2_queue_valid(&m->q) && (m->id == 0 || m->id == 3 || m->id == 4) &&
           m->reporting <= 1 && m->remote <= 1 && m->wrap <= 1 && m->scale2 <= 1 &&
           m->resolution <= 3 && m->buttons <= 0x1f && m->sent_buttons <= 0x1f &&
           m->dx >= -MAX_HELD && m->dx <= MAX_HELD && m->dy >= -MAX_HELD && m->dy <= MAX_HELD &&
           m->dz >= -MAX_HELD && m->dz <= MAX_HELD;
}
