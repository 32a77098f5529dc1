/* SPDX-License-Identifier: MIT */
/* Parameter values of vdevs: parsing, checking, suggestions. */
#include "sdk/lib/param.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct mobo_param mobo_param_at(const struct mobo_param *params, uint32_t i, uint32_t elem)
{
    struct mobo_param p;

    memset(&p, 0, sizeof(p));
    memcpy(&p, (const char *)params + (size_t)i * elem, elem < sizeof(p) ? elem : sizeof(p));
    return p;
}

int mobo_parse_uint(const char *text, int suffix, uint64_t *ret)
{
    static const char units[] = "KMGT";
    unsigned long long v;
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    v = strtoull(text, &end, 0);
    if (errno == ERANGE)
        return -ERANGE;
    if (suffix && *end) {
        const char *u = strchr(units, toupper((unsigned char)*end));

        if (u) {
            unsigned shift = 10 * (unsigned)(u - units + 1);

            if (v > UINT64_MAX >> shift)
                return -ERANGE;
            v <<= shift;
            end++;
        }
    }
    if (*end)
        return -EINVAL;
    *ret = v;
    return 0;
}

static int parse_bool(const char *text, uint64_t *ret)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };

    for (unsigned i = 0; i < 8; i++)
        if (!strcasecmp(text, words[i])) {
            *ret = i & 1;
            return 0;
        }
    return -EINVAL;
}

static int parse_choice(const struct mobo_param *p, const char *text)
{
    size_t len = strlen(text);

    if (strchr(text, '|'))
        return -EINVAL;
    for (const char *c = p->choices; c && len; c = strchr(c, '|')) {
        c += *c == '|';
        if (!strncmp(c, text, len) && (c[len] == '|' || !c[len]))
            return 0;
    }
    return -EINVAL;
}

int mobo_param_parse(const struct mobo_param *p, const char *text, struct mobo_param_value *ret,
                     char *msg, size_t msg_len)
{
    uint64_t num = 0;
    int err = 0;

    switch (p->kind) {
    case MOBO_UINT:
    case MOBO_SIZE:
        err = mobo_parse_uint(text, p->kind == MOBO_SIZE, &num);
        if (err == -ERANGE)
            snprintf(msg, msg_len, "is too large");
        else if (err)
            snprintf(msg, msg_len,
                     p->kind == MOBO_SIZE ? "is not a size (a number with K, M, G or T)"
                                          : "is not a number");
        if (!err && (p->min || p->max) && num < p->min) {
            snprintf(msg, msg_len, "is below the smallest, %" PRIu64 " (0x%" PRIx64 ")", p->min,
                     p->min);
            err = -EINVAL;
        } else if (!err && (p->min || p->max) && num > p->max) {
            snprintf(msg, msg_len, "is above the largest, %" PRIu64 " (0x%" PRIx64 ")", p->max,
                     p->max);
            err = -EINVAL;
        }
        break;
    case MOBO_BOOL:
        err = parse_bool(text, &num);
        if (err)
            snprintf(msg, msg_len, "is neither yes nor no");
        break;
    case MOBO_CHOICE:
        err = parse_choice(p, text);
        if (err)
            snprintf(msg, msg_len, "is not one of %s", p->choices ? p->choices : "(none)");
        break;
    case MOBO_STRING:
    case MOBO_PATH:
    case MOBO_CHAR:
        if (p->max && strlen(text) > p->max) {
            snprintf(msg, msg_len, "is longer than %" PRIu64 " characters", p->max);
            err = -EINVAL;
        } else if (!text[0] && p->kind != MOBO_STRING) {
            snprintf(msg, msg_len, "is empty");
            err = -EINVAL;
        }
        break;
    default: snprintf(msg, msg_len, "has a kind that this version does not know"); err = -EINVAL;
    }
    if (err)
        return -EINVAL;
    ret->num = num;
    ret->set = 1;
    return 0;
}

unsigned mobo_edit_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    unsigned row[3][MAX + 1];
    size_t la = strnlen(a, MAX), lb = strnlen(b, MAX);

    for (size_t j = 0; j <= lb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

        cur[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned d = prev[j - 1] + (a[i - 1] != b[j - 1]);

            if (prev[j] + 1 < d)
                d = prev[j] + 1;
            if (cur[j - 1] + 1 < d)
                d = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                prev2[j - 2] + 1 < d)
                d = prev2[j - 2] + 1;
            cur[j] = d;
        }
    }
    return row[la % 3][lb];
}

void mobo_suggest(const char *word, const char *candidate, const char **best)
{
    size_t len = strlen(word);
    unsigned d = mobo_edit_distance(word, candidate), limit = len <= 3 ? 1 : len <= 6 ? 2 : 3;

    if (d <= limit && (!*best || d < mobo_edit_distance(word, *best)))
        *best = candidate;
}
