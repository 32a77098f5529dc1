/* SPDX-License-Identifier: BSD-2-Clause */
/* One-line messages that travel with an error, and the texts in them. */
#ifndef CORE_UTIL_DIAG_H
#define CORE_UTIL_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The sentence of an error; empty when there is none. */
struct diag {
    char text[1024];
};

/** Where a value was written: a file and its line, or "--set vm.memory=0" and line 0. */
struct diag_pos {
    const char *file; /* borrowed from the configuration */
    unsigned line;    /* 0: none */
};

/** Set the sentence; the same with "FILE:LINE: " in front. */
void diag_text(struct diag *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void diag_text_at(struct diag *d, const struct diag_pos *pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** They as expressions with the value @err, to pass on.  Macros, so that whoever reads a caller, a static
 * analyzer too, sees that the error comes back. */
#define diag_set(d, err, ...) diag_err((diag_text((d), __VA_ARGS__), (err)))
#define diag_at(d, pos, err, ...) diag_err((diag_text_at((d), (pos), __VA_ARGS__), (err)))
static inline int diag_err(int err) { return err; }

/** @text made fit for a message in @buf: control characters as '?', cut with "..." . */
const char *diag_quote(const char *text, char *buf, size_t len);
/* For one argument of a message, where the value is short-lived. */
#define DIAG_Q(text) diag_quote((text), (char[72]){ 0 }, 72)

/** A byte count for people: "512M", "23.5G", "1000 bytes". */
const char *diag_size(uint64_t bytes, char *buf, size_t len);
#define DIAG_SIZE(bytes) diag_size((bytes), (char[32]){ 0 }, 32)

/** The name of @names (@count, NULL ones are skipped) that is most like @word, NULL when none is
 * near enough to suggest. */
const char *nearest(const char *word, const char *const *names, size_t count);

/** " (did you mean 'x'?)" or "". */
const char *did_you_mean(const char *near, char *buf, size_t len);
#define DID_YOU_MEAN(near) did_you_mean((near), (char[96]){ 0 }, 96)

#endif
