/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of keys: by name, by character, by keysym. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/display/keymap.h"

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(keymap_name("esc", 3), 1);
    assert_int_equal(keymap_name("ctrl", 4), 0x1d);
    assert_int_equal(keymap_name("home", 4), MOBO_KEY_E0 | 0x47);
    assert_int_equal(keymap_name("pause", 5), MOBO_KEY_PAUSE);
    assert_int_equal(keymap_name("pau", 3), 0);
    assert_int_equal(keymap_name("", 0), 0);
    assert_string_equal(keymap_nearest("entre"), "enter");
}

static void test_chars(void **state)
{
    bool shift;

    (void)state;
    assert_int_equal(keymap_char('a', &shift), 0x1e);
    assert_false(shift);
    assert_int_equal(keymap_char('A', &shift), 0x1e);
    assert_true(shift);
    assert_int_equal(keymap_char('\r', &shift), 0x1c);
    assert_int_equal(keymap_char(0, &shift), 0);
    assert_int_equal(keymap_char(0xe4, &shift), 0);
    for (uint32_t c = 0x20; c < 0x7f; c++) { /* all of ASCII, and no two alike */
        bool other;
        unsigned key = keymap_char(c, &shift);

        assert_int_not_equal(key, 0);
        for (uint32_t d = 0x20; d < c; d++)
            assert_true(keymap_char(d, &other) != key || other != shift);
    }
}

static void test_keysyms(void **state)
{
    int shift;

    (void)state;
    assert_int_equal(keymap_keysym('/', &shift), 0x35);
    assert_int_equal(shift, 0);
    assert_int_equal(keymap_keysym('?', &shift), 0x35);
    assert_int_equal(shift, 1);
    assert_int_equal(keymap_keysym(' ', &shift), 0x39);
    assert_int_equal(shift, -1);
    assert_int_equal(keymap_keysym(0xff0d, &shift), 0x1c); /* Return */
    assert_int_equal(shift, -1);
    assert_int_equal(keymap_keysym(0xffff, &shift), MOBO_KEY_E0 | 0x53);
    assert_int_equal(keymap_keysym(0xff95, &shift), 0x47); /* KP_Home */
    assert_int_equal(keymap_keysym(0xfe03, &shift), MOBO_KEY_E0 | 0x38);
    assert_int_equal(keymap_keysym(0x1000000, &shift), 0);
    assert_int_equal(keymap_keysym(0, &shift), 0);
    for (uint32_t sym = 0; sym < 0x10000; sym++)
        assert_true(keymap_keysym(sym, &shift) < MOBO_KEY_COUNT);
    assert_true(keymap_letter(0x1e));
    assert_false(keymap_letter(0x02));
}

static void test_text(void **state)
{
    struct mobo_input_event e[2 * KEYMAP_CHORD];
    const char *wrong = NULL;

    (void)state;
    assert_int_equal(keymap_text("aB", e, &wrong), 6);
    assert_int_equal(e[0].kind, MOBO_INPUT_KEY);
    assert_int_equal(e[0].key, 0x1e);
    assert_int_equal(e[0].down, 1);
    assert_int_equal(e[1].down, 0);
    assert_int_equal(e[2].key, KEY_LEFT_SHIFT);
    assert_int_equal(e[3].key, 0x30);
    assert_int_equal(e[5].key, KEY_LEFT_SHIFT);
    assert_int_equal(e[5].down, 0);
    assert_int_equal(keymap_text("x\xc3\xa4", e, &wrong), -EINVAL);
    assert_string_equal(wrong, "\xc3\xa4");
    assert_int_equal(keymap_chord("ctrl+alt+delete", 0, e, &wrong), 6);
    assert_int_equal(e[0].key, 0x1d);
    assert_int_equal(e[2].key, MOBO_KEY_E0 | 0x53);
    assert_int_equal(e[3].key, MOBO_KEY_E0 | 0x53);
    assert_int_equal(e[5].key, 0x1d);
    assert_int_equal(e[5].down, 0);
    assert_int_equal(keymap_chord("a", 1, e, &wrong), 1);
    assert_int_equal(keymap_chord("a", -1, e, &wrong), 1);
    assert_int_equal(e[0].down, 0);
    assert_int_equal(keymap_chord("ctrl+", 0, e, &wrong), -EINVAL);
    assert_int_equal(keymap_chord("", 0, e, &wrong), -EINVAL);
    assert_int_equal(keymap_chord("ctrl+hyper", 0, e, &wrong), -EINVAL);
    assert_string_equal(wrong, "hyper");
    assert_int_equal(keymap_chord("a+b+c+d+e+f+g+h+i", 0, e, &wrong), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_chars),
        cmocka_unit_test(test_keysyms),
        cmocka_unit_test(test_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
