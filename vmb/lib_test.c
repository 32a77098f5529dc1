/* SPDX-License-Identifier: BSD-2-Clause */
/* sdk/lib: saved state and hostile states, accesses, parameters, PCI configuration space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/lib/access.h"
#include "sdk/lib/param.h"
#include "sdk/lib/pciconf.h"
#include "sdk/lib/state.h"

/* ---- state ----------------------------------------------------------------------------------------- */

struct st {
    uint8_t a;
    uint32_t b[3];
    uint64_t c;
};

static const struct mobo_field fields[] = {
    MOBO_FIELD(1, struct st, a),
    MOBO_FIELD_ARRAY(2, struct st, b),
    MOBO_FIELD(7, struct st, c),
};

static struct mobo_reader rd;

static void round_trip(void **state)
{
    const struct st in = { 1, { 2, 3, 4 }, 5 };
    struct st out = { 0, { 0, 0, 0 }, 0 };
    struct mobo_writer w;
    uint8_t tail[4];
    uint32_t n = 0;

    (void)state;
    mobo_writer_init(&w);
    assert_int_equal(mobo_save_fields(&w, MOBO_ARRAY(fields), &in), 0);
    assert_int_equal(mobo_save_begin(&w, 9, 0), 0);
    assert_int_equal(mobo_save_bytes(&w, 1, 0, "abc", 3), 0);
    assert_int_equal(mobo_save_end(&w), 0);
    assert_int_equal(mobo_save_bytes(&w, 10, MOBO_FIELD_IGNORABLE, "x", 1), 0);

    assert_int_equal(mobo_reader_init(&rd, w.buf, w.len), 0);
    assert_int_equal(mobo_load_fields(&rd, MOBO_ARRAY(fields), &out), 0);
    assert_memory_equal(&out.b, &in.b, sizeof(in.b));
    assert_int_equal(out.c, 5);
    assert_int_equal(mobo_load_done(&rd), -EINVAL); /* group 9 */
    assert_int_equal(mobo_load_begin(&rd, 8), -ENOENT);
    assert_int_equal(mobo_load_begin(&rd, 9), 0);
    assert_int_equal(mobo_load_end(&rd), -EINVAL); /* field 1 in it */
    assert_int_equal(mobo_load_begin(&rd, 9), 0);
    assert_int_equal(mobo_load_bytes(&rd, 1, tail, 2, &n), -EMSGSIZE);
    assert_int_equal(mobo_load_bytes(&rd, 1, tail, 4, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(mobo_load_end(&rd), 0);
    assert_int_equal(mobo_load_done(&rd), 0);
    assert_int_equal(mobo_load_end(&rd), -EINVAL);
    mobo_writer_fini(&w);
}

static void unknown_and_missing(void **state)
{
    static const struct mobo_field more[] = {
        MOBO_FIELD(1, struct st, a),
        MOBO_FIELD_FLAGS(7, struct st, c, MOBO_FIELD_OPTIONAL),
    };
    struct st s = { 1, { 0, 0, 0 }, 42 };
    struct mobo_writer w;

    (void)state;
    mobo_writer_init(&w);
    mobo_save_bytes(&w, 1, 0, "x", 1);
    assert_int_equal(mobo_reader_init(&rd, w.buf, w.len), 0);
    assert_int_equal(mobo_load_fields(&rd, MOBO_ARRAY(more), &s), 0);
    assert_int_equal(s.c, 42);
    assert_int_equal(mobo_load_fields(&rd, MOBO_ARRAY(fields), &s), -EINVAL);
    assert_string_equal(rd.msg, "saved state lacks field 2 (b)");
    mobo_save_bytes(&w, 99, 0, "x", 1);
    assert_int_equal(mobo_reader_init(&rd, w.buf, w.len), 0);
    assert_int_equal(mobo_load_fields(&rd, MOBO_ARRAY(more), &s), -EINVAL);
    assert_string_equal(rd.msg, "saved state has field 99, which this version does not know");
    mobo_writer_fini(&w);
    mobo_writer_init(&w);
    mobo_save_bytes(&w, 1, 0, "xy", 2);
    assert_int_equal(mobo_reader_init(&rd, w.buf, w.len), 0);
    assert_int_equal(mobo_load_fields(&rd, MOBO_ARRAY(more), &s), -EINVAL);
    assert_string_equal(rd.msg, "saved field 1 (a) has 2 bytes instead of 1");
    mobo_writer_fini(&w);
}

static int check(const void *p, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1); /* exact, for sanitizers */
    int err;

    memcpy(copy, p, len);
    err = mobo_reader_init(&rd, copy, len);
    free(copy);
    return err;
}

static void hostile(void **state)
{
    static const uint8_t twice[] = { 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    static const uint8_t tag0[] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    static const uint8_t flags[] = { 1, 0, 4, 0, 0, 0, 0, 0 };
    static const uint8_t huge[] = { 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0 };
    static const uint8_t inner[] = { 1, 0, 2, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0 };
    uint8_t deep[8 * 40], noise[64];
    uint32_t seed = 1;

    (void)state;
    assert_int_equal(check(twice, sizeof(twice)), -EINVAL);
    assert_int_equal(check(tag0, sizeof(tag0)), -EINVAL);
    assert_int_equal(check(flags, sizeof(flags)), -EINVAL);
    assert_int_equal(check(huge, sizeof(huge)), -EINVAL);
    assert_int_equal(check(inner, sizeof(inner)), -EINVAL);
    assert_int_equal(check(twice, 8), 0);
    assert_int_equal(check(twice, 0), 0);
    for (unsigned i = 0; i < 40; i++) {
        memset(deep + 8 * i, 0, 8);
        deep[8 * i] = 1;
        deep[8 * i + 2] = 2;
        deep[8 * i + 4] = (uint8_t)(8 * (39 - i) & 0xff);
        deep[8 * i + 5] = (uint8_t)(8 * (39 - i) >> 8);
    }
    assert_int_equal(check(deep, sizeof(deep)), -EINVAL);
    for (unsigned i = 0; i < 200000; i++) {
        for (unsigned j = 0; j < sizeof(noise); j++) {
            seed = seed * 1103515245 + 12345;
            noise[j] = (seed >> 16 & 7) < 5 ? 0 : (uint8_t)(seed >> 20) & 0x1f;
        }
        check(noise, (seed >> 8) % sizeof(noise));
    }
}

static void writer_misuse(void **state)
{
    struct mobo_writer w;

    (void)state;
    mobo_writer_init(&w);
    assert_int_equal(mobo_save_end(&w), -EINVAL);
    mobo_writer_fini(&w);
    mobo_writer_init(&w);
    for (unsigned i = 0; i < MOBO_STATE_DEPTH - 1; i++)
        assert_int_equal(mobo_save_begin(&w, 1, 0), 0);
    assert_true(mobo_save_begin(&w, 1, 0) < 0);
    assert_true(mobo_save_bytes(&w, 1, 0, "", 0) < 0); /* sticky */
    mobo_writer_fini(&w);
    mobo_writer_init(&w);
    assert_int_equal(mobo_save_bytes(&w, 0x8000, 0, "", 0), -EINVAL);
    mobo_writer_fini(&w);
}

/* ---- accesses ---------------------------------------------------------------------------------------- */

static char trace[512];

static uint64_t io_read(void *ctx, uint64_t off, uint32_t len)
{
    (void)ctx;
    snprintf(trace + strlen(trace), sizeof(trace) - strlen(trace), "r%u@%u ", len, (unsigned)off);
    return 0x1716151413121110ull >> (off % 8 * 8);
}

static void io_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    (void)ctx;
    snprintf(trace + strlen(trace), sizeof(trace) - strlen(trace), "w%u@%u=%llx ", len,
             (unsigned)off, (unsigned long long)val);
}

static const char *try_read(uint32_t widths, uint64_t region, uint64_t off, uint32_t len,
                            uint64_t want)
{
    const struct mobo_io_ops ops = { sizeof(ops), widths, io_read, io_write };

    trace[0] = 0;
    assert_int_equal(mobo_access_read(&ops, NULL, region, off, len), want);
    return trace;
}

static const char *try_write(uint32_t widths, uint64_t region, uint64_t off, uint32_t len,
                             uint64_t val)
{
    const struct mobo_io_ops ops = { sizeof(ops), widths, io_read, io_write };

    trace[0] = 0;
    mobo_access_write(&ops, NULL, region, off, len, val);
    return trace;
}

static void accesses(void **state)
{
    const struct mobo_io_ops none = { sizeof(none), MOBO_W8, NULL, NULL };

    (void)state;
    assert_string_equal(try_read(MOBO_W8, 8, 2, 1, 0x12), "r1@2 ");
    assert_string_equal(try_read(MOBO_W8, 8, 2, 4, 0x15141312), "r1@2 r1@3 r1@4 r1@5 ");
    assert_string_equal(try_read(MOBO_W8 | MOBO_W32, 8, 4, 4, 0x17161514), "r4@4 ");
    assert_string_equal(try_read(MOBO_W8 | MOBO_W16, 8, 1, 4, 0x14131211), "r1@1 r2@2 r1@4 ");
    assert_string_equal(try_read(MOBO_W32, 8, 5, 2, 0x1615), "r4@4 ");
    assert_string_equal(try_read(MOBO_W32, 8, 3, 2, 0x1413), "r4@0 r4@4 ");
    assert_string_equal(try_read(MOBO_W32, 8, 0, 8, 0x1716151413121110), "r4@0 r4@4 ");
    assert_string_equal(try_read(MOBO_W32, 2, 0, 2, 0xffff), "");
    assert_string_equal(try_write(MOBO_W8, 8, 0, 2, 0xabcd), "w1@0=cd w1@1=ab ");
    assert_string_equal(try_write(MOBO_W32, 8, 0, 8, 0x1122334455667788),
                        "w4@0=55667788 w4@4=11223344 ");
    assert_string_equal(try_write(MOBO_W32, 8, 1, 1, 0xff), "");
    assert_string_equal(try_write(MOBO_W32, 12, 2, 8, 0x1122334455667788), "w4@4=33445566 ");
    assert_int_equal(mobo_access_read(&none, NULL, 4, 0, 2), 0xffff);
}

/* ---- parameters -------------------------------------------------------------------------------------- */

static void parameters(void **state)
{
    const struct mobo_param u = { "n", MOBO_UINT, 0, NULL, NULL, 1, 0xffff, NULL, "" };
    const struct mobo_param z = { "s", MOBO_SIZE, 0, NULL, NULL, 0, 0, NULL, "" };
    const struct mobo_param b = { "b", MOBO_BOOL, 0, NULL, NULL, 0, 0, NULL, "" };
    const struct mobo_param c = { "c", MOBO_CHOICE, 0, NULL, NULL, 0, 0, "one|two|three", "" };
    struct mobo_param_value v = { 0, 0 };
    const char *best = NULL;
    char msg[128];

    (void)state;
    assert_int_equal(mobo_param_parse(&u, "0x3f8", &v, msg, sizeof(msg)), 0);
    assert_int_equal(v.num, 0x3f8);
    assert_int_equal(mobo_param_parse(&u, "0", &v, msg, sizeof(msg)), -EINVAL);
    assert_string_equal(msg, "is below the smallest, 1 (0x1)");
    assert_int_equal(mobo_param_parse(&u, "65536", &v, msg, sizeof(msg)), -EINVAL);
    assert_string_equal(msg, "is above the largest, 65535 (0xffff)");
    assert_int_equal(mobo_param_parse(&u, "0x3g8", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&u, "-1", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&u, "", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&u, "1K", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&u, "99999999999999999999", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&z, "2M", &v, msg, sizeof(msg)), 0);
    assert_int_equal(v.num, 2 << 20);
    assert_int_equal(mobo_param_parse(&z, "17000000T", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&z, "2MB", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&b, "On", &v, msg, sizeof(msg)), 0);
    assert_int_equal(v.num, 1);
    assert_int_equal(mobo_param_parse(&b, "maybe", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&c, "two", &v, msg, sizeof(msg)), 0);
    assert_int_equal(mobo_param_parse(&c, "three", &v, msg, sizeof(msg)), 0);
    assert_int_equal(mobo_param_parse(&c, "thre", &v, msg, sizeof(msg)), -EINVAL);
    assert_int_equal(mobo_param_parse(&c, "one|two", &v, msg, sizeof(msg)), 0 - EINVAL);
    assert_int_equal(mobo_edit_distance("prot", "port"), 1);
    assert_int_equal(mobo_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(mobo_edit_distance("", "abc"), 3);
    mobo_suggest("prot", "part", &best);
    mobo_suggest("prot", "port", &best);
    mobo_suggest("prot", "irq", &best);
    assert_string_equal(best, "port");
    best = NULL;
    mobo_suggest("zzzz", "port", &best);
    assert_null(best);
}

/* ---- PCI configuration space --------------------------------------------------------------------------- */

static void pci_space(void **state)
{
    const struct mobo_pci_info info = {
        .size = sizeof(info),
        .vendor = 0x1af4,
        .device = 0x10ff,
        .class_code = 0xff0000,
        .revision = 3,
        .pin = 1,
        .subsys_vendor = 0x1234,
        .subsys_device = 0x5678,
    };
    struct mobo_pciconf c;
    uint64_t addr = 0;
    uint32_t off = 0, data = 0;

    (void)state;
    assert_int_equal(mobo_pciconf_init(&c, &info), 0);
    assert_int_equal(mobo_pciconf_get(&c, 0, 4), 0x10ff1af4);
    assert_int_equal(mobo_pciconf_get(&c, 8, 4), 0xff000003);
    assert_int_equal(mobo_pciconf_get(&c, 0x2c, 4), 0x56781234);
    mobo_pciconf_write(&c, 0, 4, 0);
    assert_int_equal(mobo_pciconf_get(&c, 0, 4), 0x10ff1af4);

    assert_int_equal(mobo_pciconf_bar_add(&c, 0, MOBO_BAR_MEM32, 0x1000), 0);
    assert_int_equal(mobo_pciconf_bar_add(&c, 1, MOBO_BAR_IO, 0x20), 0);
    assert_int_equal(mobo_pciconf_bar_add(&c, 2, MOBO_BAR_MEM64 | MOBO_BAR_PREFETCH, 1ull << 33),
                     0);
    assert_int_equal(mobo_pciconf_bar_add(&c, 3, MOBO_BAR_MEM32, 0x1000), -EBUSY);
    assert_int_equal(mobo_pciconf_bar_add(&c, 0, MOBO_BAR_MEM32, 0x1000), -EBUSY);
    assert_int_equal(mobo_pciconf_bar_add(&c, 4, MOBO_BAR_MEM32, 0x1001), -EINVAL);
    assert_int_equal(mobo_pciconf_bar_add(&c, 4, MOBO_BAR_IO, 0x200), -EINVAL);
    assert_int_equal(mobo_pciconf_bar_add(&c, 4, MOBO_BAR_MEM32, 0), -EINVAL);
    assert_int_equal(mobo_pciconf_bar_add(&c, 5, MOBO_BAR_MEM64, 0x1000), -EINVAL);
    assert_int_equal(mobo_pciconf_bar_add(&c, 6, MOBO_BAR_MEM32, 0x1000), -EINVAL);

    /* sizing, PCI 6.2.5.1 */
    for (off = 0x10; off < 0x28; off += 4)
        mobo_pciconf_write(&c, off, 4, 0xffffffff);
    assert_int_equal(mobo_pciconf_get(&c, 0x10, 4), 0xfffff000);
    assert_int_equal(mobo_pciconf_get(&c, 0x14, 4), 0xffffffe1);
    assert_int_equal(mobo_pciconf_get(&c, 0x18, 4), 0x0000000c);
    assert_int_equal(mobo_pciconf_get(&c, 0x1c, 4), 0xfffffffe);
    assert_int_equal(mobo_pciconf_get(&c, 0x20, 4), 0);

    /* decoding follows the command register; a probe value does not decode */
    assert_int_equal(mobo_pciconf_bar(&c, 0, &addr), 0);
    mobo_pciconf_write(&c, PCI_COMMAND, 2, 0xffff);
    assert_int_equal(mobo_pciconf_command(&c), 0x0547);
    assert_int_equal(mobo_pciconf_bar(&c, 0, &addr), 0);
    mobo_pciconf_write(&c, 0x10, 4, 0xe0001234);
    assert_int_equal(mobo_pciconf_bar(&c, 0, &addr), 1);
    assert_int_equal(addr, 0xe0001000);
    mobo_pciconf_write(&c, 0x14, 4, 0xc007);
    assert_int_equal(mobo_pciconf_bar(&c, 1, &addr), 1);
    assert_int_equal(addr, 0xc000);
    mobo_pciconf_bar_place(&c, 2, 0x4200000000ull);
    assert_int_equal(mobo_pciconf_bar(&c, 2, &addr), 1);
    assert_true(addr == 0x4200000000ull);
    mobo_pciconf_write(&c, PCI_COMMAND, 2, PCI_CMD_MEM);
    assert_int_equal(mobo_pciconf_bar(&c, 1, &addr), 0);

    /* MSI and the capability list */
    assert_int_equal(mobo_pciconf_define(&c, 0x40, 4, 0, 0xff, 0), 0);
    assert_int_equal(mobo_pciconf_msi_add(&c, 3), -EINVAL);
    assert_int_equal(mobo_pciconf_msi_add(&c, 4), 0);
    assert_int_equal(mobo_pciconf_msi_add(&c, 4), -EBUSY);
    off = mobo_pciconf_get(&c, PCI_CAP_PTR, 1);
    assert_int_equal(off, 0x44);
    assert_int_equal(mobo_pciconf_get(&c, off, 1), 5);
    assert_int_equal(mobo_pciconf_msi(&c, 0, &addr, &data), -EACCES);
    mobo_pciconf_write(&c, off + 4, 4, 0xfee01003);
    mobo_pciconf_write(&c, off + 12, 2, 0x4041);
    mobo_pciconf_write(&c, off + 2, 2, 0x0021);
    assert_int_equal(mobo_pciconf_msi(&c, 3, &addr, &data), 0);
    assert_int_equal(addr, 0xfee01000);
    assert_int_equal(data, 0x4043);
    assert_int_equal(mobo_pciconf_msi(&c, 4, &addr, &data), -EINVAL);
    assert_int_equal(mobo_pciconf_cap_add(&c, 9, 200, &off), -ENOSPC);

    /* write-1-to-clear status, reset */
    c.data[PCI_STATUS + 1] = 0xf9;
    mobo_pciconf_write(&c, PCI_STATUS, 2, 0x8000);
    assert_int_equal(c.data[PCI_STATUS + 1], 0x79);
    mobo_pciconf_reset(&c);
    assert_int_equal(mobo_pciconf_command(&c), 0);
    assert_int_equal(mobo_pciconf_msi_enabled(&c), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(unknown_and_missing),
        cmocka_unit_test(hostile),    cmocka_unit_test(writer_misuse),
        cmocka_unit_test(accesses),   cmocka_unit_test(parameters),
        cmocka_unit_test(pci_space),
    };

    return cmocka_run_group_tests_name("lib", tests, NULL, NULL);
}
