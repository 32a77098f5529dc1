/* SPDX-License-Identifier: BSD-2-Clause */
/* Identities, text and paths of disk images. */
#include "core/block/block_int.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- identities ------------------------------------------------------------------------------------ */

void block_random_id(uint8_t id[16])
{
    static atomic_uint fallback;
    size_t n = 0;

    while (n < 16) {
        ssize_t got = getrandom(id + n, 16 - n, 0);
        if (got < 0 && errno != EINTR)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    if (n < 16) { /* no entropy: still unique within this host */
        uint32_t v[4] = { (uint32_t)getpid(), atomic_fetch_add(&fallback, 1), 0x6d6f626f, 1 };
        memcpy(id, v, 16);
    }
    /* RFC 4122, version 4, in the mixed-endian order of GUIDs */
    id[7] = (uint8_t)((id[7] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

/* ---- text -------------------------------------------------------------------------------------------- */

char *block_utf8(const uint8_t *p, size_t bytes, bool big)
{
    char *out = malloc(bytes / 2 * 3 + 1), *o = out;

    if (!out || bytes % 2) {
        free(out);
        return NULL;
    }
    for (size_t i = 0; i < bytes; i += 2) {
        uint32_t c = big ? get_be16(p + i) : get_le16(p + i);
        if (c >= 0xd800 && c < 0xdc00 && i + 4 <= bytes) {
            uint32_t d = big ? get_be16(p + i + 2) : get_le16(p + i + 2);
            if (d >= 0xdc00 && d < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (d - 0xdc00);
                i += 2;
            }
        }
        if (c == 0 || (c >= 0xd800 && c < 0xe000)) {
            free(out);
            return NULL;
        }
        if (c < 0x80) {
            *o++ = (char)c;
        } else if (c < 0x800) {
            *o++ = (char)(0xc0 | c >> 6);
            *o++ = (char)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            *o++ = (char)(0xe0 | c >> 12);
            *o++ = (char)(0x80 | (c >> 6 & 0x3f));
            *o++ = (char)(0x80 | (c & 0x3f));
        } else {
            *o++ = (char)(0xf0 | c >> 18);
            *o++ = (char)(0x80 | (c >> 12 & 0x3f));
            *o++ = (char)(0x80 | (c >> 6 & 0x3f));
            *o++ = (char)(0x80 | (c & 0x3f));
        }
    }
    *o = '\0';
    return out;
}

int block_utf16(const char *s, uint8_t *out, size_t room, bool big)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t n = 0;

    while (*p) {
        uint32_t c = *p, min = 0;
        int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
        uint16_t unit[2];
        int units = 1;

        if (more < 0)
            return -1;
        if (more) {
            static const uint32_t lowest[] = { 0, 0x80, 0x800, 0x10000 };
            c &= 0x3fu >> more;
            min = lowest[more];
        }
        for (p++; more; more--, p++) {
            if (*p >> 6 != 2)
                return -1;
            c = c << 6 | (*p & 0x3f);
        }
        if (c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return -1;
        unit[0] = (uint16_t)c;
        if (c >= 0x10000) {
            unit[0] = (uint16_t)(0xd800 + ((c - 0x10000) >> 10));
            unit[1] = (uint16_t)(0xdc00 + ((c - 0x10000) & 0x3ff));
            units = 2;
        }
        for (int i = 0; i < units; i++) {
            if (n + 2 > room || n > INT_MAX - 2)
                return -1;
            if (big)
                put_be16(out + n, unit[i]);
            else
                put_le16(out + n, unit[i]);
            n += 2;
        }
    }
    return (int)n;
}

/* ---- paths --------------------------------------------------------------------------------------------- */

/* The folder of a path, resolved. */
static char *real_folder(const char *path)
{
    char *copy = strdup(path), *r = NULL;

    if (copy)
        r = realpath(dirname(copy), NULL);
    free(copy);
    return r;
}

char *block_relative_path(const char *from, const char *to)
{
    char *a = real_folder(from), *b = realpath(to, NULL), *out = NULL;
    size_t same = 0, ups = 0, len;

    if (!a || !b)
        goto out;
    if (strcmp(a, "/") == 0)
        a[0] = '\0';
    /* the common folders: up to the last '/' where both agree */
    for (size_t i = 0;; i++) {
        bool end_a = a[i] == '\0' || a[i] == '/', end_b = b[i] == '/';
        if (end_a && end_b)
            same = i;
        if (a[i] == '\0' || a[i] != b[i])
            break;
    }
    for (const char *p = a + same; *p; p++)
        ups += *p == '/';
    len = ups * 3 + strlen(b) + 3;
    out = calloc(1, len);
    if (!out)
        goto out;
    if (!ups)
        strcpy(out, "./");
    for (size_t i = 0; i < ups; i++)
        strcat(out, "../");
    strcat(out, b + same + 1);
out:
    free(a);
    free(b);
    return out;
}

int block_add_parent_name(struct block *b, char *name)
{
    size_t n = 0;
    char **more;

    if (!name)
        return -ENOMEM;
    while (b->parent_names && b->parent_names[n])
        n++;
    more = realloc(b->parent_names, (n + 2) * sizeof(*more));
    if (!more) {
        free(name);
        return -ENOMEM;
    }
    more[n] = name;
    more[n + 1] = NULL;
    b->parent_names = more;
    return 0;
}

/* ---- geometry -------------------------------------------------------------------------------------------- */

void block_chs(uint64_t nsect, uint32_t *ret_cyls, uint32_t *ret_heads, uint32_t *ret_spt)
{
    const uint64_t most = 65535ULL * 16 * 255;
    uint64_t total = nsect < most ? nsect : most, tracks;
    uint32_t heads, spt;

    if (total >= 65535ULL * 16 * 63) {
        spt = 255;
        heads = 16;
        tracks = total / spt;
    } else {
        spt = 17;
        tracks = total / spt;
        heads = (uint32_t)((tracks + 1023) / 1024);
        if (heads < 4)
            heads = 4;
        if (tracks >= heads * 1024ULL || heads > 16) {
            spt = 31;
            heads = 16;
            tracks = total / spt;
        }
        if (tracks >= heads * 1024ULL) {
            spt = 63;
            heads = 16;
            tracks = total / spt;
        }
    }
    *ret_cyls = (uint32_t)(tracks / heads);
    *ret_heads = heads;
    *ret_spt = spt;
}

/* ---- locks ----------------------------------------------------------------------------------------------- */

void block_lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t a;

    pthread_rwlockattr_init(&a);
    pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &a);
    pthread_rwlockattr_destroy(&a);
}

/* ---- findings ---------------------------------------------------------------------------------------------- */

void block_report(struct block_check *check, enum block_problem kind, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (kind == BLOCK_ERROR)
        check->errors++;
    if (!check->report)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    check->report(check->ctx, kind, text);
}
