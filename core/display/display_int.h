/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of displays: what viewers see of them. */
#ifndef CORE_DISPLAY_DISPLAY_INT_H
#define CORE_DISPLAY_DISPLAY_INT_H

#include <pthread.h>

#include "core/display/display.h"

struct rect {
    unsigned x, y, w, h;
};

enum { VIEW_RECTS = 16 };

/* Somebody who looks at a display: a place of his own for what he has not seen yet.  All guarded by the
 * display's lock. */
struct view {
    struct view *next;
    int wake_fd; /* an eventfd that is written when there is news */
    bool resized, cursor, moved, hurt;
    unsigned nrects;
    struct rect rects[VIEW_RECTS];
};

struct vnc;

struct vmb_display {
    struct vmb_display *next;
    struct display_env *env;
    char name[40];
    const struct vmb_display_sink *sink;
    void *dev;
    struct vnc *vnc; /* NULL: none */

    pthread_mutex_t lock;        /* a leaf */
    struct mobo_surface surface; /* size 0: dark */
    struct mobo_cursor cursor;   /* size 0: none; argb is our copy, owned */
    int x, y;                    /* of its hot spot */
    bool visible;
    struct view *views;
    unsigned nviews;
};

/** Look at a display; the whole of it is new.  Any thread, as are the rest. */
void view_attach(struct vmb_display *d, struct view *v);
void view_detach(struct vmb_display *d, struct view *v);
/** Size of the picture; 0 x 0: dark. */
void view_size(struct vmb_display *d, unsigned *ret_width, unsigned *ret_height);
/** Bring what has changed into @pixels, a picture of @width x @height (0x00rrggbb; cut off, or black
 * where there is none), and forget it.  @return number of rectangles, in @rects (VIEW_RECTS). */
unsigned view_update(struct vmb_display *d, struct view *v, uint32_t *pixels, unsigned width,
                     unsigned height, struct rect *rects);

/* vnc.c */
int vnc_open(struct vmb_display *d, const char *arg, bool check_only, char *msg, size_t len);
/** Let viewers in.  NULL is allowed. */
int vnc_start(struct vnc *v);
void vnc_close(struct vnc *v);

#endif
