/* An image, each point the mean of nine, left to the compiler's vectoriser. */

#include "program.h"

enum { WIDTH = 256, HEIGHT = 64 };

static byte image[HEIGHT][WIDTH], blurred[HEIGHT][WIDTH];

EXPORTED void *blur_input(void) { return image; }
EXPORTED void *blur_output(void) { return blurred; }

EXPORTED void blur(int rounds)
{
    while (rounds--)
        for (int y = 1; y < HEIGHT - 1; y++) {
            uint16_t sums[WIDTH];
            for (int x = 0; x < WIDTH; x++)
                sums[x] = image[y - 1][x] + image[y][x] + image[y + 1][x];
            for (int x = 1; x < WIDTH - 1; x++)
                blurred[y][x] = (uint16_t)((sums[x - 1] + sums[x] + sums[x + 1]) / 9);
        }
}
