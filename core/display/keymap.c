/* SPDX-License-Identifier: BSD-2-Clause */
/* See keymap.h.  Codes: "Keyboard Scan Code Specification" (Microsoft, revision 1.3a), appendix C, set 1.
 * Names: those of evdev (linux/input-event-codes.h) in lower case, and a few short ones.  Keysyms: "X
 * Window System Protocol", appendix A. */
#include "core/display/keymap.h"

#include <errno.h>
#include <string.h>

#include "core/util/diag.h"

enum { E0 = MOBO_KEY_E0 };

static const struct key {
    const char *name;
    uint16_t code;
    uint16_t keysym; /* 0: the characters have it */
    char plain, shifted;
} keys[] = {
    { "esc", 0x01, 0xff1b, 27, 0 },
    { "1", 0x02, 0, '1', '!' },
    { "2", 0x03, 0, '2', '@' },
    { "3", 0x04, 0, '3', '#' },
    { "4", 0x05, 0, '4', '$' },
    { "5", 0x06, 0, '5', '%' },
    { "6", 0x07, 0, '6', '^' },
    { "7", 0x08, 0, '7', '&' },
    { "8", 0x09, 0, '8', '*' },
    { "9", 0x0a, 0, '9', '(' },
    { "0", 0x0b, 0, '0', ')' },
    { "minus", 0x0c, 0, '-', '_' },
    { "equal", 0x0d, 0, '=', '+' },
    { "backspace", 0x0e, 0xff08, '\b', 0 },
    { "tab", 0x0f, 0xff09, '\t', 0 },
    { "q", 0x10, 0, 'q', 'Q' },
    { "w", 0x11, 0, 'w', 'W' },
    { "e", 0x12, 0, 'e', 'E' },
    { "r", 0x13, 0, 'r', 'R' },
    { "t", 0x14, 0, 't', 'T' },
    { "y", 0x15, 0, 'y', 'Y' },
    { "u", 0x16, 0, 'u', 'U' },
    { "i", 0x17, 0, 'i', 'I' },
    { "o", 0x18, 0, 'o', 'O' },
    { "p", 0x19, 0, 'p', 'P' },
    { "leftbrace", 0x1a, 0, '[', '{' },
    { "rightbrace", 0x1b, 0, ']', '}' },
    { "enter", 0x1c, 0xff0d, '\n', 0 },
    { "leftctrl", 0x1d, 0xffe3, 0, 0 },
    { "a", 0x1e, 0, 'a', 'A' },
    { "s", 0x1f, 0, 's', 'S' },
    { "d", 0x20, 0, 'd', 'D' },
    { "f", 0x21, 0, 'f', 'F' },
    { "g", 0x22, 0, 'g', 'G' },
    { "h", 0x23, 0, 'h', 'H' },
    { "j", 0x24, 0, 'j', 'J' },
    { "k", 0x25, 0, 'k', 'K' },
    { "l", 0x26, 0, 'l', 'L' },
    { "semicolon", 0x27, 0, ';', ':' },
    { "apostrophe", 0x28, 0, '\'', '"' },
    { "grave", 0x29, 0, '`', '~' },
    { "leftshift", KEY_LEFT_SHIFT, 0xffe1, 0, 0 },
    { "backslash", 0x2b, 0, '\\', '|' },
    { "z", 0x2c, 0, 'z', 'Z' },
    { "x", 0x2d, 0, 'x', 'X' },
    { "c", 0x2e, 0, 'c', 'C' },
    { "v", 0x2f, 0, 'v', 'V' },
    { "b", 0x30, 0, 'b', 'B' },
    { "n", 0x31, 0, 'n', 'N' },
    { "m", 0x32, 0, 'm', 'M' },
    { "comma", 0x33, 0, ',', '<' },
    { "dot", 0x34, 0, '.', '>' },
    { "slash", 0x35, 0, '/', '?' },
    { "rightshift", KEY_RIGHT_SHIFT, 0xffe2, 0, 0 },
    { "kpasterisk", 0x37, 0xffaa, 0, 0 },
    { "leftalt", 0x38, 0xffe9, 0, 0 },
    { "space", 0x39, 0, ' ', 0 },
    { "capslock", 0x3a, 0xffe5, 0, 0 },
    { "f1", 0x3b, 0xffbe, 0, 0 },
    { "f2", 0x3c, 0xffbf, 0, 0 },
    { "f3", 0x3d, 0xffc0, 0, 0 },
    { "f4", 0x3e, 0xffc1, 0, 0 },
    { "f5", 0x3f, 0xffc2, 0, 0 },
    { "f6", 0x40, 0xffc3, 0, 0 },
    { "f7", 0x41, 0xffc4, 0, 0 },
    { "f8", 0x42, 0xffc5, 0, 0 },
    { "f9", 0x43, 0xffc6, 0, 0 },
    { "f10", 0x44, 0xffc7, 0, 0 },
    { "numlock", 0x45, 0xff7f, 0, 0 },
    { "scrolllock", 0x46, 0xff14, 0, 0 },
    { "kp7", 0x47, 0xffb7, 0, 0 },
    { "kp8", 0x48, 0xffb8, 0, 0 },
    { "kp9", 0x49, 0xffb9, 0, 0 },
    { "kpminus", 0x4a, 0xffad, 0, 0 },
    { "kp4", 0x4b, 0xffb4, 0, 0 },
    { "kp5", 0x4c, 0xffb5, 0, 0 },
    { "kp6", 0x4d, 0xffb6, 0, 0 },
    { "kpplus", 0x4e, 0xffab, 0, 0 },
    { "kp1", 0x4f, 0xffb1, 0, 0 },
    { "kp2", 0x50, 0xffb2, 0, 0 },
    { "kp3", 0x51, 0xffb3, 0, 0 },
    { "kp0", 0x52, 0xffb0, 0, 0 },
    { "kpdot", 0x53, 0xffae, 0, 0 },
    { "102nd", 0x56, 0, 0, 0 },
    { "f11", 0x57, 0xffc8, 0, 0 },
    { "f12", 0x58, 0xffc9, 0, 0 },
    { "kpenter", E0 | 0x1c, 0xff8d, 0, 0 },
    { "rightctrl", E0 | 0x1d, 0xffe4, 0, 0 },
    { "kpslash", E0 | 0x35, 0xffaf, 0, 0 },
    { "sysrq", E0 | 0x37, 0xff61, 0, 0 },
    { "rightalt", E0 | 0x38, 0xffea, 0, 0 },
    { "home", E0 | 0x47, 0xff50, 0, 0 },
    { "up", E0 | 0x48, 0xff52, 0, 0 },
    { "pageup", E0 | 0x49, 0xff55, 0, 0 },
    { "left", E0 | 0x4b, 0xff51, 0, 0 },
    { "right", E0 | 0x4d, 0xff53, 0, 0 },
    { "end", E0 | 0x4f, 0xff57, 0, 0 },
    { "down", E0 | 0x50, 0xff54, 0, 0 },
    { "pagedown", E0 | 0x51, 0xff56, 0, 0 },
    { "insert", E0 | 0x52, 0xff63, 0, 0 },
    { "delete", E0 | 0x53, 0xffff, 0, 0 },
    { "leftmeta", E0 | 0x5b, 0xffeb, 0, 0 },
    { "rightmeta", E0 | 0x5c, 0xffec, 0, 0 },
    { "compose", E0 | 0x5d, 0xff67, 0, 0 },
    { "pause", MOBO_KEY_PAUSE, 0xff13, 0, 0 },
};
enum { NKEYS = sizeof(keys) / sizeof(keys[0]) };

/* Other names, and what they stand for. */
static const char *const also[][2] = {
    { "ctrl", "leftctrl" },  { "shift", "leftshift" }, { "alt", "leftalt" },
    { "altgr", "rightalt" }, { "meta", "leftmeta" },   { "super", "leftmeta" },
    { "menu", "compose" },   { "print", "sysrq" },     { "return", "enter" },
    { "escape", "esc" },     { "del", "delete" },      { "ins", "insert" },
    { "pgup", "pageup" },    { "pgdn", "pagedown" },
};

/* Further keysyms of keys in the table. */
static const struct {
    uint16_t keysym;
    const char *name;
} more[] = {
    { 0xfe20, "tab" }, /* ISO_Left_Tab: Shift is held */
    { 0xfe03, "rightalt" }, { 0xff7e, "rightalt" }, { 0xffe7, "leftmeta" }, { 0xffe8, "rightmeta" },
    { 0xff0a, "enter" },    { 0xffac, "kpdot" },    { 0xff95, "kp7" },      { 0xff97, "kp8" },
    { 0xff9a, "kp9" },      { 0xff96, "kp4" },      { 0xff9d, "kp5" },      { 0xff98, "kp6" },
    { 0xff9c, "kp1" },      { 0xff99, "kp2" },      { 0xff9b, "kp3" },      { 0xff9e, "kp0" },
    { 0xff9f, "kpdot" },    { 0xff15, "sysrq" },    { 0xff6b, "pause" },
};

unsigned keymap_name(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(also) / sizeof(also[0]); i++)
        if (strlen(also[i][0]) == len && !memcmp(also[i][0], name, len))
            return keymap_name(also[i][1], strlen(also[i][1]));
    for (unsigned i = 0; i < NKEYS; i++)
        if (strlen(keys[i].name) == len && !memcmp(keys[i].name, name, len))
            return keys[i].code;
    return 0;
}

const char *keymap_nearest(const char *name)
{
    const char *names[NKEYS];

    for (unsigned i = 0; i < NKEYS; i++)
        names[i] = keys[i].name;
    return nearest(name, names, NKEYS);
}

unsigned keymap_char(uint32_t c, bool *ret_shift)
{
    if (c == '\r')
        c = '\n';
    for (unsigned i = 0; i < NKEYS && c && c < 0x7f; i++)
        if ((uint32_t)keys[i].plain == c || (uint32_t)keys[i].shifted == c) {
            *ret_shift = (uint32_t)keys[i].plain != c;
            return keys[i].code;
        }
    return 0;
}

unsigned keymap_keysym(uint32_t keysym, int *ret_shift)
{
    bool shift;
    unsigned key;

    *ret_shift = -1;
    if (keysym >= 0x20 && keysym < 0x7f) { /* Latin 1 keysyms are their characters */
        key = keymap_char(keysym, &shift);
        *ret_shift = keysym == ' ' ? -1 : shift;
        return key;
    }
    for (unsigned i = 0; keysym && i < NKEYS; i++)
        if (keys[i].keysym == keysym)
            return keys[i].code;
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        if (more[i].keysym == keysym)
            return keymap_name(more[i].name, strlen(more[i].name));
    return 0;
}

bool keymap_letter(unsigned key)
{
    for (unsigned i = 0; i < NKEYS; i++)
        if (keys[i].code == key)
            return keys[i].plain >= 'a' && keys[i].plain <= 'z';
    return false;
}

static struct mobo_input_event press(unsigned key, bool down)
{
    return (struct mobo_input_event){
        .size = sizeof(struct mobo_input_event), .kind = MOBO_INPUT_KEY, .key = key, .down = down
    };
}

int keymap_text(const char *text, struct mobo_input_event *ret, const char **ret_bad)
{
    int n = 0;

    for (; *text; text++) {
        bool shift;
        unsigned key = keymap_char((unsigned char)*text, &shift);

        if (!key) {
            *ret_bad = text;
            return -EINVAL;
        }
        if (shift)
            ret[n++] = press(KEY_LEFT_SHIFT, true);
        ret[n++] = press(key, true);
        ret[n++] = press(key, false);
        if (shift)
            ret[n++] = press(KEY_LEFT_SHIFT, false);
    }
    return n;
}

int keymap_chord(const char *names, int how, struct mobo_input_event *ret, const char **ret_bad)
{
    unsigned list[KEYMAP_CHORD], count = 0;
    int n = 0;

    *ret_bad = names;
    do {
        size_t len = strcspn(names, "+");
        unsigned key = keymap_name(names, len);
        bool shift = false;

        if (!key && len == 1)
            key = keymap_char((unsigned char)*names, &shift);
        *ret_bad = names;
        if (!key || shift)
            return -EINVAL;
        if (count == KEYMAP_CHORD)
            return -E2BIG;
        list[count++] = key;
        names += len;
    } while (*names++ == '+');
    for (unsigned i = 0; how >= 0 && i < count; i++)
        ret[n++] = press(list[i], true);
    for (unsigned i = count; how <= 0 && i-- > 0;)
        ret[n++] = press(list[i], false);
    return n;
}
