/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the uart16550 device. */
#include "plugins/test.h"

#define P 0x3f8

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void send(const char *text)
{
    mobo_fake_char_send(dev, 0, text, (uint32_t)strlen(text));
}

static const char *sent(void)
{
    static char buf[4096];

    buf[mobo_fake_char_recv(dev, 0, buf, sizeof(buf) - 1)] = 0;
    return buf;
}

static void test_reset(void **state)
{
    const struct mobo_acpi_isa *desc = (const void *)mobo_fake_acpi(f, MOBO_ACPI_ISA, 0);

    (void)state;
    assert_int_equal(in(P + 1), 0);
    assert_int_equal(in(P + 2), 0x01);
    assert_int_equal(in(P + 3), 0);
    assert_int_equal(in(P + 4), 0);
    assert_int_equal(in(P + 5), 0x60);
    assert_int_equal(in(P + 6), 0xb0);
    assert_memory_equal(desc->name, "COM1", 4);
    assert_int_equal(desc->irqs, 1 << 4);
    assert_int_equal(desc->port[0].base, P);
}

static void test_masks(void **state)
{
    (void)state;
    out(P + 1, 0xff);
    assert_int_equal(in(P + 1), 0x0f);
    out(P + 4, 0xff);
    assert_int_equal(in(P + 4), 0x1f);
    out(P + 7, 0xa5);
    assert_int_equal(in(P + 7), 0xa5);
    out(P + 3, 0xff);
    assert_int_equal(in(P + 3), 0xff);
    out(P, 0x34);
    out(P + 1, 0x12);
    assert_int_equal(in(P), 0x34);
    assert_int_equal(in(P + 1), 0x12);
    out(P + 3, 0x03);
    assert_int_equal(in(P + 1), 0x0f);
}

/* autoconfig() and autoconfig_16550a() of Linux. */
static void test_linux_detection(void **state)
{
    (void)state;
    out(P + 1, 0);
    assert_int_equal(in(P + 1) & 0x0f, 0);
    out(P + 1, 0x0f);
    assert_int_equal(in(P + 1) & 0x0f, 0x0f);
    out(P + 1, 0);
    out(P + 4, 0x1a); /* loop, OUT2, RTS */
    assert_int_equal(in(P + 6) & 0xf0, 0x90);
    out(P + 4, 0);
    out(P + 3, 0xbf);
    out(P + 2, 0); /* EFR elsewhere */
    out(P + 3, 0);
    out(P + 2, 0x01);
    assert_int_equal(in(P + 2) >> 6, 3); /* a FIFO that works */
    out(P + 3, 0x80);
    assert_int_not_equal(in(P + 2), 0);
    out(P + 3, 0xbf);
    assert_int_not_equal(in(P + 2), 0);
    out(P + 3, 0);
    out(P + 2, 0x21);
    assert_int_equal(in(P + 2) & 0x20, 0); /* no 64 byte FIFO */
    out(P + 1, 0x40);
    assert_int_equal(in(P + 1) & 0x40, 0); /* no XScale */
    /* serial8250_do_startup(): enabling the THRE interrupt raises it every time */
    for (int i = 0; i < 2; i++) {
        out(P + 1, 0x02);
        assert_int_equal(in(P + 2) & 0x0f, 0x02);
        out(P + 1, 0);
    }
}

static void test_transmit(void **state)
{
    (void)state;
    out(P + 4, 0x08);
    out(P, 'h');
    assert_int_equal(in(P + 5), 0x60);
    out(P, 'i');
    assert_string_equal(sent(), "hi");
}

static void test_thre_interrupt(void **state)
{
    (void)state;
    out(P + 1, 0x02);
    assert_int_equal(mobo_fake_line(f, 4), 0); /* OUT2 is off */
    out(P + 4, 0x08);
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(in(P + 2), 0x02);
    assert_int_equal(mobo_fake_line(f, 4), 0); /* reading IIR clears it */
    assert_int_equal(in(P + 2), 0x01);
    out(P, 'x');
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(mobo_fake_edges(f, 4), 2);
    out(P + 1, 0);
    assert_int_equal(mobo_fake_line(f, 4), 0);
}

/* A driver that writes the next character without having read IIR gets the next interrupt too. */
static void test_thre_edges(void **state)
{
    (void)state;
    out(P + 4, 0x08);
    out(P + 1, 0x02);
    assert_int_equal(mobo_fake_edges(f, 4), 1);
    for (unsigned i = 2; i < 5; i++) {
        out(P, 'a');
        assert_int_equal(mobo_fake_line(f, 4), 1);
        assert_int_equal(mobo_fake_edges(f, 4), i);
    }
}

static void test_back_pressure(void **state)
{
    (void)state;
    out(P + 2, 0x01);
    out(P + 4, 0x08);
    out(P + 1, 0x02);
    in(P + 2);
    mobo_fake_char_room(dev, 0, 3);
    for (int i = 0; i < 10; i++)
        out(P, 'a' + (uint32_t)i);
    assert_string_equal(sent(), "abc");
    assert_int_equal(in(P + 5) & 0x60, 0); /* the rest waits */
    assert_int_equal(mobo_fake_line(f, 4), 0);
    mobo_fake_char_room(dev, 0, UINT32_MAX);
    assert_string_equal(sent(), "defghij");
    assert_int_equal(in(P + 5) & 0x60, 0x60);
    assert_int_equal(mobo_fake_line(f, 4), 1);
    /* more than the FIFO holds overwrites the last */
    mobo_fake_char_room(dev, 0, 0);
    for (int i = 0; i < 20; i++)
        out(P, 'a' + (uint32_t)i);
    mobo_fake_char_room(dev, 0, UINT32_MAX);
    assert_string_equal(sent(), "abcdefghijklmnot");
}

static void test_receive(void **state)
{
    (void)state;
    out(P + 4, 0x08);
    out(P + 1, 0x01);
    send("xyz"); /* without the FIFO there is room for one */
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(in(P + 2), 0x04);
    assert_int_equal(in(P + 5), 0x61);
    assert_int_equal(in(P), 'x');
    assert_int_equal(mobo_fake_edges(f, 4), 2); /* the next one came at once */
    assert_int_equal(in(P), 'y');
    assert_int_equal(in(P), 'z');
    assert_int_equal(mobo_fake_line(f, 4), 0);
    assert_int_equal(in(P + 5), 0x60);
    assert_int_equal(in(P), 'z'); /* nothing there: the last one again */
}

static void test_fifo_trigger_and_timeout(void **state)
{
    (void)state;
    out(P + 3, 0x03);
    out(P + 2, 0x81); /* trigger at 8 */
    out(P + 4, 0x08);
    out(P + 1, 0x01);
    send("1234567");
    assert_int_equal(mobo_fake_line(f, 4), 0);
    mobo_fake_step(f, 4 * 10 * 12 * UINT64_C(1000000000) / 115200 - 1000); /* 9600 baud */
    assert_int_equal(mobo_fake_line(f, 4), 0);
    mobo_fake_step(f, 2000);
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(in(P + 2), 0xcc);
    assert_int_equal(in(P), '1'); /* reading ends the timeout */
    assert_int_equal(in(P + 2), 0xc1);
    send("89");
    assert_int_equal(in(P + 2), 0xc4);
    assert_int_equal(in(P), '2');
    assert_int_equal(in(P + 2), 0xc1);
    out(P + 2, 0x83); /* clear */
    assert_int_equal(in(P + 5), 0x60);
    mobo_fake_step(f, 1000000000);
    assert_int_equal(in(P + 2), 0xc1);
}

/* A full receiver holds the peer up; nothing is lost. */
static void test_receive_back_pressure(void **state)
{
    char buf[101];

    (void)state;
    for (int i = 0; i < 100; i++)
        buf[i] = (char)('!' + i % 90);
    buf[100] = 0;
    out(P + 2, 0x01);
    assert_int_equal(mobo_fake_char_send(dev, 0, buf, 100), 84);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(in(P + 5) & 0x03, 1);
        assert_int_equal(in(P), buf[i]);
    }
    assert_int_equal(in(P + 5) & 1, 0);
}

static void test_break(void **state)
{
    (void)state;
    out(P + 2, 0x01);
    out(P + 4, 0x08);
    out(P + 1, 0x04);
    send("a");
    mobo_fake_char_event(dev, 0, MOBO_CHAR_BREAK);
    send("b");
    assert_int_equal(mobo_fake_line(f, 4), 0); /* not at the head yet */
    assert_int_equal(in(P + 5), 0xe1);         /* but in the FIFO */
    assert_int_equal(in(P), 'a');
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(in(P + 2), 0xc6);
    assert_int_equal(in(P + 5), 0xf9);
    assert_int_equal(mobo_fake_line(f, 4), 0);
    assert_int_equal(in(P + 5), 0x61);
    assert_int_equal(in(P), 0);
    assert_int_equal(in(P), 'b');
}

static void test_loopback(void **state)
{
    (void)state;
    out(P + 2, 0x01);
    out(P + 3, 0x03);
    out(P + 4, 0x10);
    send("q"); /* waits */
    assert_int_equal(in(P + 5) & 1, 0);
    for (int i = 0; i < 17; i++)
        out(P, 'A' + (uint32_t)i);
    assert_string_equal(sent(), "");
    assert_int_equal(in(P + 5) & 0x03, 0x03); /* overrun */
    assert_int_equal(in(P + 5) & 0x03, 0x01);
    for (int i = 0; i < 16; i++)
        assert_int_equal(in(P), 'A' + i);
    out(P + 4, 0x00);
    assert_int_equal(in(P), 'q');
    /* five data bits */
    out(P + 3, 0x00);
    out(P + 4, 0x10);
    out(P, 0xff);
    assert_int_equal(in(P), 0x1f);
}

static void test_modem_status(void **state)
{
    (void)state;
    assert_int_equal(in(P + 6), 0xb0);
    out(P + 1, 0x08);
    out(P + 4, 0x08);
    out(P + 4, 0x18); /* loop with OUT2: only DCD */
    assert_int_equal(mobo_fake_line(f, 4), 1);
    assert_int_equal(in(P + 2), 0x00);
    assert_int_equal(in(P + 6), 0x83);
    assert_int_equal(mobo_fake_line(f, 4), 0);
    assert_int_equal(in(P + 6), 0x80);
    out(P + 4, 0x1c);
    assert_int_equal(in(P + 6), 0xc0); /* RI on: no edge to report */
    out(P + 4, 0x18);
    assert_int_equal(in(P + 6), 0x84); /* trailing edge */
}

static void test_carrier_of_the_peer(void **state)
{
    const char *params[] = { "port=0x2f8", "irq=3", "carrier=peer", NULL };

    (void)state;
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "com2", params);
    assert_non_null(dev);
    assert_int_equal(in(0x2fe), 0);
    mobo_fake_char_event(dev, 0, MOBO_CHAR_OPENED);
    assert_int_equal(in(0x2fe), 0xbb);
    mobo_fake_char_event(dev, 0, MOBO_CHAR_CLOSED);
    assert_int_equal(in(0x2fe), 0x0b);
}

/* The peer of a saved VM is not that of the restored one, and the guest sees the change. */
static void test_carrier_after_restore(void **state)
{
    const char *params[] = { "port=0x2f8", "irq=3", "carrier=peer", NULL };
    void *with, *without;
    size_t len;

    (void)state;
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "com2", params);
    assert_non_null(dev);
    out(0x2fc, 0x08);
    out(0x2f9, 0x08);
    assert_int_equal(mobo_fake_save(dev, &without, &len), 0);
    mobo_fake_char_event(dev, 0, MOBO_CHAR_OPENED);
    assert_int_equal(in(0x2fe), 0xbb);
    assert_int_equal(mobo_fake_save(dev, &with, &len), 0);
    assert_int_equal(mobo_fake_restore(dev, with, len), 0);
    assert_int_equal(mobo_fake_line(f, 3), 0);
    assert_int_equal(in(0x2fe), 0xb0);
    assert_int_equal(mobo_fake_restore(dev, without, len), 0);
    assert_int_equal(mobo_fake_line(f, 3), 1);
    assert_int_equal(in(0x2fe), 0xbb);
    mobo_fake_char_event(dev, 0, MOBO_CHAR_CLOSED);
    assert_int_equal(in(0x2fe), 0x0b);
    assert_int_equal(mobo_fake_restore(dev, with, len), 0);
    assert_int_equal(mobo_fake_line(f, 3), 1);
    assert_int_equal(in(0x2fe), 0x0b);
    free(with);
    free(without);
}

static void test_no_irq_and_conflicts(void **state)
{
    const char *polled[] = { "port=0x3e8", "irq=0", NULL };
    const char *taken[] = { "port=0x3fc", "irq=5", NULL };
    const char *line[] = { "port=0x2e8", NULL };

    (void)state;
    assert_non_null(mobo_fake_add(f, &mobo_vdev_descriptor, "com3", polled));
    assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "x", taken));
    assert_string_equal(mobo_fake_error(f), "registers: 0x3fc-0x403 is taken by 'dut'");
    assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "y", line));
    assert_string_equal(mobo_fake_error(f), "irq: line 4 is taken by 'dut'");
}

static void test_reset_keeps_the_far_end(void **state)
{
    (void)state;
    out(P + 2, 0x81);
    out(P + 1, 0x0f);
    send("abc");
    mobo_fake_reset(f);
    assert_int_equal(in(P + 1), 0);
    assert_int_equal(in(P + 5), 0x60);
    assert_int_equal(in(P + 6), 0xb0);
    assert_int_equal(mobo_fake_line(f, 4), 0);
}

static void test_state(void **state)
{
    (void)state;
    out(P + 2, 0xc1);
    out(P + 4, 0x08);
    out(P + 1, 0x05);
    mobo_fake_char_room(dev, 0, 1);
    out(P, 'a');
    out(P, 'b');
    send("abc");
    mobo_fake_char_event(dev, 0, MOBO_CHAR_BREAK);
    check_state();
    mobo_fake_step(f, 10000000);
    assert_int_equal(in(P + 2), 0xcc); /* the timeout went with it */
    check_refused(1, 0, 0x10);
    check_refused(11, 0, 17);
    check_refused(12, 0, 200);
    check_refused(15, 3, 0x80);
    check_refused(8, 0, 2);
}

static void test_monkey(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 20; seed++) {
        mobo_fake_monkey(f, seed, 1000);
        send("some text");
        mobo_fake_char_room(dev, 0, seed % 3 ? UINT32_MAX : 2);
        check_state();
    }
    check_flips();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_masks),
        T(test_linux_detection),
        T(test_transmit),
        T(test_thre_interrupt),
        T(test_thre_edges),
        T(test_back_pressure),
        T(test_receive),
        T(test_fifo_trigger_and_timeout),
        T(test_receive_back_pressure),
        T(test_break),
        T(test_loopback),
        T(test_modem_status),
        T(test_carrier_of_the_peer),
        T(test_carrier_after_restore),
        T(test_no_irq_and_conflicts),
        T(test_reset_keeps_the_far_end),
        T(test_state),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
