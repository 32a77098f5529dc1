/* SPDX-License-Identifier: MIT */
/* Break a guest's access to a region down into those that the region takes; see struct
 * mobo_io_ops. */
#ifndef MOBO_LIB_ACCESS_H
#define MOBO_LIB_ACCESS_H

#include <mobo/vdev.h>

/** @param region_len  length of the region; [off, off + len) lies within it, @len is 1..8. */
uint64_t mobo_access_read(const struct mobo_io_ops *ops, void *ctx, uint64_t region_len,
                          uint64_t off, uint32_t len);
void mobo_access_write(const struct mobo_io_ops *ops, void *ctx, uint64_t region_len, uint64_t off,
                       uint32_t len, uint64_t val);
/** Whether ops are sound: a size that covers the callbacks, at least one width. */
int mobo_access_valid(const struct mobo_io_ops *ops);

static inline uint64_t mobo_ones(uint32_t len)
{
    return len >= 8 ? UINT64_MAX : ((uint64_t)1 << (len * 8)) - 1;
}

#endif
