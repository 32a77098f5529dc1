/* SPDX-License-Identifier: BSD-2-Clause */
/* The log: levels, areas, one line a message. */
#include "core/log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64], text[4096];

/* What the standard error stream gets between begin() and end(). */
static int keep_err = -1, pipefd[2];

static void begin(void)
{
    fflush(stderr);
    assert_int_equal(pipe(pipefd), 0);
    keep_err = dup(STDERR_FILENO);
    dup2(pipefd[1], STDERR_FILENO);
}

static const char *end(void)
{
    ssize_t n;

    dup2(keep_err, STDERR_FILENO);
    close(keep_err);
    close(pipefd[1]);
    n = read(pipefd[0], text, sizeof(text) - 1);
    close(pipefd[0]);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_levels(void **state)
{
    enum log_level l;

    (void)state;
    assert_int_equal(log_level_parse("debug", &l), 0);
    assert_int_equal(l, LOGL_DEBUG);
    assert_int_equal(log_level_parse("loud", &l), -EINVAL);
    begin();
    log_write(LOGL_ERROR, NULL, "ends with %d", 5);
    log_write(LOGL_WARNING, "com1", "a\nb\001c");
    log_write(LOGL_INFO, "com1", "not shown");
    log_level_set(LOGL_INFO);
    log_write(LOGL_INFO, "com1", "shown");
    log_block(LOGL_INFO, "vp 0", "rip 1\n\nrax 2\n");
    log_level_set(LOGL_WARNING);
    assert_string_equal(end(), "mobo: ends with 5\n"
                               "mobo: com1: warning: a b c\n"
                               "mobo: com1: info: shown\n"
                               "mobo: vp 0: info: rip 1\n"
                               "mobo: vp 0: info: rax 2\n");
}

static void test_long(void **state)
{
    static char big[5000];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    begin();
    log_write(LOGL_ERROR, "a", "%s", big);
    end();
    assert_int_equal(strlen(text), strlen("mobo: a: error: ") + 1199 + 1);
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void test_trace(void **state)
{
    struct diag d = { "" };

    (void)state;
    assert_false(log_trace_on("com1"));
    assert_int_equal(log_trace_set("com1,pic", &d), 0);
    assert_true(log_trace_on("com1"));
    assert_true(log_trace_on("pic"));
    assert_false(log_trace_on("com"));
    assert_false(log_trace_on("com11"));
    assert_int_equal(log_trace_set("a,,b", &d), -EINVAL);
    assert_int_equal(log_trace_set("all", &d), 0);
    assert_true(log_trace_on("anything"));
    begin();
    log_trace("pic", "off 0x%x", 3);
    assert_string_equal(end(), "mobo: pic: trace: off 0x3\n");
    log_close();
    assert_false(log_trace_on("anything"));
}

static void test_file(void **state)
{
    struct diag d = { "" };
    FILE *f;

    (void)state;
    snprintf(path, sizeof(path), "%.40s/log-%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp",
             (int)getpid());
    assert_true(log_file_open("/no/such/folder/log", &d) < 0);
    assert_string_equal(d.text, "--log-file /no/such/folder/log: No such file or directory");
    assert_int_equal(log_file_open(path, &d), 0);
    begin();
    log_write(LOGL_DEBUG, "pit", "to the file only");
    assert_string_equal(end(), "");
    log_close();
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    unlink(path);
    assert_string_equal(strchr(text, 'Z'), "Z debug pit to the file only\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels), cmocka_unit_test(test_long), cmocka_unit_test(test_trace),
        cmocka_unit_test(test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
