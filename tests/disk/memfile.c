/* SPDX-License-Identifier: BSD-2-Clause */
/* A file for the tests of disk images, in memory. */
#include "tests/disk/memfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CAPACITY (8ULL << 30)

uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void note(struct memfile *m, enum mem_kind kind, uint64_t off, uint64_t len,
                 const struct iovec *iov, int niov)
{
    struct mem_op *op;

    m->changes += kind != MEM_SYNC;
    if (!m->record)
        return;
    if (m->nops == m->room) {
        m->room = m->room ? m->room * 2 : 256;
        m->ops = realloc(m->ops, m->room * sizeof(*m->ops));
    }
    op = &m->ops[m->nops++];
    *op = (struct mem_op){ kind, off, len, NULL };
    if (iov) {
        uint8_t *p = op->data = malloc(len + 1);
        for (int i = 0; i < niov; i++) {
            memcpy(p, iov[i].iov_base, iov[i].iov_len);
            p += iov[i].iov_len;
        }
    }
}

static void set_size(struct memfile *m, uint64_t size)
{
    if (size < m->size) {
        /* what comes back when the file grows again is zero; whole pages are given back */
        uint64_t page = (size + 4095) & ~4095ULL;
        memset(m->map + size, 0, (page < m->size ? page : m->size) - size);
        if (page < m->size)
            memset(m->map + page, 0, m->size - page);
    }
    m->size = size;
}

static ssize_t mem_readv(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    struct memfile *m = (struct memfile *)f;
    ssize_t total = 0;

    for (int i = 0; i < niov && off < m->size; i++) {
        uint64_t n = iov[i].iov_len < m->size - off ? iov[i].iov_len : m->size - off;
        memcpy(iov[i].iov_base, m->map + off, n);
        off += n;
        total += (ssize_t)n;
    }
    return total;
}

static int mem_writev(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    struct memfile *m = (struct memfile *)f;
    uint64_t len = iov_bytes(iov, niov), at = off;

    if (off + len > CAPACITY || (m->limit && off + len > m->limit))
        return -ENOSPC;
    note(m, MEM_WRITE, off, len, iov, niov);
    for (int i = 0; i < niov; i++) {
        memcpy(m->map + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if (at > m->size)
        m->size = at;
    return 0;
}

static int mem_sync(struct bfile *f)
{
    struct memfile *m = (struct memfile *)f;
    int err = m->sync_error;

    m->sync_error = 0;
    if (!err)
        note(m, MEM_SYNC, 0, 0, NULL, 0);
    return err;
}

static int mem_truncate(struct bfile *f, uint64_t size)
{
    struct memfile *m = (struct memfile *)f;

    if (size > CAPACITY || (m->limit && size > m->limit))
        return -ENOSPC;
    note(m, MEM_TRUNCATE, size, 0, NULL, 0);
    set_size(m, size);
    return 0;
}

static int mem_size(struct bfile *f, uint64_t *ret)
{
    *ret = ((struct memfile *)f)->size;
    return 0;
}

static int mem_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch)
{
    struct memfile *m = (struct memfile *)f;

    if (punch && m->no_punch)
        return -EOPNOTSUPP;
    note(m, MEM_ZERO, off, len, NULL, 0);
    if (off < m->size)
        memset(m->map + off, 0, len < m->size - off ? len : m->size - off);
    return 0;
}

static int mem_allocate(struct bfile *f, uint64_t off, uint64_t len)
{
    struct memfile *m = (struct memfile *)f;

    return off + len > m->size ? mem_truncate(f, off + len) : 0;
}

static int mem_extent(struct bfile *f, uint64_t off, uint64_t len, bool *ret_data,
                      uint64_t *ret_len)
{
    (void)f;
    (void)off;
    *ret_data = true;
    *ret_len = len;
    return 0;
}

static void mem_close(struct bfile *f)
{
    (void)f; /* the test looks at it later */
}

static int mem_readv_nowait(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    return mem_readv(f, iov, niov, off) == (ssize_t)iov_bytes(iov, niov) ? 0 : -EAGAIN;
}

static const struct bfile_ops mem_ops = {
    mem_readv, mem_writev,   mem_sync,   mem_truncate, mem_size,
    mem_zero,  mem_allocate, mem_extent, mem_close,    NULL, mem_readv_nowait, NULL,
};

static struct memfile *make(const char *path, int fd, int flags)
{
    struct memfile *m = calloc(1, sizeof(*m));

    m->f.ops = &mem_ops;
    m->f.path = strdup(path);
    m->map = mmap(NULL, CAPACITY, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
    if (m->map == MAP_FAILED) {
        perror("memfile");
        abort();
    }
    m->fd = flags & MAP_SHARED ? fd : -1;
    return m;
}

struct memfile *memfile_create(const char *path)
{
    int fd = memfd_create("memfile", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)CAPACITY) < 0) {
        perror("memfile");
        abort();
    }
    return make(path, fd, MAP_SHARED);
}

struct memfile *memfile_view(const struct memfile *m)
{
    struct memfile *v = make(m->f.path, m->fd, MAP_PRIVATE);

    v->size = m->size;
    return v;
}

struct memfile *memfile_copy(const struct memfile *m)
{
    struct memfile *c = memfile_create(m->f.path);

    for (uint64_t at = 0; at < m->size; at += 4096) /* holes stay holes */
        for (uint64_t i = at; i < at + 4096 && i < m->size; i += 8)
            if (*(const uint64_t *)(const void *)(m->map + i)) {
                memcpy(c->map + at, m->map + at, 4096);
                break;
            }
    c->size = m->size;
    return c;
}

void memfile_forget(struct memfile *m)
{
    for (size_t i = 0; i < m->nops; i++)
        free(m->ops[i].data);
    m->nops = 0;
}

void memfile_destroy(struct memfile *m)
{
    if (!m)
        return;
    memfile_forget(m);
    free(m->ops);
    munmap(m->map, CAPACITY);
    if (m->fd >= 0)
        close(m->fd);
    free(m->f.path);
    free(m);
}

void memfile_apply(struct memfile *m, const struct mem_op *op, uint64_t *seed)
{
    unsigned mode = seed ? (unsigned)(rnd(seed) >> 20) % 5 : 1; /* 0: lost, 1 and 2: all of it */
    uint64_t prefix;

    if (mode == 0 || op->kind == MEM_SYNC)
        return;
    if (op->kind == MEM_TRUNCATE) {
        set_size(m, op->off);
        return;
    }
    prefix = mode == 3 && op->len ? rnd(seed) % op->len / 512 * 512 : op->len;
    for (uint64_t at = 0; at < prefix; at += 512) {
        uint64_t n = op->len - at < 512 ? op->len - at : 512;
        if (mode == 4 && rnd(seed) & 0x10000)
            continue;
        if (op->kind == MEM_WRITE) {
            memcpy(m->map + op->off + at, op->data + at, n);
            if (op->off + at + n > m->size)
                m->size = op->off + at + n;
        } else if (op->off + at < m->size) {
            memset(m->map + op->off + at, 0,
                   n < m->size - op->off - at ? n : m->size - op->off - at);
        }
    }
}
