/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtual motherboard: loads vdevs, wires them to a partition, runs the virtual processors.
 *
 * Life: vmb_create, vmb_power_on, any of (vmb_pause, vmb_resume, vmb_reset, vmb_save), vmb_power_off,
 * vmb_destroy.  These are called from one control thread, which is neither a VP thread nor the
 * board's I/O thread; struct vmb_ops says where its callbacks run.
 *
 * Functions return 0 or a negative errno and, where they have `msg`, one line without a line feed
 * that is fit for the user, with "FILE:LINE: " in front where the configuration is to blame. */
#ifndef VMB_VMB_H
#define VMB_VMB_H

#include <mobo/hv.h>
#include <mobo/vdev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct vmb;

enum { VMB_MSG_LEN = 512 };

/* ---- configuration ------------------------------------------------------------------------------ */

struct vmb_kv {
    const char *key, *value;
    const char *file; /* for messages; NULL: none (a preset or the command line) */
    unsigned line;    /* 0: none */
};

struct vmb_dev_config {
    const char *name;   /* "com1" */
    const char *type;   /* "uart16550" */
    const char *plugin; /* path of the .so, or NULL: searched */
    const char *file;   /* where `type` is said */
    unsigned line;
    const struct vmb_kv *kv; /* all other keys */
    unsigned nkv;
};

struct vmb_config {
    const char *name;   /* of the VM; NULL: it has none */
    const char *engine; /* "auto" or a name */
    uint64_t memory;    /* bytes of RAM; a multiple of 4096, at least 1 MiB */
    unsigned vps;
    bool enlightened;
    uint32_t enl_hide, enl_show; /* as in struct hv_config */
    uint64_t code_cache;         /* as there */
    const char *check;           /* likewise; borrowed */
    bool jit_trace;              /* likewise */
    const char *jit_dump, *symbols; /* likewise; borrowed */
    unsigned native;           /* enum hv_native */
    unsigned generation;  /* 1 */
    bool direct_boot;     /* no firmware: the board does what firmware would */
    bool check_only;      /* create() everything, open nothing; power_on is refused */
    bool log_debug;       /* debug lines are looked at: their number has no limit */
    const char *base_dir; /* MOBO_PATH values are relative to it; NULL: as they are */
    const struct vmb_dev_config *devs;
    unsigned ndevs;
    const char *const *plugin_dirs; /* NULL-terminated; searched in order for TYPE.so */
    const struct vmb_ops *ops;      /* borrowed until vmb_destroy() */
    void *ctx;
};

/* ---- what the embedder provides ------------------------------------------------------------------ */

enum vmb_request_kind {
    VMB_REQ_POWEROFF = 1, /* the guest powered off */
    VMB_REQ_RESET,        /* the guest wants a reset: call vmb_reset() or vmb_power_off() */
    VMB_REQ_SUSPEND,      /* the guest wants suspend to memory */
    VMB_REQ_EXIT,         /* a device ends the VM; code 0..255 */
    VMB_REQ_CRASH,        /* the guest reported a crash; text and param */
    VMB_REQ_TRIPLE_FAULT, /* dump has the registers */
    VMB_REQ_ERROR,        /* the engine or a host resource failed; text */
    VMB_REQ_NO_SPACE,     /* a disk image cannot grow: pause, and resume when there is space; text */
    VMB_REQ_DISK_LOST     /* the server of a disk image is out of reach: the same; text */
};

struct vmb_request {
    enum vmb_request_kind kind;
    unsigned code;
    const char *from; /* vdev name, or "vp 0" */
    const char *text; /* one line, may be empty */
    const char *dump; /* several lines, may be empty */
    uint64_t param[5];
};

/* The device's end of a character backend, for the provider.  Call on the board's I/O thread with
 * none of the provider's locks held. */
struct vmb_char_sink {
    /** How many bytes the device takes now; 0: wait for char_ready(). */
    size_t (*can_read)(void *dev);
    /** Hand over bytes, at most what can_read() said just before. */
    void (*read)(void *dev, const uint8_t *buf, size_t len);
    /** enum mobo_char_event; MOBO_CHAR_WRITABLE after char_write() took less than it was given. */
    void (*event)(void *dev, unsigned event);
};

struct vmb_backend; /* the provider's */
struct vmb_disk;    /* the provider's open disk image */
struct vmb_net;     /* the provider's open network backend */
struct vmb_display; /* the provider's open display */

/* What a VM file says of a network backend; NULL: nothing. */
struct vmb_net_config {
    const char *spec; /* "user", "tap:NAME", "switch:PATH", "null" */
    const char *hostfwd, *network;
    const char *pcap; /* absolute */
    bool ipv6, restricted;
    const char *vm;
};
/* The device's end of a network backend, for the provider.  Call on the board's I/O thread with none
 * of the provider's locks held. */
struct vmb_net_sink {
    /** @return 0: the device has no room, net_ready() follows; else it took the frame. */
    int (*receive)(void *net, const uint8_t *frame, size_t len);
    void (*event)(void *net, unsigned event); /* enum mobo_net_event */
};

/* The device's end of a display, for the provider.  Any thread, none of the provider's locks held. */
struct vmb_display_sink {
    /** Somebody looks at it, or nobody does (at first). */
    void (*watch)(void *display, bool watched);
    /** @return whether the device listens to such wishes. */
    bool (*size_hint)(void *display, uint32_t width, uint32_t height);
};

/* The board's end of a disk image.  Any thread, none of the provider's locks held. */
struct vmb_block_sink {
    void (*done)(void *block, struct mobo_block_req *req, int err);
};
/* What mobo_block_req.host holds while the host has the request. */
struct vmb_block_link {
    struct mobo_block_req *next; /* the provider's between submit and done, else the board's */
    void *disk;                  /* the provider's */
    int64_t err;                 /* the same */
};

enum { VMB_TRACE = 4 }; /* a level beyond enum mobo_log_level: wanted because it was asked for by name */

/* All required but boot and trace.  None may call a lifecycle function. */
struct vmb_ops {
    /** A log line; @level is enum mobo_log_level or VMB_TRACE, @from a vdev name or "vmb", "hv".  A guest that
     * makes a device say much does not fill the log: a hundred lines of a level come at once, later one every
     * 10 s with the number of those left out.  Traces have no limit.  Any thread. */
    void (*log)(void *ctx, unsigned level, const char *from, const char *line);
    /** Something that the control thread has to act on.  Any thread; queue it and return.  @req and
     * its strings are valid during the call. */
    void (*request)(void *ctx, const struct vmb_request *req);
    /** Whether lines of trace are wanted for this vdev.  Control thread, at creation. */
    bool (*trace)(void *ctx, const char *dev);
    /** At power-on and after each reset, devices being reset and VPs not running: load the guest and
     * set VP states (vmb_partition()).  @return 0, or -errno with a line in @msg.  Control thread. */
    int (*boot)(void *ctx, struct vmb *vmb, char *msg, size_t msg_len);
    /** Open the backend @spec ("stdio", "unix:PATH" ...) for a device; with @check_only only look
     * whether spec is sound and leave *ret NULL.  Events go to @base.  @sink and @dev stay valid
     * until char_close().  @return 0, or -errno with a phrase in @msg (without FILE:LINE).
     * Control thread. */
    int (*char_open)(void *ctx, struct event_base *base, const char *dev_name, const char *spec,
                     bool check_only, const struct vmb_char_sink *sink, void *dev,
                     struct vmb_backend **ret, char *msg, size_t msg_len);
    /** @return bytes taken; fewer than @len: MOBO_CHAR_WRITABLE follows.  Any thread, never blocks,
     * does not call the sink. */
    size_t (*char_write)(struct vmb_backend *b, const uint8_t *buf, size_t len);
    /** The device takes bytes again: have the I/O thread ask can_read() anew.  Any thread, does not
     * call the sink. */
    void (*char_ready)(struct vmb_backend *b);
    /** Control thread, I/O thread not running. */
    void (*char_close)(struct vmb_backend *b);
    /** Open the disk image @spec (PATH[,OPTION]...); with @check_only only look at it and leave
     * *ret NULL.  @return 0 with *info, or -errno with a phrase in @msg.  Any thread. */
    int (*block_open)(void *ctx, const char *dev_name, const char *spec, uint32_t flags,
                      bool check_only, const struct vmb_block_sink *sink, void *block,
                      struct vmb_disk **ret, struct mobo_block_info *info, char *msg,
                      size_t msg_len);
    /** Begin a request, which is sound; its end is sink->done().  Any thread, never blocks. */
    void (*block_submit)(struct vmb_disk *d, struct mobo_block_req *req);
    /** No request is under way.  Any thread. */
    void (*block_close)(struct vmb_disk *d);
    /** Somebody waits for what is under way (until called with false): requests that depend on
     * something that may never come shall fail soon with -ENOTCONN, which has them held back.
     * Optional.  Any thread, never blocks. */
    void (*block_hurry)(struct vmb_disk *d, bool on);
    /** Open a network backend; as char_open().  net_send() and net_ready() may be called from any
     * thread, never block and do not call the sink; @len is the sum of the pieces, at most
     * info->max_frame.  net_close(): control thread, I/O thread not running. */
    int (*net_open)(void *ctx, struct event_base *base, const char *dev_name,
                    const struct vmb_net_config *cfg, bool check_only,
                    const struct vmb_net_sink *sink, void *net, struct vmb_net **ret,
                    struct mobo_net_info *info, char *msg, size_t msg_len);
    int (*net_send)(struct vmb_net *n, const struct mobo_iov *iov, unsigned niov, size_t len);
    void (*net_ready)(struct vmb_net *n);
    void (*net_close)(struct vmb_net *n);
    /** Open a display backend; as char_open().  Optional, and then so are the rest. */
    int (*display_open)(void *ctx, const char *dev_name, const char *spec, bool check_only,
                        const struct vmb_display_sink *sink, void *display,
                        struct vmb_display **ret, char *msg, size_t msg_len);
    /** A new picture, which is sound, or NULL: when it returns the former one is not read any more.
     * This and the next three: under a vdev lock, never block for long, do not call the sink. */
    void (*display_surface)(struct vmb_display *d, const struct mobo_surface *surface);
    /** A rectangle within the picture has changed. */
    void (*display_dirty)(struct vmb_display *d, unsigned x, unsigned y, unsigned width,
                          unsigned height);
    void (*display_cursor)(struct vmb_display *d, const struct mobo_cursor *cursor);
    void (*display_cursor_move)(struct vmb_display *d, int x, int y, bool visible);
    /** Control thread, I/O thread not running. */
    void (*display_close)(struct vmb_display *d);
};

/* ---- life ---------------------------------------------------------------------------------------- */

/** Make the partition, load the plug-ins and create every device.  Nothing runs yet. */
int vmb_create(const struct vmb_config *cfg, struct vmb **ret, char *msg, size_t msg_len);
/** Powers off if need be.  NULL is allowed. */
void vmb_destroy(struct vmb *v);

/** Start the I/O thread, power devices on, reset them, boot(), start time and VPs. */
int vmb_power_on(struct vmb *v, char *msg, size_t msg_len);
/** Hard reset: VPs, devices; boot() again.  A paused board stays paused. */
int vmb_reset(struct vmb *v, char *msg, size_t msg_len);
/** Stop VPs, guest time and device activity; returns when all stand still. */
int vmb_pause(struct vmb *v);
int vmb_resume(struct vmb *v);
/** Stop and join all threads.  The devices stay as they are, for a last inspect. */
void vmb_power_off(struct vmb *v);
/** Power button and the like, to every device.  @kind: enum mobo_event_kind. */
void vmb_event(struct vmb *v, unsigned kind);
/** A command for the device @dev, or for the first one of type @type when @dev is NULL (see
 * struct mobo_vdev_ops).  @ret gets the device's answer.
 * @return 0; -ENOENT: no such device; -ENOSYS: it takes no commands, or not this one; -EBUSY: the
 * board is paused; another -errno of the device. */
int vmb_command(struct vmb *v, const char *dev, const char *type, const char *verb, const char *arg,
                char *ret, size_t ret_len, char *msg, size_t msg_len);

/** Keys and movements for the guest: all of them are taken, or none.  They go to the best device that
 * the guest uses (see input_add() in <mobo/vdev.h>), in order, as fast as it takes them.
 * @return 0; -EINVAL: an event is out of range; -EAGAIN: too many wait already; -ENODEV: the guest uses
 * no device of the kind.  Any thread, any lock that is no vdev's. */
int vmb_input(struct vmb *v, const struct mobo_input_event *events, unsigned n);
/** Keys that wait for the guest. */
unsigned vmb_input_waiting(struct vmb *v);
/** What the guest shows on the keyboard in use, MOBO_LED_... */
unsigned vmb_input_leds(struct vmb *v);

/* ---- state ----------------------------------------------------------------------------------------- */

/** Everything but guest RAM: time, VPs, interrupt lines, PCI, every device.  While paused.
 * @param ret_buf  malloc()ed */
int vmb_save(struct vmb *v, void **ret_buf, size_t *ret_len, char *msg, size_t msg_len);
/** The components of what vmb_save() made: pieces that follow each other and are all of it, with a name
 * for messages.  @return their number (fills @max). */
struct vmb_state_part {
    char name[48]; /* "board", "processors", "device com1" */
    const void *data;
    size_t len;
};
unsigned vmb_state_parts(const void *buf, size_t len, struct vmb_state_part *ret, unsigned max);
/** In place of vmb_power_on(): start as the state says, paused.  The board must have the same devices
 * with the same settings, the host the processor features that the guest has seen.
 * @param load_ram  fills guest RAM (vmb_ram_blocks()) when devices are on and reset and before the
 *                  state is looked at; NULL: it has its contents
 * On failure the VM is unusable and only good for vmb_destroy(). */
int vmb_restore(struct vmb *v, const void *buf, size_t len, int (*load_ram)(void *ctx, char *msg, size_t msg_len),
                void *ctx, char *msg, size_t msg_len);

/** Guest RAM as it lies in hv_ram_fd(): what a saved state has to hold.  Memory of devices and overlay
 * pages are elsewhere and part of vmb_save().  @return number of blocks (fills @max). */
struct vmb_ram_block {
    uint64_t offset, len; /* in hv_ram_fd() */
    uint8_t *hva;         /* the same memory; valid as long as the VM */
};
unsigned vmb_ram_blocks(struct vmb *v, struct vmb_ram_block *ret, unsigned max);

/* ---- looking around ---------------------------------------------------------------------------------- */

struct hv_partition *vmb_partition(struct vmb *v);
struct event_base *vmb_event_base(struct vmb *v);

enum { VMB_RAM_USABLE = 1, VMB_RAM_RESERVED = 2, VMB_RAM_ACPI = 3, VMB_RAM_NVS = 4 };
struct vmb_ram_range {
    uint64_t base, len;
    unsigned type; /* VMB_RAM_..., the numbers of INT 15h E820 */
};
/** The memory map that firmware would report, ascending.  @return number of ranges (fills @max). */
unsigned vmb_ram_map(struct vmb *v, struct vmb_ram_range *ret, unsigned max);
/** RAM from 0 up to the PCI hole, and from 4 GiB on. */
uint64_t vmb_ram_below_4g(const struct vmb *v);
uint64_t vmb_ram_above_4g(const struct vmb *v);
/** Guest address of the RSDP; valid from boot() on.  0: the board has no ACPI. */
uint64_t vmb_acpi_rsdp(const struct vmb *v);

struct mobo_inspect; /* sdk/lib/inspect.h */
/** Walk the board: one group per device with its type, resources and own report.  @dev NULL: all.
 * @return 0 or -ENOENT.  Control thread. */
int vmb_inspect(struct vmb *v, const char *dev, struct mobo_inspect *out);

/* ---- plug-ins ------------------------------------------------------------------------------------------ */

struct vmb_plugin {
    const char *path;
    const struct mobo_vdev_descriptor *desc; /* NULL: does not fit */
    const char *why;                         /* then: one line */
};
/** Look at every .so of the folders; of two with one type the first counts.  Strings are valid
 * during the call.  Loads each file. */
void vmb_vdev_list(const char *const *dirs, void (*found)(void *ctx, const struct vmb_plugin *p),
                   void *ctx);

/** Nearest of the descriptor's keys to an unknown one, or NULL. */
const char *vmb_suggest_key(const struct mobo_vdev_descriptor *desc, const char *key);

#endif
