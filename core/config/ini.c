/* SPDX-License-Identifier: BSD-2-Clause */
/* INI text to sections and keys, on inih.
 *
 * inih works on a line buffer of 200 bytes and knows neither empty sections nor bytes of value 0.
 * So the lines are cut and checked here, one line of the text is one line to inih, and the value of
 * a line that is longer than inih's buffer is taken from the line itself. */
#include "core/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ini {
    const char *file;
    const char *at, *end; /* what is left */
    unsigned line;        /* of `full` */
    const char *full;     /* the present line without its end, not terminated */
    size_t full_len;
    bool cut; /* inih got the beginning only */
    bool in_section;
    int err;
    char *value; /* INI_LINE_MAX + 1 bytes */
    const struct ini_handler *h;
    struct diag *diag;
};

static int ini_fail(struct ini *p, const char *what)
{
    struct diag_pos pos = { p->file, p->line };

    p->err = diag_at(p->diag, &pos, -EINVAL, "%s", what);
    return p->err;
}

/* "[name]", then nothing or a comment. */
static int ini_section(struct ini *p)
{
    struct diag_pos pos = { p->file, p->line };
    const char *s = p->full + 1, *end = p->full + p->full_len;
    const char *close = memchr(s, ']', (size_t)(end - s));
    char name[2 * INI_NAME_MAX + 4];
    size_t n = 0;

    if (!close)
        return ini_fail(p, "section header without ']'");
    for (const char *c = close + 1; c < end; c++) {
        if (*c == ';' || *c == '#')
            break;
        if (!isspace((unsigned char)*c))
            return ini_fail(p, "text after ']'");
    }
    while (s < close && isspace((unsigned char)*s))
        s++;
    while (close > s && isspace((unsigned char)close[-1]))
        close--;
    for (; s < close; s++) {
        /* blanks in a name count as one space */
        if (isspace((unsigned char)*s) && n && name[n - 1] == ' ')
            continue;
        if (n + 1 >= sizeof(name)) {
            p->err = diag_at(p->diag, &pos, -EINVAL, "section name is longer than %d characters",
                             INI_NAME_MAX);
            return p->err;
        }
        name[n++] = isspace((unsigned char)*s) ? ' ' : *s;
    }
    name[n] = '\0';
    p->in_section = true;
    p->err = p->h->section(p->h->ctx, name, p->line);
    return p->err;
}

/* inih's fgets(): the next line that says something. */
static char *ini_next(char *buf, int size, void *stream)
{
    struct ini *p = stream;

    while (!p->err && p->at < p->end) {
        const char *nl = memchr(p->at, '\n', (size_t)(p->end - p->at));
        const char *s = p->at, *e = nl ? nl : p->end;

        p->at = nl ? nl + 1 : p->end;
        p->line++;
        if (memchr(s, '\0', (size_t)(e - s))) {
            ini_fail(p, "NUL byte in the line; this is not a text file");
            return NULL;
        }
        if (e - s > INI_LINE_MAX) {
            struct diag_pos pos = { p->file, p->line };
            p->err = diag_at(p->diag, &pos, -EINVAL, "line is %zu bytes long, the limit is %d",
                             (size_t)(e - s), INI_LINE_MAX);
            return NULL;
        }
        if (p->line == 1 && e - s >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0)
            s += 3;
        while (e > s && isspace((unsigned char)e[-1]))
            e--;
        while (s < e && isspace((unsigned char)*s))
            s++;
        if (s == e || *s == ';' || *s == '#')
            continue;
        for (const char *c = s; c < e; c++) {
            if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f) {
                ini_fail(p, "control character in the line");
                return NULL;
            }
        }
        p->full = s;
        p->full_len = (size_t)(e - s);
        if (*s == '[') {
            if (ini_section(p))
                return NULL;
            continue;
        }
        if (!p->in_section) {
            ini_fail(p, "key outside a section; begin with [vm]");
            return NULL;
        }
        /* room for the line feed and the NUL */
        size_t room = (size_t)size - 2;
        const char *sep = s;
        while (sep < e && *sep != '=' && *sep != ':' &&
               !(*sep == ';' && isspace((unsigned char)sep[-1])))
            sep++;
        if (sep == e || *sep == ';') {
            ini_fail(p, "neither '[section]' nor 'key = value'");
            return NULL;
        }
        if (sep == s) {
            ini_fail(p, "a value without a key");
            return NULL;
        }
        if ((size_t)(sep - s) > INI_NAME_MAX + 32 || (size_t)(sep - s) >= room) {
            ini_fail(p, "key is too long");
            return NULL;
        }
        p->cut = p->full_len > room;
        size_t n = p->cut ? room : p->full_len;
        memcpy(buf, s, n);
        buf[n] = '\n';
        buf[n + 1] = '\0';
        return buf;
    }
    return NULL;
}

/* The value of a line that inih saw the beginning of, by inih's rules: from the separator to the
 * end or to a ';' that follows a blank, without blanks around it. */
static const char *ini_long_value(struct ini *p)
{
    const char *s = p->full, *e = s + p->full_len;

    while (*s != '=' && *s != ':')
        s++;
    s++;
    while (s < e && isspace((unsigned char)*s))
        s++;
    for (const char *c = s; c < e; c++) {
        if (*c == ';' && (c == s || isspace((unsigned char)c[-1]))) {
            e = c;
            break;
        }
    }
    while (e > s && isspace((unsigned char)e[-1]))
        e--;
    memcpy(p->value, s, (size_t)(e - s));
    p->value[e - s] = '\0';
    return p->value;
}

static int ini_key(void *user, const char *section, const char *name, const char *value)
{
    struct ini *p = user;

    (void)section; /* ini_section() keeps track: inih does not tell of empty ones */
    if (p->err)
        return 0;
    p->err = p->h->key(p->h->ctx, name, p->cut ? ini_long_value(p) : value, p->line);
    return p->err == 0;
}

int ini_read(const char *file, const char *text, size_t len, const struct ini_handler *h,
             struct diag *diag)
{
    struct ini p = { .file = file, .at = text, .end = text + len, .h = h, .diag = diag };
    int bad;

    p.value = malloc(INI_LINE_MAX + 1);
    if (!p.value)
        return diag_set(diag, -ENOMEM, "%s: no memory", file);
    bad = ini_parse_stream(ini_next, &p, ini_key, &p);
    if (!p.err && bad)
        ini_fail(&p, "neither '[section]' nor 'key = value'");
    free(p.value);
    return p.err;
}

int ini_load_file(const char *path, char **ret_text, size_t *ret_len, struct diag *diag)
{
    size_t len = 0, room = 64 << 10;
    char *text = NULL, *more;
    int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return diag_set(diag, -errno, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        err = diag_set(diag, -EISDIR, "%s: is a directory, not a VM description", path);
        goto fail;
    }
    fcntl(fd, F_SETFL, 0); /* a pipe may be slow */
    for (;;) {
        more = realloc(text, room + 1);
        if (!more) {
            err = diag_set(diag, -ENOMEM, "%s: no memory", path);
            goto fail;
        }
        text = more;
        ssize_t n = read(fd, text + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err = diag_set(diag, -errno, "%s: %s", path, strerror(errno));
            goto fail;
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > INI_FILE_MAX) {
            err = diag_set(diag, -EFBIG, "%s: larger than %s, not a VM description", path,
                           DIAG_SIZE(INI_FILE_MAX));
            goto fail;
        }
        if (len == room)
            room *= 2;
    }
    close(fd);
    text[len] = '\0';
    *ret_text = text;
    *ret_len = len;
    return 0;
fail:
    free(text);
    close(fd);
    return err;
}
