/* SPDX-License-Identifier: BSD-2-Clause */
/* PC16550D serial port.
 * Reference: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National
 * Semiconductor, TL/C/8652), cited as DS.
 *
 * Characters leave and arrive at the backend's pace, not the divisor's; the divisor only sets how
 * long the receiver waits before it reports a FIFO that is not full.  When the backend does not take
 * a character it stays in the transmitter, which then is not empty; when the receiver is full the
 * backend waits, so nothing is lost but what a guest sends to itself in loopback. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <mobo/vdev.h>

/* DS table II: offset, divisor latch access bit. */
enum reg {
    REG_DATA = 0, /* RBR, THR; DLL with DLAB */
    REG_IER = 1,  /* IER;      DLM with DLAB */
    REG_IIR = 2,  /* R IIR, W FCR */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
    NREGS = 8
};
enum { IER_RX = 0x01, IER_THRE = 0x02, IER_LINE = 0x04, IER_MODEM = 0x08, IER_MASK = 0x0f };
enum {
    IIR_NONE = 0x01,
    IIR_MODEM = 0x00,
    IIR_THRE = 0x02,
    IIR_RX = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFO = 0xc0
};
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_STORED = 0xc9 };
enum { LCR_LEN = 0x03, LCR_STOP = 0x04, LCR_PARITY = 0x08, LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum {
    MCR_DTR = 0x01,
    MCR_RTS = 0x02,
    MCR_OUT1 = 0x04,
    MCR_OUT2 = 0x08,
    MCR_LOOP = 0x10,
    MCR_MASK = 0x1f
};
enum {
    LSR_DR = 0x01,
    LSR_OE = 0x02,
    LSR_PE = 0x04,
    LSR_FE = 0x08,
    LSR_BI = 0x10,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    LSR_FIFO_ERR = 0x80,
    LSR_ERRORS = LSR_OE | LSR_PE | LSR_FE | LSR_BI,
    LSR_OF_CHAR = LSR_PE | LSR_FE | LSR_BI
};
enum {
    MSR_DCTS = 0x01,
    MSR_DDSR = 0x02,
    MSR_TERI = 0x04,
    MSR_DDCD = 0x08,
    MSR_DELTAS = 0x0f,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80
};

enum { FIFO = 16 };

struct uart_state {
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t lsr;          /* OE, and the errors of the character at the head of the FIFO */
    uint8_t thre_pending; /* the THRE interrupt is asserted, DS table IV */
    uint8_t timeout;      /* character timeout, DS 8.6 "FIFO interrupt mode" */
    uint8_t lines;        /* modem inputs as the far end drives them (MSR_CTS ...) */
    uint8_t rx_len, tx_len;
    uint16_t divisor;
    uint8_t rx[FIFO], rx_err[FIFO]; /* oldest first; errors as LSR bits */
    uint8_t tx[FIFO];
    uint64_t timeout_at; /* guest time, 0: not running */
};

struct uart {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_irq_t irq;
    mobo_timer_t timer;
    mobo_char_t chr;
    uint8_t has_irq, follow_peer;
    struct uart_state s; /* guarded by the vdev lock */
};

static unsigned rx_trigger(const struct uart_state *s)
{
    static const uint8_t level[4] = { 1, 4, 8, 14 }; /* DS 8.4, FCR bits 7:6 */

    return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

static unsigned capacity(const struct uart_state *s)
{
    return s->fcr & FCR_ENABLE ? FIFO : 1;
}

static uint8_t line_status(const struct uart_state *s)
{
    uint8_t lsr = s->lsr & LSR_ERRORS;

    if (s->rx_len)
        lsr |= LSR_DR;
    if (!s->tx_len)
        lsr |= LSR_THRE | LSR_TEMT;
    if (s->fcr & FCR_ENABLE)
        for (unsigned i = 0; i < s->rx_len; i++)
            if (s->rx_err[i])
                lsr |= LSR_FIFO_ERR;
    return lsr;
}

static uint8_t modem_status(const struct uart_state *s)
{
    uint8_t in = s->lines;

    if (s->mcr & MCR_LOOP) /* DS 8.7 bit 4 */
        in = (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                       (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
    return in;
}

/* DS table IV: what is pending, by priority. */
static uint8_t interrupt_id(const struct uart_state *s)
{
    if ((s->ier & IER_LINE) && (s->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((s->ier & IER_RX) && s->rx_len >= rx_trigger(s))
        return IIR_RX;
    if ((s->ier & IER_RX) && s->timeout && s->rx_len)
        return IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_pending)
        return IIR_THRE;
    if ((s->ier & IER_MODEM) && (s->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

/* The line is a function of the state; OUT2 gates it, as PC boards are wired. */
static void update_irq(struct uart *u)
{
    if (u->has_irq)
        u->host->irq_set(u->irq, (u->s.mcr & MCR_OUT2) && interrupt_id(&u->s) != IIR_NONE);
}

static void update_modem(struct uart *u)
{
    uint8_t in = modem_status(&u->s), old = u->s.msr & (uint8_t)~MSR_DELTAS, changed = in ^ old;

    u->s.msr = (u->s.msr & MSR_DELTAS) | in;
    if (changed & MSR_CTS)
        u->s.msr |= MSR_DCTS;
    if (changed & MSR_DSR)
        u->s.msr |= MSR_DDSR;
    if (changed & MSR_DCD)
        u->s.msr |= MSR_DDCD;
    if ((changed & MSR_RI) && !(in & MSR_RI)) /* DS 8.8: the trailing edge */
        u->s.msr |= MSR_TERI;
}

/* Four character times, DS 8.6. */
static uint64_t timeout_ns(const struct uart_state *s)
{
    uint64_t bits =
        1 + 5 + (s->lcr & LCR_LEN) + ((s->lcr & LCR_PARITY) != 0) + 1 + ((s->lcr & LCR_STOP) != 0);
    uint64_t divisor = s->divisor && s->divisor < 12 ? s->divisor : s->divisor ? 12 : 1;

    return 4 * bits * divisor * 1000000000 / 115200;
}

static void restart_timeout(struct uart *u)
{
    struct uart_state *s = &u->s;

    s->timeout = 0;
    if ((s->fcr & FCR_ENABLE) && s->rx_len) {
        s->timeout_at = u->host->clock_ns(u->dev) + timeout_ns(s);
        u->host->timer_set(u->timer, s->timeout_at);
    } else if (s->timeout_at) {
        s->timeout_at = 0;
        u->host->timer_cancel(u->timer);
    }
}

static void uart_timeout(void *self, uint64_t now)
{
    struct uart *u = self;

    (void)now;
    u->s.timeout_at = 0;
    if ((u->s.fcr & FCR_ENABLE) && u->s.rx_len)
        u->s.timeout = 1;
    update_irq(u);
}

/* ---- characters -------------------------------------------------------------------------------- */

static void receive(struct uart *u, uint8_t c, uint8_t err)
{
    struct uart_state *s = &u->s;

    if (s->rx_len >= capacity(s)) {
        s->lsr |=
            LSR_OE; /* DS 8.6 bit 1: with a FIFO the new character is lost, else the old one */
        if (!(s->fcr & FCR_ENABLE)) {
            s->rx[0] = c;
            s->rx_err[0] = err;
            s->lsr |= err;
        }
        return;
    }
    s->rx[s->rx_len] = c;
    s->rx_err[s->rx_len] = err;
    if (s->rx_len++ == 0)
        s->lsr |= err;
}

static uint8_t take(struct uart *u)
{
    struct uart_state *s = &u->s;
    uint8_t c = s->rx[0];

    if (!s->rx_len)
        return c; /* the last one again */
    if (--s->rx_len) {
        memmove(s->rx, s->rx + 1, s->rx_len);
        memmove(s->rx_err, s->rx_err + 1, s->rx_len);
        s->lsr |= s->rx_err[0];
    }
    restart_timeout(u);
    return c;
}

static void transmit(struct uart *u)
{
    struct uart_state *s = &u->s;
    uint32_t n = s->tx_len;

    if (!n)
        return;
    if (s->mcr & MCR_LOOP) {
        for (unsigned i = 0; i < n; i++)
            receive(u, s->tx[i] & (uint8_t)(0xff >> (3 - (s->lcr & LCR_LEN))), 0);
        restart_timeout(u);
    } else if (!(s->lcr & LCR_BREAK)) {
        n = u->host->char_write(u->chr, s->tx, n);
    }
    s->tx_len = (uint8_t)(s->tx_len - n);
    memmove(s->tx, s->tx + n, s->tx_len);
    if (!s->tx_len)
        s->thre_pending = 1;
}

static uint32_t uart_can_read(void *self)
{
    struct uart *u = self;

    if (u->s.mcr & MCR_LOOP) /* DS 8.7: the input is disconnected; let the peer wait */
        return 0;
    return capacity(&u->s) - (u->s.rx_len < capacity(&u->s) ? u->s.rx_len : capacity(&u->s));
}

static void uart_input(void *self, const uint8_t *buf, uint32_t len)
{
    struct uart *u = self;

    for (uint32_t i = 0; i < len; i++)
        receive(u, buf[i], 0);
    restart_timeout(u);
    update_irq(u);
}

static void uart_event(void *self, uint32_t event)
{
    struct uart *u = self;

    switch (event) {
    case MOBO_CHAR_WRITABLE: transmit(u); break;
    case MOBO_CHAR_BREAK:
        receive(u, 0, LSR_BI | LSR_FE);
        restart_timeout(u);
        break;
    case MOBO_CHAR_OPENED:
    case MOBO_CHAR_CLOSED:
        if (u->follow_peer)
            u->s.lines = event == MOBO_CHAR_OPENED ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
        update_modem(u);
        transmit(u);
        break;
    }
    update_irq(u);
}

/* ---- registers --------------------------------------------------------------------------------- */

static uint64_t uart_read(void *self, uint64_t off, uint32_t len)
{
    struct uart *u = self;
    struct uart_state *s = &u->s;
    uint8_t val = 0xff, had = s->rx_len;

    (void)len;
    switch (off) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB) {
            val = (uint8_t)s->divisor;
            break;
        }
        val = take(u);
        update_irq(u);
        if (had)
            u->host->char_ready(u->chr);
        break;
    case REG_IER: val = s->lcr & LCR_DLAB ? (uint8_t)(s->divisor >> 8) : s->ier; break;
    case REG_IIR:
        val = interrupt_id(s);
        if (val == IIR_THRE) { /* DS table IV: reading it resets the THRE interrupt */
            s->thre_pending = 0;
            update_irq(u);
        }
        if (s->fcr & FCR_ENABLE)
            val |= IIR_FIFO;
        break;
    case REG_LCR: val = s->lcr; break;
    case REG_MCR: val = s->mcr; break;
    case REG_LSR:
        val = line_status(s);
        s->lsr = 0; /* DS 8.6: reading clears the error bits */
        if (s->rx_len)
            s->rx_err[0] = 0;
        update_irq(u);
        break;
    case REG_MSR:
        val = s->msr;
        s->msr &= (uint8_t)~MSR_DELTAS;
        update_irq(u);
        break;
    case REG_SCR: val = s->scr; break;
    }
    MOBO_TRACE(u->host, u->dev, u->trace, "reg %u read 0x%02x", (unsigned)off, val);
    return val;
}

static void write_fcr(struct uart *u, uint8_t val)
{
    struct uart_state *s = &u->s;
    int toggled = (val ^ s->fcr) & FCR_ENABLE;

    /* DS 8.4: a change of bit 0 clears both FIFOs; without it the others are not programmed */
    if (toggled || ((val & FCR_ENABLE) && (val & FCR_CLEAR_RX))) {
        s->rx_len = 0;
        memset(s->rx_err, 0, sizeof(s->rx_err));
        s->lsr &= (uint8_t)~LSR_OF_CHAR;
        s->timeout = 0;
    }
    if ((toggled || ((val & FCR_ENABLE) && (val & FCR_CLEAR_TX))) && s->tx_len) {
        s->tx_len = 0;
        s->thre_pending = 1;
    }
    s->fcr = val & FCR_ENABLE ? val & FCR_STORED : 0;
    restart_timeout(u);
}

static void uart_write(void *self, uint64_t off, uint32_t len, uint64_t val64)
{
    struct uart *u = self;
    struct uart_state *s = &u->s;
    uint8_t val = (uint8_t)val64, old;

    (void)len;
    MOBO_TRACE(u->host, u->dev, u->trace, "reg %u write 0x%02x", (unsigned)off, val);
    switch (off) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB) {
            s->divisor = (s->divisor & 0xff00) | val;
            break;
        }
        s->thre_pending = 0;          /* DS table IV: so does writing the THR */
        if (s->tx_len == capacity(s)) /* written though not empty: overwritten */
            s->tx[s->tx_len - 1] = val;
        else
            s->tx[s->tx_len++] = val;
        update_irq(u); /* the line falls in between, else an edge-triggered one is not seen again */
        transmit(u);
        break;
    case REG_IER:
        if (s->lcr & LCR_DLAB) {
            s->divisor = (uint16_t)((s->divisor & 0xff) | val << 8);
            break;
        }
        old = s->ier;
        s->ier = val & IER_MASK;
        /* enabling the THRE interrupt with an empty transmitter raises it at once */
        if ((s->ier & ~old & IER_THRE) && !s->tx_len)
            s->thre_pending = 1;
        break;
    case REG_IIR: write_fcr(u, val); break;
    case REG_LCR:
        old = s->lcr;
        s->lcr = val;
        if ((s->mcr & MCR_LOOP) && (val & ~old & LCR_BREAK))
            receive(u, 0, LSR_BI | LSR_FE);
        break;
    case REG_MCR:
        s->mcr = val & MCR_MASK;
        update_modem(u);
        transmit(u);
        break;
    case REG_LSR: break; /* DS 8.6: for factory tests */
    case REG_MSR: break;
    case REG_SCR: s->scr = val; break;
    }
    update_irq(u);
    if (off == REG_IIR || off == REG_MCR) /* there may be room again */
        u->host->char_ready(u->chr);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void uart_reset(void *self)
{
    struct uart *u = self;
    uint8_t lines = u->s.lines;

    /* DS table III; the modem inputs are the far end's */
    u->s = (struct uart_state){ .lines = lines, .msr = lines, .thre_pending = 1, .divisor = 12 };
    u->host->timer_cancel(u->timer);
    update_irq(u);
    u->host->char_ready(u->chr);
}

static const struct mobo_field uart_fields[] = {
    MOBO_FIELD(1, struct uart_state, ier),           MOBO_FIELD(2, struct uart_state, fcr),
    MOBO_FIELD(3, struct uart_state, lcr),           MOBO_FIELD(4, struct uart_state, mcr),
    MOBO_FIELD(5, struct uart_state, msr),           MOBO_FIELD(6, struct uart_state, scr),
    MOBO_FIELD(7, struct uart_state, lsr),           MOBO_FIELD(8, struct uart_state, thre_pending),
    MOBO_FIELD(9, struct uart_state, timeout),       MOBO_FIELD(10, struct uart_state, lines),
    MOBO_FIELD(11, struct uart_state, rx_len),       MOBO_FIELD(12, struct uart_state, tx_len),
    MOBO_FIELD(13, struct uart_state, divisor),      MOBO_FIELD_ARRAY(14, struct uart_state, rx),
    MOBO_FIELD_ARRAY(15, struct uart_state, rx_err), MOBO_FIELD_ARRAY(16, struct uart_state, tx),
    MOBO_FIELD(17, struct uart_state, timeout_at),
};

static int uart_save(void *self, struct mobo_writer *out)
{
    struct uart *u = self;

    return u->host->save_fields(out, MOBO_ARRAY(uart_fields), &u->s);
}

static int uart_restore(void *self, struct mobo_reader *in)
{
    struct uart *u = self;
    struct uart_state s = u->s;
    int err = u->host->load_fields(in, MOBO_ARRAY(uart_fields), &s);

    if (err)
        return err;
    if ((s.ier & ~IER_MASK) || (s.fcr & ~FCR_STORED) || (s.mcr & ~MCR_MASK) ||
        (s.lsr & ~LSR_ERRORS) || (s.lines & MSR_DELTAS) || s.thre_pending > 1 || s.timeout > 1)
        return u->host->fail(u->dev, -EINVAL, "saved registers: impossible bits");
    /* the receiver may hold more than its capacity for no state: FCR changes clear it */
    if (s.rx_len > capacity(&s) || s.tx_len > capacity(&s))
        return u->host->fail(u->dev, -EINVAL, "saved FIFOs: %u and %u characters do not fit",
                             s.rx_len, s.tx_len);
    for (unsigned i = 0; i < FIFO; i++)
        if (s.rx_err[i] & ~LSR_OF_CHAR)
            return u->host->fail(u->dev, -EINVAL, "saved FIFO: impossible errors");
    s.lines = u->s.lines; /* the far end's, and this is another one */
    u->s = s;
    update_modem(u);
    if (s.timeout_at)
        u->host->timer_set(u->timer, s.timeout_at);
    else
        u->host->timer_cancel(u->timer);
    update_irq(u);
    u->host->char_ready(u->chr);
    return 0;
}

static int uart_power_on(void *self)
{
    struct uart *u = self;

    /* "peer": until the backend says that somebody is there, nobody is */
    u->s.lines = u->follow_peer ? 0 : MSR_CTS | MSR_DSR | MSR_DCD;
    return 0;
}

/* What was held up while paused goes on by events of the backend; a transmitter that is stuck on a
 * backend that has changed meanwhile is not. */
static void uart_resume(void *self)
{
    struct uart *u = self;

    transmit(u);
    update_irq(u);
}

static void uart_inspect(void *self, struct mobo_inspect *out)
{
    struct uart *u = self;

    u->host->inspect_fields(out, MOBO_ARRAY(uart_fields), &u->s);
    u->host->inspect_uint(out, "iir", interrupt_id(&u->s));
    u->host->inspect_uint(out, "line_status", line_status(&u->s));
}

static void uart_destroy(void *self)
{
    free(self);
}

static int uart_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W8, uart_read, uart_write };
    static const struct mobo_char_ops cops = { sizeof(cops), 0, uart_can_read, uart_input,
                                               uart_event };
    static const uint16_t com[4] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    struct mobo_acpi_isa node = { .head = { sizeof(node), MOBO_ACPI_ISA },
                                  .name = { "COM0" },
                                  .hid = "PNP0501",
                                  .cid = "PNP0500",
                                  .nports = 1 };
    struct uart *u = calloc(1, sizeof(*u));
    uint32_t port = (uint32_t)host->param_uint(dev, "port"), flags;
    uint32_t irq = (uint32_t)host->param_uint(dev, "irq");
    int err;

    if (!u)
        return host->fail(dev, -ENOMEM, "out of memory");
    u->dev = dev;
    u->host = host;
    u->trace = host->trace_word(dev);
    u->has_irq = irq != 0;
    u->follow_peer = !strcmp(host->param_str(dev, "carrier"), "peer");
    flags = host->param_bool(dev, "shared") ? MOBO_IRQ_LEVEL | MOBO_IRQ_SHARED : MOBO_IRQ_EDGE;
    if ((err = host->pio_add(dev, "registers", port, NREGS, 0, &ops, u, NULL)) ||
        (u->has_irq && (err = host->irq_claim(dev, irq, flags, &u->irq))) ||
        (err = host->timer_create(dev, uart_timeout, u, &u->timer)) ||
        (err = host->char_open(dev, "backend", &cops, u, &u->chr)))
        goto fail;
    /* Only the four usual places are described; systems have to be told about others. */
    for (unsigned i = 0; i < 4; i++)
        if (port == com[i]) {
            node.name[3] = (char)('1' + i);
            node.uid = i + 1;
        }
    if (node.uid && irq < 16) {
        node.irqs = irq ? 1u << irq : 0;
        node.irq_flags = flags;
        node.port[0].base = (uint16_t)port;
        node.port[0].len = NREGS;
        if ((err = host->acpi_add(dev, &node.head)))
            goto fail;
    }
    *ret_self = u;
    return 0;
fail:
    uart_destroy(u);
    return err;
}

static const struct mobo_param uart_params[] = {
    { .name = "port",
      .kind = MOBO_UINT,
      .def = "0x3f8",
      .max = 0xfff8,
      .help = "First of its eight ports: 0x3f8, 0x2f8, 0x3e8 and 0x2e8 are COM1 to COM4" },
    { .name = "irq",
      .kind = MOBO_UINT,
      .def = "4",
      .max = 23,
      .help = "Interrupt line, 0 for none; COM1 and COM3 have 4, COM2 and COM4 have 3" },
    { .name = "shared",
      .kind = MOBO_BOOL,
      .def = "no",
      .help = "Whether the line is level-triggered and can be shared with other devices" },
    { .name = "backend", .kind = MOBO_CHAR, .def = "null", .help = "What is at the other end" },
    { .name = "carrier",
      .kind = MOBO_CHOICE,
      .def = "always",
      .choices = "always|peer",
      .help = "When CTS, DSR and DCD are on: always, or while the backend has a peer" },
};

static const struct mobo_vdev_ops uart_ops = {
    .size = sizeof(uart_ops),
    .create = uart_create,
    .destroy = uart_destroy,
    .power_on = uart_power_on,
    .reset = uart_reset,
    .resume = uart_resume,
    .save = uart_save,
    .restore = uart_restore,
    .inspect = uart_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 0,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "uart16550",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "PC16550D serial port",
    .dev_class = MOBO_CLASS_EMULATED,
    .params = MOBO_ARRAY(uart_params),
    .ops = &uart_ops,
};
