/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys of a US keyboard: by name, by the character that they type, by X11 keysym.
 * A key is what `key` of struct mobo_input_event holds. */
#ifndef CORE_DISPLAY_KEYMAP_H
#define CORE_DISPLAY_KEYMAP_H

#include <mobo/vdev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_LEFT_SHIFT = 0x2a, KEY_RIGHT_SHIFT = 0x36, KEYMAP_EVENTS_PER_CHAR = 4 };

/** @return the key of the name ("enter", "leftctrl", "a"; @len bytes), 0 if there is none. */
unsigned keymap_name(const char *name, size_t len);
/** The nearest name, for messages, or NULL. */
const char *keymap_nearest(const char *name);
/** @return the key that types a character, 0 if there is none; *@ret_shift: together with Shift. */
unsigned keymap_char(uint32_t c, bool *ret_shift);
/** @return the key of a keysym, 0 if there is none; *@ret_shift: 1 with Shift, 0 without, -1: Shift does
 * not matter. */
unsigned keymap_keysym(uint32_t keysym, int *ret_shift);
/** Whether Caps Lock changes what the key types. */
bool keymap_letter(unsigned key);

/** Text as presses and releases: at most KEYMAP_EVENTS_PER_CHAR for each byte.
 * @return number of events; -EINVAL: *@ret_bad is a character that no key types. */
int keymap_text(const char *text, struct mobo_input_event *ret, const char **ret_bad);
/** "leftctrl+leftalt+delete": pressed in this order, let go in the opposite one.  @how: 1 only press,
 * -1 only let go, 0 both.  @return number of events, up to 2 * KEYMAP_CHORD; -EINVAL: *@ret_bad is
 * what is not a key; -E2BIG. */
enum { KEYMAP_CHORD = 8 };
int keymap_chord(const char *names, int how, struct mobo_input_event *ret, const char **ret_bad);

#endif
