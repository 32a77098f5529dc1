/* SPDX-License-Identifier: MIT */
/* A host in memory for unit tests of vdevs; see mobo_fakehost.h. */
#include "sdk/test/fake_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void fake_die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "mobo_fakehost: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

void *fake_zalloc(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        fake_die("out of memory");
    return p;
}

/* ---- messages and parameters ------------------------------------------------------------------- */

int fake_fail(struct mobo_vdev *dev, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(dev->f->error, sizeof(dev->f->error), fmt, ap);
    va_end(ap);
    return err;
}

__attribute__((format(printf, 2, 3))) void fake_set_error(struct mobo_fake *f, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(f->error, sizeof(f->error), fmt, ap);
    va_end(ap);
}

static void fake_log(struct mobo_vdev *dev, uint32_t level, const char *fmt, ...)
{
    va_list ap;

    if (level > MOBO_DEBUG)
        fake_die("%s: log level %u", dev->name, level);
    for (uint32_t l = level; l <= MOBO_DEBUG; l++)
        dev->f->logged[l]++;
    if (!getenv("MOBO_FAKE_LOG"))
        return;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", dev->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static void fake_trace(struct mobo_vdev *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "%s: ", dev->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static const uint32_t *fake_trace_word(struct mobo_vdev *dev)
{
    return &dev->f->trace;
}

static const char *fake_name(struct mobo_vdev *dev)
{
    return dev->name;
}

struct param *fake_find_param(struct mobo_vdev *dev, const char *key, uint32_t kinds)
{
    for (uint32_t i = 0; i < dev->desc->nparams; i++) {
        struct mobo_param p = mobo_param_at(dev->desc->params, i, dev->desc->param_size);

        if (!strcmp(p.name, key)) {
            if (!(kinds & 1u << p.kind))
                fake_die("%s: parameter '%s' read as another kind", dev->name, key);
            return &dev->params[i];
        }
    }
    fake_die("%s: parameter '%s' is not in the descriptor", dev->name, key);
}

static const char *fake_param_str(struct mobo_vdev *dev, const char *key)
{
    return fake_find_param(dev, key,
                           1 << MOBO_STRING | 1 << MOBO_CHOICE | 1 << MOBO_PATH | 1 << MOBO_CHAR)
        ->text;
}

static uint64_t fake_param_uint(struct mobo_vdev *dev, const char *key)
{
    return fake_find_param(dev, key, 1 << MOBO_UINT | 1 << MOBO_SIZE)->val.num;
}

static int fake_param_bool(struct mobo_vdev *dev, const char *key)
{
    return (int)fake_find_param(dev, key, 1 << MOBO_BOOL)->val.num;
}

static int fake_param_is_set(struct mobo_vdev *dev, const char *key)
{
    return fake_find_param(dev, key, ~0u)->val.set;
}

static int fake_board_info(struct mobo_vdev *dev, struct mobo_board_info *ret)
{
    uint32_t size = ret->size;

    if (size < sizeof(uint32_t))
        return -EINVAL;
    memset(ret, 0, size);
    memcpy(ret, &dev->f->info, size < sizeof(dev->f->info) ? size : sizeof(dev->f->info));
    ret->size = size;
    return 0;
}

/* ---- the table ----------------------------------------------------------------------------------- */

static const struct mobo_host fake_host = {
    .size = sizeof(struct mobo_host),
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = MOBO_ABI_MINOR,
    .fail = fake_fail,
    .log = fake_log,
    .trace = fake_trace,
    .trace_word = fake_trace_word,
    .name = fake_name,
    .param_str = fake_param_str,
    .param_uint = fake_param_uint,
    .param_bool = fake_param_bool,
    .param_is_set = fake_param_is_set,
    .board_info = fake_board_info,
    .pio_add = fake_pio_add,
    .mmio_add = fake_mmio_add,
    .region_enable = fake_region_enable,
    .region_move = fake_region_move,
    .mem_read = fake_mem_read,
    .mem_write = fake_mem_write,
    .mem_map = fake_mem_map,
    .mem_unmap = fake_mem_unmap,
    .ram_add = fake_ram_add,
    .ram_map = fake_ram_map,
    .ram_unmap = fake_ram_unmap,
    .ram_dirty = fake_ram_dirty,
    .irq_claim = fake_irq_claim,
    .irq_set = fake_irq_set,
    .irq_pulse = fake_irq_pulse,
    .irq_sink_add = fake_irq_sink_add,
    .intack_set = fake_intack_set,
    .intr_set = fake_intr_set,
    .eoi_watch = fake_eoi_watch,
    .msi_send = fake_msi_send,
    .nmi_pulse = fake_nmi_pulse,
    .a20_set = fake_a20_set,
    .pci_add = fake_pci_add,
    .pci_config_init = fake_pci_config_init,
    .pci_config_get = fake_pci_config_get,
    .pci_config_set = fake_pci_config_set,
    .pci_bar_add = fake_pci_bar_add,
    .pci_bar_ram = fake_pci_bar_ram,
    .pci_cap_add = fake_pci_cap_add,
    .pci_msi_add = fake_pci_msi_add,
    .pci_irq_set = fake_pci_irq_set,
    .pci_msi_send = fake_pci_msi_send,
    .pci_msi_enabled = fake_pci_msi_enabled,
    .pci_dma_read = fake_pci_dma_read,
    .pci_dma_write = fake_pci_dma_write,
    .pci_config_read = fake_pci_config_read,
    .pci_config_write = fake_pci_config_write,
    .pci_pirq_route = fake_pci_pirq_route,
    .clock_ns = fake_clock_ns,
    .wall_ns = fake_wall_ns,
    .timer_create = fake_timer_create,
    .timer_set = fake_timer_set,
    .timer_cancel = fake_timer_cancel,
    .work_post = fake_work_post,
    .fd_watch = fake_fd_watch,
    .fd_watch_set = fake_fd_watch_set,
    .fd_unwatch = fake_fd_unwatch,
    .char_open = fake_char_open,
    .char_write = fake_char_write,
    .char_ready = fake_char_ready,
    .system_request = fake_system_request,
    .acpi_add = fake_acpi_add,
    .save_fields = mobo_save_fields,
    .save_bytes = mobo_save_bytes,
    .save_begin = mobo_save_begin,
    .save_end = mobo_save_end,
    .load_fields = mobo_load_fields,
    .load_bytes = mobo_load_bytes,
    .load_begin = mobo_load_begin,
    .load_end = mobo_load_end,
    .load_done = mobo_load_done,
    .inspect_fields = mobo_inspect_fields,
    .inspect_uint = mobo_inspect_uint,
    .inspect_str = mobo_inspect_str,
    .inspect_begin = mobo_inspect_begin,
    .inspect_end = mobo_inspect_end,
    .vmbus_offer = fake_vmbus_offer,
    .vmbus_rescind = fake_vmbus_rescind,
    .vmbus_receive = fake_vmbus_receive,
    .vmbus_send = fake_vmbus_send,
    .vmbus_fault = fake_vmbus_fault,
    .vmbus_gpadl_read = fake_vmbus_gpadl_read,
    .vmbus_gpadl_write = fake_vmbus_gpadl_write,
    .vmbus_gpadl_len = fake_vmbus_gpadl_len,
    .vmbus_gpa_direct = fake_vmbus_gpa_direct,
    .vmbus_version = fake_vmbus_version,
    .mem_dirty = fake_mem_dirty,
    .block_open = fake_block_open,
    .block_close = fake_block_close,
    .block_submit = fake_block_submit,
    .block_drain = fake_block_drain,
    .mem_discard = fake_mem_discard,
    .block_open_spec = fake_block_open_spec,
    .net_open = fake_net_open,
    .net_send = fake_net_send,
    .net_ready = fake_net_ready,
    .display_open = fake_display_open,
    .display_surface = fake_display_surface,
    .display_dirty = fake_display_dirty,
    .display_cursor = fake_display_cursor,
    .display_cursor_move = fake_display_cursor_move,
    .input_add = fake_input_add,
    .input_active = fake_input_active,
    .input_ready = fake_input_ready,
    .input_leds = fake_input_leds,
    .vmbus_tl_listen = fake_vmbus_tl_listen,
    .vmbus_tl_result = fake_vmbus_tl_result,
    .mem_reserve = fake_mem_reserve,
    .mem_plug = fake_mem_plug,
};

const struct mobo_host *mobo_fake_host(struct mobo_fake *f)
{
    (void)f;
    return &fake_host;
}

/* ---- the board ----------------------------------------------------------------------------------- */

enum { GUARD = 4096 };

/* Guest RAM of zeroes, where nothing is before and behind it: an allocator that checks takes longer for it than most
 * tests run. */
static uint8_t *ram_create(void)
{
    uint8_t *p = mmap(NULL, RAM_LEN + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED || mprotect(p + GUARD, RAM_LEN, PROT_READ | PROT_WRITE))
        fake_die("no memory for guest RAM");
    return p + GUARD;
}

struct mobo_fake *mobo_fake_create(void)
{
    struct mobo_fake *f = fake_zalloc(sizeof(*f));

    f->ram = ram_create();
    f->work_tail = &f->work;
    f->info.size = sizeof(f->info);
    f->info.vps = 1;
    f->info.ram_below_4g = RAM_LEN;
    f->info.generation = 1;
    f->info.direct_boot = 1;
    for (int i = 0; i < 4; i++)
        f->pirq[i] = -1;
    return f;
}

#define FREE_LIST(type, head)                        \
    for (type *it_ = (head), *nx_; it_; it_ = nx_) { \
        nx_ = it_->next;                             \
        free(it_);                                   \
    }

static void free_dev(struct mobo_vdev *d)
{
    for (uint32_t i = 0; i < d->desc->nparams; i++)
        free(d->params[i].text);
    for (int i = 0; i < CHARS; i++) {
        free(d->chr[i].in);
        free(d->chr[i].out);
    }
    fake_vmbus_free(d);
    fake_net_free(d);
    fake_display_free(d);
    free(d->params);
    free(d);
}

void mobo_fake_destroy(struct mobo_fake *f)
{
    if (!f)
        return;
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        d->ops.destroy(d->self);
    for (struct mobo_vdev *d = f->devs, *next; d; d = next) {
        next = d->next;
        free_dev(d);
    }
    FREE_LIST(struct mobo_region, f->regions);
    for (struct mobo_ram *m = f->rams; m; m = m->next) {
        free(m->hva);
        free(m->dirty);
    }
    FREE_LIST(struct mobo_ram, f->rams);
    FREE_LIST(struct mobo_irq, f->irqs);
    FREE_LIST(struct sink, f->sinks);
    FREE_LIST(struct eoi, f->eois);
    FREE_LIST(struct mobo_pci, f->pci);
    FREE_LIST(struct mobo_timer, f->timers);
    FREE_LIST(struct work, f->work);
    FREE_LIST(struct mobo_watch, f->watches);
    for (struct acpi *a = f->acpi; a; a = a->next)
        free(a->desc);
    FREE_LIST(struct acpi, f->acpi);
    fake_block_free(f);
    munmap(f->ram - GUARD, RAM_LEN + 2 * GUARD);
    free(f);
}

void mobo_fake_board(struct mobo_fake *f, const struct mobo_board_info *info)
{
    f->info = *info;
    f->info.size = sizeof(f->info);
}

const char *mobo_fake_error(struct mobo_fake *f)
{
    memcpy(f->error_read, f->error, sizeof(f->error));
    f->error[0] = 0;
    return f->error_read;
}

unsigned mobo_fake_logged(struct mobo_fake *f, uint32_t level)
{
    return f->logged[level];
}

static int set_params(struct mobo_vdev *dev, const char *const *params)
{
    const struct mobo_vdev_descriptor *d = dev->desc;
    char msg[128];

    for (const char *const *s = params; s && *s; s++) {
        const char *eq = strchr(*s, '=');
        uint32_t i;

        if (!eq)
            fake_die("'%s' is not key=value", *s);
        for (i = 0; i < d->nparams; i++) {
            struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

            if (strlen(p.name) != (size_t)(eq - *s) || strncmp(p.name, *s, (size_t)(eq - *s)))
                continue;
            if (mobo_param_parse(&p, eq + 1, &dev->params[i].val, msg, sizeof(msg))) {
                fake_set_error(dev->f, "%s: '%s' %s", p.name, eq + 1, msg);
                return -1;
            }
            free(dev->params[i].text);
            dev->params[i].text = strdup(eq + 1);
            break;
        }
        if (i == d->nparams) {
            fake_set_error(dev->f, "unknown key '%.*s'", (int)(eq - *s), *s);
            return -1;
        }
    }
    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

        if (dev->params[i].val.set)
            continue;
        if (p.def) {
            if (mobo_param_parse(&p, p.def, &dev->params[i].val, msg, sizeof(msg)))
                fake_die("%s: default of '%s' %s", d->type, p.name, msg);
            dev->params[i].text = strdup(p.def);
        } else if (p.flags & MOBO_PARAM_REQUIRED) {
            fake_set_error(dev->f, "key '%s' is missing", p.name);
            return -1;
        }
    }
    return 0;
}

/* Everything in a list that belongs to @dev goes. */
#define DROP_LIST(type, head, owner, release)         \
    for (type **at_ = &(head), *it_; (it_ = *at_);) { \
        if (it_->owner != dev) {                      \
            at_ = &it_->next;                         \
            continue;                                 \
        }                                             \
        *at_ = it_->next;                             \
        release(it_);                                 \
    }

static void free_ram(struct mobo_ram *m)
{
    free(m->hva);
    free(m->dirty);
    free(m);
}

static void free_acpi(struct acpi *a)
{
    free(a->desc);
    free(a);
}

static void drop_claims(struct mobo_vdev *dev)
{
    struct mobo_fake *f = dev->f;

    DROP_LIST(struct mobo_region, f->regions, dev, free);
    DROP_LIST(struct mobo_ram, f->rams, dev, free_ram);
    DROP_LIST(struct mobo_irq, f->irqs, dev, free);
    DROP_LIST(struct sink, f->sinks, dev, free);
    DROP_LIST(struct eoi, f->eois, dev, free);
    DROP_LIST(struct mobo_pci, f->pci, dev, free);
    DROP_LIST(struct mobo_timer, f->timers, dev, free);
    DROP_LIST(struct mobo_watch, f->watches, dev, free);
    DROP_LIST(struct acpi, f->acpi, dev, free_acpi);
    DROP_LIST(struct work, f->work, dev, free);
    for (f->work_tail = &f->work; *f->work_tail; f->work_tail = &(*f->work_tail)->next)
        ;
    if (f->intack_dev == dev) {
        f->intack = NULL;
        f->intack_dev = NULL;
    }
}

struct mobo_vdev *mobo_fake_add(struct mobo_fake *f, const struct mobo_vdev_descriptor *desc,
                                const char *name, const char *const *params)
{
    struct mobo_vdev *dev, **tail;

    if (desc->magic != MOBO_VDEV_MAGIC || desc->abi_major != MOBO_ABI_MAJOR ||
        desc->abi_minor > MOBO_ABI_MINOR || desc->size < sizeof(*desc))
        fake_die("descriptor of '%s' has a wrong magic, version or size", name);
    if (!desc->type || !desc->vendor || !desc->version || !desc->licence || !desc->summary)
        fake_die("descriptor of '%s' lacks a text", name);
    if (desc->ops->size < sizeof(*desc->ops) || !desc->ops->create || !desc->ops->destroy ||
        !desc->ops->reset || !desc->ops->save || !desc->ops->restore)
        fake_die("'%s' lacks a required operation", desc->type);
    for (uint32_t i = 0; i < desc->nparams; i++) {
        struct mobo_param p = mobo_param_at(desc->params, i, desc->param_size);

        if (!p.name || !p.help || p.kind < MOBO_STRING || p.kind > MOBO_CHAR)
            fake_die("parameter %u of '%s' is incomplete", i, desc->type);
    }
    dev = fake_zalloc(sizeof(*dev));
    dev->f = f;
    dev->desc = desc;
    dev->ops = *desc->ops;
    dev->a20 = -1;
    snprintf(dev->name, sizeof(dev->name), "%s", name);
    dev->params = fake_zalloc((desc->nparams + 1) * sizeof(*dev->params));
    f->error[0] = 0;
    if (set_params(dev, params)) {
        free_dev(dev);
        return NULL;
    }
    if (dev->ops.create(dev, &fake_host, &dev->self)) {
        if (!f->error[0])
            fake_set_error(f, "create failed without a message");
        drop_claims(dev);
        free_dev(dev);
        return NULL;
    }
    for (tail = &f->devs; *tail; tail = &(*tail)->next)
        ;
    *tail = dev;
    if (dev->ops.power_on && dev->ops.power_on(dev->self))
        return NULL; /* mobo_fake_destroy() cleans up */
    dev->ops.reset(dev->self);
    return dev;
}

void mobo_fake_reset(struct mobo_fake *f)
{
    for (struct mobo_irq *q = f->irqs; q; q = q->next)
        q->level = 0;
    for (struct mobo_pci *p = f->pci; p; p = p->next) {
        p->intx = 0;
        mobo_pciconf_reset(&p->conf);
        fake_pci_sync(p);
    }
    fake_lines_update(f);
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        fake_vmbus_reset(d);
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        d->ops.reset(d->self);
}

void mobo_fake_pause(struct mobo_fake *f)
{
    if (f->paused)
        return;
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        if (d->ops.pause)
            d->ops.pause(d->self);
    f->paused = 1;
}

void mobo_fake_resume(struct mobo_fake *f)
{
    if (!f->paused)
        return;
    f->paused = 0;
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        if (d->ops.resume)
            d->ops.resume(d->self);
    fake_block_resume(f);
}

void mobo_fake_event(struct mobo_fake *f, uint32_t kind)
{
    struct mobo_event ev = { sizeof(ev), kind };

    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        if (d->ops.event)
            d->ops.event(d->self, &ev);
}

int mobo_fake_command(struct mobo_vdev *dev, const char *verb, const char *arg, char *ret,
                      uint32_t ret_len)
{
    int err = -38;

    if (ret_len)
        ret[0] = 0;
    if (dev->ops.command)
        err = dev->ops.command(dev->self, verb, arg ? arg : "", ret, ret_len);
    mobo_fake_work(dev->f);
    return err;
}

uint8_t *mobo_fake_ram(struct mobo_fake *f)
{
    return f->ram;
}
