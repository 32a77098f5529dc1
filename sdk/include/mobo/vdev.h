/* SPDX-License-Identifier: MIT */
/* The mobo virtual device ABI, version 1.
 *
 * A vdev is a shared object with one exported symbol, `mobo_vdev_descriptor`.  All it needs from
 * outside arrives through struct mobo_host, the table of services handed to create().
 *
 * Threads.  Unless a comment says otherwise, the host calls everything of one vdev (operations,
 * region accesses, timers, work, backends) under that vdev's lock, so never two at a time; on VP
 * threads for accesses, on the I/O thread for timers, work and backends, on the host's control
 * thread for operations.  A descriptor with MOBO_VDEV_THREAD_SAFE is called without the lock.
 * No callback may block.  "Thread: dev" marks a service for use inside the vdev's own callbacks
 * (from create() to destroy()); "Thread: any" one that may be called from every thread.
 *
 * Lifetime.  create, [power_on, reset] ... [pause, save, resume] ... destroy.  restore comes once,
 * after the first reset and before the guest runs; resume() follows when it does.  VMBus channels
 * that were open get signal() then, no open().  Every handle belongs to the host and goes away after
 * destroy() returns or create() failed: a vdev releases only what it got elsewhere.
 *
 * Errors are negative errno values; fail() keeps the sentence that goes with one.
 *
 * Growth.  Structures that cross begin with `size` (or travel with their element size) and grow at
 * the end only; before using a service newer than the minor version you need, ask MOBO_HAS(). */
#ifndef MOBO_VDEV_H
#define MOBO_VDEV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOBO_VDEV_MAGIC 0x6f626f6du /* "mobo" */
#define MOBO_ABI_MAJOR  1
#define MOBO_ABI_MINOR  1

#define MOBO_EXPORT            __attribute__((visibility("default")))
#define MOBO_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/** An array as the three arguments "pointer, count, element size". */
#define MOBO_ARRAY(a) (a), (uint32_t)(sizeof(a) / sizeof((a)[0])), (uint32_t)sizeof((a)[0])

/** Whether the host's table reaches as far as @member and has it. */
#define MOBO_HAS(host, member)                                                      \
    ((host)->size >= offsetof(struct mobo_host, member) + sizeof((host)->member) && \
     (host)->member != NULL)

/* ---- handles ----------------------------------------------------------------------------------- */

struct mobo_vdev;    /* this device, as the host sees it */
struct mobo_writer;  /* saved state being written */
struct mobo_reader;  /* saved state being read */
struct mobo_inspect; /* a report being filled */

typedef struct mobo_region *mobo_region_t; /* ports or MMIO */
typedef struct mobo_ram *mobo_ram_t;       /* RAM or ROM of the device's own */
typedef struct mobo_irq *mobo_irq_t;       /* an interrupt line of this vdev */
typedef struct mobo_pci *mobo_pci_t;       /* a PCI function */
typedef struct mobo_timer *mobo_timer_t;
typedef struct mobo_watch *mobo_watch_t; /* a watched file descriptor */
typedef struct mobo_char *mobo_char_t;   /* an open character backend */
typedef struct mobo_vmbus *mobo_vmbus_t;   /* a VMBus channel that this vdev offers (1.1) */
typedef struct mobo_block *mobo_block_t;   /* an open disk image (1.1) */
typedef struct mobo_net *mobo_net_t;       /* an open network backend (1.1) */
typedef struct mobo_display *mobo_display_t; /* an open display backend (1.1) */
typedef struct mobo_input *mobo_input_t;   /* a keyboard or pointer that takes input (1.1) */

/* ---- parameters -------------------------------------------------------------------------------- */

enum mobo_param_kind {
    MOBO_STRING = 1, /* any text; max: longest length, 0 unlimited */
    MOBO_UINT = 2,   /* decimal, 0x hexadecimal or 0 octal; min..max */
    MOBO_BOOL = 3,   /* yes/no, on/off, true/false, 1/0 */
    MOBO_SIZE = 4,   /* bytes with an optional K, M, G or T; min..max */
    MOBO_CHOICE = 5, /* one of `choices` */
    MOBO_PATH = 6,   /* a file name, relative ones from the VM file's folder; or a URI */
    MOBO_CHAR = 7    /* a character backend for char_open() */
};

enum { MOBO_PARAM_REQUIRED = 1 };

/* One key of the device's section.  The host checks and completes values before create(). */
struct mobo_param {
    const char *name;
    uint32_t kind;       /* enum mobo_param_kind */
    uint32_t flags;      /* MOBO_PARAM_... */
    const char *unit;    /* for listings, or NULL */
    const char *def;     /* default, as written in a VM file; NULL: none */
    uint64_t min, max;   /* inclusive; both 0: no limit */
    const char *choices; /* MOBO_CHOICE: "one|two|three" */
    const char *help;    /* one line */
};

/* ---- saved state and inspection ---------------------------------------------------------------- */

enum {
    MOBO_FIELD_OPTIONAL = 1,  /* load: may be absent (then the member keeps its value); set it on
                                members added after the first release */
    MOBO_FIELD_IGNORABLE = 2, /* save: a reader that does not know the tag may skip it */
    MOBO_FIELD_HIDDEN = 4     /* left out of inspect reports */
};

/* A member of a state structure.  Tags are 1..0x7fff, unique in their table, never reused. */
struct mobo_field {
    uint32_t tag;
    uint32_t flags;
    uint32_t offset;
    uint32_t len;  /* of the whole member, in bytes */
    uint32_t elem; /* of one element: 1, 2, 4, 8 are integers, others bytes */
    uint32_t reserved;
    const char *name;
};

#define MOBO_FIELD_FLAGS(tag, type, member, flags)                                               \
    {                                                                                            \
        (tag), (flags), (uint32_t)offsetof(type, member), (uint32_t)sizeof(((type *)0)->member), \
            (uint32_t)sizeof(((type *)0)->member), 0, #member                                    \
    }
/** An integer member, or an array of bytes that is shown as a hex string. */
#define MOBO_FIELD(tag, type, member) MOBO_FIELD_FLAGS(tag, type, member, 0)
/** An array of integers. */
#define MOBO_FIELD_ARRAY(tag, type, member)                                                \
    {                                                                                      \
        (tag), 0, (uint32_t)offsetof(type, member), (uint32_t)sizeof(((type *)0)->member), \
            (uint32_t)sizeof(((type *)0)->member[0]), 0, #member                           \
    }

/* ---- regions ----------------------------------------------------------------------------------- */

enum { MOBO_W8 = 1, MOBO_W16 = 2, MOBO_W32 = 4, MOBO_W64 = 8 };

enum {
    /* The region takes only aligned accesses of exactly its widths; all others see what lies below
     * it.  Configuration mechanism #1 is such a port pair: dwords at 0xcf8 are its own, the byte at
     * 0xcf9 is somebody else's. */
    MOBO_REGION_EXACT = 1,
    /* Created disabled. */
    MOBO_REGION_DISABLED = 2,
    /* Callbacks run without the vdev lock, on several threads at once. */
    MOBO_REGION_UNLOCKED = 4
};

/* Accesses to a region.  @off counts from its base, @len is a width of `widths`, @off a multiple of
 * @len, and the access ends within the region.  The host breaks others down: wider or misaligned
 * ones into pieces in ascending order; a read narrower than the smallest width takes its bytes from
 * one read of that width, and such a write is dropped.  Without a callback reads give all ones and
 * writes are dropped.  The result of a read is in the low @len bytes. */
struct mobo_io_ops {
    uint32_t size;   /* sizeof(struct mobo_io_ops) */
    uint32_t widths; /* MOBO_W8 | ... */
    uint64_t (*read)(void *ctx, uint64_t off, uint32_t len);
    void (*write)(void *ctx, uint64_t off, uint32_t len, uint64_t val);
};

enum {
    MOBO_RAM_READ_ONLY = 1, /* a ROM: guest writes are dropped */
    MOBO_RAM_DIRTY_LOG = 2, /* ram_dirty() works */
    MOBO_RAM_NO_SAVE = 4    /* contents are not part of the saved state (the host saves others) */
};

/* ---- interrupts -------------------------------------------------------------------------------- */

enum {
    MOBO_IRQ_EDGE = 0,
    MOBO_IRQ_LEVEL = 1,
    MOBO_IRQ_SHARED = 2 /* with other level-triggered, shared claims only */
};

enum { MOBO_IRQ_LINES = 64 }; /* lines are 0..63; 0..15 are the ISA interrupts */

/* ---- PCI --------------------------------------------------------------------------------------- */

enum { MOBO_PCI_SLOT_AUTO = -1 };

enum {
    MOBO_PCI_MULTIFUNCTION = 1, /* function 0 of a device that has more */
    MOBO_PCI_HOST_BRIDGE = 2    /* the root: sits at 0.0, always decodes memory */
};

struct mobo_pci_info {
    uint32_t size; /* sizeof(struct mobo_pci_info) */
    uint32_t flags;
    uint16_t vendor, device;
    uint16_t subsys_vendor, subsys_device;
    uint32_t class_code; /* class << 16 | subclass << 8 | programming interface */
    uint8_t revision;
    uint8_t pin; /* 0 none, 1 INTA# .. 4 INTD# */
    uint8_t function;
    uint8_t reserved;
    int32_t slot; /* 0..31, or MOBO_PCI_SLOT_AUTO: the `slot` key, else the first free one */
};

/* What a function does beyond the standard header.  All optional. */
struct mobo_pci_ops {
    uint32_t size; /* sizeof(struct mobo_pci_ops) */
    uint32_t reserved;
    /* Changes the value that a configuration read gives; @val is the stored one. */
    uint32_t (*config_read)(void *ctx, uint32_t off, uint32_t len, uint32_t val);
    /* After a configuration write went into the store through the write mask. */
    void (*config_written)(void *ctx, uint32_t off, uint32_t len);
};

enum {
    MOBO_BAR_IO = 0,
    MOBO_BAR_MEM32 = 1,
    MOBO_BAR_MEM64 = 2, /* takes this BAR and the next */
    MOBO_BAR_PREFETCH = 0x10
};

/* ---- ACPI -------------------------------------------------------------------------------------- */

/* What a device contributes to the tables; the host writes them from what is plugged in.  Each
 * structure starts with its size and kind. */
enum mobo_acpi_kind {
    MOBO_ACPI_IOAPIC = 1,
    MOBO_ACPI_PM = 2,
    MOBO_ACPI_HPET = 3,
    MOBO_ACPI_ISA = 4,
    MOBO_ACPI_LEGACY = 5,
    MOBO_ACPI_PCI_ROOT = 6,
    MOBO_ACPI_PCI_LINKS = 7
};

struct mobo_acpi {
    uint32_t size; /* of the whole structure */
    uint32_t kind; /* enum mobo_acpi_kind */
};

struct mobo_acpi_ioapic {
    struct mobo_acpi head;
    uint64_t base;
    uint32_t id;
    uint32_t first_gsi;
    uint32_t isa_line0_gsi; /* where ISA line 0 arrives, 2 on PCs (an override when not 0) */
    uint32_t pins;
};

/* The fixed hardware of chapter 4 of the ACPI specification; ports, 0 when absent. */
struct mobo_acpi_pm {
    struct mobo_acpi head;
    uint16_t pm1_event, pm1_event_len; /* status and enable register */
    uint16_t pm1_control, pm1_control_len;
    uint16_t pm_timer, pm_timer_len;
    uint16_t gpe0, gpe0_len;
    uint16_t smi_command;
    uint8_t acpi_enable, acpi_disable; /* values for smi_command; both 0: always in ACPI mode */
    uint16_t reset_port;
    uint8_t reset_value;
    uint8_t sci_line;
    uint8_t s5_type, s3_type; /* SLP_TYP values; 0xff: the state is not supported */
    uint8_t pm_timer_32bit;
    uint8_t power_button; /* fixed power button present */
};

struct mobo_acpi_hpet {
    struct mobo_acpi head;
    uint64_t base;
    uint32_t event_timer_block_id;
    uint32_t min_tick;
};

/* A device node under the ISA bridge: _HID, _UID, _STA, _CRS. */
struct mobo_acpi_isa {
    struct mobo_acpi head;
    char name[4];       /* node name, "COM1"; unique among siblings */
    char hid[12];       /* "PNP0501" */
    char cid[12];       /* or empty */
    uint32_t uid;       /* 0: no _UID */
    uint32_t irqs;      /* bit n: line n */
    uint32_t irq_flags; /* MOBO_IRQ_... of those lines */
    uint32_t nports;
    struct {
        uint16_t base, len;
    } port[6];
    uint64_t mem_base, mem_len; /* a fixed 32-bit memory range; len 0: none */
};

enum {
    MOBO_ACPI_HAS_8042 = 1, /* IAPC_BOOT_ARCH.8042 */
    MOBO_ACPI_HAS_8259 = 2, /* MADT.PCAT_COMPAT */
    MOBO_ACPI_HAS_RTC = 4,  /* a CMOS RTC; century is valid; alarm wakes */
    MOBO_ACPI_HAS_VGA = 8
};

struct mobo_acpi_legacy {
    struct mobo_acpi head;
    uint32_t flags;
    uint32_t rtc_century; /* CMOS index of the century byte, 0 none */
};

struct mobo_acpi_pci_root {
    struct mobo_acpi head;
    uint32_t bus;
    uint32_t config_port; /* 0xcf8 */
};

/* PIRQ A-D routing registers of an ISA bridge, one byte each (bit 7 off, bits 3:0 line). */
struct mobo_acpi_pci_links {
    struct mobo_acpi head;
    mobo_pci_t bridge;
    uint32_t reg[4];
    uint32_t irqs; /* lines that an operating system may choose, bit mask */
};

/* ---- system ------------------------------------------------------------------------------------ */

enum mobo_log_level { MOBO_ERROR = 0, MOBO_WARNING = 1, MOBO_INFO = 2, MOBO_DEBUG = 3 };

enum mobo_system {
    MOBO_SYS_POWEROFF = 1,
    MOBO_SYS_RESET = 2,
    MOBO_SYS_SUSPEND = 3, /* to memory; the host may refuse by not doing it */
    MOBO_SYS_EXIT = 4,    /* end the VM, @code is the exit status (0..255) */
    MOBO_SYS_CRASH = 5    /* the guest says that it crashed */
};

enum mobo_event_kind {
    MOBO_EVENT_POWER_BUTTON = 1, /* pressed once */
    MOBO_EVENT_SLEEP_BUTTON = 2,
    MOBO_EVENT_WAKE = 3 /* leave the suspended state */
};

struct mobo_event {
    uint32_t size;
    uint32_t kind; /* enum mobo_event_kind */
};

struct mobo_board_info {
    uint32_t size;         /* in: sizeof(struct mobo_board_info) */
    uint32_t vps;          /* virtual processors */
    uint64_t ram_below_4g; /* bytes of RAM from 0 on, the ISA hole not deducted */
    uint64_t ram_above_4g; /* bytes of RAM from 4 GiB on */
    uint32_t generation;   /* 1 or 2 */
    uint32_t direct_boot;  /* 1: no firmware runs; devices start as firmware would leave them */
    const char *vm;        /* the VM's name, valid as long as the vdev; since 1.1 */
};

/* ---- character backends ------------------------------------------------------------------------- */

enum mobo_char_event {
    MOBO_CHAR_OPENED = 1,  /* a peer is there (again) */
    MOBO_CHAR_CLOSED = 2,  /* the peer went away */
    MOBO_CHAR_BREAK = 3,   /* the peer sends a break */
    MOBO_CHAR_WRITABLE = 4 /* char_write() takes bytes again */
};

enum { MOBO_WATCH_READ = 1, MOBO_WATCH_WRITE = 2 };

struct mobo_char_ops {
    uint32_t size; /* sizeof(struct mobo_char_ops) */
    uint32_t reserved;
    /* How many bytes the device can take now.  After an answer of 0 call char_ready() when that
     * changes. */
    uint32_t (*can_read)(void *ctx);
    /* @len is at most what can_read() said just before. */
    void (*read)(void *ctx, const uint8_t *buf, uint32_t len);
    void (*event)(void *ctx, uint32_t event); /* enum mobo_char_event; may be NULL */
};

/* ---- VMBus (since 1.1) -------------------------------------------------------------------------- */

/** A GUID as the 16 bytes that go over the bus: MOBO_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, ...). */
#define MOBO_GUID(a, b, c, d0, d1, d2, d3, d4, d5, d6, d7)                                         \
    { (uint8_t)((a) & 0xff), (uint8_t)((a) >> 8 & 0xff), (uint8_t)((a) >> 16 & 0xff),              \
      (uint8_t)((a) >> 24 & 0xff), (uint8_t)((b) & 0xff), (uint8_t)((b) >> 8 & 0xff),              \
      (uint8_t)((c) & 0xff), (uint8_t)((c) >> 8 & 0xff), d0, d1, d2, d3, d4, d5, d6, d7 }

enum { /* flags of an offer, as the guest sees them */
    MOBO_VMBUS_ENUMERATE_DEVICE = 1,
    MOBO_VMBUS_PIPE = 0x10, /* user_data begins with u32 mode: 0 bytes, 4 messages */
    MOBO_VMBUS_HVSOCKET = 0x2000
};

/* The guest may signal by a bit in a monitor page instead of a hypercall, as drivers in user space have to
 * (Linux: uio_hv_generic).  The host then looks every millisecond while the channel is open, which keeps
 * it from sleeping and the guest waiting: for nothing else. */
enum { MOBO_VMBUS_MONITORED = 1 };

enum { MOBO_VMBUS_USER_DATA = 120 };

struct mobo_vmbus_offer {
    uint32_t size; /* sizeof(struct mobo_vmbus_offer) */
    uint16_t flags;
    uint16_t mmio_megabytes;
    uint8_t class_id[16], instance_id[16];
    uint16_t sub_index; /* 0; sub-channels of an instance: 1 and up */
    uint16_t host_flags; /* MOBO_VMBUS_MONITORED */
    uint16_t reserved[2];
    uint8_t user_data[MOBO_VMBUS_USER_DATA];
};

/* All on the I/O thread, under the vdev lock. */
struct mobo_vmbus_ops {
    uint32_t size; /* sizeof(struct mobo_vmbus_ops) */
    uint32_t reserved;
    /* The guest opens the channel; @user_data is its own.  @return 0, or -errno: refused. */
    int (*open)(void *ctx, const uint8_t *user_data);
    /* The guest closed it, was reset, or broke the protocol.  Outstanding packets are void. */
    void (*close)(void *ctx);
    /* Packets wait, or room has come after vmbus_send() said -EAGAIN: receive until -EAGAIN. */
    void (*signal)(void *ctx);
};

enum mobo_vmbus_packet_type {
    MOBO_VMBUS_INBAND = 6,
    MOBO_VMBUS_XFER_PAGES = 7,
    MOBO_VMBUS_GPA_DIRECT = 9,
    MOBO_VMBUS_CANCEL = 10,
    MOBO_VMBUS_COMPLETION = 11
};
enum {
    MOBO_VMBUS_WANTS_COMPLETION = 1,
    /* To vmbus_send(), not sent: there is room only once the guest has read all before. */
    MOBO_VMBUS_ALONE = 0x8000
};

struct mobo_vmbus_packet {
    uint32_t size; /* in: sizeof(struct mobo_vmbus_packet) */
    uint16_t type; /* enum mobo_vmbus_packet_type */
    uint16_t flags;
    uint64_t transaction;
    const uint8_t *desc; /* what follows the first 16 bytes of the descriptor (ranges) */
    const uint8_t *data; /* both: copies, valid until the next vmbus_receive() */
    uint32_t desc_len;
    uint32_t len; /* a multiple of 8: padding included */
};

/* A piece of guest memory, for direct input and output. */
struct mobo_iov {
    void *base;
    uint64_t len;
    uint64_t gpa;
};

/* ---- block backends (since 1.1) ----------------------------------------------------------------- */

enum { /* flags of an open image */
    MOBO_BLOCK_READ_ONLY = 1,     /* also for block_open(): ask for it */
    MOBO_BLOCK_CDROM = 2,         /* the VM file says that it is a disc */
    MOBO_BLOCK_DISCARD = 4,       /* discarding gives space back */
    MOBO_BLOCK_DISCARD_ZEROES = 8 /* and what was discarded reads as zeroes */
};

struct mobo_block_info {
    uint32_t size;          /* in: sizeof(struct mobo_block_info) */
    uint32_t flags;         /* MOBO_BLOCK_... */
    uint64_t len;           /* of the medium, in bytes; a multiple of `sector` */
    uint32_t sector;        /* offsets and lengths of requests are multiples of it: 512 or 4096 */
    uint32_t physical;      /* what is written at once, in bytes */
    uint32_t discard_unit;  /* discarding less than this may free nothing; 0: unknown */
    uint32_t reserved;
    uint8_t id[16];         /* the image's own, all zeroes: it has none */
};

enum mobo_block_op {
    MOBO_BLOCK_READ = 1,
    MOBO_BLOCK_WRITE = 2,
    MOBO_BLOCK_FLUSH = 3, /* all writes done before are on stable storage when it is done */
    MOBO_BLOCK_DISCARD_RANGE = 4,
    MOBO_BLOCK_WRITE_ZEROES = 5
};

enum {
    MOBO_BLOCK_FUA = 1,      /* of a write: on stable storage when it is done */
    MOBO_BLOCK_MAY_UNMAP = 2 /* of writing zeroes: need not allocate */
};

/* `gpa` of a mobo_iov that is the device's own memory. */
#define MOBO_NO_GPA UINT64_MAX

/* A request; borrowed by the host until done() is called. */
struct mobo_block_req {
    uint32_t size; /* sizeof(struct mobo_block_req) */
    uint32_t op;   /* enum mobo_block_op */
    uint32_t flags;
    uint32_t niov;
    uint64_t off, len;           /* bytes; neither matters to a flush */
    const struct mobo_iov *iov;  /* of reads and writes: `len` bytes in all */
    /* On the I/O thread under the vdev lock, or within block_drain(); @err is 0 or -errno.  May
     * submit again. */
    void (*done)(void *ctx, int err);
    void *ctx;
    uint64_t host[8]; /* the host's own */
};

/* ---- network backends (since 1.1) --------------------------------------------------------------- */

enum mobo_net_event {
    MOBO_NET_UP = 1,      /* the link is there */
    MOBO_NET_DOWN = 2,    /* nothing comes, and what is sent is lost */
    MOBO_NET_WRITABLE = 3 /* net_send() takes frames again */
};

struct mobo_net_info {
    uint32_t size;      /* in: sizeof(struct mobo_net_info) */
    uint32_t up;        /* 1: the link is there */
    uint32_t max_frame; /* the longest frame that net_send() takes */
    uint32_t max_tcp;   /* the longest frame with TCP that it takes whatever the MTU is, cutting it
                           where it has to; 0: the device cuts */
};

/* On the I/O thread, under the vdev lock. */
struct mobo_net_ops {
    uint32_t size; /* sizeof(struct mobo_net_ops) */
    uint32_t reserved;
    /* An Ethernet frame without its check sequence.  @return 1: taken, or dropped for good; 0: no
     * room now, the backend keeps it; call net_ready() when that changes. */
    int (*receive)(void *ctx, const uint8_t *frame, uint32_t len);
    void (*event)(void *ctx, uint32_t event); /* enum mobo_net_event; may be NULL */
};

/* ---- display backends (since 1.1) --------------------------------------------------------------- */

enum mobo_pixel_format { /* one pixel as a little-endian number */
    MOBO_PIXEL_XRGB8888 = 1, /* 4 bytes: 0x00rrggbb, the top byte does not matter */
    MOBO_PIXEL_RGB888 = 2,   /* 3 bytes: 0xrrggbb */
    MOBO_PIXEL_RGB565 = 3,   /* 2 bytes */
    MOBO_PIXEL_XRGB1555 = 4  /* 2 bytes */
};

enum { MOBO_DISPLAY_MAX = 8192, MOBO_CURSOR_MAX = 256 }; /* width and height in pixels */

/* A picture in memory, which the guest may change at any moment. */
struct mobo_surface {
    uint32_t size;   /* sizeof(struct mobo_surface) */
    uint32_t format; /* enum mobo_pixel_format */
    uint32_t width, height; /* 1..MOBO_DISPLAY_MAX */
    uint32_t stride;        /* bytes from a line to the next, at least those of a line's pixels */
    uint32_t reserved;
    const void *pixels; /* the first line, at the top */
    uint64_t len;       /* bytes that may be read from there, at least those of the picture */
};

/* The picture of the guest's own mouse pointer. */
struct mobo_cursor {
    uint32_t size;          /* sizeof(struct mobo_cursor) */
    uint32_t width, height; /* 1..MOBO_CURSOR_MAX */
    uint32_t hot_x, hot_y;  /* the pixel that points, within the picture */
    uint32_t reserved;
    const uint32_t *argb; /* width * height, 0xaarrggbb, not premultiplied */
};

/* On the I/O thread, under the vdev lock. */
struct mobo_display_ops {
    uint32_t size; /* sizeof(struct mobo_display_ops) */
    uint32_t reserved;
    /* Somebody looks at the picture (1), or nobody does any more (0; so it is at first): only then
     * display_dirty() matters.  May be NULL. */
    void (*watch)(void *ctx, int watched);
    /* A viewer would like a picture of this size.  May be NULL: sizes are the guest's affair. */
    void (*size_hint)(void *ctx, uint32_t width, uint32_t height);
};

/* ---- input (since 1.1) --------------------------------------------------------------------------- */

enum mobo_input_kind {
    MOBO_INPUT_KEY = 1,
    MOBO_INPUT_MOVE = 2, /* a pointer that says how far it moved */
    MOBO_INPUT_POINT = 3 /* a pointer that says where it is */
};

/* Keys are the scan codes of set 1, without the break bit. */
enum {
    MOBO_KEY_E0 = 0x80, /* the code follows 0xe0: "home" is MOBO_KEY_E0 | 0x47 */
    MOBO_KEY_PAUSE = 0x100,
    MOBO_KEY_COUNT = 0x101
};
enum { MOBO_LED_SCROLL = 1, MOBO_LED_NUM = 2, MOBO_LED_CAPS = 4 };
enum { /* bits of `buttons` */
    MOBO_BUTTON_LEFT = 1,
    MOBO_BUTTON_RIGHT = 2,
    MOBO_BUTTON_MIDDLE = 4,
    MOBO_BUTTON_BACK = 8,
    MOBO_BUTTON_FORWARD = 16
};
enum { MOBO_POINT_MAX = 32767 };

struct mobo_input_event {
    uint32_t size;      /* sizeof(struct mobo_input_event) */
    uint32_t kind;      /* enum mobo_input_kind */
    uint32_t key, down; /* KEY: 1..MOBO_KEY_COUNT - 1; 1 pressed, 0 let go */
    uint32_t buttons;   /* MOVE, POINT: those that are down, MOBO_BUTTON_... */
    int32_t x, y;       /* MOVE: pixels to the right and down; POINT: 0..MOBO_POINT_MAX of the picture */
    int32_t wheel, pan; /* MOVE, POINT: steps away from the user, and to the right; -127..127 */
};

/* On the I/O thread, under the vdev lock. */
struct mobo_input_ops {
    uint32_t size; /* sizeof(struct mobo_input_ops) */
    uint32_t kinds; /* 1 << MOBO_INPUT_... of all that it takes */
    /* @return 0: taken; -EAGAIN: no room now, input_ready() follows. */
    int (*event)(void *ctx, const struct mobo_input_event *event);
};

/* ---- what the host offers ----------------------------------------------------------------------- */

struct mobo_host {
    uint32_t size;      /* of this table, as the host built it */
    uint16_t abi_major; /* of the host */
    uint16_t abi_minor;

    /* -- messages -- */

    /** Set the message that goes with an error of this vdev, and pass the error on.
     * @return @err.  Thread: any.  Locks: none.  Blocks: never.  Since: 1.0 */
    int (*fail)(struct mobo_vdev *dev, int err, const char *fmt, ...) MOBO_PRINTF(3, 4);
    /** One line for the log, no line feed.  Warn about a guest once per cause; of very many lines the
     * host leaves some out, and says how many.
     * @param level  enum mobo_log_level.  Thread: any.  Blocks: never.  Since: 1.0 */
    void (*log)(struct mobo_vdev *dev, uint32_t level, const char *fmt, ...) MOBO_PRINTF(3, 4);
    /** A trace line, written when tracing of this device is on.  Use MOBO_TRACE().  Thread: any. */
    void (*trace)(struct mobo_vdev *dev, const char *fmt, ...) MOBO_PRINTF(2, 3);
    /** The word that is nonzero while tracing of this device is on; valid as long as the vdev. */
    const uint32_t *(*trace_word)(struct mobo_vdev *dev);
    /** The device's name in the VM file, "com1".  Valid as long as the vdev.  Thread: any. */
    const char *(*name)(struct mobo_vdev *dev);

    /* -- parameters: values are checked against the descriptor, defaults filled in -- */

    /** @return the text of a MOBO_STRING, CHOICE, PATH (absolute) or CHAR key, NULL when not set.
     * Valid as long as the vdev.  A key that is not in the descriptor is a mistake of the vdev: it
     * is logged and reads as not set.  Thread: any.  Since: 1.0 */
    const char *(*param_str)(struct mobo_vdev *dev, const char *key);
    /** @return the value of a MOBO_UINT or MOBO_SIZE key, 0 when not set.  Thread: any. */
    uint64_t (*param_uint)(struct mobo_vdev *dev, const char *key);
    /** @return 0 or 1, 0 when not set.  Thread: any. */
    int (*param_bool)(struct mobo_vdev *dev, const char *key);
    /** @return 1 when the VM file or a default gives the key a value.  Thread: any. */
    int (*param_is_set)(struct mobo_vdev *dev, const char *key);
    /** Facts about the board.  @return 0 or -EINVAL.  Thread: any. */
    int (*board_info)(struct mobo_vdev *dev, struct mobo_board_info *ret);

    /* -- regions -- */

    /** Claim the ports [base, base + len).  @name is for messages (copied); @ops is copied.
     * @return 0; -EINVAL; -EBUSY with a message naming the other device.
     * Thread: dev, in create() (others may be added disabled later).  Since: 1.0 */
    int (*pio_add)(struct mobo_vdev *dev, const char *name, uint32_t base, uint32_t len,
                   uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                   mobo_region_t *ret_region);
    /** Claim guest-physical addresses.  As pio_add(); RAM below loses to it in the ISA hole
     * (0xa0000-0xfffff) only. */
    int (*mmio_add)(struct mobo_vdev *dev, const char *name, uint64_t base, uint64_t len,
                    uint32_t flags, const struct mobo_io_ops *ops, void *ctx,
                    mobo_region_t *ret_region);
    /** Switch decoding on or off.  Where a guest's doing makes regions overlap, the one that was
     * created first answers.  Complete when it returns.  Thread: dev. */
    void (*region_enable)(mobo_region_t region, int enabled);
    /** Move to another base.  @return 0 or -EINVAL when it does not fit there.  Thread: dev. */
    int (*region_move)(mobo_region_t region, uint64_t base);

    /* -- memory -- */

    /** Copy from or to guest memory.  @return 0, or -EFAULT when a byte is not RAM (then nothing
     * was copied).  PCI functions use pci_dma_...  Thread: any.  Since: 1.0 */
    int (*mem_read)(struct mobo_vdev *dev, uint64_t gpa, void *buf, uint64_t len);
    int (*mem_write)(struct mobo_vdev *dev, uint64_t gpa, const void *buf, uint64_t len);
    /** Pin guest memory and give its host address; @write: the device will write there.  The guest
     * can change it at any moment: copy first, then check.
     * @return 0, -EFAULT when it is not one run of RAM.  Thread: any. */
    int (*mem_map)(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void **ret_hva);
    /** End a mapping, with the arguments that mem_map() had.  Thread: any. */
    void (*mem_unmap)(struct mobo_vdev *dev, uint64_t gpa, uint64_t len, int write, void *hva);
    /** Memory of the device's own (VRAM, ROM), not visible until ram_map().  @len is a multiple of
     * 4096.  @return 0, -EINVAL, -ENOMEM.  Thread: dev, in create(). */
    int (*ram_add)(struct mobo_vdev *dev, const char *name, uint64_t len, uint32_t flags,
                   mobo_ram_t *ret_ram, void **ret_hva);
    /** Show it at @gpa (4096-aligned; replaces an earlier place), or hide it.  Thread: dev. */
    int (*ram_map)(mobo_ram_t ram, uint64_t gpa);
    void (*ram_unmap)(mobo_ram_t ram);
    /** Fetch and clear dirty bits: bit n of @bitmap is page n of [off, off + len).
     * @return 0 or -EINVAL.  Thread: dev. */
    int (*ram_dirty)(mobo_ram_t ram, uint64_t off, uint64_t len, uint64_t *bitmap);

    /* -- interrupts -- */

    /** Claim an interrupt line.  @return 0; -EINVAL; -EBUSY with a message naming the other device
     * (lines are shared when all claims are level-triggered and shared).  Thread: dev, create(). */
    int (*irq_claim)(struct mobo_vdev *dev, uint32_t line, uint32_t flags, mobo_irq_t *ret_irq);
    /** Drive a line that this vdev claimed: 0 deasserted, 1 asserted.  Every interrupt controller
     * that covers the line hears of changes of its level (the OR of all claims), in order.
     * Thread: any, but not from an interrupt controller's own callbacks.  Blocks: never. */
    void (*irq_set)(mobo_irq_t irq, int level);
    /** Assert and deassert at once: an edge.  Thread: as irq_set(). */
    void (*irq_pulse)(mobo_irq_t irq);
    /** For interrupt controllers: hear of level changes of lines [first, first + count).
     * @level is called under this vdev's lock on the thread of whoever drives the line.
     * @return 0 or -EINVAL.  Thread: dev, create(). */
    int (*irq_sink_add)(struct mobo_vdev *dev, uint32_t first, uint32_t count,
                        void (*level)(void *ctx, uint32_t line, int level), void *ctx);
    /** For the 8259 pair: how a processor acknowledges INTR; @intack returns the vector, or -1 when
     * nothing is pending.  One vdev only (-EBUSY).  Runs on a VP thread.  Thread: dev, create(). */
    int (*intack_set)(struct mobo_vdev *dev, int (*intack)(void *ctx), void *ctx);
    /** Drive INTR of the processors.  Thread: any. */
    void (*intr_set)(struct mobo_vdev *dev, int level);
    /** For I/O APICs: hear of every end of a level-triggered interrupt, by vector.  On a VP thread,
     * under this vdev's lock.  Thread: dev, create(). */
    int (*eoi_watch)(struct mobo_vdev *dev, void (*eoi)(void *ctx, uint32_t vector), void *ctx);
    /** Send an interrupt message (address 0xfeexxxxx, as SDM 3A 11.11).  PCI functions use
     * pci_msi_send().  @return number of processors that took it, or -EINVAL.  Thread: any. */
    int (*msi_send)(struct mobo_vdev *dev, uint64_t addr, uint32_t data);
    /** Pulse NMI.  Thread: any. */
    void (*nmi_pulse)(struct mobo_vdev *dev);
    /** This device's opinion on gate A20 (none until the first call): A20 is open when any of the
     * devices with an opinion says 1, or none has one.  Thread: any. */
    void (*a20_set)(struct mobo_vdev *dev, int open);

    /* -- PCI: the host keeps configuration space (type 0 header, capabilities), BARs, INTx -- */

    /** Add a function.  @info and @ops (may be NULL) are copied.
     * @return 0; -EINVAL; -EBUSY (slot taken, message names who); -ENODEV (no PCI bus: no host
     * bridge on this board); -ENOSPC.  Thread: dev, create().  Since: 1.0 */
    int (*pci_add)(struct mobo_vdev *dev, const struct mobo_pci_info *info,
                   const struct mobo_pci_ops *ops, void *ctx, mobo_pci_t *ret_fn);
    /** Registers of the device's own, from 0x40 on or in the header (not BARs): their values after
     * reset, the bits that a guest may change, and those that a guest clears by writing 1.
     * @param len  1, 2 or 4.  @return 0 or -EINVAL.  Thread: dev, create(). */
    int (*pci_config_init)(mobo_pci_t fn, uint32_t off, uint32_t len, uint32_t reset,
                           uint32_t writable, uint32_t write_1_clears);
    /** Stored bytes; set ignores the write masks and calls no hook.  Thread: dev. */
    uint32_t (*pci_config_get)(mobo_pci_t fn, uint32_t off, uint32_t len);
    void (*pci_config_set)(mobo_pci_t fn, uint32_t off, uint32_t len, uint32_t val);
    /** Add a base address register: @n 0..5, @kind MOBO_BAR_..., @len a power of two (ports: 4 to
     * 256, memory: 16 and up).  The host answers sizing and maps it as the command register says.
     * On direct-boot boards the host also gives it an address.
     * @return 0, -EINVAL, -EBUSY.  Thread: dev, create(). */
    int (*pci_bar_add)(mobo_pci_t fn, uint32_t n, uint32_t kind, uint64_t len, uint32_t flags,
                       const struct mobo_io_ops *ops, void *ctx, mobo_region_t *ret_region);
    /** The same for memory of the device's own. */
    int (*pci_bar_ram)(mobo_pci_t fn, uint32_t n, uint32_t kind, mobo_ram_t ram);
    /** Add a capability of @len bytes (its ID and link byte included) to the list.
     * @return 0 with its offset, -ENOSPC.  Fill it by pci_config_init().  Thread: dev, create(). */
    int (*pci_cap_add)(mobo_pci_t fn, uint32_t id, uint32_t len, uint32_t *ret_off);
    /** Add a 64-bit MSI capability for @vectors (1, 2, 4 .. 32) messages.  @return 0, -errno. */
    int (*pci_msi_add)(mobo_pci_t fn, uint32_t vectors);
    /** Drive the function's INTx pin, level-triggered and shared; the command register's disable
     * bit and the status bit are the host's.  Thread: as irq_set(). */
    void (*pci_irq_set)(mobo_pci_t fn, int level);
    /** Send MSI message @n.  @return 0; -EACCES while the guest has MSI off (use pci_irq_set then)
     * or bus mastering off; -EINVAL.  Thread: any. */
    int (*pci_msi_send)(mobo_pci_t fn, uint32_t n);
    /** Whether the guest has switched MSI on.  Thread: any. */
    int (*pci_msi_enabled)(mobo_pci_t fn);
    /** DMA: as mem_read() and mem_write(), and -EACCES while bus mastering is off.  Thread: any. */
    int (*pci_dma_read)(mobo_pci_t fn, uint64_t gpa, void *buf, uint64_t len);
    int (*pci_dma_write)(mobo_pci_t fn, uint64_t gpa, const void *buf, uint64_t len);
    /** For host bridges: a configuration cycle.  @devfn is slot << 3 | function; @len 1, 2, 4,
     * within one dword.  Nobody there: all ones.  Thread: dev. */
    uint32_t (*pci_config_read)(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                                uint32_t len);
    void (*pci_config_write)(struct mobo_vdev *dev, uint32_t bus, uint32_t devfn, uint32_t off,
                             uint32_t len, uint32_t val);
    /** For ISA bridges: PIRQ @pirq (0..3: A..D) now drives @line, -1 none.  Pin p (1..4) of slot s
     * is wired to PIRQ (s + p - 2) & 3, as on 440FX boards (slot 1's INTA is PIRQ A).  Boards on
     * which nobody calls this wire PIRQ n to line 16 + n.
     * @return 0, -EINVAL, -EBUSY (another vdev routes).  Thread: dev, from create() on. */
    int (*pci_pirq_route)(struct mobo_vdev *dev, uint32_t pirq, int32_t line);

    /* -- time -- */

    /** Guest time in ns: 0 when the VM was made, stands still while it is paused, part of the saved
     * state.  Thread: any.  Since: 1.0 */
    uint64_t (*clock_ns)(struct mobo_vdev *dev);
    /** The host's calendar time, ns since 1970-01-01 UTC, for clocks that keep a date.
     * Thread: any. */
    int64_t (*wall_ns)(struct mobo_vdev *dev);
    /** A one-shot timer on guest time, on the I/O thread, under the vdev lock.  @now is the guest
     * time of the call, never before the deadline.  @return 0, -ENOMEM.  Thread: dev, create(). */
    int (*timer_create)(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now), void *ctx,
                        mobo_timer_t *ret_timer);
    /** Arm (or arm anew) for guest time @deadline_ns; a past one fires soon.  Not from within
     * other threads than the vdev's callbacks; then a callback that was due does not run any more.
     * Timers are not saved: restore() arms them.  Thread: dev. */
    void (*timer_set)(mobo_timer_t timer, uint64_t deadline_ns);
    void (*timer_cancel)(mobo_timer_t timer);
    /** Call @fn on the I/O thread, under the vdev lock, once; runs after a pause ended if posted
     * during one.  @return 0, -ENOMEM.  Thread: any.  Locks: takes none of the vdev's. */
    int (*work_post)(struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx);
    /** Watch a file descriptor (borrowed; stays open until fd_unwatch()).  @ready runs on the I/O
     * thread under the vdev lock, level-triggered.  @return 0, -errno.  Thread: dev. */
    int (*fd_watch)(struct mobo_vdev *dev, int fd, uint32_t events,
                    void (*ready)(void *ctx, int fd, uint32_t events), void *ctx,
                    mobo_watch_t *ret_watch);
    void (*fd_watch_set)(mobo_watch_t watch, uint32_t events); /* 0: none for now */
    void (*fd_unwatch)(mobo_watch_t watch);

    /* -- character backends -- */

    /** Open what the MOBO_CHAR key @key names.  @ops is copied.  @return 0; -errno with a message;
     * the key not set gives a backend that swallows output.  Thread: dev, create().  Since: 1.0 */
    int (*char_open)(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops,
                     void *ctx, mobo_char_t *ret_chr);
    /** @return bytes taken, 0..@len; fewer than @len: MOBO_CHAR_WRITABLE follows.  With no peer all
     * is swallowed.  Thread: dev.  Blocks: never. */
    uint32_t (*char_write)(mobo_char_t chr, const uint8_t *buf, uint32_t len);
    /** The device can take bytes again.  Thread: dev. */
    void (*char_ready)(mobo_char_t chr);

    /* -- system -- */

    /** Ask for something that concerns the whole VM; it happens soon after, not within the call.
     * @param kind  enum mobo_system;  @text: one line for the log, or NULL.  Thread: any. */
    void (*system_request)(struct mobo_vdev *dev, uint32_t kind, uint32_t code, const char *text);
    /** Describe hardware for the ACPI tables; @desc (a struct mobo_acpi_...) is copied.
     * @return 0, -EINVAL, -EBUSY (a second one of a kind that there is once).
     * Thread: dev, create(). */
    int (*acpi_add)(struct mobo_vdev *dev, const struct mobo_acpi *desc);

    /* -- saved state: within save() and restore() only -- */

    /** Write the members of *@base that the table names.  @return 0, -errno.  Since: 1.0 */
    int (*save_fields)(struct mobo_writer *out, const struct mobo_field *fields, uint32_t count,
                       uint32_t elem, const void *base);
    /** One field of any length; @flags: 0 or MOBO_FIELD_IGNORABLE. */
    int (*save_bytes)(struct mobo_writer *out, uint32_t tag, uint32_t flags, const void *buf,
                      uint32_t len);
    /** A nested group of fields with its own tags: begin, fields, end. */
    int (*save_begin)(struct mobo_writer *out, uint32_t tag, uint32_t flags);
    int (*save_end)(struct mobo_writer *out);
    /** Read the members that the table names from the present group.  Refused, with a message and
     * *@base partly written, when one is missing or has another length, or the group has a field
     * that is neither in the table nor was read before nor may be ignored (nested groups are not
     * looked at: see load_done).  So: load into a copy, check it, commit. */
    int (*load_fields)(struct mobo_reader *in, const struct mobo_field *fields, uint32_t count,
                       uint32_t elem, void *base);
    /** One field: up to @len bytes.  @return 0 with its length; -ENOENT (no message) when it is not
     * there; -EMSGSIZE when it is longer. */
    int (*load_bytes)(struct mobo_reader *in, uint32_t tag, void *buf, uint32_t len,
                      uint32_t *ret_len);
    /** Enter and leave a nested group.  begin: -ENOENT (no message) when it is not there; end:
     * -EINVAL when something required in it was not read. */
    int (*load_begin)(struct mobo_reader *in, uint32_t tag);
    int (*load_end)(struct mobo_reader *in);
    /** 0 when nothing required is left unread in the present group; call before committing when
     * load_fields() was not the last to look.  The host calls it after restore() in any case. */
    int (*load_done)(struct mobo_reader *in);

    /* -- inspection: within inspect() only -- */

    /** Show the members that the table names. */
    void (*inspect_fields)(struct mobo_inspect *out, const struct mobo_field *fields,
                           uint32_t count, uint32_t elem, const void *base);
    void (*inspect_uint)(struct mobo_inspect *out, const char *name, uint64_t val);
    void (*inspect_str)(struct mobo_inspect *out, const char *name, const char *text);
    /** A nested report. */
    void (*inspect_begin)(struct mobo_inspect *out, const char *name);
    void (*inspect_end)(struct mobo_inspect *out);

    /* 1.0 ends here; later minor versions append. */

    /* -- VMBus (1.1).  Only on boards with `enlightened = yes`; else vmbus_offer() gives -ENODEV. -- */

    /** Offer a channel.  @offer and @ops are copied.  @return 0; -ENODEV; -ENOSPC; -ENOMEM.
     * Thread: dev, in create() or later (hot add).  Since: 1.1 */
    int (*vmbus_offer)(struct mobo_vdev *dev, const struct mobo_vmbus_offer *offer,
                       const struct mobo_vmbus_ops *ops, void *ctx, mobo_vmbus_t *ret_channel);
    /** Take it back; no callback comes any more and the handle is void.  Thread: dev.  Since: 1.1 */
    void (*vmbus_rescind)(mobo_vmbus_t channel);
    /** The next packet.  @return 0; -EAGAIN: none, signal() follows; -ENOTCONN: not open; -EPROTO:
     * the guest broke the ring, close() follows.  Thread: dev.  Since: 1.1 */
    int (*vmbus_receive)(mobo_vmbus_t channel, struct mobo_vmbus_packet *ret);
    /** Send a packet.  @return 0; -EAGAIN: no room, signal() follows when there is; -ENOTCONN;
     * -EMSGSIZE: it can never fit.  Thread: any.  Since: 1.1 */
    int (*vmbus_send)(mobo_vmbus_t channel, uint32_t type, uint32_t flags, uint64_t transaction,
                      const void *desc, uint32_t desc_len, const void *data, uint32_t len);
    /** The guest broke the device's protocol: close() follows, @why goes to the log.  Thread: any. */
    void (*vmbus_fault)(mobo_vmbus_t channel, const char *why);
    /** Copy from or to a GPADL that the guest made for this channel.
     * @return 0; -ENOENT: no such GPADL; -EFAULT: outside it, or not RAM.  Thread: any. */
    int (*vmbus_gpadl_read)(mobo_vmbus_t channel, uint32_t gpadl, uint64_t off, void *buf,
                            uint32_t len);
    int (*vmbus_gpadl_write)(mobo_vmbus_t channel, uint32_t gpadl, uint64_t off, const void *buf,
                             uint32_t len);
    int (*vmbus_gpadl_len)(mobo_vmbus_t channel, uint32_t gpadl, uint64_t *ret_len);
    /** The memory that a GPA-direct packet names, neighbours joined; valid as long as the VM.  After
     * writing there call mem_dirty() for each piece.
     * @return 0; -EINVAL: malformed; -EFAULT: not RAM; -E2BIG: more than @max.  Thread: dev. */
    int (*vmbus_gpa_direct)(mobo_vmbus_t channel, const struct mobo_vmbus_packet *packet,
                            struct mobo_iov *iov, uint32_t max, uint32_t *ret_n, uint64_t *ret_len);
    /** The version that guest and bus agreed on (major << 16 | minor), 0: none.  Thread: any. */
    uint32_t (*vmbus_version)(mobo_vmbus_t channel);
    /** Guest memory was written through a pointer.  Thread: any.  Since: 1.1 */
    void (*mem_dirty)(struct mobo_vdev *dev, uint64_t gpa, uint64_t len);

    /* -- block backends (1.1) -- */

    /** Open the image that the MOBO_PATH key @key names: PATH, or the URI of a network block device, then any of ",ro", ",cdrom",
     * ",direct" (past the host's page cache), ",sector=4096".  An image that may be written is
     * locked against others.  @flags: 0 or MOBO_BLOCK_READ_ONLY.
     * @return 0; -errno with a message; -ENOENT also when the key is not set.
     * Thread: dev, in create() or later.  Blocks: on the file.  Since: 1.1 */
    int (*block_open)(struct mobo_vdev *dev, const char *key, uint32_t flags,
                      mobo_block_t *ret_block, struct mobo_block_info *ret_info);
    /** Close it.  Everything under way is finished first, without its done().  Thread: dev. */
    void (*block_close)(mobo_block_t block);
    /** Begin a request.  Requests run at the same time and may pass each other.  A read marks the
     * guest memory that it fills as written (mem_dirty()).  A write for which the host has no
     * space, and a request that does not reach the server of its image, is held back: the VM pauses and it is tried
     * again when the VM goes on.
     * @return 0, or -EINVAL (outside the medium, not in sectors, or writing to a read-only one; done() is
     * not called then).  Thread: dev.  Blocks: never. */
    int (*block_submit)(mobo_block_t block, struct mobo_block_req *req);
    /** Wait for all requests that are under way and call their done().  Those that are held back
     * stay, or are done with -ECANCELED when @cancel.  For pause() and reset().  Thread: dev. */
    void (*block_drain)(mobo_block_t block, int cancel);

    /* -- memory given back (1.1) -- */

    /** The guest does not use this memory: its contents are lost (it reads as zeroes) and the host
     * takes it back until somebody touches it again.  @gpa and @len are multiples of 4096.
     * @return 0; -EINVAL; -EFAULT when a byte is not RAM (then nothing happened).  Thread: dev. */
    int (*mem_discard)(struct mobo_vdev *dev, uint64_t gpa, uint64_t len);

    /** As block_open(), for what a person says in a command: @spec is what the key would hold; a
     * relative name is taken from the VM file's folder.  Since: 1.1 */
    int (*block_open_spec)(struct mobo_vdev *dev, const char *spec, uint32_t flags,
                           mobo_block_t *ret_block, struct mobo_block_info *ret_info);

    /* -- network backends (1.1) -- */

    /** Open what the MOBO_STRING key @key names: "user", "tap:NAME", "switch:PATH" or "null".  Where
     * the device has keys of these names, they say more: `hostfwd`, `network`, `ipv6`, `restrict` (of
     * user), `pcap` (MOBO_PATH: a file that gets all frames).  @ops is copied.
     * @return 0; -errno with a message; the key not set gives "null".
     * Thread: dev, create().  Since: 1.1 */
    int (*net_open)(struct mobo_vdev *dev, const char *key, const struct mobo_net_ops *ops,
                    void *ctx, mobo_net_t *ret_net, struct mobo_net_info *ret_info);
    /** Send a frame (@iov: its pieces, copied).  @return 0: sent, or lost as on a wire; -EAGAIN: no
     * room, MOBO_NET_WRITABLE follows; -EMSGSIZE.  Thread: dev.  Blocks: never. */
    int (*net_send)(mobo_net_t net, const struct mobo_iov *iov, uint32_t niov);
    /** The device takes frames again.  Thread: any. */
    void (*net_ready)(mobo_net_t net);

    /* -- display backends (1.1) -- */

    /** Open what the MOBO_STRING key @key names: "vnc:ADDRESS:DISPLAY", "vnc:unix:PATH" (both with
     * options) or "null".  The host can take pictures of any of them.  @ops is copied.
     * @return 0; -errno with a message; the key not set gives "null".
     * Thread: dev, create().  Since: 1.1 */
    int (*display_open)(struct mobo_vdev *dev, const char *key, const struct mobo_display_ops *ops,
                        void *ctx, mobo_display_t *ret_display);
    /** From now on show this picture, all of which is new; NULL: none, the screen is dark.  When it
     * returns nobody looks at the memory of the former one.  A reset of the VM does not change it.
     * @return 0; -EINVAL: a member is out of range, and the screen is dark.  Thread: dev. */
    int (*display_surface)(mobo_display_t display, const struct mobo_surface *surface);
    /** Something was drawn; what lies outside the picture is cut off.  Thread: dev. */
    void (*display_dirty)(mobo_display_t display, int32_t x, int32_t y, uint32_t width,
                          uint32_t height);
    /** The guest draws its pointer itself with this picture (copied); NULL: the pointer is part of
     * the picture, or there is none.  @return 0 or -EINVAL.  Thread: dev. */
    int (*display_cursor)(mobo_display_t display, const struct mobo_cursor *cursor);
    /** Where that pointer's hot spot is.  Thread: dev. */
    void (*display_cursor_move)(mobo_display_t display, int32_t x, int32_t y, int visible);

    /* -- input (1.1) -- */

    /** Take keys, or a pointer's movements.  Of all devices that take a kind of event the host
     * chooses an active one: synthetic before plug-in before emulated devices.  Movements are
     * converted for devices that take only the other form.  @ops is copied.
     * @return 0, -EINVAL, -ENOMEM.  Thread: dev, create().  Since: 1.1 */
    int (*input_add)(struct mobo_vdev *dev, const struct mobo_input_ops *ops, void *ctx,
                     mobo_input_t *ret_input);
    /** The guest uses the device (1), or it does not (0, at first).  Keys held are forgotten then.
     * Thread: dev. */
    void (*input_active)(mobo_input_t input, int active);
    /** There is room again.  Thread: dev. */
    void (*input_ready)(mobo_input_t input);
    /** What the guest shows on the keyboard, MOBO_LED_...  Thread: dev. */
    void (*input_leds)(mobo_input_t input, uint32_t leds);

    /* -- connections of hvsocket (1.1) -- */

    /** Hear of the guest's wish to connect a service of the host.  @connect runs on the I/O thread,
     * under the vdev lock: @endpoint is the guest's side, @service the host's, both as MOBO_GUID().
     * Answer by an offer with MOBO_VMBUS_HVSOCKET whose class is the service and whose instance is
     * the endpoint, or refuse; both tell the guest by vmbus_tl_result().  One vdev only.
     * @return 0; -ENODEV: no VMBus; -EBUSY with a message.  Thread: dev, create().  Since: 1.1 */
    int (*vmbus_tl_listen)(struct mobo_vdev *dev,
                           void (*connect)(void *ctx, const uint8_t *endpoint,
                                           const uint8_t *service),
                           void *ctx);
    /** The answer: @status 0, or an NTSTATUS such as 0xc0000236 (connection refused).  Thread: dev. */
    void (*vmbus_tl_result)(struct mobo_vdev *dev, const uint8_t *endpoint,
                            const uint8_t *service, uint32_t status);

    /* -- memory added while the machine runs (1.1) -- */

    /** Have room for more guest RAM, above all that is there; nothing of it is RAM yet.  @len is a multiple of
     * 128 MiB; so is *@ret_gpa, where it begins.  Its contents are saved with those of the machine's RAM; how
     * much is plugged is the device's to save, and to plug again in restore().
     * @return 0; -EBUSY: another device has it; -EINVAL; -ENOMEM.  Thread: dev, in create(). */
    int (*mem_reserve)(struct mobo_vdev *dev, uint64_t len, uint64_t *ret_gpa);
    /** The first @len bytes (a multiple of 4096) of it are RAM from now on, what is behind is not, and its contents
     * are lost.  To be taken away in reset(): no firmware tells the guest of it.
     * @return 0; -EINVAL: not reserved; -ENOMEM (then nothing happened).  Thread: dev. */
    int (*mem_plug)(struct mobo_vdev *dev, uint64_t len);

    /* 1.1 ends here. */
};

/** Trace: a load and a branch while tracing is off.  @word is what trace_word() gave. */
#define MOBO_TRACE(host, dev, word, ...)               \
    do {                                               \
        if (__atomic_load_n((word), __ATOMIC_RELAXED)) \
            (host)->trace((dev), __VA_ARGS__);         \
    } while (0)

/* ---- what a vdev offers ------------------------------------------------------------------------- */

struct mobo_vdev_ops {
    uint32_t size; /* sizeof(struct mobo_vdev_ops) */
    uint32_t reserved;
    /* Required.  Claim everything; start nothing.  On failure free what was made (the destroy
     * operation is not called) and return the error of fail(). */
    int (*create)(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self);
    /* Required.  Free.  No callback runs any more. */
    void (*destroy)(void *self);
    /* Optional.  Once, before the first reset: open what has to be open while the VM runs. */
    int (*power_on)(void *self);
    /* Required.  The state after power-on or a hard reset; all lines are taken as deasserted. */
    void (*reset)(void *self);
    /* Optional.  Guest time stands still from pause to resume; get outside work to a halt. */
    int (*pause)(void *self);
    void (*resume)(void *self);
    /* Required.  save: while paused; changes nothing.  restore: after reset; either all is taken
     * over, or an error and nothing. */
    int (*save)(void *self, struct mobo_writer *out);
    int (*restore)(void *self, struct mobo_reader *in);
    /* Optional.  Report state for people. */
    void (*inspect)(void *self, struct mobo_inspect *out);
    /* Optional.  Something happened to the machine. */
    void (*event)(void *self, const struct mobo_event *event);
    /* Optional, since 1.1.  A person commands this device: @verb, and @arg ("" when there is none),
     * as its manual says.  @ret takes a line for an answer and is empty at first; what takes longer
     * goes on afterwards.  On the control thread, while the VM runs (not paused).
     * @return 0; -ENOSYS: no such verb; -errno; both with a message of fail(). */
    int (*command)(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len);
};

enum mobo_vdev_class { MOBO_CLASS_EMULATED = 1, MOBO_CLASS_SYNTHETIC = 2, MOBO_CLASS_PLUGIN = 3 };

enum {
    MOBO_VDEV_THREAD_SAFE = 1, /* the host takes no lock around callbacks */
    MOBO_VDEV_PCI = 2,         /* adds a PCI function: the host offers the key `slot` (N or N.F) */
    MOBO_VDEV_PCI_ROOT = 4,    /* the PCI host bridge: created before those that need its bus */
    MOBO_VDEV_IRQ_SINK = 8     /* an interrupt controller: created before other devices */
};

struct mobo_vdev_descriptor {
    uint32_t magic;     /* MOBO_VDEV_MAGIC */
    uint16_t abi_major; /* MOBO_ABI_MAJOR */
    uint16_t abi_minor; /* the oldest minor version that has all the vdev cannot do without */
    uint32_t size;      /* sizeof(struct mobo_vdev_descriptor) */
    uint32_t flags;     /* MOBO_VDEV_... */
    const char *type;   /* as in `type = uart16550`: lower case, digits, '-' */
    const char *vendor;
    const char *version;
    const char *licence;    /* SPDX expression */
    const char *summary;    /* one line */
    uint32_t dev_class;     /* enum mobo_vdev_class */
    uint32_t max_instances; /* 0: any number */
    const struct mobo_param *params;
    uint32_t nparams;
    uint32_t param_size; /* sizeof(struct mobo_param); params, nparams, param_size: MOBO_ARRAY(p) */
    const struct mobo_vdev_ops *ops;
};

/** The one symbol of a plug-in. */
extern MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor;

#ifdef __cplusplus
}
#endif
#endif
