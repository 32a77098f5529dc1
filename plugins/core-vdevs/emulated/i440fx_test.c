/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the i440fx device. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static uint32_t conf(uint32_t addr, uint32_t len)
{
    mobo_fake_out(f, 0xcf8, 4, 0x80000000 | (addr & 0xfffffc));
    return mobo_fake_in(f, 0xcfc + (addr & 3), len);
}

static void set_conf(uint32_t addr, uint32_t len, uint32_t val)
{
    mobo_fake_out(f, 0xcf8, 4, 0x80000000 | (addr & 0xfffffc));
    mobo_fake_out(f, 0xcfc + (addr & 3), len, val);
}

static void test_mechanism(void **state)
{
    (void)state;
    assert_int_equal(mobo_fake_in(f, 0xcf8, 4), 0);
    mobo_fake_out(f, 0xcf8, 4, 0xffffffff);
    assert_int_equal(mobo_fake_in(f, 0xcf8, 4), 0x80fffffc);
    /* only dwords are its own: pci_check_type1() of Linux writes a byte to 0xcfb first */
    mobo_fake_out(f, 0xcfb, 1, 0x01);
    assert_int_equal(mobo_fake_in(f, 0xcf8, 4), 0x80fffffc);
    assert_int_equal(mobo_fake_in(f, 0xcf8, 2), 0xffff);
    mobo_fake_out(f, 0xcf8, 4, 0x80000000);
    assert_int_equal(mobo_fake_in(f, 0xcfc, 4), 0x71928086);
    assert_int_equal(mobo_fake_in(f, 0xcfe, 2), 0x7192);
    assert_int_equal(mobo_fake_in(f, 0xcfd, 1), 0x80);
    mobo_fake_out(f, 0xcf8, 4, 0x00000000); /* off */
    assert_int_equal(mobo_fake_in(f, 0xcfc, 4), 0xffffffff);
}

static void test_identity(void **state)
{
    (void)state;
    assert_int_equal(conf(0x08, 4), 0x06000003);
    assert_int_equal(conf(0x0e, 1), 0);
    assert_int_equal(conf(0x800, 4), 0xffffffff);   /* nobody in slot 1 */
    assert_int_equal(conf(0x10000, 4), 0xffffffff); /* nor on bus 1 */
    assert_non_null(mobo_fake_acpi(f, MOBO_ACPI_PCI_ROOT, 0));
}

static void test_pam(void **state)
{
    (void)state;
    assert_int_equal(conf(0x59, 1), 0x30); /* open after a direct boot */
    for (uint32_t i = 0x59; i <= 0x5f; i++) {
        set_conf(i, 1, 0xff);
        assert_int_equal(conf(i, 1), i == 0x59 ? 0x30 : 0x33);
        set_conf(i, 1, 0x00);
        assert_int_equal(conf(i, 1), 0);
    }
}

static void test_smram_lock(void **state)
{
    (void)state;
    assert_int_equal(conf(0x72, 1), 0x02);
    set_conf(0x72, 1, 0x48);
    assert_int_equal(conf(0x72, 1), 0x4a);
    set_conf(0x72, 1, 0x58); /* lock: closes */
    assert_int_equal(conf(0x72, 1), 0x1a);
    set_conf(0x72, 1, 0x48);
    assert_int_equal(conf(0x72, 1), 0x1a);
    check_state();
    set_conf(0x70, 4, 0);
    assert_int_equal(conf(0x72, 1), 0x1a);
    mobo_fake_reset(f);
    assert_int_equal(conf(0x72, 1), 0x02);
}

static void test_state(void **state)
{
    (void)state;
    mobo_fake_out(f, 0xcf8, 4, 0x80001234);
    check_state();
    assert_int_equal(mobo_fake_in(f, 0xcf8, 4), 0x80001234);
    check_refused(1, 0, 1);
    check_refused(2, 0, 0x80);
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_mechanism),  T(test_identity), T(test_pam),
        T(test_smram_lock), T(test_state),    T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
