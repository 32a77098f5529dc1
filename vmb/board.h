/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of the virtual motherboard: structures and who guards what.
 *
 * Lock order, outermost first.  A thread takes a lock only while it holds none that is below or on
 * the same line, and no lock is held while the embedder's callbacks run, but the vdev's during
 * char_write(), char_ready(), log() and request().
 *
 *   1. the PCI host bridge's vdev lock
 *   2. a vdev lock (one at a time)
 *   3. space.lock (port and MMIO maps)
 *   4. pci.lock (configuration spaces)
 *   5. irq.lock
 *   6. the vdev lock of an interrupt controller (MOBO_VDEV_IRQ_SINK)
 *   7. leaves: clock.lock, io.lock, input.lock, run.lock, a20_lock, msg_lock, space.mmio_lock; libevent's own
 *
 * A vdev lock is not recursive for other threads, but a thread that is inside a vdev may come back
 * into it through a service (a host bridge's configuration cycle to itself). */
#ifndef VMB_BOARD_H
#define VMB_BOARD_H

#include <pthread.h>
#include <stdatomic.h>

#include "sdk/lib/param.h"
#include "sdk/lib/pciconf.h"
#include "sdk/lib/state.h"
#include "vmb/vmb.h"
#include "vmbus/vmbus.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { VMB_MAX_REGIONS = 4096, VMB_MAX_EXACT = 16, VMB_MAX_VDEVS = 1024 };
#define VMB_PCI_HOLE 0xc0000000ull /* RAM below 4 GiB ends here at the latest */
#define VMB_PCI_END  0xfec00000ull /* I/O APIC and above belong to the platform */
#define VMB_4G       0x100000000ull

/* ---- plug-ins (loader.c) -------------------------------------------------------------------------- */

struct plugin {
    struct plugin *next;
    char *path;   /* owned */
    void *handle; /* dlopen(); never closed: code may still be referenced at exit */
    struct mobo_vdev_descriptor desc; /* completed with zeroes */
    struct mobo_vdev_ops ops;
    unsigned instances;
};

int plugin_load(const char *path, struct plugin **ret, char *msg, size_t len);
/* What a shared object exports (elf.c): the first symbol that is not @allowed goes to @other.
 * @return the number of exported symbols, -ENOEXEC when the file is not such an object. */
int plugin_exports(const char *path, const char *allowed, char *other, size_t len);
void plugin_free(struct plugin *p);
/* Find the plug-in of a type.  @return 0; -ESRCH: there is none; else what plugin_load() says. */
int plugin_find(struct vmb *v, const char *type, const char *path, struct plugin **ret, char *msg,
                size_t len);

/* ---- messages (host.c) --------------------------------------------------------------------------- */

/* Of one level and source; guarded by msg_lock. */
struct log_limit {
    uint64_t at_s, left_out;
    unsigned used;
};

/* ---- devices -------------------------------------------------------------------------------------- */

struct vdev_param {
    const char *name; /* borrowed from the descriptor, or static */
    uint32_t kind;
    char *text; /* owned, NULL: not set */
    const char *file;
    unsigned line;
    struct mobo_param_value val;
};

struct mobo_vdev {
    struct mobo_vdev *next;
    struct vmb *board;
    char *name, *file; /* owned */
    unsigned line;
    struct plugin *plugin;
    struct mobo_vdev_ops ops;
    void *self; /* NULL until created */
    bool thread_safe, is_sink, powered;
    struct vdev_param *params; /* owned */
    unsigned nparams;
    int32_t slot, slot_fn; /* key `slot`, -1 not given */
    pthread_mutex_t lock;
    _Atomic(const void *) owner; /* thread that is inside */
    char msg[VMB_MSG_LEN];       /* last fail(); guarded by msg_lock */
    uint32_t trace;              /* set before creation */
    int a20;                     /* -1 no opinion; guarded by a20_lock */
    struct log_limit limits[MOBO_DEBUG + 1];
};

/* What the calling thread is inside of; its address also names the thread. */
extern __thread struct mobo_vdev *vdev_current;

/* Go into a vdev: take its lock unless this thread has it.  Undo with the returned value. */
struct vdev_enter {
    struct mobo_vdev *prev;
    bool locked;
};

static inline struct vdev_enter vdev_enter(struct mobo_vdev *d)
{
    struct vdev_enter e = { vdev_current, false };

    if (!d->thread_safe &&
        atomic_load_explicit(&d->owner, memory_order_relaxed) != (const void *)&vdev_current) {
        pthread_mutex_lock(&d->lock);
        atomic_store_explicit(&d->owner, (const void *)&vdev_current, memory_order_relaxed);
        e.locked = true;
    }
    vdev_current = d;
    return e;
}

static inline void vdev_leave(struct mobo_vdev *d, struct vdev_enter e)
{
    vdev_current = e.prev;
    if (e.locked) {
        atomic_store_explicit(&d->owner, NULL, memory_order_relaxed);
        pthread_mutex_unlock(&d->lock);
    }
}

/* Debug builds: the calling thread has to be inside the vdev for this service. */
#ifdef MOBO_DEBUG_CHECKS
void vdev_check(struct mobo_vdev *dev, const char *service);
#else
static inline void vdev_check(struct mobo_vdev *dev, const char *service)
{
    (void)dev;
    (void)service;
}
#endif
/* Services of create() only.  @return 0, or -EPERM with a message. */
int vdev_creating(struct mobo_vdev *dev, const char *service);

int vdev_fail(struct mobo_vdev *dev, int err, const char *fmt, ...) MOBO_PRINTF(3, 4);
void vmb_log(struct vmb *v, unsigned level, const char *from, const char *fmt, ...)
    MOBO_PRINTF(4, 5);
/* Say what was left out and not said yet. */
void log_end(struct vmb *v);
/* "FILE:LINE: " or nothing. */
const char *where(const char *file, unsigned line, char *buf, size_t len);

/* params.c: take over and check the keys of a section. */
int vdev_params_set(struct mobo_vdev *dev, const struct vmb_dev_config *cfg, const char *base_dir,
                    char *msg, size_t len);
void vdev_params_free(struct mobo_vdev *dev);
struct vdev_param *vdev_param_find(struct mobo_vdev *dev, const char *key);

/* ---- regions (space.c) ---------------------------------------------------------------------------- */

struct mobo_region {
    struct mobo_vdev *dev;
    char name[32];
    bool mmio, bar;
    unsigned seq; /* index in space.regions; the lowest answers */
    uint32_t flags;
    struct mobo_io_ops ops;
    void *ctx;
    uint64_t len;
    _Atomic(uint64_t) base; /* changes under space.lock */
    atomic_bool enabled;
};

struct mmio_range {
    uint64_t start, last;
    struct mobo_region *region;
};

struct space {
    pthread_mutex_t lock; /* changes */
    struct mobo_region *regions[VMB_MAX_REGIONS];
    unsigned nregions;
    _Atomic(uint16_t) port[65536]; /* region index + 1, 0 none */
    struct mobo_region *exact[VMB_MAX_EXACT];
    atomic_uint nexact;
    pthread_rwlock_t mmio_lock; /* the two below */
    struct mmio_range *mmio;    /* sorted, disjoint; owned */
    unsigned nmmio;
};

int space_init(struct space *s);
void space_fini(struct space *s);
int space_add(struct mobo_vdev *dev, bool mmio, bool bar, const char *name, uint64_t base,
              uint64_t len, uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
              struct mobo_region **ret);
/* Base and enable at once. */
int space_place(struct mobo_region *r, uint64_t base, bool enabled);
/* The partition is there. */
void space_delay_port(struct vmb *v);
uint32_t space_pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len);
void space_pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val);
uint64_t space_mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len);
void space_mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val);

/* ---- memory (mem.c) ------------------------------------------------------------------------------- */

struct mobo_ram {
    struct mobo_ram *next;
    struct mobo_vdev *dev;
    char name[32];
    uint64_t offset, len, gpa;
    uint32_t flags;
    bool mapped;
    void *hva;
};

int mem_init(struct vmb *v, char *msg, size_t len);
int mem_ram_add(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                struct mobo_ram **ret, void **ret_hva);
int mem_ram_map(struct mobo_ram *ram, uint64_t gpa);
void mem_ram_unmap(struct mobo_ram *ram);
int mem_ram_dirty(struct mobo_ram *ram, uint64_t off, uint64_t len, uint64_t *bitmap);
/* Memory that is added while the machine runs: mem_reserve() and mem_plug() of the SDK. */
int mem_hot_reserve(struct mobo_vdev *dev, uint64_t len, uint64_t *ret_gpa);
int mem_hot_plug(struct mobo_vdev *dev, uint64_t len);
/* Give [gpa, gpa + len) of the ISA hole to MMIO, or back to RAM. */
void mem_isa_hole(struct vmb *v, uint64_t gpa, uint64_t len, bool to_mmio);

/* ---- interrupts (irq.c) --------------------------------------------------------------------------- */

struct mobo_irq {
    struct mobo_irq *next;
    struct mobo_vdev *dev;
    uint32_t line, flags;
    bool level; /* guarded by irq.lock */
};

struct irq_sink {
    struct irq_sink *next;
    struct mobo_vdev *dev;
    uint32_t first, count;
    void (*level)(void *ctx, uint32_t line, int level);
    void *ctx;
};

struct eoi_watch {
    struct eoi_watch *next;
    struct mobo_vdev *dev;
    void (*eoi)(void *ctx, uint32_t vector);
    void *ctx;
};

struct irq {
    pthread_mutex_t lock;
    struct mobo_irq *claims; /* lists: set up in create() */
    struct irq_sink *sinks;
    struct eoi_watch *eois;
    unsigned claimed[MOBO_IRQ_LINES]; /* asserted claims */
    bool level[MOBO_IRQ_LINES];
    unsigned pirq[4]; /* asserted INTx pins */
    int32_t route[4]; /* line of each PIRQ, -1 none */
    struct mobo_vdev *router;
    bool restoring; /* keep changes to yourself */
    struct mobo_vdev *intack_dev;
    int (*intack)(void *ctx);
    void *intack_ctx;
};

void irq_init(struct irq *q);
void irq_fini(struct irq *q);
int irq_claim(struct mobo_vdev *dev, uint32_t line, uint32_t flags, struct mobo_irq **ret);
void irq_set(struct mobo_irq *irq, int level);
void irq_pulse(struct mobo_irq *irq);
int irq_sink_add(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                 void (*level)(void *ctx, uint32_t line, int level), void *ctx);
int irq_intack_set(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx);
int irq_eoi_watch(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector), void *ctx);
int irq_pirq_route(struct mobo_vdev *dev, uint32_t pirq, int32_t line);
/* One more or one fewer INTx pin asserts @pirq. */
void irq_pirq_change(struct vmb *v, uint32_t pirq, bool level);
int32_t irq_pirq_line(struct vmb *v, uint32_t pirq);
void irq_reset(struct vmb *v); /* all lines deasserted */
int irq_ack(void *ctx, unsigned vp);
void irq_eoi(void *ctx, unsigned vp, unsigned vector);
void irq_save(struct vmb *v, struct mobo_writer *w);
int irq_restore(struct vmb *v, struct mobo_reader *r, char *msg, size_t len);
void irq_restored(struct vmb *v);

/* ---- PCI (pci.c) ---------------------------------------------------------------------------------- */

struct mobo_pci {
    struct mobo_pci *next;
    struct mobo_vdev *dev;
    struct mobo_pciconf conf; /* guarded by pci.lock */
    struct mobo_pci_ops ops;
    void *ctx;
    uint8_t slot, fn, pin;
    bool bridge;
    bool intx;      /* what the device drives; guarded by pci.lock */
    bool intx_seen; /* what irq.c was told; guarded by pci.lock */
    struct mobo_region *bar[6];
    struct mobo_ram *bar_ram[6];
};

struct pci {
    pthread_mutex_t lock;
    struct mobo_pci *fns; /* list: set up in create() */
    struct mobo_pci *at[256];
    bool have_root;
};

void pci_init(struct pci *p);
void pci_fini(struct pci *p);
int pci_add(struct mobo_vdev *dev, const struct mobo_pci_info *info, const struct mobo_pci_ops *ops,
            void *ctx, struct mobo_pci **ret);
int pci_config_init(struct mobo_pci *p, uint32_t off, uint32_t len, uint32_t reset,
                    uint32_t writable, uint32_t w1c);
uint32_t pci_config_get(struct mobo_pci *p, uint32_t off, uint32_t len);
void pci_config_set(struct mobo_pci *p, uint32_t off, uint32_t len, uint32_t val);
int pci_bar_add(struct mobo_pci *p, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                const struct mobo_io_ops *ops, void *ctx, struct mobo_region **ret);
int pci_bar_ram(struct mobo_pci *p, uint32_t n, uint32_t kind, struct mobo_ram *ram);
int pci_cap_add(struct mobo_pci *p, uint32_t id, uint32_t len, uint32_t *ret_off);
int pci_msi_add(struct mobo_pci *p, uint32_t vectors);
void pci_irq_set(struct mobo_pci *p, int level);
int pci_msi_send(struct mobo_pci *p, uint32_t n);
int pci_msi_enabled(struct mobo_pci *p);
int pci_dma_read(struct mobo_pci *p, uint64_t gpa, void *buf, uint64_t len);
int pci_dma_write(struct mobo_pci *p, uint64_t gpa, const void *buf, uint64_t len);
uint32_t pci_config_read(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                         uint32_t len);
void pci_config_write(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                      uint32_t len, uint32_t val);
void pci_reset(struct vmb *v);
/* What firmware does: addresses for BARs, decoding on, interrupt line registers. */
void pci_assign(struct vmb *v);
int pci_save(struct mobo_vdev *dev, struct mobo_writer *w);
int pci_restore(struct mobo_vdev *dev, struct mobo_reader *r, char *msg, size_t len);

/* ---- time (clock.c) ------------------------------------------------------------------------------- */

struct mobo_timer {
    struct mobo_timer *next; /* of all timers */
    struct mobo_vdev *dev;
    void (*fired)(void *ctx, uint64_t now);
    void *ctx;
    uint64_t deadline; /* guarded by clock.lock, like the rest */
    unsigned gen;      /* counts set and cancel: a callback that was due learns of them */
    int at;            /* index in the heap, -1: not armed */
};

struct clock {
    pthread_mutex_t lock;
    struct mobo_timer *all;
    struct mobo_timer **heap; /* owned; earliest first */
    unsigned nheap, cap, ntimers;
    int fd; /* timerfd */
    struct event *ev;
    bool stopped;
};

int clock_init(struct vmb *v);
void clock_fini(struct vmb *v);
int timer_add(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now), void *ctx,
              struct mobo_timer **ret);
void timer_arm(struct mobo_timer *t, uint64_t deadline);
void timer_disarm(struct mobo_timer *t);
void clock_stop(struct vmb *v, bool stop); /* with guest time */
void clock_clear(struct vmb *v);           /* disarm all */

/* ---- I/O thread (io.c) ---------------------------------------------------------------------------- */

struct work {
    struct work *next;
    struct mobo_vdev *dev; /* NULL: the board's own, runs without a lock, also while paused */
    void (*fn)(void *ctx);
    void *ctx;
};

struct mobo_watch {
    struct mobo_watch *next;
    struct mobo_vdev *dev;
    int fd;
    atomic_uint events;
    atomic_bool dead;
    struct event *ev;
    void (*ready)(void *ctx, int fd, uint32_t events);
    void *ctx;
};

struct mobo_char {
    struct mobo_char *next;
    struct mobo_vdev *dev;
    struct mobo_char_ops ops;
    void *ctx;
    struct vmb_backend *backend; /* NULL: swallows */
    atomic_uint pending;         /* events that came during a pause, bit n: event n */
};

struct io {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct event_base *base;
    struct event *wake;
    int wake_fd, soon_fd;       /* eventfd, timerfd */
    struct event *soon_wake;
    struct work *head, **tail;  /* guarded by io.lock */
    bool awake;                 /* the I/O thread will look at the work; guarded by io.lock */
    atomic_bool soon;           /* it will a moment later; written under io.lock */
    struct mobo_watch *watches; /* guarded by io.lock */
    struct mobo_char *chars;    /* set up in create() */
    struct mobo_block *blocks;  /* guarded by io.lock */
    struct mobo_net *nets;      /* set up in create() */
    pthread_t thread;
    bool running;
    atomic_bool paused;
};

int io_init(struct vmb *v, char *msg, size_t len);
int io_start(struct vmb *v);
void io_stop(struct vmb *v);
void io_fini(struct vmb *v);
/* Hold back everything of vdevs; returns when nothing runs any more. */
void io_pause(struct vmb *v);
void io_resume(struct vmb *v);
int io_post(struct vmb *v, struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx);
/* The same, for what may wait until @ns have passed, a VP has nothing to do, or the I/O thread is awake anyway. */
int io_post_soon(struct vmb *v, struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx, uint32_t ns);
/* hv_ops.idle */
void io_idle(void *ctx, unsigned vp);
/* Run on the I/O thread and wait for it. */
void io_call(struct vmb *v, void (*fn)(void *ctx), void *ctx);
int io_watch(struct mobo_vdev *dev, int fd, uint32_t events,
             void (*ready)(void *ctx, int fd, uint32_t events), void *ctx, struct mobo_watch **ret);
void io_watch_set(struct mobo_watch *w, uint32_t events);
void io_unwatch(struct mobo_watch *w);
int char_open(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops, void *ctx,
              struct mobo_char **ret);
uint32_t char_write(struct mobo_char *c, const uint8_t *buf, uint32_t len);
void char_ready(struct mobo_char *c);

/* ---- network backends (net.c) --------------------------------------------------------------------- */

struct mobo_net {
    struct mobo_net *next;
    struct mobo_vdev *dev;
    struct mobo_net_ops ops;
    void *ctx;
    struct vmb_net *net; /* NULL: only checking */
    uint32_t max_frame;
    atomic_uint pending; /* events that came during a pause, bit n: event n */
};

int net_open(struct mobo_vdev *dev, const char *key, const struct mobo_net_ops *ops, void *ctx,
             struct mobo_net **ret, struct mobo_net_info *info);
int net_send(struct mobo_net *n, const struct mobo_iov *iov, uint32_t niov);
void net_ready(struct mobo_net *n);
void net_resume(struct vmb *v);
void net_fini(struct vmb *v);

/* ---- displays (display.c) ------------------------------------------------------------------------- */

struct mobo_display {
    struct mobo_display *next;
    struct mobo_vdev *dev;
    struct mobo_display_ops ops;
    void *ctx;
    struct vmb_display *display; /* NULL: only checking */
    uint32_t width, height;      /* of the picture, 0: dark */
    int told;                    /* what watch() was called with last */
    atomic_int watched;
    _Atomic uint64_t hint; /* width << 32 | height, 0 none */
    atomic_bool posted;
};

int disp_open(struct mobo_vdev *dev, const char *key, const struct mobo_display_ops *ops, void *ctx,
              struct mobo_display **ret);
int disp_surface(struct mobo_display *d, const struct mobo_surface *s);
void disp_dirty(struct mobo_display *d, int32_t x, int32_t y, uint32_t width, uint32_t height);
int disp_cursor(struct mobo_display *d, const struct mobo_cursor *c);
void disp_cursor_move(struct mobo_display *d, int32_t x, int32_t y, int visible);
void disp_fini(struct vmb *v);

/* ---- input (input.c) ------------------------------------------------------------------------------ */

enum { FULL_KEYS = 1, FULL_POINTER = 2 };
struct mobo_input {
    struct mobo_input *next;
    struct mobo_vdev *dev;
    struct mobo_input_ops ops;
    void *ctx;
    bool active;      /* guarded by input.lock, as is: */
    uint32_t leds;
    atomic_uint full; /* queues of which it takes nothing until input_ready(): FULL_... */
};

enum { INPUT_QUEUE = 4096 };
struct input_queue {
    struct mobo_input_event events[INPUT_QUEUE]; /* a ring */
    unsigned first, count;
    unsigned life; /* counts resets */
};

struct inputs {
    pthread_mutex_t lock;    /* a leaf; everything but the list, which is set up in create() */
    struct mobo_input *list; /* in order of creation */
    struct input_queue keys, pointer;
    struct mobo_input *owner[MOBO_KEY_COUNT]; /* where a key is held */
    int32_t x, y;            /* where the pointer is, 0..MOBO_POINT_MAX */
    uint32_t width, height;  /* pixels */
    atomic_bool posted;
};

void input_init(struct vmb *v);
int input_add(struct mobo_vdev *dev, const struct mobo_input_ops *ops, void *ctx,
              struct mobo_input **ret);
void input_active(struct mobo_input *in, int active);
void input_ready(struct mobo_input *in);
void input_leds(struct mobo_input *in, uint32_t leds);
void input_screen(struct vmb *v, uint32_t width, uint32_t height);
void input_resume(struct vmb *v); /* I/O thread, after a pause */
void input_reset(struct vmb *v);
void input_fini(struct vmb *v);

/* ---- disk images (block.c) ------------------------------------------------------------------------ */

struct mobo_block {
    struct mobo_block *next; /* of all, guarded by io.lock */
    struct mobo_vdev *dev;
    struct vmb_disk *disk; /* NULL: closed, or only checking */
    struct mobo_block_info info;
    char what[64]; /* "disk0: lun3", for messages */
    pthread_mutex_t lock; /* a leaf; all below */
    pthread_cond_t cond;
    struct mobo_block_req *done, **done_tail;   /* finished, done() not called yet */
    struct mobo_block_req *stalled, **stalled_tail; /* wait for space */
    unsigned running; /* with the provider */
    bool posted;      /* deliver() is on its way */
    struct mobo_block_req *telling; /* done() is being called of those before; under the lock of the vdev */
};

int blk_open(struct mobo_vdev *dev, const char *key, uint32_t flags, struct mobo_block **ret,
               struct mobo_block_info *info);
int blk_open_spec(struct mobo_vdev *dev, const char *spec, uint32_t flags, struct mobo_block **ret,
                  struct mobo_block_info *info);
void blk_close(struct mobo_block *b);
int blk_submit(struct mobo_block *b, struct mobo_block_req *req);
void blk_drain(struct mobo_block *b, int cancel);
/* Try again what waits for space. */
void blk_resume(struct vmb *v);
/* Close all images.  No vdev runs any more. */
void blk_fini(struct vmb *v);
void blk_free(struct vmb *v); /* the handles, after the vdevs are gone */

/* ---- virtual processors (vp.c) -------------------------------------------------------------------- */

enum run_mode { RUN_OFF, RUN_PARK, RUN_GO, RUN_EXIT };

struct run {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    enum run_mode mode;
    unsigned parked, started;
    bool held; /* a request stopped the VPs; ends with reset or power-off */
    pthread_t thread[HV_MAX_VPS];
};

int vp_start(struct vmb *v);    /* threads, parked */
void vp_park(struct vmb *v);    /* returns when none runs */
void vp_go(struct vmb *v);      /* unless held */
void vp_release(struct vmb *v); /* forget a hold */
void vp_join(struct vmb *v);
/* Forward a request; those that end the run also stop the VPs, and only the first of them counts. */
void vp_request(struct vmb *v, const struct vmb_request *req);

/* ---- VMBus (vmbus.c) ------------------------------------------------------------------------------ */

/* Guest-physical addresses that VMBus devices may hand out (frame buffers); not the PCI bus's. */
#define VMB_VMBUS_MMIO 0xf8000000ull
#define VMB_VMBUS_MMIO_LEN 0x4000000ull

struct mobo_vmbus {
    struct mobo_vmbus *next;
    struct mobo_vdev *dev;
    struct vmbus_channel *ch;
    struct mobo_vmbus_ops ops;
    void *ctx;
    atomic_bool posted;  /* signal() is on its way */
    uint32_t budget;     /* packets that may be received until then; under the vdev lock */
    atomic_bool lazy;    /* a signal is put off for a moment, so that more packets come with it */
    uint32_t lone, wait, backoff; /* I/O thread: see bus.c */
    bool dead;           /* rescinded; freed when the guest has let go and no work is under way */
};

int bus_init(struct vmb *v); /* enlightened boards */
void bus_fini(struct vmb *v);
void bus_tick_fini(struct vmb *v); /* before the event loop */
void bus_reset(struct vmb *v);
void bus_settle(struct vmb *v); /* handle what the guest sent; no VP runs */
int bus_save(struct vmb *v, struct mobo_writer *w);
/* After the devices; takes over @s. */
int bus_commit(struct vmb *v, struct vmbus_saved *s, char *msg, size_t len);
uint16_t bus_post_message(void *ctx, unsigned vp, uint32_t connection, uint32_t type,
                          const void *payload, unsigned len);
uint16_t bus_signal_event(void *ctx, unsigned vp, uint32_t connection, uint16_t flag);
int bus_offer(struct mobo_vdev *dev, const struct mobo_vmbus_offer *offer,
              const struct mobo_vmbus_ops *ops, void *ctx, struct mobo_vmbus **ret);
void bus_rescind(struct mobo_vmbus *m);
int bus_receive(struct mobo_vmbus *m, struct mobo_vmbus_packet *ret);
int bus_send(struct mobo_vmbus *m, uint32_t type, uint32_t flags, uint64_t transaction,
             const void *desc, uint32_t desc_len, const void *data, uint32_t len);
void bus_fault(struct mobo_vmbus *m, const char *why);
int bus_gpadl_read(struct mobo_vmbus *m, uint32_t gpadl, uint64_t off, void *buf, uint32_t len);
int bus_gpadl_write(struct mobo_vmbus *m, uint32_t gpadl, uint64_t off, const void *buf,
                    uint32_t len);
int bus_gpadl_len(struct mobo_vmbus *m, uint32_t gpadl, uint64_t *ret_len);
int bus_gpa_direct(struct mobo_vmbus *m, const struct mobo_vmbus_packet *packet,
                   struct mobo_iov *iov, uint32_t max, uint32_t *ret_n, uint64_t *ret_len);
uint32_t bus_version(struct mobo_vmbus *m);
int bus_tl_listen(struct mobo_vdev *dev,
                  void (*connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service), void *ctx);
void bus_tl_result(struct mobo_vdev *dev, const uint8_t *endpoint, const uint8_t *service, uint32_t status);
void bus_mem_dirty(struct mobo_vdev *dev, uint64_t gpa, uint64_t len);

/* ---- ACPI (acpi/) --------------------------------------------------------------------------------- */

struct acpi_item {
    struct acpi_item *next;
    struct mobo_vdev *dev;
    union {
        struct mobo_acpi head;
        struct mobo_acpi_ioapic ioapic;
        struct mobo_acpi_pm pm;
        struct mobo_acpi_hpet hpet;
        struct mobo_acpi_isa isa;
        struct mobo_acpi_legacy legacy;
        struct mobo_acpi_pci_root root;
        struct mobo_acpi_pci_links links;
    } u;
};

int acpi_add(struct mobo_vdev *dev, const struct mobo_acpi *desc);
/* Write all tables to guest memory; sets v->rsdp.  @return 0, -ENOSPC. */
int acpi_write(struct vmb *v);

/* ---- the board ------------------------------------------------------------------------------------ */

struct vmb {
    const struct vmb_ops *ops;
    void *ctx;
    struct hv_partition *part;
    unsigned vps, generation;
    char name[64]; /* of the VM */
    bool direct_boot, check_only;
    uint64_t ram_low, ram_high, ram_low_off, ram_high_off;
    struct {
        struct mobo_vdev *dev; /* whose it is, NULL: there is none */
        uint64_t gpa, max, len, off; /* len: what is plugged */
    } ram_hot;
    char **dirs; /* owned, NULL-terminated */
    struct plugin *plugins;
    struct mobo_vdev *devs; /* in order of creation */
    struct mobo_ram *rams;
    struct vmbus *bus; /* NULL: not enlightened */
    struct mobo_vmbus *bus_channels; /* I/O thread and control thread */
    struct event *bus_tick;          /* looks at the monitor page while a channel needs that */
    struct mobo_vdev *tl_dev;        /* hears of hvsocket connections; NULL: none */
    void (*tl_connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service);
    void *tl_ctx;
    atomic_bool bus_posted;
    bool lazy_signals; /* VPs say when they have nothing to do */
    struct acpi_item *acpi;
    uint64_t rsdp;
    struct space space;
    struct irq irq;
    struct pci pci;
    struct clock clock;
    struct io io;
    struct mobo_display *displays; /* set up in create() */
    struct inputs input;
    struct run run;
    pthread_mutex_t a20_lock, msg_lock;
    struct log_limit limits[MOBO_DEBUG + 1]; /* of what is no vdev's */
    bool log_debug;                          /* lines of that level have no limit */
    bool powered, paused; /* control thread's */
    bool ran;             /* since power-on */
    bool restored;        /* and has not run since */
};

extern const struct mobo_host vmb_host; /* host.c */

/* state.c */
/** Whether the state is of a board like this one; nothing is changed.  vmb_restore_state() looks again. */
int vmb_restore_check(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len);
int vmb_restore_state(struct vmb *v, const void *buf, size_t len, char *msg, size_t msg_len);

/* For new threads: signals that somebody sends belong to the control thread; those that a thread
 * causes itself, and those that wake a VP, stay open.  Start with *old, restore it afterwards. */
void board_block_signals(void *old);

/* What vmb_restore() starts from. */
struct board_state {
    const void *buf;
    size_t len;
    int (*load_ram)(void *ctx, char *msg, size_t msg_len);
    void *ctx;
};
int board_start(struct vmb *v, const struct board_state *state, char *msg, size_t len);

#endif
