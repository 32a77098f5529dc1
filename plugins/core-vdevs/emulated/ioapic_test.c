/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the ioapic device. */
#include "plugins/test.h"

#define BASE UINT64_C(0xfec00000)

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static uint32_t reg(uint8_t index)
{
    mobo_fake_mmio_write(f, BASE, 4, index);
    return (uint32_t)mobo_fake_mmio_read(f, BASE + 0x10, 4);
}

static void set(uint8_t index, uint32_t val)
{
    mobo_fake_mmio_write(f, BASE, 4, index);
    mobo_fake_mmio_write(f, BASE + 0x10, 4, val);
}

static void set_pin(unsigned pin, uint32_t low, uint32_t high)
{
    set((uint8_t)(0x11 + pin * 2), high);
    set((uint8_t)(0x10 + pin * 2), low);
}

static void expect(uint64_t addr, uint32_t data)
{
    uint64_t a = 0;
    uint32_t d = 0;

    assert_int_equal(mobo_fake_msi(f, &a, &d), 1);
    assert_int_equal(a, addr);
    assert_int_equal(d, data);
}

static void expect_none(void)
{
    uint64_t a;
    uint32_t d;

    assert_int_equal(mobo_fake_msi(f, &a, &d), 0);
}

static void test_reset(void **state)
{
    const struct mobo_acpi_ioapic *desc;

    (void)state;
    assert_int_equal(reg(0), 0x01000000); /* one processor has 0 */
    assert_int_equal(reg(1), 0x00170020);
    assert_int_equal(reg(2), 0x01000000);
    for (uint8_t i = 0; i < 24; i++) {
        assert_int_equal(reg(0x10 + i * 2), 0x00010000);
        assert_int_equal(reg(0x11 + i * 2), 0);
    }
    assert_int_equal(reg(0x40), 0);
    assert_int_equal(reg(0x0f), 0);
    desc = (const void *)mobo_fake_acpi(f, MOBO_ACPI_IOAPIC, 0);
    assert_non_null(desc);
    assert_int_equal(desc->base, BASE);
    assert_int_equal(desc->id, 1);
    assert_int_equal(desc->isa_line0_gsi, 2);
    assert_int_equal(desc->pins, 24);
}

static void test_masks(void **state)
{
    (void)state;
    set(0x12, 0xffffffff);
    set(0x13, 0xffffffff);
    assert_int_equal(reg(0x12), 0x0001afff); /* status and remote IRR are read-only */
    assert_int_equal(reg(0x13), 0xff000000);
    set(0, 0xffffffff);
    assert_int_equal(reg(0), 0x0f000000);
    set(1, 0);
    assert_int_equal(reg(1), 0x00170020);
}

/* Accesses that are not dwords. */
static void test_widths(void **state)
{
    (void)state;
    mobo_fake_mmio_write(f, BASE, 1, 0x01);
    assert_int_equal(mobo_fake_mmio_read(f, BASE, 1), 0x01);
    assert_int_equal(mobo_fake_mmio_read(f, BASE + 0x10, 1), 0x20);
    assert_int_equal(mobo_fake_mmio_read(f, BASE + 0x12, 2), 0x17);
    mobo_fake_mmio_write(f, BASE, 1, 0x10);
    mobo_fake_mmio_write(f, BASE + 0x10, 1, 0x00); /* dropped */
    assert_int_equal(reg(0x10), 0x00010000);
    assert_int_equal(mobo_fake_mmio_read(f, BASE + 0x20, 4), 0);
}

static void test_edge(void **state)
{
    (void)state;
    set_pin(4, 0x00000034, 0x03000000);
    mobo_fake_drive(f, 4, 1);
    expect(0xfee03000, 0x4034);
    mobo_fake_drive(f, 4, 0);
    expect_none();
    mobo_fake_drive(f, 4, 1);
    expect(0xfee03000, 0x4034);
    /* an edge on a masked pin is lost */
    mobo_fake_drive(f, 4, 0);
    set_pin(4, 0x00010034, 0);
    mobo_fake_drive(f, 4, 1);
    set_pin(4, 0x00000034, 0);
    expect_none();
}

static void test_isa_wiring(void **state)
{
    (void)state;
    set_pin(0, 0x30, 0);
    set_pin(2, 0x32, 0);
    mobo_fake_drive(f, 2, 1); /* the cascade */
    expect_none();
    mobo_fake_drive(f, 0, 1); /* the timer */
    expect(0xfee00000, 0x4032);
    expect_none();
}

static void test_level(void **state)
{
    (void)state;
    set_pin(19, 0x0000a051, 0); /* level, active low */
    mobo_fake_drive(f, 19, 1);
    expect(0xfee00000, 0xc051);
    assert_int_equal(reg(0x10 + 38), 0x0000e051); /* remote IRR */
    mobo_fake_eoi(f, 0x52);
    expect_none();
    mobo_fake_eoi(f, 0x51);
    expect(0xfee00000, 0xc051); /* still asserted */
    mobo_fake_drive(f, 19, 0);
    mobo_fake_eoi(f, 0x51);
    expect_none();
    assert_int_equal(reg(0x10 + 38), 0x0000a051);
    /* asserted while masked: sent on unmasking */
    set_pin(19, 0x0001a051, 0);
    mobo_fake_drive(f, 19, 1);
    expect_none();
    set_pin(19, 0x0000a051, 0);
    expect(0xfee00000, 0xc051);
    /* the EOI register does what the broadcast does */
    mobo_fake_drive(f, 19, 0);
    mobo_fake_mmio_write(f, BASE + 0x40, 4, 0x51);
    assert_int_equal(reg(0x10 + 38), 0x0000a051);
}

/* How systems end a level interrupt without an EOI register: through edge mode. */
static void test_edge_mode_clears_irr(void **state)
{
    (void)state;
    set_pin(9, 0x8039, 0);
    mobo_fake_drive(f, 9, 1);
    expect(0xfee00000, 0xc039);
    mobo_fake_drive(f, 9, 0);
    set_pin(9, 0x10039, 0);
    set_pin(9, 0x18039, 0);
    assert_int_equal(reg(0x10 + 18), 0x18039);
}

static void test_one_vector_on_two_pins(void **state)
{
    (void)state;
    set_pin(10, 0x8060, 0);
    set_pin(11, 0x8060, 0);
    mobo_fake_drive(f, 10, 1);
    mobo_fake_drive(f, 11, 1);
    expect(0xfee00000, 0xc060);
    expect(0xfee00000, 0xc060);
    mobo_fake_eoi(f, 0x60);
    expect(0xfee00000, 0xc060);
    expect(0xfee00000, 0xc060);
}

static void test_modes(void **state)
{
    (void)state;
    set_pin(5, 0x0955, 0x0f000000); /* lowest priority, logical */
    mobo_fake_drive(f, 5, 1);
    expect(0xfee0f00c, 0x4155);
    set_pin(6, 0x8433, 0); /* NMI: edge whatever it says, no vector */
    mobo_fake_drive(f, 6, 1);
    expect(0xfee00000, 0x4400);
    assert_int_equal(reg(0x10 + 12), 0x8433);
    set_pin(7, 0x0700, 0); /* ExtINT */
    mobo_fake_drive(f, 7, 1);
    expect(0xfee00000, 0x4700);
    set_pin(8, 0x0300, 0); /* reserved */
    mobo_fake_drive(f, 8, 1);
    expect_none();
}

static void test_params(void **state)
{
    const char *second[] = { "base=0xfec01000", "first-line=24", "id=5", NULL };
    const char *bad[] = { "base=0xfec00010", NULL };
    struct mobo_vdev *d = mobo_fake_add(f, &mobo_vdev_descriptor, "second", second);

    (void)state;
    assert_non_null(d);
    mobo_fake_mmio_write(f, BASE + 0x1000, 4, 0x10);
    mobo_fake_mmio_write(f, BASE + 0x1010, 4, 0x77);
    mobo_fake_drive(f, 24, 1);
    expect(0xfee00000, 0x4077);
    assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "third", bad));
    assert_string_equal(mobo_fake_error(f), "base: 0xfec00010 is not a multiple of 4096");
}

static void test_state(void **state)
{
    (void)state;
    set_pin(19, 0xa051, 0);
    mobo_fake_drive(f, 19, 1);
    check_state();
    assert_int_equal(reg(0x10 + 38), 0x0000e051);
    check_refused(1, 1, 0x10); /* delivery status is not stored */
    check_refused(1, 1, 0x40); /* remote IRR of an edge-triggered pin */
    check_refused(2, 3, 1);
    check_refused(5, 0, 0x10);
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_masks),
        T(test_widths),
        T(test_edge),
        T(test_isa_wiring),
        T(test_level),
        T(test_edge_mode_clears_irr),
        T(test_one_vector_on_two_pins),
        T(test_modes),
        T(test_params),
        T(test_state),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
