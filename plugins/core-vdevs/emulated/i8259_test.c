/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the i8259 device. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void init(uint8_t icw4_master, uint8_t icw4_slave)
{
    out(0x20, 0x11);
    out(0x21, 0x30);
    out(0x21, 0x04);
    out(0x21, icw4_master);
    out(0xa0, 0x11);
    out(0xa1, 0x38);
    out(0xa1, 0x02);
    out(0xa1, icw4_slave);
}

static void pulse(uint32_t line)
{
    mobo_fake_drive(f, line, 1);
    mobo_fake_drive(f, line, 0);
}

static uint32_t read_irr(uint32_t port)
{
    out(port, 0x0a);
    return in(port);
}

static uint32_t read_isr(uint32_t port)
{
    out(port, 0x0b);
    return in(port);
}

static void test_reset(void **state)
{
    (void)state;
    assert_int_equal(in(0x21), 0xff);
    assert_int_equal(in(0xa1), 0xff);
    assert_int_equal(mobo_fake_in(f, 0x4d0, 2), 0x0e00); /* as firmware sets it */
    assert_int_equal(mobo_fake_intr(f), 0);
    assert_int_equal(mobo_fake_intack(f), -1);
    assert_non_null(mobo_fake_acpi(f, MOBO_ACPI_LEGACY, 0));
}

/* How Linux finds the chip (probe_8259A). */
static void test_probe(void **state)
{
    (void)state;
    out(0xa1, 0xff);
    out(0x21, 0xfb);
    assert_int_equal(in(0x21), 0xfb);
}

static void test_elcr_masks(void **state)
{
    (void)state;
    out(0x4d0, 0xff);
    out(0x4d1, 0xff);
    assert_int_equal(in(0x4d0), 0xf8);
    assert_int_equal(in(0x4d1), 0xde);
}

static void test_edge(void **state)
{
    (void)state;
    init(0x01, 0x01);
    assert_int_equal(in(0x21), 0); /* ICW1 clears the mask */
    mobo_fake_drive(f, 1, 1);
    assert_int_equal(mobo_fake_intr(f), 1);
    assert_int_equal(read_irr(0x20), 0x02);
    assert_int_equal(mobo_fake_intack(f), 0x31);
    assert_int_equal(mobo_fake_intr(f), 0);
    assert_int_equal(read_irr(0x20), 0);
    assert_int_equal(read_isr(0x20), 0x02);
    out(0x20, 0x20);
    assert_int_equal(read_isr(0x20), 0);
    assert_int_equal(mobo_fake_intr(f), 0); /* still high: no new edge */
    mobo_fake_drive(f, 1, 0);
    mobo_fake_drive(f, 1, 1);
    assert_int_equal(mobo_fake_intr(f), 1);
}

static void test_pulse_is_kept_while_masked(void **state)
{
    (void)state;
    init(0x01, 0x01);
    out(0x21, 0xff);
    pulse(4);
    assert_int_equal(mobo_fake_intr(f), 0);
    out(0x21, 0x00);
    assert_int_equal(mobo_fake_intr(f), 1);
    assert_int_equal(mobo_fake_intack(f), 0x34);
}

static void test_level(void **state)
{
    (void)state;
    init(0x01, 0x01);
    out(0x4d1, 0x08); /* line 11 */
    mobo_fake_drive(f, 11, 1);
    assert_int_equal(mobo_fake_intack(f), 0x3b);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    assert_int_equal(mobo_fake_intr(f), 1); /* asserted still */
    mobo_fake_drive(f, 11, 0);
    assert_int_equal(mobo_fake_intr(f), 0);
    assert_int_equal(mobo_fake_intack(f), -1);
}

static void test_priority_and_nesting(void **state)
{
    (void)state;
    init(0x01, 0x01);
    pulse(5);
    pulse(12);
    pulse(1);
    assert_int_equal(mobo_fake_intack(f), 0x31);
    assert_int_equal(mobo_fake_intr(f), 0); /* lower ones wait */
    pulse(0);
    assert_int_equal(mobo_fake_intack(f), 0x30); /* a higher one does not */
    out(0x20, 0x20);
    assert_int_equal(read_isr(0x20), 0x02);
    out(0x20, 0x61); /* specific EOI of 1 */
    assert_int_equal(mobo_fake_intack(f), 0x3c);
    assert_int_equal(read_isr(0x20), 0x04);
    assert_int_equal(read_isr(0xa0), 0x10);
    pulse(8); /* the master is busy with input 2 */
    assert_int_equal(mobo_fake_intr(f), 0);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    assert_int_equal(mobo_fake_intack(f), 0x38);
    out(0xa0, 0x20);
    out(0x20, 0x20);
    assert_int_equal(mobo_fake_intack(f), 0x35);
}

static void test_special_fully_nested(void **state)
{
    (void)state;
    init(0x11, 0x01);
    pulse(12);
    assert_int_equal(mobo_fake_intack(f), 0x3c);
    pulse(3); /* below the cascade: blocked */
    assert_int_equal(mobo_fake_intr(f), 0);
    pulse(8); /* above 12 on the slave */
    assert_int_equal(mobo_fake_intack(f), 0x38);
}

static void test_special_mask(void **state)
{
    (void)state;
    init(0x01, 0x01);
    pulse(1);
    assert_int_equal(mobo_fake_intack(f), 0x31);
    pulse(6);
    assert_int_equal(mobo_fake_intr(f), 0);
    out(0x21, 0x02); /* mask the one in service */
    out(0x20, 0x68); /* special mask mode on */
    assert_int_equal(mobo_fake_intack(f), 0x36);
    out(0x20, 0x20); /* leaves the masked one alone */
    assert_int_equal(read_isr(0x20), 0x02);
    out(0x20, 0x48); /* off again */
    out(0x20, 0x20);
    assert_int_equal(read_isr(0x20), 0x00);
}

static void test_rotation(void **state)
{
    (void)state;
    init(0x01, 0x01);
    pulse(3);
    assert_int_equal(mobo_fake_intack(f), 0x33);
    out(0x20, 0xa0); /* rotate on non-specific EOI: 4 is first now */
    pulse(3);
    pulse(5);
    assert_int_equal(mobo_fake_intack(f), 0x35);
    out(0x20, 0xe5); /* rotate on specific EOI of 5 */
    pulse(6);
    assert_int_equal(mobo_fake_intack(f), 0x36);
    out(0x20, 0x66);
    out(0x20, 0xc2); /* set priority: 3 is first */
    pulse(4);
    assert_int_equal(mobo_fake_intack(f), 0x33);
}

static void test_auto_eoi(void **state)
{
    (void)state;
    init(0x03, 0x01);
    out(0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(3);
    pulse(4);
    assert_int_equal(mobo_fake_intack(f), 0x33);
    assert_int_equal(read_isr(0x20), 0);
    pulse(3);
    assert_int_equal(mobo_fake_intack(f), 0x34);
    assert_int_equal(mobo_fake_intack(f), 0x33);
}

static void test_poll(void **state)
{
    (void)state;
    init(0x01, 0x01);
    out(0x20, 0x0c);
    assert_int_equal(in(0x20), 0); /* nothing there */
    pulse(5);
    out(0x20, 0x0c);
    assert_int_equal(in(0x20), 0x85);
    assert_int_equal(read_isr(0x20), 0x20);
    assert_int_equal(mobo_fake_intr(f), 0);
}

/* During initialization nothing is requested, and lines that stay high make no edge. */
static void test_init_sequence(void **state)
{
    (void)state;
    init(0x01, 0x01);
    mobo_fake_drive(f, 3, 1);
    out(0x20, 0x11);
    assert_int_equal(mobo_fake_intr(f), 0);
    out(0x21, 0x40);
    pulse(4);
    assert_int_equal(mobo_fake_intr(f), 0);
    out(0x21, 0x04);
    out(0x21, 0x01);
    assert_int_equal(mobo_fake_intack(f), 0x44);
    assert_int_equal(mobo_fake_intack(f), -1);
    out(0x20, 0x12); /* single, no ICW4 */
    out(0x21, 0x50);
    out(0x21, 0xa5);
    assert_int_equal(in(0x21), 0xa5);
}

static void test_cascade_line_is_not_an_input(void **state)
{
    (void)state;
    init(0x01, 0x01);
    mobo_fake_drive(f, 2, 1);
    assert_int_equal(mobo_fake_intr(f), 0);
}

static void test_state(void **state)
{
    (void)state;
    init(0x01, 0x01);
    pulse(1);
    mobo_fake_intack(f);
    pulse(0);
    mobo_fake_drive(f, 10, 1);
    check_state();
    assert_int_equal(mobo_fake_intr(f), 1);
    assert_int_equal(mobo_fake_intack(f), 0x30);
}

static void test_hostile_state(void **state)
{
    (void)state;
    check_refused(10, 0, 8); /* lowest priority */
    check_refused(9, 0, 1);  /* step */
    check_refused(9, 0, 5);
    check_refused(15, 0, 0xff); /* edge/level of line 0 */
    check_refused(33 + 5, 0, 0x01);
}

static void test_monkey(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 20; seed++) {
        mobo_fake_monkey(f, seed, 2000);
        pulse(seed % 16);
        mobo_fake_intack(f);
        check_state();
    }
    check_flips();
}

static void test_inspect(void **state)
{
    char *text = mobo_fake_inspect(dev);

    (void)state;
    assert_non_null(strstr(text, "chip[0].imr"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_probe),
        T(test_elcr_masks),
        T(test_edge),
        T(test_pulse_is_kept_while_masked),
        T(test_level),
        T(test_priority_and_nesting),
        T(test_special_fully_nested),
        T(test_special_mask),
        T(test_rotation),
        T(test_auto_eoi),
        T(test_poll),
        T(test_init_sequence),
        T(test_cascade_line_is_not_an_input),
        T(test_state),
        T(test_hostile_state),
        T(test_monkey),
        T(test_inspect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
