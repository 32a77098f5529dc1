/* SPDX-License-Identifier: BSD-2-Clause */
/* Direct boot of a Linux bzImage by the 64-bit or the 32-bit boot protocol.
 *
 * Reference: Linux, Documentation/arch/x86/boot.rst (BOOT, header fields and sections "32-bit Boot
 * Protocol", "64-bit Boot Protocol") and zero-page.rst (ZP). */
#include "core/loader/loader_int.h"

#include <errno.h>
#include <string.h>

/* Setup header, offsets in the file and in the zero page (BOOT "The Real-Mode Kernel Header"). */
enum {
    H_SETUP_SECTS = 0x1f1,
    H_SYSSIZE = 0x1f4,   /* in units of 16 bytes */
    H_BOOT_FLAG = 0x1fe, /* 0xaa55 */
    H_JUMP = 0x200,      /* the second byte says where the header ends */
    H_HEADER = 0x202,    /* "HdrS" */
    H_VERSION = 0x206,
    H_TYPE_OF_LOADER = 0x210,
    H_LOADFLAGS = 0x211,
    H_CODE32_START = 0x214,
    H_RAMDISK_IMAGE = 0x218,
    H_RAMDISK_SIZE = 0x21c,
    H_CMD_LINE_PTR = 0x228,
    H_INITRD_ADDR_MAX = 0x22c,
    H_KERNEL_ALIGNMENT = 0x230,
    H_RELOCATABLE = 0x234,
    H_XLOADFLAGS = 0x236,
    H_CMDLINE_SIZE = 0x238,
    H_SETUP_DATA = 0x250,
    H_PREF_ADDRESS = 0x258,
    H_INIT_SIZE = 0x260
};
enum { LOADED_HIGH = 0x01, XLF_KERNEL_64 = 0x01, LOADER_UNDEFINED = 0xff };

/* Zero page, ZP. */
enum {
    Z_EXT_MEM_K = 0x002,
    Z_ACPI_RSDP = 0x070,
    Z_ALT_MEM_K = 0x1e0,
    Z_E820_ENTRIES = 0x1e8,
    Z_E820_TABLE = 0x2d0,
    Z_E820_MAX = 128,
    Z_E820_SIZE = 20,
    Z_SIZE = 4096
};

/* Where the loader's own things go: below 640 KiB, out of the way of the real-mode vectors and of
 * the trampolines that Linux places near the top of it. */
enum {
    GPA_GDT = 0x1000,
    GPA_PAGES = 0x10000, /* PML4, PDPT, 4 page directories: the first 4 GiB, identity */
    GPA_ZERO_PAGE = 0x20000,
    GPA_CMDLINE = 0x21000
};

enum { BOOT_CS = 0x10, BOOT_DS = 0x18, BOOT_TR = 0x20 };

static uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}

/* Everything of the header that decides whether and how the file boots. */
static int check_header(struct loader *l, struct diag *diag)
{
    const struct loader_file *k = &l->kernel;
    uint8_t h[0x300] = { 0 };
    uint64_t setup, code, align, pref;
    uint32_t version, max_cmdline;
    size_t have = k->len < sizeof(h) ? (size_t)k->len : sizeof(h);
    int err = loader_read(k, 0, h, have, diag);

    if (err)
        return err;
    if (have < H_VERSION + 2 || le16(h + H_BOOT_FLAG) != 0xaa55 ||
        memcmp(h + H_HEADER, "HdrS", 4) != 0) {
        if (memcmp(h, "\177ELF", 4) == 0)
            return loader_fail(k, diag, -EINVAL,
                               "is an ELF file, not a bzImage (vmlinuz); 'firmware = multiboot' "
                               "loads multiboot ELF files");
        return loader_fail(k, diag, -EINVAL, "is not a Linux kernel image (no 'HdrS' header)");
    }
    version = le16(h + H_VERSION);
    if (version < 0x20c)
        return loader_fail(k, diag, -ENOTSUP, "boot protocol %u.%02u is too old, 2.12 is needed",
                           version >> 8, version & 0xff);
    if (!(h[H_LOADFLAGS] & LOADED_HIGH))
        return loader_fail(k, diag, -ENOTSUP, "is a zImage; only bzImage is supported");

    /* BOOT "setup_sects": 0 means 4; the boot sector comes on top */
    setup = ((uint64_t)(h[H_SETUP_SECTS] ? h[H_SETUP_SECTS] : 4) + 1) * 512;
    code = (uint64_t)le32(h + H_SYSSIZE) * 16;
    if (code == 0)
        return loader_fail(k, diag, -EINVAL, "header says that there is no code (syssize 0)");
    /* the image may end up to 15 bytes before the last unit of 16 */
    if (setup >= k->len || code - 15 > k->len - setup)
        return loader_fail(k, diag, -EINVAL, "truncated: %llu bytes, its header says %llu",
                           (unsigned long long)k->len, (unsigned long long)setup + code);
    l->lx.code_off = setup;

    l->lx.header_len = H_HEADER + h[H_JUMP + 1] - H_SETUP_SECTS;
    if (l->lx.header_len < H_INIT_SIZE + 4 - H_SETUP_SECTS ||
        H_SETUP_SECTS + l->lx.header_len > 0x290)
        return loader_fail(k, diag, -EINVAL, "setup header of %u bytes is out of bounds",
                           l->lx.header_len);
    memcpy(l->lx.header, h + H_SETUP_SECTS, l->lx.header_len);

    l->lx.entry64 = le16(h + H_XLOADFLAGS) & XLF_KERNEL_64;
    l->lx.init_size = le32(h + H_INIT_SIZE);
    align = le32(h + H_KERNEL_ALIGNMENT);
    pref = le64(h + H_PREF_ADDRESS);
    if (align & (align - 1) || pref >= 1ULL << 32 || (align && pref & (align - 1)))
        return loader_fail(k, diag, -EINVAL, "bad alignment 0x%llx or load address 0x%llx",
                           (unsigned long long)align, (unsigned long long)pref);
    l->lx.load_addr = pref < 0x100000 ? 0x100000 : pref;
    if (l->lx.init_size < code)
        l->lx.init_size = (uint32_t)code;
    if (l->lx.load_addr + l->lx.init_size > l->ram_low)
        return loader_fail(k, diag, -ENOMEM,
                           "needs memory up to %s to start, the VM has %s (vm.memory)",
                           DIAG_SIZE(align_up(l->lx.load_addr + l->lx.init_size, 1 << 20)),
                           DIAG_SIZE(l->c->memory));

    max_cmdline = le32(h + H_CMDLINE_SIZE);
    if (strlen(l->c->cmdline) > max_cmdline)
        return diag_at(diag, &l->c->cmdline_pos, -E2BIG, "cmdline: %zu bytes, kernel '%s' takes %u",
                       strlen(l->c->cmdline), k->path, max_cmdline);
    return 0;
}

/* The initrd goes as high as it may: below the top of low RAM and the kernel's limit. */
static int place_initrd(struct loader *l, struct diag *diag)
{
    uint64_t top = l->ram_low, kernel_end = l->lx.load_addr + l->lx.init_size;
    uint64_t limit = le32(l->lx.header + (H_INITRD_ADDR_MAX - H_SETUP_SECTS));

    if (l->initrd.fd < 0)
        return 0;
    if (top > limit + 1)
        top = limit + 1;
    top &= ~0xfffULL;
    if (l->initrd.len > top || align_up(kernel_end, 4096) > top - align_up(l->initrd.len, 4096))
        return loader_fail(&l->initrd, diag, -EFBIG,
                           "%s do not fit: the kernel leaves %s of the VM's %s (vm.memory)",
                           DIAG_SIZE(l->initrd.len),
                           DIAG_SIZE(top > kernel_end ? (top - kernel_end) & ~0xfffULL : 0),
                           DIAG_SIZE(l->c->memory));
    l->lx.initrd_addr = top - align_up(l->initrd.len, 4096);
    return 0;
}

static int put_zero_page(struct loader *l, const struct loader_machine *m, struct diag *diag)
{
    uint8_t z[Z_SIZE] = { 0 };
    unsigned n = 0;
    uint64_t high = 0;

    memcpy(z + H_SETUP_SECTS, l->lx.header, l->lx.header_len);
    z[H_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    put32(z + H_CODE32_START, (uint32_t)l->lx.load_addr);
    put32(z + H_CMD_LINE_PTR, GPA_CMDLINE);
    put32(z + H_RAMDISK_IMAGE, l->initrd.fd >= 0 ? (uint32_t)l->lx.initrd_addr : 0);
    put32(z + H_RAMDISK_SIZE, l->initrd.fd >= 0 ? (uint32_t)l->initrd.len : 0);
    put64(z + H_SETUP_DATA, 0);
    put64(z + Z_ACPI_RSDP, m->rsdp);
    for (size_t i = 0; i < m->nmap; i++) {
        uint8_t *e = z + Z_E820_TABLE + n * Z_E820_SIZE;
        if (n == Z_E820_MAX)
            return diag_set(diag, -ENOSPC, "boot loader: more than %d memory ranges", Z_E820_MAX);
        put64(e, m->map[i].gpa);
        put64(e + 8, m->map[i].len);
        put32(e + 16, m->map[i].type);
        n++;
        if (m->map[i].gpa <= 1 << 20 && m->map[i].gpa + m->map[i].len > 1 << 20 &&
            m->map[i].type == LOADER_RAM)
            high = m->map[i].gpa + m->map[i].len - (1 << 20);
    }
    z[Z_E820_ENTRIES] = (uint8_t)n;
    put32(z + Z_ALT_MEM_K, (uint32_t)(high >> 10));
    put16(z + Z_EXT_MEM_K, high >> 10 > 0xfc00 ? 0xfc00 : (uint16_t)(high >> 10));
    return loader_put(m->p, GPA_ZERO_PAGE, z, sizeof(z), diag);
}

static int put_tables(const struct loader_machine *m, struct diag *diag)
{
    /* BOOT: __BOOT_CS 0x10 and __BOOT_DS 0x18, flat; the code segment's L bit is set by hand for
     * the 64-bit entry. */
    uint8_t gdt[0x30] = { 0 }, page[6 * 4096] = { 0 };
    int err;

    put64(gdt + BOOT_CS, 0x00cf9b000000ffff);
    put64(gdt + BOOT_DS, 0x00cf93000000ffff);
    put64(gdt + BOOT_TR, 0x00008b0000000067);
    err = loader_put(m->p, GPA_GDT, gdt, sizeof(gdt), diag);
    if (err)
        return err;
    put64(page, GPA_PAGES + 4096 + 3);
    for (unsigned i = 0; i < 4; i++)
        put64(page + 4096 + 8 * i, GPA_PAGES + (uint64_t)(2 + i) * 4096 + 3);
    for (uint64_t i = 0; i < 2048; i++)
        put64(page + 2 * 4096 + 8 * i, i << 21 | 0x83);
    return loader_put(m->p, GPA_PAGES, page, sizeof(page), diag);
}

static int linux_load(struct loader *l, const struct loader_machine *m, struct diag *diag)
{
    uint64_t code = (uint64_t)le32(l->lx.header + (H_SYSSIZE - H_SETUP_SECTS)) * 16;
    struct hv_vp_state s;
    int err;

    /* what may follow the code, a signature say, stays in the file */
    if (code > l->kernel.len - l->lx.code_off)
        code = l->kernel.len - l->lx.code_off;
    err = loader_copy(&l->kernel, l->lx.code_off, code, m->p, l->lx.load_addr, diag);
    if (err)
        return err;
    if (l->initrd.fd >= 0 &&
        (err = loader_copy(&l->initrd, 0, l->initrd.len, m->p, l->lx.initrd_addr, diag)))
        return err;
    if ((err = put_zero_page(l, m, diag)) || (err = put_tables(m, diag)) ||
        (err = loader_put(m->p, GPA_CMDLINE, l->c->cmdline, strlen(l->c->cmdline) + 1, diag)) ||
        (err = loader_flat(m->p, BOOT_CS, BOOT_DS, GPA_GDT, 0x30, &s, diag)))
        return err;
    s.gpr[6] = GPA_ZERO_PAGE; /* RSI; EBP, EDI, EBX are 0 */
    s.rip = l->lx.load_addr;
    if (l->lx.entry64) {
        s.rip += 0x200;
        s.cs.attr = 0xa09b; /* L instead of D */
        s.tr = (struct hv_segment){ 0, 0x67, BOOT_TR, 0x008b };
        s.cr3 = GPA_PAGES;
        s.cr4 = 0x20;       /* PAE */
        s.efer = 0x500;     /* LME, LMA */
        s.cr0 = 0x80000011; /* PG, ET, PE */
    }
    err = hv_vp_set_state(m->p, 0, &s);
    if (err)
        return diag_set(diag, err, "boot loader: %s", hv_last_error());
    return 0;
}

int linux_open(struct loader *l, struct diag *diag)
{
    int err = check_header(l, diag);

    l->load = linux_load;
    return err ? err : place_initrd(l, diag);
}
