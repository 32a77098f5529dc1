/* SPDX-License-Identifier: BSD-2-Clause */
/* A small encoder of ACPI machine language.
 * Reference: ACPI Specification 6.5, chapter 20 (AML) and section 6.4 (resources). */
#include "vmb/acpi/aml.h"

#include <stdlib.h>
#include <string.h>

enum { /* ACPI 20.2 */
       OP_ZERO = 0x00,
       OP_ONE = 0x01,
       OP_NAME = 0x08,
       OP_BYTE = 0x0a,
       OP_WORD = 0x0b,
       OP_DWORD = 0x0c,
       OP_STRING = 0x0d,
       OP_QWORD = 0x0e,
       OP_SCOPE = 0x10,
       OP_BUFFER = 0x11,
       OP_PACKAGE = 0x12,
       OP_METHOD = 0x14,
       OP_DUAL = 0x2e,
       OP_MULTI = 0x2f,
       OP_EXT = 0x5b,
       OP_IF = 0xa0,
       EXT_REGION = 0x80,
       EXT_FIELD = 0x81,
       EXT_DEVICE = 0x82
};

void aml_init(struct aml *a)
{
    memset(a, 0, sizeof(*a));
}

void aml_fini(struct aml *a)
{
    free(a->buf);
    memset(a, 0, sizeof(*a));
}

static bool grow(struct aml *a, size_t len)
{
    if (a->failed)
        return false;
    if (a->len + len > a->cap) {
        size_t cap = (a->cap ? a->cap * 2 : 4096) + len;
        uint8_t *p = realloc(a->buf, cap);

        if (!p) {
            a->failed = true;
            return false;
        }
        a->buf = p;
        a->cap = cap;
    }
    return true;
}

void aml_bytes(struct aml *a, const void *p, size_t len)
{
    if (!len || !grow(a, len))
        return;
    memcpy(a->buf + a->len, p, len);
    a->len += len;
}

void aml_byte(struct aml *a, unsigned v)
{
    uint8_t b = (uint8_t)v;

    aml_bytes(a, &b, 1);
}

static void le(struct aml *a, uint64_t v, unsigned len)
{
    while (len--) {
        aml_byte(a, v & 0xff);
        v >>= 8;
    }
}

static void seg(struct aml *a, const char *s, size_t n)
{
    char name[4] = { '_', '_', '_', '_' };

    memcpy(name, s, n < 4 ? n : 4);
    aml_bytes(a, name, 4);
}

void aml_path(struct aml *a, const char *path)
{
    unsigned n = 1;

    if (*path == '\\') {
        aml_byte(a, '\\');
        path++;
    }
    for (const char *p = path; *p; p++)
        n += *p == '.';
    if (n == 2) {
        aml_byte(a, OP_DUAL);
    } else if (n > 2) {
        aml_byte(a, OP_MULTI);
        aml_byte(a, n);
    }
    while (n--) {
        size_t len = strcspn(path, ".");

        seg(a, path, len);
        path += len + (path[len] == '.');
    }
}

void aml_int(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        aml_byte(a, v ? OP_ONE : OP_ZERO);
        return;
    }
    aml_byte(a, v <= 0xff         ? OP_BYTE
                : v <= 0xffff     ? OP_WORD
                : v <= 0xffffffff ? OP_DWORD
                                  : OP_QWORD);
    le(a, v, v <= 0xff ? 1 : v <= 0xffff ? 2 : v <= 0xffffffff ? 4 : 8);
}

void aml_str(struct aml *a, const char *s)
{
    aml_byte(a, OP_STRING);
    aml_bytes(a, s, strlen(s) + 1);
}

/* ACPI 19.3.4: three letters of five bits, four hexadecimal digits, big-endian. */
void aml_id(struct aml *a, const char *id)
{
    uint32_t v = 0;

    if (strlen(id) != 7 || strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") < 3 ||
        strspn(id + 3, "0123456789ABCDEF") != 4) {
        aml_str(a, id);
        return;
    }
    for (int i = 0; i < 3; i++)
        v = v << 5 | (uint32_t)(id[i] - 'A' + 1);
    v = v << 16 | (uint32_t)strtoul(id + 3, NULL, 16);
    aml_byte(a, OP_DWORD);
    le(a, (v >> 24) | (v >> 8 & 0xff00) | (v << 8 & 0xff0000) | (uint64_t)(v & 0xff) << 24, 4);
}

/* ---- objects with a package length ----------------------------------------------------------------- */

static void begin(struct aml *a)
{
    if (a->depth == AML_DEPTH) {
        a->failed = true;
        return;
    }
    a->open[a->depth++] = a->len;
}

/* The length counts itself (ACPI 20.2.4), so its own size depends on the contents: insert it now. */
void aml_end(struct aml *a)
{
    size_t at, len, n;
    uint8_t head[4];

    if (a->failed || !a->depth) {
        a->failed = true;
        return;
    }
    at = a->open[--a->depth];
    len = a->len - at;
    n = len + 1 <= 0x3f ? 1 : len + 2 <= 0xfff ? 2 : len + 3 <= 0xfffff ? 3 : 4;
    len += n;
    if (n == 1) {
        head[0] = (uint8_t)len;
    } else {
        head[0] = (uint8_t)((n - 1) << 6 | (len & 0xf));
        for (size_t i = 1; i < n; i++)
            head[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
    }
    if (!grow(a, n))
        return;
    memmove(a->buf + at + n, a->buf + at, a->len - at);
    memcpy(a->buf + at, head, n);
    a->len += n;
}

void aml_scope(struct aml *a, const char *path)
{
    aml_byte(a, OP_SCOPE);
    begin(a);
    aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
    aml_byte(a, OP_EXT);
    aml_byte(a, EXT_DEVICE);
    begin(a);
    aml_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args, bool serialized)
{
    aml_byte(a, OP_METHOD);
    begin(a);
    aml_path(a, name);
    aml_byte(a, args | (serialized ? 8 : 0));
}

void aml_package(struct aml *a, unsigned elements)
{
    aml_byte(a, OP_PACKAGE);
    begin(a);
    aml_byte(a, elements);
}

void aml_if(struct aml *a)
{
    aml_byte(a, OP_IF);
    begin(a);
}

void aml_buffer(struct aml *a, const void *p, size_t len)
{
    aml_byte(a, OP_BUFFER);
    begin(a);
    aml_int(a, len);
    aml_bytes(a, p, len);
    aml_end(a);
}

void aml_name(struct aml *a, const char *name)
{
    aml_byte(a, OP_NAME);
    aml_path(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
    aml_name(a, name);
    aml_int(a, v);
}

void aml_opregion(struct aml *a, const char *name, unsigned space, uint64_t off, uint64_t len)
{
    aml_byte(a, OP_EXT);
    aml_byte(a, EXT_REGION);
    aml_path(a, name);
    aml_byte(a, space);
    aml_int(a, off);
    aml_int(a, len);
}

void aml_byte_field(struct aml *a, const char *region, const char *const *names, unsigned n)
{
    aml_byte(a, OP_EXT);
    aml_byte(a, EXT_FIELD);
    begin(a);
    aml_path(a, region);
    aml_byte(a, 1); /* byte access, no lock, preserve */
    for (unsigned i = 0; i < n; i++) {
        seg(a, names[i], strlen(names[i]));
        aml_byte(a, 8); /* bits, as a package length */
    }
    aml_end(a);
}

/* ---- resources --------------------------------------------------------------------------------------- */

static void put(struct res *r, uint64_t v, unsigned len)
{
    if (r->len + len > sizeof(r->buf)) {
        r->failed = true;
        return;
    }
    while (len--) {
        r->buf[r->len++] = (uint8_t)v;
        v >>= 8;
    }
}

void res_io(struct res *r, uint16_t base, uint16_t len)
{
    while (len) { /* ACPI 6.4.2.5: the length is one byte */
        unsigned n = len > 255 ? 128 : len;

        put(r, 0x47, 1);
        put(r, 1, 1); /* decodes 16 bits */
        put(r, base, 2);
        put(r, base, 2);
        put(r, 1, 1);
        put(r, n, 1);
        base = (uint16_t)(base + n);
        len = (uint16_t)(len - n);
    }
}

void res_irq(struct res *r, unsigned line)
{
    put(r, 0x22, 1); /* ACPI 6.4.2.1, without flags */
    put(r, 1u << line, 2);
}

void res_gsi(struct res *r, const uint32_t *gsi, unsigned n, bool level, bool shared)
{
    put(r, 0x89, 1); /* ACPI 6.4.3.6 */
    put(r, 2 + 4 * n, 2);
    put(r, 1u | (level ? 0 : 2) | (shared ? 8 : 0), 1); /* consumer, active high */
    put(r, n, 1);
    for (unsigned i = 0; i < n; i++)
        put(r, gsi[i], 4);
}

void res_mem32(struct res *r, uint32_t base, uint32_t len)
{
    put(r, 0x86, 1); /* ACPI 6.4.3.4 */
    put(r, 9, 2);
    put(r, 1, 1); /* read-write */
    put(r, base, 4);
    put(r, len, 4);
}

/* ACPI 6.4.3.5: address space descriptors, minimum and maximum fixed, positive decode. */
static void window(struct res *r, unsigned type, unsigned flags, uint32_t first, uint32_t last,
                   unsigned width)
{
    put(r, width == 2 ? 0x88 : 0x87, 1);
    put(r, 3 + 5 * width, 2);
    put(r, type, 1);
    put(r, 0x0c, 1);
    put(r, flags, 1);
    put(r, 0, width);
    put(r, first, width);
    put(r, last, width);
    put(r, 0, width);
    put(r, last - first + 1, width);
}

void res_bus_window(struct res *r, uint16_t first, uint16_t last)
{
    window(r, 2, 0, first, last, 2);
}

void res_io_window(struct res *r, uint16_t first, uint16_t last)
{
    window(r, 1, 3, first, last, 2); /* the entire range */
}

void res_mem_window(struct res *r, uint32_t first, uint32_t last)
{
    window(r, 0, 1, first, last, 4); /* read-write, not cacheable */
}

void aml_name_res(struct aml *a, const char *name, struct res *r)
{
    put(r, 0x79, 1);
    put(r, 0, 1); /* no checksum */
    if (r->failed)
        a->failed = true;
    aml_name(a, name);
    aml_buffer(a, r->buf, r->len);
}
