/* SPDX-License-Identifier: BSD-2-Clause */
/* Plug-ins: open a shared object, check its descriptor, find one by type. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* asprintf */
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmb/board.h"

/* Copy the smaller of both sizes over zeroes. */
static void copy_grown(void *dst, size_t dst_size, const void *src, size_t src_size)
{
    memset(dst, 0, dst_size);
    memcpy(dst, src, src_size < dst_size ? src_size : dst_size);
}

static bool type_ok(const char *s)
{
    size_t n = s ? strlen(s) : 0;

    return n && n < 32 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n;
}

/* Whether the texts and numbers of one parameter hang together. */
static const char *check_param(const struct mobo_param *p)
{
    struct mobo_param_value val;
    static __thread char why[192];
    char msg[128];

    if (!type_ok(p->name) || !p->help)
        return "has a parameter without a proper name or help text";
    if (p->kind < MOBO_STRING || p->kind > MOBO_CHAR)
        snprintf(why, sizeof(why), "parameter '%s' has an unknown kind %u", p->name, p->kind);
    else if (p->kind == MOBO_CHOICE && !p->choices)
        snprintf(why, sizeof(why), "parameter '%s' has no choices", p->name);
    else if (p->def && mobo_param_parse(p, p->def, &val, msg, sizeof(msg)))
        snprintf(why, sizeof(why), "default '%s' of parameter '%s' %s", p->def, p->name, msg);
    else
        return NULL;
    return why;
}

/* @return NULL when the descriptor is fit for use, else why not. */
static const char *check_desc(const struct mobo_vdev_descriptor *raw, struct plugin *p)
{
    static __thread char why[192];
    uint32_t ops_size;

    if (raw->magic != MOBO_VDEV_MAGIC)
        return "its descriptor has a wrong magic number";
    if (raw->abi_major != MOBO_ABI_MAJOR) {
        snprintf(why, sizeof(why), "it is built for ABI %u.%u, this program has %u.%u",
                 raw->abi_major, raw->abi_minor, MOBO_ABI_MAJOR, MOBO_ABI_MINOR);
        return why;
    }
    if (raw->abi_minor > MOBO_ABI_MINOR) {
        snprintf(why, sizeof(why), "it needs ABI %u.%u or newer, this program has %u.%u",
                 raw->abi_major, raw->abi_minor, MOBO_ABI_MAJOR, MOBO_ABI_MINOR);
        return why;
    }
    if (raw->size < sizeof(*raw) || raw->size > 4096)
        return "its descriptor has a wrong size";
    copy_grown(&p->desc, sizeof(p->desc), raw, raw->size);
    if (!type_ok(p->desc.type))
        return "its type name is missing or has odd characters";
    if (!p->desc.vendor || !p->desc.version || !p->desc.licence || !p->desc.summary)
        return "its descriptor lacks vendor, version, licence or summary";
    if (p->desc.dev_class < MOBO_CLASS_EMULATED || p->desc.dev_class > MOBO_CLASS_PLUGIN)
        return "its class is unknown";
    if (!p->desc.ops)
        return "it has no operations";
    ops_size = p->desc.ops->size;
    if (ops_size < offsetof(struct mobo_vdev_ops, create) || ops_size > 4096)
        return "its operations table has a wrong size";
    copy_grown(&p->ops, sizeof(p->ops), p->desc.ops, ops_size);
#define NEED(op)    \
    if (!p->ops.op) \
    return "it lacks the required operation '" #op "'"
    NEED(create);
    NEED(destroy);
    NEED(reset);
    NEED(save);
    NEED(restore);
#undef NEED
    if (p->desc.nparams) {
        if (!p->desc.params || p->desc.param_size < sizeof(struct mobo_param) ||
            p->desc.param_size > 4096 || p->desc.nparams > 1000)
            return "its parameter table has a wrong size";
        for (uint32_t i = 0; i < p->desc.nparams; i++) {
            struct mobo_param prm = mobo_param_at(p->desc.params, i, p->desc.param_size);
            const char *bad = check_param(&prm);

            if (bad)
                return bad;
        }
    }
    return NULL;
}

void plugin_free(struct plugin *p)
{
    if (p)
        free(p->path);
    free(p);
}

int plugin_load(const char *path, struct plugin **ret, char *msg, size_t len)
{
    const struct mobo_vdev_descriptor *raw;
    struct plugin *p;
    const char *why;
    void *handle;
    char *full = NULL, other[64] = "";

    if (access(path, R_OK)) {
        int err = errno;

        snprintf(msg, len, "plug-in %s: %s", path, strerror(err));
        return -err;
    }
    if (plugin_exports(path, "mobo_vdev_descriptor", other, sizeof(other)) > 0 && other[0]) {
        snprintf(msg, len,
                 "plug-in %s does not fit: it exports '%s'; mobo_vdev_descriptor is the only symbol "
                 "that it may", path, other);
        return -ENOEXEC;
    }
    /* without a slash dlopen() would search the system's folders */
    if (!strchr(path, '/') && asprintf(&full, "./%s", path) < 0)
        return -ENOMEM;
    handle = dlopen(full ? full : path, RTLD_NOW | RTLD_LOCAL);
    free(full);
    if (!handle) {
        const char *e = dlerror();

        snprintf(msg, len, "plug-in %s does not load: %s", path, e ? e : "unknown error");
        return -ENOEXEC;
    }
    raw = dlsym(handle, "mobo_vdev_descriptor");
    p = calloc(1, sizeof(*p));
    if (p)
        p->path = strdup(path);
    if (!p || !p->path) {
        plugin_free(p);
        dlclose(handle);
        snprintf(msg, len, "plug-in %s: %s", path, strerror(ENOMEM));
        return -ENOMEM;
    }
    why = raw ? check_desc(raw, p) : "it has no symbol mobo_vdev_descriptor";
    if (why) {
        snprintf(msg, len, "plug-in %s does not fit: %s", path, why);
        plugin_free(p);
        dlclose(handle);
        return -ENOEXEC;
    }
    p->handle = handle;
    *ret = p;
    return 0;
}

static int is_so(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return n > 3 && !strcmp(d->d_name + n - 3, ".so");
}

/* Call @fn with the path of every .so of the folders until it returns false. */
static void for_each_so(const char *const *dirs, bool (*fn)(void *ctx, const char *path), void *ctx)
{
    for (; dirs && *dirs; dirs++) {
        struct dirent **list;
        int n = scandir(*dirs, &list, is_so, alphasort);
        bool go = true;

        for (int i = 0; i < n; i++) {
            char *path = NULL;

            if (go && asprintf(&path, "%s/%s", *dirs, list[i]->d_name) >= 0)
                go = fn(ctx, path);
            free(path);
            free(list[i]);
        }
        if (n >= 0)
            free(list);
        if (!go)
            return;
    }
}

struct lister {
    char **seen;
    unsigned nseen;
    void (*found)(void *ctx, const struct vmb_plugin *p);
    void *ctx;
};

static bool list_one(void *ctx, const char *path)
{
    struct lister *l = ctx;
    struct plugin *p = NULL;
    struct vmb_plugin out = { path, NULL, NULL };
    char msg[VMB_MSG_LEN];
    char **seen;

    if (plugin_load(path, &p, msg, sizeof(msg)) || !p) {
        out.why = msg;
        l->found(l->ctx, &out);
        return true;
    }
    for (unsigned i = 0; i < l->nseen; i++)
        if (!strcmp(l->seen[i], p->desc.type)) {
            plugin_free(p);
            return true;
        }
    seen = realloc(l->seen, (l->nseen + 1) * sizeof(*seen));
    if (seen) {
        l->seen = seen;
        l->seen[l->nseen] = strdup(p->desc.type);
        l->nseen += l->seen[l->nseen] != NULL;
    }
    out.desc = &p->desc;
    l->found(l->ctx, &out);
    plugin_free(p); /* the object stays mapped: descriptors point into it */
    return true;
}

void vmb_vdev_list(const char *const *dirs, void (*found)(void *ctx, const struct vmb_plugin *p),
                   void *ctx)
{
    struct lister l = { NULL, 0, found, ctx };

    for_each_so(dirs, list_one, &l);
    for (unsigned i = 0; i < l.nseen; i++)
        free(l.seen[i]);
    free(l.seen);
}

struct finder {
    const char *type;
    struct plugin *found;
    char nearest[32];
};

static bool find_one(void *ctx, const char *path)
{
    struct finder *f = ctx;
    struct plugin *p = NULL;
    const char *best = f->nearest[0] ? f->nearest : NULL;
    char msg[VMB_MSG_LEN];

    if (plugin_load(path, &p, msg, sizeof(msg)) || !p)
        return true;
    if (!strcmp(p->desc.type, f->type)) {
        f->found = p;
        return false;
    }
    mobo_suggest(f->type, p->desc.type, &best);
    if (best && best != f->nearest)
        snprintf(f->nearest, sizeof(f->nearest), "%s", best);
    plugin_free(p);
    return true;
}

static struct plugin *adopt(struct vmb *v, struct plugin *p)
{
    p->next = v->plugins;
    v->plugins = p;
    return p;
}

int plugin_find(struct vmb *v, const char *type, const char *path, struct plugin **ret, char *msg,
                size_t len)
{
    struct finder f = { type, NULL, "" };
    struct plugin *p;
    int err;

    for (p = v->plugins; p; p = p->next)
        if (path ? !strcmp(p->path, path) : !strcmp(p->desc.type, type)) {
            *ret = p;
            return 0;
        }
    if (path) {
        p = NULL;
        err = plugin_load(path, &p, msg, len);
        if (err || !p)
            return err;
        if (strcmp(p->desc.type, type)) {
            snprintf(msg, len, "plug-in %s is of type '%s', not '%s'", path, p->desc.type, type);
            plugin_free(p);
            return -EINVAL;
        }
        *ret = adopt(v, p);
        return 0;
    }
    /* the file that is named after the type; a folder may also have others of that type */
    for (char **d = v->dirs; type_ok(type) && d && *d; d++) {
        char *file = NULL;

        if (asprintf(&file, "%s/%s.so", *d, type) < 0)
            break;
        if (!access(file, F_OK)) {
            p = NULL;
            err = plugin_load(file, &p, msg, len);
            free(file);
            if (err || !p)
                return err;
            if (!strcmp(p->desc.type, type)) {
                *ret = adopt(v, p);
                return 0;
            }
            plugin_free(p);
            continue;
        }
        free(file);
    }
    for_each_so((const char *const *)v->dirs, find_one, &f);
    if (f.found) {
        *ret = adopt(v, f.found);
        return 0;
    }
    if (f.nearest[0])
        snprintf(msg, len, "unknown type '%s' (did you mean '%s'?)", type, f.nearest);
    else
        snprintf(msg, len, "unknown type '%s'", type);
    return -ESRCH;
}
