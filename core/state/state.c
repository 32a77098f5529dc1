/* SPDX-License-Identifier: BSD-2-Clause */
/* Saved states: writing and reading.  See mobo-state(5).
 *
 * All numbers are little-endian.  A header of 64 bytes, written last; then sections of 64 bytes of
 * header and their data, padded to 8 bytes.  RAM is runs of pages: u64 number of the first page,
 * u64 number of pages, pages; ascending. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/log/log.h"
#include "core/util/crc32c.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "x86 hosts");

enum { VERSION = 1, PAGE = 4096, CHUNK = 1 << 20, IGNORABLE = 1 };
enum { KIND_CONFIG = 1, KIND_STATE, KIND_RAM };
static const char magic[8] = "moboSAVE";

struct file_header {
    char magic[8];
    uint32_t version, header_len;
    uint64_t file_len;
    uint32_t sections, reserved;
    int64_t created; /* seconds since 1970 */
    uint8_t reserved2[20];
    uint32_t crc; /* of what is before it */
};
_Static_assert(sizeof(struct file_header) == 64, "header");

struct section {
    uint32_t kind, flags;
    uint64_t len;
    uint64_t extra; /* RAM: bytes of RAM described */
    char name[STATE_NAME];
    uint32_t data_crc, crc; /* the latter of what is before it */
};
_Static_assert(sizeof(struct section) == 64, "section");

struct run {
    uint64_t first, count; /* pages */
};

static uint64_t pad8(uint64_t n)
{
    return (8 - n % 8) % 8;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writer {
    int fd;
    uint64_t at;  /* where the buffer goes */
    uint8_t *buf; /* CHUNK bytes */
    size_t used;
    uint32_t crc; /* of the section's data so far */
    uint32_t sections;
    int err;      /* first one, sticky */
};

static void put_at(struct writer *w, const void *data, size_t len, uint64_t at)
{
    const uint8_t *p = data;

    while (len && !w->err) {
        ssize_t n = pwrite(w->fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            w->err = n < 0 ? -errno : -ENOSPC;
            return;
        }
        p += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
}

static void flush(struct writer *w)
{
    put_at(w, w->buf, w->used, w->at);
    /* state_write frees the buffer: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    w->at += w->used;
    w->used = 0;
}

static void put(struct writer *w, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len) {
        size_t n = CHUNK - w->used;

        if (n > len)
            n = len;
        memcpy(w->buf + w->used, p, n);
        w->used += n;
        p += n;
        len -= n;
        if (w->used == CHUNK)
            flush(w);
    }
}

static void put_data(struct writer *w, const void *data, size_t len)
{
    w->crc = crc32c(w->crc, data, len);
    put(w, data, len);
}

/* @return where the section's header will be. */
static uint64_t begin(struct writer *w)
{
    static const struct section none;
    uint64_t at = w->at + w->used;

    put(w, &none, sizeof(none));
    w->crc = 0;
    return at;
}

static void end(struct writer *w, uint64_t at, uint32_t kind, uint32_t flags, const char *name, uint64_t extra)
{
    struct section s = { .kind = kind, .flags = flags, .extra = extra, .data_crc = w->crc };
    uint64_t zero = 0;

    s.len = w->at + w->used - at - sizeof(s);
    snprintf(s.name, sizeof(s.name), "%s", name);
    s.crc = crc32c(0, &s, offsetof(struct section, crc));
    put(w, &zero, (size_t)pad8(s.len));
    flush(w);
    put_at(w, &s, sizeof(s), at);
    w->sections++;
}

static bool is_zero(const uint8_t *p)
{
    return !p[0] && !memcmp(p, p + 1, PAGE - 1);
}

/* The next stretch of memory from *@at on that somebody wrote to, up to @return; holes are not read, which would fill
 * them. */
static uint64_t stretch(const struct state_ram *r, uint64_t *at)
{
    off_t data, hole;

    if (r->fd < 0)
        return r->len;
    data = lseek(r->fd, (off_t)(r->offset + *at), SEEK_DATA);
    if (data < 0 && errno != ENXIO) /* this kind of file does not say */
        return r->len;
    if (data < 0 || (uint64_t)data >= r->offset + r->len)
        return *at = r->len;
    *at = ((uint64_t)data - r->offset) / PAGE * PAGE;
    hole = lseek(r->fd, data, SEEK_HOLE);
    if (hole <= data || (uint64_t)hole - r->offset > r->len)
        return r->len;
    return ((uint64_t)hole - r->offset + PAGE - 1) / PAGE * PAGE;
}

/* Runs of pages that are not zero; @first is the number of the block's first page.  The guest stands still. */
static void put_ram(struct writer *w, const struct state_ram *r, uint64_t first)
{
    uint64_t at = 0, stop, end = 0;

    while (at < r->len && !w->err) {
        struct run run;

        if (at >= end) {
            end = stretch(r, &at);
            continue;
        }
        if (is_zero(r->hva + at)) {
            at += PAGE;
            continue;
        }
        for (stop = at + PAGE; stop < end && stop - at < 64 * CHUNK && !is_zero(r->hva + stop);)
            stop += PAGE;
        run = (struct run){ first + at / PAGE, (stop - at) / PAGE };
        put_data(w, &run, sizeof(run));
        put_data(w, r->hva + at, stop - at);
        at = stop;
    }
}

static void put_header(struct writer *w)
{
    struct file_header h = { .version = VERSION,
                             .header_len = sizeof(h),
                             .file_len = w->at,
                             .sections = w->sections,
                             .created = (int64_t)time(NULL) };

    memcpy(h.magic, magic, sizeof(h.magic));
    h.crc = crc32c(0, &h, offsetof(struct file_header, crc));
    put_at(w, &h, sizeof(h), 0);
}

/* To the disk, then in place of what was there.  The name is durable when the folder is; a folder that cannot be read,
 * or synced, takes files all the same, and what is in place is saved. */
static int put_in_place(int fd, const char *part, const char *path)
{
    char *copy = strdup(path);
    int folder = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int folder_err = folder < 0 ? -errno : 0, err = 0;

    free(copy);
    if (folder_err && folder_err != -EACCES)
        err = folder_err;
    else if (fsync(fd) || rename(part, path))
        err = -errno;
    else if (!folder_err && fsync(folder))
        folder_err = -errno;
    if (!err && folder_err)
        log_write(LOGL_WARNING, "save",
                  "%s: saved, but the folder cannot be synced, a crash of the host may undo it: %s",
                  DIAG_Q(path), strerror(-folder_err));
    if (folder >= 0)
        close(folder);
    return err;
}

/* The temporary, ours alone: another save to the same name has to wait its turn. */
static int open_part(const char *part, const char *path, struct diag *diag)
{
    int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    int err;

    if (fd < 0)
        return diag_set(diag, -errno, "%s: cannot write: %s", DIAG_Q(part), strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        err = diag_set(diag, -EINVAL, "%s: not a regular file", DIAG_Q(part));
    else if (flock(fd, LOCK_EX | LOCK_NB))
        err = diag_set(diag, -EBUSY, "%s: somebody else is writing it", DIAG_Q(path));
    else if (ftruncate(fd, 0))
        err = diag_set(diag, -errno, "%s: cannot write: %s", DIAG_Q(part), strerror(errno));
    else
        return fd;
    close(fd);
    return err;
}

int state_write(const char *path, const char *config, const struct state_part *parts, size_t nparts,
                const struct state_ram *ram, size_t nram, struct diag *diag)
{
    struct writer w = { .fd = -1, .at = sizeof(struct file_header) };
    uint64_t at, pages = 0;
    struct stat st;
    char *part;

    if (nparts + 2 > STATE_SECTIONS_MAX)
        return diag_set(diag, -E2BIG, "%s: too many parts", DIAG_Q(path));
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return diag_set(diag, -EINVAL, "%s: not a regular file", DIAG_Q(path));
    if (asprintf(&part, "%s.part", path) < 0)
        return diag_set(diag, -ENOMEM, "no memory");
    w.fd = open_part(part, path, diag);
    if (w.fd < 0) {
        free(part);
        return w.fd;
    }
    w.buf = malloc(CHUNK);
    if (!w.buf)
        w.err = -ENOMEM;
    if (!w.err) {
        at = begin(&w);
        put_data(&w, config, strlen(config));
        end(&w, at, KIND_CONFIG, IGNORABLE, "configuration", 0);
        for (size_t i = 0; i < nparts && !w.err; i++) {
            at = begin(&w);
            put_data(&w, parts[i].data, parts[i].len);
            end(&w, at, KIND_STATE, 0, parts[i].name, 0);
        }
        at = begin(&w);
        for (size_t i = 0; i < nram && !w.err; i++) {
            put_ram(&w, &ram[i], pages);
            pages += ram[i].len / PAGE;
        }
        end(&w, at, KIND_RAM, 0, "memory", pages * PAGE);
        put_header(&w);
    }
    if (!w.err)
        w.err = put_in_place(w.fd, part, path);
    if (w.err)
        unlink(part);
    close(w.fd);
    free(w.buf);
    free(part);
    return w.err ? diag_set(diag, w.err, "%s: cannot write: %s", DIAG_Q(path), strerror(-w.err)) : 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int get(const struct state_file *f, void *buf, size_t len, uint64_t at)
{
    uint8_t *p = buf;

    while (len) {
        ssize_t n = pread(f->fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* shorter than it was a moment ago */
        p += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* The data of one section, behind what is in *buf. */
static int get_data(const struct state_file *f, const struct section *s, uint64_t at, uint8_t **buf, size_t *len)
{
    uint8_t *more = realloc(*buf, *len + s->len + 1);
    int err;

    if (!more)
        return -ENOMEM;
    *buf = more;
    err = get(f, more + *len, s->len, at);
    if (!err && crc32c(0, more + *len, s->len) != s->data_crc)
        err = -EBADMSG;
    if (!err)
        *len += s->len;
    more[*len] = 0;
    return err;
}

static int read_section(struct state_file *f, const struct section *s, uint64_t at, const char *name,
                        struct diag *diag)
{
    size_t len = 0;
    int err = 0;

    switch (s->kind) {
    case KIND_CONFIG:
        if (f->config)
            return diag_set(diag, -EINVAL, "%s: has more than one configuration", name);
        err = get_data(f, s, at, (uint8_t **)&f->config, &len);
        break;
    case KIND_STATE: err = get_data(f, s, at, &f->state, &f->state_len); break;
    case KIND_RAM:
        if (f->ram_at)
            return diag_set(diag, -EINVAL, "%s: has memory more than once", name);
        f->ram_at = at;
        f->ram_len = s->len;
        f->ram_crc = s->data_crc;
        f->ram_size = s->extra;
        break;
    default:
        if (!(s->flags & IGNORABLE))
            return diag_set(diag, -ENOTSUP, "%s: section '%s' is of a kind that this version does not know", name,
                            DIAG_Q(s->name));
    }
    if (err == -EBADMSG)
        return diag_set(diag, err, "%s: damaged: the checksum of section '%s' is wrong", name, DIAG_Q(s->name));
    return err ? diag_set(diag, err, "%s: cannot read: %s", name, strerror(-err)) : 0;
}

static int read_all(struct state_file *f, const char *name, struct diag *diag)
{
    struct file_header h;
    uint64_t at = sizeof(h);
    struct stat st;
    int err;

    if (fstat(f->fd, &st))
        return diag_set(diag, -errno, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return diag_set(diag, -EINVAL, "%s: not a regular file", name);
    f->size = (uint64_t)st.st_size;
    err = f->size < sizeof(h) ? -EINVAL : get(f, &h, sizeof(h), 0);
    if (err || memcmp(h.magic, magic, sizeof(magic)) != 0)
        return diag_set(diag, err ? err : -EINVAL, "%s: not a saved VM%s", name,
                        f->size ? "" : " (the file is empty)");
    if (h.crc != crc32c(0, &h, offsetof(struct file_header, crc)))
        return diag_set(diag, -EBADMSG, "%s: damaged: the checksum of the header is wrong", name);
    if (h.version != VERSION || h.header_len != sizeof(h))
        return diag_set(diag, -ENOTSUP, "%s: saved states of version %u are not known here (only %d)", name, h.version,
                        VERSION);
    if (h.file_len != f->size || h.sections > STATE_SECTIONS_MAX)
        return diag_set(diag, -EBADMSG, "%s: damaged: it has %" PRIu64 " bytes, %" PRIu64 " were written", name,
                        f->size, h.file_len);
    f->created = h.created;
    for (uint32_t i = 0; i < h.sections; i++) {
        struct section s;

        if (f->size - at < sizeof(s))
            return diag_set(diag, -EBADMSG, "%s: damaged: section %u is cut off", name, i);
        err = get(f, &s, sizeof(s), at);
        if (err)
            return diag_set(diag, err, "%s: cannot read: %s", name, strerror(-err));
        at += sizeof(s);
        if (s.crc != crc32c(0, &s, offsetof(struct section, crc)) || s.name[STATE_NAME - 1])
            return diag_set(diag, -EBADMSG, "%s: damaged: the header of section %u", name, i);
        if (s.len > f->size - at || pad8(s.len) > f->size - at - s.len)
            return diag_set(diag, -EBADMSG, "%s: damaged: section '%s' is cut off", name, DIAG_Q(s.name));
        err = read_section(f, &s, at, name, diag);
        if (err)
            return err;
        at += s.len + pad8(s.len);
    }
    if (at != f->size)
        return diag_set(diag, -EBADMSG, "%s: damaged: there is something behind the last section", name);
    if (!f->state || !f->ram_at)
        return diag_set(diag, -EINVAL, "%s: has no %s", name, f->state ? "memory" : "state");
    return 0;
}

int state_open_fd(int fd, const char *name, struct state_file **ret, struct diag *diag)
{
    struct state_file *f = calloc(1, sizeof(*f));
    int err;

    if (!f) {
        close(fd);
        return diag_set(diag, -ENOMEM, "no memory");
    }
    f->fd = fd;
    err = read_all(f, DIAG_Q(name), diag);
    if (err) {
        state_close(f);
        return err;
    }
    *ret = f;
    return 0;
}

int state_open(const char *path, struct state_file **ret, struct diag *diag)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to wait for a FIFO's other end */

    if (fd < 0)
        return diag_set(diag, -errno, "%s: %s", DIAG_Q(path), strerror(errno));
    return state_open_fd(fd, path, ret, diag);
}

void state_close(struct state_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    free(f->config);
    free(f->state);
    free(f);
}

/* Into the block that page @*first of all is in; as much of @*count as lies there. */
static uint8_t *place(const struct state_ram *ram, size_t nram, uint64_t first, uint64_t *count)
{
    for (size_t i = 0; i < nram; i++) {
        uint64_t pages = ram[i].len / PAGE;

        if (first < pages) {
            if (*count > pages - first)
                *count = pages - first;
            return ram[i].hva + first * PAGE;
        }
        first -= pages;
    }
    return NULL;
}

static void clear(const struct state_ram *r)
{
    /* gives the memory back as well; works for shared memory only */
    if (r->fd < 0 || madvise(r->hva, r->len, MADV_REMOVE))
        memset(r->hva, 0, r->len);
}

int state_load_ram(struct state_file *f, const struct state_ram *ram, size_t nram, struct diag *diag)
{
    uint64_t at = f->ram_at, left = f->ram_len, next = 0, pages = 0;
    uint32_t crc = 0;
    int err = 0;

    for (size_t i = 0; i < nram; i++)
        pages += ram[i].len / PAGE;
    if (pages * PAGE != f->ram_size)
        return diag_set(diag, -EINVAL, "the state is of a VM with %s of memory, this one has %s",
                        DIAG_SIZE(f->ram_size), DIAG_SIZE(pages * PAGE));
    for (size_t i = 0; i < nram; i++)
        clear(&ram[i]);
    while (left && !err) {
        struct run run;

        err = left < sizeof(run) ? -EBADMSG : get(f, &run, sizeof(run), at);
        if (err)
            break;
        crc = crc32c(crc, &run, sizeof(run));
        at += sizeof(run);
        left -= sizeof(run);
        if (!run.count || run.first < next || run.first >= pages || run.count > pages - run.first ||
            run.count > left / PAGE) {
            err = -EBADMSG;
            break;
        }
        next = run.first + run.count;
        while (run.count && !err) {
            uint64_t n = run.count < CHUNK / PAGE ? run.count : CHUNK / PAGE;
            uint8_t *p = place(ram, nram, run.first, &n);

            err = get(f, p, n * PAGE, at);
            crc = crc32c(crc, p, n * PAGE);
            run.first += n;
            run.count -= n;
            at += n * PAGE;
            left -= n * PAGE;
        }
    }
    if (!err && crc != f->ram_crc)
        err = -EBADMSG;
    if (err == -EBADMSG)
        return diag_set(diag, err, "the saved state is damaged: section 'memory' is wrong");
    f->checked = !err;
    return err ? diag_set(diag, err, "the saved state cannot be read: %s", strerror(-err)) : 0;
}
