/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI host bridge of the 440 family, with the identity of the 82443BX without AGP, which is what
 * generation 1 machines of Hyper-V show.
 * References: "82443BX Host Bridge/Controller" (Intel 290633-001), cited as BX; configuration
 * mechanism #1: PCI Local Bus Specification 3.0, section 3.2.2.3.2, cited as PCI.
 *
 * The PAM and SMRAM registers keep what is written; memory below 1 MiB is read and written as RAM
 * whatever they say, because the board has no other memory in that place. */
#include <errno.h>
#include <stdlib.h>
#include <mobo/vdev.h>

enum { ADDRESS_ENABLE = 1u << 31, ADDRESS_MASK = 0x80fffffc };

/* BX 3.3. */
enum {
    CFG_NBXCFG = 0x50,
    CFG_DRAMC = 0x57,
    CFG_DRAMT = 0x58,
    CFG_PAM0 = 0x59,
    CFG_DRB0 = 0x60,
    CFG_FDHC = 0x68,
    CFG_SMRAM = 0x72,
    CFG_ESMRAM = 0x73,
    CFG_ERRCMD = 0x90,
    SMRAM_OPEN = 0x40,
    SMRAM_LOCK = 0x10,
    SMRAM_WRITABLE = 0x78
};

struct bridge_state {
    uint32_t address;
    uint8_t smram; /* as written; the lock holds until reset */
};

struct bridge {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_pci_t fn;
    struct bridge_state s; /* guarded by the vdev lock */
};

static uint64_t address_read(void *self, uint64_t off, uint32_t len)
{
    (void)off;
    (void)len;
    return ((struct bridge *)self)->s.address;
}

static void address_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    (void)off;
    (void)len;
    ((struct bridge *)self)->s.address = (uint32_t)val & ADDRESS_MASK;
}

static uint64_t data_read(void *self, uint64_t off, uint32_t len)
{
    struct bridge *b = self;
    uint32_t a = b->s.address, val;

    if (!(a & ADDRESS_ENABLE))
        return UINT64_MAX;
    val = b->host->pci_config_read(b->dev, a >> 16 & 0xff, a >> 8 & 0xff,
                                   (a & 0xfc) + (uint32_t)off, len);
    MOBO_TRACE(b->host, b->dev, b->trace, "config 0x%08x+%u read 0x%x", a, (unsigned)off, val);
    return val;
}

static void data_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct bridge *b = self;
    uint32_t a = b->s.address;

    if (!(a & ADDRESS_ENABLE))
        return;
    MOBO_TRACE(b->host, b->dev, b->trace, "config 0x%08x+%u write 0x%x", a, (unsigned)off,
               (unsigned)val);
    b->host->pci_config_write(b->dev, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (uint32_t)off,
                              len, (uint32_t)val);
}

/* BX 3.3.20: once locked, open is cleared and neither changes any more. */
static void config_written(void *self, uint32_t off, uint32_t len)
{
    struct bridge *b = self;
    uint8_t val;

    if (off > CFG_SMRAM || off + len <= CFG_SMRAM)
        return;
    val = (uint8_t)b->host->pci_config_get(b->fn, CFG_SMRAM, 1);
    if (b->s.smram & SMRAM_LOCK)
        val = b->s.smram;
    else if (val & SMRAM_LOCK)
        val &= (uint8_t)~SMRAM_OPEN;
    b->s.smram = val;
    b->host->pci_config_set(b->fn, CFG_SMRAM, 1, val);
}

static void bridge_reset(void *self)
{
    struct bridge *b = self;

    b->s.address = 0;
    b->s.smram = (uint8_t)b->host->pci_config_get(b->fn, CFG_SMRAM, 1);
}

static const struct mobo_field bridge_fields[] = {
    MOBO_FIELD(1, struct bridge_state, address),
    MOBO_FIELD(2, struct bridge_state, smram),
};

static int bridge_save(void *self, struct mobo_writer *out)
{
    struct bridge *b = self;

    return b->host->save_fields(out, MOBO_ARRAY(bridge_fields), &b->s);
}

static int bridge_restore(void *self, struct mobo_reader *in)
{
    struct bridge *b = self;
    struct bridge_state s = b->s;
    int err = b->host->load_fields(in, MOBO_ARRAY(bridge_fields), &s);

    if (err)
        return err;
    if ((s.address & ~(uint32_t)ADDRESS_MASK) || (s.smram & ~(SMRAM_WRITABLE | 2)))
        return b->host->fail(b->dev, -EINVAL, "saved registers: impossible bits");
    b->s = s;
    return 0;
}

static void bridge_inspect(void *self, struct mobo_inspect *out)
{
    struct bridge *b = self;

    b->host->inspect_fields(out, MOBO_ARRAY(bridge_fields), &b->s);
}

static void bridge_destroy(void *self)
{
    free(self);
}

static int define_registers(struct bridge *b)
{
    const struct mobo_host *h = b->host;
    struct mobo_board_info board = { .size = sizeof(board) };
    int err, direct = !h->board_info(b->dev, &board) && board.direct_boot;
    uint64_t rows = board.ram_below_4g / (8 << 20);

    if ((err = h->pci_config_init(b->fn, CFG_NBXCFG, 4, 0, 0xffffffff, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_DRAMC, 1, 0, 0x3f, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_DRAMT, 1, 3, 0xff, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_FDHC, 1, 0, 0xc0, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_SMRAM, 1, 2, SMRAM_WRITABLE, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_ESMRAM, 1, 0x38, 0xff & ~0x38, 0)) ||
        (err = h->pci_config_init(b->fn, CFG_ERRCMD, 1, 0x80, 0x9f, 0)))
        return err;
    /* read and write enables of 0xc0000-0xfffff; a firmware opens them to put tables there */
    for (unsigned i = 0; i < 7; i++)
        if ((err = h->pci_config_init(b->fn, CFG_PAM0 + i, 1, direct ? i ? 0x33 : 0x30 : 0,
                                      i ? 0x33 : 0x30, 0)))
            return err;
    /* row boundaries in units of 8 MiB: all RAM in the first row, as far as the register goes */
    for (unsigned i = 0; i < 8; i++)
        if ((err = h->pci_config_init(b->fn, CFG_DRB0 + i, 1,
                                      direct ? (uint32_t)(rows < 0xff ? rows : 0xff) : 1, 0xff, 0)))
            return err;
    return 0;
}

static int bridge_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops address_ops = { sizeof(address_ops), MOBO_W32, address_read,
                                                    address_write };
    static const struct mobo_io_ops data_ops = { sizeof(data_ops), MOBO_W8 | MOBO_W16 | MOBO_W32,
                                                 data_read, data_write };
    static const struct mobo_pci_ops pci_ops = { sizeof(pci_ops), 0, NULL, config_written };
    static const struct mobo_pci_info info = { .size = sizeof(info),
                                               .flags = MOBO_PCI_HOST_BRIDGE,
                                               .vendor = 0x8086,
                                               .device = 0x7192,
                                               .class_code = 0x060000,
                                               .revision = 3 };
    struct mobo_acpi_pci_root root = { .head = { sizeof(root), MOBO_ACPI_PCI_ROOT },
                                       .config_port = 0xcf8 };
    struct bridge *b = calloc(1, sizeof(*b));
    int err;

    if (!b)
        return host->fail(dev, -ENOMEM, "out of memory");
    b->dev = dev;
    b->host = host;
    b->trace = host->trace_word(dev);
    /* PCI: only dwords reach the address register */
    if ((err = host->pio_add(dev, "config-address", 0xcf8, 4, MOBO_REGION_EXACT, &address_ops, b,
                             NULL)) ||
        (err = host->pio_add(dev, "config-data", 0xcfc, 4, 0, &data_ops, b, NULL)) ||
        (err = host->pci_add(dev, &info, &pci_ops, b, &b->fn)) || (err = define_registers(b)) ||
        (err = host->acpi_add(dev, &root.head)))
        goto fail;
    *ret_self = b;
    return 0;
fail:
    bridge_destroy(b);
    return err;
}

static const struct mobo_vdev_ops bridge_ops = {
    .size = sizeof(bridge_ops),
    .create = bridge_create,
    .destroy = bridge_destroy,
    .reset = bridge_reset,
    .save = bridge_save,
    .restore = bridge_restore,
    .inspect = bridge_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .flags = MOBO_VDEV_PCI_ROOT,
    .type = "i440fx",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "PCI host bridge with configuration mechanism #1",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .param_size = sizeof(struct mobo_param),
    .ops = &bridge_ops,
};
