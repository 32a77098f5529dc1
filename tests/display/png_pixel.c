/* SPDX-License-Identifier: BSD-2-Clause */
/* Print pixels of a PNG file, for tests: png_pixel FILE [X Y]... gives "WIDTH HEIGHT", then rrggbb each. */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    png_image image = { .version = PNG_IMAGE_VERSION };
    unsigned char *rgb;

    if (argc < 2 || !png_image_begin_read_from_file(&image, argv[1]))
        return 1;
    image.format = PNG_FORMAT_RGB;
    rgb = malloc(PNG_IMAGE_SIZE(image));
    if (!rgb || !png_image_finish_read(&image, NULL, rgb, 0, NULL))
        return 1;
    printf("%u %u", image.width, image.height);
    for (int i = 2; i + 1 < argc; i += 2) {
        unsigned x = (unsigned)atoi(argv[i]), y = (unsigned)atoi(argv[i + 1]);
        const unsigned char *p = rgb + 3 * ((size_t)y * image.width + x);

        if (x >= image.width || y >= image.height)
            return 1;
        printf(" %02x%02x%02x", p[0], p[1], p[2]);
    }
    putchar('\n');
    free(rgb);
    return 0;
}
