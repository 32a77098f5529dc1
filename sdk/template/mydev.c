/* SPDX-License-Identifier: MIT */
/* A vdev to start from: one port with a register that remembers what was written.  Copy the folder,
 * rename, and grow it from here; mobo-vdev(3) explains every step. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

struct mydev_state {
    uint8_t reg; /* all that a guest can see, and all that is saved */
};

struct mydev {
    struct mobo_vdev *dev;        /* borrowed, outlives us                   */
    const struct mobo_host *host; /* borrowed, valid until destroy() returns */
    struct mydev_state s;         /* guarded by the vdev lock                */
};

static uint64_t mydev_read(void *self, uint64_t off, uint32_t len)
{
    struct mydev *m = self;

    (void)off; /* the region has one port, and takes bytes only */
    (void)len;
    return m->s.reg;
}

static void mydev_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct mydev *m = self;

    (void)off;
    (void)len;
    m->s.reg = (uint8_t)val;
}

static void mydev_reset(void *self)
{
    struct mydev *m = self;

    m->s = (struct mydev_state){ .reg = (uint8_t)m->host->param_uint(m->dev, "value") };
}

/* One table for save, restore and inspect.  A tag is never reused. */
static const struct mobo_field mydev_fields[] = {
    MOBO_FIELD(1, struct mydev_state, reg),
};

static int mydev_save(void *self, struct mobo_writer *out)
{
    struct mydev *m = self;

    return m->host->save_fields(out, MOBO_ARRAY(mydev_fields), &m->s);
}

static int mydev_restore(void *self, struct mobo_reader *in)
{
    struct mydev *m = self;
    struct mydev_state s = m->s; /* decode aside, check, then commit */
    int err = m->host->load_fields(in, MOBO_ARRAY(mydev_fields), &s);

    if (err)
        return err;
    m->s = s;
    return 0;
}

static void mydev_inspect(void *self, struct mobo_inspect *out)
{
    struct mydev *m = self;

    m->host->inspect_fields(out, MOBO_ARRAY(mydev_fields), &m->s);
}

static void mydev_destroy(void *self)
{
    free(self);
}

static int mydev_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, mydev_read, mydev_write };
    struct mydev *m = calloc(1, sizeof(*m));
    uint32_t port = (uint32_t)host->param_uint(dev, "port");
    int err;

    if (!m)
        return host->fail(dev, -ENOMEM, "out of memory");
    m->dev = dev;
    m->host = host;
    err = host->pio_add(dev, "register", port, 1, 0, &ops, m, NULL);
    if (err) {
        mydev_destroy(m);
        return err;
    }
    *ret_self = m;
    return 0;
}

static const struct mobo_param mydev_params[] = {
    { .name = "port", .kind = MOBO_UINT, .def = "0x5000", .max = 0xffff, .help = "Its port" },
    { .name = "value",
      .kind = MOBO_UINT,
      .def = "0x55",
      .max = 0xff,
      .help = "What the register has after a reset" },
};

static const struct mobo_vdev_ops mydev_ops = {
    .size = sizeof(mydev_ops),
    .create = mydev_create,
    .destroy = mydev_destroy,
    .reset = mydev_reset,
    .save = mydev_save,
    .restore = mydev_restore,
    .inspect = mydev_inspect,
};

/* The one symbol that the shared object exports. */
MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0, /* the oldest version that has what is used here */
    .size = sizeof(mobo_vdev_descriptor),
    .type = "mydev",
    .vendor = "you",
    .version = "1.0",
    .licence = "MIT",
    .summary = "One register in one port",
    .dev_class = MOBO_CLASS_PLUGIN,
    .params = MOBO_ARRAY(mydev_params),
    .ops = &mydev_ops,
};
