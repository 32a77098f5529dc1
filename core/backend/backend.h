/* SPDX-License-Identifier: BSD-2-Clause */
/* Character backends: where the bytes of a serial port or a debug console go.
 *
 *   stdio       the terminal (raw, Ctrl-A commands), or whatever standard input and output are
 *   pty[:LINK]  a pseudo terminal; LINK becomes a symbolic link to it
 *   unix:PATH   a listening socket, one client at a time
 *   file:PATH   output only, the file is written anew
 *   null        nothing
 *
 * The functions are the provider that vmb_ops wants; see there for threads. */
#ifndef CORE_BACKEND_BACKEND_H
#define CORE_BACKEND_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/diag.h"
#include "vmb/vmb.h"

/* Ctrl-A commands on the terminal. */
enum backend_command { BACKEND_QUIT = 1, BACKEND_POWER_BUTTON, BACKEND_RESET };

struct backend_env {
    const char *base_dir; /* for relative paths; NULL: the current folder */
    /** A command from the terminal; I/O thread.  Not to call lifecycle functions. */
    void (*command)(void *ctx, enum backend_command cmd);
    /** A line that the user must see: the name of a pseudo terminal. */
    void (*announce)(void *ctx, const char *line);
    void *ctx;
    char stdio_user[40]; /* the device that has the terminal */
};

int backend_open(struct backend_env *env, struct event_base *base, const char *dev_name,
                 const char *spec, bool check_only, const struct vmb_char_sink *sink, void *dev,
                 struct vmb_backend **ret, char *msg, size_t msg_len);
size_t backend_write(struct vmb_backend *b, const uint8_t *buf, size_t len);
void backend_ready(struct vmb_backend *b);
void backend_close(struct vmb_backend *b);

/** The present number of bytes that wait for the peer (tests, statistics). */
size_t backend_pending(struct vmb_backend *b);

/* ---- tty.c: the terminal's mode -------------------------------------------------------------- */

/** Raw mode, if @fd is a terminal and we are in its foreground; at most one at a time.
 * @return whether it is raw now. */
bool tty_raw(int fd);
/** Give the terminal back; harmless when it is not raw.  Async-signal-safe. */
void tty_restore(void);
/** Restore the terminal at exit and when a fatal signal kills us.  Once, early. */
void tty_guard(void);

#endif
