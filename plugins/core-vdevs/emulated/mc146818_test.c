/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the mc146818 device. */
#include "plugins/test.h"

#define MS  UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

static int setup(void **state)
{
    const char *params[] = { "date=2026-02-28T23:59:58", NULL };

    (void)state;
    return plug(params);
}

static unsigned get(unsigned reg)
{
    out(0x70, reg);
    return in(0x71);
}

static void put(unsigned reg, unsigned val)
{
    out(0x70, reg);
    out(0x71, val);
}

static void expect_date(unsigned y, unsigned mon, unsigned d, unsigned h, unsigned m, unsigned s)
{
    assert_int_equal(get(0x32) << 8 | get(9), y);
    assert_int_equal(get(8), mon);
    assert_int_equal(get(7), d);
    assert_int_equal(get(4), h);
    assert_int_equal(get(2), m);
    assert_int_equal(get(0), s);
}

static void test_reset(void **state)
{
    const struct mobo_acpi_legacy *legacy;

    (void)state;
    assert_int_equal(get(10), 0x26);
    assert_int_equal(get(11), 0x02);
    assert_int_equal(get(12), 0x00);
    assert_int_equal(get(13), 0x80);
    assert_int_equal(in(0x70), 0xff);
    legacy = (const void *)mobo_fake_acpi(f, MOBO_ACPI_LEGACY, 0);
    assert_int_equal(legacy->rtc_century, 0x32);
}

static void test_runs(void **state)
{
    (void)state;
    expect_date(0x2026, 0x02, 0x28, 0x23, 0x59, 0x58);
    assert_int_equal(get(6), 7); /* a Saturday */
    mobo_fake_step(f, SEC - 1);
    expect_date(0x2026, 0x02, 0x28, 0x23, 0x59, 0x58);
    mobo_fake_step(f, 1);
    expect_date(0x2026, 0x02, 0x28, 0x23, 0x59, 0x59);
    mobo_fake_step(f, SEC);
    expect_date(0x2026, 0x03, 0x01, 0x00, 0x00, 0x00);
    assert_int_equal(get(6), 1);
    mobo_fake_step(f, 86400 * 365 * SEC);
    expect_date(0x2027, 0x03, 0x01, 0x00, 0x00, 0x00);
}

static void test_wall_clock(void **state)
{
    (void)state;
    mobo_fake_destroy(f);
    f = mobo_fake_create();
    mobo_fake_wall(f, INT64_C(951782399) * (int64_t)SEC + 750000000); /* 2000-02-28 23:59:59.75 */
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "rtc", NULL);
    expect_date(0x2000, 0x02, 0x28, 0x23, 0x59, 0x59);
    mobo_fake_step(f, 250 * MS);
    expect_date(0x2000, 0x02, 0x29, 0x00, 0x00, 0x00);
}

static void test_bad_date(void **state)
{
    static const char *const bad[] = { "date=2026-02-29", "date=2026-13-01",
                                       "date=yesterday",  "date=2026-01-01T24:00:00",
                                       "date=1969-12-31", "date=2026-01-01x" };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *params[] = { bad[i], NULL };
        struct mobo_fake *other = mobo_fake_create();

        assert_null(mobo_fake_add(other, &mobo_vdev_descriptor, "rtc", params));
        assert_non_null(strstr(mobo_fake_error(other), "is not a date"));
        mobo_fake_destroy(other);
    }
}

static void test_formats(void **state)
{
    (void)state;
    put(11, 0x00); /* 12 hours */
    assert_int_equal(get(4), 0x91);
    put(11, 0x06); /* binary, 24 hours */
    expect_date(20 << 8 | 26, 2, 28, 23, 59, 58);
    put(11, 0x04); /* binary, 12 hours */
    assert_int_equal(get(4), 0x8b);
    mobo_fake_step(f, 2 * SEC);
    assert_int_equal(get(4), 12); /* midnight */
}

static void test_setting(void **state)
{
    (void)state;
    put(11, 0x82);
    put(0, 0x30);
    put(2, 0x15);
    put(4, 0x12);
    put(7, 0x31);
    put(8, 0x12);
    put(9, 0x99);
    put(0x32, 0x19);
    put(6, 3);
    mobo_fake_step(f, 10 * SEC);
    assert_int_equal(get(0), 0x30); /* stands still */
    assert_int_equal(get(10) & 0x80, 0);
    put(11, 0x02);
    expect_date(0x1999, 0x12, 0x31, 0x12, 0x15, 0x30);
    assert_int_equal(get(6), 3); /* whatever day that really was */
    mobo_fake_step(f, 12 * 3600 * SEC);
    expect_date(0x2000, 0x01, 0x01, 0x00, 0x15, 0x30);
    assert_int_equal(get(6), 4);
    /* without SET, too */
    put(2, 0x44);
    expect_date(0x2000, 0x01, 0x01, 0x00, 0x44, 0x30);
}

/* mc146818_set_time() of Linux; the first update comes half a second after. */
static void test_divider(void **state)
{
    (void)state;
    mobo_fake_step(f, 300 * MS);
    put(11, 0x82);
    put(10, 0x76);
    put(0, 0x10);
    put(11, 0x02);
    mobo_fake_step(f, 5 * SEC);
    assert_int_equal(get(0), 0x10);
    put(10, 0x26);
    mobo_fake_step(f, 499 * MS);
    assert_int_equal(get(0), 0x10);
    mobo_fake_step(f, 2 * MS);
    assert_int_equal(get(0), 0x11);
}

static void test_update_in_progress(void **state)
{
    (void)state;
    assert_int_equal(get(10) & 0x80, 0);
    mobo_fake_step(f, SEC - 2300000);
    assert_int_equal(get(10) & 0x80, 0);
    mobo_fake_step(f, 100000);
    assert_int_equal(get(10) & 0x80, 0x80);
    mobo_fake_step(f, 2200000);
    assert_int_equal(get(10) & 0x80, 0);
    assert_int_equal(get(0), 0x59);
}

static void test_update_interrupt(void **state)
{
    (void)state;
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX);
    put(11, 0x12);
    mobo_fake_step(f, SEC - 1);
    assert_int_equal(mobo_fake_line(f, 8), 0);
    mobo_fake_step(f, 1);
    assert_int_equal(mobo_fake_line(f, 8), 1);
    mobo_fake_step(f, 3 * SEC);
    assert_int_equal(mobo_fake_edges(f, 8), 1); /* until register C is read */
    assert_int_equal(get(12) & 0x90, 0x90);
    assert_int_equal(mobo_fake_line(f, 8), 0);
    assert_int_equal(get(12), 0);
    mobo_fake_step(f, SEC);
    assert_int_equal(mobo_fake_line(f, 8), 1);
    put(11, 0x92); /* SET clears UIE */
    assert_int_equal(get(11), 0x82);
    assert_int_equal(mobo_fake_line(f, 8), 0);
}

static void test_periodic_interrupt(void **state)
{
    unsigned n = 0;

    (void)state;
    put(11, 0x42);
    for (unsigned i = 0; i < 2000; i++) {
        mobo_fake_step(f, SEC / 2000);
        if (mobo_fake_line(f, 8)) {
            assert_int_equal(get(12) & 0xc0, 0xc0);
            n++;
        }
    }
    assert_in_range(n, 1023, 1025);
    put(10, 0x2f); /* 2 Hz */
    get(12);
    n = mobo_fake_edges(f, 8);
    for (unsigned i = 0; i < 40; i++) {
        mobo_fake_step(f, SEC / 4);
        get(12);
    }
    assert_in_range(mobo_fake_edges(f, 8) - n, 19, 21);
    put(10, 0x20); /* no rate */
    get(12);
    mobo_fake_step(f, SEC);
    assert_int_equal(mobo_fake_line(f, 8), 0);
}

/* Polled, with no interrupt enabled. */
static void test_flags_without_interrupt(void **state)
{
    (void)state;
    get(12);
    mobo_fake_step(f, MS);
    assert_int_equal(get(12), 0x40);
    mobo_fake_step(f, SEC);
    assert_int_equal(get(12), 0x50);
    assert_int_equal(mobo_fake_edges(f, 8), 0);
}

static void test_alarm(void **state)
{
    (void)state;
    put(1, 0x03);
    put(3, 0x00);
    put(5, 0x00);
    put(11, 0x22);
    assert_int_equal(mobo_fake_next_timer(f), 5 * SEC);
    mobo_fake_step(f, 5 * SEC - 1);
    assert_int_equal(mobo_fake_line(f, 8), 0);
    mobo_fake_step(f, 1);
    assert_int_equal(mobo_fake_line(f, 8), 1);
    assert_int_equal(get(12) & 0xa0, 0xa0);
    mobo_fake_step(f, 86400 * SEC);
    assert_int_equal(get(12) & 0xa0, 0xa0);
    /* every minute */
    put(3, 0xff);
    put(5, 0xc0);
    mobo_fake_step(f, 59 * SEC);
    assert_int_equal(mobo_fake_line(f, 8), 0);
    mobo_fake_step(f, SEC);
    assert_int_equal(mobo_fake_line(f, 8), 1);
    /* never */
    put(1, 0x61);
    get(12);
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX);
}

static void test_memory_sizes(void **state)
{
    struct mobo_board_info info = { .size = sizeof(info),
                                    .vps = 4,
                                    .generation = 1,
                                    .ram_below_4g = UINT64_C(3) << 30,
                                    .ram_above_4g = UINT64_C(5) << 30 };
    unsigned sum = 0;

    (void)state;
    mobo_fake_destroy(f);
    f = mobo_fake_create();
    mobo_fake_board(f, &info);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "rtc", NULL);
    assert_int_equal(get(0x15) | get(0x16) << 8, 640);
    assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
    assert_int_equal(get(0x30) | get(0x31) << 8, 0xffff);
    assert_int_equal(get(0x34) | get(0x35) << 8, (0xc0000000u - 0x1000000) / 65536);
    assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, (UINT64_C(5) << 30) / 65536);
    assert_int_equal(get(0x5f), 3);
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += get(i);
    assert_int_equal(get(0x2e) << 8 | get(0x2f), sum);
}

static void test_ram_and_nmi_bit(void **state)
{
    (void)state;
    put(0x7f, 0x5a);
    put(0x80 | 0x40, 0xa5); /* bit 7 is no part of the index */
    assert_int_equal(get(0x40), 0xa5);
    assert_int_equal(get(0x7f), 0x5a);
    mobo_fake_reset(f);
    assert_int_equal(get(0x40), 0xa5); /* the battery */
    assert_int_equal(get(0), 0x58);
    put(13, 0);
    assert_int_equal(get(13), 0x80);
}

static void test_state(void **state)
{
    (void)state;
    put(11, 0x72);
    mobo_fake_step(f, 3 * SEC + 123456789);
    check_state();
    assert_int_equal(mobo_fake_line(f, 8), 1);
    assert_int_equal(get(0), 0x01);
    check_refused(1, 10, 0x80);
    check_refused(1, 12, 0x80);
    check_refused(1, 13, 0x00);
    check_refused(3, 7, 0x80);
    check_refused(6, 0, 7);
    put(11, 0x82);
    check_state();
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
    for (unsigned i = 0; i < 14; i++) {
        put(i, 0xff);
        check_state();
    }
    put(11, 0x77);
    mobo_fake_step(f, 1000 * SEC);
    free(mobo_fake_inspect(dev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_runs),
        T(test_wall_clock),
        T(test_bad_date),
        T(test_formats),
        T(test_setting),
        T(test_divider),
        T(test_update_in_progress),
        T(test_update_interrupt),
        T(test_periodic_interrupt),
        T(test_flags_without_interrupt),
        T(test_alarm),
        T(test_memory_sizes),
        T(test_ram_and_nmi_bit),
        T(test_state),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
