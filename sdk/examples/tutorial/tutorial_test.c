/* SPDX-License-Identifier: MIT */
/* Unit tests of the tutorial device, on a host in memory. */
#include "plugins/test.h"

#define BAR UINT64_C(0xe0000000)
enum {
    ID = 0x00,
    SCRATCH = 0x04,
    CONTROL = 0x08,
    STATUS = 0x0c,
    SRC = 0x10,
    DST = 0x18,
    LEN = 0x20,
    DOORBELL = 0x24,
    SUM = 0x28,
    COUNT = 0x2c
};

static uint32_t slot;

static int setup(void **state)
{
    (void)state;
    if (plug(NULL))
        return -1;
    for (slot = 0; slot < 32 && mobo_fake_pci_read(f, slot, 0, 0, 4) != 0x6d6f1234; slot++)
        ;
    if (slot == 32)
        return -1;
    mobo_fake_pci_write(f, slot, 0, 0x10, 4, (uint32_t)BAR);
    mobo_fake_pci_write(f, slot, 0, 0x04, 2, 6); /* memory, bus master */
    return 0;
}

static uint32_t get(uint32_t reg)
{
    return (uint32_t)mobo_fake_mmio_read(f, BAR + reg, 4);
}

static void put(uint32_t reg, uint32_t val)
{
    mobo_fake_mmio_write(f, BAR + reg, 4, val);
}

static void start(uint32_t src, uint32_t dst, uint32_t len)
{
    put(SRC, src);
    put(SRC + 4, 0);
    put(DST, dst);
    put(DST + 4, 0);
    put(LEN, len);
    put(DOORBELL, 1);
}

static void test_identity(void **state)
{
    (void)state;
    assert_int_equal(mobo_fake_pci_read(f, slot, 0, 0x08, 4), 0xff000001);
    assert_int_equal(mobo_fake_pci_read(f, slot, 0, 0x3d, 1), 1);
    mobo_fake_pci_write(f, slot, 0, 0x10, 4, 0xffffffff);
    assert_int_equal(mobo_fake_pci_read(f, slot, 0, 0x10, 4), 0xfffff000);
}

static void test_registers(void **state)
{
    (void)state;
    assert_int_equal(get(ID), 0x4f424f4d);
    assert_int_equal(get(SCRATCH), 0xffffffff);
    put(SCRATCH, 0x01020304);
    assert_int_equal(get(SCRATCH), 0xfefdfcfb);
    put(CONTROL, 0xffffffff);
    assert_int_equal(get(CONTROL), 0xff01);
    put(ID, 0);
    assert_int_equal(get(ID), 0x4f424f4d);
    assert_int_equal(get(0x30), 0);
    assert_int_equal(get(0xffc), 0);
    assert_int_equal(mobo_fake_mmio_read(f, BAR + 1, 1), 0x4f);
    assert_int_equal(mobo_fake_mmio_read(f, BAR, 8), 0xfefdfcfb4f424f4d);
    mobo_fake_mmio_write(f, BAR + SRC, 8, 0x1122334455667788);
    assert_int_equal(get(SRC + 4), 0x11223344);
    mobo_fake_reset(f);
    mobo_fake_pci_write(f, slot, 0, 0x10, 4, (uint32_t)BAR);
    mobo_fake_pci_write(f, slot, 0, 0x04, 2, 2);
    assert_int_equal(get(SRC + 4), 0);
    assert_int_equal(get(CONTROL), 0);
}

static void test_copy(void **state)
{
    uint8_t *ram = mobo_fake_ram(f);

    (void)state;
    for (int i = 0; i < 300000; i++)
        ram[0x100000 + i] = (uint8_t)(i * 13);
    put(CONTROL, 0x3300);
    start(0x100000, 0x200000, 300000);
    assert_int_equal(get(STATUS), 4); /* nothing is done on a processor's thread */
    assert_int_equal(ram[0x200001], 0);
    start(0, 0, 1); /* ignored while busy */
    mobo_fake_work(f);
    assert_int_equal(get(STATUS), 1);
    for (int i = 0; i < 300000; i++)
        assert_int_equal(ram[0x200000 + i], (uint8_t)(i * 13) ^ 0x33);
    assert_int_equal(ram[0x200000 + 300000], 0);
    assert_int_equal(get(COUNT), 1);
    memcpy(ram, "Wikipedia", 9);
    put(CONTROL, 0);
    start(0, 64, 9);
    mobo_fake_work(f);
    assert_int_equal(get(SUM), 0x11e60398); /* the well-known example */
}

static void test_errors(void **state)
{
    (void)state;
    start(0, 0, 0);
    assert_int_equal(get(STATUS), 2);
    put(STATUS, 2);
    assert_int_equal(get(STATUS), 0);
    start(0, 0, (16 << 20) + 1);
    assert_int_equal(get(STATUS), 2);
    put(STATUS, 2);
    start(0xf0000000, 0, 16); /* no RAM there */
    mobo_fake_work(f);
    assert_int_equal(get(STATUS), 2);
    put(STATUS, 7);
    mobo_fake_pci_write(f, slot, 0, 0x04, 2, 2); /* bus mastering off */
    start(0, 64, 16);
    mobo_fake_work(f);
    assert_int_equal(get(STATUS), 2);
    put(SRC, 0xffffffff);
    put(SRC + 4, 0xffffffff);
    put(DOORBELL, 1);
    mobo_fake_work(f);
    assert_int_equal(get(STATUS), 2);
}

static void test_intx(void **state)
{
    (void)state;
    put(CONTROL, 1);
    start(0, 64, 16);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 0);
    mobo_fake_work(f);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 1);
    put(CONTROL, 0);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 0);
    put(CONTROL, 1);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 1);
    put(STATUS, 1);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 0);
}

static void test_msi(void **state)
{
    uint64_t addr;
    uint32_t data, cap = mobo_fake_pci_read(f, slot, 0, 0x34, 1);

    (void)state;
    assert_int_equal(mobo_fake_pci_read(f, slot, 0, cap, 1), 0x05);
    mobo_fake_pci_write(f, slot, 0, cap + 4, 4, 0xfee01000);
    mobo_fake_pci_write(f, slot, 0, cap + 12, 2, 0x4055);
    mobo_fake_pci_write(f, slot, 0, cap + 2, 2, 1);
    put(CONTROL, 1);
    start(0, 64, 16);
    mobo_fake_work(f);
    assert_int_equal(mobo_fake_msi(f, &addr, &data), 1);
    assert_int_equal(addr, 0xfee01000);
    assert_int_equal(data, 0x4055);
    assert_int_equal(mobo_fake_intx(f, slot, 0), 0);
    mobo_fake_pci_write(f, slot, 0, cap + 2, 2, 0); /* off: INTx speaks for what is pending */
    assert_int_equal(mobo_fake_intx(f, slot, 0), 1);
}

static void test_without_msi(void **state)
{
    const char *params[] = { "msi=no", NULL };

    (void)state;
    mobo_fake_destroy(f);
    assert_int_equal(plug(params), 0);
    assert_int_equal(mobo_fake_pci_read(f, slot, 0, 0x34, 1), 0);
}

static void test_state(void **state)
{
    uint8_t *ram = mobo_fake_ram(f);

    (void)state;
    memset(ram + 0x100000, 0xab, 200000);
    put(CONTROL, 1);
    put(SCRATCH, 77);
    start(0x100000, 0x200000, 200000);
    check_state();
    assert_int_equal(get(STATUS), 4);
    mobo_fake_work(f); /* goes on after the restore */
    assert_int_equal(get(STATUS), 1);
    assert_int_equal(ram[0x200000 + 199999], 0xab);
    check_state();
    assert_int_equal(mobo_fake_intx(f, slot, 0), 1);
    check_refused(2, 3, 1);
    check_refused(3, 0, 8);
    check_refused(3, 0, 4); /* busy with nothing left to do */
}

static void test_reset_drops_a_command(void **state)
{
    (void)state;
    start(0, 0x1000, 100000);
    mobo_fake_reset(f);
    mobo_fake_work(f);
    mobo_fake_pci_write(f, slot, 0, 0x10, 4, (uint32_t)BAR);
    mobo_fake_pci_write(f, slot, 0, 0x04, 2, 6);
    assert_int_equal(get(STATUS), 0);
    assert_int_equal(get(COUNT), 0);
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
    free(mobo_fake_inspect(dev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_identity),    T(test_registers), T(test_copy),
        T(test_errors),      T(test_intx),      T(test_msi),
        T(test_without_msi), T(test_state),     T(test_reset_drops_a_command),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
