/* SPDX-License-Identifier: BSD-2-Clause */
/* 8254 interval timer and port 0x61, as on a PC: channel 0 is interrupt line 0, channel 1 refresh,
 * channel 2 gated by port 0x61 (there is no speaker).
 * References: "82C54 CHMOS Programmable Interval Timer" (Intel 231244-006), cited as DS; port 0x61:
 * "82371AB PIIX4" (Intel 290562-001), section 4.2.5.1, cited as PIIX4.
 *
 * A channel is not stepped: what it shows is computed from the guest clock.  Only channel 0 has a
 * timer, for the rising edges of its output; edges that the host is late for are made up for. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

/* The input clock is 105/88 MHz, a twelfth of the PC's crystal and a third of the ACPI timer's. */
static uint64_t to_ticks(uint64_t ns)
{
    return ns / 88000 * 105 + ns % 88000 * 105 / 88000;
}

static uint64_t to_ns(uint64_t ticks) /* rounded up */
{
    return ticks / 105 * 88000 + (ticks % 105 * 88000 + 104) / 105;
}

enum {
    CHANNELS = 3,
    MIN_GAP_NS = 10000, /* between two interrupts made here */
    MAX_BACKLOG = 1000  /* edges to make up for */
};
#define NEVER UINT64_MAX

/* DS figure 7: control word. */
enum { CW_BCD = 0x01, RB_NO_STATUS = 0x10, RB_NO_COUNT = 0x20 };
enum { RW_LATCH = 0, RW_LSB = 1, RW_MSB = 2, RW_BOTH = 3 };
enum { STATUS_OUT = 0x80, STATUS_NULL = 0x40 };
/* PIIX4 4.2.5.1. */
enum { P61_GATE2 = 0x01, P61_WRITABLE = 0x0f, P61_REFRESH = 0x10, P61_OUT2 = 0x20 };

struct channel {
    uint8_t mode, bcd, rw;
    uint8_t second_write, second_read; /* the other byte of RW_BOTH is next */
    uint8_t low;                       /* first byte of RW_BOTH */
    uint8_t latched;                   /* latched bytes left to read: 0 to 2 */
    uint8_t status_latched, status;
    uint8_t null_count; /* DS "null count": a count waits to be loaded */
    uint8_t gate;
    uint8_t written; /* a count has been written since the control word */
    uint8_t loaded;  /* the counter has got one since */
    uint8_t running;
    uint8_t pending; /* load @cr when @pending_at comes */
    uint16_t latch;
    uint16_t cr;      /* count register */
    uint32_t n;       /* what the counter was loaded with, 1..65536 */
    uint64_t start;   /* tick at which @elapsed was right */
    uint64_t elapsed; /* ticks counted since the load */
    uint64_t pending_at;
};

struct pit_state {
    struct channel ch[CHANNELS];
    uint64_t next_edge; /* tick of the next rising edge of OUT 0 to deliver, or NEVER */
    uint32_t backlog;   /* edges of OUT 0 that were due and not delivered */
    uint8_t port61;
};

struct pit {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_irq_t irq;
    mobo_timer_t timer;
    uint8_t direct_boot;
    struct pit_state s; /* guarded by the vdev lock */
};

/* ---- counting ---------------------------------------------------------------------------------- */

static uint32_t from_bcd(uint32_t v)
{
    return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}

static uint32_t to_bcd(uint32_t v)
{
    return v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12;
}

static uint32_t count_of(const struct channel *c)
{
    uint32_t n = c->bcd ? from_bcd(c->cr) : c->cr;

    if (n == 0)
        n = c->bcd ? 10000 : 65536;
    /* DS table 6: 1 is not a count for the modes that repeat */
    return n < 2 && (c->mode == 2 || c->mode == 3) ? 2 : n;
}

static uint64_t elapsed(const struct channel *c, uint64_t now)
{
    return c->elapsed + (c->running && now > c->start ? now - c->start : 0);
}

/* Ticks for which mode 3 is high. */
static uint32_t high_ticks(uint32_t n)
{
    return (n + 1) / 2;
}

static int output(const struct channel *c, uint64_t now)
{
    uint64_t e;

    if (!c->loaded)
        return c->mode != 0;
    e = elapsed(c, now);
    switch (c->mode) {
    case 0:
    case 1: return e >= c->n;
    case 2: return !c->gate || e % c->n != c->n - 1;
    case 3: return !c->gate || e % c->n < high_ticks(c->n);
    default: return e != c->n;
    }
}

static uint16_t counter(const struct channel *c, uint64_t now)
{
    uint32_t modulus = c->bcd ? 10000 : 65536, v;
    uint64_t e = elapsed(c, now);

    if (!c->loaded)
        return c->cr;
    if (c->mode == 2) {
        v = c->n - (uint32_t)(e % c->n);
    } else if (c->mode == 3) {
        uint32_t pos = (uint32_t)(e % c->n), high = high_ticks(c->n);

        v = (c->n & ~1u) - 2 * (pos < high ? pos : pos - high);
    } else {
        v = (uint32_t)((c->n + modulus - e % modulus) % modulus);
    }
    v %= modulus;
    return (uint16_t)(c->bcd ? to_bcd(v) : v);
}

static void load(struct channel *c, uint64_t at, uint64_t begin)
{
    c->n = count_of(c);
    c->start = at;
    c->elapsed = begin;
    c->loaded = 1;
    c->pending = 0;
    c->null_count = 0;
    c->running = c->gate || c->mode == 1 || c->mode == 5;
}

/* Tick of the first rising edge of the output after @now, or NEVER. */
static uint64_t rising_after(const struct channel *c, uint64_t now)
{
    uint64_t e = elapsed(c, now), from = now > c->start ? now : c->start;

    if (!c->loaded || !c->running)
        return NEVER;
    switch (c->mode) {
    case 0:
    case 1: return e < c->n ? from + (c->n - e) : NEVER;
    case 2:
    case 3: return from + (c->n - e % c->n);
    default: return e <= c->n ? from + (c->n + 1 - e) : NEVER;
    }
}

static int repeats(const struct channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Take a waiting count over when its time has come. */
static void sync(struct pit *p, struct channel *c, uint64_t now)
{
    uint64_t at = c->pending_at, begin = 0;

    if (!c->pending || at > now)
        return;
    if (c == &p->s.ch[0] && p->s.next_edge <= at && p->s.backlog < MAX_BACKLOG)
        p->s.backlog++;
    /* DS "mode 3": a count comes into force at the end of a half cycle */
    if (c->mode == 3 && elapsed(c, at) % c->n == high_ticks(c->n))
        begin = high_ticks(count_of(c));
    load(c, at, begin);
    if (c == &p->s.ch[0])
        p->s.next_edge = rising_after(c, at);
}

/* ---- channel 0's interrupt --------------------------------------------------------------------- */

static void arm(struct pit *p, uint64_t now_ns)
{
    const struct channel *c = &p->s.ch[0];
    uint64_t at = p->s.next_edge == NEVER ? NEVER : to_ns(p->s.next_edge);

    /* a count that waits may bring the edge forward */
    if (c->pending && to_ns(c->pending_at) < at)
        at = to_ns(c->pending_at);
    if (p->s.backlog) {
        uint64_t soon = now_ns + (repeats(c) ? to_ns(c->n) / 2 : MIN_GAP_NS);

        if (soon < at)
            at = soon;
    }
    if (at == NEVER) {
        p->host->timer_cancel(p->timer);
        return;
    }
    p->host->timer_set(p->timer,
                       at > now_ns + MIN_GAP_NS || !repeats(c) ? at : now_ns + MIN_GAP_NS);
}

/* After a guest changed channel 0: nothing that was due before counts any more. */
static void restart(struct pit *p)
{
    uint64_t now_ns = p->host->clock_ns(p->dev), now = to_ticks(now_ns);

    p->host->irq_set(p->irq, output(&p->s.ch[0], now));
    p->s.backlog = 0;
    p->s.next_edge = rising_after(&p->s.ch[0], now);
    arm(p, now_ns);
}

static void pit_fired(void *self, uint64_t now_ns)
{
    struct pit *p = self;
    struct channel *c = &p->s.ch[0];
    uint64_t now = to_ticks(now_ns);

    sync(p, c, now);
    if (p->s.next_edge <= now) {
        uint64_t due = 1;

        if (repeats(c)) {
            due += (now - p->s.next_edge) / c->n;
            p->s.next_edge += due * c->n;
        } else {
            p->s.next_edge = NEVER;
        }
        p->s.backlog =
            p->s.backlog + due > MAX_BACKLOG ? MAX_BACKLOG : p->s.backlog + (uint32_t)due;
    }
    if (p->s.backlog) {
        p->s.backlog--;
        p->host->irq_set(p->irq, 0);
        p->host->irq_set(p->irq, 1);
    }
    arm(p, now_ns);
}

/* ---- registers --------------------------------------------------------------------------------- */

static uint64_t now_ticks(struct pit *p)
{
    return to_ticks(p->host->clock_ns(p->dev));
}

static void set_gate(struct pit *p, struct channel *c, uint8_t gate)
{
    uint64_t now = now_ticks(p);
    int rise = gate && !c->gate;

    sync(p, c, now);
    if (gate == c->gate)
        return;
    c->gate = gate;
    switch (c->mode) {
    case 0:
    case 4: /* DS table 5: low disables counting */
        c->elapsed = elapsed(c, now);
        c->start = now;
        c->running = gate && c->loaded && !c->second_write;
        break;
    case 1:
    case 5: /* a rising edge starts anew */
        if (rise && c->written)
            load(c, now + 1, 0);
        break;
    default: /* low stops and sets the output high, a rising edge starts anew */
        c->running = 0;
        c->pending = 0;
        if (rise && c->loaded)
            load(c, now + 1, 0);
    }
}

static void new_count(struct pit *p, struct channel *c, uint16_t val)
{
    uint64_t now = now_ticks(p);

    c->cr = val;
    c->written = 1;
    c->null_count = 1;
    switch (c->mode) {
    case 0:
    case 4: load(c, now + 1, 0); break; /* DS: loaded at the next clock pulse */
    case 1:
    case 5: /* waits for the trigger */ break;
    default:
        if (!c->loaded) {
            load(c, now + 1, 0);
        } else if (c->running) {
            /* DS "mode 2", "mode 3": the present cycle (half cycle) is finished first */
            uint64_t from = now > c->start ? now : c->start, e = elapsed(c, now) % c->n;
            uint32_t half = high_ticks(c->n);

            c->pending = 1;
            c->pending_at = from + (c->mode == 3 && e < half ? half - e : c->n - e);
        }
    }
    if (c == &p->s.ch[0]) {
        if (c->pending)
            arm(p, p->host->clock_ns(p->dev));
        else
            restart(p);
    }
}

static void latch_count(struct channel *c, uint64_t now)
{
    if (c->latched) /* DS "counter latch command": ignored until read */
        return;
    c->latch = counter(c, now);
    c->latched = c->rw == RW_BOTH ? 2 : 1;
}

static void control(struct pit *p, uint8_t val)
{
    unsigned sel = val >> 6, mode = val >> 1 & 7;
    uint64_t now = now_ticks(p);
    struct channel *c;

    if (sel == 3) { /* DS "read-back command" */
        for (unsigned i = 0; i < CHANNELS; i++) {
            c = &p->s.ch[i];
            if (!(val & 2u << i))
                continue;
            sync(p, c, now);
            if (!(val & RB_NO_COUNT))
                latch_count(c, now);
            if (!(val & RB_NO_STATUS) && !c->status_latched) {
                c->status = (uint8_t)((output(c, now) ? STATUS_OUT : 0) |
                                      (c->null_count ? STATUS_NULL : 0) | c->rw << 4 |
                                      c->mode << 1 | c->bcd);
                c->status_latched = 1;
            }
        }
        return;
    }
    c = &p->s.ch[sel];
    sync(p, c, now);
    if ((val >> 4 & 3) == RW_LATCH) {
        latch_count(c, now);
        return;
    }
    *c = (struct channel){ .mode = (uint8_t)(mode > 5 ? mode - 4 : mode),
                           .bcd = val & CW_BCD,
                           .rw = val >> 4 & 3,
                           .gate = c->gate,
                           .cr = c->cr,
                           .n = c->n,
                           .null_count = 1 };
    if (sel == 0)
        restart(p);
}

static uint8_t read_channel(struct pit *p, struct channel *c)
{
    uint64_t now = now_ticks(p);
    uint16_t val;

    sync(p, c, now);
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->latched) {
        val = c->latch;
        if (c->rw == RW_BOTH) {
            if (c->latched-- == 2)
                return (uint8_t)val;
            return (uint8_t)(val >> 8);
        }
        c->latched = 0;
    } else {
        val = counter(c, now);
    }
    if (c->rw == RW_BOTH)
        c->second_read = !c->second_read;
    return (uint8_t)(c->rw == RW_MSB || (c->rw == RW_BOTH && !c->second_read) ? val >> 8 : val);
}

static void write_channel(struct pit *p, struct channel *c, uint8_t val)
{
    sync(p, c, now_ticks(p));
    switch (c->rw) {
    case RW_LSB: new_count(p, c, val); break;
    case RW_MSB: new_count(p, c, (uint16_t)(val << 8)); break;
    case RW_BOTH:
        if (c->second_write) {
            c->second_write = 0;
            new_count(p, c, (uint16_t)(val << 8 | c->low));
            break;
        }
        c->low = val;
        c->second_write = 1;
        if (c->mode == 0) { /* DS "mode 0": the first byte stops the count, the output goes low */
            c->elapsed = 0;
            c->running = 0;
            if (c == &p->s.ch[0])
                restart(p);
        }
        break;
    default: break; /* no control word yet */
    }
}

static uint64_t pit_read(void *self, uint64_t off, uint32_t len)
{
    struct pit *p = self;

    (void)len;
    return off < CHANNELS ? read_channel(p, &p->s.ch[off]) : 0xff; /* DS table 2: no operation */
}

static void pit_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct pit *p = self;

    (void)len;
    MOBO_TRACE(p->host, p->dev, p->trace, "port 0x%02x write 0x%02x", 0x40 + (unsigned)off,
               (unsigned)val);
    if (off < CHANNELS)
        write_channel(p, &p->s.ch[off], (uint8_t)val);
    else
        control(p, (uint8_t)val);
}

static uint64_t p61_read(void *self, uint64_t off, uint32_t len)
{
    struct pit *p = self;
    uint64_t now = now_ticks(p);
    uint8_t val = p->s.port61;

    (void)off;
    (void)len;
    sync(p, &p->s.ch[2], now);
    /* refresh every 18 ticks, whatever channel 1 does */
    if (now / 18 & 1)
        val |= P61_REFRESH;
    if (output(&p->s.ch[2], now))
        val |= P61_OUT2;
    return val;
}

static void p61_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct pit *p = self;

    (void)off;
    (void)len;
    p->s.port61 = val & P61_WRITABLE;
    set_gate(p, &p->s.ch[2], val & P61_GATE2);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void pit_reset(void *self)
{
    struct pit *p = self;

    p->s = (struct pit_state){ .next_edge = NEVER };
    for (unsigned i = 0; i < CHANNELS; i++) /* DS: undefined until programmed */
        p->s.ch[i] = (struct channel){
            .mode = 3, .rw = RW_BOTH, .gate = i != 2, .n = 65536, .null_count = 1
        };
    if (p->direct_boot) {
        /* as a BIOS leaves them: the 18.2 Hz tick, and refresh */
        load(&p->s.ch[0], now_ticks(p) + 1, 0);
        p->s.ch[1].mode = 2;
        p->s.ch[1].rw = RW_LSB;
        p->s.ch[1].cr = 18;
        load(&p->s.ch[1], now_ticks(p) + 1, 0);
    }
    restart(p);
}

#define CHANNEL_FIELDS(tag, i)                                         \
    MOBO_FIELD((tag) + 0, struct pit_state, ch[i].mode),               \
        MOBO_FIELD((tag) + 1, struct pit_state, ch[i].bcd),            \
        MOBO_FIELD((tag) + 2, struct pit_state, ch[i].rw),             \
        MOBO_FIELD((tag) + 3, struct pit_state, ch[i].second_write),   \
        MOBO_FIELD((tag) + 4, struct pit_state, ch[i].second_read),    \
        MOBO_FIELD((tag) + 5, struct pit_state, ch[i].low),            \
        MOBO_FIELD((tag) + 6, struct pit_state, ch[i].latched),        \
        MOBO_FIELD((tag) + 7, struct pit_state, ch[i].status_latched), \
        MOBO_FIELD((tag) + 8, struct pit_state, ch[i].status),         \
        MOBO_FIELD((tag) + 9, struct pit_state, ch[i].null_count),     \
        MOBO_FIELD((tag) + 10, struct pit_state, ch[i].gate),          \
        MOBO_FIELD((tag) + 11, struct pit_state, ch[i].loaded),        \
        MOBO_FIELD((tag) + 12, struct pit_state, ch[i].running),       \
        MOBO_FIELD((tag) + 13, struct pit_state, ch[i].pending),       \
        MOBO_FIELD((tag) + 14, struct pit_state, ch[i].latch),         \
        MOBO_FIELD((tag) + 15, struct pit_state, ch[i].cr),            \
        MOBO_FIELD((tag) + 16, struct pit_state, ch[i].n),             \
        MOBO_FIELD((tag) + 17, struct pit_state, ch[i].start),         \
        MOBO_FIELD((tag) + 18, struct pit_state, ch[i].elapsed),       \
        MOBO_FIELD((tag) + 19, struct pit_state, ch[i].pending_at),    \
        MOBO_FIELD((tag) + 20, struct pit_state, ch[i].written)

static const struct mobo_field pit_fields[] = {
    CHANNEL_FIELDS(32, 0),
    CHANNEL_FIELDS(64, 1),
    CHANNEL_FIELDS(96, 2),
    MOBO_FIELD(1, struct pit_state, next_edge),
    MOBO_FIELD(2, struct pit_state, backlog),
    MOBO_FIELD(3, struct pit_state, port61),
};

static int pit_save(void *self, struct mobo_writer *out)
{
    struct pit *p = self;

    return p->host->save_fields(out, MOBO_ARRAY(pit_fields), &p->s);
}

static int flag(uint8_t v)
{
    return v <= 1;
}

static int pit_restore(void *self, struct mobo_reader *in)
{
    struct pit *p = self;
    struct pit_state s = p->s;
    int err = p->host->load_fields(in, MOBO_ARRAY(pit_fields), &s);
    uint64_t limit = to_ticks(INT64_MAX); /* what is added to it later fits into ns too */

    if (err)
        return err;
    for (unsigned i = 0; i < CHANNELS; i++) {
        const struct channel *c = &s.ch[i];

        if (c->mode > 5 || !flag(c->bcd) || !c->rw || c->rw > RW_BOTH || !flag(c->second_write) ||
            !flag(c->second_read) || c->latched > 2 || !flag(c->status_latched) ||
            !flag(c->null_count) || !flag(c->gate) || !flag(c->loaded) || !flag(c->running) ||
            !flag(c->pending) || !flag(c->written))
            return p->host->fail(p->dev, -EINVAL, "saved channel %u: a value is out of range", i);
        /* before a count is loaded, n is that of the mode before */
        if (c->n < 1 + (unsigned)(c->loaded && repeats(c)) || c->n > 65536 || c->start > limit ||
            c->elapsed > limit || c->pending_at > limit)
            return p->host->fail(p->dev, -EINVAL, "saved channel %u: impossible count or time", i);
    }
    if ((s.next_edge > limit && s.next_edge != NEVER) || s.backlog > MAX_BACKLOG ||
        (s.port61 & ~P61_WRITABLE))
        return p->host->fail(p->dev, -EINVAL, "saved edge or port 0x61: out of range");
    p->s = s;
    p->host->irq_set(p->irq, output(&p->s.ch[0], now_ticks(p)));
    arm(p, p->host->clock_ns(p->dev));
    return 0;
}

static void pit_inspect(void *self, struct mobo_inspect *out)
{
    struct pit *p = self;
    uint64_t now = now_ticks(p);

    for (unsigned i = 0; i < CHANNELS; i++) {
        const struct channel *c = &p->s.ch[i];
        char name[] = { 'c', 'h', 'a', 'n', 'n', 'e', 'l', (char)('0' + i), 0 };

        p->host->inspect_begin(out, name);
        p->host->inspect_uint(out, "mode", c->mode);
        p->host->inspect_uint(out, "count", c->n);
        p->host->inspect_uint(out, "counter", counter(c, now));
        p->host->inspect_uint(out, "output", (uint64_t)output(c, now));
        p->host->inspect_uint(out, "gate", c->gate);
        p->host->inspect_uint(out, "running", c->running);
        p->host->inspect_end(out);
    }
    p->host->inspect_uint(out, "port61", p->s.port61);
    p->host->inspect_uint(out, "backlog", p->s.backlog);
}

static void pit_destroy(void *self)
{
    free(self);
}

static int pit_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, pit_read, pit_write };
    static const struct mobo_io_ops p61 = { sizeof(p61), MOBO_W8, p61_read, p61_write };
    struct mobo_acpi_isa timer = { .head = { sizeof(timer), MOBO_ACPI_ISA },
                                   .name = { "TMR_" },
                                   .hid = "PNP0100",
                                   .irqs = 1,
                                   .nports = 1,
                                   .port = { { 0x40, 4 } } };
    struct mobo_acpi_isa speaker = { .head = { sizeof(speaker), MOBO_ACPI_ISA },
                                     .name = { "SPKR" },
                                     .hid = "PNP0800",
                                     .nports = 1,
                                     .port = { { 0x61, 1 } } };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct pit *p = calloc(1, sizeof(*p));
    int err;

    if (!p)
        return host->fail(dev, -ENOMEM, "out of memory");
    p->dev = dev;
    p->host = host;
    p->trace = host->trace_word(dev);
    p->direct_boot = !host->board_info(dev, &board) && board.direct_boot;
    if ((err = host->pio_add(dev, "counters", 0x40, 4, 0, &ops, p, NULL)) ||
        (err = host->pio_add(dev, "port61", 0x61, 1, 0, &p61, p, NULL)) ||
        (err = host->irq_claim(dev, 0, MOBO_IRQ_EDGE, &p->irq)) ||
        (err = host->timer_create(dev, pit_fired, p, &p->timer)) ||
        (err = host->acpi_add(dev, &timer.head)) || (err = host->acpi_add(dev, &speaker.head)))
        goto fail;
    *ret_self = p;
    return 0;
fail:
    pit_destroy(p);
    return err;
}

static const struct mobo_vdev_ops pit_ops = {
    .size = sizeof(pit_ops),
    .create = pit_create,
    .destroy = pit_destroy,
    .reset = pit_reset,
    .save = pit_save,
    .restore = pit_restore,
    .inspect = pit_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "i8254",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "8254 interval timer and port 0x61",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .param_size = sizeof(struct mobo_param),
    .ops = &pit_ops,
};
