/* SPDX-License-Identifier: MIT */
/* The far end of a vdev's inspect operation: a visitor. */
#ifndef MOBO_LIB_INSPECT_H
#define MOBO_LIB_INSPECT_H

#include <mobo/vdev.h>

/* What walks a report.  Every callback may be NULL. */
struct mobo_inspect {
    void *ctx;
    void (*begin)(void *ctx, const char *name);
    void (*end)(void *ctx);
    void (*uint)(void *ctx, const char *name, uint64_t val, unsigned width); /* width in bytes */
    void (*str)(void *ctx, const char *name, const char *text);
    void (*array)(void *ctx, const char *name, const void *buf, unsigned elem, unsigned count);
};

void mobo_inspect_fields(struct mobo_inspect *out, const struct mobo_field *fields, uint32_t count,
                         uint32_t elem, const void *base);
void mobo_inspect_uint(struct mobo_inspect *out, const char *name, uint64_t val);
void mobo_inspect_str(struct mobo_inspect *out, const char *name, const char *text);
void mobo_inspect_begin(struct mobo_inspect *out, const char *name);
void mobo_inspect_end(struct mobo_inspect *out);

#endif
