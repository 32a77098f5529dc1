/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM description: file, preset and command line put together, then the typed view. */
#include "core/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MEMORY_MIN = 1 << 20, PROCESSORS_MAX = 64, CODE_CACHE_MIN = 4 << 20, CODE_CACHE_MAX = 96 << 20 };

/* Everything that may be written outside device sections. */
static const char *const vm_keys[] = { "name",       "generation", "memory",
                                       "processors", "engine",     "enlightened", "code_cache", "native" };
static const char *const boot_keys[] = { "firmware", "kernel", "initrd", "cmdline", "modules" };
static const char *const enlightenments[] = {
    "vp_runtime", "reference_tsc", "synic",        "stimers", "direct_stimers", "idle",          "reset",
    "frequencies", "crash",        "remote_flush", "ipi",     "relaxed_timing", "tsc_invariant", "extended_hypercalls"
}; /* in the order of enum hv_enlightenment's bits */
static const char *const engines[] = { "auto", "kvm", "jit", "interp" };
static const char *const natives[] = { "auto", "no", "always" }; /* enum hv_native */
static const char *const firmwares[] = { "linux", "multiboot", "seabios", "uefi" };
static const char *const own_sections[] = { "vm", "boot", "enlightenments" };

/* ---- sections and keys ----------------------------------------------------------------------- */

static const char *keep_name(struct config *c, const char *name)
{
    char **more;

    for (size_t i = 0; i < c->nfiles; i++)
        if (strcmp(c->files[i], name) == 0)
            return c->files[i];
    more = realloc(c->files, (c->nfiles + 1) * sizeof(*more));
    if (!more)
        return "?";
    c->files = more;
    more[c->nfiles] = strdup(name);
    return more[c->nfiles] ? more[c->nfiles++] : "?";
}

static struct config_section *section_find(struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i].name, name) == 0)
            return &c->sections[i];
    return NULL;
}

static struct config_section *section_add(struct config *c, enum config_kind kind, const char *name,
                                          const struct diag_pos *pos)
{
    struct config_section *more = realloc(c->sections, (c->nsections + 1) * sizeof(*more));
    char *copy = strdup(name);

    if (more)
        c->sections = more;
    if (!more || !copy) {
        free(copy);
        return NULL;
    }
    more[c->nsections] = (struct config_section){ .kind = kind, .name = copy, .pos = *pos };
    return &more[c->nsections++];
}

static void keys_free(struct config_section *s)
{
    for (size_t i = 0; i < s->nkeys; i++) {
        free(s->keys[i].name);
        free(s->keys[i].value);
    }
    free(s->keys);
    s->keys = NULL;
    s->nkeys = 0;
}

static void section_remove(struct config *c, struct config_section *s)
{
    size_t i = (size_t)(s - c->sections);

    keys_free(s);
    free(s->name);
    memmove(s, s + 1, (c->nsections - i - 1) * sizeof(*s));
    c->nsections--;
}

const struct config_key *config_find(const struct config_section *s, const char *key)
{
    for (size_t i = 0; s && i < s->nkeys; i++)
        if (strcmp(s->keys[i].name, key) == 0)
            return &s->keys[i];
    return NULL;
}

/* Set a key, anew or over an earlier value. */
static int key_set(struct config_section *s, const char *name, const char *value,
                   const struct diag_pos *pos)
{
    struct config_key *k = (struct config_key *)config_find(s, name), *more;
    char *v = strdup(value), *n;

    if (!v)
        return -ENOMEM;
    if (k) {
        free(k->value);
        k->value = v;
        k->pos = *pos;
        return 0;
    }
    n = strdup(name);
    more = n ? realloc(s->keys, (s->nkeys + 1) * sizeof(*more)) : NULL;
    if (!more) {
        free(n);
        free(v);
        return -ENOMEM;
    }
    s->keys = more;
    k = &more[s->nkeys++];
    k->name = n;
    k->value = v;
    k->pos = *pos;
    return 0;
}

static bool good_name(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > INI_NAME_MAX)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '-' && *name != '_')
            return false;
    return true;
}

static bool own_section(const char *name, enum config_kind *kind)
{
    for (unsigned i = 0; i < COUNT(own_sections); i++) {
        if (strcmp(name, own_sections[i]) == 0) {
            *kind = (enum config_kind)i;
            return true;
        }
    }
    return false;
}

/* ---- from INI text --------------------------------------------------------------------------- */

struct parse {
    struct config *c;
    const char *file;
    struct diag *diag;
    size_t section;
};

static int parse_section(void *ctx, const char *name, unsigned line)
{
    struct parse *p = ctx;
    struct diag_pos pos = { p->file, line };
    enum config_kind kind = CONFIG_VDEV;
    const char *dev = name;
    struct config_section *s;

    if (strncmp(name, "vdev ", 5) == 0) {
        enum config_kind own;
        dev = name + 5;
        if (!good_name(dev))
            return diag_at(p->diag, &pos, -EINVAL,
                           "bad device name '%s' (letters, digits, '-' and '_', at most %d)",
                           DIAG_Q(dev), INI_NAME_MAX);
        if (own_section(dev, &own))
            return diag_at(p->diag, &pos, -EINVAL, "a device cannot be named '%s'", dev);
    } else if (!own_section(name, &kind)) {
        const char *near;
        char word[16];
        if (strcmp(name, "vdev") == 0)
            return diag_at(p->diag, &pos, -EINVAL, "[vdev] needs a device name, as in [vdev com1]");
        /* "[vdevs com1]", "[dev com1]" */
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(name, " "), name);
        if (strchr(name, ' ') && nearest(word, (const char *const[]){ "vdev" }, 1))
            return diag_at(p->diag, &pos, -EINVAL, "unknown section [%s] (did you mean [vdev %s]?)",
                           DIAG_Q(name), strchr(name, ' ') + 1);
        near = nearest(name, own_sections, COUNT(own_sections));
        if (near)
            return diag_at(p->diag, &pos, -EINVAL, "unknown section [%s] (did you mean [%s]?)",
                           DIAG_Q(name), near);
        return diag_at(p->diag, &pos, -EINVAL,
                       "unknown section [%s] (known: [vm], [boot], [enlightenments], [vdev NAME])",
                       DIAG_Q(name));
    }
    s = section_find(p->c, dev);
    if (s)
        return diag_at(p->diag, &pos, -EEXIST, "section [%s] is already at line %u", name,
                       s->pos.line);
    s = section_add(p->c, kind, dev, &pos);
    if (!s)
        return diag_at(p->diag, &pos, -ENOMEM, "no memory");
    p->section = (size_t)(s - p->c->sections);
    return 0;
}

static int parse_key(void *ctx, const char *name, const char *value, unsigned line)
{
    struct parse *p = ctx;
    struct diag_pos pos = { p->file, line };
    struct config_section *s = &p->c->sections[p->section];
    const struct config_key *k = config_find(s, name);

    if (k)
        return diag_at(p->diag, &pos, -EEXIST, "'%s' is already set at line %u", DIAG_Q(name),
                       k->pos.line);
    if (key_set(s, name, value, &pos))
        return diag_at(p->diag, &pos, -ENOMEM, "no memory");
    return 0;
}

static int parse_text(struct config *c, const char *file, const char *text, size_t len,
                      struct diag *diag)
{
    struct parse p = { .c = c, .file = keep_name(c, file), .diag = diag };
    struct ini_handler h = { parse_section, parse_key, &p };

    return ini_read(p.file, text, len, &h, diag);
}

/* ---- preset below, command line above -------------------------------------------------------- */

/* Put the file's sections over the preset's: keys add to and replace those of the same device; a
 * device that changes its type starts empty. */
static int overlay(struct config *base, struct config *over, struct diag *diag)
{
    for (size_t i = 0; i < over->nsections; i++) {
        struct config_section *o = &over->sections[i], *b = section_find(base, o->name);
        const struct config_key *type = config_find(o, "type");

        if (!b)
            b = section_add(base, o->kind, o->name, &o->pos);
        else if (type && config_find(b, "type") &&
                 strcmp(config_find(b, "type")->value, type->value) != 0)
            keys_free(b);
        if (!b)
            return diag_at(diag, &o->pos, -ENOMEM, "no memory");
        b->pos = o->pos;
        b->preset = false;
        for (size_t k = 0; k < o->nkeys; k++) {
            struct diag_pos pos = o->keys[k].pos;
            pos.file = keep_name(base, pos.file);
            if (key_set(b, o->keys[k].name, o->keys[k].value, &pos))
                return diag_at(diag, &pos, -ENOMEM, "no memory");
        }
        b->pos.file = keep_name(base, o->pos.file);
    }
    return 0;
}

/* "SECTION.KEY=VALUE" cut into its parts; @section and @key have INI_NAME_MAX + 33 bytes. */
static int set_split(const char *text, char *section, char *key, const char **ret_value,
                     struct diag *diag)
{
    enum { PART = INI_NAME_MAX + 33 };
    const char *eq = strchr(text, '='), *dot = strchr(text, '.'), *end;
    size_t ns, nk;

    if (!eq || !dot || dot > eq || dot == text || eq == dot + 1)
        return diag_set(diag, -EINVAL, "--set %s: not of the form SECTION.KEY=VALUE", DIAG_Q(text));
    ns = (size_t)(dot - text);
    end = eq;
    while (end > dot + 1 && isspace((unsigned char)end[-1]))
        end--;
    nk = (size_t)(end - dot - 1);
    if (ns >= PART || nk >= PART)
        return diag_set(diag, -EINVAL, "--set %s: name is too long", DIAG_Q(text));
    memcpy(section, text, ns);
    section[ns] = '\0';
    memcpy(key, dot + 1, nk);
    key[nk] = '\0';
    for (eq++; isspace((unsigned char)*eq); eq++)
        ;
    if (strlen(eq) > INI_LINE_MAX)
        return diag_set(diag, -EINVAL, "--set %s: value is longer than %d bytes", DIAG_Q(text),
                        INI_LINE_MAX);
    for (const char *s = eq; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return diag_set(diag, -EINVAL, "--set %s: control character in the value",
                            DIAG_Q(text));
    *ret_value = eq;
    return 0;
}

static int apply_set(struct config *c, const char *text, struct diag *diag)
{
    char section[INI_NAME_MAX + 33], key[INI_NAME_MAX + 33], shown[160];
    const char *value = "";
    struct config_section *s;
    struct diag_pos pos = { 0 };
    int err = set_split(text, section, key, &value, diag);

    if (err)
        return err;
    snprintf(shown, sizeof(shown), "--set %s.%s", section, key);
    pos.file = keep_name(c, shown);
    s = section_find(c, section);
    if (!s) {
        enum config_kind kind = CONFIG_VDEV;
        if (!own_section(section, &kind) && strcmp(key, "type") != 0) {
            const char **names = calloc(c->nsections + COUNT(own_sections), sizeof(*names));
            const char *near = NULL;
            size_t n = 0;
            if (names) {
                for (; n < COUNT(own_sections); n++)
                    names[n] = own_sections[n];
                for (size_t i = 0; i < c->nsections; i++)
                    names[n++] = c->sections[i].name;
                near = nearest(section, names, n);
            }
            err = diag_at(diag, &pos, -ENOENT, "no section or device '%s'%s", section,
                          DID_YOU_MEAN(near));
            free(names);
            return err;
        }
        if (kind == CONFIG_VDEV && !good_name(section))
            return diag_at(diag, &pos, -EINVAL, "bad device name '%s'", section);
        s = section_add(c, kind, section, &pos);
        if (!s)
            return diag_at(diag, &pos, -ENOMEM, "no memory");
    }
    if (s->kind == CONFIG_VDEV && strcmp(key, "type") == 0 && config_find(s, "type") &&
        strcmp(config_find(s, "type")->value, value) != 0)
        keys_free(s);
    s->preset = false;
    if (key_set(s, key, value, &pos))
        return diag_at(diag, &pos, -ENOMEM, "no memory");
    return 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

int config_size(const char *text, uint64_t *ret)
{
    unsigned long long v;
    unsigned shift = 0;
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    v = strtoull(text, &end, 0);
    if (errno == ERANGE)
        return -ERANGE;
    switch (toupper((unsigned char)*end)) {
    case 'K': shift = 10; break;
    case 'M': shift = 20; break;
    case 'G': shift = 30; break;
    case 'T': shift = 40; break;
    case '\0': break;
    default: return -EINVAL;
    }
    if (shift && end[1])
        return -EINVAL;
    if (shift && v > UINT64_MAX >> shift)
        return -ERANGE;
    *ret = (uint64_t)v << shift;
    return 0;
}

int config_bool(const char *text, bool *ret)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };

    for (size_t i = 0; i < COUNT(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret = i & 1;
            return 0;
        }
    }
    return -EINVAL;
}

static int get_uint(const struct config_key *k, uint64_t min, uint64_t max, unsigned *ret,
                    struct diag *diag)
{
    unsigned long long v;
    char *end;

    errno = 0;
    v = strtoull(k->value, &end, 0);
    if (!isdigit((unsigned char)k->value[0]) || *end)
        return diag_at(diag, &k->pos, -EINVAL, "%s: '%s' is not a number", k->name,
                       DIAG_Q(k->value));
    if (errno == ERANGE || v < min || v > max)
        return diag_at(diag, &k->pos, -ERANGE, "%s: '%s' is not in %llu..%llu", k->name,
                       DIAG_Q(k->value), (unsigned long long)min, (unsigned long long)max);
    *ret = (unsigned)v;
    return 0;
}

static int get_choice(const struct config_key *k, const char *const *names, size_t count,
                      size_t *ret, struct diag *diag)
{
    char known[128] = "";

    for (size_t i = 0; i < count; i++) {
        if (strcmp(k->value, names[i]) == 0) {
            *ret = i;
            return 0;
        }
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "",
                 names[i]);
    }
    if (nearest(k->value, names, count))
        return diag_at(diag, &k->pos, -EINVAL, "unknown %s '%s'%s", k->name, DIAG_Q(k->value),
                       DID_YOU_MEAN(nearest(k->value, names, count)));
    return diag_at(diag, &k->pos, -EINVAL, "unknown %s '%s' (known: %s)", k->name, DIAG_Q(k->value),
                   known);
}

/* Relative to the folder of the VM file; from the command line relative to where we are. */
static char *resolve(const struct config *c, const struct diag_pos *pos, const char *path,
                     size_t len)
{
    char *full = NULL;

    if (path[0] == '/') {
        full = strndup(path, len);
    } else if (pos->line == 0) {
        char cwd[PATH_MAX];
        if (!getcwd(cwd, sizeof(cwd)) || asprintf(&full, "%s/%.*s", cwd, (int)len, path) < 0)
            full = NULL;
    } else if (asprintf(&full, "%s/%.*s", c->dir, (int)len, path) < 0) {
        full = NULL;
    }
    return full;
}

static int get_file(struct config *c, const struct config_section *s, const char *name,
                    struct config_file *ret, struct diag *diag)
{
    const struct config_key *k = config_find(s, name);

    if (!k)
        return 0;
    ret->pos = k->pos;
    if (k->value[0] == '\0') /* `--set boot.initrd=` takes it away */
        return 0;
    ret->path = resolve(c, &k->pos, k->value, strlen(k->value));
    return ret->path ? 0 : diag_at(diag, &k->pos, -ENOMEM, "no memory");
}

/* "FILE ARGS, FILE ARGS" */
static int get_modules(struct config *c, const struct config_section *s, struct diag *diag)
{
    const struct config_key *k = config_find(s, "modules");
    char *next;

    if (!k || !k->value[0])
        return 0;
    c->modules_text = strdup(k->value);
    if (!c->modules_text)
        return diag_at(diag, &k->pos, -ENOMEM, "no memory");
    for (char *m = c->modules_text; m; m = next) {
        struct config_file *more;
        size_t n;

        next = strchr(m, ',');
        if (next)
            *next++ = '\0';
        while (isspace((unsigned char)*m))
            m++;
        for (size_t e = strlen(m); e && isspace((unsigned char)m[e - 1]); e--)
            m[e - 1] = '\0';
        if (!*m)
            return diag_at(diag, &k->pos, -EINVAL,
                           "modules: empty entry (write 'FILE ARGUMENTS, FILE ARGUMENTS')");
        more = realloc(c->modules, (c->nmodules + 1) * sizeof(*more));
        if (!more)
            return diag_at(diag, &k->pos, -ENOMEM, "no memory");
        c->modules = more;
        n = strcspn(m, " \t");
        more[c->nmodules] = (struct config_file){ .path = resolve(c, &k->pos, m, n),
                                                  .args = m + n + strspn(m + n, " \t"),
                                                  .pos = k->pos };
        if (!more[c->nmodules++].path)
            return diag_at(diag, &k->pos, -ENOMEM, "no memory");
    }
    return 0;
}

static int check_known(const struct config_section *s, const char *const *names, size_t count,
                       struct diag *diag)
{
    for (size_t i = 0; i < s->nkeys; i++) {
        const struct config_key *k = &s->keys[i];
        size_t j = 0;
        while (j < count && strcmp(k->name, names[j]) != 0)
            j++;
        if (j == count)
            return diag_at(diag, &k->pos, -EINVAL, "unknown key '%s' in [%s]%s", DIAG_Q(k->name),
                           s->name, DID_YOU_MEAN(nearest(k->name, names, count)));
    }
    return 0;
}

static uint64_t host_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static int check_memory(struct config *c, const struct config_key *k,
                        const struct config_limits *limits, struct diag *diag)
{
    uint64_t host = limits && limits->host_memory ? limits->host_memory : host_memory();
    int err;

    if (!k) {
        c->memory = 256ULL << 20;
        return 0;
    }
    c->memory_pos = k->pos;
    err = config_size(k->value, &c->memory);
    if (err == -ERANGE)
        return diag_at(diag, &k->pos, err, "memory: '%s' is more than this host has (%s)",
                       DIAG_Q(k->value), DIAG_SIZE(host));
    if (err)
        return diag_at(diag, &k->pos, err, "memory: '%s' is not a size (as 512M or 2G)",
                       DIAG_Q(k->value));
    if (c->memory < MEMORY_MIN)
        return diag_at(diag, &k->pos, -ERANGE, "memory: '%s' is too little, the least is %s",
                       DIAG_Q(k->value), DIAG_SIZE(MEMORY_MIN));
    if (c->memory % 4096)
        return diag_at(diag, &k->pos, -EINVAL, "memory: '%s' is not a multiple of 4K",
                       DIAG_Q(k->value));
    if (host && c->memory > host)
        return diag_at(diag, &k->pos, -ERANGE, "memory: '%s' is more than this host has (%s)",
                       DIAG_Q(k->value), DIAG_SIZE(host));
    return 0;
}

static int check_vm(struct config *c, const struct config_limits *limits, struct diag *diag)
{
    struct config_section *s = section_find(c, "vm");
    const struct config_key *k;
    size_t choice;
    int err;

    c->vm_name = "vm";
    c->processors = 1;
    c->engine = "auto";
    c->enlightened = true;
    c->code_cache = 0;
    c->native = 0;
    if (!s)
        return check_memory(c, NULL, limits, diag);
    err = check_known(s, vm_keys, COUNT(vm_keys), diag);
    if (err)
        return err;
    k = config_find(s, "name");
    if (k) {
        if (!good_name(k->value))
            return diag_at(diag, &k->pos, -EINVAL,
                           "name: '%s' is not a name (letters, digits, '-' and '_', at most %d)",
                           DIAG_Q(k->value), INI_NAME_MAX);
        c->vm_name = k->value;
    }
    k = config_find(s, "processors");
    err = k ? get_uint(k, 1, PROCESSORS_MAX, &c->processors, diag) : 0;
    if (err)
        return err;
    k = config_find(s, "engine");
    if (k) {
        err = get_choice(k, engines, COUNT(engines), &choice, diag);
        if (err)
            return err;
        c->engine = engines[choice];
        c->engine_pos = k->pos;
    }
    k = config_find(s, "enlightened");
    if (k && config_bool(k->value, &c->enlightened))
        return diag_at(diag, &k->pos, -EINVAL, "enlightened: '%s' is neither yes nor no",
                       DIAG_Q(k->value));
    k = config_find(s, "code_cache");
    if (k && config_size(k->value, &c->code_cache))
        return diag_at(diag, &k->pos, -EINVAL, "code_cache: '%s' is not a size (as 32M)", DIAG_Q(k->value));
    if (k && (c->code_cache < CODE_CACHE_MIN || c->code_cache > CODE_CACHE_MAX))
        return diag_at(diag, &k->pos, -ERANGE, "code_cache: '%s' is not from %s to %s", DIAG_Q(k->value), DIAG_SIZE(CODE_CACHE_MIN),
                       DIAG_SIZE(CODE_CACHE_MAX));
    k = config_find(s, "native");
    if (k) {
        err = get_choice(k, natives, COUNT(natives), &choice, diag);
        if (err)
            return err;
        c->native = (unsigned)choice;
    }
    return check_memory(c, config_find(s, "memory"), limits, diag);
}

/* Each key switches one part of the Hyper-V interface; what is not said stays as the hypervisor has it. */
static int check_enlightenments(struct config *c, struct diag *diag)
{
    struct config_section *s = section_find(c, "enlightenments");
    int err = s ? check_known(s, enlightenments, COUNT(enlightenments), diag) : 0;

    c->enl_hide = c->enl_show = 0;
    for (size_t i = 0; s && !err && i < COUNT(enlightenments); i++) {
        const struct config_key *k = config_find(s, enlightenments[i]);
        bool on;

        if (!k)
            continue;
        if (config_bool(k->value, &on))
            return diag_at(diag, &k->pos, -EINVAL, "%s: '%s' is neither yes nor no", k->name, DIAG_Q(k->value));
        if (!c->enlightened)
            return diag_at(diag, &k->pos, -EINVAL, "%s: only with enlightened = yes", k->name);
        *(on ? &c->enl_show : &c->enl_hide) |= 1u << i;
    }
    return err;
}

static int check_boot(struct config *c, struct diag *diag)
{
    struct config_section *s = section_find(c, "boot");
    const struct config_key *k;
    struct diag_pos here;
    int err;

    c->firmware = FIRMWARE_LINUX;
    c->cmdline = "";
    here = (struct diag_pos){ c->path, 0 };
    if (!s)
        return diag_at(diag, &here, -EINVAL, "no [boot] section: boot.kernel is not set");
    err = check_known(s, boot_keys, COUNT(boot_keys), diag);
    if (err)
        return err;
    here = s->pos;
    c->firmware_pos = s->pos;
    k = config_find(s, "firmware");
    if (k) {
        size_t choice;
        err = get_choice(k, firmwares, COUNT(firmwares), &choice, diag);
        if (err)
            return err;
        c->firmware = (enum config_firmware)choice;
        c->firmware_pos = k->pos;
        if (c->firmware == FIRMWARE_SEABIOS || c->firmware == FIRMWARE_UEFI)
            return diag_at(diag, &k->pos, -ENOTSUP,
                           "firmware '%s' is not available yet (use linux or multiboot)", k->value);
    }
    if ((err = get_file(c, s, "kernel", &c->kernel, diag)) ||
        (err = get_file(c, s, "initrd", &c->initrd, diag)) || (err = get_modules(c, s, diag)))
        return err;
    k = config_find(s, "cmdline");
    if (k) {
        c->cmdline = k->value;
        c->cmdline_pos = k->pos;
    }
    if (!c->kernel.path)
        return diag_at(diag, c->kernel.pos.file ? &c->kernel.pos : &here, -EINVAL,
                       "boot.kernel is not set (in [boot], or by --set boot.kernel=FILE)");
    if (c->firmware == FIRMWARE_MULTIBOOT && c->initrd.path)
        return diag_at(diag, &c->initrd.pos, -EINVAL,
                       "initrd: multiboot kernels take 'modules' instead");
    if (c->firmware == FIRMWARE_LINUX && c->nmodules)
        return diag_at(diag, &c->modules[0].pos, -EINVAL,
                       "modules: only with firmware = multiboot (Linux takes 'initrd')");
    return 0;
}

static int check_vdevs(struct config *c, struct diag *diag)
{
    for (size_t i = 0; i < c->nsections;) {
        struct config_section *s = &c->sections[i];
        const struct config_key *type;

        if (s->kind != CONFIG_VDEV) {
            i++;
            continue;
        }
        type = config_find(s, "type");
        if (!type)
            return diag_at(diag, &s->pos, -EINVAL, "[vdev %s] has no 'type'", s->name);
        if (strcmp(type->value, "none") == 0) {
            section_remove(c, s);
            continue;
        }
        if (!type->value[0])
            return diag_at(diag, &type->pos, -EINVAL, "type: no value");
        i++;
    }
    return 0;
}

/* The generation decides what lies below, so it is looked up first. */
static int find_generation(struct config *file, const char *const *sets, size_t nsets,
                           unsigned *ret, struct diag *diag)
{
    struct config_section *s = section_find(file, "vm");
    const struct config_key *k = config_find(s, "generation");
    struct config_key from_set = { .name = (char *)"generation" };
    int err;

    *ret = 1;
    for (size_t i = 0; i < nsets; i++) {
        if (strncmp(sets[i], "vm.generation=", 14) == 0) {
            from_set.value = (char *)sets[i] + 14;
            from_set.pos = (struct diag_pos){ "--set vm.generation", 0 };
            k = &from_set;
        }
    }
    if (!k)
        return 0;
    err = get_uint(k, 1, 2, ret, diag);
    if (err)
        return err;
    if (*ret == 2)
        return diag_at(diag, &k->pos, -ENOTSUP, "generation 2 is not available yet (use 1)");
    return 0;
}

/* What the file and --set say; what is wrong with it check_vm() finds. */
static bool find_enlightened(struct config *file, const char *const *sets, size_t nsets)
{
    const struct config_key *k = config_find(section_find(file, "vm"), "enlightened");
    bool val = true;

    if (k)
        config_bool(k->value, &val);
    for (size_t i = 0; i < nsets; i++)
        if (strncmp(sets[i], "vm.enlightened=", 15) == 0)
            config_bool(sets[i] + 15, &val);
    return val;
}

/* ---- entry points ---------------------------------------------------------------------------- */

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    char *full = dir ? realpath(dir, NULL) : NULL;

    if (full) {
        free(dir);
        return full;
    }
    return dir;
}

int config_parse(const char *path, const char *text, size_t len, const char *const *sets,
                 size_t nsets, const struct config_limits *limits, struct config **ret_config,
                 struct diag *diag)
{
    struct config *file = calloc(1, sizeof(*file)), *c = calloc(1, sizeof(*c));
    const char *preset;
    char name[32];
    int err = -ENOMEM;

    if (!file || !c || !(c->path = strdup(path)) || !(c->dir = folder_of(path))) {
        diag_set(diag, err, "%s: no memory", path);
        goto out;
    }
    err = parse_text(file, path, text, len, diag);
    if (!err)
        err = find_generation(file, sets, nsets, &c->generation, diag);
    if (err)
        goto out;
    preset = config_preset(c->generation);
    snprintf(name, sizeof(name), "preset generation %u", c->generation);
    err = parse_text(c, name, preset, strlen(preset), diag);
    if (!err && find_enlightened(file, sets, nsets)) {
        preset = config_preset_enlightened();
        err = parse_text(c, "preset enlightened", preset, strlen(preset), diag);
    }
    for (size_t i = 0; i < c->nsections; i++)
        c->sections[i].preset = true;
    if (!err)
        err = overlay(c, file, diag);
    for (size_t i = 0; !err && i < nsets; i++)
        err = apply_set(c, sets[i], diag);
    if (err || (err = check_vm(c, limits, diag)) || (err = check_vdevs(c, diag)) ||
        (err = check_enlightenments(c, diag)) || (err = check_boot(c, diag)))
        goto out;
    *ret_config = c;
    c = NULL;
out:
    config_destroy(file);
    config_destroy(c);
    return err;
}

int config_load(const char *path, const char *const *sets, size_t nsets,
                const struct config_limits *limits, struct config **ret_config, struct diag *diag)
{
    char *text;
    size_t len;
    int err = ini_load_file(path, &text, &len, diag);

    if (err)
        return err;
    err = config_parse(path, text, len, sets, nsets, limits, ret_config, diag);
    free(text);
    return err;
}

void config_destroy(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->nsections; i++) {
        keys_free(&c->sections[i]);
        free(c->sections[i].name);
    }
    for (size_t i = 0; i < c->nfiles; i++)
        free(c->files[i]);
    for (size_t i = 0; i < c->nmodules; i++)
        free(c->modules[i].path);
    free(c->sections);
    free(c->files);
    free(c->modules);
    free(c->modules_text);
    free(c->kernel.path);
    free(c->initrd.path);
    free(c->path);
    free(c->dir);
    free(c);
}
