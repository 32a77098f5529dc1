/* SPDX-License-Identifier: BSD-2-Clause */
/* Pictures as PNG files. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "core/display/display.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBPNG
#include <png.h>
#endif

int picture_png(const struct picture *p, uint8_t **ret, size_t *ret_len)
{
#ifdef HAVE_LIBPNG
    png_image image = { .version = PNG_IMAGE_VERSION,
                        .width = p->width,
                        .height = p->height,
                        .format = PNG_FORMAT_RGB,
                        .flags = PNG_IMAGE_FLAG_FAST };
    size_t n = (size_t)p->width * p->height;
    uint8_t *rgb = malloc(n * 3 + 1), *buf;
    png_alloc_size_t len = PNG_IMAGE_PNG_SIZE_MAX(image);

    buf = rgb ? malloc(len) : NULL;
    if (!buf) {
        free(rgb);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        rgb[3 * i] = (uint8_t)(p->pixels[i] >> 16);
        rgb[3 * i + 1] = (uint8_t)(p->pixels[i] >> 8);
        rgb[3 * i + 2] = (uint8_t)p->pixels[i];
    }
    if (!png_image_write_to_memory(&image, buf, &len, 0, rgb, 0, NULL)) {
        png_image_free(&image);
        free(rgb);
        free(buf);
        return -EINVAL;
    }
    png_image_free(&image);
    free(rgb);
    *ret = buf;
    *ret_len = len;
    return 0;
#else
    (void)p;
    (void)ret;
    (void)ret_len;
    return -ENOTSUP;
#endif
}
