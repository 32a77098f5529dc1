/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of services that vdevs get, and what fits into no other file. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "sdk/lib/inspect.h"

__thread struct mobo_vdev *vdev_current;

/* ---- messages ------------------------------------------------------------------------------------ */

/* What guests make devices say does not fill the host's log: so many lines of a level at once, and then one more every
 * so many seconds. */
enum { LOG_BURST = 100, LOG_PERIOD_S = 10 };

static bool log_may(struct vmb *v, struct log_limit *l, uint64_t *ret_left_out)
{
    struct timespec ts;
    uint64_t more;
    bool may;

    pthread_mutex_lock(&v->msg_lock);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    more = ((uint64_t)ts.tv_sec - l->at_s) / LOG_PERIOD_S;
    l->at_s += more * LOG_PERIOD_S;
    l->used -= more < l->used ? (unsigned)more : l->used;
    may = l->used < LOG_BURST;
    if (may) {
        l->used++;
        *ret_left_out = l->left_out;
        l->left_out = 0;
    } else {
        l->left_out++;
    }
    pthread_mutex_unlock(&v->msg_lock);
    return may;
}

static void log_left_out(struct vmb *v, unsigned level, const char *from, uint64_t n)
{
    char line[64];

    snprintf(line, sizeof(line), "lines left out: %" PRIu64, n);
    if (n && v->ops->log)
        v->ops->log(v->ctx, level, from, line);
}

static void log_v(struct vmb *v, struct log_limit *limits, unsigned level, const char *from, const char *fmt,
                  va_list ap)
{
    char line[1024];

    if (level > VMB_TRACE)
        level = MOBO_DEBUG;
    if (level < (v->log_debug ? MOBO_DEBUG : VMB_TRACE)) {
        uint64_t left_out;

        if (!log_may(v, &limits[level], &left_out))
            return;
        log_left_out(v, level, from, left_out);
    }
    vsnprintf(line, sizeof(line), fmt, ap);
    for (char *p = line; *p; p++) /* what a guest made a device say stays on one line */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (v->ops->log)
        v->ops->log(v->ctx, level, from, line);
}

void log_end(struct vmb *v)
{
    for (unsigned level = 0; level <= MOBO_DEBUG; level++) {
        log_left_out(v, level, "vmb", v->limits[level].left_out);
        for (struct mobo_vdev *d = v->devs; d; d = d->next)
            log_left_out(v, level, d->name, d->limits[level].left_out);
    }
}

void vmb_log(struct vmb *v, unsigned level, const char *from, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_v(v, v->limits, level, from, fmt, ap);
    va_end(ap);
}

static void host_log(struct mobo_vdev *dev, uint32_t level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_v(dev->board, dev->limits, level > MOBO_DEBUG ? MOBO_DEBUG : level, dev->name, fmt, ap);
    va_end(ap);
}

static void host_trace(struct mobo_vdev *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_v(dev->board, dev->limits, VMB_TRACE, dev->name, fmt, ap);
    va_end(ap);
}

int vdev_fail(struct mobo_vdev *dev, int err, const char *fmt, ...)
{
    char msg[VMB_MSG_LEN];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&dev->board->msg_lock);
    memcpy(dev->msg, msg, sizeof(msg));
    pthread_mutex_unlock(&dev->board->msg_lock);
    return err;
}

#ifdef MOBO_DEBUG_CHECKS
void vdev_check(struct mobo_vdev *dev, const char *service)
{
    if (dev->thread_safe ||
        atomic_load_explicit(&dev->owner, memory_order_relaxed) == (const void *)&vdev_current)
        return;
    vmb_log(dev->board, MOBO_ERROR, dev->name, "calls %s() outside its callbacks", service);
    abort();
}
#endif

int vdev_creating(struct mobo_vdev *dev, const char *service)
{
    if (!dev->self)
        return 0;
    return vdev_fail(dev, -EPERM, "%s() is for the create operation only", service);
}

static const uint32_t *host_trace_word(struct mobo_vdev *dev)
{
    return &dev->trace;
}

static const char *host_name(struct mobo_vdev *dev)
{
    return dev->name;
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static struct vdev_param *param(struct mobo_vdev *dev, const char *key, uint32_t kinds)
{
    struct vdev_param *p = vdev_param_find(dev, key);

    if (!p || !(kinds & 1u << p->kind)) {
        vmb_log(dev->board, MOBO_ERROR, dev->name,
                "asks for parameter '%s', which its descriptor "
                "does not have in that kind",
                key);
        return NULL;
    }
    return p;
}

static const char *host_param_str(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p =
        param(dev, key, 1 << MOBO_STRING | 1 << MOBO_CHOICE | 1 << MOBO_PATH | 1 << MOBO_CHAR);

    return p ? p->text : NULL;
}

static uint64_t host_param_uint(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p = param(dev, key, 1 << MOBO_UINT | 1 << MOBO_SIZE);

    return p ? p->val.num : 0;
}

static int host_param_bool(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p = param(dev, key, 1 << MOBO_BOOL);

    return p && p->val.num;
}

static int host_param_is_set(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p = param(dev, key, ~0u);

    return p && p->val.set;
}

static int host_board_info(struct mobo_vdev *dev, struct mobo_board_info *ret)
{
    struct vmb *v = dev->board;
    uint32_t size = ret->size;
    struct mobo_board_info info = {
        .size = size,
        .vps = v->vps,
        .ram_below_4g = v->ram_low,
        .ram_above_4g = v->ram_high,
        .generation = v->generation,
        .direct_boot = v->direct_boot,
        .vm = v->name,
    };

    if (size < sizeof(uint32_t) || size > 4096)
        return -EINVAL;
    memset(ret, 0, size);
    memcpy(ret, &info, size < sizeof(info) ? size : sizeof(info));
    return 0;
}

/* ---- regions and memory -------------------------------------------------------------------------- */

static int host_pio_add(struct mobo_vdev *dev, const char *name, uint32_t base, uint32_t len,
                        uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                        mobo_region_t *ret)
{
    return space_add(dev, false, false, name, base, len, flags, ops, ctx, ret);
}

static int host_mmio_add(struct mobo_vdev *dev, const char *name, uint64_t base, uint64_t len,
                         uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                         mobo_region_t *ret)
{
    return space_add(dev, true, false, name, base, len, flags, ops, ctx, ret);
}

static void host_region_enable(mobo_region_t r, int on)
{
    vdev_check(r->dev, "region_enable");
    if (!r->bar)
        space_place(r, atomic_load(&r->base), on != 0);
}

static int host_region_move(mobo_region_t r, uint64_t base)
{
    uint64_t top = r->mmio ? (uint64_t)1 << 52 : 0x10000;

    vdev_check(r->dev, "region_move");
    if (r->bar || base > top - r->len)
        return -EINVAL;
    return space_place(r, base, atomic_load(&r->enabled));
}

static int host_mem_read(struct mobo_vdev *dev, uint64_t gpa, void *buf, uint64_t len)
{
    return hv_gpa_read(dev->board->part, gpa, buf, len);
}

static int host_mem_write(struct mobo_vdev *dev, uint64_t gpa, const void *buf, uint64_t len)
{
    return hv_gpa_write(dev->board->part, gpa, buf, len);
}

static int host_mem_map(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void **ret)
{
    void *p = hv_gpa_hva(dev->board->part, gpa, len, write != 0);

    if (!p)
        return -EFAULT;
    *ret = p;
    return 0;
}

static void host_mem_unmap(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void *hva)
{
    (void)hva; /* RAM stays where it is as long as the partition lives */
    if (write)
        hv_gpa_dirty(dev->board->part, gpa, len);
}

static int host_mem_discard(struct mobo_vdev *dev, uint64_t gpa, uint64_t len)
{
    struct hv_partition *p = dev->board->part;
    uint64_t at = gpa, end = gpa + len, step;
    void *hva;

    if (gpa % HV_PAGE_SIZE || len % HV_PAGE_SIZE || end < gpa)
        return -EINVAL;
    if (!len)
        return 0;
    hva = hv_gpa_hva(p, gpa, len, true);
    if (hva && !madvise(hva, len, MADV_REMOVE)) {
        hv_gpa_dirty(p, gpa, len);
        return 0;
    }
    /* several regions, or memory that cannot have holes */
    for (; at < end; at += HV_PAGE_SIZE)
        if (!hv_gpa_hva(p, at, HV_PAGE_SIZE, true))
            return -EFAULT;
    for (at = gpa; at < end; at += step) {
        step = HV_PAGE_SIZE;
        hva = hv_gpa_hva(p, at, step, true);
        if (hva && madvise(hva, step, MADV_REMOVE))
            memset(hva, 0, step);
        hv_gpa_dirty(p, at, step);
    }
    return 0;
}

/* ---- interrupts ---------------------------------------------------------------------------------- */

static void host_intr_set(struct mobo_vdev *dev, int level)
{
    hv_extint_set(dev->board->part, level != 0);
}

static int host_msi_send(struct mobo_vdev *dev, uint64_t addr, uint32_t data)
{
    return hv_msi(dev->board->part, addr, data);
}

static void host_nmi_pulse(struct mobo_vdev *dev)
{
    hv_nmi(dev->board->part);
}

static void host_a20_set(struct mobo_vdev *dev, int open)
{
    struct vmb *v = dev->board;
    bool any = false, one = false;

    pthread_mutex_lock(&v->a20_lock);
    dev->a20 = open != 0;
    for (struct mobo_vdev *d = v->devs; d; d = d->next) {
        any |= d->a20 >= 0;
        one |= d->a20 == 1;
    }
    hv_a20_set(v->part, one || !any);
    pthread_mutex_unlock(&v->a20_lock);
}

/* ---- time and system ----------------------------------------------------------------------------- */

static uint64_t host_clock_ns(struct mobo_vdev *dev)
{
    return hv_time_ns(dev->board->part);
}

static int64_t host_wall_ns(struct mobo_vdev *dev)
{
    struct timespec ts;

    (void)dev;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int host_work_post(struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx)
{
    return io_post(dev->board, dev, fn, ctx);
}

static void host_system_request(struct mobo_vdev *dev, uint32_t kind, uint32_t code,
                                const char *text)
{
    static const enum vmb_request_kind kinds[] = {
        [MOBO_SYS_POWEROFF] = VMB_REQ_POWEROFF, [MOBO_SYS_RESET] = VMB_REQ_RESET,
        [MOBO_SYS_SUSPEND] = VMB_REQ_SUSPEND,   [MOBO_SYS_EXIT] = VMB_REQ_EXIT,
        [MOBO_SYS_CRASH] = VMB_REQ_CRASH,
    };
    struct vmb_request req = { .from = dev->name, .text = text ? text : "", .dump = "" };

    if (kind < MOBO_SYS_POWEROFF || kind >= COUNT(kinds)) {
        vmb_log(dev->board, MOBO_ERROR, dev->name, "unknown system request %u", kind);
        return;
    }
    req.kind = kinds[kind];
    req.code = code & 0xff;
    vp_request(dev->board, &req);
}

const struct mobo_host vmb_host = {
    .size = sizeof(struct mobo_host),
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = MOBO_ABI_MINOR,
    .fail = vdev_fail,
    .log = host_log,
    .trace = host_trace,
    .trace_word = host_trace_word,
    .name = host_name,
    .param_str = host_param_str,
    .param_uint = host_param_uint,
    .param_bool = host_param_bool,
    .param_is_set = host_param_is_set,
    .board_info = host_board_info,
    .pio_add = host_pio_add,
    .mmio_add = host_mmio_add,
    .region_enable = host_region_enable,
    .region_move = host_region_move,
    .mem_read = host_mem_read,
    .mem_write = host_mem_write,
    .mem_map = host_mem_map,
    .mem_unmap = host_mem_unmap,
    .ram_add = mem_ram_add,
    .ram_map = mem_ram_map,
    .ram_unmap = mem_ram_unmap,
    .ram_dirty = mem_ram_dirty,
    .irq_claim = irq_claim,
    .irq_set = irq_set,
    .irq_pulse = irq_pulse,
    .irq_sink_add = irq_sink_add,
    .intack_set = irq_intack_set,
    .intr_set = host_intr_set,
    .eoi_watch = irq_eoi_watch,
    .msi_send = host_msi_send,
    .nmi_pulse = host_nmi_pulse,
    .a20_set = host_a20_set,
    .pci_add = pci_add,
    .pci_config_init = pci_config_init,
    .pci_config_get = pci_config_get,
    .pci_config_set = pci_config_set,
    .pci_bar_add = pci_bar_add,
    .pci_bar_ram = pci_bar_ram,
    .pci_cap_add = pci_cap_add,
    .pci_msi_add = pci_msi_add,
    .pci_irq_set = pci_irq_set,
    .pci_msi_send = pci_msi_send,
    .pci_msi_enabled = pci_msi_enabled,
    .pci_dma_read = pci_dma_read,
    .pci_dma_write = pci_dma_write,
    .pci_config_read = pci_config_read,
    .pci_config_write = pci_config_write,
    .pci_pirq_route = irq_pirq_route,
    .clock_ns = host_clock_ns,
    .wall_ns = host_wall_ns,
    .timer_create = timer_add,
    .timer_set = timer_arm,
    .timer_cancel = timer_disarm,
    .work_post = host_work_post,
    .fd_watch = io_watch,
    .fd_watch_set = io_watch_set,
    .fd_unwatch = io_unwatch,
    .char_open = char_open,
    .char_write = char_write,
    .char_ready = char_ready,
    .system_request = host_system_request,
    .acpi_add = acpi_add,
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
    .vmbus_offer = bus_offer,
    .vmbus_rescind = bus_rescind,
    .vmbus_receive = bus_receive,
    .vmbus_send = bus_send,
    .vmbus_fault = bus_fault,
    .vmbus_gpadl_read = bus_gpadl_read,
    .vmbus_gpadl_write = bus_gpadl_write,
    .vmbus_gpadl_len = bus_gpadl_len,
    .vmbus_gpa_direct = bus_gpa_direct,
    .vmbus_version = bus_version,
    .mem_dirty = bus_mem_dirty,
    .mem_discard = host_mem_discard,
    .block_open = blk_open,
    .block_close = blk_close,
    .block_submit = blk_submit,
    .block_drain = blk_drain,
    .block_open_spec = blk_open_spec,
    .net_open = net_open,
    .net_send = net_send,
    .net_ready = net_ready,
    .display_open = disp_open,
    .display_surface = disp_surface,
    .display_dirty = disp_dirty,
    .display_cursor = disp_cursor,
    .display_cursor_move = disp_cursor_move,
    .input_add = input_add,
    .input_active = input_active,
    .input_ready = input_ready,
    .input_leds = input_leds,
    .vmbus_tl_listen = bus_tl_listen,
    .vmbus_tl_result = bus_tl_result,
    .mem_reserve = mem_hot_reserve,
    .mem_plug = mem_hot_plug,
};
