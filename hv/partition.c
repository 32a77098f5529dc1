/* SPDX-License-Identifier: BSD-2-Clause */
/* Partitions, the list of engines, errors and log lines. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/infra.h"

/* ---- errors and log ---- */

static _Thread_local char last_error[320];

const char *hv_last_error(void)
{
    return last_error;
}

void hv_fail_text(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(last_error, sizeof(last_error), fmt, ap);
    va_end(ap);
}

void hv_log(struct hv_partition *p, int level, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (!p->ops.log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    p->ops.log(p->ctx, level, line);
}

/* ---- engines ---- */

/* Fastest first; an engine that is not built in says so. */
static const struct engine_row {
    const char *name, *summary;
    const struct hv_engine *engine;
} engines[] = {
    { "kvm", "hardware virtualization through /dev/kvm", &hv_engine_kvm },
    { "jit", "translation to host code", &hv_engine_jit },
    { "interp", "interpreter with cached decoded blocks", &hv_engine_interp },
};

static bool engine_usable(const struct engine_row *row, char *reason, size_t len)
{
    if (!row->engine) {
        snprintf(reason, len, "not built in yet");
        return false;
    }
    snprintf(reason, len, "works on every x86-64 host");
    return !row->engine->probe || row->engine->probe(reason, len);
}

static void engine_info(const struct engine_row *row, struct hv_engine_info *info)
{
    info->name = row->name;
    info->summary = row->summary;
    info->usable = engine_usable(row, info->reason, sizeof(info->reason));
}

unsigned hv_engines(struct hv_engine_info *info, unsigned max)
{
    for (unsigned i = 0; i < COUNT(engines) && i < max; i++)
        engine_info(&engines[i], &info[i]);
    return COUNT(engines);
}

int hv_engine_query(const char *name, struct hv_engine_info *info)
{
    for (unsigned i = 0; i < COUNT(engines); i++)
        if (!strcmp(engines[i].name, name)) {
            engine_info(&engines[i], info);
            return 0;
        }
    return -ENOENT;
}

const char *hv_engine_auto(void)
{
    char reason[160];

    for (unsigned i = 0; i < COUNT(engines); i++)
        if (engine_usable(&engines[i], reason, sizeof(reason)))
            return engines[i].name;
    return "interp";
}

void hv_engine_differences(const char *engine, void (*line)(void *ctx, const char *text), void *ctx)
{
    char reason[160];

    for (unsigned i = 0; i < COUNT(engines); i++)
        if (!strcmp(engines[i].name, engine) && engine_usable(&engines[i], reason, sizeof(reason)) &&
            engines[i].engine->differences)
            engines[i].engine->differences(line, ctx);
}

static int engine_find(const char *name, const struct hv_engine **ret)
{
    char reason[160];

    for (unsigned i = 0; i < COUNT(engines); i++) {
        if (strcmp(engines[i].name, name))
            continue;
        if (!engine_usable(&engines[i], reason, sizeof(reason)))
            return hv_fail(-ENOTSUP, "engine '%s' cannot be used here: %s", name, reason);
        *ret = engines[i].engine;
        return 0;
    }
    return hv_fail(-ENOENT, "there is no engine '%s' (auto, kvm, jit, interp)", name);
}

/* ---- partition ---- */

/* Callbacks that an embedder left out. */
static uint32_t null_pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp, (void)port, (void)len;
    return ~0u;
}

static void null_pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    (void)ctx, (void)vp, (void)port, (void)len, (void)val;
}

static uint64_t null_mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len)
{
    (void)ctx, (void)vp, (void)gpa, (void)len;
    return ~0ull;
}

static void null_mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)ctx, (void)vp, (void)gpa, (void)len, (void)val;
}

static int null_extint_ack(void *ctx, unsigned vp)
{
    (void)ctx, (void)vp;
    return -1;
}

static void null_eoi(void *ctx, unsigned vp, unsigned vector)
{
    (void)ctx, (void)vp, (void)vector;
}

static void ops_defaults(struct hv_ops *o)
{
    if (!o->pio_read)
        o->pio_read = null_pio_read;
    if (!o->pio_write)
        o->pio_write = null_pio_write;
    if (!o->mmio_read)
        o->mmio_read = null_mmio_read;
    if (!o->mmio_write)
        o->mmio_write = null_mmio_write;
    if (!o->extint_ack)
        o->extint_ack = null_extint_ack;
    if (!o->eoi)
        o->eoi = null_eoi;
}

static int create(const struct hv_config *cfg, const struct hv_engine *engine, struct hv_partition **ret)
{
    const struct hv_config c = *cfg;
    struct hv_partition *p;
    int err;

    p = calloc(1, sizeof(*p));
    if (!p)
        return hv_fail(-ENOMEM, "partition: out of memory");
    p->engine = engine;
    p->enlightened = c.enlightened;
    p->code_cache = c.code_cache;
    p->native = c.native;
    p->ctx = c.ctx;
    if (c.ops)
        memcpy(&p->ops, c.ops, c.ops->size < sizeof(p->ops) ? c.ops->size : sizeof(p->ops));
    ops_defaults(&p->ops);
    hv_features_log(p);

    if (c.check && strcmp(engine->name, "jit")) {
        err = hv_fail(-EINVAL, "engine '%s' cannot be compared with the interpreter, 'jit' can", engine->name);
        goto fail;
    }
    if ((c.jit_trace || c.jit_dump || c.symbols) && strcmp(engine->name, "jit")) {
        err = hv_fail(-EINVAL, "engine '%s' translates nothing that could be traced, dumped or named, 'jit' does", engine->name);
        goto fail;
    }
    p->check = c.check;
    p->jit_trace = c.jit_trace;
    p->jit_dump = c.jit_dump;
    p->symbols = c.symbols;
    p->clock = hv_clock_create();
    if (!p->clock) {
        err = hv_fail(-ENOMEM, "partition: out of memory");
        goto fail;
    }
    err = hv_gpa_space_create(p);
    if (err)
        goto fail;
    if (x86_pages_init(p) < 0) {
        err = hv_fail(-ENOMEM, "partition: out of memory for page tracking");
        goto fail;
    }
    err = engine->partition_create ? engine->partition_create(p) : 0;
    if (err)
        goto fail;
    for (unsigned i = 0; i < c.vps; i++) {
        err = hv_vp_create(p, i);
        if (err)
            goto fail;
        p->nvps = i + 1;
    }
    if (c.enlightened) {
        err = hv_hyperv_create(p, ((uint32_t)HV_ENL_DEFAULT & ~c.enl_hide) | c.enl_show);
        if (err)
            goto fail;
    }
    hv_partition_reset(p);
    *ret = p;
    return 0;
fail:
    hv_partition_destroy(p);
    return err;
}

/* An engine whose probe went well may still refuse this machine (KVM: busy by now, no Hyper-V interface, fewer
 * processors): `auto` then takes the next. */
static int create_auto(const struct hv_config *c, struct hv_partition **ret)
{
    const struct hv_engine *engine;
    char reason[160], why[200];
    int err = -ENOTSUP;

    for (unsigned i = 0; i < COUNT(engines); i++) {
        if (!engine_usable(&engines[i], reason, sizeof(reason)))
            continue;
        engine = engines[i].engine;
        err = create(c, engine, ret);
        if (!err)
            return 0;
        snprintf(why, sizeof(why), "%s", hv_last_error());
        if (c->ops && c->ops->size > offsetof(struct hv_ops, log) && c->ops->log) {
            char line[320];

            snprintf(line, sizeof(line), "engine '%s' cannot run this machine, the next is tried: %s", engines[i].name,
                     why);
            c->ops->log(c->ctx, 1, line);
        }
        hv_fail_text("%s", why);
    }
    return err;
}

int hv_partition_create(const struct hv_config *cfg, struct hv_partition **ret)
{
    struct hv_config c = { 0 };
    const struct hv_engine *engine = NULL;
    int err;

    if (!cfg || !ret || cfg->size < offsetof(struct hv_config, ops))
        return hv_fail(-EINVAL, "partition: no or short configuration");
    memcpy(&c, cfg, cfg->size < sizeof(c) ? cfg->size : sizeof(c));
    if (c.vps < 1 || c.vps > HV_MAX_VPS)
        return hv_fail(-EINVAL, "partition: %u processors (1 to %d)", c.vps, HV_MAX_VPS);
    if (c.code_cache && (c.code_cache < HV_CODE_CACHE_MIN || c.code_cache > HV_CODE_CACHE_MAX))
        return hv_fail(-EINVAL, "partition: a code cache of %llu bytes (%d to %d)", (unsigned long long)c.code_cache,
                       HV_CODE_CACHE_MIN, HV_CODE_CACHE_MAX);
    if (!c.engine || !strcmp(c.engine, "auto"))
        return create_auto(&c, ret);
    err = engine_find(c.engine, &engine);
    return err ? err : create(&c, engine, ret);
}

void hv_partition_destroy(struct hv_partition *p)
{
    if (!p)
        return;
    hv_timers_destroy(p);
    for (unsigned i = 0; i < HV_MAX_VPS; i++)
        hv_vp_destroy(p->vps[i]);
    if (p->engine->partition_destroy)
        p->engine->partition_destroy(p);
    if (p->gpa)
        x86_pages_fini(p);
    hv_hyperv_destroy(p);
    hv_gpa_space_destroy(p);
    hv_clock_destroy(p->clock);
    free(p);
}

void hv_partition_reset(struct hv_partition *p)
{
    atomic_store(&p->a20_masked, false);
    hv_hyperv_reset(p);
    for (unsigned i = 0; i < p->nvps; i++)
        hv_vp_reset(p->vps[i], false);
    x86_tlb_shootdown(p);
}

const char *hv_partition_engine(const struct hv_partition *p)
{
    return p->engine->name;
}

unsigned hv_partition_vps(const struct hv_partition *p)
{
    return p->nvps;
}
