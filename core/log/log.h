/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's log: lines with a level and the subsystem or device that speaks, for people on the
 * standard error stream and in a file.  Every function may be called from any thread. */
#ifndef CORE_LOG_LOG_H
#define CORE_LOG_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/util/diag.h"

/* The numbers of the hypervisor's and the devices' levels. */
enum log_level { LOGL_ERROR = 0, LOGL_WARNING = 1, LOGL_INFO = 2, LOGL_DEBUG = 3 };

/** "error", "warning", "info", "debug".  @return 0 or -EINVAL. */
int log_level_parse(const char *text, enum log_level *ret);
const char *log_level_name(enum log_level level);

/** What is shown; the default is warnings and errors. */
void log_level_set(enum log_level level);
enum log_level log_level_get(void);

/** Also write every line, with its time, to a file (appended).
 * @return 0, -errno with a sentence. */
int log_file_open(const char *path, struct diag *diag);
void log_close(void);

/** Areas to trace: device names, subsystems or "all", separated by commas.
 * @return 0, -EINVAL with a sentence. */
int log_trace_set(const char *areas, struct diag *diag);
bool log_trace_on(const char *area);
/** Likewise, but for what "all" does not include. */
bool log_trace_names(const char *area);
/** A trace line; the caller has asked log_trace_on(). */
void log_trace(const char *area, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_tracev(const char *area, const char *fmt, va_list ap);

void log_write(enum log_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void log_writev(enum log_level level, const char *area, const char *fmt, va_list ap);
/** A text of several lines (a register dump), kept together. */
void log_block(enum log_level level, const char *area, const char *text);

/* ---- progress of a long step, on a terminal only --------------------------------------------- */

struct log_progress {
    const char *what; /* "loading initrd.img" */
    uint64_t total;
    uint64_t start_ns, shown_ns;
    bool shown;
};

void log_progress_begin(struct log_progress *p, const char *what, uint64_t total);
void log_progress_at(struct log_progress *p, uint64_t done);
/** Takes the line away. */
void log_progress_end(struct log_progress *p);

#endif
