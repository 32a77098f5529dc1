/* SPDX-License-Identifier: BSD-2-Clause */
/* What the unit tests of the vdevs have in common: cmocka, a host in memory, one device on it. */
#ifndef PLUGINS_TEST_H
#define PLUGINS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sdk/test/mobo_fakehost.h"

static struct mobo_fake *f;
static struct mobo_vdev *dev;

/* Put the device on a new host; @params as mobo_fake_add() has them. */
static inline int plug(const char *const *params)
{
    f = mobo_fake_create();
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", params);
    return dev ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    mobo_fake_destroy(f);
    f = NULL;
    return 0;
}

static inline uint32_t in(uint32_t port)
{
    return mobo_fake_in(f, port, 1);
}

static inline void out(uint32_t port, uint32_t val)
{
    mobo_fake_out(f, port, 1, val);
}

/* Save, restore, save; and every truncation. */
static inline void check_state(void)
{
    if (mobo_fake_roundtrip(dev))
        fail_msg("%s", mobo_fake_error(f));
}

/* Restore with one byte of the field @tag (of the outermost group) changed: has to be refused, and
 * with a message. */
static inline void check_refused(unsigned tag, unsigned byte, uint8_t val)
{
    uint8_t *buf;
    size_t len, at = 0;

    assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
    while (at + 8 <= len) {
        uint32_t n = buf[at + 4] | (uint32_t)buf[at + 5] << 8 | (uint32_t)buf[at + 6] << 16;

        if ((unsigned)(buf[at] | buf[at + 1] << 8) == tag) {
            assert_true(byte < n);
            buf[at + 8 + byte] = val;
            assert_int_not_equal(mobo_fake_restore(dev, buf, len), 0);
            assert_string_not_equal(mobo_fake_error(f), "");
            free(buf);
            return;
        }
        at += 8 + n;
    }
    fail_msg("field %u is not in the state", tag);
}

/* Saved states with bytes changed at random: what is refused has a message, what is accepted does no
 * harm to whatever comes after. */
static inline void check_flips(void)
{
    uint64_t x = 0x9e3779b97f4a7c15;
    uint8_t *buf, *bad;
    size_t len;

    assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
    bad = malloc(len);
    assert_non_null(bad);
    for (unsigned round = 0; round < 1500; round++) {
        memcpy(bad, buf, len);
        for (unsigned n = 0; n <= round % 3; n++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bad[(x >> 16) % len] = (uint8_t)(x & 0x100 ? x : 1u << (x & 7));
        }
        if (mobo_fake_restore(dev, bad, len)) {
            assert_string_not_equal(mobo_fake_error(f), "");
            continue;
        }
        mobo_fake_monkey(f, round, 20);
        mobo_fake_step(f, 1000000);
        free(mobo_fake_inspect(dev));
    }
    if (mobo_fake_restore(dev, buf, len))
        fail_msg("%s", mobo_fake_error(f));
    free(bad);
    free(buf);
}

/* Random accesses of all sizes, and state from wherever they lead. */
static inline void check_monkey(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        mobo_fake_monkey(f, seed, 2000);
        check_state();
    }
    check_flips();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
