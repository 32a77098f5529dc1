/* SPDX-License-Identifier: BSD-2-Clause */
/* From a VM description to a virtual motherboard, and the boot that follows its every reset. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "core/backend/disk.h"
#include "core/backend/net.h"
#include "core/block/nbd.h"
#include "core/log/log.h"
#include "core/vmwp/worker_int.h"

static void on_log(void *ctx, unsigned level, const char *from, const char *line)
{
    (void)ctx;
    if (level == VMB_TRACE)
        log_trace(from, "%s", line);
    else
        log_write((enum log_level)level, from, "%s", line);
}

static bool on_trace(void *ctx, const char *dev)
{
    (void)ctx;
    return log_trace_on(dev);
}

/* Any thread: keep a copy for the control thread. */
static void enqueue(struct worker *w, struct worker_req *r)
{
    pthread_mutex_lock(&w->lock);
    *w->tail = r;
    w->tail = &r->next;
    pthread_mutex_unlock(&w->lock);
    event_active(w->ev_queue, 0, 0);
}

static void on_request(void *ctx, const struct vmb_request *req)
{
    struct worker *w = ctx;
    struct worker_req *r = calloc(1, sizeof(*r));

    if (!r) {
        log_write(LOGL_ERROR, req->from, "no memory for a request of kind %d", req->kind);
        return;
    }
    r->kind = req->kind;
    r->code = req->code;
    snprintf(r->from, sizeof(r->from), "%s", req->from ? req->from : "");
    r->text = req->text && *req->text ? strdup(req->text) : NULL;
    r->dump = req->dump && *req->dump ? strdup(req->dump) : NULL;
    memcpy(r->param, req->param, sizeof(r->param));
    enqueue(w, r);
}

static void on_command(void *ctx, enum backend_command cmd)
{
    struct worker *w = ctx;
    struct worker_req *r = calloc(1, sizeof(*r));

    if (!r)
        return;
    r->command = cmd;
    enqueue(w, r);
}

static void on_announce(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "mobo: %s\n", line);
}

/* Memory types as firmware leaves them: RAM write-back, what lies between it and 4 GiB uncached (SDM 3A 12.11).
 * Direct boot has no firmware that would do it, and a kernel expects it on every processor. */
static int set_mtrrs(struct vmb *vmb, struct diag *diag)
{
    struct hv_partition *p = vmb_partition(vmb);
    const uint64_t hole = 0xc0000000;
    static struct hv_vp_state s; /* control thread only */

    for (unsigned i = 0; i < hv_partition_vps(p); i++) {
        if (hv_vp_get_state(p, i, &s))
            return diag_set(diag, -EIO, "processor %u: %s", i, hv_last_error());
        s.mtrr_def = 0xc06; /* on, fixed ranges on, write-back elsewhere */
        for (size_t n = 0; n < sizeof(s.mtrr_fixed) / sizeof(s.mtrr_fixed[0]); n++)
            s.mtrr_fixed[n] = n == 2 ? 0 : 0x0606060606060606; /* 0xa0000-0xbffff: frame buffer */
        s.mtrr_var[0] = hole;
        s.mtrr_var[1] = ((1ull << 46) - 1 - (0x100000000 - hole - 1)) | 0x800;
        if (hv_vp_set_state(p, i, &s))
            return diag_set(diag, -EIO, "processor %u: %s", i, hv_last_error());
    }
    return 0;
}

/* The kernel at power-on and after each reset.  Control thread. */
static int on_boot(void *ctx, struct vmb *vmb, char *msg, size_t msg_len)
{
    enum { RANGES = 64 };
    struct worker *w = ctx;
    struct vmb_ram_range ram[RANGES];
    struct loader_range map[RANGES];
    struct loader_machine m = { .p = vmb_partition(vmb), .map = map, .rsdp = vmb_acpi_rsdp(vmb) };
    struct diag diag = { "" };
    int err;

    m.nmap = vmb_ram_map(vmb, ram, RANGES);
    if (m.nmap > RANGES)
        m.nmap = RANGES;
    for (size_t i = 0; i < m.nmap; i++)
        map[i] = (struct loader_range){ ram[i].base, ram[i].len, ram[i].type };
    err = set_mtrrs(vmb, &diag);
    if (!err)
        err = loader_load(w->loader, &m, &diag);
    if (err)
        snprintf(msg, msg_len, "%s", diag.text);
    return err;
}

static int on_char_open(void *ctx, struct event_base *base, const char *dev_name, const char *spec,
                        bool check_only, const struct vmb_char_sink *sink, void *dev,
                        struct vmb_backend **ret, char *msg, size_t msg_len)
{
    struct worker *w = ctx;

    return backend_open(&w->env, base, dev_name, spec, check_only, sink, dev, ret, msg, msg_len);
}

static int on_block_open(void *ctx, const char *dev_name, const char *spec, uint32_t flags,
                         bool check_only, const struct vmb_block_sink *sink, void *block,
                         struct vmb_disk **ret, struct mobo_block_info *info, char *msg,
                         size_t msg_len)
{
    struct worker *w = ctx;
    char full[PATH_MAX + 64];

    (void)dev_name;
    if (spec[0] != '/' && w->c->dir && !block_is_uri(spec)) { /* said in a command; keys come with the whole path */
        if (snprintf(full, sizeof(full), "%s/%s", w->c->dir, spec) >= (int)sizeof(full)) {
            snprintf(msg, msg_len, "the file name is too long");
            return -EINVAL;
        }
        spec = full;
    }
    return disk_open(spec, flags, check_only, sink, block, ret, info, msg, msg_len);
}

static int on_net_open(void *ctx, struct event_base *base, const char *dev_name,
                       const struct vmb_net_config *cfg, bool check_only,
                       const struct vmb_net_sink *sink, void *net, struct vmb_net **ret,
                       struct mobo_net_info *info, char *msg, size_t msg_len)
{
    struct worker *w = ctx;

    (void)dev_name;
    return netb_open(w->c->dir, base, cfg, check_only, sink, net, ret, info, msg, msg_len);
}

static int on_display_open(void *ctx, const char *dev_name, const char *spec, bool check_only,
                           const struct vmb_display_sink *sink, void *display,
                           struct vmb_display **ret, char *msg, size_t msg_len)
{
    struct worker *w = ctx;

    return display_open(&w->displays, dev_name, spec, check_only, sink, display, ret, msg, msg_len);
}

static int on_input(void *ctx, const struct mobo_input_event *events, unsigned n)
{
    struct worker *w = ctx;

    return vmb_input(w->vmb, events, n);
}

static unsigned on_leds(void *ctx)
{
    struct worker *w = ctx;

    return vmb_input_leds(w->vmb);
}

static const struct vmb_ops board_ops = {
    .log = on_log,
    .request = on_request,
    .trace = on_trace,
    .boot = on_boot,
    .char_open = on_char_open,
    .char_write = backend_write,
    .char_ready = backend_ready,
    .char_close = backend_close,
    .block_open = on_block_open,
    .block_submit = disk_submit,
    .block_close = disk_close,
    .block_hurry = disk_hurry,
    .net_open = on_net_open,
    .net_send = netb_send,
    .net_ready = netb_ready,
    .net_close = netb_close,
    .display_open = on_display_open,
    .display_surface = display_surface,
    .display_dirty = display_dirty,
    .display_cursor = display_cursor,
    .display_cursor_move = display_cursor_move,
    .display_close = display_close,
};

/* The paths in what a display is; as below. */
static char *absolute_display(const char *spec, const char *cwd)
{
    static const char *const marks[] = { "vnc:unix:", ",password-file=" };
    char *full = strdup(spec);

    for (size_t i = 0; i < COUNT(marks) && full; i++) {
        char *at = strstr(full, marks[i]), *more;

        if (!at || (i == 0 && at != full))
            continue;
        at += strlen(marks[i]);
        if (*at == '/' || *at == ',' || !*at)
            continue;
        if (asprintf(&more, "%.*s%s/%s", (int)(at - full), full, cwd, at) < 0)
            more = NULL;
        free(full);
        full = more;
    }
    return full;
}

/* On the command line a path begins where the user is, in the file where the file is. */
static char *absolute_backend(const struct config_key *k)
{
    static const char *const prefix[] = { "unix:", "file:", "pty:", "switch:" };
    char cwd[4096], *full;

    if (k->pos.line)
        return NULL;
    if (strncmp(k->value, "vnc:", 4) == 0 && getcwd(cwd, sizeof(cwd)))
        return absolute_display(k->value, cwd);
    for (size_t i = 0; i < COUNT(prefix); i++) {
        size_t n = strlen(prefix[i]);
        if (strncmp(k->value, prefix[i], n) == 0 && k->value[n] && k->value[n] != '/' &&
            getcwd(cwd, sizeof(cwd)) &&
            asprintf(&full, "%s%s/%s", prefix[i], cwd, k->value + n) > 0)
            return full;
    }
    return NULL;
}

/* The host's verdict on the engine, before the board has one. */
static int check_engine(const struct config *c, struct diag *diag)
{
    struct hv_engine_info info[8];
    const char *names[COUNT(info)];
    struct diag_pos pos = c->engine_pos;
    unsigned n;

    if (strcmp(c->engine, "auto") == 0)
        return 0;
    if (!pos.file)
        pos.file = c->path;
    if (hv_engine_query(c->engine, &info[0]) == 0) {
        if (info[0].usable)
            return 0;
        return diag_at(diag, &pos, -ENOTSUP, "engine '%s' does not work here: %s", c->engine,
                       info[0].reason);
    }
    n = hv_engines(info, COUNT(info));
    if (n > COUNT(info))
        n = COUNT(info);
    for (unsigned i = 0; i < n; i++)
        names[i] = info[i].name;
    return diag_at(diag, &pos, -ENOTSUP, "engine '%s' is not available yet%s", c->engine,
                   DID_YOU_MEAN(nearest(c->engine, names, n)));
}

/* A mistake in the description, or something of the host? */
static int status_of(int err)
{
    switch (-err) {
    case EINVAL:
    case EBUSY:
    case EEXIST:
    case ENODEV:
    case ENOSPC:
    case ENOTSUP:
    case ERANGE:
    case ESRCH: return STATUS_CONFIG;
    }
    return STATUS_HOST;
}

int worker_board_create(struct worker *w, bool check_only, struct diag *diag)
{
    const struct config *c = w->c;
    struct vmb_dev_config *devs = calloc(c->nsections + 1, sizeof(*devs));
    struct vmb_config vc = { .name = c->vm_name,
                             .engine = c->engine,
                             .memory = c->memory,
                             .vps = c->processors,
                             .enlightened = c->enlightened,
                             .enl_hide = c->enl_hide,
                             .enl_show = c->enl_show,
                             .code_cache = c->code_cache,
                             .native = c->native,
                             .check = w->opt->check,
                             .jit_trace = w->opt->jit_trace,
                             .jit_dump = w->opt->jit_dump,
                             .symbols = w->opt->symbols,
                             .generation = c->generation,
                             .direct_boot = true,
                             .check_only = check_only,
                             .log_debug = log_level_get() == LOGL_DEBUG,
                             .base_dir = c->dir,
                             .plugin_dirs = w->opt->vdev_dirs,
                             .ops = &board_ops,
                             .ctx = w };
    enum { RANGES = 64 };
    struct vmb_ram_range ram[RANGES];
    uint64_t top = 0;
    char msg[VMB_MSG_LEN] = "";
    char **owned = NULL;
    size_t nowned = 0;
    int err = check_engine(c, diag), status = STATUS_CONFIG;

    if (err)
        goto out;
    err = -ENOMEM;
    status = STATUS_HOST;
    if (!devs) {
        diag_set(diag, err, "no memory");
        goto out;
    }
    w->env = (struct backend_env){
        .base_dir = c->dir, .command = on_command, .announce = on_announce, .ctx = w
    };
    w->displays = (struct display_env){ .base_dir = c->dir,
                                        .vm = c->vm_name,
                                        .input = on_input,
                                        .leds = on_leds,
                                        .log = on_log,
                                        .ctx = w };
    for (size_t i = 0; i < c->nsections; i++) {
        const struct config_section *s = &c->sections[i];
        struct vmb_dev_config *d = &devs[vc.ndevs];
        struct vmb_kv *kv;

        if (s->kind != CONFIG_VDEV)
            continue;
        d->name = s->name;
        d->file = s->pos.file;
        d->line = s->pos.line;
        d->kv = kv = calloc(s->nkeys + 1, sizeof(*kv));
        vc.ndevs++;
        if (!kv) {
            diag_set(diag, err, "no memory");
            goto out;
        }
        for (size_t k = 0; k < s->nkeys; k++) {
            const struct config_key *key = &s->keys[k];
            char *full;

            if (strcmp(key->name, "type") == 0) {
                d->type = key->value;
                d->file = key->pos.file;
                d->line = key->pos.line;
                continue;
            }
            kv[d->nkv] = (struct vmb_kv){ key->name, key->value, key->pos.file, key->pos.line };
            full = absolute_backend(key);
            if (full) {
                char **more = realloc(owned, (nowned + 1) * sizeof(*more));
                if (!more) {
                    free(full);
                } else {
                    owned = more;
                    owned[nowned++] = full;
                    kv[d->nkv].value = full;
                }
            }
            d->nkv++;
        }
    }
    vc.devs = devs;
    err = vmb_create(&vc, &w->vmb, msg, sizeof(msg));
    if (err) {
        diag_set(diag, err, "%s", msg[0] ? msg : strerror(-err));
        status = status_of(err);
        /* an unknown type is a mistake in the file, a missing library of the host */
        if (err == -ENOENT && strstr(msg, "unknown type"))
            status = STATUS_CONFIG;
        goto out;
    }
    /* RAM that goes on from 1 MiB, as far as the kernel and its files may reach */
    for (unsigned i = 0, n = vmb_ram_map(w->vmb, ram, RANGES); i < n && i < RANGES; i++)
        if (ram[i].type == VMB_RAM_USABLE && ram[i].base <= 1 << 20 &&
            ram[i].base + ram[i].len > 1 << 20)
            top = ram[i].base + ram[i].len;
    err = loader_open(c, top ? top : vmb_ram_below_4g(w->vmb), &w->loader, diag);
    status = err == -E2BIG ? STATUS_CONFIG : STATUS_HOST;
out:
    for (unsigned i = 0; devs && i < vc.ndevs; i++)
        free((void *)devs[i].kv);
    for (size_t i = 0; i < nowned; i++)
        free(owned[i]);
    free(owned);
    free(devs);
    return err ? status : STATUS_OK;
}
