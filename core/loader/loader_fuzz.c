/* SPDX-License-Identifier: BSD-2-Clause */
/* libFuzzer target: any bytes as a kernel.  The first byte chooses the loader. */
#include "core/loader/loader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RAM = 32 << 20 };
static uint8_t ram[RAM];

void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write)
{
    (void)p;
    (void)write;
    return gpa <= RAM && len <= RAM - gpa ? ram + gpa : NULL;
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
    struct loader_machine m = { .map = map, .nmap = COUNT(map), .rsdp = 0xe0000 };
    struct diag diag = { "" };
    struct config c = { .memory = RAM, .cmdline = "quiet" };
    struct loader *l = NULL;
    char path[64];
    int fd;

    if (len < 2)
        return 0;
    fd = memfd_create("kernel", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + 1, len - 1) != (ssize_t)(len - 1))
        __builtin_trap();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    c.firmware = data[0] & 1 ? FIRMWARE_MULTIBOOT : FIRMWARE_LINUX;
    c.kernel = (struct config_file){ .path = path, .pos = { "fuzz.ini", 1 } };
    if (loader_open(&c, RAM, &l, &diag) == 0) {
        if (loader_load(l, &m, &diag) && !diag.text[0])
            __builtin_trap();
        loader_close(l);
    } else if (!diag.text[0]) {
        __builtin_trap();
    }
    close(fd);
    return 0;
}
