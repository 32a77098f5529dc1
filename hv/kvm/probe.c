/* SPDX-License-Identifier: BSD-2-Clause */
/* Is there a KVM on this host, can it do what the engine needs, and does it run guest code on the processor?
 *
 * The last is measured: a loop in a scratch VM against the same loop on the host.  A /dev/kvm that emulates
 * every instruction loses by a factor of hundreds. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"

/* The guest's loop grows until it takes a millisecond: an exit may cost a microsecond, or fifty.  The best of some turns
 * counts, and of more when they were slow: on a busy host other programs are in between.  Turns that are far too slow and
 * take the same time are enough: other programs come when they like, emulation costs the same each time. */
enum { PROBE_LOOPS = 2000, PROBE_GROW = 4, PROBE_NS = 1000000, PROBE_BEST_OF = 4, PROBE_SLOW_BEST_OF = 12,
       PROBE_SLOW_NS = 300000000, PROBE_MIN_PERCENT = 10, PROBE_FAR = 10, HOST_LOOPS = 100000 };

int kvm_ioctl(int fd, unsigned long req, void *arg)
{
    int r = ioctl(fd, req, arg);

    return r < 0 ? -errno : r;
}

/* The loop that is timed: two instructions a turn. */
static void host_loop(uint32_t n)
{
    __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(n));
}

/* 1: dec ecx; jnz 1b; in eax, 0xf4; mov ecx, eax; jmp 1b */
static const uint8_t guest_code[] = { 0x49, 0x75, 0xfd, 0xe5, 0xf4, 0x89, 0xc1, 0xeb, 0xf7 };

static struct kvm_segment flat(uint8_t type, uint16_t sel)
{
    return (struct kvm_segment){ .limit = 0xffffffff, .selector = sel, .type = type, .present = 1,
                                 .db = 1, .s = 1, .g = 1 };
}

/* @enough: turns a second of a guest that is not emulated.  @return guest turns a second, or 0 with a reason. */
static double guest_rate(int vm, size_t run_size, uint8_t *ram, double enough, char *reason, size_t len)
{
    struct kvm_userspace_memory_region mem = { .memory_size = 4096, .userspace_addr = (uintptr_t)ram };
    struct kvm_regs regs = { .rip = 0, .rflags = 2, .rcx = 1 };
    struct kvm_sregs sregs;
    struct kvm_run *run = MAP_FAILED;
    uint64_t t0 = 0, t, start = hv_host_ns();
    uint32_t loops = PROBE_LOOPS;
    unsigned full = 0;
    double rate = 0, slowest = 0;
    int vcpu, r;

    memcpy(ram, guest_code, sizeof(guest_code));
    kvm_ioctl(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
    r = kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &mem);
    vcpu = r < 0 ? r : kvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
    if (vcpu < 0) {
        snprintf(reason, len, "/dev/kvm makes no virtual processor: %s", strerror(-vcpu));
        return 0;
    }
    run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    r = run == MAP_FAILED ? -errno : kvm_ioctl(vcpu, KVM_GET_SREGS, &sregs);
    if (r >= 0) {
        sregs.cs = flat(11, 8);
        sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat(3, 16);
        sregs.cr0 = 0x11;
        r = kvm_ioctl(vcpu, KVM_SET_SREGS, &sregs);
    }
    if (r >= 0)
        r = kvm_ioctl(vcpu, KVM_SET_REGS, &regs);
    while (r >= 0) {
        r = kvm_ioctl(vcpu, KVM_RUN, NULL);
        if (r == -EINTR)
            r = 0;
        else if (r >= 0 && run->exit_reason != KVM_EXIT_IO) {
            snprintf(reason, len, "/dev/kvm does not run a simple loop (exit reason %u)",
                     run->exit_reason);
            break;
        } else if (r >= 0) {
            t = hv_host_ns();
            if (t0) { /* the first turn has built page tables */
                double now = (double)loops * 1e9 / (double)(t - t0 ? t - t0 : 1);

                rate = now > rate ? now : rate; /* another process may have been in between */
                if (t - t0 < PROBE_NS) {
                    loops *= PROBE_GROW;
                } else {
                    full++;
                    slowest = slowest == 0 || now < slowest ? now : slowest;
                }
                if (full >= PROBE_BEST_OF &&
                    (rate >= enough || full >= PROBE_SLOW_BEST_OF || t - start > PROBE_SLOW_NS ||
                     (rate < enough / PROBE_FAR && rate < slowest * 1.25)))
                    break;
            }
            memcpy((uint8_t *)run + run->io.data_offset, &loops, 4);
            t0 = hv_host_ns();
        }
    }
    if (r < 0)
        snprintf(reason, len, "/dev/kvm does not run a processor: %s", strerror(-r));
    if (run != MAP_FAILED)
        munmap(run, run_size);
    close(vcpu);
    return r < 0 ? 0 : rate;
}

static bool probe(char *reason, size_t len)
{
    char missing[120];
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, size;
    uint64_t t0, best = UINT64_MAX;
    double guest, host;
    const char *force;
    uint8_t *ram;
    bool ok;

    if (fd < 0) {
        if (errno == ENOENT)
            snprintf(reason, len, "no /dev/kvm: the kernel has no KVM, or the processor no virtualization");
        else if (errno == EACCES || errno == EPERM)
            snprintf(reason, len, "no permission for /dev/kvm (its group may use it)");
        else
            snprintf(reason, len, "cannot open /dev/kvm: %s", strerror(errno));
        return false;
    }
    if (kvm_ioctl(fd, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
        snprintf(reason, len, "/dev/kvm does not speak version %d of its interface", KVM_API_VERSION);
        close(fd);
        return false;
    }
    if (kvm_missing(fd, true, missing, sizeof(missing))) {
        snprintf(reason, len, "this KVM lacks %s", missing);
        close(fd);
        return false;
    }
    size = kvm_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    vm = kvm_ioctl(fd, KVM_CREATE_VM, NULL);
    if (vm < 0 || size < (int)sizeof(struct kvm_run)) {
        snprintf(reason, len, "/dev/kvm makes no virtual machine: %s",
                 vm == -EBUSY ? "another hypervisor has the processor" : strerror(vm < 0 ? -vm : EINVAL));
        if (vm >= 0)
            close(vm);
        close(fd);
        return false;
    }
    ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t d;

        t0 = hv_host_ns();
        host_loop(HOST_LOOPS);
        d = hv_host_ns() - t0;
        best = d && d < best ? d : best;
    }
    host = HOST_LOOPS * 1e9 / (double)best;
    reason[0] = 0;
    guest = ram == MAP_FAILED ? 0 : guest_rate(vm, (size_t)size, ram, host * PROBE_MIN_PERCENT / 100, reason, len);
    close(vm);
    close(fd);
    if (ram != MAP_FAILED)
        munmap(ram, 4096);
    if (guest <= 0)
        return false;
    ok = guest * 100 >= host * PROBE_MIN_PERCENT;
    if (ok)
        snprintf(reason, len, "hardware virtualization: %.0f of %.0f million instructions a second in a guest",
                 guest * 2e-6, host * 2e-6);
    else
        snprintf(reason, len, "/dev/kvm is %.0f times slower than the processor (%.1f of %.0f million "
                 "instructions a second): it emulates", host / guest, guest * 2e-6, host * 2e-6);
    force = getenv("MOBO_KVM_SLOW"); /* to debug the engine on such a host */
    return ok || (force && *force);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char once_reason[160];
static bool once_ok;

static void probe_once(void) { once_ok = probe(once_reason, sizeof(once_reason)); }

bool kvm_probe(char *reason, size_t len)
{
    pthread_once(&once, probe_once);
    snprintf(reason, len, "%s", once_reason);
    return once_ok;
}
