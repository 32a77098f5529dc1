/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target: any bytes as a kernel.  The first byte chooses: bit 0 the loader, bit 1 an initrd or modules (the same
 * file), bit 2 a long command line, bit 3 memory that is not in one piece, bit 4 little of it. */
#include "core/loader/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RAM = 32 << 20 };
static uint8_t ram[RAM];
static bool pieces;

void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write)
{
    (void)p;
    (void)write;
    return !pieces && gpa <= RAM && len <= RAM - gpa ? ram + gpa : NULL;
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

int hv_vp_get_state(struct hv_partition *p, unsigned vp, struct hv_vp_state *ret)
{
    (void)p;
    (void)vp;
    memset(ret, 0, sizeof(*ret));
    return 0;
}

int hv_vp_set_state(struct hv_partition *p, unsigned vp, const struct hv_vp_state *state)
{
    (void)p;
    (void)vp;
    (void)state;
    return 0;
}

const char *hv_last_error(void)
{
    return "";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct loader_range map[] = { { 0, 0x9fc00, LOADER_RAM },
                                               { 0x100000, RAM - 0x100000, LOADER_RAM } };
    static char args[] = "one two", cmdline[300];
    struct loader_machine m = { .map = map, .nmap = COUNT(map), .rsdp = 0xe0000 };
    struct config c = { .cmdline = "quiet" };
    struct config_file modules[2];
    struct diag diag = { "" };
    struct loader *l = NULL;
    char path[64];
    int fd;

    if (len < 2)
        return 0;
    fd = memfd_create("kernel", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + 1, len - 1) != (ssize_t)(len - 1))
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    pieces = data[0] & 8;
    c.memory = data[0] & 16 ? 2 << 20 : RAM;
    c.firmware = data[0] & 1 ? FIRMWARE_MULTIBOOT : FIRMWARE_LINUX;
    c.kernel = (struct config_file){ .path = path, .pos = { "fuzz.ini", 1 } };
    modules[0] = modules[1] = c.kernel;
    modules[0].args = args;
    modules[1].args = "";
    if (data[0] & 2) {
        if (data[0] & 1) {
            c.modules = modules;
            c.nmodules = COUNT(modules);
        } else {
            c.initrd = c.kernel;
        }
    }
    if (data[0] & 4) {
        memset(cmdline, 'c', sizeof(cmdline) - 1);
        c.cmdline = cmdline;
    }
    if (loader_open(&c, c.memory, &l, &diag) == 0) {
        if (loader_load(l, &m, &diag) && !diag.text[0])
            abort();
        loader_close(l);
    } else if (!diag.text[0]) {
        abort();
    }
    close(fd);
    return 0;
}
