/* SPDX-License-Identifier: BSD-2-Clause */
/* Displays: what is at the other end of a virtual video card.
 *
 *   vnc:ADDRESS:DISPLAY[,OPTION]...  a VNC server on TCP port 5900 + DISPLAY
 *   vnc:unix:PATH[,OPTION]...        a VNC server on a Unix socket
 *   null                             nobody; pictures can be taken all the same
 *
 * The functions from display_open() to display_close() are the provider that vmb_ops wants; see there
 * for threads. */
#ifndef CORE_DISPLAY_DISPLAY_H
#define CORE_DISPLAY_DISPLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "vmb/vmb.h"

/* What displays need of the VM, and the list of those that are open. */
struct display_env {
    const char *base_dir; /* relative paths; NULL: the current folder */
    const char *vm;       /* a name for viewers */
    /* Where viewers' keys and movements go: as vmb_input() and vmb_input_leds().  Any thread. */
    int (*input)(void *ctx, const struct mobo_input_event *events, unsigned n);
    unsigned (*leds)(void *ctx);
    void (*log)(void *ctx, unsigned level, const char *from, const char *line); /* any thread */
    void *ctx;
    struct vmb_display *list; /* control thread */
};

int display_open(struct display_env *env, const char *dev_name, const char *spec, bool check_only,
                 const struct vmb_display_sink *sink, void *dev, struct vmb_display **ret,
                 char *msg, size_t msg_len);
void display_surface(struct vmb_display *d, const struct mobo_surface *s);
void display_dirty(struct vmb_display *d, unsigned x, unsigned y, unsigned w, unsigned h);
void display_cursor(struct vmb_display *d, const struct mobo_cursor *c);
void display_cursor_move(struct vmb_display *d, int x, int y, bool visible);
void display_close(struct vmb_display *d);

/** Let viewers in, when the process has given up what it does not need.  Control thread, once. */
int display_start(struct display_env *env);
/** The display of device @name, or the first one that was opened when @name is NULL.  Control thread.
 * @return NULL if there is none. */
struct vmb_display *display_find(struct display_env *env, const char *name);
/** Size of the picture.  @return false: it is dark, or @d is NULL.  Any thread. */
bool display_size(struct vmb_display *d, unsigned *ret_width, unsigned *ret_height);
const char *display_name(const struct vmb_display *d);
/** How many look at it now. */
unsigned display_viewers(struct vmb_display *d);

struct picture {
    unsigned width, height;
    uint32_t *pixels; /* owned: 0x00rrggbb, line after line */
};
/** A copy of what is on the screen.  Any thread.  @return 0; -ENODATA: it is dark; -ENOMEM. */
int display_grab(struct vmb_display *d, struct picture *ret);
void picture_free(struct picture *p);

/** As a PNG file in memory.  @return 0 with malloc()ed bytes; -ENOMEM; -ENOTSUP: built without libpng. */
int picture_png(const struct picture *p, uint8_t **ret, size_t *ret_len);

#endif
