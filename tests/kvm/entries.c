/* SPDX-License-Identifier: BSD-2-Clause */
/* How sound is this KVM?  entries SECONDS
 *
 * Nothing of mobo is in here: the plain interface of the kernel, one processor in long mode whose page tables nobody
 * changes, and a loop of OUT and JMP.  Any exit but that of the OUT is a fault of the machine below.  Prints how many
 * entries there were and how many went wrong; exit status 0, 1 some went wrong, 2 no KVM. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RAM = 4 << 20, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, STACK = 0x9000, CODE = 0x10000 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void put(uint8_t *ram, unsigned at, uint64_t val) { memcpy(ram + at, &val, 8); }

/* Long mode, 2 MB in small pages mapped one to one, at the loop. */
static int setup(int cpu)
{
    struct kvm_segment code = { .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
    struct kvm_segment data = { .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
    struct kvm_regs r = { .rip = CODE, .rflags = 2, .rsp = STACK };
    struct kvm_sregs s;

    if (ioctl(cpu, KVM_GET_SREGS, &s))
        return -1;
    s.cr0 = 0x80010033;
    s.cr3 = PML4;
    s.cr4 = 0x20;
    s.efer = 0x500;
    s.cs = code;
    s.ds = s.es = s.ss = s.fs = s.gs = data;
    s.tr = (struct kvm_segment){ .limit = 103, .type = 11, .present = 1 };
    return ioctl(cpu, KVM_SET_SREGS, &s) || ioctl(cpu, KVM_SET_REGS, &r) ? -1 : 0;
}

int main(int argc, char **argv)
{
    static const uint8_t loop[] = { 0xe6, 0x80, 0xeb, 0xfc };
    double seconds = argc > 1 ? atof(argv[1]) : 10, t0 = now();
    unsigned long n = 0, bad = 0;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0), cpu, size;
    uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region mem = { .memory_size = RAM, .userspace_addr = (uintptr_t)ram };
    struct kvm_run *run;

    if (vm < 0 || ram == MAP_FAILED || ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) ||
        ioctl(vm, KVM_SET_USER_MEMORY_REGION, &mem) || (cpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0 ||
        (size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)) < (int)sizeof(*run) ||
        (run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0)) == MAP_FAILED) {
        perror("entries: /dev/kvm");
        return 2;
    }
    put(ram, PML4, PDPT | 3);
    put(ram, PDPT, PD | 3);
    put(ram, PD, PT | 3);
    for (unsigned i = 0; i < 512; i++)
        put(ram, PT + 8 * i, (uint64_t)i << 12 | 3);
    memcpy(ram + CODE, loop, sizeof(loop));
    for (;; bad++) {
        if (setup(cpu)) {
            perror("entries: registers");
            return 2;
        }
        for (;;) {
            if (now() - t0 > seconds) {
                printf("%lu entries, %lu went wrong\n", n, bad);
                return bad != 0;
            }
            if (ioctl(cpu, KVM_RUN, 0) < 0) {
                perror("entries: KVM_RUN");
                return 2;
            }
            if (run->exit_reason != KVM_EXIT_IO)
                break;
            n++;
        }
        printf("after %lu entries: exit reason %u instead of %u\n", n, run->exit_reason, KVM_EXIT_IO);
    }
}
