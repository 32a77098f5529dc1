/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest tells the outside without waiting for it: signals of connections (API 4.114, KVM_HYPERV_EVENTFD) and
 * posted writes to ports (API 4.116, KVM_REGISTER_COALESCED_MMIO).
 *
 * The first signal of a connection that somebody hears makes it a port: KVM then only writes an eventfd, and the guest
 * goes on while a thread of ours delivers.  A connection that nobody hears any more ceases to be one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"

enum { STOP = UINT32_MAX, AT_ONCE = 16 };

struct kvm_ports {
    pthread_t thread;
    int epoll, stop;
    pthread_mutex_t deliver;  /* held from reading an eventfd until the embedder has heard */
    unsigned n;               /* kvm_part.ports_lock from here on */
    struct { uint32_t connection; int fd; } port[KVM_PORTS_MAX];
};

static int assign(struct hv_partition *p, uint32_t connection, int fd, bool on)
{
    struct kvm_hyperv_eventfd e = { .conn_id = connection, .fd = fd, .flags = on ? 0 : KVM_HYPERV_EVENTFD_DEASSIGN };

    return kvm_ioctl(kvm_part(p)->vm, KVM_HYPERV_EVENTFD, &e);
}

/* Lock held. */
static void port_remove(struct hv_partition *p, unsigned i)
{
    struct kvm_ports *ps = kvm_part(p)->ports;

    assign(p, ps->port[i].connection, -1, false);
    close(ps->port[i].fd); /* leaves the epoll set by that */
    ps->port[i] = ps->port[--ps->n];
}

/* Was @connection signalled?  Takes the signal. */
static bool take(struct hv_partition *p, uint32_t connection)
{
    struct kvm_part *kp = kvm_part(p);
    uint64_t count = 0;

    pthread_mutex_lock(&kp->ports_lock);
    for (unsigned i = 0; i < kp->ports->n; i++)
        if (kp->ports->port[i].connection == connection && read(kp->ports->port[i].fd, &count, 8) != 8)
            count = 0;
    pthread_mutex_unlock(&kp->ports_lock);
    return count != 0;
}

static void forget(struct hv_partition *p, uint32_t connection)
{
    struct kvm_part *kp = kvm_part(p);

    pthread_mutex_lock(&kp->ports_lock);
    for (unsigned i = 0; i < kp->ports->n; i++)
        if (kp->ports->port[i].connection == connection) {
            port_remove(p, i);
            break;
        }
    pthread_mutex_unlock(&kp->ports_lock);
}

/* deliver held. */
static void deliver(struct hv_partition *p, uint32_t connection)
{
    if (take(p, connection) && p->ops.signal_event(p->ctx, 0, connection, 0))
        forget(p, connection);
}

static void *ports_main(void *arg)
{
    struct hv_partition *p = arg;
    struct kvm_ports *ps = kvm_part(p)->ports;
    struct epoll_event e[AT_ONCE];

    for (;;) {
        int n = epoll_wait(ps->epoll, e, AT_ONCE, -1);

        pthread_mutex_lock(&ps->deliver);
        for (int i = 0; i < n; i++) {
            if (e[i].data.u32 == STOP) {
                pthread_mutex_unlock(&ps->deliver);
                return NULL;
            }
            deliver(p, e[i].data.u32);
        }
        pthread_mutex_unlock(&ps->deliver);
    }
}

void kvm_ports_drain(struct hv_partition *p)
{
    struct kvm_ports *ps = kvm_part(p)->ports;
    uint32_t list[KVM_PORTS_MAX];
    unsigned n;

    if (!ps)
        return;
    pthread_mutex_lock(&ps->deliver);
    pthread_mutex_lock(&kvm_part(p)->ports_lock);
    n = ps->n;
    for (unsigned i = 0; i < n; i++)
        list[i] = ps->port[i].connection;
    pthread_mutex_unlock(&kvm_part(p)->ports_lock);
    for (unsigned i = 0; i < n; i++)
        deliver(p, list[i]);
    pthread_mutex_unlock(&ps->deliver);
}

/* Lock held. */
static struct kvm_ports *ports_start(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    struct kvm_ports *ps = calloc(1, sizeof(*ps));
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = STOP };

    kp->ports_can = false; /* one attempt */
    if (!ps)
        return NULL;
    ps->epoll = epoll_create1(EPOLL_CLOEXEC);
    ps->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&ps->deliver, NULL);
    kp->ports = ps;
    if (ps->epoll >= 0 && ps->stop >= 0 && !epoll_ctl(ps->epoll, EPOLL_CTL_ADD, ps->stop, &e) &&
        !pthread_create(&ps->thread, NULL, ports_main, p)) {
        kp->ports_can = true;
        return ps;
    }
    kp->ports = NULL;
    if (ps->epoll >= 0)
        close(ps->epoll);
    if (ps->stop >= 0)
        close(ps->stop);
    pthread_mutex_destroy(&ps->deliver);
    free(ps);
    return NULL;
}

void kvm_port_add(struct hv_partition *p, uint32_t connection)
{
    struct kvm_part *kp = kvm_part(p);
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = connection };
    struct kvm_ports *ps;
    int fd = -1;

    if (!kp->ports_can)
        return;
    pthread_mutex_lock(&kp->ports_lock);
    ps = kp->ports ? kp->ports : ports_start(p);
    if (ps && ps->n < KVM_PORTS_MAX)
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd >= 0 && !epoll_ctl(ps->epoll, EPOLL_CTL_ADD, fd, &e) && assign(p, connection, fd, true) >= 0) {
        ps->port[ps->n].connection = connection;
        ps->port[ps->n++].fd = fd;
    } else if (fd >= 0) {
        close(fd); /* another VP was first, or the host has no more */
    }
    pthread_mutex_unlock(&kp->ports_lock);
}

void kvm_ports_clear(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);

    pthread_mutex_lock(&kp->ports_lock);
    while (kp->ports && kp->ports->n)
        port_remove(p, 0);
    pthread_mutex_unlock(&kp->ports_lock);
}

void kvm_ports_fini(struct hv_partition *p)
{
    struct kvm_ports *ps = kvm_part(p)->ports;
    uint64_t one = 1;

    if (!ps)
        return;
    if (write(ps->stop, &one, 8) == 8)
        pthread_join(ps->thread, NULL);
    kvm_ports_clear(p);
    kvm_part(p)->ports = NULL;
    close(ps->epoll);
    close(ps->stop);
    pthread_mutex_destroy(&ps->deliver);
    free(ps);
}

/* ---- posted writes --------------------------------------------------------------------------------------------- */

int kvm_posted_port(struct hv_partition *p, uint16_t port, unsigned len, bool on)
{
    struct kvm_part *kp = kvm_part(p);
    struct kvm_coalesced_mmio_zone z = { .addr = port, .size = len, .pio = 1 };
    int r;

    if (!kp->posted)
        return 0;
    r = kvm_ioctl(kp->vm, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &z);
    return r < 0 ? r : 0;
}

void kvm_posted_drain(struct hv_vp *vp)
{
    struct hv_partition *p = vp->p;
    struct kvm_part *kp = kvm_part(p);
    struct kvm_coalesced_mmio_ring *ring = kp->posted;
    uint32_t max, last;

    if (!ring || __atomic_load_n(&ring->first, __ATOMIC_RELAXED) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
        return;
    max = (uint32_t)((HV_PAGE_SIZE - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]));
    pthread_mutex_lock(&kp->posted_lock);
    while ((last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) != ring->first && last < max && ring->first < max) {
        struct kvm_coalesced_mmio w = ring->coalesced_mmio[ring->first];
        uint32_t val = 0;

        __atomic_store_n(&ring->first, (ring->first + 1) % max, __ATOMIC_RELEASE);
        if (!w.pio || w.len > 4)
            continue;
        memcpy(&val, w.data, w.len);
        vp->counters[HV_CTR_PIO]++;
        p->ops.pio_write(p->ctx, vp->index, (uint16_t)w.phys_addr, w.len, val); /* locked: in order */
    }
    pthread_mutex_unlock(&kp->posted_lock);
}
