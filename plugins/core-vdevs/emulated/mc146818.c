/* SPDX-License-Identifier: BSD-2-Clause */
/* MC146818A real-time clock with 128 bytes of CMOS RAM, as wired on a PC (ports 0x70 and 0x71,
 * interrupt line 8).
 * References: "MC146818A Real-Time Clock plus RAM" (Motorola, 1984), cited as DS; layout of the RAM
 * as the firmware of PCs keeps it.
 *
 * The date starts from the host's clock and runs on guest time, so it stands still with the VM.
 * Nothing ticks: registers and flags are computed when somebody looks, and a timer runs only for an
 * interrupt that is enabled. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <mobo/vdev.h>

/* DS figure 13: address map. */
enum {
    REG_SEC = 0,
    REG_SEC_ALARM = 1,
    REG_MIN = 2,
    REG_MIN_ALARM = 3,
    REG_HOUR = 4,
    REG_HOUR_ALARM = 5,
    REG_DOW = 6,
    REG_DAY = 7,
    REG_MONTH = 8,
    REG_YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,
    REG_CENTURY = 0x32,
    NBYTES = 128
};
enum {
    A_UIP = 0x80,
    A_DV = 0x70,
    A_DV_RUN = 0x20,
    A_RS = 0x0f,
    B_SET = 0x80,
    B_PIE = 0x40,
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_SQWE = 0x08,
    B_BINARY = 0x04,
    B_24H = 0x02,
    B_ENABLES = B_PIE | B_AIE | B_UIE,
    C_IRQF = 0x80,
    D_VALID = 0x80,
    HOUR_PM = 0x80,
    ALARM_ANY = 0xc0
};

#define SECOND     INT64_C(1000000000)
/* DS table 3 and figure 15: an update takes 1984 us and is announced 244 us before. */
#define UPDATE_NS  INT64_C(2228000)
/* DS "divider control": the first update comes half a second after the divider is released. */
#define RELEASE_NS (SECOND / 2)

#define LAST_DATE INT64_C(253402300799) /* 9999-12-31 23:59:59 */

struct rtc_state {
    uint8_t ram[NBYTES]; /* time registers are right only while the clock does not run */
    uint8_t index;       /* with bit 7: NMI off */
    int64_t sec;         /* while it runs: seconds since 1970 shown at @ref */
    int64_t ref;         /* guest time at which a second began */
    int64_t checked;     /* guest time up to which the flags of register C are right */
    uint8_t dow_shift;   /* day of the week shown less that of the calendar, 0..6 */
};

struct rtc {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_irq_t irq;
    mobo_timer_t timer;
    struct rtc_state s; /* guarded by the vdev lock */
};

/* ---- calendar ---------------------------------------------------------------------------------- */

static const uint8_t month_days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

static int leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days from 1970-01-01 to the first of January of year @y, 1..9999. */
static int64_t days_to_year(int64_t y)
{
    int64_t p = y - 1;

    return p * 365 + p / 4 - p / 100 + p / 400 - 719162;
}

static int64_t to_seconds(int64_t y, unsigned mon, unsigned day, unsigned h, unsigned m, unsigned s)
{
    int64_t days = days_to_year(y);

    for (unsigned i = 1; i < mon; i++)
        days += month_days[i - 1] + (i == 2 && leap(y));
    return (days + day - 1) * 86400 + h * 3600 + m * 60 + s;
}

struct date {
    int64_t year;
    unsigned mon, day, dow, hour, min, sec; /* dow 0: Sunday */
};

static struct date to_date(int64_t t)
{
    struct date d;
    int64_t days, left;

    if (t < 0)
        t = 0;
    days = t / 86400;
    left = t % 86400;
    d.hour = (unsigned)(left / 3600);
    d.min = (unsigned)(left / 60 % 60);
    d.sec = (unsigned)(left % 60);
    d.dow = (unsigned)((days + 4) % 7);
    d.year = 1970 + days / 366;
    while (days_to_year(d.year + 1) <= days)
        d.year++;
    days -= days_to_year(d.year);
    for (d.mon = 1;; d.mon++) {
        unsigned n = month_days[d.mon - 1] + (d.mon == 2 && leap(d.year));

        if (days < n)
            break;
        days -= n;
    }
    d.day = (unsigned)days + 1;
    return d;
}

/* ---- registers as numbers ---------------------------------------------------------------------- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->s.ram[REG_B] & B_BINARY ? v : v % 10 | v / 10 % 10 << 4);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->s.ram[REG_B] & B_BINARY ? v : (v & 15u) + (v >> 4) * 10u;
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->s.ram[REG_B] & B_24H)
        return encode(r, h);
    return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    unsigned h;

    if (r->s.ram[REG_B] & B_24H)
        return decode(r, v);
    h = decode(r, v & (uint8_t)~HOUR_PM) % 12;
    return v & HOUR_PM ? h + 12 : h;
}

static int64_t now_ns(struct rtc *r)
{
    return (int64_t)r->host->clock_ns(r->dev);
}

static int dividing(const struct rtc *r)
{
    return (r->s.ram[REG_A] & A_DV) == A_DV_RUN;
}

static int running(const struct rtc *r)
{
    return dividing(r) && !(r->s.ram[REG_B] & B_SET);
}

static int64_t since_ref(const struct rtc *r, int64_t t)
{
    return t > r->s.ref ? t - r->s.ref : 0;
}

static int64_t shown(const struct rtc *r, int64_t now)
{
    int64_t t = r->s.sec + since_ref(r, now) / SECOND;

    return t > LAST_DATE ? t % LAST_DATE : t;
}

/* Write the date into the time registers. */
static void show(struct rtc *r, int64_t now)
{
    struct date d = to_date(shown(r, now));
    uint8_t *ram = r->s.ram;

    ram[REG_SEC] = encode(r, d.sec);
    ram[REG_MIN] = encode(r, d.min);
    ram[REG_HOUR] = encode_hour(r, d.hour);
    ram[REG_DOW] = encode(r, (d.dow + r->s.dow_shift) % 7 + 1);
    ram[REG_DAY] = encode(r, d.day);
    ram[REG_MONTH] = encode(r, d.mon);
    ram[REG_YEAR] = encode(r, (unsigned)(d.year % 100));
    ram[REG_CENTURY] = encode(r, (unsigned)(d.year / 100));
}

/* Take the date over from the time registers; what is no date becomes the nearest one. */
static void set_date(struct rtc *r)
{
    const uint8_t *ram = r->s.ram;
    unsigned mon = decode(r, ram[REG_MONTH]), day = decode(r, ram[REG_DAY]), dow;
    unsigned sec = decode(r, ram[REG_SEC]), min = decode(r, ram[REG_MIN]);
    unsigned hour = decode_hour(r, ram[REG_HOUR]), last;
    unsigned century = decode(r, ram[REG_CENTURY]);
    int64_t year;

    if (century < 19 || century > 99)
        century = 20;
    year = century * 100 + decode(r, ram[REG_YEAR]) % 100;
    if (year < 1970)
        year += 100;
    mon = mon < 1 ? 1 : mon > 12 ? 12 : mon;
    last = month_days[mon - 1] + (mon == 2 && leap(year));
    day = day < 1 ? 1 : day > last ? last : day;
    r->s.sec =
        to_seconds(year, mon, day, hour > 23 ? 23 : hour, min > 59 ? 59 : min, sec > 59 ? 59 : sec);
    dow = decode(r, ram[REG_DOW]);
    r->s.dow_shift = dow >= 1 && dow <= 7 ? (uint8_t)((dow + 6 - to_date(r->s.sec).dow) % 7) : 0;
}

/* ---- flags and interrupts ---------------------------------------------------------------------- */

/* Length of the periodic interrupt's period in 1/32768 s, 0 for none.  DS table 5. */
static int64_t period(const struct rtc *r)
{
    unsigned rs = r->s.ram[REG_A] & A_RS;

    if (!rs || !dividing(r))
        return 0;
    return 1 << (rs <= 2 ? rs + 6 : rs - 1);
}

static int64_t to_32k(int64_t ns)
{
    return ns / SECOND * 32768 + ns % SECOND * 32768 / SECOND;
}

static int64_t from_32k(int64_t t) /* rounded up */
{
    return t / 32768 * SECOND + (t % 32768 * SECOND + 32767) / 32768;
}

static int alarm_byte(const struct rtc *r, unsigned reg, uint8_t now)
{
    return r->s.ram[reg] >= ALARM_ANY || r->s.ram[reg] == now;
}

/* Seconds from @t (exclusive) to the next match of the alarm, 0 if there is none within a day. */
static unsigned next_alarm(const struct rtc *r, int64_t t)
{
    unsigned from = (unsigned)(t % 86400), left = 1;

    while (left <= 86400) {
        unsigned at = (from + left) % 86400;

        if (!alarm_byte(r, REG_HOUR_ALARM, encode_hour(r, at / 3600)))
            left += 3600 - at % 3600;
        else if (!alarm_byte(r, REG_MIN_ALARM, encode(r, at / 60 % 60)))
            left += 60 - at % 60;
        else if (!alarm_byte(r, REG_SEC_ALARM, encode(r, at % 60)))
            left++;
        else
            return left;
    }
    return 0;
}

/* Set the flags of what happened since the last look. */
static void catch_up(struct rtc *r, int64_t now)
{
    int64_t old = since_ref(r, r->s.checked), new = since_ref(r, now), p = period(r);

    if (now <= r->s.checked)
        return;
    if (p && to_32k(old) / p != to_32k(new) / p)
        r->s.ram[REG_C] |= B_PIE;
    if (running(r) && old / SECOND != new / SECOND) {
        int64_t secs = new / SECOND - old / SECOND;
        unsigned alarm = next_alarm(r, shown(r, r->s.checked));

        r->s.ram[REG_C] |= B_UIE;
        if (alarm && alarm <= secs)
            r->s.ram[REG_C] |= B_AIE;
    }
    r->s.checked = now;
}

/* The line is a function of the state; the timer waits for the next flag that would raise it. */
static void update_irq(struct rtc *r)
{
    int64_t now = r->s.checked, at = INT64_MAX, t, p = period(r);
    uint8_t b = r->s.ram[REG_B];
    int level = (b & r->s.ram[REG_C] & B_ENABLES) != 0;

    r->host->irq_set(r->irq, level);
    if (level || !(b & B_ENABLES)) {
        r->host->timer_cancel(r->timer);
        return;
    }
    if ((b & B_PIE) && p)
        at = r->s.ref + from_32k((to_32k(since_ref(r, now)) / p + 1) * p);
    if ((b & (B_UIE | B_AIE)) && running(r)) {
        unsigned wait = b & B_UIE ? 1 : next_alarm(r, shown(r, now));

        t = r->s.ref + (since_ref(r, now) / SECOND + wait) * SECOND;
        if (wait && t < at)
            at = t;
    }
    if (at == INT64_MAX)
        r->host->timer_cancel(r->timer);
    else
        r->host->timer_set(r->timer, (uint64_t)at);
}

static void rtc_fired(void *self, uint64_t now)
{
    struct rtc *r = self;

    catch_up(r, (int64_t)now);
    update_irq(r);
}

/* ---- ports ------------------------------------------------------------------------------------- */

static int is_time(unsigned reg)
{
    return reg == REG_SEC || reg == REG_MIN || reg == REG_HOUR ||
           (reg >= REG_DOW && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint64_t rtc_read(void *self, uint64_t off, uint32_t len)
{
    struct rtc *r = self;
    unsigned reg = r->s.index & 0x7f;
    int64_t now = now_ns(r);
    uint8_t val;

    (void)len;
    if (off == 0)
        return 0xff; /* the index cannot be read */
    catch_up(r, now);
    if (is_time(reg) && running(r))
        show(r, now);
    val = r->s.ram[reg];
    switch (reg) {
    case REG_A:
        if (running(r) && since_ref(r, now) % SECOND >= SECOND - UPDATE_NS)
            val |= A_UIP;
        break;
    case REG_C: /* DS "register C": reading clears all flags */
        if (r->s.ram[REG_B] & val & B_ENABLES)
            val |= C_IRQF;
        r->s.ram[REG_C] = 0;
        update_irq(r);
        break;
    }
    MOBO_TRACE(r->host, r->dev, r->trace, "register 0x%02x read 0x%02x", reg, val);
    return val;
}

/* Registers A and B decide whether the clock runs. */
static void write_control(struct rtc *r, unsigned reg, uint8_t val, int64_t now)
{
    int was_running = running(r), was_dividing = dividing(r);

    if (was_running)
        show(r, now);
    if (reg == REG_A) {
        r->s.ram[REG_A] = val & (uint8_t)~A_UIP;
    } else {
        if (val & B_SET) /* DS "SET" */
            val &= (uint8_t)~B_UIE;
        r->s.ram[REG_B] = val;
    }
    if (!was_dividing && dividing(r))
        r->s.ref = now - RELEASE_NS;
    if (!was_running && running(r)) {
        if (was_dividing)
            r->s.ref += since_ref(r, now) / SECOND * SECOND;
        set_date(r);
    } else if (was_running && running(r)) {
        /* a change of the format: the date itself is what it was */
        r->s.sec = shown(r, now);
        r->s.ref += since_ref(r, now) / SECOND * SECOND;
    }
}

static void rtc_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct rtc *r = self;
    unsigned reg = r->s.index & 0x7f;
    int64_t now = now_ns(r);

    (void)len;
    if (off == 0) {
        r->s.index = (uint8_t)val;
        return;
    }
    MOBO_TRACE(r->host, r->dev, r->trace, "register 0x%02x write 0x%02x", reg, (unsigned)val);
    catch_up(r, now);
    switch (reg) {
    case REG_A:
    case REG_B: write_control(r, reg, (uint8_t)val, now); break;
    case REG_C:
    case REG_D: return;
    default:
        if (!is_time(reg) || !running(r)) {
            r->s.ram[reg] = (uint8_t)val;
            break;
        }
        show(r, now);
        r->s.ram[reg] = (uint8_t)val;
        r->s.ref += since_ref(r, now) / SECOND * SECOND;
        set_date(r);
    }
    update_irq(r);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void put16(struct rtc *r, unsigned reg, uint64_t val)
{
    r->s.ram[reg] = (uint8_t)val;
    r->s.ram[reg + 1] = (uint8_t)(val >> 8);
}

static uint64_t at_most(uint64_t v, uint64_t max)
{
    return v < max ? v : max;
}

/* What setup would have left in the RAM. */
static void fill_ram(struct rtc *r)
{
    struct mobo_board_info board = { .size = sizeof(board) };
    uint64_t low, high, kb;
    unsigned sum = 0;

    r->s.ram[REG_A] = A_DV_RUN | 6; /* 1024 Hz */
    r->s.ram[REG_B] = B_24H;
    r->s.ram[REG_D] = D_VALID;
    if (r->host->board_info(r->dev, &board))
        return;
    low = board.ram_below_4g;
    high = board.ram_above_4g;
    r->s.ram[0x14] = 0x06; /* equipment: coprocessor, pointing device; no floppy drives */
    kb = low > 0x100000 ? (low - 0x100000) / 1024 : 0;
    put16(r, 0x15, at_most(low / 1024, 640));
    put16(r, 0x17, at_most(kb, 0xffff)); /* KiB from 1 MiB on */
    put16(r, 0x30, at_most(kb, 0xffff));
    put16(r, 0x34, at_most(low > 0x1000000 ? (low - 0x1000000) / 65536 : 0, 0xffff));
    r->s.ram[0x5b] = (uint8_t)(high >> 16); /* 64 KiB units from 4 GiB on */
    r->s.ram[0x5c] = (uint8_t)(high >> 24);
    r->s.ram[0x5d] = (uint8_t)(high >> 32);
    r->s.ram[0x5f] = (uint8_t)(board.vps - 1);
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += r->s.ram[i];
    r->s.ram[0x2e] = (uint8_t)(sum >> 8);
    r->s.ram[0x2f] = (uint8_t)sum;
}

/* "YYYY-MM-DD" or "YYYY-MM-DDTHH:MM:SS".  @return 0 or -1. */
static int parse_date(const char *text, int64_t *ret)
{
    unsigned y, mon, day, h = 0, m = 0, s = 0;
    int n = 0;
    size_t len = strlen(text);

    if (len == 10) {
        if (sscanf(text, "%4u-%2u-%2u%n", &y, &mon, &day, &n) != 3)
            return -1;
    } else if (sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u%n", &y, &mon, &day, &h, &m, &s, &n) != 6) {
        return -1;
    }
    if ((size_t)n != len || y < 1970 || y > 9999 || mon < 1 || mon > 12 || day < 1 ||
        day > month_days[mon - 1] + (unsigned)(mon == 2 && leap(y)) || h > 23 || m > 59 || s > 59)
        return -1;
    *ret = to_seconds(y, mon, day, h, m, s);
    return 0;
}

static void start_clock(struct rtc *r)
{
    const char *date = r->host->param_str(r->dev, "date");
    int64_t wall = r->host->wall_ns(r->dev), now = now_ns(r);

    r->s.ref = r->s.checked = now;
    if (date) {
        parse_date(date, &r->s.sec);
    } else {
        r->s.sec = wall > 0 ? wall / SECOND : 0;
        r->s.ref -= wall > 0 ? wall % SECOND : 0;
        if (!strcmp(r->host->param_str(r->dev, "zone"), "local")) {
            time_t t = (time_t)r->s.sec;
            struct tm tm;

            if (localtime_r(&t, &tm))
                r->s.sec =
                    to_seconds(tm.tm_year + 1900, (unsigned)tm.tm_mon + 1, (unsigned)tm.tm_mday,
                               (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
                               tm.tm_sec > 59 ? 59 : (unsigned)tm.tm_sec);
        }
    }
    show(r, now);
}

static int rtc_power_on(void *self)
{
    struct rtc *r = self;

    fill_ram(r);
    start_clock(r);
    return 0;
}

/* DS "RESET": interrupts off; the battery keeps the rest. */
static void rtc_reset(void *self)
{
    struct rtc *r = self;

    catch_up(r, now_ns(r));
    r->s.ram[REG_B] &= (uint8_t) ~(B_ENABLES | B_SQWE);
    r->s.ram[REG_C] = 0;
    r->s.index = 0;
    update_irq(r);
}

static const struct mobo_field rtc_fields[] = {
    MOBO_FIELD_ARRAY(1, struct rtc_state, ram), MOBO_FIELD(2, struct rtc_state, index),
    MOBO_FIELD(3, struct rtc_state, sec),       MOBO_FIELD(4, struct rtc_state, ref),
    MOBO_FIELD(5, struct rtc_state, checked),   MOBO_FIELD(6, struct rtc_state, dow_shift),
};

static int rtc_save(void *self, struct mobo_writer *out)
{
    struct rtc *r = self;

    return r->host->save_fields(out, MOBO_ARRAY(rtc_fields), &r->s);
}

static int rtc_restore(void *self, struct mobo_reader *in)
{
    struct rtc *r = self;
    struct rtc_state s = r->s;
    int err = r->host->load_fields(in, MOBO_ARRAY(rtc_fields), &s);
    int64_t limit = INT64_MAX / 4;

    if (err)
        return err;
    if ((s.ram[REG_A] & A_UIP) || (s.ram[REG_C] & ~B_ENABLES) || s.ram[REG_D] != D_VALID ||
        s.dow_shift > 6)
        return r->host->fail(r->dev, -EINVAL, "saved registers: impossible bits");
    if (s.sec < 0 || s.sec > LAST_DATE || s.ref > limit || s.ref < -limit || s.checked > limit ||
        s.checked < 0)
        return r->host->fail(r->dev, -EINVAL, "saved date: out of range");
    r->s = s;
    update_irq(r);
    return 0;
}

static void rtc_inspect(void *self, struct mobo_inspect *out)
{
    struct rtc *r = self;
    char text[40];

    if (running(r)) {
        struct date d = to_date(shown(r, now_ns(r)));

        snprintf(text, sizeof(text), "%04lld-%02u-%02uT%02u:%02u:%02u", (long long)d.year, d.mon,
                 d.day, d.hour, d.min, d.sec);
        r->host->inspect_str(out, "date", text);
    }
    r->host->inspect_fields(out, MOBO_ARRAY(rtc_fields), &r->s);
}

static void rtc_destroy(void *self)
{
    free(self);
}

static int rtc_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, rtc_read, rtc_write };
    struct mobo_acpi_isa node = { .head = { sizeof(node), MOBO_ACPI_ISA },
                                  .name = { "RTC_" },
                                  .hid = "PNP0B00",
                                  .irqs = 1 << 8,
                                  .nports = 1,
                                  .port = { { 0x70, 2 } } };
    struct mobo_acpi_legacy legacy = { .head = { sizeof(legacy), MOBO_ACPI_LEGACY },
                                       .flags = MOBO_ACPI_HAS_RTC,
                                       .rtc_century = REG_CENTURY };
    struct rtc *r = calloc(1, sizeof(*r));
    const char *date = host->param_str(dev, "date");
    int64_t unused;
    int err;

    if (!r)
        return host->fail(dev, -ENOMEM, "out of memory");
    r->dev = dev;
    r->host = host;
    r->trace = host->trace_word(dev);
    r->s.ram[REG_D] = D_VALID;
    if (date && parse_date(date, &unused)) {
        err = host->fail(dev, -EINVAL,
                         "date: '%s' is not a date from 1970 on, YYYY-MM-DD or "
                         "YYYY-MM-DDTHH:MM:SS",
                         date);
        goto fail;
    }
    if ((err = host->pio_add(dev, "registers", 0x70, 2, 0, &ops, r, NULL)) ||
        (err = host->irq_claim(dev, 8, MOBO_IRQ_EDGE, &r->irq)) ||
        (err = host->timer_create(dev, rtc_fired, r, &r->timer)) ||
        (err = host->acpi_add(dev, &node.head)) || (err = host->acpi_add(dev, &legacy.head)))
        goto fail;
    *ret_self = r;
    return 0;
fail:
    rtc_destroy(r);
    return err;
}

static const struct mobo_param rtc_params[] = {
    { .name = "zone",
      .kind = MOBO_CHOICE,
      .def = "utc",
      .choices = "utc|local",
      .help = "What the clock shows at power-on: UTC, or the host's local time" },
    { .name = "date",
      .kind = MOBO_STRING,
      .max = 19,
      .help = "Start from this date instead: YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS" },
};

static const struct mobo_vdev_ops rtc_ops = {
    .size = sizeof(rtc_ops),
    .create = rtc_create,
    .destroy = rtc_destroy,
    .power_on = rtc_power_on,
    .reset = rtc_reset,
    .save = rtc_save,
    .restore = rtc_restore,
    .inspect = rtc_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "mc146818",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "MC146818A real-time clock with 128 bytes of CMOS RAM",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .params = MOBO_ARRAY(rtc_params),
    .ops = &rtc_ops,
};
