/* A vector plus a multiple of another one, left to the compiler's vectoriser. */

#include "program.h"

enum { LENGTH = 4 * 1024 };

static float given[2][LENGTH], result[LENGTH];

EXPORTED void *saxpy_input(void) { return given; }
EXPORTED void *saxpy_output(void) { return result; }

EXPORTED void saxpy(int rounds)
{
    while (rounds--) {
        for (int i = 0; i < LENGTH; i++)
            result[i] = 1.5f * given[0][i] + given[1][i];
        __asm__ volatile("" ::: "memory");
    }
}
