/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the synthetic video device share; see synthvideo.c. */
#ifndef SYNTHVIDEO_H
#define SYNTHVIDEO_H

#include <mobo/vdev.h>

enum { VIDEO_MODES = 64, VIDEO_EDID = 128, VIDEO_CURSOR = 96 };

struct video_mode {
    uint16_t width, height;
};

/** The modes whose pictures fit into @vram bytes, at most @max, the wanted one always among them.
 * @return their number; *@ret_index is the wanted one's. */
unsigned video_modes(uint64_t vram, struct video_mode want, unsigned max, struct video_mode *ret,
                     unsigned *ret_index);
/** A monitor that likes this mode: VESA E-EDID 1.4. */
void video_edid(struct video_mode mode, uint8_t edid[VIDEO_EDID]);
/** A pointer's picture to 0xaarrggbb.  @data: @width * @height little-endian words 0xaarrggbb; or, with
 * @argb 0, two bit masks, AND and XOR, whose lines are whole bytes. */
void video_cursor(uint32_t *ret, const uint8_t *data, int argb, uint32_t width, uint32_t height);

#endif
