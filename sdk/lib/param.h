/* SPDX-License-Identifier: MIT */
/* Parameter values of vdevs: parsing, checking, suggestions. */
#ifndef MOBO_LIB_PARAM_H
#define MOBO_LIB_PARAM_H

#include <mobo/vdev.h>

struct mobo_param_value {
    uint64_t num; /* UINT, SIZE, BOOL */
    int set;
};

/** Parse @text as a value of @p.  @return 0, or -EINVAL with a phrase in @msg that fits behind
 * "key = value: ", as "is above the largest, 0xffff". */
int mobo_param_parse(const struct mobo_param *p, const char *text, struct mobo_param_value *ret,
                     char *msg, size_t msg_len);

/** An unsigned number: decimal, 0x, 0; with @suffix also K, M, G, T.  @return 0, -EINVAL, -ERANGE. */
int mobo_parse_uint(const char *text, int suffix, uint64_t *ret);

/** Row @i of a table with elements of @elem bytes, completed with zeroes. */
struct mobo_param mobo_param_at(const struct mobo_param *params, uint32_t i, uint32_t elem);

/** Edit distance (insert, delete, replace, swap of neighbours), for suggestions. */
unsigned mobo_edit_distance(const char *a, const char *b);

/** Remember @candidate in *@best when it is nearer to @word than all before and near enough to be
 * what was meant.  Start with *best = NULL. */
void mobo_suggest(const char *word, const char *candidate, const char **best);

#endif
