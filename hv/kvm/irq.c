/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts under KVM: messages to its local APICs, which end-of-interrupts come back, SINTs.
 *
 * KVM tells of an EOI (KVM_EXIT_IOAPIC_EOI) for the vectors that the routes of the first GSIs, those reserved for
 * the I/O APICs, name as level-triggered.  GSI v stands for vector v here: its route is added when the first
 * level-triggered message with that vector is sent, before it is sent, or when a state has one that has not ended.
 * The SINTs follow behind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm.h"

static uint32_t msi_addr(uint32_t dest, bool logical)
{
    return 0xfee00000u | (dest > 0xff ? 0xff : dest) << 12 | (logical ? 4u : 0);
}

static unsigned sint_gsi(const struct hv_vp *vp, unsigned sint)
{
    return KVM_LEVEL_VECTORS + vp->index * HV_NSINTS + sint;
}

/* Write the whole table.  Lock held. */
static int routes_write(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    unsigned max = KVM_LEVEL_VECTORS + (kp->sint_routed ? p->nvps * HV_NSINTS : 0);
    struct kvm_irq_routing *t = calloc(1, sizeof(*t) + max * sizeof(t->entries[0]));
    int err;

    if (!t)
        return -ENOMEM;
    for (unsigned v = 0; v < KVM_LEVEL_VECTORS; v++)
        if (kp->level[v / 32] & (1u << (v % 32)))
            t->entries[t->nr++] = (struct kvm_irq_routing_entry){
                .gsi = v, .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = { .address_lo = msi_addr(0xff, false), .data = v | 1u << 15 | 1u << 14 } };
    if (kp->sint_routed)
        for (unsigned i = 0; i < p->nvps; i++)
            for (unsigned s = 0; s < HV_NSINTS; s++)
                t->entries[t->nr++] = (struct kvm_irq_routing_entry){
                    .gsi = sint_gsi(p->vps[i], s), .type = KVM_IRQ_ROUTING_HV_SINT,
                    .u.hv_sint = { .vcpu = i, .sint = s } };
    err = kvm_ioctl(kp->vm, KVM_SET_GSI_ROUTING, t);
    free(t);
    return err < 0 ? err : 0;
}

int kvm_irq_routes(struct hv_partition *p)
{
    struct kvm_part *kp = kvm_part(p);
    int err;

    pthread_mutex_lock(&kp->route_lock);
    kp->sint_routed = true;
    err = routes_write(p);
    pthread_mutex_unlock(&kp->route_lock);
    return err ? hv_fail(err, "KVM_SET_GSI_ROUTING: %s", strerror(-err)) : 0;
}

void kvm_irq_level(struct hv_partition *p, unsigned vector)
{
    struct kvm_part *kp = kvm_part(p);
    uint32_t bit = 1u << (vector % 32);
    int err = 0;

    if (atomic_load(&kp->level[vector / 32]) & bit)
        return;
    pthread_mutex_lock(&kp->route_lock);
    if (!(atomic_fetch_or(&kp->level[vector / 32], bit) & bit))
        err = routes_write(p);
    pthread_mutex_unlock(&kp->route_lock);
    if (err)
        hv_log(p, 0, "KVM_SET_GSI_ROUTING: %s: interrupt %u will not be ended", strerror(-err), vector);
}

int kvm_irq_request(struct hv_partition *p, const struct hv_interrupt *irq)
{
    struct kvm_part *kp = kvm_part(p);
    struct kvm_msi msi = { .address_lo = msi_addr(irq->dest, irq->logical) };
    int r;

    if (irq->delivery == HV_SMI || irq->delivery == HV_EXTINT || irq->delivery == 3)
        return 0; /* no system-management mode; KVM takes ExtINT on LINT0 only */
    if (irq->level && irq->delivery <= HV_LOWEST)
        kvm_irq_level(p, irq->vector);
    msi.data = irq->vector | (uint32_t)irq->delivery << 8 | (irq->level ? 1u << 15 : 0) | 1u << 14;
    r = kvm_ioctl(kp->vm, KVM_SIGNAL_MSI, &msi);
    return r < 0 ? 0 : r;
}

void kvm_irq_sint(struct hv_vp *vp, unsigned sint)
{
    struct kvm_irq_level l = { .irq = sint_gsi(vp, sint), .level = 1 };

    kvm_ioctl(kvm_part(vp->p)->vm, KVM_IRQ_LINE, &l); /* fails when the guest has masked it: as it should */
}
