/* SPDX-License-Identifier: BSD-2-Clause */
/* Plug-ins that do not fit, one for each reason. */
#include <mobo/vdev.h>
#include <stdlib.h>

#ifdef NO_SYMBOL
MOBO_EXPORT const int something_else = 1;
#else
static int create(struct mobo_vdev *dev, const struct mobo_host *h, void **ret)
{
    (void)dev;
    (void)h;
    (void)ret;
    return -1;
}

static void reset(void *self)
{
    (void)self;
}

static const struct mobo_vdev_ops ops = {
    .size = sizeof(ops),
    .create = create,
    .destroy = free,
    .reset = reset,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
#ifdef BAD_MAGIC
    .magic = 1,
#else
    .magic = MOBO_VDEV_MAGIC,
#endif
#ifdef BAD_ABI
    .abi_major = MOBO_ABI_MAJOR + 1,
#else
    .abi_major = MOBO_ABI_MAJOR,
#endif
    .size = sizeof(mobo_vdev_descriptor),
    .type = "bad",
    .vendor = "mobo",
    .version = "1",
    .licence = "BSD-2-Clause",
    .summary = "for tests",
    .dev_class = MOBO_CLASS_EMULATED,
    .ops = &ops, /* lacks save and restore */
};
#endif
