/* SPDX-License-Identifier: MIT */
/* A plug-in for the tests of the ABI.  As it is it fits; each BAD_... makes it unfit in one way. */
#include <stdlib.h>
#include <mobo/vdev.h>

struct thing_state {
    uint8_t reg;
};

struct thing {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    struct thing_state s;
};

static uint64_t thing_read(void *self, uint64_t off, uint32_t len)
{
    (void)off;
    (void)len;
    return ((struct thing *)self)->s.reg;
}

static void thing_reset(void *self)
{
    ((struct thing *)self)->s.reg = 0x5a;
}

static const struct mobo_field thing_fields[] = { MOBO_FIELD(1, struct thing_state, reg) };

static int thing_save(void *self, struct mobo_writer *out)
{
    struct thing *t = self;

    return t->host->save_fields(out, MOBO_ARRAY(thing_fields), &t->s);
}

static int thing_restore(void *self, struct mobo_reader *in)
{
    struct thing *t = self;

    return t->host->load_fields(in, MOBO_ARRAY(thing_fields), &t->s);
}

static void thing_destroy(void *self)
{
    free(self);
}

static int thing_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, thing_read, NULL };
    struct thing *t = calloc(1, sizeof(*t));
    int err;

    if (!t)
        return host->fail(dev, -12, "out of memory");
    t->dev = dev;
    t->host = host;
    /* what a plug-in of 1.0 can count on: the table reaches at least as far as its header says */
    if (host->abi_major != MOBO_ABI_MAJOR || host->abi_minor < MOBO_ABI_MINOR ||
        host->size < sizeof(struct mobo_host) || !MOBO_HAS(host, inspect_end)) {
        free(t);
        return host->fail(dev, -22, "the host offers less than ABI %d.%d", MOBO_ABI_MAJOR,
                          MOBO_ABI_MINOR);
    }
    err = host->pio_add(dev, "port", (uint32_t)host->param_uint(dev, "port"), 1, 0, &ops, t, NULL);
    if (err) {
        free(t);
        return err;
    }
    *ret_self = t;
    return 0;
}

static const struct mobo_param thing_params[] = {
#ifdef BAD_DEFAULT
    { .name = "port", .kind = MOBO_UINT, .def = "many", .max = 0xffff, .help = "Its port" },
#elif defined(BAD_KIND)
    { .name = "port", .kind = 99, .def = "1", .help = "Its port" },
#else
    { .name = "port", .kind = MOBO_UINT, .def = "0x5100", .max = 0xffff, .help = "Its port" },
#endif
};

static const struct mobo_vdev_ops thing_ops = {
#ifdef BAD_OPS_SIZE
    .size = 4,
#else
    .size = sizeof(thing_ops),
#endif
    .create = thing_create,
    .destroy = thing_destroy,
    .reset = thing_reset,
    .save = thing_save,
#ifndef BAD_NO_RESTORE
    .restore = thing_restore,
#endif
};

#ifdef BAD_EXPORT
MOBO_EXPORT int another_symbol = 1;
#endif

#ifndef BAD_NO_DESCRIPTOR
MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
#ifdef BAD_MAGIC
    .magic = 0x12345678,
#else
    .magic = MOBO_VDEV_MAGIC,
#endif
#ifdef BAD_MAJOR
    .abi_major = MOBO_ABI_MAJOR + 1,
    .abi_minor = 0,
#elif defined(BAD_MINOR)
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 999,
#else
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = MOBO_ABI_MINOR,
#endif
#ifdef BAD_SIZE
    .size = 16,
#else
    .size = sizeof(mobo_vdev_descriptor),
#endif
#ifdef BAD_TYPE
    .type = "Has Blanks",
#else
    .type = "thing",
#endif
    .vendor = "mobo",
#ifndef BAD_TEXTS
    .version = "1.0",
#endif
    .licence = "MIT",
    .summary = "A port for the tests of the ABI",
#ifdef BAD_CLASS
    .dev_class = 17,
#else
    .dev_class = MOBO_CLASS_PLUGIN,
#endif
#ifdef BAD_PARAM_SIZE
    .params = thing_params,
    .nparams = 1,
    .param_size = 3,
#else
    .params = MOBO_ARRAY(thing_params),
#endif
#ifndef BAD_NO_OPS
    .ops = &thing_ops,
#endif
};
#endif
