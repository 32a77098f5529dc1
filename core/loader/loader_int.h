/* SPDX-License-Identifier: BSD-2-Clause */
/* What the boot loaders share: open files, placement, VP 0's flat protected mode. */
#ifndef CORE_LOADER_LOADER_INT_H
#define CORE_LOADER_LOADER_INT_H

#include "core/loader/loader.h"

struct loader_file {
    int fd; /* -1: none */
    uint64_t len;
    const char *path; /* borrowed from the configuration */
    const char *what; /* the key: "kernel", "initrd", "modules" */
    struct diag_pos pos;
};

struct loader {
    const struct config *c; /* borrowed, outlives the loader */
    uint64_t ram_low;
    struct loader_file kernel, initrd;
    struct loader_file *modules;
    size_t nmodules;
    int (*load)(struct loader *l, const struct loader_machine *m, struct diag *diag);
    /* linux.c */
    struct {
        uint8_t header[512]; /* file offset 0x1f1 and on, as long as the header says */
        uint32_t header_len;
        uint64_t code_off; /* of the protected-mode part in the file */
        uint64_t load_addr;
        uint64_t initrd_addr;
        uint32_t init_size;
        bool entry64;
    } lx;
    /* multiboot.c */
    struct {
        uint32_t flags, entry;
        struct mb_segment {
            uint64_t off, len, gpa, mem_len;
        } * seg;
        size_t nseg;
        uint64_t end; /* behind the highest segment */
        uint32_t *module_gpa;
        uint32_t info; /* where the information structure goes */
        size_t info_room;
    } mb;
};

int linux_open(struct loader *l, struct diag *diag);
int multiboot_open(struct loader *l, struct diag *diag);

/** "FILE:LINE: kernel: 'PATH': ..." */
int loader_fail(const struct loader_file *f, struct diag *diag, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** Read exactly @len bytes at @off.  @return 0 or -errno with a sentence. */
int loader_read(const struct loader_file *f, uint64_t off, void *buf, size_t len,
                struct diag *diag);

/** Copy part of a file into guest memory, with progress. */
int loader_copy(const struct loader_file *f, uint64_t off, uint64_t len, struct hv_partition *p,
                uint64_t gpa, struct diag *diag);

/** Fill guest memory with zeroes. */
int loader_zero(struct hv_partition *p, uint64_t gpa, uint64_t len, struct diag *diag);

/** Write a block of our own making. */
int loader_put(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len,
               struct diag *diag);

/** VP 0's state as after power-on, in flat 32-bit protected mode: CS @code, the rest @data (both
 * selectors of a GDT at @gdt with @gdt_len bytes, 0: none), interrupts off, paging off. */
int loader_flat(struct hv_partition *p, uint16_t code, uint16_t data, uint64_t gdt,
                uint32_t gdt_len, struct hv_vp_state *ret, struct diag *diag);

static inline uint16_t le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32(const uint8_t *p)
{
    return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t le64(const uint8_t *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static inline void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

static inline void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

#endif
