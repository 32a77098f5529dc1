/* SPDX-License-Identifier: MIT */
/* A host in memory for unit tests of vdevs: ports, MMIO, PCI, lines, a clock that the test steps.
 *
 *     struct mobo_fake *f = mobo_fake_create();
 *     const char *params[] = { "port=0x3f8", "irq=4", NULL };
 *     struct mobo_vdev *dev = mobo_fake_add(f, &mobo_vdev_descriptor, "com1", params);
 *     mobo_fake_out(f, 0x3f9, 1, 0x02);
 *     mobo_fake_step(f, 1000000);
 *     assert_int_equal(mobo_fake_line(f, 4), 1);
 *     mobo_fake_destroy(f);
 *
 * One thread.  Several vdevs may share a host.  Anything that a real host would refuse fails the
 * same way here; mistakes in a test's own use of this file abort with a message. */
#ifndef MOBO_FAKEHOST_H
#define MOBO_FAKEHOST_H

#include <mobo/vdev.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mobo_fake;

/** A board without devices: 16 MiB of RAM, generation 1, one processor, direct boot. */
struct mobo_fake *mobo_fake_create(void);
void mobo_fake_destroy(struct mobo_fake *f);
/** Change what board_info() says, before devices are added. */
void mobo_fake_board(struct mobo_fake *f, const struct mobo_board_info *info);

/** Check the descriptor and the "key=value" strings (NULL-terminated list, or NULL), create the
 * device, power it on and reset it.  @return NULL on failure; mobo_fake_error() says why.
 * The descriptor of a PCI function gets a bus even without a host bridge. */
struct mobo_vdev *mobo_fake_add(struct mobo_fake *f, const struct mobo_vdev_descriptor *desc,
                                const char *name, const char *const *params);
/** The last message of a fail() or of a refusal, "" if none; cleared by reading. */
const char *mobo_fake_error(struct mobo_fake *f);
const struct mobo_host *mobo_fake_host(struct mobo_fake *f);
/** Number of lines logged so far at @level or more severe. */
unsigned mobo_fake_logged(struct mobo_fake *f, uint32_t level);

void mobo_fake_reset(struct mobo_fake *f); /* every device; PCI and lines too */
void mobo_fake_pause(struct mobo_fake *f);
void mobo_fake_resume(struct mobo_fake *f);
void mobo_fake_event(struct mobo_fake *f, uint32_t kind);
/** A command of a person (ops.command); @ret is empty when the device gives no answer.  Runs posted
 * work afterwards.  @return what the device returns; -38 (-ENOSYS) when it takes no commands. */
int mobo_fake_command(struct mobo_vdev *dev, const char *verb, const char *arg, char *ret,
                      uint32_t ret_len);

/* Accesses of a guest.  Unclaimed: all ones. */
uint32_t mobo_fake_in(struct mobo_fake *f, uint32_t port, uint32_t len);
void mobo_fake_out(struct mobo_fake *f, uint32_t port, uint32_t len, uint32_t val);
uint64_t mobo_fake_mmio_read(struct mobo_fake *f, uint64_t gpa, uint32_t len);
void mobo_fake_mmio_write(struct mobo_fake *f, uint64_t gpa, uint32_t len, uint64_t val);
uint32_t mobo_fake_pci_read(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                            uint32_t len);
void mobo_fake_pci_write(struct mobo_fake *f, uint32_t slot, uint32_t fn, uint32_t off,
                         uint32_t len, uint32_t val);
/** Guest RAM, 16 MiB from address 0. */
uint8_t *mobo_fake_ram(struct mobo_fake *f);
/** Bytes that mem_plug() has added, at 4 GiB; they have no contents here. */
uint64_t mobo_fake_plugged(const struct mobo_fake *f);

/* Interrupts. */
int mobo_fake_line(struct mobo_fake *f, uint32_t line);              /* present level */
unsigned mobo_fake_edges(struct mobo_fake *f, uint32_t line);        /* rising edges so far */
void mobo_fake_drive(struct mobo_fake *f, uint32_t line, int level); /* as another device would */
int mobo_fake_intx(struct mobo_fake *f, uint32_t slot, uint32_t fn); /* INTx level of a function */
int32_t mobo_fake_pirq(struct mobo_fake *f, uint32_t pirq);          /* routed to, -1 none */
int mobo_fake_intr(struct mobo_fake *f);                             /* INTR of the processors */
int mobo_fake_intack(struct mobo_fake *f);                           /* acknowledge: vector or -1 */
void mobo_fake_eoi(struct mobo_fake *f, uint32_t vector);
/** Take the oldest interrupt message that was sent.  @return 0 when there is none. */
int mobo_fake_msi(struct mobo_fake *f, uint64_t *ret_addr, uint32_t *ret_data);
unsigned mobo_fake_nmis(struct mobo_fake *f);
int mobo_fake_a20(struct mobo_fake *f); /* 1 open */

/* Time.  Timers fire in order of their deadlines, the clock standing at each. */
uint64_t mobo_fake_now(struct mobo_fake *f);
void mobo_fake_step(struct mobo_fake *f, uint64_t ns); /* also runs posted work first */
void mobo_fake_work(struct mobo_fake *f);              /* run posted work */
void mobo_fake_wall(struct mobo_fake *f, int64_t ns);  /* wall_ns() is this plus the clock */
/** Deadline of the next timer, UINT64_MAX if none. */
uint64_t mobo_fake_next_timer(struct mobo_fake *f);

/* The character backend of a device (each device has at most 4; @n counts char_open() calls). */
/** Bytes from the peer; what the device does not take waits.  @return bytes still waiting. */
uint32_t mobo_fake_char_send(struct mobo_vdev *dev, unsigned n, const void *buf, uint32_t len);
/** Take what the device wrote.  @return bytes. */
uint32_t mobo_fake_char_recv(struct mobo_vdev *dev, unsigned n, void *buf, uint32_t max);
/** How many bytes char_write() takes from now on (UINT32_MAX at first); growing from 0 tells the
 * device. */
void mobo_fake_char_room(struct mobo_vdev *dev, unsigned n, uint32_t room);
void mobo_fake_char_event(struct mobo_vdev *dev, unsigned n, uint32_t event);

/** Take the oldest system request.  @return its kind with the code, 0 when there is none. */
uint32_t mobo_fake_system(struct mobo_fake *f, uint32_t *ret_code);
/** The @n-th ACPI description of a kind, NULL if there is none. */
const struct mobo_acpi *mobo_fake_acpi(struct mobo_fake *f, uint32_t kind, unsigned n);

/* VMBus: the test plays the guest.  @n counts the channels that the device offered, sub-channels and
 * rescinded ones too. */
unsigned mobo_fake_vmbus_count(struct mobo_vdev *dev);
/** The offer, NULL when it was taken back. */
const struct mobo_vmbus_offer *mobo_fake_vmbus_offer(struct mobo_vdev *dev, unsigned n);
/** Open the channel; @user_data may be NULL.  @return 0 or the device's refusal. */
int mobo_fake_vmbus_open(struct mobo_vdev *dev, unsigned n, const uint8_t *user_data);
void mobo_fake_vmbus_close(struct mobo_vdev *dev, unsigned n);
/** The bus's half of mobo_fake_restore(): a channel is open again, and the device is not told. */
void mobo_fake_vmbus_restored(struct mobo_vdev *dev, unsigned n);
/** Put a packet into the ring and signal; @desc is what follows the first 16 bytes of the
 * descriptor (for GPA-direct: u32 reserved, u32 ranges, then each u32 length, u32 offset, u64 page
 * numbers).  The device runs within the call.  A fault that it reports closes the channel. */
void mobo_fake_vmbus_send(struct mobo_vdev *dev, unsigned n, uint32_t type, uint32_t flags,
                          uint64_t transaction, const void *desc, uint32_t desc_len,
                          const void *data, uint32_t len);
/** The same in two steps, for batches. */
void mobo_fake_vmbus_queue(struct mobo_vdev *dev, unsigned n, uint32_t type, uint32_t flags,
                           uint64_t transaction, const void *desc, uint32_t desc_len,
                           const void *data, uint32_t len);
void mobo_fake_vmbus_signal(struct mobo_vdev *dev, unsigned n);
/** Take the oldest packet of the device.  @return 0 when there is none; @ret stays valid until the
 * next call.  A guest that looks again when it has read all is what makes room for MOBO_VMBUS_ALONE. */
int mobo_fake_vmbus_recv(struct mobo_vdev *dev, unsigned n, struct mobo_vmbus_packet *ret);
/** How many more packets the device can send (UINT32_MAX, no limit, at first). */
void mobo_fake_vmbus_room(struct mobo_vdev *dev, unsigned n, uint32_t packets);
/** Why the device closed the channel, NULL if it did not; forgotten by opening. */
const char *mobo_fake_vmbus_fault(struct mobo_vdev *dev, unsigned n);
/** A GPADL over one run of guest RAM. */
void mobo_fake_vmbus_gpadl(struct mobo_vdev *dev, unsigned n, uint32_t id, uint64_t gpa,
                           uint64_t len);

/** The guest wants to connect a service of the host (vmbus_tl_listen()).  @return 0 and the status that
 * the device answered; -1: it did not answer within the call. */
int mobo_fake_vmbus_connect(struct mobo_vdev *dev, const uint8_t endpoint[16],
                            const uint8_t service[16], uint32_t *ret_status);

/* Network backends: the test is the network.  @n counts net_open() calls of the device. */
/** A frame for the device, which takes it at once, or after it said so and mobo_fake_work() ran.
 * @return frames that wait. */
unsigned mobo_fake_net_send(struct mobo_vdev *dev, unsigned n, const void *frame, uint32_t len);
/** Take the oldest frame of the device.  @return its length (more than @max: cut), 0: there is none. */
uint32_t mobo_fake_net_recv(struct mobo_vdev *dev, unsigned n, void *buf, uint32_t max);
/** How many more frames the device can send (UINT32_MAX, no limit, at first). */
void mobo_fake_net_room(struct mobo_vdev *dev, unsigned n, uint32_t frames);
void mobo_fake_net_event(struct mobo_vdev *dev, unsigned n, uint32_t event);
/** What net_open() says of max_tcp; 0 at first.  Before devices are added. */
void mobo_fake_net_max_tcp(struct mobo_fake *f, uint32_t max_tcp);

/* Display backends: the test is the viewer.  @n counts display_open() calls of the device. */
/** The picture that the device shows, NULL: dark. */
const struct mobo_surface *mobo_fake_display_surface(struct mobo_vdev *dev, unsigned n);
/** Take the oldest rectangle that the device said to have changed, as it said it: x, y, width, height.
 * @return 0 when there is none. */
int mobo_fake_display_dirty(struct mobo_vdev *dev, unsigned n, int32_t ret_rect[4]);
/** The guest's pointer, NULL: none. */
const struct mobo_cursor *mobo_fake_display_cursor(struct mobo_vdev *dev, unsigned n);
/** @return whether it is visible. */
int mobo_fake_display_pointer(struct mobo_vdev *dev, unsigned n, int32_t *ret_x, int32_t *ret_y);
void mobo_fake_display_watch(struct mobo_vdev *dev, unsigned n, int watched);
void mobo_fake_display_hint(struct mobo_vdev *dev, unsigned n, uint32_t width, uint32_t height);

/* Input: the test is the person.  @n counts input_add() calls of the device. */
/** @return what the device returns.  An event of a kind that it does not take is a mistake of the
 * test. */
int mobo_fake_input(struct mobo_vdev *dev, unsigned n, const struct mobo_input_event *event);
int mobo_fake_input_active(struct mobo_vdev *dev, unsigned n);
/** How often it said input_ready(). */
unsigned mobo_fake_input_readies(struct mobo_vdev *dev, unsigned n);
uint32_t mobo_fake_input_leds(struct mobo_vdev *dev, unsigned n);

/* Disk images in memory.  Requests are executed by mobo_fake_work() and mobo_fake_step(). */
/** What block_open() finds under @path, the whole value of the key.  @buf has info->len bytes and
 * stays the test's; NULL: all zeroes, whatever is written. */
void mobo_fake_disk(struct mobo_fake *f, const char *path, void *buf,
                    const struct mobo_block_info *info);
/** From now on requests of kind @op fail with @err; -ENOSPC holds them until mobo_fake_resume();
 * op 0: all is well again. */
void mobo_fake_disk_fail(struct mobo_fake *f, const char *path, uint32_t op, int err);
/** How many requests of kind @op there were. */
unsigned mobo_fake_disk_ops(struct mobo_fake *f, const char *path, uint32_t op);

/* State.  The buffer is malloc()ed. */
int mobo_fake_save(struct mobo_vdev *dev, void **ret_buf, size_t *ret_len);
int mobo_fake_restore(struct mobo_vdev *dev, const void *buf, size_t len);
/** Save, reset, restore, save again and compare.  @return 0, or -1 with a message: then state got
 * lost.  Also tries every truncation of the state: each has to be refused. */
int mobo_fake_roundtrip(struct mobo_vdev *dev);
/** The quick part of it, without a reset: save, restore, save again and compare.  @return 0, or -1 with a message. */
int mobo_fake_same(struct mobo_vdev *dev);
/** Random accesses of all sizes to every port and MMIO address the device claims, seeded; steps
 * time between them.  Meant for sanitizer builds. */
void mobo_fake_monkey(struct mobo_fake *f, uint32_t seed, unsigned accesses);
/** The inspect report as text, "name: value" lines.  malloc()ed. */
char *mobo_fake_inspect(struct mobo_vdev *dev);

#ifdef __cplusplus
}
#endif
#endif
