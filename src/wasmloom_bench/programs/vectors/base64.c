/* Base64, 12 bytes to 16 letters at a time: lanes are put in order, shifted into place, and looked up. */

#include "program.h"

enum { LENGTH = 12 * 1024 };

static byte input[LENGTH + 4], output[LENGTH / 3 * 4];

EXPORTED byte *base64_input(void) { return input; }
EXPORTED byte *base64_output(void) { return output; }

static v128_t letters(v128_t sextets)
{
    /* What to add: "a" to "z", the digits, "+", "/", and "A" to "Z", by the number that is made of a sextet. */
    const v128_t shifts = wasm_i8x16_const('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
        '0' - 52, '0' - 52, '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
    v128_t number = wasm_u8x16_sub_sat(sextets, wasm_i8x16_const_splat(51));
    v128_t upper = wasm_i8x16_lt(sextets, wasm_i8x16_const_splat(26));
    number = wasm_v128_or(number, wasm_v128_and(upper, wasm_i8x16_const_splat(13)));
    return wasm_i8x16_add(sextets, wasm_i8x16_swizzle(shifts, number));
}

EXPORTED void base64(int rounds)
{
    while (rounds--)
        for (int from = 0, to = 0; from < LENGTH; from += 12, to += 16) {
            v128_t bytes = wasm_v128_load(input + from);
            bytes = wasm_i8x16_shuffle(bytes, bytes, 1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
            v128_t first = wasm_v128_and(wasm_u16x8_shr(bytes, 10), wasm_i32x4_const_splat(0x3F));
            v128_t second = wasm_v128_and(wasm_i16x8_shl(bytes, 4), wasm_i32x4_const_splat(0x3F00));
            v128_t third = wasm_v128_and(wasm_u16x8_shr(bytes, 6), wasm_i32x4_const_splat(0x3F0000));
            v128_t fourth = wasm_v128_and(wasm_i16x8_shl(bytes, 8), wasm_i32x4_const_splat(0x3F000000));
            v128_t sextets = wasm_v128_or(wasm_v128_or(first, second), wasm_v128_or(third, fourth));
            wasm_v128_store(output + to, letters(sextets));
        }
}
