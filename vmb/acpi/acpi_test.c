/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables: checksums and links between them, then iasl takes each apart and puts the DSDT
 * together again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmb/acpi/acpi.h"

enum { BASE = 0xe0000 };

static uint8_t area[0x20000];

static const struct mobo_acpi_ioapic ioapic = {
    .head = { sizeof(ioapic), MOBO_ACPI_IOAPIC }, .base = 0xfec00000, .isa_line0_gsi = 2, .pins = 24
};
static const struct mobo_acpi_pm pm = { .head = { sizeof(pm), MOBO_ACPI_PM },
                                        .pm1_event = 0xb000,
                                        .pm1_event_len = 4,
                                        .pm1_control = 0xb004,
                                        .pm1_control_len = 2,
                                        .pm_timer = 0xb008,
                                        .pm_timer_len = 4,
                                        .gpe0 = 0xb00c,
                                        .gpe0_len = 4,
                                        .smi_command = 0xb2,
                                        .acpi_enable = 0xf1,
                                        .acpi_disable = 0xf0,
                                        .reset_port = 0xcf9,
                                        .reset_value = 6,
                                        .sci_line = 9,
                                        .s5_type = 0,
                                        .s3_type = 0xff,
                                        .power_button = 1 };
static const struct mobo_acpi_hpet hpet = { .head = { sizeof(hpet), MOBO_ACPI_HPET },
                                            .base = 0xfed00000,
                                            .event_timer_block_id = 0x8086a201,
                                            .min_tick = 100 };
static const struct mobo_acpi_isa com1 = { .head = { sizeof(com1), MOBO_ACPI_ISA },
                                           .name = "COM1",
                                           .hid = "PNP0501",
                                           .uid = 1,
                                           .irqs = 1 << 4,
                                           .nports = 1,
                                           .port = { { 0x3f8, 8 } } };
static const struct mobo_acpi_isa kbd = { .head = { sizeof(kbd), MOBO_ACPI_ISA },
                                          .name = "KBD",
                                          .hid = "PNP0303",
                                          .irqs = 1 << 1,
                                          .nports = 2,
                                          .port = { { 0x60, 1 }, { 0x64, 1 } } };
static const struct mobo_acpi_isa lvl = { .head = { sizeof(lvl), MOBO_ACPI_ISA },
                                          .name = "LVL0",
                                          .hid = "MOBO0001",
                                          .irqs = 1 << 20,
                                          .irq_flags = MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED,
                                          .nports = 1,
                                          .port = { { 0x4000, 0x300 } },
                                          .mem_base = 0xfed40000,
                                          .mem_len = 0x1000 };
static const struct mobo_acpi_pci_root root = { .head = { sizeof(root), MOBO_ACPI_PCI_ROOT },
                                                .config_port = 0xcf8 };
static const struct mobo_acpi_pci_links links = { .head = { sizeof(links), MOBO_ACPI_PCI_LINKS },
                                                  .reg = { 0x60, 0x61, 0x62, 0x63 },
                                                  .irqs = 1 << 5 | 1 << 10 | 1 << 11 };

static struct acpi_desc full(void)
{
    struct acpi_desc d;

    memset(&d, 0, sizeof(d));
    d.vps = 3;
    d.ioapic[0] = &ioapic;
    d.nioapic = 1;
    d.isa[0] = &com1;
    d.isa[1] = &kbd;
    d.isa[2] = &lvl;
    d.nisa = 3;
    d.pm = &pm;
    d.hpet = &hpet;
    d.root = &root;
    d.links = &links;
    d.links_slot = 1;
    d.legacy = MOBO_ACPI_HAS_8042 | MOBO_ACPI_HAS_8259 | MOBO_ACPI_HAS_RTC;
    d.rtc_century = 0x32;
    d.mem_first = 0xc0000000;
    d.mem_last = 0xfebfffff;
    return d;
}

static uint64_t get(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;

    memcpy(&v, p, len);
    return v;
}

static void assert_sum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *p++);
    assert_int_equal(sum, 0);
}

/* The table with a signature, by way of the XSDT. */
static const uint8_t *find(const char *sig, size_t *ret_len)
{
    const uint8_t *xsdt = area + get(area + 24, 8) - BASE;
    unsigned n = ((unsigned)get(xsdt + 4, 4) - 36) / 8;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *t = area + get(xsdt + 36 + 8 * i, 8) - BASE;

        if (!memcmp(t, sig, 4)) {
            *ret_len = get(t + 4, 4);
            assert_sum(t, *ret_len);
            return t;
        }
    }
    return NULL;
}

static void links_and_sums(void **state)
{
    struct acpi_desc d = full();
    size_t len = acpi_build(&d, BASE, area, sizeof(area)), n = 0;
    const uint8_t *t;

    (void)state;
    assert_true(len > 1000);
    assert_memory_equal(area, "RSD PTR ", 8);
    assert_sum(area, 20);
    assert_sum(area, 36);
    t = find("FACP", &n);
    assert_non_null(t);
    assert_int_equal(n, 268);
    assert_int_equal(get(t + 46, 2), 9);
    assert_int_equal(get(t + 76, 4), 0xb008);
    assert_int_equal(t[108], 0x32);
    assert_int_equal(get(t + 109, 2), 1 | 2 | 4); /* legacy, 8042, no VGA */
    assert_memory_equal(area + get(t + 140, 8) - BASE, "DSDT", 4);
    assert_memory_equal(area + get(t + 36, 4) - BASE, "FACS", 4);
    t = find("APIC", &n);
    assert_non_null(t);
    assert_int_equal(n, 44 + 3 * 8 + 12 + 10 + 4 * 10 + 6); /* overrides: 0, 5, 9, 10, 11 */
    assert_int_equal(get(t + 40, 4), 1);
    assert_non_null(find("HPET", &n));
    assert_int_equal(n, 56);
}

static void too_small(void **state)
{
    struct acpi_desc d = full();
    size_t len = acpi_build(&d, BASE, area, sizeof(area));

    (void)state;
    for (size_t cut = 0; cut < len; cut += 97)
        assert_int_equal(acpi_build(&d, BASE, area, cut), 0);
    assert_int_equal(acpi_build(&d, BASE, area, len), len);
}

static void many_vps(void **state)
{
    struct acpi_desc d = full();

    (void)state;
    d.vps = 64;
    assert_true(acpi_build(&d, BASE, area, sizeof(area)) > 3000);
}

/* Run a command in @dir; its output is shown when it fails. */
static int run(const char *dir, const char *cmd)
{
    char line[512];

    snprintf(line, sizeof(line), "cd %s && { %s; } >log 2>&1 || { cat log; exit 1; }", dir, cmd);
    return system(line);
}

static void write_table(const char *dir, const char *name, const uint8_t *t, size_t len)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(t, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void iasl_round_trip(struct acpi_desc *d)
{
    static const char *const sigs[] = { "FACP", "APIC", "HPET" };
    char dir[] = "/tmp/mobo-acpi-XXXXXX", line[300];
    const uint8_t *fadt, *dsdt;
    size_t n = 0;

    if (system("iasl -v >/dev/null 2>&1")) {
        print_message("iasl is not installed\n");
        skip();
    }
    assert_true(acpi_build(d, BASE, area, sizeof(area)) > 0);
    assert_non_null(mkdtemp(dir));
    fadt = find("FACP", &n);
    dsdt = area + get(fadt + 140, 8) - BASE;
    assert_sum(dsdt, get(dsdt + 4, 4));
    write_table(dir, "dsdt.aml", dsdt, get(dsdt + 4, 4));
    /* no name may be left unresolved */
    assert_int_equal(run(dir, "iasl -d dsdt.aml && ! grep -q External dsdt.dsl"), 0);
    assert_int_equal(run(dir, "iasl -we -vw 2089 -p out dsdt.dsl"), 0);
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *t = find(sigs[i], &n);

        if (!t)
            continue;
        write_table(dir, "table.aml", t, n);
        assert_int_equal(run(dir, "iasl -d table.aml && iasl -we -p out table.dsl && "
                                  "! grep -qi 'invalid\\|unknown\\|incorrect' table.dsl"),
                         0);
    }
    snprintf(line, sizeof(line), "rm -rf %s", dir);
    assert_int_equal(system(line), 0);
}

static void iasl_full(void **state)
{
    struct acpi_desc d = full();

    (void)state;
    iasl_round_trip(&d);
}

static void iasl_no_router(void **state)
{
    struct acpi_desc d = full();

    (void)state;
    d.links = NULL;
    d.hpet = NULL;
    iasl_round_trip(&d);
}

static void iasl_bare(void **state)
{
    struct acpi_desc d = full();

    (void)state;
    d.links = NULL;
    d.root = NULL;
    d.pm = NULL;
    iasl_round_trip(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_and_sums), cmocka_unit_test(too_small),
        cmocka_unit_test(many_vps),       cmocka_unit_test(iasl_full),
        cmocka_unit_test(iasl_no_router), cmocka_unit_test(iasl_bare),
    };

    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
