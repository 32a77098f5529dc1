/* SPDX-License-Identifier: BSD-2-Clause */
/* A port that ends the VM: a guest's write of V makes the VM's exit status (V << 1) | 1, so 0 is
 * never one of them and test guests can report.  The convention is that of other VMMs' devices of
 * this kind; there is no data sheet. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <mobo/vdev.h>

struct debug_exit {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
};

static uint64_t dx_read(void *self, uint64_t off, uint32_t len)
{
    (void)self;
    (void)off;
    (void)len;
    return 0;
}

static void dx_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct debug_exit *d = self;
    char text[64];

    (void)off;
    (void)len;
    snprintf(text, sizeof(text), "guest wrote 0x%llx", (unsigned long long)val);
    d->host->system_request(d->dev, MOBO_SYS_EXIT, ((uint32_t)val << 1 | 1) & 0xff, text);
}

static void dx_reset(void *self)
{
    (void)self;
}

/* The device has no state. */
static int dx_save(void *self, struct mobo_writer *out)
{
    uint8_t version = 1;
    struct debug_exit *d = self;

    return d->host->save_bytes(out, 1, 0, &version, sizeof(version));
}

static int dx_restore(void *self, struct mobo_reader *in)
{
    struct debug_exit *d = self;
    uint8_t version = 0;
    uint32_t len;

    if (d->host->load_bytes(in, 1, &version, sizeof(version), &len) || len != 1 || version != 1)
        return d->host->fail(d->dev, -EINVAL, "saved state: not one of version 1");
    return 0;
}

static void dx_destroy(void *self)
{
    free(self);
}

static int dx_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct mobo_io_ops ops = { sizeof(ops), 0, dx_read, dx_write };
    struct debug_exit *d = calloc(1, sizeof(*d));
    uint32_t port = (uint32_t)host->param_uint(dev, "port");
    uint32_t width = (uint32_t)host->param_uint(dev, "width");
    int err;

    if (!d)
        return host->fail(dev, -ENOMEM, "out of memory");
    d->dev = dev;
    d->host = host;
    if (width == 3) {
        err = host->fail(dev, -EINVAL, "width: 3 is not 1, 2 or 4");
        goto fail;
    }
    ops.widths = width | (width >> 1) | (width >> 2);
    if ((err = host->pio_add(dev, "port", port, width, 0, &ops, d, NULL)))
        goto fail;
    *ret_self = d;
    return 0;
fail:
    dx_destroy(d);
    return err;
}

static const struct mobo_param dx_params[] = {
    { .name = "port", .kind = MOBO_UINT, .def = "0xf4", .max = 0xfffc, .help = "Port to write to" },
    { .name = "width",
      .kind = MOBO_UINT,
      .unit = "bytes",
      .def = "4",
      .min = 1,
      .max = 4,
      .help = "Ports claimed, and the widest access: 1, 2 or 4" },
};

static const struct mobo_vdev_ops dx_ops = {
    .size = sizeof(dx_ops),
    .create = dx_create,
    .destroy = dx_destroy,
    .reset = dx_reset,
    .save = dx_save,
    .restore = dx_restore,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "debug-exit",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "Port that ends the VM with an exit status",
    .dev_class = MOBO_CLASS_PLUGIN,
    .params = MOBO_ARRAY(dx_params),
    .ops = &dx_ops,
};
