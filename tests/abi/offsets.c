/* SPDX-License-Identifier: BSD-2-Clause */
/* Prints where every member of the version 1.0 structures is, as the header that this is compiled with
 * says.  The lists of the frozen header and of today's have to be the same; sizes may grow only for
 * structures that say their size. */
#include <mobo/vdev.h>
#include <stdio.h>

#define M(type, member)                                                      \
    printf("%s.%s %zu+%zu\n", #type, #member, offsetof(struct type, member), \
           sizeof(((struct type *)0)->member))

int main(void)
{
#if __has_include("members.h") /* made by members.awk */
#include "members.h"
#endif
    return 0;
}
