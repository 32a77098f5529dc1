/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the piix4 device. */
#include "plugins/test.h"

#define PM   0x600
#define SMB  0x700
#define SLOT 7

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static uint32_t conf(uint32_t fn, uint32_t off, uint32_t len)
{
    return mobo_fake_pci_read(f, SLOT, fn, off, len);
}

static uint32_t inw(uint32_t port)
{
    return mobo_fake_in(f, port, 2);
}

static void outw(uint32_t port, uint32_t val)
{
    mobo_fake_out(f, port, 2, val);
}

static void test_identity(void **state)
{
    const struct mobo_acpi_pm *pm = (const void *)mobo_fake_acpi(f, MOBO_ACPI_PM, 0);
    const struct mobo_acpi_pci_links *links =
        (const void *)mobo_fake_acpi(f, MOBO_ACPI_PCI_LINKS, 0);

    (void)state;
    assert_int_equal(conf(0, 0, 4), 0x71108086);
    assert_int_equal(conf(0, 8, 4), 0x06010001);
    assert_int_equal(conf(0, 0x0e, 1), 0x80);
    assert_int_equal(conf(3, 0, 4), 0x71138086);
    assert_int_equal(conf(3, 8, 4), 0x06800003);
    assert_int_equal(conf(3, 0x40, 4), PM | 1);
    assert_int_equal(conf(3, 0x80, 1), 1);
    assert_int_equal(conf(3, 0x90, 4), SMB | 1);
    assert_int_equal(pm->pm_timer, PM + 8);
    assert_int_equal(pm->s3_type, 0xff);
    assert_int_equal(pm->sci_line, 9);
    assert_int_equal(links->reg[3], 0x63);
    assert_int_equal(links->irqs, 0x0c20);
}

static void test_routing(void **state)
{
    (void)state;
    assert_int_equal(mobo_fake_pirq(f, 0), 10);
    assert_int_equal(mobo_fake_pirq(f, 3), 11);
    mobo_fake_pci_write(f, SLOT, 0, 0x60, 4, 0x0d8505ff);
    assert_int_equal(conf(0, 0x60, 4), 0x0d85058f);
    assert_int_equal(mobo_fake_pirq(f, 0), -1);
    assert_int_equal(mobo_fake_pirq(f, 1), 5);
    assert_int_equal(mobo_fake_pirq(f, 2), -1);
    assert_int_equal(mobo_fake_pirq(f, 3), -1); /* 13 is reserved */
    mobo_fake_reset(f);
    assert_int_equal(mobo_fake_pirq(f, 0), 10);
}

static void test_reset_ports(void **state)
{
    uint32_t code;

    (void)state;
    out(0xcf9, 0x02);
    assert_int_equal(mobo_fake_system(f, &code), 0);
    assert_int_equal(in(0xcf9), 0x02);
    out(0xcf9, 0x06);
    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_RESET);
    out(0xcf9, 0x06); /* no change of bit 2 */
    assert_int_equal(mobo_fake_system(f, &code), 0);
    out(0x92, 0x01);
    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_RESET);
}

static void test_a20(void **state)
{
    (void)state;
    assert_int_not_equal(mobo_fake_a20(f), 0);
    out(0x92, 0x02);
    assert_int_equal(mobo_fake_a20(f), 1);
    assert_int_equal(in(0x92), 0x02);
    out(0x92, 0x00);
    assert_int_equal(mobo_fake_a20(f), 0);
}

static void test_acpi_mode(void **state)
{
    (void)state;
    assert_int_equal(inw(PM + 4) & 1, 0);
    out(0xb2, 0xf1);
    assert_int_equal(inw(PM + 4) & 1, 1);
    assert_int_equal(in(0xb2), 0xf1);
    out(0xb3, 0x55);
    assert_int_equal(in(0xb3), 0x55);
    out(0xb2, 0xf0);
    assert_int_equal(inw(PM + 4) & 1, 0);
}

/* Three times the 8254's clock: 3.579545 MHz. */
static void test_pm_timer(void **state)
{
    uint32_t a, b;

    (void)state;
    a = mobo_fake_in(f, PM + 8, 4);
    mobo_fake_step(f, UINT64_C(1000000000));
    b = mobo_fake_in(f, PM + 8, 4);
    assert_in_range((b - a) & 0xffffff, 3579545, 3579546);
    assert_int_equal(mobo_fake_in(f, PM + 10, 1), b >> 16);
    mobo_fake_out(f, PM + 8, 4, 0);
    assert_int_equal(mobo_fake_in(f, PM + 8, 4), b);
    mobo_fake_step(f, UINT64_C(5000000000));
    assert_int_equal(mobo_fake_in(f, PM + 8, 4) >> 24, 0); /* 24 bits */
}

static void test_pm_timer_overflow(void **state)
{
    (void)state;
    mobo_fake_step(f, UINT64_C(2340000000));
    assert_int_equal(inw(PM) & 1, 0);
    mobo_fake_step(f, 5000000); /* past 2^23 */
    assert_int_equal(inw(PM) & 1, 1);
    assert_int_equal(mobo_fake_line(f, 9), 0);
    outw(PM, 1);
    assert_int_equal(inw(PM) & 1, 0);
    outw(PM + 2, 1);
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX); /* no SCI without ACPI mode */
    out(0xb2, 0xf1);
    mobo_fake_step(f, UINT64_C(2400000000));
    assert_int_equal(mobo_fake_line(f, 9), 1);
    outw(PM, 1);
    assert_int_equal(mobo_fake_line(f, 9), 0);
}

static void test_power_button(void **state)
{
    (void)state;
    out(0xb2, 0xf1);
    outw(PM + 2, 0x100);
    mobo_fake_event(f, MOBO_EVENT_POWER_BUTTON);
    assert_int_equal(mobo_fake_line(f, 9), 1);
    assert_int_equal(inw(PM), 0x100);
    outw(PM, 0x100);
    assert_int_equal(mobo_fake_line(f, 9), 0);
    outw(PM + 2, 0);
    mobo_fake_event(f, MOBO_EVENT_POWER_BUTTON);
    assert_int_equal(mobo_fake_line(f, 9), 0);
    outw(PM + 2, 0x100); /* enabled later */
    assert_int_equal(mobo_fake_line(f, 9), 1);
    out(0xb2, 0xf0);
    assert_int_equal(mobo_fake_line(f, 9), 0);
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 0);
    mobo_fake_event(f, MOBO_EVENT_POWER_BUTTON);
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 1);
}

static void test_sleep(void **state)
{
    uint32_t code;

    (void)state;
    outw(PM + 4, 0x0001 | 1 << 10); /* type without enable */
    assert_int_equal(inw(PM + 4), 0x0401);
    assert_int_equal(mobo_fake_system(f, &code), 0);
    outw(PM + 4, 0x2001 | 1 << 10); /* suspend to RAM is not offered */
    assert_int_equal(mobo_fake_system(f, &code), 0);
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 1);
    outw(PM + 4, 0x2001);
    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_POWEROFF);
    assert_int_equal(inw(PM + 4), 0x0001); /* the enable bit is write-only */
}

static void test_masks(void **state)
{
    (void)state;
    outw(PM + 2, 0xffff);
    assert_int_equal(inw(PM + 2), 0x0521);
    outw(PM + 0x0e, 0xffff);
    assert_int_equal(inw(PM + 0x0e), 0x0f01);
    mobo_fake_out(f, PM, 4, 0xffffffff);
    assert_int_equal(mobo_fake_in(f, PM, 4), 0x05210000);
    assert_int_equal(in(PM + 0x14), 0); /* no C2 */
    assert_int_equal(mobo_fake_in(f, PM + 0x34, 4), 0x7fffbfff);
    assert_int_equal(in(PM + 0x3f), 0);
}

static void test_moving_the_ports(void **state)
{
    (void)state;
    mobo_fake_pci_write(f, SLOT, 3, 0x40, 4, 0x1040);
    assert_int_equal(inw(PM + 2), 0xffff);
    assert_int_equal(inw(0x1042), 0);
    mobo_fake_pci_write(f, SLOT, 3, 0x80, 1, 0);
    assert_int_equal(inw(0x1042), 0xffff);
    check_state();
    mobo_fake_reset(f);
    assert_int_equal(inw(PM + 2), 0);
}

static void test_firmware_boot_starts_off(void **state)
{
    struct mobo_board_info info = { .size = sizeof(info), .vps = 1, .generation = 1 };

    (void)state;
    mobo_fake_destroy(f);
    f = mobo_fake_create();
    mobo_fake_board(f, &info);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "isa", NULL);
    assert_int_equal(inw(PM + 2), 0xffff);
    assert_int_equal(conf(0, 0x60, 4), 0x80808080);
    assert_int_equal(mobo_fake_pirq(f, 0), -1);
    mobo_fake_pci_write(f, SLOT, 3, 0x40, 4, PM);
    mobo_fake_pci_write(f, SLOT, 3, 0x80, 1, 1);
    assert_int_equal(inw(PM + 2), 0);
}

static void test_smbus(void **state)
{
    (void)state;
    assert_int_equal(in(SMB), 0);
    out(SMB + 4, 0xa1);
    assert_int_equal(in(SMB + 4), 0xa1);
    out(SMB + 2, 0x48);
    assert_int_equal(in(SMB), 0x04); /* nobody answers */
    assert_int_equal(in(SMB + 2), 0x08);
    out(SMB, 0x04);
    assert_int_equal(in(SMB), 0);
    mobo_fake_pci_write(f, SLOT, 3, 0x04, 2, 0);
    assert_int_equal(in(SMB), 0xff);
}

static void test_params(void **state)
{
    static const struct {
        const char *param, *error;
    } bad[] = {
        { "pm-base=0x620", "pm-base: 0x620 is not a multiple of 64" },
        { "smbus-base=0x708", "smbus-base: 0x708 is not a multiple of 16" },
        { "pirq-b=8", "pirq-b: 8 is not a line that can be routed to (3-7, 9-12, 14, 15)" },
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *params[] = { bad[i].param, NULL };
        struct mobo_fake *other = mobo_fake_create();

        assert_null(mobo_fake_add(other, &mobo_vdev_descriptor, "isa", params));
        assert_string_equal(mobo_fake_error(other), bad[i].error);
        mobo_fake_destroy(other);
    }
}

static void test_state(void **state)
{
    (void)state;
    out(0xb2, 0xf1);
    outw(PM + 2, 0x101);
    mobo_fake_event(f, MOBO_EVENT_POWER_BUTTON);
    out(0x92, 2);
    check_state();
    assert_int_equal(mobo_fake_line(f, 9), 1);
    check_refused(1, 2, 0x70);
    check_refused(2, 0, 1);
    check_refused(5, 0, 1);
    check_refused(9, 0, 2);
    check_refused(11, 7, 0xff);
}

/* Restore @buf on a board of its own.  @return as mobo_fake_a20(). */
static int a20_restored(const void *buf, size_t len)
{
    struct mobo_fake *other = mobo_fake_create();
    struct mobo_vdev *isa = mobo_fake_add(other, &mobo_vdev_descriptor, "dut", NULL);
    int a20;

    assert_non_null(isa);
    assert_int_equal(mobo_fake_restore(isa, buf, len), 0);
    a20 = mobo_fake_a20(other);
    mobo_fake_destroy(other);
    return a20;
}

static void test_a20_state(void **state)
{
    static const uint8_t said[] = { 12, 0, 1, 0, 1, 0, 0, 0 };
    uint8_t *buf;
    size_t len;

    (void)state;
    for (int written = 0; written < 3; written++) { /* not, closed, open */
        if (written)
            out(0x92, written == 2 ? 2 : 0);
        assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
        assert_int_equal(a20_restored(buf, len), written != 1);
        for (size_t i = 0; i + 9 <= len; i++)
            if (!memcmp(buf + i, said, 8))
                buf[i] = 99; /* as before the field was there */
        assert_int_equal(a20_restored(buf, len), 1);
        free(buf);
    }
    check_refused(12, 0, 2);
}

/* More than a year. */
static void test_state_after_long(void **state)
{
    (void)state;
    mobo_fake_step(f, UINT64_C(467) * 86400 * 1000000000);
    in(PM + 8);
    check_state();
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_identity),
        T(test_routing),
        T(test_reset_ports),
        T(test_a20),
        T(test_acpi_mode),
        T(test_pm_timer),
        T(test_pm_timer_overflow),
        T(test_power_button),
        T(test_sleep),
        T(test_masks),
        T(test_moving_the_ports),
        T(test_firmware_boot_starts_off),
        T(test_smbus),
        T(test_params),
        T(test_state),
        T(test_a20_state),
        T(test_state_after_long),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
