/* SPDX-License-Identifier: BSD-2-Clause */
/* The board's life: create, power-on, reset, pause, resume, power-off, destroy. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- creation ------------------------------------------------------------------------------------ */

static void hv_log_line(void *ctx, int level, const char *line)
{
    if (level == VMB_TRACE) /* of the translator */
        vmb_log(ctx, VMB_TRACE, "jit", "%s", line);
    else
        vmb_log(ctx, level < 0 ? 0 : (unsigned)level, "hv", "%s", line);
}

static int make_partition(struct vmb *v, const struct vmb_config *cfg, char *msg, size_t len)
{
    const struct hv_ops ops = {
        .size = sizeof(ops),
        .pio_read = space_pio_read,
        .pio_write = space_pio_write,
        .mmio_read = space_mmio_read,
        .mmio_write = space_mmio_write,
        .extint_ack = irq_ack,
        .eoi = irq_eoi,
        .log = hv_log_line,
        .post_message = bus_post_message,
        .signal_event = bus_signal_event,
        .idle = io_idle,
    };
    const struct hv_config hc = {
        .size = sizeof(hc),
        .engine = cfg->engine ? cfg->engine : "auto",
        .vps = cfg->vps,
        .enlightened = cfg->enlightened,
        .ops = &ops,
        .ctx = v,
        .enl_hide = cfg->enl_hide,
        .enl_show = cfg->enl_show,
        .code_cache = cfg->code_cache,
        .check = cfg->check,
        .jit_trace = cfg->jit_trace,
        .jit_dump = cfg->jit_dump,
        .symbols = cfg->symbols,
        .native = cfg->native,
    };
    int err = hv_partition_create(&hc, &v->part);

    if (err) {
        snprintf(msg, len, "%s", hv_last_error());
        return err;
    }
    v->lazy_signals = strcmp(hv_partition_engine(v->part), "kvm") != 0;
    space_delay_port(v);
    err = cfg->enlightened ? bus_init(v) : 0;
    if (err)
        snprintf(msg, len, "cannot make the VMBus: %s", strerror(-err));
    return err;
}

static void vdev_free(struct mobo_vdev *d)
{
    vdev_params_free(d);
    pthread_mutex_destroy(&d->lock);
    free(d->name);
    free(d->file);
    free(d);
}

/* Everything about one device up to, not including, its create operation. */
static int vdev_make(struct vmb *v, const struct vmb_config *cfg, const struct vmb_dev_config *dc,
                     struct mobo_vdev **ret, char *msg, size_t len)
{
    struct mobo_vdev *d = calloc(1, sizeof(*d));
    char at[300], why[VMB_MSG_LEN - 320];
    int err;

    if (!d) {
        snprintf(msg, len, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->board = v;
    d->name = strdup(dc->name);
    d->file = dc->file ? strdup(dc->file) : NULL;
    d->line = dc->line;
    d->slot = d->slot_fn = d->a20 = -1;
    if (!d->name || (dc->file && !d->file)) {
        snprintf(msg, len, "%s", strerror(ENOMEM));
        vdev_free(d);
        return -ENOMEM;
    }
    err = plugin_find(v, dc->type, dc->plugin, &d->plugin, why, sizeof(why));
    if (err) {
        snprintf(msg, len, "%s[vdev %s] %s", where(dc->file, dc->line, at, sizeof(at)), dc->name,
                 why);
        vdev_free(d);
        return err;
    }
    d->ops = d->plugin->ops;
    d->thread_safe = d->plugin->desc.flags & MOBO_VDEV_THREAD_SAFE;
    d->is_sink = d->plugin->desc.flags & MOBO_VDEV_IRQ_SINK;
    d->trace = v->ops->trace && v->ops->trace(v->ctx, d->name);
    if (d->plugin->desc.max_instances && d->plugin->instances == d->plugin->desc.max_instances) {
        snprintf(msg, len, "%s[vdev %s] is one too many of type '%s' (at most %u)",
                 where(dc->file, dc->line, at, sizeof(at)), dc->name, dc->type,
                 d->plugin->desc.max_instances);
        vdev_free(d);
        return -EINVAL;
    }
    d->plugin->instances++;
    err = vdev_params_set(d, dc, cfg->base_dir, msg, len);
    if (err) {
        vdev_free(d);
        return err;
    }
    *ret = d;
    return 0;
}

/* The line of the configuration that a message of fail() is about: it begins with the key. */
static void blame(struct mobo_vdev *d, int err, char *msg, size_t len)
{
    const char *file = d->file, *colon = strchr(d->msg, ':');
    unsigned line = d->line;
    char at[300];

    for (unsigned i = 0; colon && i < d->nparams; i++) {
        const struct vdev_param *p = &d->params[i];

        if (p->file && strlen(p->name) == (size_t)(colon - d->msg) &&
            !strncmp(p->name, d->msg, strlen(p->name))) {
            file = p->file;
            line = p->line;
        }
    }
    snprintf(msg, len, "%s[vdev %s] %s", where(file, line, at, sizeof(at)), d->name,
             d->msg[0] ? d->msg : strerror(-err));
}

static int vdev_create(struct mobo_vdev *d, char *msg, size_t len)
{
    struct vdev_enter e = vdev_enter(d);
    void *self = NULL;
    int err;

    d->msg[0] = 0;
    err = d->ops.create(d, &vmb_host, &self);
    vdev_leave(d, e);
    if (err > 0) {
        vdev_fail(d, -EINVAL, "its create operation returned %d", err);
        err = -EINVAL;
    }
    if (err)
        blame(d, err, msg, len);
    else
        d->self = self;
    return err;
}

/* Controllers first, then the PCI root: the others need what these offer. */
static int rank(const struct mobo_vdev *d)
{
    uint32_t flags = d->plugin->desc.flags;

    return flags & MOBO_VDEV_IRQ_SINK ? 0 : flags & MOBO_VDEV_PCI_ROOT ? 1 : 2;
}

static int make_devices(struct vmb *v, const struct vmb_config *cfg, char *msg, size_t len)
{
    if (cfg->ndevs > VMB_MAX_VDEVS) {
        snprintf(msg, len, "%u devices are too many (at most %d)", cfg->ndevs, VMB_MAX_VDEVS);
        return -EINVAL;
    }
    for (unsigned i = 0; i < cfg->ndevs; i++) {
        struct mobo_vdev *d, **at;
        int err = vdev_make(v, cfg, &cfg->devs[i], &d, msg, len);

        if (err)
            return err;
        for (at = &v->devs; *at && rank(*at) <= rank(d); at = &(*at)->next)
            ;
        d->next = *at;
        *at = d;
    }
    for (struct mobo_vdev *d = v->devs; d; d = d->next) {
        int err = vdev_create(d, msg, len);

        if (err)
            return err;
    }
    for (struct mobo_vdev *d = v->devs; d; d = d->next)
        for (unsigned i = 0; i < d->nparams; i++)
            d->params[i].file = NULL; /* borrowed from cfg until now */
    return 0;
}

static int copy_dirs(struct vmb *v, const char *const *dirs)
{
    unsigned n = 0;

    while (dirs && dirs[n])
        n++;
    v->dirs = calloc(n + 1, sizeof(*v->dirs));
    if (!v->dirs)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++)
        if (!(v->dirs[i] = strdup(dirs[i])))
            return -ENOMEM;
    return 0;
}

int vmb_create(const struct vmb_config *cfg, struct vmb **ret, char *msg, size_t len)
{
    struct vmb *v;
    int err;

    if (cfg->memory % HV_PAGE_SIZE || cfg->memory < 0x100000 || cfg->memory > (1ull << 40)) {
        snprintf(msg, len,
                 "memory of %" PRIu64 " bytes: a multiple of 4096, from 1 MiB to 1 TiB, "
                 "is possible",
                 cfg->memory);
        return -EINVAL;
    }
    if (!cfg->vps || cfg->vps > HV_MAX_VPS) {
        snprintf(msg, len, "%u processors: 1 to %d are possible", cfg->vps, HV_MAX_VPS);
        return -EINVAL;
    }
    v = calloc(1, sizeof(*v));
    if (!v) {
        snprintf(msg, len, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    v->ops = cfg->ops;
    v->ctx = cfg->ctx;
    v->vps = cfg->vps;
    v->generation = cfg->generation ? cfg->generation : 1;
    snprintf(v->name, sizeof(v->name), "%s", cfg->name ? cfg->name : "");
    v->direct_boot = cfg->direct_boot;
    v->check_only = cfg->check_only;
    v->log_debug = cfg->log_debug;
    v->ram_low = cfg->memory < VMB_PCI_HOLE ? cfg->memory : VMB_PCI_HOLE;
    v->ram_high = cfg->memory - v->ram_low;
    v->clock.fd = v->io.wake_fd = v->io.soon_fd = -1;
    pthread_mutex_init(&v->a20_lock, NULL);
    pthread_mutex_init(&v->msg_lock, NULL);
    pthread_mutex_init(&v->clock.lock, NULL);
    pthread_mutex_init(&v->run.lock, NULL);
    pthread_cond_init(&v->run.cond, NULL);
    space_init(&v->space);
    irq_init(&v->irq);
    pci_init(&v->pci);
    input_init(v);
    err = io_init(v, msg, len);
    if (!err && (clock_init(v) || copy_dirs(v, cfg->plugin_dirs))) {
        snprintf(msg, len, "cannot set up the board: %s", strerror(errno ? errno : ENOMEM));
        err = -ENOMEM;
    }
    if (!err)
        err = make_partition(v, cfg, msg, len);
    if (!err)
        err = mem_init(v, msg, len);
    if (!err)
        err = make_devices(v, cfg, msg, len);
    if (err) {
        vmb_destroy(v);
        return err;
    }
    *ret = v;
    return 0;
}

void vmb_destroy(struct vmb *v)
{
    if (!v)
        return;
    vmb_power_off(v);
    blk_fini(v); /* nothing writes to what vdevs free */
    for (struct mobo_vdev *d = v->devs; d; d = d->next)
        if (d->self) {
            struct vdev_enter e = vdev_enter(d);

            d->ops.destroy(d->self);
            d->self = NULL;
            vdev_leave(d, e);
        }
    blk_free(v);
    log_end(v);
    io_fini(v);
    pci_fini(&v->pci);
    irq_fini(&v->irq);
    space_fini(&v->space);
    for (struct mobo_ram *m = v->rams, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    for (struct acpi_item *a = v->acpi, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    for (struct mobo_vdev *d = v->devs, *next; d; d = next) {
        next = d->next;
        vdev_free(d);
    }
    for (struct plugin *p = v->plugins, *next; p; p = next) {
        next = p->next;
        plugin_free(p);
    }
    for (char **d = v->dirs; d && *d; d++)
        free(*d);
    free(v->dirs);
    bus_fini(v);
    hv_partition_destroy(v->part);
    pthread_cond_destroy(&v->run.cond);
    pthread_mutex_destroy(&v->run.lock);
    pthread_mutex_destroy(&v->a20_lock);
    pthread_mutex_destroy(&v->msg_lock);
    free(v);
}

/* ---- running ------------------------------------------------------------------------------------- */

/* Everything as after a hard reset.  No VP runs. */
static int hard_reset(struct vmb *v, char *msg, size_t len)
{
    int err;

    irq_reset(v);
    bus_reset(v);
    hv_partition_reset(v->part);
    pthread_mutex_lock(&v->a20_lock);
    for (struct mobo_vdev *d = v->devs; d; d = d->next)
        d->a20 = -1;
    hv_a20_set(v->part, true);
    pthread_mutex_unlock(&v->a20_lock);
    pci_reset(v);
    input_reset(v);
    for (struct mobo_vdev *d = v->devs; d; d = d->next) {
        struct vdev_enter e = vdev_enter(d);

        d->ops.reset(d->self);
        vdev_leave(d, e);
    }
    if (!v->direct_boot)
        return 0;
    pci_assign(v);
    err = acpi_write(v);
    if (err)
        snprintf(msg, len, "the ACPI tables do not fit below 1 MiB");
    return err;
}

static int boot(struct vmb *v, char *msg, size_t len)
{
    int err = v->ops->boot ? v->ops->boot(v->ctx, v, msg, len) : 0;

    return err;
}

void board_block_signals(void *old)
{
    static const int sigs[] = { SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGPIPE,  SIGCHLD, SIGALRM,
                                SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGWINCH, SIGIO };
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < COUNT(sigs); i++)
        sigaddset(&set, sigs[i]);
    pthread_sigmask(SIG_BLOCK, &set, old);
}

int board_start(struct vmb *v, const struct board_state *state, char *msg, size_t len)
{
    int err;

    if (v->powered || v->check_only) {
        snprintf(msg, len,
                 v->powered ? "the board is powered on already"
                            : "the board was made for checking only");
        return -EINVAL;
    }
    for (struct mobo_vdev *d = v->devs; d; d = d->next) {
        struct vdev_enter e;

        if (!d->ops.power_on || d->powered)
            continue;
        e = vdev_enter(d);
        d->msg[0] = 0;
        err = d->ops.power_on(d->self);
        vdev_leave(d, e);
        if (err) {
            blame(d, err, msg, len);
            return err;
        }
        d->powered = true;
    }
    err = io_start(v);
    if (err) {
        snprintf(msg, len, "cannot start the I/O thread: %s", strerror(-err));
        return err;
    }
    v->powered = true;
    vp_release(v);
    err = hard_reset(v, msg, len);
    if (!err && state)
        err = vmb_restore_check(v, state->buf, state->len, msg, len);
    if (!err && state && state->load_ram)
        err = state->load_ram(state->ctx, msg, len);
    if (!err && state)
        err = vmb_restore_state(v, state->buf, state->len, msg, len);
    else if (!err)
        err = boot(v, msg, len);
    if (!err) {
        err = vp_start(v);
        if (err)
            snprintf(msg, len, "cannot start a processor thread: %s", strerror(-err));
    }
    if (err) {
        vmb_power_off(v);
        return err;
    }
    v->paused = true;
    v->restored = state != NULL;
    return state ? 0 : vmb_resume(v);
}

int vmb_power_on(struct vmb *v, char *msg, size_t len)
{
    return board_start(v, NULL, msg, len);
}

int vmb_pause(struct vmb *v)
{
    if (!v->powered)
        return -EINVAL;
    if (v->paused)
        return 0;
    vp_park(v);
    clock_stop(v, true);
    io_pause(v);
    for (struct mobo_vdev *d = v->devs; d; d = d->next)
        if (d->ops.pause) {
            struct vdev_enter e = vdev_enter(d);
            int err = d->ops.pause(d->self);

            vdev_leave(d, e);
            if (err)
                vmb_log(v, MOBO_WARNING, d->name, "does not pause: %s", strerror(-err));
        }
    v->paused = true;
    return 0;
}

int vmb_resume(struct vmb *v)
{
    bool first = !v->ran && !v->restored; /* power-on: nothing was paused */

    if (!v->powered)
        return -EINVAL;
    if (!v->paused)
        return 0;
    v->ran = true;
    v->paused = v->restored = false;
    for (struct mobo_vdev *d = v->devs; d && !first; d = d->next)
        if (d->ops.resume) {
            struct vdev_enter e = vdev_enter(d);

            d->ops.resume(d->self);
            vdev_leave(d, e);
        }
    clock_stop(v, false);
    io_resume(v);
    blk_resume(v);
    vp_go(v);
    return 0;
}

int vmb_reset(struct vmb *v, char *msg, size_t len)
{
    int err;

    if (!v->powered) {
        snprintf(msg, len, "the board is not powered on");
        return -EINVAL;
    }
    vp_park(v);
    vp_release(v);
    err = hard_reset(v, msg, len);
    if (!err)
        err = boot(v, msg, len);
    if (!err && !v->paused)
        vp_go(v);
    return err;
}

void vmb_power_off(struct vmb *v)
{
    if (!v->powered)
        return;
    vp_join(v);
    clock_stop(v, true);
    io_stop(v);
    v->powered = v->paused = v->ran = v->restored = false;
}

void vmb_event(struct vmb *v, unsigned kind)
{
    const struct mobo_event ev = { sizeof(ev), kind };

    for (struct mobo_vdev *d = v->devs; d; d = d->next)
        if (d->ops.event && d->self) {
            struct vdev_enter e = vdev_enter(d);

            d->ops.event(d->self, &ev);
            vdev_leave(d, e);
        }
}

int vmb_command(struct vmb *v, const char *dev, const char *type, const char *verb, const char *arg,
                char *ret, size_t ret_len, char *msg, size_t msg_len)
{
    struct mobo_vdev *d = v->devs;
    struct vdev_enter e;
    int err;

    while (d && (dev ? strcmp(d->name, dev) : strcmp(d->plugin->desc.type, type)))
        d = d->next;
    if (!d) {
        snprintf(msg, msg_len, "there is no device %s'%s'", dev ? "" : "of type ",
                 dev ? dev : type);
        return -ENOENT;
    }
    if (!d->ops.command) {
        snprintf(msg, msg_len, "%s takes no commands", d->name);
        return -ENOSYS;
    }
    if (!v->powered || v->paused) {
        snprintf(msg, msg_len, "the VM does not run");
        return -EBUSY;
    }
    if (ret_len)
        ret[0] = 0;
    e = vdev_enter(d);
    d->msg[0] = 0;
    err = d->ops.command(d->self, verb, arg ? arg : "", ret, (uint32_t)ret_len);
    if (err)
        snprintf(msg, msg_len, "%s: %s", d->name, d->msg[0] ? d->msg : strerror(-err));
    vdev_leave(d, e);
    return err;
}

/* ---- looking around ------------------------------------------------------------------------------ */

struct hv_partition *vmb_partition(struct vmb *v)
{
    return v->part;
}

struct event_base *vmb_event_base(struct vmb *v)
{
    return v->io.base;
}

uint64_t vmb_acpi_rsdp(const struct vmb *v)
{
    return v->rsdp;
}
