/* SPDX-License-Identifier: MIT */
/* Drives the tutorial device from a Linux guest's user space, as root: finds it in sysfs, maps its
 * BAR, has it copy memory by DMA, and (with the uio_pci_generic module) waits for its interrupt.
 *
 *     tutorial-guest            registers and DMA
 *     tutorial-guest irq        and the interrupt
 *
 * Prints one line a check; the last one is "tutorial: all N checks passed", exit status 0. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define PCI "/sys/bus/pci/devices"
enum { VENDOR = 0x1234, DEVICE = 0x6d6f };
enum {
    ID = 0x00,
    SCRATCH = 0x04,
    CONTROL = 0x08,
    STATUS = 0x0c,
    SRC = 0x10,
    DST = 0x18,
    LEN = 0x20,
    DOORBELL = 0x24,
    SUM = 0x28,
    COUNT = 0x2c
};
enum { DONE = 1, ERROR = 2, BUSY = 4 };

static volatile uint32_t *bar;
static char path[512]; /* the device's folder */
static unsigned checks;

__attribute__((noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    printf("tutorial: FAILED: ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    exit(1);
}

static void check(int ok, const char *what)
{
    if (!ok)
        die("%s", what);
    checks++;
    printf("tutorial: ok: %s\n", what);
}

static uint32_t get(unsigned reg)
{
    return bar[reg / 4];
}

static void put(unsigned reg, uint32_t val)
{
    bar[reg / 4] = val;
}

static void put64(unsigned reg, uint64_t val)
{
    put(reg, (uint32_t)val);
    put(reg + 4, (uint32_t)(val >> 32));
}

static int open_in(const char *name, int flags)
{
    char file[640];
    int fd;

    snprintf(file, sizeof(file), "%s/%s", path, name);
    fd = open(file, flags);
    if (fd < 0)
        die("%s: %s", file, strerror(errno));
    return fd;
}

static unsigned long read_number(const char *dir, const char *name)
{
    char file[640], buf[64] = "";
    int fd;

    snprintf(file, sizeof(file), PCI "/%s/%s", dir, name);
    fd = open(file, O_RDONLY);
    if (fd < 0)
        return 0;
    if (read(fd, buf, sizeof(buf) - 1) < 0)
        buf[0] = 0;
    close(fd);
    return strtoul(buf, NULL, 0);
}

static void write_text(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die("%s: %s", file, strerror(errno));
    close(fd);
}

static void find(void)
{
    DIR *d = opendir(PCI);
    struct dirent *e;

    if (!d)
        die(PCI ": %s", strerror(errno));
    while ((e = readdir(d)))
        if (e->d_name[0] != '.' && read_number(e->d_name, "vendor") == VENDOR &&
            read_number(e->d_name, "device") == DEVICE)
            snprintf(path, sizeof(path), PCI "/%s", e->d_name);
    closedir(d);
    check(path[0], "the device is on the bus");
}

/* Set and clear bits of the command register. */
static void set_command(uint16_t set, uint16_t clear)
{
    int fd = open_in("config", O_RDWR);
    uint16_t cmd;

    if (pread(fd, &cmd, 2, 4) != 2)
        die("config: cannot be read");
    cmd = (uint16_t)((cmd | set) & ~clear);
    if (pwrite(fd, &cmd, 2, 4) != 2)
        die("config: cannot be written");
    close(fd);
}

static void map_bar(void)
{
    int fd = open_in("resource0", O_RDWR | O_SYNC);

    bar = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bar == MAP_FAILED)
        die("resource0: mmap: %s", strerror(errno));
    close(fd);
}

/* The physical address of a page that is locked in memory. */
static uint64_t physical(const void *page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;

    if (fd < 0 || pread(fd, &entry, 8, (off_t)((uintptr_t)page / 4096 * 8)) != 8)
        die("pagemap: %s", strerror(errno));
    close(fd);
    if (!(entry >> 63) || !(entry & ((UINT64_C(1) << 55) - 1)))
        die("pagemap: the page has no address (not root?)");
    return (entry & ((UINT64_C(1) << 55) - 1)) * 4096;
}

static uint8_t *page(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);

    if (p == MAP_FAILED || mlock(p, 4096))
        die("a locked page: %s", strerror(errno));
    memset(p, 0, 4096);
    return p;
}

static uint32_t adler(const uint8_t *buf, unsigned len)
{
    uint32_t a = 1, b = 0;

    for (unsigned i = 0; i < len; i++) {
        a = (a + buf[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static uint32_t wait_idle(void)
{
    struct timespec pause = { 0, 1000000 };

    for (int i = 0; i < 5000; i++) {
        if (!(get(STATUS) & BUSY))
            return get(STATUS);
        nanosleep(&pause, NULL);
    }
    die("the device stays busy");
}

static void registers(void)
{
    check(get(ID) == 0x4f424f4d, "its identification");
    put(SCRATCH, 0x12345678);
    check(get(SCRATCH) == ~0x12345678u, "scratch reads inverted");
    put(CONTROL, 0xffffffff);
    check(get(CONTROL) == 0xff01, "control has its mask");
    put(CONTROL, 0);
    put(ID, 0);
    check(get(ID) == 0x4f424f4d, "read-only is read-only");
    check(((volatile uint8_t *)bar)[1] == 0x4f, "a byte of a register");
}

static uint8_t *src, *dst;

static void dma(void)
{
    uint8_t want[4096];
    uint32_t count = get(COUNT);

    src = page();
    dst = page();
    for (int i = 0; i < 4096; i++) {
        src[i] = (uint8_t)(i * 7 + i / 256);
        want[i] = src[i] ^ 0x5a;
    }
    put(CONTROL, 0x5a00);
    put64(SRC, physical(src));
    put64(DST, physical(dst));
    put(LEN, 4096);
    put(DOORBELL, 1);
    check(wait_idle() == DONE, "a copy ends well");
    check(!memcmp(dst, want, 4096), "every byte is there");
    check(get(SUM) == adler(want, 4096), "the checksum is right");
    check(get(COUNT) == count + 1, "one command was counted");
    put(STATUS, DONE);
    check(get(STATUS) == 0, "done is cleared by writing 1");

    put64(DST, UINT64_C(1) << 50);
    put(DOORBELL, 1);
    check(wait_idle() == ERROR, "an address without memory is an error");
    put(STATUS, ERROR);
    put64(DST, physical(dst));
    put(LEN, 0);
    put(DOORBELL, 1);
    check(wait_idle() == ERROR, "so is a length of 0");
    put(STATUS, ERROR);
    put(LEN, 100);
    set_command(0, 4);
    put(DOORBELL, 1);
    check(wait_idle() == ERROR, "and DMA with bus mastering off");
    put(STATUS, ERROR);
    set_command(4, 0);
}

static int open_uio(void)
{
    char id[32], dev[64] = "";
    unsigned major, minor;
    FILE *fp;
    int fd;

    snprintf(id, sizeof(id), "%04x %04x", VENDOR, DEVICE);
    write_text("/sys/bus/pci/drivers/uio_pci_generic/new_id", id);
    fp = fopen("/sys/class/uio/uio0/dev", "r");
    if (!fp || fscanf(fp, "%u:%u", &major, &minor) != 2)
        die("uio_pci_generic did not take the device");
    fclose(fp);
    snprintf(dev, sizeof(dev), "/dev/tutorial-uio");
    unlink(dev);
    if (mknod(dev, S_IFCHR | 0600, makedev(major, minor)))
        die("%s: %s", dev, strerror(errno));
    fd = open(dev, O_RDWR);
    if (fd < 0)
        die("%s: %s", dev, strerror(errno));
    return fd;
}

static void interrupt(void)
{
    uint32_t n = 0, first = 0;
    struct pollfd p = { .fd = open_uio(), .events = POLLIN };

    set_command(4 | 2, 0x400); /* master, memory; INTx not disabled */
    put(CONTROL, 0x0101);
    for (int i = 0; i < 20; i++) {
        memset(dst, 0, 4096);
        put(LEN, 4096);
        put(DOORBELL, 1);
        if (poll(&p, 1, 5000) != 1 || read(p.fd, &n, 4) != 4)
            die("interrupt %d does not come", i);
        if (i == 0)
            first = n;
        if (n != first + (uint32_t)i)
            die("interrupt %d is counted as %u, the first was %u", i, n, first);
        if (get(STATUS) != DONE || dst[4095] != (src[4095] ^ 1))
            die("interrupt %d came before the command was over", i);
        put(STATUS, DONE);
        set_command(0, 0x400); /* the driver disabled INTx: on again */
    }
    check(1, "20 commands raised 20 interrupts");
    check(poll(&p, 1, 200) == 0, "and none was left");
    put(CONTROL, 0);
    close(p.fd);
}

int main(int argc, char **argv)
{
    int fd;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "irq"))) {
        fprintf(stderr, "usage: tutorial-guest [irq]\n");
        return 2;
    }
    find();
    fd = open_in("enable", O_WRONLY);
    if (write(fd, "1", 1) != 1)
        die("enable: %s", strerror(errno));
    close(fd);
    set_command(4, 0);
    map_bar();
    registers();
    dma();
    if (argc == 2)
        interrupt();
    printf("tutorial: all %u checks passed\n", checks);
    return 0;
}
