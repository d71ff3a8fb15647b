/* The sum of products of small numbers: once by instructions, once left to the compiler's vectoriser. */

#include "program.h"

enum { LENGTH = 16 * 1024 };

static int8_t numbers[2][LENGTH];

EXPORTED void *dot_input(void) { return numbers; }

EXPORTED int dot(int rounds)
{
    int total = 0;
    while (rounds--) {
        v128_t sums = wasm_i32x4_splat(0);
        for (int i = 0; i < LENGTH; i += 16) {
            v128_t x = wasm_v128_load(numbers[0] + i), y = wasm_v128_load(numbers[1] + i);
            v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(x), wasm_i16x8_extend_low_i8x16(y));
            v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(x), wasm_i16x8_extend_high_i8x16(y));
            sums = wasm_i32x4_add(sums, wasm_i32x4_add(low, high));
        }
        total += wasm_i32x4_extract_lane(sums, 0) + wasm_i32x4_extract_lane(sums, 1) +
            wasm_i32x4_extract_lane(sums, 2) + wasm_i32x4_extract_lane(sums, 3);
    }
    return total;
}

/* A barrier: the rounds aren't the same work for the compiler. */
EXPORTED int dot_plain(int rounds)
{
    int total = 0;
    while (rounds--) {
        for (int i = 0; i < LENGTH; i++)
            total += numbers[0][i] * numbers[1][i];
        __asm__ volatile("" ::: "memory");
    }
    return total;
}
