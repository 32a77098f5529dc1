/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's log: lines with a level and the subsystem or device that speaks. */
#include "core/log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf: nothing is called under it */
static enum log_level shown_level = LOGL_WARNING;
static int file_fd = -1;
static char *trace_areas; /* ",a,b," or NULL; set before threads start */

int log_level_parse(const char *text, enum log_level *ret)
{
    for (unsigned i = 0; i < COUNT(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
    return (unsigned)level < COUNT(level_names) ? level_names[level] : "?";
}

void log_level_set(enum log_level level)
{
    __atomic_store_n(&shown_level, level, __ATOMIC_RELAXED);
}

enum log_level log_level_get(void)
{
    return __atomic_load_n(&shown_level, __ATOMIC_RELAXED);
}

int log_file_open(const char *path, struct diag *diag)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);

    if (fd < 0)
        return diag_set(diag, -errno, "--log-file %s: %s", path, strerror(errno));
    if (file_fd >= 0)
        close(file_fd);
    file_fd = fd;
    return 0;
}

void log_close(void)
{
    if (file_fd >= 0)
        close(file_fd);
    file_fd = -1;
    free(trace_areas);
    trace_areas = NULL;
}

int log_trace_set(const char *areas, struct diag *diag)
{
    char *s;

    if (!*areas || areas[0] == ',' || strstr(areas, ",,") || areas[strlen(areas) - 1] == ',')
        return diag_set(diag, -EINVAL, "--trace %s: empty name (write AREA or AREA,AREA)", areas);
    if (asprintf(&s, ",%s,", areas) < 0)
        return diag_set(diag, -ENOMEM, "--trace: no memory");
    free(trace_areas);
    trace_areas = s;
    return 0;
}

bool log_trace_on(const char *area)
{
    return (trace_areas && strstr(trace_areas, ",all,")) || log_trace_names(area);
}

bool log_trace_names(const char *area)
{
    const char *s = trace_areas;
    size_t n = strlen(area);

    if (!s)
        return false;
    while ((s = strchr(s, ',')) && s[1]) {
        s++;
        if (strncmp(s, area, n) == 0 && s[n] == ',')
            return true;
    }
    return false;
}

static void put(int fd, const char *buf, size_t len)
{
    while (len) {
        ssize_t n = write(fd, buf, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody to tell */
        buf += n;
        len -= (size_t)n;
    }
}

/* One line: to the terminal as "mobo: com1: warning: text", or "mobo: text" for what ends the
 * program; to the file with a time. */
static void emit(bool show, const char *kind, const char *area, const char *text)
{
    bool bare = !area && kind == level_names[LOGL_ERROR];
    char line[1400], stamp[40];
    int n;

    pthread_mutex_lock(&lock);
    if (show) {
        n = snprintf(line, sizeof(line), "mobo: %s%s%s%s%s\n", area ? area : "", area ? ": " : "",
                     bare ? "" : kind, bare ? "" : ": ", text);
        put(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    }
    if (file_fd >= 0) {
        struct timespec ts;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
        n = snprintf(line, sizeof(line), "%s.%06ldZ %s %s %s\n", stamp, ts.tv_nsec / 1000, kind,
                     area ? area : "mobo", text);
        put(file_fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    }
    pthread_mutex_unlock(&lock);
}

void log_writev(enum log_level level, const char *area, const char *fmt, va_list ap)
{
    bool show = level <= log_level_get();
    char text[1200];

    if (!show && file_fd < 0)
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 && *c != '\t')
            *c = ' ';
    emit(show, log_level_name(level), area, text);
}

void log_write(enum log_level level, const char *area, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_writev(level, area, fmt, ap);
    va_end(ap);
}

void log_block(enum log_level level, const char *area, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n)
            log_write(level, area, "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

void log_tracev(const char *area, const char *fmt, va_list ap)
{
    char text[1200];

    vsnprintf(text, sizeof(text), fmt, ap);
    emit(true, "trace", area, text);
}

void log_trace(const char *area, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_tracev(area, fmt, ap);
    va_end(ap);
}

/* ---- progress -------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void log_progress_begin(struct log_progress *p, const char *what, uint64_t total)
{
    *p = (struct log_progress){ .what = what, .total = total, .start_ns = now_ns() };
}

void log_progress_at(struct log_progress *p, uint64_t done)
{
    enum { QUIET_NS = 300000000, STEP_NS = 100000000 }; /* short steps show nothing */
    uint64_t now = now_ns();
    char line[128];
    int n;

    if (now - p->start_ns < QUIET_NS || now - p->shown_ns < STEP_NS || !isatty(STDERR_FILENO))
        return;
    p->shown_ns = now;
    p->shown = true;
    n = snprintf(line, sizeof(line), "\rmobo: %.80s %3u%%\033[K", p->what,
                 (unsigned)(p->total ? done * 100 / p->total : 0));
    put(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void log_progress_end(struct log_progress *p)
{
    if (p->shown)
        put(STDERR_FILENO, "\r\033[K", 4);
    p->shown = false;
}
