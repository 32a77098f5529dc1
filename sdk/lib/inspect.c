/* SPDX-License-Identifier: MIT */
/* The far end of a vdev's inspect operation. */
#include "sdk/lib/inspect.h"

#include <string.h>

#include "sdk/lib/state.h"

void mobo_inspect_fields(struct mobo_inspect *out, const struct mobo_field *fields, uint32_t count,
                         uint32_t elem, const void *base)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mobo_field f = mobo_field_at(fields, i, elem);
        const char *p = (const char *)base + f.offset;
        int is_int = f.elem == 1 || f.elem == 2 || f.elem == 4 || f.elem == 8;
        uint64_t v = 0;

        if (f.flags & MOBO_FIELD_HIDDEN)
            continue;
        if (is_int && f.elem == f.len) {
            memcpy(&v, p, f.len); /* little-endian host, as all of the ABI */
            if (out->uint)
                out->uint(out->ctx, f.name, v, f.len);
        } else if (out->array) {
            unsigned e = is_int ? f.elem : 1;

            out->array(out->ctx, f.name, p, e, f.len / e);
        }
    }
}

void mobo_inspect_uint(struct mobo_inspect *out, const char *name, uint64_t val)
{
    if (out->uint)
        out->uint(out->ctx, name, val, 8);
}

void mobo_inspect_str(struct mobo_inspect *out, const char *name, const char *text)
{
    if (out->str)
        out->str(out->ctx, name, text ? text : "");
}

void mobo_inspect_begin(struct mobo_inspect *out, const char *name)
{
    if (out->begin)
        out->begin(out->ctx, name);
}

void mobo_inspect_end(struct mobo_inspect *out)
{
    if (out->end)
        out->end(out->ctx);
}
