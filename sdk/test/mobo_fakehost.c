/* SPDX-License-Identifier: MIT */
/* A host in memory for unit tests of vdevs; see mobo_fakehost.h. */
#include "sdk/test/mobo_fakehost.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/lib/access.h"
#include "sdk/lib/inspect.h"
#include "sdk/lib/param.h"
#include "sdk/lib/pciconf.h"
#include "sdk/lib/state.h"

enum { RAM_LEN = 16 << 20, CHARS = 4, MSI_LOG = 256, SYS_LOG = 32 };

struct mobo_region {
    struct mobo_region *next;
    struct mobo_vdev *dev;
    char name[32];
    int mmio, enabled;
    uint64_t base, len;
    uint32_t flags;
    struct mobo_io_ops ops;
    void *ctx;
};

struct mobo_ram {
    struct mobo_ram *next;
    struct mobo_vdev *dev;
    uint8_t *hva, *dirty; /* owned */
    uint64_t len, gpa;
    uint32_t flags;
    int mapped;
};

struct mobo_irq {
    struct mobo_irq *next;
    struct mobo_vdev *dev;
    uint32_t line, flags;
    int level;
};

struct sink {
    struct sink *next;
    struct mobo_vdev *dev;
    uint32_t first, count;
    void (*level)(void *ctx, uint32_t line, int level);
    void *ctx;
};

struct eoi {
    struct eoi *next;
    struct mobo_vdev *dev;
    void (*fn)(void *ctx, uint32_t vector);
    void *ctx;
};

struct mobo_pci {
    struct mobo_pci *next;
    struct mobo_vdev *dev;
    struct mobo_pciconf conf;
    struct mobo_pci_ops ops;
    void *ctx;
    uint32_t slot, fn, pin;
    int intx;
    struct mobo_region *bar[6];
    struct mobo_ram *bar_ram[6];
};

struct mobo_timer {
    struct mobo_timer *next;
    struct mobo_vdev *dev;
    void (*fired)(void *ctx, uint64_t now);
    void *ctx;
    uint64_t deadline; /* UINT64_MAX: not armed */
};

struct work {
    struct work *next;
    struct mobo_vdev *dev;
    void (*fn)(void *ctx);
    void *ctx;
};

struct mobo_watch {
    struct mobo_watch *next;
    struct mobo_vdev *dev;
    int fd;
    uint32_t events;
    void (*ready)(void *ctx, int fd, uint32_t events);
    void *ctx;
};

struct mobo_char {
    struct mobo_char_ops ops;
    void *ctx;
    uint8_t *in, *out; /* owned */
    uint32_t in_len, out_len, room;
    int open, pumping;
};

struct acpi {
    struct acpi *next;
    struct mobo_vdev *dev;
    struct mobo_acpi *desc; /* owned */
};

struct param {
    char *text; /* owned, NULL: not set */
    struct mobo_param_value val;
};

struct mobo_vdev {
    struct mobo_vdev *next;
    struct mobo_fake *f;
    char name[32];
    const struct mobo_vdev_descriptor *desc;
    struct mobo_vdev_ops ops;
    void *self;
    struct param *params; /* owned */
    struct mobo_char chr[CHARS];
    int a20; /* -1 no opinion */
};

struct mobo_fake {
    struct mobo_vdev *devs;
    struct mobo_region *regions;
    struct mobo_ram *rams;
    struct mobo_irq *irqs;
    struct sink *sinks;
    struct eoi *eois;
    struct mobo_pci *pci;
    struct mobo_timer *timers;
    struct work *work, **work_tail;
    struct mobo_watch *watches;
    struct acpi *acpi;
    struct mobo_board_info info;
    char error[256], error_read[256];
    unsigned logged[4];
    uint8_t *ram;
    int ext_level[MOBO_IRQ_LINES], level[MOBO_IRQ_LINES];
    unsigned edges[MOBO_IRQ_LINES];
    int32_t pirq[4];
    int routed, intr, (*intack)(void *ctx);
    void *intack_ctx;
    struct mobo_vdev *intack_dev;
    struct { uint64_t addr; uint32_t data; } msi[MSI_LOG];
    struct { uint32_t kind, code; } sys[SYS_LOG];
    unsigned nmsi, nsys, nmis;
    uint64_t now;
    int64_t wall;
    int paused;
    uint32_t trace;
};

__attribute__((noreturn, format(printf, 1, 2)))
static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "mobo_fakehost: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

static void *zalloc(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        die("out of memory");
    return p;
}

/* ---- messages and parameters ------------------------------------------------------------------- */

static int fake_fail(struct mobo_vdev *dev, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(dev->f->error, sizeof(dev->f->error), fmt, ap);
    va_end(ap);
    return err;
}

__attribute__((format(printf, 2, 3)))
static void set_error(struct mobo_fake *f, const char *fmt, ...)
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
        die("%s: log level %u", dev->name, level);
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

static struct param *find_param(struct mobo_vdev *dev, const char *key, uint32_t kinds)
{
    for (uint32_t i = 0; i < dev->desc->nparams; i++) {
        struct mobo_param p = mobo_param_at(dev->desc->params, i, dev->desc->param_size);

        if (!strcmp(p.name, key)) {
            if (!(kinds & 1u << p.kind))
                die("%s: parameter '%s' read as another kind", dev->name, key);
            return &dev->params[i];
        }
    }
    die("%s: parameter '%s' is not in the descriptor", dev->name, key);
}

static const char *fake_param_str(struct mobo_vdev *dev, const char *key)
{
    return find_param(dev, key, 1 << MOBO_STRING | 1 << MOBO_CHOICE | 1 << MOBO_PATH |
                                1 << MOBO_CHAR)->text;
}

static uint64_t fake_param_uint(struct mobo_vdev *dev, const char *key)
{
    return find_param(dev, key, 1 << MOBO_UINT | 1 << MOBO_SIZE)->val.num;
}

static int fake_param_bool(struct mobo_vdev *dev, const char *key)
{
    return (int)find_param(dev, key, 1 << MOBO_BOOL)->val.num;
}

static int fake_param_is_set(struct mobo_vdev *dev, const char *key)
{
    return find_param(dev, key, ~0u)->val.set;
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

/* ---- regions ----------------------------------------------------------------------------------- */

static int fits(int mmio, uint64_t base, uint64_t len)
{
    uint64_t top = mmio ? (uint64_t)1 << 52 : 0x10000;

    return len && len <= top && base <= top - len;
}

static int region_add(struct mobo_vdev *dev, int mmio, const char *name, uint64_t base,
                      uint64_t len, uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                      struct mobo_region **ret)
{
    struct mobo_region *r, **tail;

    if (!mobo_access_valid(ops) || !fits(mmio, base, len))
        return fake_fail(dev, -EINVAL, "%s: bad range 0x%" PRIx64 " length 0x%" PRIx64, name, base,
                         len);
    for (tail = &dev->f->regions; (r = *tail); tail = &r->next) {
        int exact = (r->flags & MOBO_REGION_EXACT) == (flags & MOBO_REGION_EXACT);

        if (exact && r->mmio == mmio && !(flags & MOBO_REGION_DISABLED) && r->enabled &&
            base < r->base + r->len && r->base < base + len)
            return fake_fail(dev, -EBUSY, "%s: 0x%" PRIx64 "-0x%" PRIx64 " is taken by '%s'", name,
                             base, base + len - 1, r->dev->name);
    }
    r = *tail = zalloc(sizeof(*r));
    r->dev = dev;
    snprintf(r->name, sizeof(r->name), "%s", name);
    r->mmio = mmio;
    r->enabled = !(flags & MOBO_REGION_DISABLED);
    r->base = base;
    r->len = len;
    r->flags = flags;
    r->ops = *ops;
    r->ctx = ctx;
    if (ret)
        *ret = r;
    return 0;
}

static int fake_pio_add(struct mobo_vdev *dev, const char *name, uint32_t base, uint32_t len,
                        uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                        mobo_region_t *ret)
{
    return region_add(dev, 0, name, base, len, flags, ops, ctx, ret);
}

static int fake_mmio_add(struct mobo_vdev *dev, const char *name, uint64_t base, uint64_t len,
                         uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                         mobo_region_t *ret)
{
    return region_add(dev, 1, name, base, len, flags, ops, ctx, ret);
}

static void fake_region_enable(mobo_region_t r, int enabled)
{
    r->enabled = enabled != 0;
}

static int fake_region_move(mobo_region_t r, uint64_t base)
{
    if (!fits(r->mmio, base, r->len))
        return -EINVAL;
    r->base = base;
    return 0;
}

static struct mobo_region *find_region(struct mobo_fake *f, int mmio, uint64_t addr, uint32_t len)
{
    struct mobo_region *r;

    for (r = f->regions; r; r = r->next)
        if (r->mmio == mmio && r->enabled && (r->flags & MOBO_REGION_EXACT) &&
            (r->ops.widths & len) && addr >= r->base && addr - r->base < r->len &&
            (addr - r->base) % len == 0)
            return r;
    for (r = f->regions; r; r = r->next)
        if (r->mmio == mmio && r->enabled && !(r->flags & MOBO_REGION_EXACT) && addr >= r->base &&
            addr - r->base < r->len)
            return r;
    return NULL;
}

static struct mobo_ram *find_ram(struct mobo_fake *f, uint64_t gpa)
{
    for (struct mobo_ram *m = f->rams; m; m = m->next)
        if (m->mapped && gpa >= m->gpa && gpa - m->gpa < m->len)
            return m;
    return NULL;
}

/* One access, cut where regions end. */
static uint64_t space_access(struct mobo_fake *f, int mmio, uint64_t addr, uint32_t len, int write,
                             uint64_t val)
{
    uint64_t ret = 0;

    for (uint32_t done = 0; done < len;) {
        struct mobo_region *r = find_region(f, mmio, addr + done, len - done);
        struct mobo_ram *m = mmio ? find_ram(f, addr + done) : NULL;
        uint32_t n = 1;
        uint64_t v = 0xff;

        if (r) {
            uint64_t off = addr + done - r->base;

            n = r->len - off < len - done ? (uint32_t)(r->len - off) : len - done;
            if (write)
                mobo_access_write(&r->ops, r->ctx, r->len, off, n, val >> (done * 8));
            else
                v = mobo_access_read(&r->ops, r->ctx, r->len, off, n);
        } else if (m) {
            uint64_t off = addr + done - m->gpa;

            if (write && !(m->flags & MOBO_RAM_READ_ONLY)) {
                m->hva[off] = (uint8_t)(val >> (done * 8));
                m->dirty[off / 4096] = 1;
            }
            v = m->hva[off];
        }
        ret |= v << (done * 8);
        done += n;
    }
    return ret & mobo_ones(len);
}

static void check_access(uint32_t len, int mmio)
{
    if (len != 1 && len != 2 && len != 4 && !(mmio && len == 8))
        die("an access of %u bytes", len);
}

uint32_t mobo_fake_in(struct mobo_fake *f, uint32_t port, uint32_t len)
{
    check_access(len, 0);
    return (uint32_t)space_access(f, 0, port, len, 0, 0);
}

void mobo_fake_out(struct mobo_fake *f, uint32_t port, uint32_t len, uint32_t val)
{
    check_access(len, 0);
    space_access(f, 0, port, len, 1, val);
}

uint64_t mobo_fake_mmio_read(struct mobo_fake *f, uint64_t gpa, uint32_t len)
{
    check_access(len, 1);
    return space_access(f, 1, gpa, len, 0, 0);
}

void mobo_fake_mmio_write(struct mobo_fake *f, uint64_t gpa, uint32_t len, uint64_t val)
{
    check_access(len, 1);
    space_access(f, 1, gpa, len, 1, val);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static uint8_t *ram_ptr(struct mobo_fake *f, uint64_t gpa, uint64_t len)
{
    return len <= RAM_LEN && gpa <= RAM_LEN - len ? f->ram + gpa : NULL;
}

static int fake_mem_read(struct mobo_vdev *dev, uint64_t gpa, void *buf, uint64_t len)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(buf, p, len);
    return 0;
}

static int fake_mem_write(struct mobo_vdev *dev, uint64_t gpa, const void *buf, uint64_t len)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(p, buf, len);
    return 0;
}

static int fake_mem_map(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write,
                        void **ret_hva)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    (void)write;
    if (!p)
        return -EFAULT;
    *ret_hva = p;
    return 0;
}

static void fake_mem_unmap(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void *hva)
{
    (void)write;
    if (hva != ram_ptr(dev->f, gpa, len))
        die("%s: mem_unmap of what was not mapped", dev->name);
}

static int fake_ram_add(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                        mobo_ram_t *ret, void **ret_hva)
{
    struct mobo_ram *m;

    if (!len || len % 4096 || len > 1u << 30)
        return fake_fail(dev, -EINVAL, "%s: length 0x%" PRIx64 " is not a page multiple", name,
                         len);
    m = zalloc(sizeof(*m));
    m->dev = dev;
    m->len = len;
    m->flags = flags;
    m->hva = zalloc(len);
    m->dirty = zalloc(len / 4096);
    m->next = dev->f->rams;
    dev->f->rams = m;
    *ret = m;
    *ret_hva = m->hva;
    return 0;
}

static int fake_ram_map(mobo_ram_t m, uint64_t gpa)
{
    if (gpa % 4096 || !fits(1, gpa, m->len))
        return -EINVAL;
    m->gpa = gpa;
    m->mapped = 1;
    return 0;
}

static void fake_ram_unmap(mobo_ram_t m)
{
    m->mapped = 0;
}

static int fake_ram_dirty(mobo_ram_t m, uint64_t off, uint64_t len, uint64_t *bitmap)
{
    if (!(m->flags & MOBO_RAM_DIRTY_LOG) || off % 4096 || len % 4096 || len > m->len ||
        off > m->len - len)
        return -EINVAL;
    memset(bitmap, 0, (len / 4096 + 63) / 64 * 8);
    for (uint64_t i = 0; i < len / 4096; i++) {
        bitmap[i / 64] |= (uint64_t)m->dirty[off / 4096 + i] << (i % 64);
        m->dirty[off / 4096 + i] = 0;
    }
    return 0;
}

/* ---- interrupts -------------------------------------------------------------------------------- */

static void line_update(struct mobo_fake *f, uint32_t line)
{
    int level = f->ext_level[line];

    for (struct mobo_irq *q = f->irqs; q; q = q->next)
        level |= q->line == line && q->level;
    for (struct mobo_pci *p = f->pci; p; p = p->next)
        if (p->intx && !(mobo_pciconf_command(&p->conf) & PCI_CMD_INTX_OFF)) {
            uint32_t pirq = (p->slot + p->pin + 2) & 3;
            int32_t to = f->routed ? f->pirq[pirq] : 16 + (int32_t)pirq;

            level |= to == (int32_t)line;
        }
    if (level == f->level[line])
        return;
    f->level[line] = level;
    f->edges[line] += level;
    for (struct sink *s = f->sinks; s; s = s->next)
        if (line >= s->first && line - s->first < s->count)
            s->level(s->ctx, line, level);
}

static void lines_update(struct mobo_fake *f)
{
    for (uint32_t i = 0; i < MOBO_IRQ_LINES; i++)
        line_update(f, i);
}

static int fake_irq_claim(struct mobo_vdev *dev, uint32_t line, uint32_t flags, mobo_irq_t *ret)
{
    struct mobo_irq *q;

    if (line >= MOBO_IRQ_LINES)
        return fake_fail(dev, -EINVAL, "irq: there is no line %u", line);
    for (q = dev->f->irqs; q; q = q->next)
        if (q->line == line && (q->flags != (MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED) ||
                                flags != (MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED)))
            return fake_fail(dev, -EBUSY, "irq: line %u is taken by '%s'", line, q->dev->name);
    q = zalloc(sizeof(*q));
    q->dev = dev;
    q->line = line;
    q->flags = flags;
    q->next = dev->f->irqs;
    dev->f->irqs = q;
    *ret = q;
    return 0;
}

static void fake_irq_set(mobo_irq_t q, int level)
{
    q->level = level != 0;
    line_update(q->dev->f, q->line);
}

static void fake_irq_pulse(mobo_irq_t q)
{
    fake_irq_set(q, 1);
    fake_irq_set(q, 0);
}

static int fake_irq_sink_add(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                             void (*level)(void *ctx, uint32_t line, int level), void *ctx)
{
    struct sink *s;

    if (!level || !count || first >= MOBO_IRQ_LINES || count > MOBO_IRQ_LINES - first)
        return -EINVAL;
    s = zalloc(sizeof(*s));
    s->dev = dev;
    s->first = first;
    s->count = count;
    s->level = level;
    s->ctx = ctx;
    s->next = dev->f->sinks;
    dev->f->sinks = s;
    return 0;
}

static int fake_intack_set(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx)
{
    if (dev->f->intack)
        return fake_fail(dev, -EBUSY, "another device acknowledges interrupts");
    dev->f->intack = intack;
    dev->f->intack_ctx = ctx;
    dev->f->intack_dev = dev;
    return 0;
}

static void fake_intr_set(struct mobo_vdev *dev, int level)
{
    dev->f->intr = level != 0;
}

static int fake_eoi_watch(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector),
                          void *ctx)
{
    struct eoi *e = zalloc(sizeof(*e));

    e->dev = dev;
    e->fn = eoi;
    e->ctx = ctx;
    e->next = dev->f->eois;
    dev->f->eois = e;
    return 0;
}

static int fake_msi_send(struct mobo_vdev *dev, uint64_t addr, uint32_t data)
{
    struct mobo_fake *f = dev->f;

    if (addr >> 20 != 0xfee)
        return -EINVAL;
    if (f->nmsi == MSI_LOG)
        die("more than %d interrupt messages not looked at", MSI_LOG);
    f->msi[f->nmsi].addr = addr;
    f->msi[f->nmsi++].data = data;
    return 1;
}

static void fake_nmi_pulse(struct mobo_vdev *dev)
{
    dev->f->nmis++;
}

static void fake_a20_set(struct mobo_vdev *dev, int open)
{
    dev->a20 = open != 0;
}

int mobo_fake_line(struct mobo_fake *f, uint32_t line)
{
    return f->level[line];
}

unsigned mobo_fake_edges(struct mobo_fake *f, uint32_t line)
{
    return f->edges[line];
}

void mobo_fake_drive(struct mobo_fake *f, uint32_t line, int level)
{
    f->ext_level[line] = level != 0;
    line_update(f, line);
}

int32_t mobo_fake_pirq(struct mobo_fake *f, uint32_t pirq)
{
    return f->routed ? f->pirq[pirq] : 16 + (int32_t)pirq;
}

int mobo_fake_intr(struct mobo_fake *f)
{
    return f->intr;
}

int mobo_fake_intack(struct mobo_fake *f)
{
    return f->intack ? f->intack(f->intack_ctx) : -1;
}

void mobo_fake_eoi(struct mobo_fake *f, uint32_t vector)
{
    for (struct eoi *e = f->eois; e; e = e->next)
        e->fn(e->ctx, vector);
}

int mobo_fake_msi(struct mobo_fake *f, uint64_t *ret_addr, uint32_t *ret_data)
{
    if (!f->nmsi)
        return 0;
    *ret_addr = f->msi[0].addr;
    *ret_data = f->msi[0].data;
    memmove(f->msi, f->msi + 1, --f->nmsi * sizeof(f->msi[0]));
    return 1;
}

unsigned mobo_fake_nmis(struct mobo_fake *f)
{
    return f->nmis;
}

int mobo_fake_a20(struct mobo_fake *f)
{
    int any = 0;

    for (struct mobo_vdev *d = f->devs; d; d = d->next) {
        if (d->a20 == 1)
            return 1;
        any |= d->a20 == 0;
    }
    return !any;
}

/* ---- PCI --------------------------------------------------------------------------------------- */

static struct mobo_pci *pci_at(struct mobo_fake *f, uint32_t slot, uint32_t fn)
{
    for (struct mobo_pci *p = f->pci; p; p = p->next)
        if (p->slot == slot && p->fn == fn)
            return p;
    return NULL;
}

/* Let BARs decode where configuration space says. */
static void pci_sync(struct mobo_pci *p)
{
    for (uint32_t n = 0; n < 6; n++) {
        uint64_t addr = 0;
        int on = mobo_pciconf_bar(&p->conf, n, &addr);

        if (p->bar[n]) {
            p->bar[n]->enabled = on;
            if (on)
                p->bar[n]->base = addr;
        }
        if (p->bar_ram[n]) {
            p->bar_ram[n]->mapped = on;
            p->bar_ram[n]->gpa = addr;
        }
    }
    lines_update(p->dev->f);
}

static int fake_pci_add(struct mobo_vdev *dev, const struct mobo_pci_info *info,
                        const struct mobo_pci_ops *ops, void *ctx, mobo_pci_t *ret)
{
    struct mobo_pci *p;
    uint32_t slot = (uint32_t)info->slot;

    if (info->size < sizeof(*info) || info->slot < MOBO_PCI_SLOT_AUTO || info->slot > 31)
        return -EINVAL;
    if (info->slot == MOBO_PCI_SLOT_AUTO)
        for (slot = 2; slot < 31 && pci_at(dev->f, slot, 0); slot++)
            ;
    if (pci_at(dev->f, slot, info->function))
        return fake_fail(dev, -EBUSY, "slot: %u.%u is taken by '%s'", slot, info->function,
                         pci_at(dev->f, slot, info->function)->dev->name);
    p = zalloc(sizeof(*p));
    if (mobo_pciconf_init(&p->conf, info)) {
        free(p);
        return fake_fail(dev, -EINVAL, "bad PCI header values");
    }
    if (ops)
        memcpy(&p->ops, ops, ops->size < sizeof(*ops) ? ops->size : sizeof(*ops));
    p->dev = dev;
    p->ctx = ctx;
    p->slot = slot;
    p->fn = info->function;
    p->pin = info->pin;
    p->next = dev->f->pci;
    dev->f->pci = p;
    *ret = p;
    return 0;
}

static int fake_pci_config_init(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t reset,
                                uint32_t writable, uint32_t w1c)
{
    return mobo_pciconf_define(&p->conf, off, len, reset, writable, w1c);
}

static uint32_t fake_pci_config_get(mobo_pci_t p, uint32_t off, uint32_t len)
{
    return mobo_pciconf_get(&p->conf, off, len);
}

static void fake_pci_config_set(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t val)
{
    mobo_pciconf_set(&p->conf, off, len, val);
}

static int fake_pci_bar_add(mobo_pci_t p, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                            const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret)
{
    char name[16];
    int err = mobo_pciconf_bar_add(&p->conf, n, kind, len);

    if (err)
        return fake_fail(p->dev, err, "BAR %u does not fit", n);
    snprintf(name, sizeof(name), "BAR %u", n);
    err = region_add(p->dev, (kind & 0xf) != MOBO_BAR_IO, name, 0, len,
                     flags | MOBO_REGION_DISABLED, ops, ctx, &p->bar[n]);
    if (!err && ret)
        *ret = p->bar[n];
    return err;
}

static int fake_pci_bar_ram(mobo_pci_t p, uint32_t n, uint32_t kind, mobo_ram_t ram)
{
    int err = mobo_pciconf_bar_add(&p->conf, n, kind, ram->len);

    if (!err)
        p->bar_ram[n] = ram;
    return err;
}

static int fake_pci_cap_add(mobo_pci_t p, uint32_t id, uint32_t len, uint32_t *ret_off)
{
    return mobo_pciconf_cap_add(&p->conf, id, len, ret_off);
}

static int fake_pci_msi_add(mobo_pci_t p, uint32_t vectors)
{
    return mobo_pciconf_msi_add(&p->conf, vectors);
}

static void fake_pci_irq_set(mobo_pci_t p, int level)
{
    p->intx = level && p->pin;
    mobo_pciconf_set(&p->conf, PCI_STATUS, 1,
                     (mobo_pciconf_get(&p->conf, PCI_STATUS, 1) & ~PCI_STATUS_INTX) |
                     (p->intx ? PCI_STATUS_INTX : 0));
    lines_update(p->dev->f);
}

static int fake_pci_msi_enabled(mobo_pci_t p)
{
    return mobo_pciconf_msi_enabled(&p->conf);
}

static int master(mobo_pci_t p)
{
    return mobo_pciconf_command(&p->conf) & PCI_CMD_MASTER;
}

static int fake_pci_msi_send(mobo_pci_t p, uint32_t n)
{
    uint64_t addr;
    uint32_t data;
    int err = master(p) ? mobo_pciconf_msi(&p->conf, n, &addr, &data) : -EACCES;

    if (!err)
        fake_msi_send(p->dev, addr, data);
    return err;
}

static int fake_pci_dma_read(mobo_pci_t p, uint64_t gpa, void *buf, uint64_t len)
{
    return master(p) ? fake_mem_read(p->dev, gpa, buf, len) : -EACCES;
}

static int fake_pci_dma_write(mobo_pci_t p, uint64_t gpa, const void *buf, uint64_t len)
{
    return master(p) ? fake_mem_write(p->dev, gpa, buf, len) : -EACCES;
}

static uint32_t conf_read(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                          uint32_t len)
{
    struct mobo_pci *p = pci_at(f, slot, fn);
    uint32_t val;

    if (!p || off + len > 256)
        return (uint32_t)mobo_ones(len);
    val = mobo_pciconf_get(&p->conf, off, len);
    return p->ops.config_read ? p->ops.config_read(p->ctx, off, len, val) : val;
}

static void conf_write(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off, uint32_t len,
                       uint32_t val)
{
    struct mobo_pci *p = pci_at(f, slot, fn);

    if (!p || off + len > 256)
        return;
    mobo_pciconf_write(&p->conf, off, len, val);
    pci_sync(p);
    if (p->ops.config_written)
        p->ops.config_written(p->ctx, off, len);
}

static uint32_t fake_pci_config_read(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn,
                                     uint32_t off, uint32_t len)
{
    return bus ? (uint32_t)mobo_ones(len) : conf_read(dev->f, devfn >> 3, devfn & 7, off, len);
}

static void fake_pci_config_write(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn,
                                  uint32_t off, uint32_t len, uint32_t val)
{
    if (!bus)
        conf_write(dev->f, devfn >> 3, devfn & 7, off, len, val);
}

static int fake_pci_pirq_route(struct mobo_vdev *dev, uint32_t pirq, int32_t line)
{
    struct mobo_fake *f = dev->f;

    if (pirq > 3 || line < -1 || line >= MOBO_IRQ_LINES)
        return -EINVAL;
    if (!f->routed)
        for (int i = 0; i < 4; i++)
            f->pirq[i] = -1;
    f->routed = 1;
    f->pirq[pirq] = line;
    lines_update(f);
    return 0;
}

uint32_t mobo_fake_pci_read(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                            uint32_t len)
{
    check_access(len, 0);
    return conf_read(f, slot, fn, off, len);
}

void mobo_fake_pci_write(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                         uint32_t len, uint32_t val)
{
    check_access(len, 0);
    conf_write(f, slot, fn, off, len, val);
}

int mobo_fake_intx(struct mobo_fake *f, uint32_t slot, uint32_t fn)
{
    struct mobo_pci *p = pci_at(f, slot, fn);

    if (!p)
        die("no PCI function at %u.%u", slot, fn);
    return p->intx;
}

/* ---- time, work, watches ------------------------------------------------------------------------ */

static uint64_t fake_clock_ns(struct mobo_vdev *dev)
{
    return dev->f->now;
}

static int64_t fake_wall_ns(struct mobo_vdev *dev)
{
    return dev->f->wall + (int64_t)dev->f->now;
}

static int fake_timer_create(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now),
                             void *ctx, mobo_timer_t *ret)
{
    struct mobo_timer *t = zalloc(sizeof(*t));

    t->dev = dev;
    t->fired = fired;
    t->ctx = ctx;
    t->deadline = UINT64_MAX;
    t->next = dev->f->timers;
    dev->f->timers = t;
    *ret = t;
    return 0;
}

static void fake_timer_set(mobo_timer_t t, uint64_t deadline)
{
    t->deadline = deadline;
}

static void fake_timer_cancel(mobo_timer_t t)
{
    t->deadline = UINT64_MAX;
}

static struct mobo_timer *next_timer(struct mobo_fake *f)
{
    struct mobo_timer *best = NULL;

    for (struct mobo_timer *t = f->timers; t; t = t->next)
        if (t->deadline != UINT64_MAX && (!best || t->deadline < best->deadline))
            best = t;
    return best;
}

uint64_t mobo_fake_next_timer(struct mobo_fake *f)
{
    struct mobo_timer *t = next_timer(f);

    return t ? t->deadline : UINT64_MAX;
}

static int fake_work_post(struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx)
{
    struct work *w = zalloc(sizeof(*w));

    w->dev = dev;
    w->fn = fn;
    w->ctx = ctx;
    *dev->f->work_tail = w;
    dev->f->work_tail = &w->next;
    return 0;
}

static int fake_fd_watch(struct mobo_vdev *dev, int fd, uint32_t events,
                         void (*ready)(void *ctx, int fd, uint32_t events), void *ctx,
                         mobo_watch_t *ret)
{
    struct mobo_watch *w = zalloc(sizeof(*w));

    w->dev = dev;
    w->fd = fd;
    w->events = events;
    w->ready = ready;
    w->ctx = ctx;
    w->next = dev->f->watches;
    dev->f->watches = w;
    *ret = w;
    return 0;
}

static void fake_fd_watch_set(mobo_watch_t w, uint32_t events)
{
    w->events = events;
}

static void fake_fd_unwatch(mobo_watch_t w)
{
    w->events = 0;
    w->fd = -1;
}

void mobo_fake_work(struct mobo_fake *f)
{
    struct work *w;

    if (f->paused)
        return;
    while ((w = f->work)) {
        f->work = w->next;
        if (!f->work)
            f->work_tail = &f->work;
        w->fn(w->ctx);
        free(w);
    }
    for (struct mobo_watch *x = f->watches; x; x = x->next) {
        struct pollfd p = { x->fd, 0, 0 };
        uint32_t ev = 0;

        if (x->fd < 0 || !x->events)
            continue;
        p.events = (short)((x->events & MOBO_WATCH_READ ? POLLIN : 0) |
                           (x->events & MOBO_WATCH_WRITE ? POLLOUT : 0));
        if (poll(&p, 1, 0) <= 0)
            continue;
        if (p.revents & (POLLIN | POLLHUP | POLLERR))
            ev |= MOBO_WATCH_READ;
        if (p.revents & POLLOUT)
            ev |= MOBO_WATCH_WRITE;
        if (ev & x->events)
            x->ready(x->ctx, x->fd, ev & x->events);
    }
}

uint64_t mobo_fake_now(struct mobo_fake *f)
{
    return f->now;
}

void mobo_fake_step(struct mobo_fake *f, uint64_t ns)
{
    uint64_t end = f->now + ns;
    struct mobo_timer *t;

    if (f->paused)
        die("time cannot pass while paused");
    mobo_fake_work(f);
    while ((t = next_timer(f)) && t->deadline <= end) {
        if (t->deadline > f->now)
            f->now = t->deadline;
        t->deadline = UINT64_MAX;
        t->fired(t->ctx, f->now);
    }
    f->now = end;
}

void mobo_fake_wall(struct mobo_fake *f, int64_t ns)
{
    f->wall = ns;
}

/* ---- character backends -------------------------------------------------------------------------- */

static struct mobo_char *chr_at(struct mobo_vdev *dev, unsigned n)
{
    if (n >= CHARS || !dev->chr[n].open)
        die("%s has no character backend %u", dev->name, n);
    return &dev->chr[n];
}

static int fake_char_open(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops,
                          void *ctx, mobo_char_t *ret)
{
    unsigned n = 0;

    find_param(dev, key, 1 << MOBO_CHAR);
    while (n < CHARS && dev->chr[n].open)
        n++;
    if (n == CHARS || ops->size < sizeof(*ops) || !ops->can_read || !ops->read)
        return -EINVAL;
    dev->chr[n].ops = *ops;
    dev->chr[n].ctx = ctx;
    dev->chr[n].open = 1;
    dev->chr[n].room = UINT32_MAX;
    *ret = &dev->chr[n];
    return 0;
}

static uint32_t fake_char_write(mobo_char_t c, const uint8_t *buf, uint32_t len)
{
    uint32_t n = len < c->room ? len : c->room;

    c->out = realloc(c->out, c->out_len + n + 1);
    if (!c->out)
        die("out of memory");
    memcpy(c->out + c->out_len, buf, n);
    c->out_len += n;
    if (c->room != UINT32_MAX)
        c->room -= n;
    return n;
}

static void char_pump(struct mobo_char *c)
{
    if (c->pumping)
        return;
    c->pumping = 1;
    while (c->in_len) {
        uint32_t n = c->ops.can_read(c->ctx);

        if (!n)
            break;
        if (n > c->in_len)
            n = c->in_len;
        /* a copy, so that overruns show in sanitizer builds */
        uint8_t *buf = zalloc(n);

        memcpy(buf, c->in, n);
        memmove(c->in, c->in + n, c->in_len - n);
        c->in_len -= n;
        c->ops.read(c->ctx, buf, n);
        free(buf);
    }
    c->pumping = 0;
}

static void fake_char_ready(mobo_char_t c)
{
    char_pump(c);
}

uint32_t mobo_fake_char_send(struct mobo_vdev *dev, unsigned n, const void *buf, uint32_t len)
{
    struct mobo_char *c = chr_at(dev, n);

    c->in = realloc(c->in, c->in_len + len + 1);
    if (!c->in)
        die("out of memory");
    memcpy(c->in + c->in_len, buf, len);
    c->in_len += len;
    char_pump(c);
    return c->in_len;
}

uint32_t mobo_fake_char_recv(struct mobo_vdev *dev, unsigned n, void *buf, uint32_t max)
{
    struct mobo_char *c = chr_at(dev, n);
    uint32_t len = c->out_len < max ? c->out_len : max;

    if (!len)
        return 0;
    memcpy(buf, c->out, len);
    memmove(c->out, c->out + len, c->out_len - len);
    c->out_len -= len;
    return len;
}

void mobo_fake_char_event(struct mobo_vdev *dev, unsigned n, uint32_t event)
{
    struct mobo_char *c = chr_at(dev, n);

    if (c->ops.event)
        c->ops.event(c->ctx, event);
}

void mobo_fake_char_room(struct mobo_vdev *dev, unsigned n, uint32_t room)
{
    struct mobo_char *c = chr_at(dev, n);
    int was = c->room == 0;

    c->room = room;
    if (was && room)
        mobo_fake_char_event(dev, n, MOBO_CHAR_WRITABLE);
}

/* ---- system and ACPI ----------------------------------------------------------------------------- */

static void fake_system_request(struct mobo_vdev *dev, uint32_t kind, uint32_t code,
                                const char *text)
{
    struct mobo_fake *f = dev->f;

    (void)text;
    if (f->nsys == SYS_LOG)
        return;
    f->sys[f->nsys].kind = kind;
    f->sys[f->nsys++].code = code;
}

uint32_t mobo_fake_system(struct mobo_fake *f, uint32_t *ret_code)
{
    uint32_t kind;

    if (!f->nsys)
        return 0;
    kind = f->sys[0].kind;
    if (ret_code)
        *ret_code = f->sys[0].code;
    memmove(f->sys, f->sys + 1, --f->nsys * sizeof(f->sys[0]));
    return kind;
}

static int fake_acpi_add(struct mobo_vdev *dev, const struct mobo_acpi *desc)
{
    struct acpi *a, **tail;

    if (desc->size < sizeof(*desc) || desc->size > 4096)
        return -EINVAL;
    for (tail = &dev->f->acpi; *tail; tail = &(*tail)->next)
        ;
    a = *tail = zalloc(sizeof(*a));
    a->dev = dev;
    a->desc = zalloc(desc->size);
    memcpy(a->desc, desc, desc->size);
    return 0;
}

const struct mobo_acpi *mobo_fake_acpi(struct mobo_fake *f, uint32_t kind, unsigned n)
{
    for (struct acpi *a = f->acpi; a; a = a->next)
        if (a->desc->kind == kind && n-- == 0)
            return a->desc;
    return NULL;
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
};

const struct mobo_host *mobo_fake_host(struct mobo_fake *f)
{
    (void)f;
    return &fake_host;
}

/* ---- the board ----------------------------------------------------------------------------------- */

struct mobo_fake *mobo_fake_create(void)
{
    struct mobo_fake *f = zalloc(sizeof(*f));

    f->ram = zalloc(RAM_LEN);
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

#define FREE_LIST(type, head) \
    for (type *it_ = (head), *nx_; it_; it_ = nx_) { \
        nx_ = it_->next; \
        free(it_); \
    }

static void free_dev(struct mobo_vdev *d)
{
    for (uint32_t i = 0; i < d->desc->nparams; i++)
        free(d->params[i].text);
    for (int i = 0; i < CHARS; i++) {
        free(d->chr[i].in);
        free(d->chr[i].out);
    }
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
    free(f->ram);
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
            die("'%s' is not key=value", *s);
        for (i = 0; i < d->nparams; i++) {
            struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

            if (strlen(p.name) != (size_t)(eq - *s) || strncmp(p.name, *s, (size_t)(eq - *s)))
                continue;
            if (mobo_param_parse(&p, eq + 1, &dev->params[i].val, msg, sizeof(msg))) {
                set_error(dev->f, "%s: '%s' %s", p.name, eq + 1, msg);
                return -1;
            }
            free(dev->params[i].text);
            dev->params[i].text = strdup(eq + 1);
            break;
        }
        if (i == d->nparams) {
            set_error(dev->f, "unknown key '%.*s'", (int)(eq - *s), *s);
            return -1;
        }
    }
    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param p = mobo_param_at(d->params, i, d->param_size);

        if (dev->params[i].val.set)
            continue;
        if (p.def) {
            if (mobo_param_parse(&p, p.def, &dev->params[i].val, msg, sizeof(msg)))
                die("%s: default of '%s' %s", d->type, p.name, msg);
            dev->params[i].text = strdup(p.def);
        } else if (p.flags & MOBO_PARAM_REQUIRED) {
            set_error(dev->f, "key '%s' is missing", p.name);
            return -1;
        }
    }
    return 0;
}

/* Everything in a list that belongs to @dev goes. */
#define DROP_LIST(type, head, owner, release) \
    for (type **at_ = &(head), *it_; (it_ = *at_);) { \
        if (it_->owner != dev) { \
            at_ = &it_->next; \
            continue; \
        } \
        *at_ = it_->next; \
        release(it_); \
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
        die("descriptor of '%s' has a wrong magic, version or size", name);
    if (!desc->type || !desc->vendor || !desc->version || !desc->licence || !desc->summary)
        die("descriptor of '%s' lacks a text", name);
    if (desc->ops->size < sizeof(*desc->ops) || !desc->ops->create || !desc->ops->destroy ||
        !desc->ops->reset || !desc->ops->save || !desc->ops->restore)
        die("'%s' lacks a required operation", desc->type);
    for (uint32_t i = 0; i < desc->nparams; i++) {
        struct mobo_param p = mobo_param_at(desc->params, i, desc->param_size);

        if (!p.name || !p.help || p.kind < MOBO_STRING || p.kind > MOBO_CHAR)
            die("parameter %u of '%s' is incomplete", i, desc->type);
    }
    dev = zalloc(sizeof(*dev));
    dev->f = f;
    dev->desc = desc;
    dev->ops = *desc->ops;
    dev->a20 = -1;
    snprintf(dev->name, sizeof(dev->name), "%s", name);
    dev->params = zalloc((desc->nparams + 1) * sizeof(*dev->params));
    f->error[0] = 0;
    if (set_params(dev, params)) {
        free_dev(dev);
        return NULL;
    }
    if (dev->ops.create(dev, &fake_host, &dev->self)) {
        if (!f->error[0])
            set_error(f, "create failed without a message");
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
        pci_sync(p);
    }
    lines_update(f);
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
}

void mobo_fake_event(struct mobo_fake *f, uint32_t kind)
{
    struct mobo_event ev = { sizeof(ev), kind };

    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        if (d->ops.event)
            d->ops.event(d->self, &ev);
}

uint8_t *mobo_fake_ram(struct mobo_fake *f)
{
    return f->ram;
}

/* ---- state ---------------------------------------------------------------------------------------- */

int mobo_fake_save(struct mobo_vdev *dev, void **ret_buf, size_t *ret_len)
{
    struct mobo_writer w;
    int err;

    mobo_writer_init(&w);
    err = dev->ops.save(dev->self, &w);
    if (!err)
        err = w.err;
    if (!err && w.depth)
        die("%s: save left %u groups open", dev->name, w.depth);
    if (err) {
        mobo_writer_fini(&w);
        return err;
    }
    /* exactly as long as it is, so that reading past the end shows */
    *ret_buf = zalloc(w.len ? w.len : 1);
    if (w.len)
        memcpy(*ret_buf, w.buf, w.len);
    *ret_len = w.len;
    mobo_writer_fini(&w);
    return 0;
}

static void restore_fail(void *ctx, const char *msg)
{
    struct mobo_vdev *dev = ctx;

    set_error(dev->f, "%s", msg);
}

int mobo_fake_restore(struct mobo_vdev *dev, const void *buf, size_t len)
{
    struct mobo_reader *r = zalloc(sizeof(*r));
    int err;

    r->fail = restore_fail;
    r->ctx = dev;
    err = mobo_reader_init(r, buf, len);
    if (!err)
        err = dev->ops.restore(dev->self, r);
    if (!err && r->depth)
        die("%s: restore left groups open", dev->name);
    if (!err)
        err = mobo_load_done(r);
    free(r);
    return err;
}

int mobo_fake_roundtrip(struct mobo_vdev *dev)
{
    struct mobo_fake *f = dev->f;
    void *a = NULL, *b = NULL, *part;
    size_t la = 0, lb = 0;
    int ret = -1, err;

    if (mobo_fake_save(dev, &a, &la))
        return -1;
    for (size_t cut = 0; cut < la; cut++) {
        part = zalloc(cut ? cut : 1);
        memcpy(part, a, cut);
        err = mobo_fake_restore(dev, part, cut);
        free(part);
        if (!err) {
            set_error(f, "state cut from %zu to %zu bytes was accepted", la, cut);
            goto out;
        }
        if (!f->error[0]) {
            set_error(f, "state cut to %zu bytes was refused without a message", cut);
            goto out;
        }
        f->error[0] = 0;
    }
    if (mobo_fake_save(dev, &b, &lb))
        goto out;
    if (la != lb || memcmp(a, b, la)) {
        set_error(f, "refused states changed the device");
        goto out;
    }
    free(b);
    b = NULL;
    dev->ops.reset(dev->self);
    if (mobo_fake_restore(dev, a, la) || mobo_fake_save(dev, &b, &lb))
        goto out;
    if (la != lb || memcmp(a, b, la)) {
        size_t i = 0;

        while (i < la && i < lb && ((uint8_t *)a)[i] == ((uint8_t *)b)[i])
            i++;
        set_error(f, "state differs after a round trip, first at byte %zu of %zu", i, la);
        goto out;
    }
    ret = 0;
out:
    free(a);
    free(b);
    return ret;
}

void mobo_fake_monkey(struct mobo_fake *f, uint32_t seed, unsigned accesses)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    unsigned nregions = 0;

    for (struct mobo_region *r = f->regions; r; r = r->next)
        nregions++;
    while (nregions && accesses--) {
        struct mobo_region *r = f->regions;
        uint32_t len, off;
        uint64_t val;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        for (unsigned i = (unsigned)(x >> 8) % nregions; i; i--)
            r = r->next;
        len = 1u << ((x >> 24) & 3);
        if (!r->mmio && len == 8)
            len = 4;
        off = (uint32_t)((x >> 32) % (r->len < 4096 || (x & 1) ? r->len : 4096));
        val = x * 0x2545f4914f6cdd1du;
        if (x & 2)
            val &= 0xff;
        space_access(f, r->mmio, r->base + off, len, (x >> 28) & 1, val);
        if ((x >> 29 & 15) == 0 && !f->paused)
            mobo_fake_step(f, val % 1000000);
        f->nmsi = 0;
        f->nsys = 0;
        for (struct mobo_vdev *d = f->devs; d; d = d->next)
            for (int i = 0; i < CHARS; i++)
                d->chr[i].out_len = 0;
    }
}

/* ---- inspection ----------------------------------------------------------------------------------- */

struct text {
    char *buf;
    size_t len;
    FILE *fp;
    int depth;
};

static void t_begin(void *ctx, const char *name)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s:\n", t->depth++ * 2, "", name);
}

static void t_end(void *ctx)
{
    ((struct text *)ctx)->depth--;
}

static void t_uint(void *ctx, const char *name, uint64_t val, unsigned width)
{
    struct text *t = ctx;

    (void)width;
    fprintf(t->fp, "%*s%s: 0x%" PRIx64 "\n", t->depth * 2, "", name, val);
}

static void t_str(void *ctx, const char *name, const char *text)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s: %s\n", t->depth * 2, "", name, text);
}

static void t_array(void *ctx, const char *name, const void *buf, unsigned elem, unsigned count)
{
    struct text *t = ctx;

    fprintf(t->fp, "%*s%s:", t->depth * 2, "", name);
    for (unsigned i = 0; i < count; i++) {
        uint64_t v = 0;

        memcpy(&v, (const char *)buf + (size_t)i * elem, elem);
        fprintf(t->fp, " %0*" PRIx64, (int)elem * 2, v);
    }
    fputc('\n', t->fp);
}

char *mobo_fake_inspect(struct mobo_vdev *dev)
{
    struct text t = { NULL, 0, NULL, 0 };
    struct mobo_inspect out = { &t, t_begin, t_end, t_uint, t_str, t_array };

    t.fp = open_memstream(&t.buf, &t.len);
    if (!t.fp)
        die("out of memory");
    if (dev->ops.inspect)
        dev->ops.inspect(dev->self, &out);
    fclose(t.fp);
    return t.buf;
}
