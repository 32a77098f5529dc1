/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot loaders against a partition of plain memory: placement, the structures that the protocols
 * ask for, and kernels that lie about themselves. */
#include "core/loader/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the partition --------------------------------------------------------------------------- */

enum { RAM = 64 << 20 };

static uint8_t *ram;
static struct hv_vp_state vp;
static bool hide_hva; /* copy through hv_gpa_write() */

void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write)
{
    (void)p;
    (void)write;
    return !hide_hva && gpa <= RAM && len <= RAM - gpa ? ram + gpa : NULL;
}

void hv_gpa_dirty(struct hv_partition *p, uint64_t gpa, size_t len)
{
    (void)p;
    (void)gpa;
    (void)len;
}

int hv_gpa_write(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len)
{
    (void)p;
    if (gpa > RAM || len > RAM - gpa)
        return -EFAULT;
    memcpy(ram + gpa, buf, len);
    return 0;
}

int hv_vp_get_state(struct hv_partition *p, unsigned n, struct hv_vp_state *ret)
{
    (void)p;
    assert_int_equal(n, 0);
    memset(ret, 0, sizeof(*ret));
    ret->version = HV_STATE_VERSION;
    ret->size = sizeof(*ret);
    ret->gpr[2] = 0x50654;
    ret->run_state = HV_VP_RUNNING;
    return 0;
}

int hv_vp_set_state(struct hv_partition *p, unsigned n, const struct hv_vp_state *s)
{
    (void)p;
    assert_int_equal(n, 0);
    vp = *s;
    return 0;
}

const char *hv_last_error(void)
{
    return "no";
}

static const struct loader_range map[] = { { 0, 0x9fc00, LOADER_RAM },
                                           { 0x9fc00, 0x400, LOADER_RESERVED },
                                           { 0xe0000, 0x20000, LOADER_RESERVED },
                                           { 0x100000, RAM - 0x100000, LOADER_RAM },
                                           { 0x100000000, 0x40000000, LOADER_RAM } };

/* ---- files ----------------------------------------------------------------------------------- */

static char kernel_path[64], initrd_path[64], mod_path[64];

static void write_file(const char *path, const void *buf, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, buf, len), (ssize_t)len);
    close(fd);
}

static uint8_t file[64 << 10];

static void p16(size_t at, unsigned v)
{
    file[at] = (uint8_t)v;
    file[at + 1] = (uint8_t)(v >> 8);
}

static void p32(size_t at, uint32_t v)
{
    p16(at, v & 0xffff);
    p16(at + 2, v >> 16);
}

static uint32_t g32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static uint64_t g64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

enum { SETUP = 3 * 512, CODE = 8192 };

/* A small bzImage: two setup sectors, 8 KiB of code that counts up. */
static size_t make_bzimage(void)
{
    memset(file, 0, sizeof(file));
    file[0x1f1] = 2;
    p32(0x1f4, CODE / 16);
    p16(0x1fe, 0xaa55);
    file[0x200] = 0xeb;
    file[0x201] = 0x6a; /* header ends at 0x26c */
    memcpy(file + 0x202, "HdrS", 4);
    p16(0x206, 0x20f);
    file[0x211] = 1;
    p32(0x22c, 0x7fffffff);
    p32(0x230, 0x200000);
    file[0x234] = 1;
    p16(0x236, 3);
    p32(0x238, 2047);
    p32(0x258, 0x1000000);
    p32(0x260, 0x100000);
    for (unsigned i = 0; i < CODE; i++)
        file[SETUP + i] = (uint8_t)(i * 7 + 1);
    return SETUP + CODE;
}

static struct config *describe(enum config_firmware fw, const char *cmdline)
{
    static struct config c;
    static struct config_file modules[2];

    memset(&c, 0, sizeof(c));
    c.memory = RAM;
    c.firmware = fw;
    c.cmdline = cmdline;
    c.cmdline_pos = (struct diag_pos){ "a.ini", 5 };
    c.kernel = (struct config_file){ .path = kernel_path, .pos = { "a.ini", 3 } };
    modules[0] = (struct config_file){ .path = mod_path, .args = "one", .pos = { "a.ini", 6 } };
    modules[1] = (struct config_file){ .path = initrd_path, .args = "", .pos = { "a.ini", 6 } };
    c.modules = modules;
    return &c;
}

static void boot(struct config *c)
{
    struct loader *l = NULL;
    struct loader_machine m = { .map = map, .nmap = COUNT(map), .rsdp = 0xe0040 };
    struct diag d = { "" };
    int err = loader_open(c, RAM, &l, &d);

    if (err)
        print_error("%s\n", d.text);
    assert_int_equal(err, 0);
    memset(ram, 0xcc, RAM);
    err = loader_load(l, &m, &d);
    if (err)
        print_error("%s\n", d.text);
    assert_int_equal(err, 0);
    loader_close(l);
}

static void refuse(struct config *c, const char *expect)
{
    struct loader *l = NULL;
    struct diag d = { "" };
    int err = loader_open(c, RAM, &l, &d);
    char want[512];

    assert_true(err < 0);
    assert_null(l);
    snprintf(want, sizeof(want), expect, kernel_path);
    assert_string_equal(d.text, want);
}

/* ---- Linux ----------------------------------------------------------------------------------- */

static void test_linux(void **state)
{
    static uint8_t initrd[10000];
    size_t len = make_bzimage();
    struct config *c = describe(FIRMWARE_LINUX, "console=ttyS0 quiet");
    const uint8_t *z;

    (void)state;
    memset(initrd, 0x5a, sizeof(initrd));
    memset(file + len, 0xee, 100); /* a signature behind the image */
    write_file(kernel_path, file, len + 100);
    write_file(initrd_path, initrd, sizeof(initrd));
    c->initrd = (struct config_file){ .path = initrd_path, .pos = { "a.ini", 4 } };
    for (int pass = 0; pass < 2; pass++) {
        hide_hva = pass;
        boot(c);
        assert_memory_equal(ram + 0x1000000, file + SETUP, CODE);
        assert_int_equal(ram[0x1000000 + CODE], 0xcc); /* the signature stays out */
        z = ram + vp.gpr[6];
        assert_int_equal(g32(z + 0x202), 0x53726448);
        assert_int_equal(z[0x210], 0xff);
        assert_int_equal(z[0x1ef], 0);
        assert_int_equal(g32(z + 0x218), RAM - 12288);
        assert_int_equal(g32(z + 0x21c), sizeof(initrd));
        assert_memory_equal(ram + g32(z + 0x218), initrd, sizeof(initrd));
        assert_string_equal((char *)ram + g32(z + 0x228), "console=ttyS0 quiet");
        assert_true(g64(z + 0x70) == 0xe0040);
        assert_int_equal(z[0x1e8], COUNT(map));
        for (unsigned i = 0; i < COUNT(map); i++) {
            assert_true(g64(z + 0x2d0 + 20 * i) == map[i].gpa);
            assert_true(g64(z + 0x2d0 + 20 * i + 8) == map[i].len);
            assert_int_equal(g32(z + 0x2d0 + 20 * i + 16), map[i].type);
        }
        /* 64-bit entry */
        assert_true(vp.rip == 0x1000200);
        assert_true(vp.cr0 == 0x80000011 && vp.cr4 == 0x20 && vp.efer == 0x500);
        assert_int_equal(vp.cs.selector, 0x10);
        assert_int_equal(vp.cs.attr, 0xa09b);
        assert_int_equal(vp.ss.selector, 0x18);
        assert_true(vp.rflags == 2);
        assert_true(vp.gpr[2] == 0);
        /* identity page tables to the end of 4 GiB */
        for (uint64_t va = 0; va < 1ULL << 32; va += 1 << 21) {
            uint64_t e = g64(ram + vp.cr3 + 8 * (va >> 39));
            e = g64(ram + (e & ~0xfffULL) + 8 * (va >> 30 & 511));
            e = g64(ram + (e & ~0xfffULL) + 8 * (va >> 21 & 511));
            assert_true(e == (va | 0x83));
        }
        assert_true(g64(ram + vp.gdtr_base + 0x10) == 0x00cf9b000000ffff);
        assert_int_equal(vp.gdtr_limit, 0x2f);
    }
    hide_hva = false;
}

static void test_linux32(void **state)
{
    size_t len = make_bzimage();
    struct config *c = describe(FIRMWARE_LINUX, "");

    (void)state;
    p16(0x236, 0); /* no 64-bit entry */
    write_file(kernel_path, file, len);
    boot(c);
    assert_true(vp.rip == 0x1000000);
    assert_true(vp.cr0 == 0x11 && vp.efer == 0 && vp.cr4 == 0);
    assert_int_equal(vp.cs.attr, 0xc09b);
    assert_true(vp.gpr[3] == 0 && vp.gpr[5] == 0 && vp.gpr[7] == 0);
    assert_int_equal(g32(ram + vp.gpr[6] + 0x218), 0);
}

static void test_linux_lies(void **state)
{
    struct config *c = describe(FIRMWARE_LINUX, "");
    static char longline[3000];
    size_t len = make_bzimage();

    (void)state;
    write_file(kernel_path, file, len - 100);
    refuse(c, "a.ini:3: kernel: '%s': truncated: 9628 bytes, its header says 9728");
    write_file(kernel_path, file, 600);
    refuse(c, "a.ini:3: kernel: '%s': truncated: 600 bytes, its header says 9728");
    write_file(kernel_path, file, 100);
    refuse(c, "a.ini:3: kernel: '%s': is not a Linux kernel image (no 'HdrS' header)");
    write_file(kernel_path, file, 0);
    refuse(c, "a.ini:3: kernel: '%s': is empty");
    unlink(kernel_path);
    refuse(c, "a.ini:3: kernel: '%s': No such file or directory");
    make_bzimage();
    p16(0x206, 0x20b);
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': boot protocol 2.11 is too old, 2.12 is needed");
    make_bzimage();
    p32(0x1f4, 0xffffffff);
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': truncated: 9728 bytes, its header says 68719478256");
    make_bzimage();
    p32(0x1f4, 0);
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': header says that there is no code (syssize 0)");
    make_bzimage();
    p32(0x260, 0xf0000000);
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': needs memory up to 3.8G to start, the VM has 64M "
              "(vm.memory)");
    make_bzimage();
    p32(0x258, 0x1001000);
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': bad alignment 0x200000 or load address 0x1001000");
    make_bzimage();
    file[0x201] = 0x20;
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': setup header of 49 bytes is out of bounds");
    file[0x201] = 0xff;
    write_file(kernel_path, file, len);
    refuse(c, "a.ini:3: kernel: '%s': setup header of 272 bytes is out of bounds");
    make_bzimage();
    write_file(kernel_path, file, len);
    memset(longline, 'a', sizeof(longline) - 1);
    c = describe(FIRMWARE_LINUX, longline);
    refuse(c, "a.ini:5: cmdline: 2999 bytes, kernel '%s' takes 2047");
}

static void test_initrd_too_big(void **state)
{
    struct config *c = describe(FIRMWARE_LINUX, "");
    struct loader *l = NULL;
    struct diag d = { "" };
    char want[512];

    (void)state;
    write_file(kernel_path, file, make_bzimage());
    write_file(initrd_path, "x", 1);
    assert_int_equal(truncate(initrd_path, 60 << 20), 0);
    c->initrd = (struct config_file){ .path = initrd_path, .pos = { "a.ini", 4 } };
    assert_int_equal(loader_open(c, RAM, &l, &d), -EFBIG);
    snprintf(want, sizeof(want),
             "a.ini:4: initrd: '%s': 60M do not fit: the kernel leaves 47M of the VM's 64M "
             "(vm.memory)",
             initrd_path);
    assert_string_equal(d.text, want);
    /* as much as there is fits */
    assert_int_equal(truncate(initrd_path, 47 << 20), 0);
    assert_int_equal(loader_open(c, RAM, &l, &d), 0);
    /* and shrinks before the next reset */
    assert_int_equal(truncate(initrd_path, 1000), 0);
    struct loader_machine m = { .map = map, .nmap = COUNT(map) };
    assert_int_equal(loader_load(l, &m, &d), -EIO);
    snprintf(want, sizeof(want), "a.ini:4: initrd: '%s': ends at byte 1000 (it had 49283072)",
             initrd_path);
    assert_string_equal(d.text, want);
    loader_close(l);
    unlink(initrd_path);
}

/* ---- multiboot ------------------------------------------------------------------------------- */

static void header(size_t at, uint32_t flags)
{
    p32(at, 0x1badb002);
    p32(at + 4, flags);
    p32(at + 8, -(0x1badb002u + flags));
}

static size_t make_elf32(void)
{
    memset(file, 0, sizeof(file));
    memcpy(file, "\177ELF\1\1\1", 7);
    p16(16, 2);
    p16(18, 3);
    p32(24, 0xc0100010); /* entry, virtual */
    p32(28, 52);
    p16(42, 32);
    p16(44, 1);
    p32(52, 1);
    p32(52 + 4, 4096);
    p32(52 + 8, 0xc0100000);
    p32(52 + 12, 0x100000);
    p32(52 + 16, 4096);
    p32(52 + 20, 8192);
    header(4096, 3);
    for (int i = 12; i < 4096; i++)
        file[4096 + i] = (uint8_t)i;
    return 8192;
}

static void test_multiboot_elf(void **state)
{
    struct config *c = describe(FIRMWARE_MULTIBOOT, "a b");
    const uint8_t *mbi, *mods, *mmap;
    char want[256];

    (void)state;
    write_file(kernel_path, file, make_elf32());
    write_file(mod_path, "module one", 10);
    write_file(initrd_path, "second", 6);
    c->nmodules = 2;
    boot(c);
    assert_true(vp.gpr[0] == 0x2badb002);
    assert_true(vp.rip == 0x100010);
    assert_true(vp.cr0 == 0x11);
    assert_int_equal(vp.cs.attr, 0xc09b);
    assert_memory_equal(ram + 0x100000, file + 4096, 4096);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(ram[0x101000 + i], 0);
    mbi = ram + vp.gpr[3];
    assert_int_equal(g32(mbi), 0x24d);
    assert_int_equal(g32(mbi + 4), 639);
    assert_int_equal(g32(mbi + 8), (RAM >> 10) - 1024);
    snprintf(want, sizeof(want), "%s a b", kernel_path);
    assert_string_equal((char *)ram + g32(mbi + 16), want);
    assert_int_equal(g32(mbi + 20), 2);
    mods = ram + g32(mbi + 24);
    assert_int_equal(g32(mods), 0x102000);
    assert_int_equal(g32(mods + 4), 0x10200a);
    assert_memory_equal(ram + g32(mods), "module one", 10);
    snprintf(want, sizeof(want), "%s one", mod_path);
    assert_string_equal((char *)ram + g32(mods + 8), want);
    assert_int_equal(g32(mods + 16), 0x103000);
    assert_string_equal((char *)ram + g32(mods + 24), initrd_path);
    assert_int_equal(g32(mbi + 44), 24 * COUNT(map));
    mmap = ram + g32(mbi + 48);
    for (unsigned i = 0; i < COUNT(map); i++, mmap += 24) {
        assert_int_equal(g32(mmap), 20);
        assert_true(g64(mmap + 4) == map[i].gpa && g64(mmap + 12) == map[i].len);
    }
    assert_string_equal((char *)ram + g32(mbi + 64), "mobo");
}

static void test_multiboot_flat(void **state)
{
    struct config *c = describe(FIRMWARE_MULTIBOOT, "");

    (void)state;
    memset(file, 0x11, sizeof(file));
    header(32, 0x10000);
    p32(32 + 12, 0x8020); /* header */
    p32(32 + 16, 0x8010); /* load: 16 bytes into the file */
    p32(32 + 20, 0);      /* the whole file */
    p32(32 + 24, 0xa000); /* bss end */
    p32(32 + 28, 0x8044);
    write_file(kernel_path, file, 4096);
    boot(c);
    assert_memory_equal(ram + 0x8010, file + 16, 4080);
    assert_int_equal(ram[0x9000], 0);
    assert_int_equal(ram[0x9fff], 0);
    assert_int_equal(ram[0x800f], 0xcc);
    assert_true(vp.rip == 0x8044);
    assert_true(vp.gpr[3] >= 0xa000); /* out of the kernel's way */
}

static void test_multiboot_lies(void **state)
{
    struct config *c = describe(FIRMWARE_MULTIBOOT, "");

    (void)state;
    memset(file, 0, 9000);
    write_file(kernel_path, file, 9000);
    refuse(c, "a.ini:3: kernel: '%s': has no multiboot header in its first 8192 bytes");
    make_elf32();
    header(4096, 0x10);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': wants unknown multiboot features (flags 0x10)");
    make_elf32();
    write_file(kernel_path, file, 8000);
    refuse(c, "a.ini:3: kernel: '%s': truncated: 8000 bytes, segment at 0x100000 ends at byte "
              "8192");
    p32(52 + 12, 0xfff00000);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': segment 0xfff00000-0xfff01fff does not fit into the VM's "
              "memory (64M)");
    p32(52 + 12, 0x9f000);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': segment 0x9f000-0xa0fff lies in the adapter area "
              "0xa0000-0xfffff");
    make_elf32();
    p32(28, 0xfffffff0);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': truncated: its ELF program headers are not there");
    make_elf32();
    p32(52 + 20, 5);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': segment at 0x100000 has 4096 bytes in the file, 5 in "
              "memory");
    make_elf32();
    p32(52, 2);
    write_file(kernel_path, file, 8192);
    refuse(c, "a.ini:3: kernel: '%s': has nothing to load");
}

/* Headers of random bytes: a verdict, no access outside. */
static void test_random(void **state)
{
    uint32_t seed = 7;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        bool mb = round & 1;
        size_t len = mb ? make_elf32() : make_bzimage();
        struct config *c = describe(mb ? FIRMWARE_MULTIBOOT : FIRMWARE_LINUX, "x");
        struct loader *l = NULL;
        struct loader_machine m = { .map = map, .nmap = COUNT(map) };
        struct diag d = { "" };

        for (int i = 0; i < 4; i++) {
            seed = seed * 1664525 + 1013904223;
            size_t at = mb ? (seed >> 8) % 84 : 0x1f0 + (seed >> 8) % 0x80;
            file[at] = (uint8_t)(seed >> 24);
        }
        if (mb && round & 2) {
            header(4096, 0x10003);
            for (int i = 12; i < 32; i += 4) {
                seed = seed * 1664525 + 1013904223;
                p32(4096 + (size_t)i, seed & 1 ? 0x100000 + (seed >> 20) : seed);
            }
        }
        write_file(kernel_path, file, len);
        if (loader_open(c, RAM, &l, &d) == 0) {
            loader_load(l, &m, &d);
            loader_close(l);
        } else {
            assert_true(d.text[0]);
        }
    }
}

static int setup(void **state)
{
    const char *dir = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";

    (void)state;
    snprintf(kernel_path, sizeof(kernel_path), "%.30s/loader-%d-k", dir, (int)getpid());
    snprintf(initrd_path, sizeof(initrd_path), "%.30s/loader-%d-i", dir, (int)getpid());
    snprintf(mod_path, sizeof(mod_path), "%.30s/loader-%d-m", dir, (int)getpid());
    ram = malloc(RAM);
    return ram ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    unlink(kernel_path);
    unlink(initrd_path);
    unlink(mod_path);
    free(ram);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linux),          cmocka_unit_test(test_linux32),
        cmocka_unit_test(test_linux_lies),     cmocka_unit_test(test_initrd_too_big),
        cmocka_unit_test(test_multiboot_elf),  cmocka_unit_test(test_multiboot_flat),
        cmocka_unit_test(test_multiboot_lies), cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
