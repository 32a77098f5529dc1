/* SPDX-License-Identifier: MIT */
/* Break accesses down; the rules are at struct mobo_io_ops. */
#include "sdk/lib/access.h"

int mobo_access_valid(const struct mobo_io_ops *ops)
{
    return ops && ops->size >= sizeof(*ops) && ops->widths && !(ops->widths & ~0xfu);
}

/* The widest accepted access at @off of at most @len bytes, or 0. */
static uint32_t piece(const struct mobo_io_ops *ops, uint64_t region_len, uint64_t off,
                      uint32_t len)
{
    for (uint32_t w = 8; w; w >>= 1)
        if ((ops->widths & w) && w <= len && off % w == 0 && off + w <= region_len)
            return w;
    return 0;
}

uint64_t mobo_access_read(const struct mobo_io_ops *ops, void *ctx, uint64_t region_len,
                          uint64_t off, uint32_t len)
{
    uint32_t min = ops->widths & -ops->widths;
    uint64_t val = 0;

    if (!ops->read)
        return mobo_ones(len);
    if ((ops->widths & len) && off % len == 0 && off + len <= region_len)
        return ops->read(ctx, off, len) & mobo_ones(len);
    for (uint32_t done = 0; done < len;) {
        uint64_t at = off + done, v;
        uint32_t w = piece(ops, region_len, at, len - done), skip = 0;

        if (w) {
            v = ops->read(ctx, at, w) & mobo_ones(w);
        } else { /* narrower than all widths: take it out of the smallest one around it */
            skip = (uint32_t)(at % min);
            w = min - skip < len - done ? min - skip : len - done;
            v = at - skip + min <= region_len ? ops->read(ctx, at - skip, min) : UINT64_MAX;
            v = v >> (skip * 8) & mobo_ones(w);
        }
        val |= v << (done * 8);
        done += w;
    }
    return val;
}

void mobo_access_write(const struct mobo_io_ops *ops, void *ctx, uint64_t region_len, uint64_t off,
                       uint32_t len, uint64_t val)
{
    uint32_t min = ops->widths & -ops->widths;

    if (!ops->write)
        return;
    if ((ops->widths & len) && off % len == 0 && off + len <= region_len) {
        ops->write(ctx, off, len, val & mobo_ones(len));
        return;
    }
    for (uint32_t done = 0; done < len;) {
        uint64_t at = off + done;
        uint32_t w = piece(ops, region_len, at, len - done);

        if (w) {
            ops->write(ctx, at, w, val >> (done * 8) & mobo_ones(w));
        } else { /* narrower than all widths: dropped */
            uint32_t rest = min - (uint32_t)(at % min);

            w = rest < len - done ? rest : len - done;
        }
        done += w;
    }
}
