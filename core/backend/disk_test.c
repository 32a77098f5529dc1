/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of disk backends: what a specification says, and requests on their threads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/backend/disk.h"

enum { LEN = 1 << 20, MANY = 64 };

static char dir[] = "/tmp/mobo-disk-XXXXXX";
static char path[64], spec[128], msg[512];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned finished;
static int worst;

static void on_done(void *block, struct mobo_block_req *req, int err)
{
    (void)block;
    (void)req;
    pthread_mutex_lock(&lock);
    finished++;
    if (err)
        worst = err;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
}

static const struct vmb_block_sink sink = { on_done };

static int wait_for(unsigned n)
{
    int err;

    pthread_mutex_lock(&lock);
    while (finished < n)
        pthread_cond_wait(&cond, &lock);
    err = worst;
    finished = 0;
    worst = 0;
    pthread_mutex_unlock(&lock);
    return err;
}

/* @return whether @n requests were done before 5 s had passed. */
static bool done_in_time(unsigned n)
{
    struct timespec ts;
    bool yes;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 5;
    pthread_mutex_lock(&lock);
    while (finished < n && pthread_cond_timedwait(&cond, &lock, &ts) == 0)
        ;
    yes = finished >= n;
    pthread_mutex_unlock(&lock);
    return yes;
}

static int setup(void **state)
{
    int fd;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/a,b.img", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, LEN))
        return -1;
    return close(fd);
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int open_it(const char *options, bool check_only, struct vmb_disk **ret,
                   struct mobo_block_info *info)
{
    snprintf(spec, sizeof(spec), "%s%s", path, options);
    *info = (struct mobo_block_info){ .size = sizeof(*info) };
    *ret = NULL;
    msg[0] = 0;
    return disk_open(spec, 0, check_only, &sink, NULL, ret, info, msg, sizeof(msg));
}

static void test_spec(void **state)
{
    struct mobo_block_info info;
    struct vmb_disk *d, *e;

    (void)state;
    assert_int_equal(open_it("", true, &d, &info), 0);
    assert_null(d);
    assert_int_equal(open_it("", false, &d, &info), 0);
    assert_int_equal(info.len, LEN);
    assert_int_equal(info.sector, 512);
    assert_int_equal(info.flags & MOBO_BLOCK_READ_ONLY, 0);
    assert_int_equal(open_it("", false, &e, &info), -EBUSY); /* one writer */
    assert_int_equal(open_it("", true, &e, &info), 0);       /* checking takes no lock */
    disk_close(d);
    assert_int_equal(open_it(",ro,sector=4096", false, &d, &info), 0);
    assert_int_equal(info.sector, 4096);
    assert_int_equal(info.flags, MOBO_BLOCK_READ_ONLY);
    assert_int_equal(open_it(",cdrom", false, &e, &info), 0); /* readers share */
    assert_int_equal(info.flags, MOBO_BLOCK_READ_ONLY | MOBO_BLOCK_CDROM);
    disk_close(e);
    disk_close(d);
    assert_int_equal(open_it(",sector=100", false, &d, &info), -EINVAL);
    assert_int_equal(open_it(",rw", false, &d, &info), -ENOENT); /* part of the name then */
    assert_non_null(strstr(msg, "a,b.img,rw"));
    assert_int_equal(disk_open(",ro", 0, false, &sink, NULL, &d, &info, msg, sizeof(msg)), -EINVAL);
    disk_close(NULL);
}

static void test_requests(void **state)
{
    static uint8_t out[MANY][8192], in[MANY][8192];
    struct mobo_block_req r[MANY];
    struct mobo_iov v[MANY][3];
    struct mobo_block_info info;
    struct vmb_disk *d;

    (void)state;
    assert_int_equal(open_it("", false, &d, &info), 0);
    for (int write = 1; write >= 0; write--) {
        for (unsigned i = 0; i < MANY; i++) {
            uint8_t *b = write ? out[i] : in[i];

            for (unsigned n = 0; write && n < sizeof(out[i]); n++)
                b[n] = (uint8_t)(n * 7 + i);
            /* pieces that do not end at sectors */
            v[i][0] = (struct mobo_iov){ b, 700, MOBO_NO_GPA };
            v[i][1] = (struct mobo_iov){ b + 700, 4000, MOBO_NO_GPA };
            v[i][2] = (struct mobo_iov){ b + 4700, 8192 - 4700, MOBO_NO_GPA };
            r[i] = (struct mobo_block_req){ .size = sizeof(r[i]),
                                            .op = write ? MOBO_BLOCK_WRITE : MOBO_BLOCK_READ,
                                            .flags = write && i == 5 ? MOBO_BLOCK_FUA : 0,
                                            .off = i * 8192u,
                                            .len = 8192,
                                            .iov = v[i],
                                            .niov = 3 };
            disk_submit(d, &r[i]);
        }
        assert_int_equal(wait_for(MANY), 0);
    }
    assert_memory_equal(in, out, sizeof(in));
    /* zeroes, discarding, flushing */
    r[0] = (struct mobo_block_req){ .size = sizeof(r[0]),
                                    .op = MOBO_BLOCK_WRITE_ZEROES,
                                    .flags = MOBO_BLOCK_MAY_UNMAP,
                                    .off = 8192,
                                    .len = 8192 };
    disk_submit(d, &r[0]);
    assert_int_equal(wait_for(1), 0);
    r[0].op = MOBO_BLOCK_DISCARD_RANGE;
    r[0].off = 16384;
    disk_submit(d, &r[0]);
    assert_int_equal(wait_for(1), 0);
    r[0].op = MOBO_BLOCK_FLUSH;
    disk_submit(d, &r[0]);
    assert_int_equal(wait_for(1), 0);
    memset(out, 0, 16384);
    r[1] = (struct mobo_block_req){ .size = sizeof(r[1]),
                                    .op = MOBO_BLOCK_READ,
                                    .off = 8192,
                                    .len = 8192,
                                    .iov = v[1],
                                    .niov = 3 };
    disk_submit(d, &r[1]);
    assert_int_equal(wait_for(1), 0);
    assert_memory_equal(in[1], out[0], 8192);
    disk_close(d);
    /* it is in the file */
    {
        int fd = open(path, O_RDONLY);

        assert_int_equal(pread(fd, in[0], 8192, 3 * 8192), 8192);
        close(fd);
        assert_memory_equal(in[0], out[3], 8192);
    }
}

static struct mobo_block_req request(uint32_t op, struct mobo_iov *v)
{
    return (struct mobo_block_req){
        .size = sizeof(struct mobo_block_req), .op = op, .len = v->len, .iov = v, .niov = 1
    };
}

/* Threads are found for small writes whatever images are closed meanwhile. */
static void test_others_closed(void **state)
{
    static uint8_t data[512];
    struct mobo_iov v = { data, sizeof(data), MOBO_NO_GPA };
    struct mobo_block_req r = request(MOBO_BLOCK_WRITE, &v);
    struct mobo_block_info info, other_info = { .size = sizeof(other_info) };
    struct vmb_disk *d, *other;
    char name[80];

    (void)state;
    snprintf(name, sizeof(name), "%s/other.img", dir);
    assert_int_equal(open_it("", false, &d, &info), 0);
    for (unsigned i = 0; i < 3; i++) {
        int fd = open(name, O_RDWR | O_CREAT, 0600);

        assert_int_equal(ftruncate(fd, LEN), 0);
        close(fd);
        assert_int_equal(disk_open(name, 0, false, &sink, NULL, &other, &other_info, msg, sizeof(msg)), 0);
        usleep(20000); /* the threads wait */
        disk_close(other);
        usleep(20000);
        disk_submit(d, &r);
        assert_true(done_in_time(1));
        assert_int_equal(wait_for(1), 0);
    }
    disk_close(d);
    unlink(name);
}

/* A request that takes its time does not keep the small ones of another image. */
static void test_others_slow(void **state)
{
    static uint8_t data[512];
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    struct mobo_iov v = { data, sizeof(data), MOBO_NO_GPA }, slow_v = { NULL, 0, MOBO_NO_GPA };
    struct mobo_block_info info, slow_info = { .size = sizeof(slow_info) };
    struct mobo_block_req r, slow_r;
    struct vmb_disk *d, *slow;
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), fd;
    char name[80];

    (void)state;
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api)) {
        print_message("no userfaultfd() here for accesses of the kernel\n");
        skip();
    }
    snprintf(name, sizeof(name), "%s/slow.img", dir);
    fd = open(name, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, LEN), 0);
    close(fd);
    assert_int_equal(open_it("", false, &d, &info), 0);
    assert_int_equal(disk_open(name, 0, false, &sink, NULL, &slow, &slow_info, msg, sizeof(msg)), 0);
    /* The read is slow by its kind, the write turns out to be, also when it comes just behind. */
    for (unsigned turn = 0; turn < 20; turn++) {
        bool write = turn > 0, behind = turn > 1;
        struct uffdio_zeropage zero = { .mode = 0 };

        slow_v.len = write ? 4096 : 128 << 10;
        slow_v.base = mmap(NULL, slow_v.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(slow_v.base, MAP_FAILED);
        reg.range = (struct uffdio_range){ (uintptr_t)slow_v.base, slow_v.len };
        assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
        slow_r = request(write ? MOBO_BLOCK_WRITE : MOBO_BLOCK_READ, &slow_v);
        if (behind) {
            r = request(MOBO_BLOCK_WRITE, &v);
            disk_submit(d, &r);
        }
        disk_submit(slow, &slow_r);
        if (behind)
            assert_true(done_in_time(1));
        else
            usleep(20000); /* a thread stands in it */
        for (unsigned i = behind ? 2 : 1; i <= 3; i++) {
            r = request(MOBO_BLOCK_WRITE, &v);
            disk_submit(d, &r);
            assert_true(done_in_time(i));
        }
        assert_int_equal(finished, 3);
        zero.range = reg.range;
        assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
        assert_true(done_in_time(4));
        assert_int_equal(wait_for(4), 0);
        munmap(slow_v.base, slow_v.len);
    }
    close(uffd);
    disk_close(slow);
    disk_close(d);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_spec), cmocka_unit_test(test_requests),
                                        cmocka_unit_test(test_others_closed),
                                        cmocka_unit_test(test_others_slow) };

    return cmocka_run_group_tests(tests, setup, teardown);
}
