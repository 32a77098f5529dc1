/* SPDX-License-Identifier: BSD-2-Clause */
/* Multiboot 1 kernels: ELF32, ELF64 and flat images with the address fields, modules.
 *
 * Reference: The Multiboot Specification version 0.6.96, cited as MB; System V ABI,
 * chapter 4 (ELF). */
#include "core/loader/loader_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* MB 3.1 header */
enum {
    MB_MAGIC = 0x1badb002,
    MB_SEARCH = 8192,
    MB_PAGE_ALIGN = 1 << 0,
    MB_MEMORY_INFO = 1 << 1,
    MB_VIDEO_MODE = 1 << 2,
    MB_ADDRESSES = 1 << 16,
    MB_MUST_KNOW = 0xffff /* bits 0-15 are requirements */
};
/* MB 3.3 information structure */
enum {
    MBI_FLAGS = 0,
    MBI_MEM_LOWER = 4,
    MBI_MEM_UPPER = 8,
    MBI_CMDLINE = 16,
    MBI_MODS_COUNT = 20,
    MBI_MODS_ADDR = 24,
    MBI_MMAP_LENGTH = 44,
    MBI_MMAP_ADDR = 48,
    MBI_LOADER_NAME = 64,
    MBI_SIZE = 88,
    MBI_HAS_MEM = 1 << 0,
    MBI_HAS_CMDLINE = 1 << 2,
    MBI_HAS_MODS = 1 << 3,
    MBI_HAS_MMAP = 1 << 6,
    MBI_HAS_LOADER_NAME = 1 << 9
};
enum {
    MB_BOOT_MAGIC = 0x2badb002,
    MOD_SIZE = 16,
    MMAP_SIZE = 24,
    MMAP_MAX = 64,
    SEGMENTS_MAX = 64
};
enum { LOW_FIRST = 0x9000, LOW_END = 0x9f000 }; /* where the information goes if it is free there */

static const char loader_name[] = "mobo";

static uint64_t page_up(uint64_t v)
{
    return (v + 4095) & ~4095ULL;
}

static int add_segment(struct loader *l, uint64_t off, uint64_t len, uint64_t gpa, uint64_t mem_len,
                       struct diag *diag)
{
    struct mb_segment *s;

    if (mem_len == 0)
        return 0;
    if (len > mem_len)
        return loader_fail(&l->kernel, diag, -EINVAL,
                           "segment at 0x%llx has %llu bytes in the file, %llu in memory",
                           (unsigned long long)gpa, (unsigned long long)len,
                           (unsigned long long)mem_len);
    if (off > l->kernel.len || len > l->kernel.len - off)
        return loader_fail(&l->kernel, diag, -EINVAL,
                           "truncated: %llu bytes, segment at 0x%llx ends at byte %llu",
                           (unsigned long long)l->kernel.len, (unsigned long long)gpa,
                           (unsigned long long)off + len);
    if (gpa >= 1ULL << 32 || mem_len > (1ULL << 32) - gpa || gpa + mem_len > l->ram_low)
        return loader_fail(&l->kernel, diag, -ENOMEM,
                           "segment 0x%llx-0x%llx does not fit into the VM's memory (%s)",
                           (unsigned long long)gpa, (unsigned long long)(gpa + mem_len - 1),
                           DIAG_SIZE(l->c->memory));
    if (gpa < 0x100000 && gpa + mem_len > 0xa0000)
        return loader_fail(&l->kernel, diag, -EINVAL,
                           "segment 0x%llx-0x%llx lies in the adapter area 0xa0000-0xfffff",
                           (unsigned long long)gpa, (unsigned long long)(gpa + mem_len - 1));
    if (l->mb.nseg == SEGMENTS_MAX)
        return loader_fail(&l->kernel, diag, -EINVAL, "more than %d segments", SEGMENTS_MAX);
    s = &l->mb.seg[l->mb.nseg++];
    *s = (struct mb_segment){ off, len, gpa, mem_len };
    if (gpa + mem_len > l->mb.end)
        l->mb.end = gpa + mem_len;
    return 0;
}

/* MB 3.1.3: load_addr and the others count from where the header itself is to be. */
static int read_flat(struct loader *l, const uint8_t *head, uint64_t head_off, struct diag *diag)
{
    uint32_t header_addr = le32(head + 12), load = le32(head + 16), load_end = le32(head + 20);
    uint32_t bss_end = le32(head + 24);
    uint64_t off, len, mem;

    l->mb.entry = le32(head + 28);
    if (load > header_addr || header_addr - load > head_off)
        return loader_fail(&l->kernel, diag, -EINVAL,
                           "multiboot addresses: load 0x%x does not fit header 0x%x", load,
                           header_addr);
    off = head_off - (header_addr - load);
    if (load_end && load_end < load)
        return loader_fail(&l->kernel, diag, -EINVAL,
                           "multiboot addresses: load end 0x%x is below load 0x%x", load_end, load);
    len = load_end ? load_end - load : l->kernel.len - off;
    mem = len;
    if (bss_end) {
        if (bss_end < load + len)
            return loader_fail(&l->kernel, diag, -EINVAL,
                               "multiboot addresses: bss end 0x%x is below load end 0x%llx",
                               bss_end, (unsigned long long)load + len);
        mem = bss_end - load;
    }
    return add_segment(l, off, len, load, mem, diag);
}

static int read_elf(struct loader *l, struct diag *diag)
{
    const struct loader_file *k = &l->kernel;
    uint8_t e[64] = { 0 }, ph[56];
    bool wide;
    uint64_t phoff, entry;
    unsigned phentsize, phnum;
    bool found = false;
    int err = loader_read(k, 0, e, k->len < sizeof(e) ? (size_t)k->len : sizeof(e), diag);

    if (err)
        return err;
    wide = e[4] == 2;
    if (memcmp(e, "\177ELF", 4) != 0)
        return loader_fail(k, diag, -EINVAL,
                           "is no ELF file and its multiboot header has no addresses");
    if (k->len < (wide ? 64 : 52) || (e[4] != 1 && e[4] != 2) || e[5] != 1 || le16(e + 16) != 2 ||
        (le16(e + 18) != 3 && le16(e + 18) != 62))
        return loader_fail(k, diag, -EINVAL, "is not an x86 ELF program");
    entry = wide ? le64(e + 24) : le32(e + 24);
    phoff = wide ? le64(e + 32) : le32(e + 28);
    phentsize = le16(e + (wide ? 54 : 42));
    phnum = le16(e + (wide ? 56 : 44));
    if (phentsize < (wide ? 56u : 32u) || phnum == 0 || phnum > 1024 || phoff > k->len ||
        (uint64_t)phnum * phentsize > k->len - phoff)
        return loader_fail(k, diag, -EINVAL, "truncated: its ELF program headers are not there");
    l->mb.entry = (uint32_t)entry;
    for (unsigned i = 0; i < phnum; i++) {
        uint64_t off, vaddr, paddr, filesz, memsz;
        err = loader_read(k, phoff + (uint64_t)i * phentsize, ph, wide ? 56 : 32, diag);
        if (err)
            return err;
        if (le32(ph) != 1) /* PT_LOAD */
            continue;
        off = wide ? le64(ph + 8) : le32(ph + 4);
        vaddr = wide ? le64(ph + 16) : le32(ph + 8);
        paddr = wide ? le64(ph + 24) : le32(ph + 12);
        filesz = wide ? le64(ph + 32) : le32(ph + 16);
        memsz = wide ? le64(ph + 40) : le32(ph + 20);
        err = add_segment(l, off, filesz, paddr, memsz, diag);
        if (err)
            return err;
        /* the entry is a virtual address; paging is off when it runs */
        if (!found && entry >= vaddr && entry - vaddr < memsz) {
            l->mb.entry = (uint32_t)(paddr + (entry - vaddr));
            found = true;
        }
    }
    if (l->mb.nseg == 0)
        return loader_fail(k, diag, -EINVAL, "has nothing to load");
    return 0;
}

static bool is_free(const struct loader *l, uint64_t gpa, uint64_t len)
{
    for (size_t i = 0; i < l->mb.nseg; i++) {
        const struct mb_segment *s = &l->mb.seg[i];
        if (gpa < s->gpa + s->mem_len && s->gpa < gpa + len)
            return false;
    }
    return true;
}

/* Modules follow the kernel; the information structure goes below 640 KiB, else behind them. */
static int place(struct loader *l, struct diag *diag)
{
    uint64_t at = page_up(l->mb.end), room;

    if (at < 0x100000)
        at = 0x100000;
    l->mb.module_gpa = calloc(l->nmodules + 1, sizeof(*l->mb.module_gpa));
    if (!l->mb.module_gpa)
        return loader_fail(&l->kernel, diag, -ENOMEM, "no memory");
    room = MBI_SIZE + sizeof(loader_name) + strlen(l->kernel.path) + strlen(l->c->cmdline) + 2 +
           l->nmodules * MOD_SIZE + MMAP_MAX * MMAP_SIZE + 64;
    for (size_t i = 0; i < l->nmodules; i++) {
        const struct loader_file *f = &l->modules[i];
        uint64_t left = at < l->ram_low ? l->ram_low - at : 0;
        if (f->len > left)
            return loader_fail(f, diag, -EFBIG,
                               "%s do not fit: %s of the VM's %s are left (vm.memory)",
                               DIAG_SIZE(f->len), DIAG_SIZE(left), DIAG_SIZE(l->c->memory));
        l->mb.module_gpa[i] = (uint32_t)at;
        at = page_up(at + f->len);
        room += strlen(f->path) + strlen(l->c->modules[i].args) + 2;
    }
    l->mb.info_room = (size_t)page_up(room);
    for (uint64_t low = LOW_FIRST; low + l->mb.info_room <= LOW_END; low += 4096) {
        if (is_free(l, low, l->mb.info_room)) {
            l->mb.info = (uint32_t)low;
            return 0;
        }
    }
    if (at + l->mb.info_room > l->ram_low)
        return loader_fail(&l->kernel, diag, -ENOMEM,
                           "no room for the boot information in %s of memory",
                           DIAG_SIZE(l->c->memory));
    l->mb.info = (uint32_t)at;
    return 0;
}

/* Append to the information block; @return the guest address of what was appended. */
static uint32_t append(const struct loader *l, uint8_t *info, size_t *used, const void *data,
                       size_t len)
{
    uint32_t gpa = l->mb.info + (uint32_t)*used;

    memcpy(info + *used, data, len);
    *used += len;
    return gpa;
}

/* "FILE ARGUMENTS": MB 3.3, the string begins with the name of the image as GRUB gives it. */
static uint32_t append_cmdline(const struct loader *l, uint8_t *info, size_t *used,
                               const char *path, const char *args)
{
    uint32_t gpa = append(l, info, used, path, strlen(path));

    if (*args) {
        append(l, info, used, " ", 1);
        append(l, info, used, args, strlen(args));
    }
    append(l, info, used, "", 1);
    return gpa;
}

static int put_info(struct loader *l, const struct loader_machine *m, struct diag *diag)
{
    uint8_t *info = calloc(1, l->mb.info_room);
    uint32_t flags = MBI_HAS_MEM | MBI_HAS_CMDLINE | MBI_HAS_MMAP | MBI_HAS_LOADER_NAME;
    uint64_t lower = 0, upper = 0;
    uint8_t *mods = NULL;
    size_t used = MBI_SIZE;
    int err;

    if (!info)
        return diag_set(diag, -ENOMEM, "boot loader: no memory");
    if (l->nmodules) {
        mods = info + used;
        put32(info + MBI_MODS_ADDR, l->mb.info + (uint32_t)used);
        used += l->nmodules * MOD_SIZE;
        put32(info + MBI_MODS_COUNT, (uint32_t)l->nmodules);
        flags |= MBI_HAS_MODS;
    }
    put32(info + MBI_MMAP_ADDR, l->mb.info + (uint32_t)used);
    for (size_t i = 0; i < m->nmap && i < MMAP_MAX; i++) {
        uint8_t *e = info + used;
        put32(e, MMAP_SIZE - 4); /* MB 3.3: the size field does not count itself */
        put64(e + 4, m->map[i].gpa);
        put64(e + 12, m->map[i].len);
        put32(e + 20, m->map[i].type);
        used += MMAP_SIZE;
        if (m->map[i].type != LOADER_RAM)
            continue;
        if (m->map[i].gpa == 0)
            lower = m->map[i].len;
        if (m->map[i].gpa <= 1 << 20 && m->map[i].gpa + m->map[i].len > 1 << 20)
            upper = m->map[i].gpa + m->map[i].len - (1 << 20);
    }
    put32(info + MBI_MMAP_LENGTH, (uint32_t)(l->mb.info + used - le32(info + MBI_MMAP_ADDR)));
    put32(info + MBI_MEM_LOWER, (uint32_t)((lower > 640 << 10 ? 640 << 10 : lower) >> 10));
    put32(info + MBI_MEM_UPPER, (uint32_t)(upper >> 10));
    put32(info + MBI_LOADER_NAME, append(l, info, &used, loader_name, sizeof(loader_name)));
    put32(info + MBI_CMDLINE, append_cmdline(l, info, &used, l->c->kernel.path, l->c->cmdline));
    for (size_t i = 0; i < l->nmodules; i++) {
        put32(mods + i * MOD_SIZE, l->mb.module_gpa[i]);
        put32(mods + i * MOD_SIZE + 4, l->mb.module_gpa[i] + (uint32_t)l->modules[i].len);
        put32(mods + i * MOD_SIZE + 8,
              append_cmdline(l, info, &used, l->modules[i].path, l->c->modules[i].args));
    }
    put32(info + MBI_FLAGS, flags);
    err = loader_put(m->p, l->mb.info, info, used, diag);
    free(info);
    return err;
}

static int multiboot_load(struct loader *l, const struct loader_machine *m, struct diag *diag)
{
    struct hv_vp_state s;
    int err;

    for (size_t i = 0; i < l->mb.nseg; i++) {
        const struct mb_segment *g = &l->mb.seg[i];
        if ((err = loader_copy(&l->kernel, g->off, g->len, m->p, g->gpa, diag)) ||
            (err = loader_zero(m->p, g->gpa + g->len, g->mem_len - g->len, diag)))
            return err;
    }
    for (size_t i = 0; i < l->nmodules; i++)
        if ((err = loader_copy(&l->modules[i], 0, l->modules[i].len, m->p, l->mb.module_gpa[i],
                               diag)))
            return err;
    /* MB 3.2: selectors have no meaning, the GDT is the kernel's business */
    if ((err = put_info(l, m, diag)) || (err = loader_flat(m->p, 0x08, 0x10, 0, 0, &s, diag)))
        return err;
    s.gpr[0] = MB_BOOT_MAGIC;
    s.gpr[3] = l->mb.info;
    s.rip = l->mb.entry;
    err = hv_vp_set_state(m->p, 0, &s);
    if (err)
        return diag_set(diag, err, "boot loader: %s", hv_last_error());
    return 0;
}

int multiboot_open(struct loader *l, struct diag *diag)
{
    const struct loader_file *k = &l->kernel;
    uint8_t head[MB_SEARCH];
    size_t have = k->len < sizeof(head) ? (size_t)k->len : sizeof(head), off;
    uint32_t flags = 0;
    int err = loader_read(k, 0, head, have, diag);

    if (err)
        return err;
    l->load = multiboot_load;
    for (off = 0; off + 12 <= have; off += 4) {
        flags = le32(head + off + 4);
        if (le32(head + off) == MB_MAGIC && MB_MAGIC + flags + le32(head + off + 8) == 0)
            break;
    }
    if (off + 12 > have)
        return loader_fail(k, diag, -EINVAL, "has no multiboot header in its first %d bytes%s",
                           MB_SEARCH,
                           have >= 0x206 && memcmp(head + 0x202, "HdrS", 4) == 0
                               ? " (a Linux kernel: 'firmware = linux')"
                               : "");
    if (flags & MB_MUST_KNOW & ~(MB_PAGE_ALIGN | MB_MEMORY_INFO | MB_VIDEO_MODE))
        return loader_fail(k, diag, -ENOTSUP, "wants unknown multiboot features (flags 0x%x)",
                           flags);
    l->mb.flags = flags;
    l->mb.seg = calloc(SEGMENTS_MAX, sizeof(*l->mb.seg));
    if (!l->mb.seg)
        return loader_fail(k, diag, -ENOMEM, "no memory");
    if (flags & MB_ADDRESSES) {
        if (off + 32 > have)
            return loader_fail(k, diag, -EINVAL, "truncated in its multiboot header");
        err = read_flat(l, head + off, off, diag);
    } else {
        err = read_elf(l, diag);
    }
    if (err)
        return err;
    if (l->mb.nseg == 0)
        return loader_fail(k, diag, -EINVAL, "has nothing to load");
    return place(l, diag);
}
