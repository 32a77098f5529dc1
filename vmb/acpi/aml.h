/* SPDX-License-Identifier: BSD-2-Clause */
/* A small encoder of ACPI machine language.
 * Reference: ACPI Specification 6.5, chapter 20 (AML) and section 6.4 (resources). */
#ifndef VMB_ACPI_AML_H
#define VMB_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AML_DEPTH = 16 };

struct aml {
    uint8_t *buf; /* owned */
    size_t len, cap;
    size_t open[AML_DEPTH]; /* where package lengths of open objects go */
    unsigned depth;
    bool failed; /* no memory or too deep; sticky */
};

void aml_init(struct aml *a);
void aml_fini(struct aml *a);

void aml_bytes(struct aml *a, const void *p, size_t len);
void aml_byte(struct aml *a, unsigned v);
/* A name or path: "PCI0", "\\_SB.PCI0"; segments are padded with '_'. */
void aml_path(struct aml *a, const char *path);
void aml_int(struct aml *a, uint64_t v);
void aml_str(struct aml *a, const char *s);
/* "PNP0A03" as a compressed ID; anything else as a string. */
void aml_id(struct aml *a, const char *id);
void aml_buffer(struct aml *a, const void *p, size_t len);

/* Objects with contents, closed by aml_end(). */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args, bool serialized);
void aml_package(struct aml *a, unsigned elements);
void aml_if(struct aml *a); /* then the predicate, then the statements */
void aml_end(struct aml *a);

/* Name (NAME, value): the value follows. */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t v);

void aml_opregion(struct aml *a, const char *name, unsigned space, uint64_t off, uint64_t len);
/* Field (region, ByteAcc, NoLock, Preserve) of @n bytes with the given names. */
void aml_byte_field(struct aml *a, const char *region, const char *const *names, unsigned n);

enum { AML_LOCAL0 = 0x60, AML_LOCAL1 = 0x61, AML_ARG0 = 0x68 };
enum {
    AML_STORE = 0x70,
    AML_AND = 0x7b,
    AML_OR = 0x7d,
    AML_LNOT = 0x92,
    AML_RETURN = 0xa4,
    AML_CREATE_DWORD_FIELD = 0x8a
};

/* ---- resource templates: bytes that go into a buffer ---------------------------------------------- */

struct res {
    uint8_t buf[512];
    size_t len;
    bool failed; /* full; sticky */
};

void res_io(struct res *r, uint16_t base, uint16_t len);
void res_irq(struct res *r, unsigned line); /* ISA: edge, active high */
void res_gsi(struct res *r, const uint32_t *gsi, unsigned n, bool level, bool shared);
void res_mem32(struct res *r, uint32_t base, uint32_t len);
/* Windows of a bridge, [first, last]. */
void res_bus_window(struct res *r, uint16_t first, uint16_t last);
void res_io_window(struct res *r, uint16_t first, uint16_t last);
void res_mem_window(struct res *r, uint32_t first, uint32_t last);
/* Name (NAME, ResourceTemplate): closes @r with an end tag. */
void aml_name_res(struct aml *a, const char *name, struct res *r);

#endif
