/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot loaders: files, copies into guest memory, flat protected mode. */
#include "core/loader/loader_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log/log.h"

int loader_fail(const struct loader_file *f, struct diag *diag, int err, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return diag_at(diag, &f->pos, err, "%s: '%s': %s", f->what, f->path, text);
}

static int file_open(const struct config_file *cf, const char *what, struct loader_file *f,
                     struct diag *diag)
{
    struct stat st;

    *f = (struct loader_file){ .fd = -1, .path = cf->path, .what = what, .pos = cf->pos };
    if (!cf->path)
        return 0;
    /* O_NONBLOCK: opening a FIFO must not wait */
    f->fd = open(cf->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0)
        return loader_fail(f, diag, -errno, "%s", strerror(errno));
    if (fstat(f->fd, &st))
        return loader_fail(f, diag, -errno, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return loader_fail(f, diag, -EINVAL, "is a %s, not a file",
                           S_ISDIR(st.st_mode) ? "directory" : "device or pipe");
    if (st.st_size == 0)
        return loader_fail(f, diag, -EINVAL, "is empty");
    f->len = (uint64_t)st.st_size;
    return 0;
}

int loader_read(const struct loader_file *f, uint64_t off, void *buf, size_t len, struct diag *diag)
{
    uint8_t *at = buf;

    while (len) {
        ssize_t n = pread(f->fd, at, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return loader_fail(f, diag, -errno, "%s", strerror(errno));
        if (n == 0)
            return loader_fail(f, diag, -EIO, "ends at byte %llu (it had %llu)",
                               (unsigned long long)off, (unsigned long long)f->len);
        at += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int loader_copy(const struct loader_file *f, uint64_t off, uint64_t len, struct hv_partition *p,
                uint64_t gpa, struct diag *diag)
{
    enum { CHUNK = 1 << 20 };
    struct log_progress progress;
    uint8_t *buf = NULL;
    uint64_t done = 0;
    char what[96];
    int err = 0;

    snprintf(what, sizeof(what), "loading %s", f->what);
    log_progress_begin(&progress, what, len);
    while (done < len && !err) {
        size_t n = len - done < CHUNK ? (size_t)(len - done) : CHUNK;
        void *hva = hv_gpa_hva(p, gpa + done, n, true);

        if (hva) {
            err = loader_read(f, off + done, hva, n, diag);
            hv_gpa_dirty(p, gpa + done, n);
        } else {
            if (!buf && !(buf = malloc(CHUNK))) {
                err = loader_fail(f, diag, -ENOMEM, "no memory");
                break;
            }
            err = loader_read(f, off + done, buf, n, diag);
            if (!err)
                err = loader_put(p, gpa + done, buf, n, diag);
        }
        done += n;
        log_progress_at(&progress, done);
    }
    log_progress_end(&progress);
    free(buf);
    return err;
}

int loader_put(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len, struct diag *diag)
{
    int err = hv_gpa_write(p, gpa, buf, len);

    if (err)
        return diag_set(diag, err, "boot loader: no memory at 0x%llx-0x%llx",
                        (unsigned long long)gpa, (unsigned long long)(gpa + len - 1));
    return 0;
}

int loader_zero(struct hv_partition *p, uint64_t gpa, uint64_t len, struct diag *diag)
{
    static const uint8_t zeroes[65536];
    int err = 0;

    while (len && !err) {
        size_t n = len < sizeof(zeroes) ? (size_t)len : sizeof(zeroes);
        err = loader_put(p, gpa, zeroes, n, diag);
        gpa += n;
        len -= n;
    }
    return err;
}

int loader_flat(struct hv_partition *p, uint16_t code, uint16_t data, uint64_t gdt,
                uint32_t gdt_len, struct hv_vp_state *ret, struct diag *diag)
{
    /* SDM 3A 3.4.5: present, code or data, accessed; 4 KiB units, 32-bit */
    const struct hv_segment cs = { 0, 0xffffffff, code, 0xc09b };
    const struct hv_segment ds = { 0, 0xffffffff, data, 0xc093 };
    int err = hv_vp_get_state(p, 0, ret);

    if (err)
        return diag_set(diag, err, "boot loader: %s", hv_last_error());
    memset(ret->gpr, 0, sizeof(ret->gpr));
    ret->rflags = 2;
    ret->cs = cs;
    ret->ds = ret->es = ret->ss = ret->fs = ret->gs = ds;
    ret->gdtr_base = gdt;
    ret->gdtr_limit = gdt_len ? gdt_len - 1 : 0;
    ret->idtr_base = 0;
    ret->idtr_limit = 0;   /* an exception before the kernel's own table ends the VM */
    ret->cr0 = 0x00000011; /* PE, ET */
    ret->cr3 = 0;
    ret->cr4 = 0;
    ret->efer = 0;
    ret->run_state = HV_VP_RUNNING;
    return 0;
}

void loader_close(struct loader *l)
{
    if (!l)
        return;
    if (l->kernel.fd >= 0)
        close(l->kernel.fd);
    if (l->initrd.fd >= 0)
        close(l->initrd.fd);
    for (size_t i = 0; i < l->nmodules; i++)
        if (l->modules[i].fd >= 0)
            close(l->modules[i].fd);
    free(l->modules);
    free(l->mb.seg);
    free(l->mb.module_gpa);
    free(l);
}

int loader_open(const struct config *c, uint64_t ram_low, struct loader **ret, struct diag *diag)
{
    struct loader *l = calloc(1, sizeof(*l));
    int err;

    if (!l)
        return diag_set(diag, -ENOMEM, "boot loader: no memory");
    l->c = c;
    l->ram_low = ram_low;
    l->kernel.fd = l->initrd.fd = -1;
    l->modules = calloc(c->nmodules + 1, sizeof(*l->modules));
    if (!l->modules) {
        err = diag_set(diag, -ENOMEM, "boot loader: no memory");
        goto fail;
    }
    if ((err = file_open(&c->kernel, "kernel", &l->kernel, diag)) ||
        (err = file_open(&c->initrd, "initrd", &l->initrd, diag)))
        goto fail;
    for (; l->nmodules < c->nmodules; l->nmodules++) {
        err = file_open(&c->modules[l->nmodules], "modules", &l->modules[l->nmodules], diag);
        if (err) {
            l->nmodules++;
            goto fail;
        }
    }
    err = c->firmware == FIRMWARE_MULTIBOOT ? multiboot_open(l, diag) : linux_open(l, diag);
    if (err)
        goto fail;
    *ret = l;
    return 0;
fail:
    loader_close(l);
    return err;
}

int loader_load(struct loader *l, const struct loader_machine *m, struct diag *diag)
{
    return l->load(l, m, diag);
}
