/* SPDX-License-Identifier: BSD-2-Clause */
/* The keys of a device's section against its descriptor. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* asprintf */
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/board.h"

const char *where(const char *file, unsigned line, char *buf, size_t len)
{
    if (!file)
        return "";
    if (line)
        snprintf(buf, len, "%s:%u: ", file, line);
    else
        snprintf(buf, len, "%s: ", file);
    return buf;
}

const char *vmb_suggest_key(const struct mobo_vdev_descriptor *desc, const char *key)
{
    const char *best = NULL;

    for (uint32_t i = 0; i < desc->nparams; i++)
        mobo_suggest(key, mobo_param_at(desc->params, i, desc->param_size).name, &best);
    if (desc->flags & MOBO_VDEV_PCI)
        mobo_suggest(key, "slot", &best);
    return best;
}

struct vdev_param *vdev_param_find(struct mobo_vdev *dev, const char *key)
{
    for (unsigned i = 0; i < dev->nparams; i++)
        if (!strcmp(dev->params[i].name, key))
            return &dev->params[i];
    return NULL;
}

/* `slot = N` or `N.F`. */
static int parse_slot(struct mobo_vdev *dev, const char *text)
{
    uint64_t slot, fn = 0;
    char num[8];
    const char *dot = strchr(text, '.');

    if (snprintf(num, sizeof(num), "%.*s", dot ? (int)(dot - text) : 8, text) >= (int)sizeof(num) ||
        mobo_parse_uint(num, 0, &slot) || slot > 31 ||
        (dot && (mobo_parse_uint(dot + 1, 0, &fn) || fn > 7)))
        return -EINVAL;
    dev->slot = (int32_t)slot;
    dev->slot_fn = dot ? (int32_t)fn : -1;
    return 0;
}

/* "scheme://...", RFC 3986 section 3.1. */
static bool is_uri(const char *path)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
    size_t n = strspn(path, first);

    return n && path[0] >= 'a' && path[0] <= 'z' && strncmp(path + n, "://", 3) == 0;
}

/* A MOBO_PATH relative to @base, the VM file's folder; NULL: from the command line, relative to where we are. */
static char *full_path(const char *base, const char *path)
{
    char *full;

    if (!base || path[0] == '/' || is_uri(path))
        return strdup(path);
    return asprintf(&full, "%s/%s", base, path) < 0 ? NULL : full;
}

/* One key.  @return 0, or -errno with @msg set. */
static int set_one(struct mobo_vdev *dev, const struct vmb_kv *kv, const char *base_dir, char *msg,
                   size_t len)
{
    const struct mobo_vdev_descriptor *d = &dev->plugin->desc;
    struct vdev_param *vp = vdev_param_find(dev, kv->key);
    const char *near;
    char at[300], why[128];

    where(kv->file, kv->line, at, sizeof(at));
    if (!kv->file)
        at[0] = 0;
    if (!vp && !strcmp(kv->key, "slot") && (d->flags & MOBO_VDEV_PCI)) {
        if (!parse_slot(dev, kv->value))
            return 0;
        snprintf(msg, len, "%sslot = %s in [vdev %s] is not a PCI slot (0 to 31, or SLOT.FUNCTION)",
                 at, kv->value, dev->name);
        return -EINVAL;
    }
    if (!vp && !strcmp(kv->key, "isolation")) {
        if (!strcmp(kv->value, "none"))
            return 0;
        snprintf(msg, len, "%sisolation = %s in [vdev %s] is not available yet (only none)", at,
                 kv->value, dev->name);
        return -ENOTSUP;
    }
    if (!vp) {
        near = vmb_suggest_key(d, kv->key);
        if (near)
            snprintf(msg, len, "%sunknown key '%s' in [vdev %s] (did you mean '%s'?)", at, kv->key,
                     dev->name, near);
        else
            snprintf(msg, len, "%sunknown key '%s' in [vdev %s]", at, kv->key, dev->name);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

        if (strcmp(p.name, kv->key))
            continue;
        if (mobo_param_parse(&p, kv->value, &vp->val, why, sizeof(why))) {
            snprintf(msg, len, "%s%s = %s in [vdev %s] %s", at, kv->key, kv->value, dev->name, why);
            return -EINVAL;
        }
    }
    free(vp->text);
    vp->text = vp->kind == MOBO_PATH ? full_path(kv->line ? base_dir : NULL, kv->value)
                                         : strdup(kv->value);
    vp->file = kv->file;
    vp->line = kv->line;
    if (!vp->text) {
        snprintf(msg, len, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    return 0;
}

int vdev_params_set(struct mobo_vdev *dev, const struct vmb_dev_config *cfg, const char *base_dir,
                    char *msg, size_t len)
{
    const struct mobo_vdev_descriptor *d = &dev->plugin->desc;
    char at[300], why[128];

    dev->params = calloc(d->nparams + 1u, sizeof(*dev->params));
    if (!dev->params) {
        snprintf(msg, len, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    dev->nparams = d->nparams;
    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

        dev->params[i].name = p.name;
        dev->params[i].kind = p.kind;
    }
    for (unsigned i = 0; i < cfg->nkv; i++) {
        int err = set_one(dev, &cfg->kv[i], base_dir, msg, len);

        if (err)
            return err;
    }
    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param p = mobo_param_at(d->params, i, d->param_size);
        struct vdev_param *vp = &dev->params[i];

        if (vp->val.set)
            continue;
        if (p.def) {
            mobo_param_parse(&p, p.def, &vp->val, why, sizeof(why)); /* the loader tried it */
            vp->text = vp->kind == MOBO_PATH ? full_path(base_dir, p.def) : strdup(p.def);
        } else if (p.flags & MOBO_PARAM_REQUIRED) {
            snprintf(msg, len, "%skey '%s' is missing in [vdev %s]",
                     where(cfg->file, cfg->line, at, sizeof(at)), p.name, dev->name);
            return -EINVAL;
        }
    }
    return 0;
}

void vdev_params_free(struct mobo_vdev *dev)
{
    for (unsigned i = 0; i < dev->nparams; i++)
        free(dev->params[i].text);
    free(dev->params);
    dev->params = NULL;
    dev->nparams = 0;
}
