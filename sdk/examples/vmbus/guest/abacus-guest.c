/* SPDX-License-Identifier: MIT */
/* The abacus device's driver, in user space on Linux' uio_hv_generic.  Needs root and that module loaded.
 *
 * Tells the driver the class of the device (new_id), maps the rings, the page by which the host is signalled and
 * the two buffers that the module shares with the host, and does sums. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLASS "8ca3c8d5-1c5c-4b0e-9a53-6d2e0f7b419e"
#define BUS   "/sys/bus/vmbus"

enum { RINGS, INTERRUPT_PAGE, MONITOR_PAGE, RECV, SEND, MAPS };

struct ring { /* one page, then the data */
    _Atomic uint32_t write, read, interrupt_mask, pending_send_size;
    uint32_t reserved[12];
    _Atomic uint32_t features;
};
struct header {
    uint16_t type, offset8, len8, flags;
    uint64_t transaction;
};
struct request {
    uint32_t op, gpadl, len, arg;
};
struct answer {
    uint32_t status, reserved;
    uint64_t value;
};

static int fd;
static uint8_t *map[MAPS];
static size_t map_len[MAPS];
static uint32_t gpadl[MAPS];
static unsigned monitor;

static void die(const char *what)
{
    printf("abacus: FAILED: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int file_read(char *buf, size_t len, const char *folder, const char *name)
{
    char path[512];
    ssize_t n;
    int f;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = open(path, O_RDONLY);
    n = f < 0 ? -1 : read(f, buf, len - 1);
    if (f >= 0)
        close(f);
    if (n < 0)
        return -1;
    buf[n] = 0;
    buf[strcspn(buf, "\n")] = 0;
    return 0;
}

/* The first entry of @folder that begins with @prefix. */
static int find(char *ret, size_t len, const char *folder, const char *prefix)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int found = 0;

    while (d && !found && (e = readdir(d)))
        if (!strncmp(e->d_name, prefix, strlen(prefix)) && e->d_name[0] != '.') {
            snprintf(ret, len, "%.700s/%s", folder, e->d_name);
            found = 1;
        }
    if (d)
        closedir(d);
    return found ? 0 : -1;
}

static void bind_device(char device[300])
{
    DIR *d;
    struct dirent *e;
    char text[64];
    int f = open(BUS "/drivers/uio_hv_generic/new_id", O_WRONLY);

    if (f < 0 || (write(f, CLASS, strlen(CLASS)) < 0 && errno != EEXIST))
        die("telling uio_hv_generic the class of the device");
    close(f);
    d = opendir(BUS "/devices");
    device[0] = 0;
    while (d && (e = readdir(d))) {
        char path[300];

        snprintf(path, sizeof(path), BUS "/devices/%.200s", e->d_name);
        if (e->d_name[0] != '.' && !file_read(text, sizeof(text), path, "class_id") &&
            strstr(text, CLASS))
            strcpy(device, path);
    }
    if (!device[0])
        die("no such device on the bus");
}

static void attach(const char *device)
{
    char folder[1100], uio[1024], name[64], text[64];

    snprintf(folder, sizeof(folder), "%s/uio", device);
    for (int i = 0; find(uio, sizeof(uio), folder, "uio"); i++) {
        if (i == 50)
            die("the driver did not take the device");
        usleep(100000);
    }
    if (file_read(text, sizeof(text), device, "monitor_id"))
        die("monitor_id");
    monitor = (unsigned)atoi(text);
    snprintf(folder, sizeof(folder), "/dev/%s", strrchr(uio, '/') + 1);
    fd = open(folder, O_RDWR); /* opens the channel */
    if (fd < 0)
        die(folder);
    for (int i = 0; i < MAPS; i++) {
        snprintf(folder, sizeof(folder), "%s/maps/map%d", uio, i);
        if (file_read(text, sizeof(text), folder, "size") ||
            file_read(name, sizeof(name), folder, "name"))
            die(folder);
        map_len[i] = strtoul(text, NULL, 0);
        if (strchr(name, ':')) /* "recv:5": the number by which the host knows it */
            gpadl[i] = (uint32_t)strtoul(strchr(name, ':') + 1, NULL, 0);
        map[i] = mmap(NULL, map_len[i], PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)i * 4096);
        if (map[i] == MAP_FAILED)
            die(folder);
    }
}

static uint32_t ring_copy(const struct ring *r, uint32_t size, uint32_t at, void *buf, uint32_t len,
                          int write)
{
    uint8_t *data = (uint8_t *)r + 4096, *b = buf;

    for (uint32_t i = 0; i < len; i++, at = at + 1 == size ? 0 : at + 1) {
        if (write) /* the caller's whole structure: NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign) */
            data[at] = b[i];
        else
            b[i] = data[at];
    }
    return at;
}

/* One request, @padding bytes (a multiple of 8, up to 4096) longer than it has to be, and its answer. */
static struct answer ask(uint32_t op, uint32_t id, uint32_t len, uint32_t arg, uint16_t padding)
{
    static uint64_t transaction;
    static uint8_t zeroes[4096];
    struct ring *tx = (struct ring *)map[RINGS],
                *rx = (struct ring *)(map[RINGS] + map_len[RINGS] / 2);
    uint32_t size = (uint32_t)(map_len[RINGS] / 2 - 4096), start = tx->write, at, on = 1, count;
    struct request q = { op, id, len, arg };
    struct header h = { 6, 2, (uint16_t)((sizeof(h) + sizeof(q) + padding) / 8), 1, ++transaction };
    uint64_t trailer = (uint64_t)start << 32;
    _Atomic uint32_t *group = (_Atomic uint32_t *)(map[MONITOR_PAGE] + 8);
    struct pollfd p = { fd, POLLIN, 0 };
    struct answer r;

    at = ring_copy(tx, size, start, &h, sizeof(h), 1);
    at = ring_copy(tx, size, at, &q, sizeof(q), 1);
    at = ring_copy(tx, size, at, zeroes, padding, 1);
    tx->write = ring_copy(tx, size, at, &trailer, 8, 1);
    if (!tx->interrupt_mask)
        group[monitor / 32 * 2] |= 1u << monitor % 32;
    for (;;) {
        /* The module lets interrupts through after this write; look again behind it. */
        if (write(fd, &on, 4) != 4)
            die("write");
        if (rx->write != rx->read)
            break;
        if (poll(&p, 1, 10000) != 1)
            die("no answer within ten seconds");
        if (read(fd, &count, 4) != 4)
            die("read");
    }
    at = ring_copy(rx, size, rx->read, &h, sizeof(h), 0);
    if (h.type != 11 || h.transaction != transaction || h.len8 * 8 != sizeof(h) + sizeof(r))
        die("that is not the answer");
    at = ring_copy(rx, size, at, &r, sizeof(r), 0);
    rx->read = (at + 8) % size;
    return r;
}

static void check(const char *what, int good)
{
    if (!good) {
        printf("abacus: FAILED: %s\n", what);
        exit(1);
    }
    printf("abacus: %s\n", what);
}

int main(void)
{
    char device[300];
    uint64_t sum = 0;
    struct answer a;
    size_t n = 4 << 20;

    setvbuf(stdout, NULL, _IOLBF, 0);
    bind_device(device);
    attach(device);
    a = ask(1, 0, 0, 0, 0);
    check("the device says its version", a.status == 0 && a.value == 1);
    for (size_t i = 0; i < n; i++)
        sum += map[SEND][i] = (uint8_t)(i * 7 + i / 251);
    a = ask(2, gpadl[SEND], (uint32_t)n, 0, 0);
    check("it adds up what is shared with it", a.status == 0 && a.value == sum);
    a = ask(3, gpadl[RECV], (uint32_t)n, 0xa5, 0);
    for (size_t i = 0; i < n; i++)
        a.status |= map[RECV][i] != 0xa5;
    check("it fills what is shared with it", a.status == 0 && a.value == 3 && map[RECV][n] == 0);
    check("memory that is not there is refused", ask(2, 0xdead, 16, 0, 0).status == 2);
    check("and so is an unknown operation", ask(9, 0, 0, 0, 0).status == 1);
    for (unsigned i = 0; i < 600; i++) /* 2.4 MB: the ring wraps around */
        if (ask(1, 0, 0, 0, 4096).value != 1)
            check("600 long requests", 0);
    printf("abacus: all right, 605 requests\n");
    return 0;
}
