/* SPDX-License-Identifier: MIT */
/* The inside of the fake host. */
#ifndef MOBO_FAKE_INT_H
#define MOBO_FAKE_INT_H

#include "sdk/lib/access.h"
#include "sdk/lib/inspect.h"
#include "sdk/lib/param.h"
#include "sdk/lib/pciconf.h"
#include "sdk/lib/state.h"
#include "sdk/test/mobo_fakehost.h"

#define HOT_GPA (1ull << 32) /* memory that is added */
enum { RAM_LEN = 16 << 20, CHARS = 4, MSI_LOG = 256, SYS_LOG = 32 };

struct mobo_region {
    struct mobo_region *next;
    struct mobo_vdev *dev;
    char name[32];
    int mmio, enabled;
    uint64_t base, len;
    uint32_t flags;
    struct mobo_io_ops ops;
    void *ctx;
};

struct mobo_ram {
    struct mobo_ram *next;
    struct mobo_vdev *dev;
    uint8_t *hva, *dirty; /* owned */
    uint64_t len, gpa;
    uint32_t flags;
    int mapped;
};

struct mobo_irq {
    struct mobo_irq *next;
    struct mobo_vdev *dev;
    uint32_t line, flags;
    int level;
};

struct sink {
    struct sink *next;
    struct mobo_vdev *dev;
    uint32_t first, count;
    void (*level)(void *ctx, uint32_t line, int level);
    void *ctx;
};

struct eoi {
    struct eoi *next;
    struct mobo_vdev *dev;
    void (*fn)(void *ctx, uint32_t vector);
    void *ctx;
};

struct mobo_pci {
    struct mobo_pci *next;
    struct mobo_vdev *dev;
    struct mobo_pciconf conf;
    struct mobo_pci_ops ops;
    void *ctx;
    uint32_t slot, fn, pin;
    int intx;
    struct mobo_region *bar[6];
    struct mobo_ram *bar_ram[6];
};

struct mobo_timer {
    struct mobo_timer *next;
    struct mobo_vdev *dev;
    void (*fired)(void *ctx, uint64_t now);
    void *ctx;
    uint64_t deadline; /* UINT64_MAX: not armed */
};

struct work {
    struct work *next;
    struct mobo_vdev *dev;
    void (*fn)(void *ctx);
    void *ctx;
};

struct mobo_watch {
    struct mobo_watch *next;
    struct mobo_vdev *dev;
    int fd;
    uint32_t events;
    void (*ready)(void *ctx, int fd, uint32_t events);
    void *ctx;
};

struct mobo_char {
    struct mobo_char_ops ops;
    void *ctx;
    uint8_t *in, *out; /* owned */
    uint32_t in_len, out_len, room;
    int open, pumping;
};

struct acpi {
    struct acpi *next;
    struct mobo_vdev *dev;
    struct mobo_acpi *desc; /* owned */
};

struct param {
    char *text; /* owned, NULL: not set */
    struct mobo_param_value val;
};

struct net_frame {
    struct net_frame *next;
    uint32_t len;
    uint8_t data[];
};

struct mobo_net {
    struct mobo_net *next; /* in the order of net_open() */
    struct mobo_vdev *dev;
    struct mobo_net_ops ops;
    void *ctx;
    struct net_frame *in, **in_tail;   /* for the device */
    struct net_frame *out, **out_tail; /* of the device */
    uint32_t room;                     /* frames; UINT32_MAX: no limit */
    int starved, pumping, posted;
};

struct dirty {
    struct dirty *next;
    int32_t rect[4];
};

struct mobo_display {
    struct mobo_display *next; /* in the order of display_open() */
    struct mobo_vdev *dev;
    struct mobo_display_ops ops;
    void *ctx;
    struct mobo_surface surface; /* size 0: dark */
    struct mobo_cursor cursor;   /* size 0: none */
    uint32_t argb[MOBO_CURSOR_MAX * MOBO_CURSOR_MAX];
    int32_t x, y;
    int visible;
    struct dirty *dirty, **dirty_tail;
};

struct mobo_input {
    struct mobo_input *next; /* in the order of input_add() */
    struct mobo_vdev *dev;
    struct mobo_input_ops ops;
    void *ctx;
    int active;
    unsigned readies;
    uint32_t leds;
};

struct mobo_vdev {
    struct mobo_vdev *next;
    struct mobo_fake *f;
    char name[32];
    const struct mobo_vdev_descriptor *desc;
    struct mobo_vdev_ops ops;
    void *self;
    struct param *params; /* owned */
    struct mobo_char chr[CHARS];
    struct mobo_vmbus *vmbus; /* in the order of their offers */
    void (*tl_connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service);
    void *tl_ctx;
    uint32_t tl_results, tl_status; /* how often vmbus_tl_result() was called, and the last status */
    struct mobo_net *nets;    /* owned */
    struct mobo_display *displays; /* owned */
    struct mobo_input *inputs;     /* owned */
    int a20; /* -1 no opinion */
};

struct mobo_fake {
    struct mobo_vdev *devs;
    struct mobo_region *regions;
    struct mobo_ram *rams;
    struct mobo_irq *irqs;
    struct sink *sinks;
    struct eoi *eois;
    struct mobo_pci *pci;
    struct mobo_timer *timers;
    struct work *work, **work_tail;
    struct mobo_watch *watches;
    struct acpi *acpi;
    struct disk *disks;
    uint64_t hot_max, hot_len; /* memory that is added: reserved, plugged */
    struct mobo_block *blocks;
    struct mobo_board_info info;
    uint32_t net_max_tcp;
    char error[256], error_read[256];
    unsigned logged[4];
    uint8_t *ram;
    int ext_level[MOBO_IRQ_LINES], level[MOBO_IRQ_LINES];
    unsigned edges[MOBO_IRQ_LINES];
    int32_t pirq[4];
    int routed, intr, (*intack)(void *ctx);
    void *intack_ctx;
    struct mobo_vdev *intack_dev;
    struct {
        uint64_t addr;
        uint32_t data;
    } msi[MSI_LOG];
    struct {
        uint32_t kind, code;
    } sys[SYS_LOG];
    unsigned nmsi, nsys, nmis;
    uint64_t now;
    int64_t wall;
    int paused;
    uint32_t trace;
};

/* A mistake in the test itself. */
__attribute__((noreturn, format(printf, 1, 2))) void fake_die(const char *fmt, ...);
void *fake_zalloc(size_t n);

/* mobo_fakehost.c */
int fake_fail(struct mobo_vdev *dev, int err, const char *fmt, ...);
void fake_set_error(struct mobo_fake *f, const char *fmt, ...);
struct param *fake_find_param(struct mobo_vdev *dev, const char *key, uint32_t kinds);

/* fake_space.c */
int fake_region_add(struct mobo_vdev *dev, int mmio, const char *name, uint64_t base, uint64_t len,
                    uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                    struct mobo_region **ret);
int fake_pio_add(struct mobo_vdev *dev, const char *name, uint32_t base, uint32_t len,
                 uint32_t flags, const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret);
int fake_mmio_add(struct mobo_vdev *dev, const char *name, uint64_t base, uint64_t len,
                  uint32_t flags, const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret);
void fake_region_enable(mobo_region_t r, int enabled);
int fake_region_move(mobo_region_t r, uint64_t base);
uint64_t fake_space_access(struct mobo_fake *f, int mmio, uint64_t addr, uint32_t len, int write,
                           uint64_t val);
void fake_check_access(uint32_t len, int mmio);
int fake_mem_read(struct mobo_vdev *dev, uint64_t gpa, void *buf, uint64_t len);
int fake_mem_write(struct mobo_vdev *dev, uint64_t gpa, const void *buf, uint64_t len);
int fake_mem_map(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void **ret_hva);
void fake_mem_unmap(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void *hva);
int fake_ram_add(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                 mobo_ram_t *ret, void **ret_hva);
int fake_ram_map(mobo_ram_t m, uint64_t gpa);
void fake_ram_unmap(mobo_ram_t m);
int fake_ram_dirty(mobo_ram_t m, uint64_t off, uint64_t len, uint64_t *bitmap);

/* fake_wiring.c */
void fake_lines_update(struct mobo_fake *f);
int fake_irq_claim(struct mobo_vdev *dev, uint32_t line, uint32_t flags, mobo_irq_t *ret);
void fake_irq_set(mobo_irq_t q, int level);
void fake_irq_pulse(mobo_irq_t q);
int fake_irq_sink_add(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                      void (*level)(void *ctx, uint32_t line, int level), void *ctx);
int fake_intack_set(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx);
void fake_intr_set(struct mobo_vdev *dev, int level);
int fake_eoi_watch(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector), void *ctx);
int fake_msi_send(struct mobo_vdev *dev, uint64_t addr, uint32_t data);
void fake_nmi_pulse(struct mobo_vdev *dev);
void fake_a20_set(struct mobo_vdev *dev, int open);
void fake_pci_sync(struct mobo_pci *p);
int fake_pci_add(struct mobo_vdev *dev, const struct mobo_pci_info *info,
                 const struct mobo_pci_ops *ops, void *ctx, mobo_pci_t *ret);
int fake_pci_config_init(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t reset,
                         uint32_t writable, uint32_t w1c);
uint32_t fake_pci_config_get(mobo_pci_t p, uint32_t off, uint32_t len);
void fake_pci_config_set(mobo_pci_t p, uint32_t off, uint32_t len, uint32_t val);
int fake_pci_bar_add(mobo_pci_t p, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                     const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret);
int fake_pci_bar_ram(mobo_pci_t p, uint32_t n, uint32_t kind, mobo_ram_t ram);
int fake_pci_cap_add(mobo_pci_t p, uint32_t id, uint32_t len, uint32_t *ret_off);
int fake_pci_msi_add(mobo_pci_t p, uint32_t vectors);
void fake_pci_irq_set(mobo_pci_t p, int level);
int fake_pci_msi_enabled(mobo_pci_t p);
int fake_pci_msi_send(mobo_pci_t p, uint32_t n);
int fake_pci_dma_read(mobo_pci_t p, uint64_t gpa, void *buf, uint64_t len);
int fake_pci_dma_write(mobo_pci_t p, uint64_t gpa, const void *buf, uint64_t len);
uint32_t fake_pci_config_read(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                              uint32_t len);
void fake_pci_config_write(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                           uint32_t len, uint32_t val);
int fake_pci_pirq_route(struct mobo_vdev *dev, uint32_t pirq, int32_t line);

/* fake_io.c */
uint64_t fake_clock_ns(struct mobo_vdev *dev);
int64_t fake_wall_ns(struct mobo_vdev *dev);
int fake_timer_create(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now), void *ctx,
                      mobo_timer_t *ret);
void fake_timer_set(mobo_timer_t t, uint64_t deadline);
void fake_timer_cancel(mobo_timer_t t);
int fake_work_post(struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx);
int fake_fd_watch(struct mobo_vdev *dev, int fd, uint32_t events,
                  void (*ready)(void *ctx, int fd, uint32_t events), void *ctx, mobo_watch_t *ret);
void fake_fd_watch_set(mobo_watch_t w, uint32_t events);
void fake_fd_unwatch(mobo_watch_t w);
int fake_char_open(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops,
                   void *ctx, mobo_char_t *ret);
uint32_t fake_char_write(mobo_char_t c, const uint8_t *buf, uint32_t len);
void fake_char_ready(mobo_char_t c);
void fake_system_request(struct mobo_vdev *dev, uint32_t kind, uint32_t code, const char *text);
int fake_acpi_add(struct mobo_vdev *dev, const struct mobo_acpi *desc);

/* fake_vmbus.c */
int fake_vmbus_offer(struct mobo_vdev *dev, const struct mobo_vmbus_offer *offer,
                     const struct mobo_vmbus_ops *ops, void *ctx, struct mobo_vmbus **ret);
void fake_vmbus_rescind(struct mobo_vmbus *c);
int fake_vmbus_receive(struct mobo_vmbus *c, struct mobo_vmbus_packet *ret);
int fake_vmbus_send(struct mobo_vmbus *c, uint32_t type, uint32_t flags, uint64_t transaction,
                    const void *desc, uint32_t desc_len, const void *data, uint32_t len);
void fake_vmbus_fault(struct mobo_vmbus *c, const char *why);
int fake_vmbus_gpadl_read(struct mobo_vmbus *c, uint32_t id, uint64_t off, void *buf, uint32_t len);
int fake_vmbus_gpadl_write(struct mobo_vmbus *c, uint32_t id, uint64_t off, const void *buf,
                           uint32_t len);
int fake_vmbus_gpadl_len(struct mobo_vmbus *c, uint32_t id, uint64_t *ret);
int fake_vmbus_gpa_direct(struct mobo_vmbus *c, const struct mobo_vmbus_packet *p,
                          struct mobo_iov *iov, uint32_t max, uint32_t *ret_n, uint64_t *ret_len);
uint32_t fake_vmbus_version(struct mobo_vmbus *c);
int fake_vmbus_tl_listen(struct mobo_vdev *dev,
                         void (*connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service),
                         void *ctx);
void fake_vmbus_tl_result(struct mobo_vdev *dev, const uint8_t *endpoint, const uint8_t *service,
                          uint32_t status);
void fake_mem_dirty(struct mobo_vdev *dev, uint64_t gpa, uint64_t len);
int fake_mem_reserve(struct mobo_vdev *dev, uint64_t len, uint64_t *ret_gpa);
int fake_mem_plug(struct mobo_vdev *dev, uint64_t len);
int fake_mem_discard(struct mobo_vdev *dev, uint64_t gpa, uint64_t len);
void fake_vmbus_reset(struct mobo_vdev *dev); /* the guest is gone */
void fake_vmbus_free(struct mobo_vdev *dev);
int fake_block_open(struct mobo_vdev *dev, const char *key, uint32_t flags, struct mobo_block **ret,
                    struct mobo_block_info *info);
int fake_block_open_spec(struct mobo_vdev *dev, const char *spec, uint32_t flags,
                         struct mobo_block **ret, struct mobo_block_info *info);
void fake_block_close(struct mobo_block *b);
int fake_block_submit(struct mobo_block *b, struct mobo_block_req *r);
void fake_block_drain(struct mobo_block *b, int cancel);
void fake_block_resume(struct mobo_fake *f);
void fake_block_free(struct mobo_fake *f);

/* fake_net.c */
int fake_net_open(struct mobo_vdev *dev, const char *key, const struct mobo_net_ops *ops, void *ctx,
                  struct mobo_net **ret, struct mobo_net_info *info);
int fake_net_send(struct mobo_net *t, const struct mobo_iov *iov, uint32_t niov);
void fake_net_ready(struct mobo_net *t);
void fake_net_work(struct mobo_fake *f); /* deliver what waits, where the device said so */
void fake_net_free(struct mobo_vdev *dev);

/* fake_display.c */
int fake_display_open(struct mobo_vdev *dev, const char *key, const struct mobo_display_ops *ops,
                      void *ctx, struct mobo_display **ret);
int fake_display_surface(struct mobo_display *d, const struct mobo_surface *s);
void fake_display_dirty(struct mobo_display *d, int32_t x, int32_t y, uint32_t w, uint32_t h);
int fake_display_cursor(struct mobo_display *d, const struct mobo_cursor *c);
void fake_display_cursor_move(struct mobo_display *d, int32_t x, int32_t y, int visible);
int fake_input_add(struct mobo_vdev *dev, const struct mobo_input_ops *ops, void *ctx,
                   struct mobo_input **ret);
void fake_input_active(struct mobo_input *in, int active);
void fake_input_ready(struct mobo_input *in);
void fake_input_leds(struct mobo_input *in, uint32_t leds);
void fake_display_free(struct mobo_vdev *dev);

#endif
