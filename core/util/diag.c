/* SPDX-License-Identifier: BSD-2-Clause */
/* One-line messages that travel with an error, and the texts in them. */
#include "core/util/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void diag_append(struct diag *d, const char *fmt, va_list ap)
{
    size_t used = strlen(d->text);

    vsnprintf(d->text + used, sizeof(d->text) - used, fmt, ap);
    for (char *c = d->text + used; *c; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
}

void diag_text(struct diag *d, const char *fmt, ...)
{
    va_list ap;

    d->text[0] = '\0';
    va_start(ap, fmt);
    diag_append(d, fmt, ap);
    va_end(ap);
}

void diag_text_at(struct diag *d, const struct diag_pos *pos, const char *fmt, ...)
{
    va_list ap;

    if (pos->line)
        snprintf(d->text, sizeof(d->text), "%s:%u: ", pos->file, pos->line);
    else
        snprintf(d->text, sizeof(d->text), "%s: ", pos->file ? pos->file : "mobo");
    va_start(ap, fmt);
    diag_append(d, fmt, ap);
    va_end(ap);
}

const char *diag_quote(const char *text, char *buf, size_t len)
{
    size_t i;

    for (i = 0; text[i] && i + 1 < len; i++)
        buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    buf[i] = '\0';
    if (text[i] && i >= 3)
        memcpy(buf + i - 3, "...", 3);
    return buf;
}

const char *diag_size(uint64_t bytes, char *buf, size_t len)
{
    static const char unit[] = "KMGT";

    for (int i = 3; i >= 0; i--) {
        uint64_t one = 1ULL << (10 * (i + 1));
        if (bytes < one)
            continue;
        if (bytes % one == 0)
            snprintf(buf, len, "%llu%c", (unsigned long long)(bytes / one), unit[i]);
        else
            snprintf(buf, len, "%.1f%c", (double)bytes / (double)one, unit[i]);
        return buf;
    }
    snprintf(buf, len, "%llu bytes", (unsigned long long)bytes);
    return buf;
}

/* Edit distance with neighbouring letters swapped counted as one; words over 31 letters are far. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    unsigned d[MAX][MAX];
    size_t na = strlen(a), nb = strlen(b);

    if (na >= MAX || nb >= MAX)
        return MAX;
    for (size_t i = 0; i <= na; i++)
        d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[na][nb];
}

const char *nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    unsigned best_d = ~0u;

    for (size_t i = 0; i < count; i++) {
        if (!names[i])
            continue;
        unsigned d = distance(word, names[i]);
        size_t n = strlen(word), m = strlen(names[i]);
        /* one slip in a short word, one in three letters of a longer one; or a clear beginning */
        unsigned limit = (unsigned)((n > m ? n : m) / 3);
        if (limit == 0)
            limit = 1;
        if (d > limit && ((n >= 3 && strncmp(word, names[i], n) == 0) ||
                          (m >= 4 && strncmp(word, names[i], m) == 0)))
            d = limit;
        if (d <= limit && d < n && d < best_d) {
            best = names[i];
            best_d = d;
        }
    }
    return best;
}

const char *did_you_mean(const char *near, char *buf, size_t len)
{
    buf[0] = '\0';
    if (near)
        snprintf(buf, len, " (did you mean '%s'?)", near);
    return buf;
}
