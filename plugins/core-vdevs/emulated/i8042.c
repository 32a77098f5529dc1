/* SPDX-License-Identifier: BSD-2-Clause */
/* 8042 keyboard controller of a PS/2-style PC: ports 0x60 and 0x64, lines 1 and 12.
 * Reference: "IBM PS/2 Hardware Interface Technical Reference", keyboard and auxiliary device
 * controller, cited as IBM.  Keyboard and mouse are in ps2_kbd.c and ps2_mouse.c.
 *
 * What people do arrives as lines of text on the character backend `input`; see mobo-vdev-i8042(7)
 * and i8042_input.c. */
#include "i8042.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ST_OBF = 0x01, ST_SYS = 0x04, ST_COMMAND = 0x08, ST_UNLOCKED = 0x10, ST_AUX = 0x20 };
enum {
    CB_KBD_IRQ = 0x01,
    CB_AUX_IRQ = 0x02,
    CB_SYS = 0x04,
    CB_KBD_OFF = 0x10,
    CB_AUX_OFF = 0x20,
    CB_TRANSLATE = 0x40,
    CB_MASK = 0x7f
};
enum { OUT_NO_RESET = 0x01, OUT_A20 = 0x02, OUT_KBD_FULL = 0x10, OUT_AUX_FULL = 0x20 };

/* A byte needs about a millisecond on the wire; a tenth keeps guests that read twice happy. */
enum { BYTE_NS = 100000 };

/* What the keyboard shows; the bits are MOBO_LED_... */
static void tell_leds(struct kbc *k)
{
    if (k->input && MOBO_HAS(k->host, input_leds))
        k->host->input_leds(k->input, k->s.kbd.leds);
}

int kbc_mouse_on(const struct kbc *k)
{
    return !(k->s.ram[0] & CB_AUX_OFF);
}

/* ---- output buffer ------------------------------------------------------------------------------- */

static void update_irq(struct kbc *k)
{
    int kbd = (k->s.status & (ST_OBF | ST_AUX)) == ST_OBF;
    int aux = (k->s.status & (ST_OBF | ST_AUX)) == (ST_OBF | ST_AUX);

    k->host->irq_set(k->irq_kbd, kbd && (k->s.ram[0] & CB_KBD_IRQ));
    k->host->irq_set(k->irq_aux, aux && (k->s.ram[0] & CB_AUX_IRQ));
}

static void put(struct kbc *k, uint8_t val, int aux)
{
    k->s.data = val;
    k->s.status = (uint8_t)((k->s.status & ~ST_AUX) | ST_OBF | (aux ? ST_AUX : 0));
    update_irq(k);
}

static void schedule(struct kbc *k)
{
    uint64_t now = k->host->clock_ns(k->dev), at = UINT64_MAX;

    if (!(k->s.status & ST_OBF) &&
        ((ps2_waiting(&k->s.kbd.q) && !(k->s.ram[0] & CB_KBD_OFF)) ||
         (ps2_waiting(&k->s.mouse.q) && kbc_mouse_on(k)) || k->s.nreplies))
        at = k->s.nreplies ? now : k->s.next_byte > now ? k->s.next_byte : now;
    if (k->s.kbd.repeat_at && k->s.kbd.repeat_at < at)
        at = k->s.kbd.repeat_at;
    if (at == UINT64_MAX)
        k->host->timer_cancel(k->timer);
    else
        k->host->timer_set(k->timer, at);
}

/* Move the next byte into the output buffer: the controller's own first, then the keyboard's. */
static void fill(struct kbc *k)
{
    uint64_t now = k->host->clock_ns(k->dev);
    uint8_t val;

    ps2_kbd_repeat(&k->s.kbd, now);
    while (!(k->s.status & ST_OBF)) {
        if (k->s.nreplies) {
            val = k->s.reply[0];
            put(k, val, k->s.reply_aux & 1);
            memmove(k->s.reply, k->s.reply + 1, --k->s.nreplies);
            k->s.reply_aux >>= 1;
        } else if (now < k->s.next_byte) {
            break;
        } else if (ps2_waiting(&k->s.kbd.q) && !(k->s.ram[0] & CB_KBD_OFF)) {
            val = ps2_take(&k->s.kbd.q);
            k->s.kbd.last = val;
            if (k->s.ram[0] & CB_TRANSLATE) {
                /* IBM: a break prefix turns into bit 7 of the next code */
                if (val == 0xf0) {
                    k->s.break_prefix = 0x80;
                    continue;
                }
                val = ps2_translate(val) | k->s.break_prefix;
                k->s.break_prefix = 0;
            }
            put(k, val, 0);
        } else if (ps2_waiting(&k->s.mouse.q) && kbc_mouse_on(k)) {
            val = ps2_take(&k->s.mouse.q);
            k->s.mouse.last = val;
            put(k, val, 1);
            ps2_mouse_report(&k->s.mouse);
        } else {
            break;
        }
    }
    schedule(k);
}

void kbc_work(struct kbc *k)
{
    kbc_input_pump(k);
    fill(k);
    kbc_input_ready(k);
}

static void kbc_fired(void *self, uint64_t now)
{
    (void)now;
    kbc_work(self);
}

/* An answer of the controller itself. */
static void answer(struct kbc *k, uint8_t val, int aux)
{
    if (k->s.nreplies == KBC_REPLIES)
        return;
    k->s.reply_aux |= (uint8_t)(aux << k->s.nreplies);
    k->s.reply[k->s.nreplies++] = val;
}

/* ---- commands ------------------------------------------------------------------------------------- */

static uint8_t output_port(const struct kbc *k)
{
    uint8_t out = k->s.outport & (uint8_t) ~(OUT_KBD_FULL | OUT_AUX_FULL);

    if (k->s.status & ST_OBF)
        out |= k->s.status & ST_AUX ? OUT_AUX_FULL : OUT_KBD_FULL;
    return out;
}

static void set_output_port(struct kbc *k, uint8_t val)
{
    k->s.outport = val;
    k->host->a20_set(k->dev, (val & OUT_A20) != 0);
    if (!(val & OUT_NO_RESET))
        k->host->system_request(k->dev, MOBO_SYS_RESET, 0, "keyboard controller output port");
}

static void set_command_byte(struct kbc *k, uint8_t val)
{
    k->s.ram[0] = val & CB_MASK;
    k->s.status = (uint8_t)((k->s.status & ~ST_SYS) | (val & CB_SYS ? ST_SYS : 0));
    update_irq(k);
}

enum {
    CMD_READ_RAM = 0x20,
    CMD_WRITE_RAM = 0x60,
    CMD_PASSWORD_TEST = 0xa4,
    CMD_PASSWORD_LOAD = 0xa5,
    CMD_PASSWORD_ENABLE = 0xa6,
    CMD_AUX_OFF = 0xa7,
    CMD_AUX_ON = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KBD_TEST = 0xab,
    CMD_KBD_OFF = 0xad,
    CMD_KBD_ON = 0xae,
    CMD_READ_IN = 0xc0,
    CMD_POLL_LOW = 0xc1,
    CMD_POLL_HIGH = 0xc2,
    CMD_READ_OUT = 0xd0,
    CMD_WRITE_OUT = 0xd1,
    CMD_KBD_LOOP = 0xd2,
    CMD_AUX_LOOP = 0xd3,
    CMD_AUX_WRITE = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_TEST_IN = 0xe0,
    CMD_PULSE = 0xf0
};

static void command(struct kbc *k, uint8_t val)
{
    k->s.command = 0;
    if (val >= CMD_READ_RAM && val < CMD_READ_RAM + 32) {
        answer(k, k->s.ram[val & 31], 0);
        return;
    }
    if (val >= CMD_WRITE_RAM && val < CMD_WRITE_RAM + 32) {
        k->s.command = val;
        return;
    }
    if (val >= CMD_PULSE) { /* IBM: bits 3:0 that are 0 are pulsed; bit 0 is the reset line */
        if (!(val & 1))
            k->host->system_request(k->dev, MOBO_SYS_RESET, 0, "keyboard controller reset line");
        return;
    }
    switch (val) {
    case CMD_PASSWORD_TEST: answer(k, 0xf1, 0); break; /* none there */
    case CMD_PASSWORD_LOAD: k->s.command = val; break;
    case CMD_PASSWORD_ENABLE: break;
    case CMD_AUX_OFF: set_command_byte(k, k->s.ram[0] | CB_AUX_OFF); break;
    case CMD_AUX_ON: set_command_byte(k, k->s.ram[0] & (uint8_t)~CB_AUX_OFF); break;
    case CMD_AUX_TEST: answer(k, 0x00, 0); break;
    case CMD_SELF_TEST:
        k->s.nreplies = 0;
        k->s.reply_aux = 0;
        k->s.status &= (uint8_t) ~(ST_OBF | ST_AUX);
        set_command_byte(k, (k->s.ram[0] & CB_TRANSLATE) | CB_SYS | CB_KBD_OFF | CB_AUX_OFF);
        answer(k, 0x55, 0);
        break;
    case CMD_KBD_TEST: answer(k, 0x00, 0); break;
    case CMD_KBD_OFF: set_command_byte(k, k->s.ram[0] | CB_KBD_OFF); break;
    case CMD_KBD_ON: set_command_byte(k, k->s.ram[0] & (uint8_t)~CB_KBD_OFF); break;
    case CMD_READ_IN: answer(k, 0xbf, 0); break; /* not locked, no jumpers */
    case CMD_POLL_LOW:
    case CMD_POLL_HIGH: break;
    case CMD_READ_OUT: answer(k, output_port(k), 0); break;
    case CMD_WRITE_OUT:
    case CMD_KBD_LOOP:
    case CMD_AUX_LOOP:
    case CMD_AUX_WRITE: k->s.command = val; break;
    case CMD_A20_OFF: set_output_port(k, k->s.outport & (uint8_t)~OUT_A20); break;
    case CMD_A20_ON: set_output_port(k, k->s.outport | OUT_A20); break;
    case CMD_TEST_IN: answer(k, 0x00, 0); break;
    default:
        if (!k->warned++)
            k->host->log(k->dev, MOBO_DEBUG, "unknown controller command 0x%02x", val);
    }
}

static void argument(struct kbc *k, uint8_t val)
{
    uint8_t cmd = k->s.command;

    switch (cmd) {
    case CMD_PASSWORD_LOAD:
        if (val == 0) /* ends with a zero; there is nothing to protect */
            k->s.command = 0;
        return;
    case CMD_WRITE_OUT: set_output_port(k, val); break;
    case CMD_KBD_LOOP: answer(k, val, 0); break;
    case CMD_AUX_LOOP: answer(k, val, 1); break;
    case CMD_AUX_WRITE:
        set_command_byte(k, k->s.ram[0] & (uint8_t)~CB_AUX_OFF);
        ps2_mouse_write(&k->s.mouse, val);
        break;
    default:
        if ((cmd & 31) == 0)
            set_command_byte(k, val);
        else
            k->s.ram[cmd & 31] = val;
    }
    k->s.command = 0;
}

/* ---- ports ------------------------------------------------------------------------------------------ */

static uint64_t data_read(void *self, uint64_t off, uint32_t len)
{
    struct kbc *k = self;
    uint8_t val = k->s.data;

    (void)off;
    (void)len;
    if (k->s.status & ST_OBF) {
        k->s.status &= (uint8_t) ~(ST_OBF | ST_AUX);
        k->s.next_byte = k->host->clock_ns(k->dev) + BYTE_NS;
        update_irq(k);
        kbc_work(k);
    }
    MOBO_TRACE(k->host, k->dev, k->trace, "data read 0x%02x", val);
    return val;
}

static void data_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct kbc *k = self;

    (void)off;
    (void)len;
    MOBO_TRACE(k->host, k->dev, k->trace, "data write 0x%02x", (unsigned)val);
    k->s.status &= (uint8_t)~ST_COMMAND;
    if (k->s.command) {
        argument(k, (uint8_t)val);
    } else {
        set_command_byte(k, k->s.ram[0] & (uint8_t)~CB_KBD_OFF); /* IBM: a write switches it on */
        ps2_kbd_write(&k->s.kbd, (uint8_t)val);
        tell_leds(k);
    }
    fill(k);
    kbc_input_ready(k); /* a command may have emptied a queue, or nobody waits for it any more */
}

static uint64_t status_read(void *self, uint64_t off, uint32_t len)
{
    struct kbc *k = self;

    (void)off;
    (void)len;
    return k->s.status | ST_UNLOCKED;
}

static void status_write(void *self, uint64_t off, uint32_t len, uint64_t val)
{
    struct kbc *k = self;

    (void)off;
    (void)len;
    MOBO_TRACE(k->host, k->dev, k->trace, "command 0x%02x", (unsigned)val);
    k->s.status |= ST_COMMAND;
    command(k, (uint8_t)val);
    fill(k);
    kbc_input_ready(k);
}

/* ---- life ------------------------------------------------------------------------------------------- */

static void kbc_reset(void *self)
{
    struct kbc *k = self;
    uint8_t buttons = k->s.mouse.buttons;

    k->s = (struct kbc_state){ .outport = 0xcf | OUT_A20 };
    k->s.mouse.buttons = buttons;
    ps2_kbd_reset(&k->s.kbd);
    ps2_mouse_reset(&k->s.mouse);
    /* as firmware leaves it; otherwise both ports are off until the self test */
    set_command_byte(k, k->direct_boot ? CB_KBD_IRQ | CB_AUX_IRQ | CB_SYS | CB_TRANSLATE
                                       : CB_KBD_OFF | CB_AUX_OFF | CB_TRANSLATE);
    k->host->a20_set(k->dev, 1);
    k->starved = k->mouse_starved = 0;
    if (k->input) /* nobody says whether the guest has a driver: it is there for guests without others */
        k->host->input_active(k->input, 1);
    tell_leds(k);
    fill(k);
}

#define F(tag, member) MOBO_FIELD(tag, struct kbc_state, member)
static const struct mobo_field kbc_fields[] = {
    F(1, status),
    F(2, data),
    F(3, command),
    F(4, outport),
    F(5, break_prefix),
    F(6, nreplies),
    F(7, reply_aux),
    MOBO_FIELD_ARRAY(8, struct kbc_state, reply),
    MOBO_FIELD_ARRAY(9, struct kbc_state, ram),
    F(10, next_byte),
    PS2_KBD_FIELDS(32, struct kbc_state, kbd),
    PS2_MOUSE_FIELDS(64, struct kbc_state, mouse),
};

static int kbc_save(void *self, struct mobo_writer *out)
{
    struct kbc *k = self;

    return k->host->save_fields(out, MOBO_ARRAY(kbc_fields), &k->s);
}

static int kbc_restore(void *self, struct mobo_reader *in)
{
    struct kbc *k = self;
    struct kbc_state s = k->s;
    int err = k->host->load_fields(in, MOBO_ARRAY(kbc_fields), &s);

    if (err)
        return err;
    if (s.nreplies > KBC_REPLIES || (s.ram[0] & ~CB_MASK) ||
        (s.status & ~(ST_OBF | ST_SYS | ST_COMMAND | ST_AUX)) || (s.break_prefix & 0x7f))
        return k->host->fail(k->dev, -EINVAL, "saved controller: impossible bits");
    if (!ps2_kbd_valid(&s.kbd))
        return k->host->fail(k->dev, -EINVAL, "saved keyboard: a value is out of range");
    if (!ps2_mouse_valid(&s.mouse))
        return k->host->fail(k->dev, -EINVAL, "saved mouse: a value is out of range");
    k->s = s;
    k->host->a20_set(k->dev, (s.outport & OUT_A20) != 0);
    tell_leds(k);
    update_irq(k);
    schedule(k);
    return 0;
}

static void kbc_inspect(void *self, struct mobo_inspect *out)
{
    struct kbc *k = self;

    k->host->inspect_fields(out, MOBO_ARRAY(kbc_fields), &k->s);
}

static void kbc_destroy(void *self)
{
    free(self);
}

static int kbc_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops data_ops = { sizeof(data_ops), MOBO_W8, data_read, data_write };
    static const struct mobo_io_ops status_ops = { sizeof(status_ops), MOBO_W8, status_read,
                                                   status_write };
    struct mobo_acpi_isa kbd = { .head = { sizeof(kbd), MOBO_ACPI_ISA },
                                 .name = { "KBD_" },
                                 .hid = "PNP0303",
                                 .irqs = 1 << 1,
                                 .nports = 2,
                                 .port = { { 0x60, 1 }, { 0x64, 1 } } };
    struct mobo_acpi_isa mouse = { .head = { sizeof(mouse), MOBO_ACPI_ISA },
                                   .name = { "MOU_" },
                                   .hid = "PNP0F13",
                                   .irqs = 1 << 12 };
    struct mobo_acpi_legacy legacy = { .head = { sizeof(legacy), MOBO_ACPI_LEGACY },
                                       .flags = MOBO_ACPI_HAS_8042 };
    struct mobo_board_info board = { .size = sizeof(board) };
    struct kbc *k = calloc(1, sizeof(*k));
    int err;

    if (!k)
        return host->fail(dev, -ENOMEM, "out of memory");
    k->dev = dev;
    k->host = host;
    k->trace = host->trace_word(dev);
    k->direct_boot = !host->board_info(dev, &board) && board.direct_boot;
    if ((err = host->pio_add(dev, "data", 0x60, 1, 0, &data_ops, k, NULL)) ||
        (err = host->pio_add(dev, "status", 0x64, 1, 0, &status_ops, k, NULL)) ||
        (err = host->irq_claim(dev, 1, MOBO_IRQ_EDGE, &k->irq_kbd)) ||
        (err = host->irq_claim(dev, 12, MOBO_IRQ_EDGE, &k->irq_aux)) ||
        (err = host->timer_create(dev, kbc_fired, k, &k->timer)) || (err = kbc_input_open(k)) ||
        (err = host->acpi_add(dev, &kbd.head)) || (err = host->acpi_add(dev, &mouse.head)) ||
        (err = host->acpi_add(dev, &legacy.head)))
        goto fail;
    *ret_self = k;
    return 0;
fail:
    kbc_destroy(k);
    return err;
}

static const struct mobo_param kbc_params[] = {
    { .name = "input",
      .kind = MOBO_CHAR,
      .def = "null",
      .help = "Where lines of text come from that press keys and move the mouse" },
};

static const struct mobo_vdev_ops kbc_ops = {
    .size = sizeof(kbc_ops),
    .create = kbc_create,
    .destroy = kbc_destroy,
    .reset = kbc_reset,
    .save = kbc_save,
    .restore = kbc_restore,
    .inspect = kbc_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "i8042",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "8042 keyboard controller with PS/2 keyboard and mouse",
    .dev_class = MOBO_CLASS_EMULATED,
    .max_instances = 1,
    .params = MOBO_ARRAY(kbc_params),
    .ops = &kbc_ops,
};
