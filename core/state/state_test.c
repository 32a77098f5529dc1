/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the file of a saved VM: round trip, zero pages, damage everywhere, saves that fail. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log/log.h"
#include "core/state/state.h"
#include "core/util/crc32c.h"

enum { PAGE = 4096, LOW = 64 * PAGE, HIGH = 600 * PAGE, NOBODY = 65534 };

static char dir[64], path[128], part[140];
static struct diag diag;
static struct state_ram ram[2];
static int ram_fd;
static const struct state_part parts[] = { { "board", "0123456789", 10 }, { "device com1", "abc", 3 } };

static void ram_make(void)
{
    ram_fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(ram_fd, 2 * HIGH), 0);
    ram[0] = (struct state_ram){ LOW, NULL, ram_fd, 0 };
    ram[1] = (struct state_ram){ HIGH, NULL, ram_fd, HIGH };
    for (unsigned i = 0; i < 2; i++)
        ram[i].hva = mmap(NULL, ram[i].len, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, (off_t)ram[i].offset);
}

static void ram_free(void)
{
    for (unsigned i = 0; i < 2; i++)
        munmap(ram[i].hva, ram[i].len);
    close(ram_fd);
}

static int setup(void **state)
{
    (void)state;
    ram_make();
    diag.text[0] = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ram_free();
    unlink(path);
    unlink(part);
    return 0;
}

static void fill(void)
{
    memset(ram[0].hva, 1, PAGE);
    ram[0].hva[5 * PAGE + 4095] = 2;
    memset(ram[0].hva + LOW - PAGE, 3, PAGE); /* the last, and the first of the next block */
    memset(ram[1].hva, 4, 2 * PAGE);
    for (unsigned i = 0; i < 300 * PAGE; i++)
        ram[1].hva[7 * PAGE + i] = (uint8_t)(i * 7 + (i >> 12));
    memset(ram[1].hva + 500 * PAGE, 0, PAGE); /* touched, and zero */
}

static off_t size_of(const char *name)
{
    struct stat st;

    return stat(name, &st) ? -1 : st.st_size;
}

static int write_it(void)
{
    return state_write(path, "[vm]\nname = x\n", parts, 2, ram, 2, &diag);
}

static void round_trip(void **state)
{
    struct state_file *f;
    uint8_t *low = malloc(LOW), *high = malloc(HIGH);
    struct stat st;

    (void)state;
    fill();
    assert_int_equal(write_it(), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* 305 pages of contents, and no more than some hundred bytes for the rest */
    assert_in_range(st.st_size, 305 * PAGE, 306 * PAGE);
    assert_int_equal(size_of(part), -1);
    /* holes that nobody wrote were not filled by reading them */
    assert_int_equal(fstat(ram_fd, &st), 0);
    assert_true(st.st_blocks * 512 <= 310 * PAGE);
    memcpy(low, ram[0].hva, LOW);
    memcpy(high, ram[1].hva, HIGH);

    ram_free();
    ram_make();
    memset(ram[1].hva + 400 * PAGE, 0xff, 100 * PAGE); /* goes away */
    assert_int_equal(state_open(path, &f, &diag), 0);
    assert_string_equal(f->config, "[vm]\nname = x\n");
    assert_int_equal(f->state_len, 13);
    assert_memory_equal(f->state, "0123456789abc", 13);
    assert_int_equal(f->ram_size, LOW + HIGH);
    assert_int_equal(state_load_ram(f, ram, 2, &diag), 0);
    assert_memory_equal(low, ram[0].hva, LOW);
    assert_memory_equal(high, ram[1].hva, HIGH);
    /* other sizes */
    assert_int_equal(state_load_ram(f, ram, 1, &diag), -EINVAL);
    assert_string_equal(diag.text, "the state is of a VM with 2.6M of memory, this one has 256K");
    state_close(f);
    free(low);
    free(high);
}

/* Every byte of a file changed, every length cut: refused with a line, or the change had no meaning. */
static void damage(void **state)
{
    struct state_file *f;
    uint8_t *buf;
    off_t len;
    int fd;

    (void)state;
    memset(ram[0].hva + PAGE, 9, PAGE);
    assert_int_equal(write_it(), 0);
    len = size_of(path);
    if (len <= 0 || len > 1 << 24) {
        fail();
        return;
    }
    buf = malloc((size_t)len);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, buf, (size_t)len), len);
    close(fd);
    for (off_t i = 0; i < 2 * len; i++) {
        int mem = memfd_create("state", MFD_CLOEXEC), err;
        off_t n = i < len ? len : i - len;

        buf[i % len] ^= i < len ? 1 << i % 8 : 0;
        assert_int_equal(write(mem, buf, (size_t)n), n);
        buf[i % len] ^= i < len ? 1 << i % 8 : 0;
        diag.text[0] = 0;
        err = state_open_fd(mem, "x", &f, &diag);
        if (!err) {
            err = state_load_ram(f, ram, 2, &diag);
            state_close(f);
        }
        if (err) {
            assert_true(diag.text[0] && !strchr(diag.text, '\n'));
        } else {
            /* padding of the configuration and of "device com1" */
            assert_true(i < len && buf[i] == 0);
            assert_true(len < 2 * PAGE || i < 1024);
        }
    }
    free(buf);
    assert_int_equal(state_open("/nonexistent", &f, &diag), -ENOENT);
    assert_int_equal(state_open("/", &f, &diag), -EINVAL);
    assert_string_equal(diag.text, "/: not a regular file");
    assert_int_equal(state_open("/dev/null", &f, &diag), -EINVAL);
}

/* Sound checksums over nonsense: runs that overlap, go back, reach out. */
static void bad_runs(void **state)
{
    static const uint64_t bad[][4] = { { 0, 0, 0, 0 },   { 664, 1, 0, 0 },         { 0, 665, 0, 0 }, { 1, 1, 1, 1 },
                                       { 5, 1, 0, 1 },   { UINT64_MAX, 1, 0, 0 },  { 0, UINT64_MAX, 0, 0 },
                                       { 663, 2, 0, 0 }, { 1, UINT64_MAX / 4096 + 2, 0, 0 } };

    (void)state;
    for (unsigned i = 0; i < COUNT(bad); i++) {
        uint8_t *buf = calloc(1, 8 * PAGE);
        struct state_file f = { .ram_at = 64, .ram_size = LOW + HIGH };
        uint64_t len = 16 + PAGE;

        memcpy(buf + 64, bad[i], 16);
        if (bad[i][3]) {
            memcpy(buf + 64 + len, &bad[i][2], 16);
            len += 16 + PAGE;
        }
        f.ram_len = len;
        f.ram_crc = crc32c(0, buf + 64, len);
        f.fd = memfd_create("state", MFD_CLOEXEC);
        assert_int_equal(write(f.fd, buf, 8 * PAGE), 8 * PAGE);
        assert_int_equal(state_load_ram(&f, ram, 2, &diag), -EBADMSG);
        assert_false(f.checked);
        close(f.fd);
        free(buf);
    }
}

/* What fails leaves the previous file, and no temporary. */
static void failures(void **state)
{
    const struct rlimit no_room = { 64 * PAGE, RLIM_INFINITY };
    struct rlimit old;
    struct state_file *f;
    char name[140];
    off_t len;
    int fd;

    (void)state;
    assert_int_equal(write_it(), 0);
    len = size_of(path);
    fill();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &no_room), 0);
    assert_int_equal(write_it(), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(diag.text, "cannot write"));
    assert_int_equal(size_of(part), -1);
    assert_int_equal(size_of(path), len);
    assert_int_equal(state_open(path, &f, &diag), 0);
    state_close(f);

    /* no descriptor for the folder */
    fd = dup(0);
    close(fd);
    getrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)fd + 1, old.rlim_max }), 0);
    assert_int_equal(write_it(), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(size_of(part), -1);
    assert_int_equal(size_of(path), len);

    /* killed while it writes */
    fd = fork();
    if (fd == 0) {
        const struct rlimit limit = { 64 * PAGE, RLIM_INFINITY };

        signal(SIGXFSZ, SIG_DFL); /* kills */
        setrlimit(RLIMIT_FSIZE, &limit);
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        write_it();
        _exit(0);
    }
    {
        int st = 0;

        assert_int_equal(waitpid(fd, &st, 0), fd);
        assert_true(WIFSIGNALED(st));
    }
    assert_true(size_of(part) > 0);
    assert_int_equal(size_of(path), len);
    assert_int_equal(state_open(path, &f, &diag), 0);
    state_close(f);
    /* what it left is no obstacle, and no state */
    assert_int_equal(state_open(part, &f, &diag), -EINVAL);
    assert_int_equal(write_it(), 0);
    assert_int_equal(size_of(part), -1);
    assert_true(size_of(path) > len);

    /* not to a device, not through a link, not into nowhere */
    assert_int_equal(state_write("/dev/null", "", parts, 2, ram, 2, &diag), -EINVAL);
    assert_int_equal(state_write("/nonexistent/x", "", parts, 2, ram, 2, &diag), -ENOENT);
    snprintf(name, sizeof(name), "%s/victim", dir);
    close(open(name, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(symlink(name, part), 0);
    assert_int_equal(write_it(), -ELOOP);
    assert_int_equal(size_of(name), 0);
    unlink(name);
}

/* A folder of this user, or of nobody, whose names cannot be read. */
static void unreadable_folder(void **state)
{
    struct state_file *f;
    char folder[80], name[96];
    int st = 0;
    pid_t pid;

    (void)state;
    fill();
    snprintf(folder, sizeof(folder), "%s/folder", dir);
    snprintf(name, sizeof(name), "%s/vm.state", folder);
    assert_int_equal(mkdir(folder, 0300), 0);
    if (!geteuid()) {
        assert_int_equal(chmod(dir, 0711), 0);
        assert_int_equal(chown(folder, NOBODY, NOBODY), 0);
    }
    pid = fork();
    if (pid == 0) {
        if (!geteuid() && (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)))
            _exit(77);
        if (open(folder, O_RDONLY) >= 0) /* by a capability, say */
            _exit(77);
        log_level_set(LOGL_ERROR);
        _exit(state_write(name, "", parts, 2, ram, 2, &diag) != 0);
    }
    assert_int_equal(waitpid(pid, &st, 0), pid);
    assert_true(WIFEXITED(st));
    if (WEXITSTATUS(st) == 77) {
        rmdir(folder);
        skip();
    }
    assert_int_equal(WEXITSTATUS(st), 0);
    assert_int_equal(state_open(name, &f, &diag), 0);
    state_close(f);
    unlink(name);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(damage, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(failures, setup, teardown),
        cmocka_unit_test_setup_teardown(unreadable_folder, setup, teardown),
    };
    int st;

    snprintf(dir, sizeof(dir), "%.30s/state-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof(path), "%s/vm.state", dir);
    snprintf(part, sizeof(part), "%s.part", path);
    st = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return st;
}
