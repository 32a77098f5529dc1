/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the guest-physical memory map: against a model that knows each page by itself. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hv/infra.h"

static struct hv_partition *p;

static int setup(void **state)
{
    struct hv_config cfg = { .size = sizeof(cfg), .engine = getenv("MOBO_TEST_ENGINE") ?: "interp", .vps = 2 };

    (void)state;
    return hv_partition_create(&cfg, &p);
}

static int teardown(void **state)
{
    (void)state;
    hv_partition_destroy(p);
    return 0;
}

static void backing(void **state)
{
    uint64_t a, b, off = 77;
    char c;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, 0, &off), -EINVAL);
    assert_int_equal(hv_ram_alloc(p, 4097, &off), -EINVAL);
    assert_int_equal(hv_ram_alloc(p, 1ull << 50, &off), -ENOMEM);
    assert_int_equal(off, 77);
    assert_int_equal(hv_ram_alloc(p, 64 << 20, &a), 0);
    assert_int_equal(hv_ram_alloc(p, 4096, &b), 0);
    assert_true(b >= a + (64 << 20));
    char *ha = hv_ram_hva(p, a, 64 << 20), *hb = hv_ram_hva(p, b, 4096);
    assert_non_null(ha);
    assert_ptr_equal(hb - ha, (void *)(uintptr_t)(b - a)); /* one contiguous mapping */
    hb[5] = 'x';
    assert_int_equal(pread(hv_ram_fd(p), &c, 1, (off_t)(b + 5)), 1);
    assert_int_equal(c, 'x');
    assert_null(hv_ram_hva(p, b, 8192));
    assert_null(hv_ram_hva(p, UINT64_MAX, 1));
}

static void bad_ranges(void **state)
{
    uint64_t off;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, 1 << 20, &off), 0);
    assert_int_equal(hv_gpa_map(p, 1, 4096, off, HV_MAP_RWX), -EINVAL);
    assert_int_equal(hv_gpa_map(p, 0, 0, off, HV_MAP_RWX), -EINVAL);
    assert_int_equal(hv_gpa_map(p, 0, 2 << 20, off, HV_MAP_RWX), -EINVAL); /* more than there is */
    assert_int_equal(hv_gpa_map(p, 0, 4096, off + 1, HV_MAP_RWX), -EINVAL);
    assert_int_equal(hv_gpa_map(p, 0, 4096, off, HV_MAP_WRITE), -EINVAL);
    assert_int_equal(hv_gpa_map(p, 0, 4096, off, 0x80), -EINVAL);
    assert_int_equal(hv_gpa_map(p, 1ull << 46, 4096, off, HV_MAP_RWX), -EINVAL);
    assert_int_equal(hv_gpa_map(p, ~0ull << 12, 4096, off, HV_MAP_RWX), -EINVAL);
    assert_true(strlen(hv_last_error()) > 10);
}

/* Random changes on 256 pages; after each, every page must be where the model says. */
static void random_map(void **state)
{
    enum { PAGES = 256 };
    struct {
        bool mapped;
        uint64_t page;
        unsigned flags;
    } model[PAGES] = { 0 };
    static const unsigned flags[] = { HV_MAP_RWX, HV_MAP_READ, HV_MAP_READ | HV_MAP_EXEC,
                                      HV_MAP_RWX | HV_MAP_DIRTY_LOG };
    uint64_t off;
    unsigned seed = 1;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, PAGES * 4096, &off), 0);
    for (unsigned round = 0; round < 3000; round++) {
        unsigned first = (unsigned)rand_r(&seed) % PAGES,
                 n = 1 + (unsigned)rand_r(&seed) % (PAGES - first);
        unsigned from = (unsigned)rand_r(&seed) % (PAGES - n + 1), f = flags[rand_r(&seed) % 4];
        unsigned kind = (unsigned)rand_r(&seed) % 3;

        if (round % 2)
            n = n > 8 ? 1 + n % 8 : n;
        if (kind == 0)
            assert_int_equal(hv_gpa_map(p, first * 4096ull, n * 4096ull, off + from * 4096ull, f),
                             0);
        else if (kind == 1)
            assert_int_equal(hv_gpa_unmap(p, first * 4096ull, n * 4096ull), 0);
        else
            assert_int_equal(hv_gpa_protect(p, first * 4096ull, n * 4096ull, f), 0);
        for (unsigned i = 0; i < n; i++) {
            if (kind == 0) {
                model[first + i].mapped = true;
                model[first + i].page = off / 4096 + from + i;
            } else if (kind == 1) {
                model[first + i].mapped = false;
            }
            if (kind != 1)
                model[first + i].flags = f;
        }
        for (unsigned i = 0; i < PAGES; i++) {
            struct hv_gpa_ref ref;
            bool hit = hv_gpa_lookup(p, i * 4096ull + 123, &ref);

            assert_int_equal(hit, model[i].mapped);
            if (hit) {
                assert_int_equal(ref.ram_page, model[i].page);
                assert_int_equal(ref.flags, model[i].flags);
                assert_ptr_equal(ref.hva, hv_ram_hva(p, ref.ram_page * 4096, 4096));
            }
        }
        assert_false(hv_gpa_lookup(p, PAGES * 4096ull, &(struct hv_gpa_ref){ 0 }));
    }
}

static void copies(void **state)
{
    uint64_t off;
    uint8_t buf[12288], back[12288];

    (void)state;
    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7);
    assert_int_equal(hv_ram_alloc(p, 4 * 4096, &off), 0);
    hv_gpa_map(p, 0x1000, 4096, off, HV_MAP_RWX);
    hv_gpa_map(p, 0x2000, 4096, off + 0x3000, HV_MAP_RWX); /* not contiguous below */
    hv_gpa_map(p, 0x3000, 4096, off + 0x1000, HV_MAP_READ);
    assert_int_equal(hv_gpa_write(p, 0x1800, buf, 0x1000), 0);
    assert_int_equal(hv_gpa_read(p, 0x1800, back, 0x1000), 0);
    assert_memory_equal(buf, back, 0x1000);
    assert_memory_equal(hv_ram_hva(p, off + 0x3000, 4096), buf + 0x800, 0x800);
    memset(hv_ram_hva(p, off, 4096), 0, 4096);
    assert_int_equal(hv_gpa_write(p, 0x1ff0, buf, 0x2000),
                     -EFAULT); /* ends in ROM: nothing is written */
    assert_int_equal(*(uint8_t *)hv_ram_hva(p, off + 0xff1, 1), 0);
    assert_int_equal(hv_gpa_read(p, 0x1000, back, 12288), 0);
    assert_int_equal(hv_gpa_read(p, 0x1001, back, 12288), -EFAULT);
    assert_int_equal(hv_gpa_read(p, UINT64_MAX - 10, back, 100), -EFAULT);
    assert_int_equal(hv_gpa_read(p, 0x1000, back, 0), 0);
    assert_null(hv_gpa_hva(p, 0x1800, 0x1000, false)); /* two regions */
    assert_non_null(hv_gpa_hva(p, 0x1800, 0x800, true));
    assert_non_null(hv_gpa_hva(p, 0x3000, 1, false));
    assert_null(hv_gpa_hva(p, 0x3000, 1, true));
}

static void dirty_log(void **state)
{
    uint64_t off, bits[2];
    uint8_t c = 1;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, 128 * 4096, &off), 0);
    hv_gpa_map(p, 0, 100 * 4096, off, HV_MAP_RWX | HV_MAP_DIRTY_LOG);
    hv_gpa_map(p, 100 * 4096, 4096, off + 100 * 4096, HV_MAP_RWX);
    assert_int_equal(hv_gpa_dirty_log(p, 0, 102 * 4096, bits), 0);
    assert_true(bits[0] == 0 && bits[1] == 1ull << 36); /* a region that does not log answers 1 */
    hv_gpa_write(p, 3 * 4096 + 5, &c, 1);
    hv_gpa_write(p, 63 * 4096 + 4095, "ab", 2); /* two pages */
    hv_gpa_dirty(p, 70 * 4096 + 10, 8192);      /* three */
    assert_int_equal(hv_gpa_dirty_log(p, 0, 100 * 4096, bits), 0);
    assert_true(bits[0] == (1ull << 3 | 1ull << 63) && bits[1] == (1ull << 0 | 7ull << 6));
    assert_int_equal(hv_gpa_dirty_log(p, 0, 100 * 4096, bits), 0);
    assert_true(bits[0] == 0 && bits[1] == 0);
    assert_int_equal(hv_gpa_dirty_log(p, 1, 4096, bits), -EINVAL);
}

/* Readers while the map changes: a page is either there with its one backing page, or not there. */
static _Atomic bool stop;

static void *reader(void *arg)
{
    uint64_t base = *(uint64_t *)arg / 4096;
    unsigned seed = 3;
    uintptr_t bad = 0;

    while (!atomic_load(&stop)) {
        struct hv_gpa_ref ref;
        unsigned page = (unsigned)rand_r(&seed) % 64;

        if (hv_gpa_lookup(p, page * 4096ull, &ref) && ref.ram_page != base + page)
            bad++;
    }
    return (void *)bad;
}

static void concurrent(void **state)
{
    pthread_t t;
    uint64_t off;
    unsigned seed = 9;
    void *bad;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, 64 * 4096, &off), 0);
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&t, NULL, reader, &off), 0);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned page = (unsigned)rand_r(&seed) % 64, n = 1 + (unsigned)rand_r(&seed) % (64 - page);

        if (i & 1)
            hv_gpa_unmap(p, page * 4096ull, n * 4096ull);
        else
            hv_gpa_map(p, page * 4096ull, n * 4096ull, off + page * 4096ull, HV_MAP_RWX);
    }
    atomic_store(&stop, true);
    pthread_join(t, &bad);
    assert_null(bad);
}

static void many_regions(void **state)
{
    uint64_t off;
    int err = 0;
    unsigned n = 0;

    (void)state;
    assert_int_equal(hv_ram_alloc(p, 4096, &off), 0);
    while (n < 300 && !(err = hv_gpa_map(p, n * 8192ull, 4096, off, HV_MAP_RWX)))
        n++;
    assert_int_equal(err, 0);
    assert_int_equal(hv_gpa_unmap(p, 0, 300 * 8192), 0);
    assert_false(hv_gpa_lookup(p, 8192, &(struct hv_gpa_ref){ 0 }));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(backing),   T(bad_ranges), T(random_map),   T(copies),
        T(dirty_log), T(concurrent), T(many_regions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
