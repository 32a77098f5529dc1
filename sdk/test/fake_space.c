/* SPDX-License-Identifier: MIT */
/* Ports, MMIO and memory of the fake host. */
#include "sdk/test/fake_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- regions ----------------------------------------------------------------------------------- */

static int fits(int mmio, uint64_t base, uint64_t len)
{
    uint64_t top = mmio ? (uint64_t)1 << 52 : 0x10000;

    return len && len <= top && base <= top - len;
}

int fake_region_add(struct mobo_vdev *dev, int mmio, const char *name, uint64_t base, uint64_t len,
                    uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
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
    r = *tail = fake_zalloc(sizeof(*r));
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

int fake_pio_add(struct mobo_vdev *dev, const char *name, uint32_t base, uint32_t len,
                 uint32_t flags, const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret)
{
    return fake_region_add(dev, 0, name, base, len, flags, ops, ctx, ret);
}

int fake_mmio_add(struct mobo_vdev *dev, const char *name, uint64_t base, uint64_t len,
                  uint32_t flags, const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret)
{
    return fake_region_add(dev, 1, name, base, len, flags, ops, ctx, ret);
}

void fake_region_enable(mobo_region_t r, int enabled)
{
    r->enabled = enabled != 0;
}

int fake_region_move(mobo_region_t r, uint64_t base)
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
uint64_t fake_space_access(struct mobo_fake *f, int mmio, uint64_t addr, uint32_t len, int write,
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

void fake_check_access(uint32_t len, int mmio)
{
    if (len != 1 && len != 2 && len != 4 && !(mmio && len == 8))
        fake_die("an access of %u bytes", len);
}

uint32_t mobo_fake_in(struct mobo_fake *f, uint32_t port, uint32_t len)
{
    fake_check_access(len, 0);
    return (uint32_t)fake_space_access(f, 0, port, len, 0, 0);
}

void mobo_fake_out(struct mobo_fake *f, uint32_t port, uint32_t len, uint32_t val)
{
    fake_check_access(len, 0);
    fake_space_access(f, 0, port, len, 1, val);
}

uint64_t mobo_fake_mmio_read(struct mobo_fake *f, uint64_t gpa, uint32_t len)
{
    fake_check_access(len, 1);
    return fake_space_access(f, 1, gpa, len, 0, 0);
}

void mobo_fake_mmio_write(struct mobo_fake *f, uint64_t gpa, uint32_t len, uint64_t val)
{
    fake_check_access(len, 1);
    fake_space_access(f, 1, gpa, len, 1, val);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static uint8_t *ram_ptr(struct mobo_fake *f, uint64_t gpa, uint64_t len)
{
    return len <= RAM_LEN && gpa <= RAM_LEN - len ? f->ram + gpa : NULL;
}

int fake_mem_read(struct mobo_vdev *dev, uint64_t gpa, void *buf, uint64_t len)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(buf, p, len);
    return 0;
}

int fake_mem_write(struct mobo_vdev *dev, uint64_t gpa, const void *buf, uint64_t len)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    if (!p)
        return -EFAULT;
    memcpy(p, buf, len);
    return 0;
}

int fake_mem_map(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void **ret_hva)
{
    uint8_t *p = ram_ptr(dev->f, gpa, len);

    (void)write;
    if (!p)
        return -EFAULT;
    *ret_hva = p;
    return 0;
}

void fake_mem_unmap(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void *hva)
{
    (void)write;
    if (hva != ram_ptr(dev->f, gpa, len))
        fake_die("%s: mem_unmap of what was not mapped", dev->name);
}

int fake_ram_add(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                 mobo_ram_t *ret, void **ret_hva)
{
    struct mobo_ram *m;

    if (!len || len % 4096 || len > 1u << 30)
        return fake_fail(dev, -EINVAL, "%s: length 0x%" PRIx64 " is not a page multiple", name,
                         len);
    m = fake_zalloc(sizeof(*m));
    m->dev = dev;
    m->len = len;
    m->flags = flags;
    m->hva = fake_zalloc(len);
    m->dirty = fake_zalloc(len / 4096);
    m->next = dev->f->rams;
    dev->f->rams = m;
    *ret = m;
    *ret_hva = m->hva;
    return 0;
}

int fake_ram_map(mobo_ram_t m, uint64_t gpa)
{
    if (gpa % 4096 || !fits(1, gpa, m->len))
        return -EINVAL;
    m->gpa = gpa;
    m->mapped = 1;
    return 0;
}

void fake_ram_unmap(mobo_ram_t m)
{
    m->mapped = 0;
}

int fake_ram_dirty(mobo_ram_t m, uint64_t off, uint64_t len, uint64_t *bitmap)
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
