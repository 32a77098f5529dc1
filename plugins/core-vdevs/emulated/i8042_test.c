/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the i8042 device, its keyboard and its mouse. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void wait(void)
{
    mobo_fake_step(f, 1000000);
}

/* The next byte, or -1. */
static int byte(void)
{
    wait();
    return in(0x64) & 1 ? (int)in(0x60) : -1;
}

static void expect(const char *hex)
{
    for (const char *p = hex; *p; p += p[2] ? 3 : 2)
        assert_int_equal(byte(), strtol(p, NULL, 16));
    assert_int_equal(byte(), -1);
}

static void command(uint32_t cmd)
{
    out(0x64, cmd);
}

static int ask(uint32_t cmd)
{
    command(cmd);
    return byte();
}

static void mouse(uint32_t val)
{
    command(0xd4);
    out(0x60, val);
}

static void input(const char *line)
{
    mobo_fake_char_send(dev, 0, line, (uint32_t)strlen(line));
}

static void command_byte(uint32_t val)
{
    command(0x60);
    out(0x60, val);
}

static void test_reset(void **state)
{
    const struct mobo_acpi_legacy *legacy;

    (void)state;
    assert_int_equal(in(0x64), 0x14);
    assert_int_equal(ask(0x20), 0x47);
    assert_int_equal(mobo_fake_a20(f), 1);
    assert_int_equal(in(0x64) & 0x08, 0x08);
    legacy = (const void *)mobo_fake_acpi(f, MOBO_ACPI_LEGACY, 0);
    assert_int_equal(legacy->flags, MOBO_ACPI_HAS_8042);
}

static void test_controller_commands(void **state)
{
    (void)state;
    assert_int_equal(ask(0xaa), 0x55);
    assert_int_equal(ask(0x20), 0x74); /* both ports off */
    assert_int_equal(ask(0xab), 0x00);
    assert_int_equal(ask(0xa9), 0x00);
    assert_int_equal(ask(0xa4), 0xf1);
    command(0xae);
    assert_int_equal(ask(0x20), 0x64);
    command(0xa8);
    assert_int_equal(ask(0x20), 0x44);
    command(0xad);
    command(0xa7);
    assert_int_equal(ask(0x20), 0x74);
    assert_int_equal(ask(0xc0), 0xbf);
    assert_int_equal(ask(0xd0) & 3, 3);
    command(0x65);
    out(0x60, 0x99);
    assert_int_equal(ask(0x25), 0x99);
    assert_int_equal(ask(0x00), -1);
}

/* i8042_check_aux() of Linux: the loop command, with its interrupt, and no multiplexer. */
static void test_aux_loop(void **state)
{
    static const uint8_t probe[] = { 0x5a, 0xf0, 0x56, 0xa4 };

    (void)state;
    for (unsigned i = 0; i < sizeof(probe); i++) {
        unsigned n = mobo_fake_edges(f, 12);

        command(0xd3);
        out(0x60, probe[i]);
        assert_int_equal(in(0x64) & 0x21, 0x21);
        assert_int_equal(mobo_fake_line(f, 12), 1);
        assert_int_equal(mobo_fake_edges(f, 12), n + 1);
        assert_int_equal(in(0x60), probe[i]);
        assert_int_equal(mobo_fake_line(f, 12), 0);
    }
    command(0xd2);
    out(0x60, 0x12);
    assert_int_equal(in(0x64) & 0x21, 0x01);
    assert_int_equal(mobo_fake_line(f, 1), 1);
    assert_int_equal(byte(), 0x12); /* not translated */
}

static void test_a20_and_reset(void **state)
{
    uint32_t code;

    (void)state;
    command(0xd1);
    out(0x60, 0xdd);
    assert_int_equal(mobo_fake_a20(f), 0);
    command(0xdf);
    assert_int_equal(mobo_fake_a20(f), 1);
    command(0xdd);
    assert_int_equal(mobo_fake_a20(f), 0);
    assert_int_equal(mobo_fake_system(f, &code), 0);
    command(0xff); /* pulses nothing */
    assert_int_equal(mobo_fake_system(f, &code), 0);
    command(0xfe);
    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_RESET);
    command(0xd1);
    out(0x60, 0xfe);
    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_RESET);
}

static void test_keyboard_commands(void **state)
{
    (void)state;
    command_byte(0x05); /* no translation */
    out(0x60, 0xff);
    expect("fa aa");
    out(0x60, 0xf2);
    expect("fa ab 83");
    out(0x60, 0xee);
    expect("ee");
    out(0x60, 0xed);
    expect("fa");
    out(0x60, 0x07);
    expect("fa");
    out(0x60, 0xf3);
    expect("fa");
    out(0x60, 0x00);
    expect("fa");
    out(0x60, 0xf0);
    expect("fa");
    out(0x60, 0x00);
    expect("fa 02");
    out(0x60, 0xf0);
    expect("fa");
    out(0x60, 0x03); /* not offered */
    expect("fe");
    out(0x60, 0xf0);
    expect("fa");
    out(0x60, 0x01);
    expect("fa");
    out(0x60, 0x12);
    expect("fe");
    out(0x60, 0xfe);
    expect("fe");
    out(0x60, 0xed); /* a new command in place of the argument */
    expect("fa");
    out(0x60, 0xf4);
    expect("fa");
}

static void test_keys(void **state)
{
    (void)state;
    input("press a\n");
    expect("1e 9e"); /* translated: set 1 */
    input("down rightctrl\nup rightctrl\n");
    expect("e0 1d e0 9d");
    input("press pause\n");
    expect("e1 1d 45 e1 9d c5");
    input("press sysrq\n");
    expect("e0 2a e0 37 e0 b7 e0 aa");
    input("press leftctrl+leftalt+delete\n");
    expect("1d 38 e0 53 e0 d3 b8 9d");
    command_byte(0x05);
    input("press f7\n");
    expect("83 f0 83");
    out(0x60, 0xf0);
    expect("fa");
    out(0x60, 0x01); /* set 1 in the keyboard itself */
    expect("fa");
    input("press up\n");
    expect("e0 48 e0 c8");
}

static void test_interrupt_edges(void **state)
{
    unsigned n;

    (void)state;
    n = mobo_fake_edges(f, 1);
    input("press b\n");
    wait();
    assert_int_equal(mobo_fake_edges(f, 1), n + 1);
    wait();
    assert_int_equal(mobo_fake_edges(f, 1), n + 1); /* the second waits for the first */
    in(0x60);
    assert_int_equal(mobo_fake_line(f, 1), 0);
    wait();
    assert_int_equal(mobo_fake_edges(f, 1), n + 2);
    /* read twice: the same byte */
    assert_int_equal(in(0x60), 0xb0);
    assert_int_equal(in(0x60), 0xb0);
    command_byte(0x46); /* no interrupt */
    input("press b\n");
    wait();
    assert_int_equal(mobo_fake_line(f, 1), 0);
    assert_int_equal(in(0x64) & 1, 1);
}

static void test_disabled_port_holds_bytes(void **state)
{
    (void)state;
    command(0xad);
    input("press c\n");
    assert_int_equal(byte(), -1);
    command(0xae);
    expect("2e ae");
    out(0x60, 0xf5);
    expect("fa");
    input("press c\n");
    assert_int_equal(byte(), -1); /* not scanning */
    out(0x60, 0xf4);
    expect("fa");
}

static void test_typematic(void **state)
{
    unsigned n = 0;

    (void)state;
    input("down d\n");
    assert_int_equal(byte(), 0x20);
    mobo_fake_step(f, 400000000);
    assert_int_equal(byte(), -1);
    for (unsigned i = 0; i < 1000; i++)
        if (byte() == 0x20)
            n++;
    assert_in_range(n, 8, 12); /* 10.9 a second after half a second */
    input("up d\n");
    expect("a0");
    mobo_fake_step(f, 2000000000);
    assert_int_equal(byte(), -1);
}

static void test_typing(void **state)
{
    char line[INT16_MAX / 100];
    unsigned keys = 0;

    (void)state;
    input("type aB!\\n\n");
    expect("1e 9e 2a 30 b0 aa 2a 02 82 aa 1c 9c");
    /* longer than the queue */
    memset(line, 'x', sizeof(line));
    memcpy(line, "type ", 5);
    strcpy(line + 300, "\npress y\n");
    input(line);
    for (int b; (b = byte()) != -1;)
        keys += b == 0x2d;
    assert_int_equal(keys, 295);
    assert_int_equal(mobo_fake_char_send(dev, 0, "", 0), 0);
}

static void test_bad_input(void **state)
{
    static const char *const bad[] = { "press nokey\n", "jump\n",
                                       "down\n",        "move 1\n",
                                       "button left\n", "button big down\n",
                                       "move 1 2 x\n",  "press a+b+c+d+e+f+g+h+i\n" };
    char line[1200];

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        input(bad[i]);
        assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), i + 1);
    }
    memset(line, 'a', sizeof(line));
    strcpy(line + sizeof(line) - 2, "\n");
    input(line);
    assert_int_equal(byte(), -1);
    input("\r\n  \npress e\r\n");
    expect("12 92");
}

static void leds(uint32_t val)
{
    out(0x60, 0xed);
    expect("fa");
    out(0x60, val);
    expect("fa");
}

/* The host knows what the keyboard shows. */
static void test_leds(void **state)
{
    void *buf;
    size_t len;

    (void)state;
    assert_int_equal(mobo_fake_input_leds(dev, 0), 0);
    leds(0x04);
    assert_int_equal(mobo_fake_input_leds(dev, 0), MOBO_LED_CAPS);
    leds(0x03);
    assert_int_equal(mobo_fake_input_leds(dev, 0), MOBO_LED_NUM | MOBO_LED_SCROLL);
    assert_int_equal(mobo_fake_save(dev, &buf, &len), 0);
    out(0x60, 0xff);
    expect("fa aa");
    assert_int_equal(mobo_fake_input_leds(dev, 0), 0);
    assert_int_equal(mobo_fake_restore(dev, buf, len), 0);
    assert_int_equal(mobo_fake_input_leds(dev, 0), MOBO_LED_NUM | MOBO_LED_SCROLL);
    mobo_fake_reset(f);
    assert_int_equal(mobo_fake_input_leds(dev, 0), 0);
    free(buf);
}

static void test_mouse_commands(void **state)
{
    (void)state;
    mouse(0xff);
    expect("fa aa 00");
    mouse(0xf2);
    expect("fa 00");
    mouse(0xe8);
    expect("fa");
    mouse(0x03);
    expect("fa");
    mouse(0xe7);
    expect("fa");
    mouse(0xf4);
    expect("fa");
    mouse(0xe9);
    expect("fa 30 03 64");
    mouse(0x12);
    expect("fe");
    mouse(0xee);
    expect("fa");
    mouse(0x12);
    expect("12"); /* wrap */
    mouse(0xec);
    expect("fa");
    mouse(0xf6);
    expect("fa");
    mouse(0xe9);
    expect("fa 00 02 64");
}

static void rates(unsigned a, unsigned b, unsigned c)
{
    const unsigned r[3] = { a, b, c };

    for (int i = 0; i < 3; i++) {
        mouse(0xf3);
        mouse(r[i]);
        while (byte() != -1)
            ;
    }
}

static void test_mouse_packets(void **state)
{
    (void)state;
    input("move 5 5\n");
    assert_int_equal(byte(), -1); /* not reporting */
    mouse(0xf4);
    expect("fa");
    input("move 5 3\n");
    wait();
    assert_int_equal(in(0x64) & 0x21, 0x21);
    assert_int_equal(mobo_fake_line(f, 12), 1);
    expect("28 05 fd");
    input("button left down\nmove -300 0\nbutton left up\n");
    expect("09 00 00 19 01 00 19 d3 00 08 00 00");
    rates(200, 100, 80);
    mouse(0xf2);
    expect("fa 03");
    input("move 0 0 1\n");
    expect("08 00 00 01");
    rates(200, 200, 80);
    mouse(0xf2);
    expect("fa 04");
    input("button extra down\n");
    expect("08 00 00 20");
    mouse(0xf0); /* remote */
    expect("fa");
    input("move 1 -1\n");
    assert_int_equal(byte(), -1);
    mouse(0xeb);
    expect("fa 08 01 01 20");
}

static int buttons(uint32_t held)
{
    const struct mobo_input_event e = { .size = sizeof(e), .kind = MOBO_INPUT_MOVE, .buttons = held };

    return mobo_fake_input(dev, 0, &e);
}

/* Clicks that the guest has not fetched yet are not lost: what would hide one waits. */
static void test_clicks_wait(void **state)
{
    unsigned sent = 0, readies = mobo_fake_input_readies(dev, 0), packets = 0;
    uint32_t last = 0;
    int b;

    (void)state;
    mouse(0xf4);
    expect("fa");
    while (buttons(!(sent & 1)) == 0)
        assert_true(++sent < 100);
    assert_int_equal(buttons(!(sent & 1)), -11); /* EAGAIN */
    assert_int_equal(buttons(sent & 1), 0);      /* a movement without a click does not wait */
    assert_int_equal(mobo_fake_input_readies(dev, 0), readies);
    while ((b = byte()) != -1) {
        if (packets++ % 3)
            continue;
        assert_int_equal(b & 7, !last);
        last = !last;
        if (mobo_fake_input_readies(dev, 0) != readies && sent < 100) {
            readies = mobo_fake_input_readies(dev, 0);
            assert_int_equal(buttons(!(sent & 1)), 0);
            sent++;
        }
    }
    assert_true(sent > 4);
    assert_int_equal(packets, sent * 3);
    /* nor do they wait for a guest that does not want to know */
    while (buttons(!(sent & 1)) == 0)
        assert_true(++sent < 200);
    readies = mobo_fake_input_readies(dev, 0);
    command(0xa7);
    assert_int_equal(mobo_fake_input_readies(dev, 0), readies + 1);
    assert_int_equal(buttons(!(sent & 1)), 0);
    assert_int_equal(buttons(sent & 1), 0);
}

static void test_mouse_does_not_overflow(void **state)
{
    unsigned n = 0;

    (void)state;
    mouse(0xf4);
    expect("fa");
    for (int i = 0; i < 1000; i++)
        input("move 1000000 -1000000\n");
    while (byte() != -1)
        n++;
    assert_true(n % 3 == 0 && n > 3);
}

static void test_state(void **state)
{
    (void)state;
    mouse(0xf4);
    expect("fa");
    input("down leftshift\nmove 3 4\n");
    command(0x60); /* an argument outstanding */
    check_state();
    out(0x60, 0x03);
    assert_int_equal(byte(), 0x2a); /* what was waiting */
    assert_int_equal(byte(), 0x28);
    check_refused(6, 0, 9);
    check_refused(9, 0, 0x80);
    check_refused(32, 0, 17);
    check_refused(33, 0, 129);
    check_refused(32 + 10, 0, 3);
    check_refused(32 + 14, 0, 200);
    check_refused(64 + 9, 0, 1);
    check_refused(64 + 20, 3, 0x70);
}

static void test_monkey(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 30; seed++) {
        mobo_fake_monkey(f, seed, 2000);
        input("press a\nmove 4 -700 2\nbutton middle down\ntype Hello\n");
        mobo_fake_step(f, 100000000);
        check_state();
    }
    free(mobo_fake_inspect(dev));
    check_flips();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_controller_commands),
        T(test_aux_loop),
        T(test_a20_and_reset),
        T(test_keyboard_commands),
        T(test_keys),
        T(test_interrupt_edges),
        T(test_disabled_port_holds_bytes),
        T(test_typematic),
        T(test_typing),
        T(test_bad_input),
        T(test_leds),
        T(test_mouse_commands),
        T(test_mouse_packets),
        T(test_clicks_wait),
        T(test_mouse_does_not_overflow),
        T(test_state),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
