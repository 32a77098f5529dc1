/* SPDX-License-Identifier: BSD-2-Clause */
/* Modes, the monitor and the pointer of the synthetic video device.
 * References: VESA Enhanced EDID Standard release A rev. 2 (cited as EDID); VESA Coordinated Video Timings
 * 1.2 (cited as CVT). */
#include <string.h>

#include "synthvideo.h"
#include "wire.h"

unsigned video_modes(uint64_t vram, struct video_mode want, unsigned max, struct video_mode *ret,
                     unsigned *ret_index)
{
    static const struct video_mode usual[] = {
        { 640, 480 },   { 800, 600 },   { 1024, 768 },  { 1152, 864 },  { 1280, 720 },
        { 1280, 800 },  { 1280, 1024 }, { 1366, 768 },  { 1440, 900 },  { 1600, 900 },
        { 1600, 1200 }, { 1680, 1050 }, { 1920, 1080 }, { 1920, 1200 }, { 2048, 1536 },
        { 2560, 1440 }, { 2560, 1600 }, { 3840, 2160 },
    };
    unsigned n = 0;

    if (max > VIDEO_MODES)
        max = VIDEO_MODES;
    if (max)
        ret[n++] = want;
    for (unsigned i = 0; i < sizeof(usual) / sizeof(usual[0]) && n < max; i++)
        if ((uint64_t)usual[i].width * usual[i].height * 4 <= vram &&
            (usual[i].width != want.width || usual[i].height != want.height))
            ret[n++] = usual[i];
    *ret_index = 0;
    return n;
}

/* EDID 3.10.2, for 60 Hz with reduced blanking (CVT 5.4).  A size beyond its fields leaves a dummy. */
static void detailed_timing(uint8_t *d, struct video_mode m)
{
    const unsigned hblank = 160, hfront = 48, hsync = 32, vfront = 3, vsync = 6;
    unsigned vblank =
        (unsigned)((uint64_t)m.height * 460 / (16667 - 460)) + 1; /* at least 460 us */
    uint64_t clock;

    if (vblank < vfront + vsync + 6)
        vblank = vfront + vsync + 6;
    clock = (uint64_t)(m.width + hblank) * (m.height + vblank) * 60 / 10000; /* of 10 kHz */
    if (m.width > 4095 || m.height > 4095 || clock > 0xffff) {
        d[3] = 0x10;
        return;
    }
    wire_put(d, clock, 2);
    d[2] = (uint8_t)m.width;
    d[3] = (uint8_t)hblank;
    d[4] = (uint8_t)(m.width >> 8 << 4 | hblank >> 8);
    d[5] = (uint8_t)m.height;
    d[6] = (uint8_t)vblank;
    d[7] = (uint8_t)(m.height >> 8 << 4 | vblank >> 8);
    d[8] = (uint8_t)hfront;
    d[9] = (uint8_t)hsync;
    d[10] = (uint8_t)(vfront << 4 | vsync);
    d[17] = 0x1a; /* digital separate sync, horizontal positive: reduced blanking */
}

void video_edid(struct video_mode mode, uint8_t edid[VIDEO_EDID])
{
    static const uint8_t head[] = { 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00 };
    static const char name[13] = {
        'm', 'o', 'b', 'o', ' ', 'd', 'i', 's', 'p', 'l', 'a', 'y', '\n'
    };
    uint8_t sum = 0;

    memset(edid, 0, VIDEO_EDID);
    memcpy(edid, head, sizeof(head));
    edid[8] = ('M' - '@') << 2 | ('B' - '@') >> 3; /* EDID 3.4.1: "MBO", five bits a letter */
    edid[9] = (uint8_t)(('B' - '@') << 5 | ('O' - '@'));
    edid[10] = 1;  /* product */
    edid[17] = 32; /* made in 2022 */
    edid[18] = 1;
    edid[19] = 4;    /* 1.4 */
    edid[20] = 0xa0; /* digital, 8 bits a colour */
    edid[23] = 120;  /* gamma 2.2 */
    edid[24] = 0x06; /* sRGB; the first detailed timing is the native one */
    /* sRGB primaries, EDID 3.7 */
    memcpy(edid + 25, "\xee\x91\xa3\x54\x4c\x99\x26\x0f\x50\x54", 10);
    edid[35] = 0x21; /* 640x480, 800x600 at 60 Hz */
    edid[36] = 0x08; /* 1024x768 */
    for (unsigned i = 38; i < 54; i++)
        edid[i] = 1; /* no standard timings */
    detailed_timing(edid + 54, mode);
    edid[72 + 3] = 0xfc; /* EDID 3.10.3: the monitor's name */
    memcpy(edid + 72 + 5, name, sizeof(name));
    edid[90 + 3] = 0x10; /* dummies */
    edid[108 + 3] = 0x10;
    for (unsigned i = 0; i < VIDEO_EDID - 1; i++)
        sum = (uint8_t)(sum + edid[i]);
    edid[VIDEO_EDID - 1] = (uint8_t)-sum;
}

void video_cursor(uint32_t *ret, const uint8_t *data, int argb, uint32_t width, uint32_t height)
{
    uint32_t line = (width + 7) / 8;
    const uint8_t *xor_mask = data + (uint64_t)line * height;

    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++, ret++) {
            unsigned byte = y * line + x / 8, bit = 0x80u >> x % 8;

            if (argb)
                *ret = (uint32_t)wire_get(data + ((uint64_t)y * width + x) * 4, 4);
            else if (data[byte] & bit) /* the screen shows through, inverted: black does as well */
                *ret = xor_mask[byte] & bit ? 0xff000000 : 0;
            else
                *ret = xor_mask[byte] & bit ? 0xffffffff : 0xff000000;
        }
}
