/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of disk backends: what a specification says, and requests on their threads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_spec),
                                        cmocka_unit_test(test_requests) };

    return cmocka_run_group_tests(tests, setup, teardown);
}
