/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory: where RAM is, and memory of the devices' own.
 *
 *   0          - 0x9ffff      RAM
 *   0xa0000    - 0xbffff      nobody, unless a display claims it
 *   0xc0000    - 0xfffff      RAM, unless a ROM or a device claims pages; the ACPI tables at 0xe0000
 *   0x100000   - low          RAM, low <= 3 GiB
 *   3 GiB      - 4 GiB        PCI and platform
 *   4 GiB      -              the rest of RAM
 *   then       -              from the next 128 MiB on, what is added while the machine runs */
#include "vmb/board.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HOT_UNIT = 128 << 20 }; /* Linux adds memory in blocks of this size */

/* Make the board's RAM visible in [gpa, end) wherever there is some. */
static int map_ram(struct vmb *v, uint64_t gpa, uint64_t end)
{
    const struct {
        uint64_t start, end, off;
    } parts[] = {
        { 0, 0xa0000, v->ram_low_off },
        { 0xc0000, v->ram_low, v->ram_low_off + 0xc0000 },
        { VMB_4G, VMB_4G + v->ram_high, v->ram_high_off },
        { v->ram_hot.gpa, v->ram_hot.gpa + v->ram_hot.len, v->ram_hot.off },
    };
    int err = 0;

    for (unsigned i = 0; i < COUNT(parts) && !err; i++) {
        uint64_t s = gpa > parts[i].start ? gpa : parts[i].start;
        uint64_t e = end < parts[i].end ? end : parts[i].end;

        if (s < e)
            err = hv_gpa_map(v->part, s, e - s, parts[i].off + (s - parts[i].start), HV_MAP_RWX);
    }
    return err;
}

int mem_init(struct vmb *v, char *msg, size_t len)
{
    int err = hv_ram_alloc(v->part, v->ram_low, &v->ram_low_off);

    if (!err && v->ram_high)
        err = hv_ram_alloc(v->part, v->ram_high, &v->ram_high_off);
    if (!err)
        err = map_ram(v, 0, UINT64_MAX);
    if (err)
        snprintf(msg, len, "%" PRIu64 " MiB of guest memory: %s", (v->ram_low + v->ram_high) >> 20,
                 hv_last_error());
    return err;
}

void mem_isa_hole(struct vmb *v, uint64_t gpa, uint64_t len, bool to_mmio)
{
    if (to_mmio)
        hv_gpa_unmap(v->part, gpa, len);
    else
        map_ram(v, gpa, gpa + len);
}

int mem_ram_add(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                struct mobo_ram **ret, void **ret_hva)
{
    struct vmb *v = dev->board;
    struct mobo_ram *m;

    if (vdev_creating(dev, "ram_add"))
        return -EPERM;
    if (!name || !len || len % HV_PAGE_SIZE || len > 1ull << 30)
        return vdev_fail(dev, -EINVAL, "%s: 0x%" PRIx64 " is not a length for device memory",
                         name ? name : "memory", len);
    m = calloc(1, sizeof(*m));
    if (!m)
        return vdev_fail(dev, -ENOMEM, "%s: no memory", name);
    if (hv_ram_alloc(v->part, len, &m->offset) || !(m->hva = hv_ram_hva(v->part, m->offset, len))) {
        free(m);
        return vdev_fail(dev, -ENOMEM, "%s: no memory for 0x%" PRIx64 " bytes", name, len);
    }
    m->dev = dev;
    m->len = len;
    m->flags = flags;
    snprintf(m->name, sizeof(m->name), "%s", name);
    m->next = v->rams;
    v->rams = m;
    *ret = m;
    *ret_hva = m->hva;
    return 0;
}

void mem_ram_unmap(struct mobo_ram *m)
{
    struct vmb *v = m->dev->board;

    if (!m->mapped)
        return;
    m->mapped = false;
    hv_gpa_unmap(v->part, m->gpa, m->len);
    map_ram(v, m->gpa, m->gpa + m->len);
}

int mem_ram_map(struct mobo_ram *m, uint64_t gpa)
{
    struct vmb *v = m->dev->board;
    unsigned flags = m->flags & MOBO_RAM_READ_ONLY ? HV_MAP_READ | HV_MAP_EXEC : HV_MAP_RWX;

    if (gpa % HV_PAGE_SIZE || gpa > ((uint64_t)1 << 52) - m->len)
        return -EINVAL;
    if (m->mapped && m->gpa == gpa)
        return 0;
    mem_ram_unmap(m);
    /* a guest that moves a BAR over RAM does not get to replace RAM */
    if ((gpa < v->ram_low && gpa + m->len > 0x100000) || gpa < 0xa0000 ||
        (gpa < VMB_4G + v->ram_high && gpa + m->len > VMB_4G) ||
        (gpa < v->ram_hot.gpa + v->ram_hot.max && gpa + m->len > v->ram_hot.gpa))
        return -EINVAL;
    if (m->flags & MOBO_RAM_DIRTY_LOG)
        flags |= HV_MAP_DIRTY_LOG;
    if (hv_gpa_map(v->part, gpa, m->len, m->offset, flags))
        return -EINVAL;
    m->gpa = gpa;
    m->mapped = true;
    return 0;
}

int mem_ram_dirty(struct mobo_ram *m, uint64_t off, uint64_t len, uint64_t *bitmap)
{
    if (!(m->flags & MOBO_RAM_DIRTY_LOG) || off % HV_PAGE_SIZE || len % HV_PAGE_SIZE ||
        len > m->len || off > m->len - len)
        return -EINVAL;
    if (!m->mapped) {
        memset(bitmap, 0, (len / HV_PAGE_SIZE + 63) / 64 * 8);
        return 0;
    }
    return hv_gpa_dirty_log(m->dev->board->part, m->gpa + off, len, bitmap);
}

int mem_hot_reserve(struct mobo_vdev *dev, uint64_t len, uint64_t *ret_gpa)
{
    struct vmb *v = dev->board;

    if (vdev_creating(dev, "mem_reserve"))
        return -EPERM;
    if (v->ram_hot.dev)
        return vdev_fail(dev, -EBUSY, "[vdev %s] adds memory already", v->ram_hot.dev->name);
    if (!len || len % HOT_UNIT || len >> 44)
        return vdev_fail(dev, -EINVAL, "0x%" PRIx64 " is not a length for memory that is added", len);
    if (hv_ram_alloc(v->part, len, &v->ram_hot.off))
        return vdev_fail(dev, -ENOMEM, "%" PRIu64 " MiB of memory to be added: %s", len >> 20, hv_last_error());
    v->ram_hot.dev = dev;
    v->ram_hot.max = len;
    v->ram_hot.gpa = (VMB_4G + v->ram_high + HOT_UNIT - 1) / HOT_UNIT * HOT_UNIT;
    *ret_gpa = v->ram_hot.gpa;
    return 0;
}

int mem_hot_plug(struct mobo_vdev *dev, uint64_t len)
{
    struct vmb *v = dev->board;
    uint64_t was = v->ram_hot.len;
    int err;

    if (v->ram_hot.dev != dev || len > v->ram_hot.max || len % HV_PAGE_SIZE)
        return -EINVAL;
    if (len > was) {
        v->ram_hot.len = len;
        err = map_ram(v, v->ram_hot.gpa + was, v->ram_hot.gpa + len);
        if (err)
            v->ram_hot.len = was;
        else
            hv_gpa_dirty(v->part, v->ram_hot.gpa + was, len - was); /* engines may know the pages from when they were there before */
        return err ? -ENOMEM : 0;
    }
    if (len < was) {
        void *hva = hv_ram_hva(v->part, v->ram_hot.off + len, was - len);

        hv_gpa_unmap(v->part, v->ram_hot.gpa + len, was - len);
        v->ram_hot.len = len;
        if (hva && madvise(hva, was - len, MADV_REMOVE))
            memset(hva, 0, was - len);
    }
    return 0;
}

unsigned vmb_ram_map(struct vmb *v, struct vmb_ram_range *ret, unsigned max)
{
    const struct vmb_ram_range all[] = {
        { 0, 0x9fc00, VMB_RAM_USABLE },
        { 0x9fc00, 0x400, VMB_RAM_RESERVED },   /* where firmware has its extended data area */
        { 0xe0000, 0x20000, VMB_RAM_RESERVED }, /* firmware and ACPI tables */
        { 0x100000, v->ram_low - 0x100000, VMB_RAM_USABLE },
        { VMB_4G, v->ram_high, VMB_RAM_USABLE },
    };
    unsigned n = 0;

    for (unsigned i = 0; i < COUNT(all); i++)
        if (all[i].len) {
            if (n < max)
                ret[n] = all[i];
            n++;
        }
    return n;
}

unsigned vmb_ram_blocks(struct vmb *v, struct vmb_ram_block *ret, unsigned max)
{
    /* what is not plugged is zero, and takes no room in a file */
    const uint64_t all[][2] = {
        { v->ram_low_off, v->ram_low }, { v->ram_high_off, v->ram_high }, { v->ram_hot.off, v->ram_hot.max } };
    unsigned n = 0;

    for (unsigned i = 0; i < COUNT(all); i++)
        if (all[i][1]) {
            if (n < max)
                ret[n] = (struct vmb_ram_block){ all[i][0], all[i][1], hv_ram_hva(v->part, all[i][0], all[i][1]) };
            n++;
        }
    return n;
}

uint64_t vmb_ram_below_4g(const struct vmb *v)
{
    return v->ram_low;
}

uint64_t vmb_ram_above_4g(const struct vmb *v)
{
    return v->ram_high;
}
