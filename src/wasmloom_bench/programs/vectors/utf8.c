/* Is a text valid UTF-8? Three looked-up sets of possible errors for each pair of bytes, after Keiser and Lemire,
   "Validating UTF-8 In Less Than One Instruction Per Byte". */

#include "program.h"

enum { LENGTH = 16 * 1024 };

static byte input[LENGTH + 16];

EXPORTED byte *utf8_input(void) { return input; }

enum {
    TOO_SHORT = 1, TOO_LONG = 2, OVERLONG_3 = 4, TOO_LARGE = 8, SURROGATE = 16, OVERLONG_2 = 32,
    TOO_LARGE_1000 = 64, OVERLONG_4 = 64, TWO_FOLLOW = 128, ANY = TOO_SHORT | TOO_LONG | TWO_FOLLOW
};

static v128_t high(v128_t bytes) { return wasm_u8x16_shr(bytes, 4); }

static v128_t errors(v128_t before, v128_t bytes)
{
    const v128_t of_first_high = wasm_u8x16_const(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
        TOO_LONG, TWO_FOLLOW, TWO_FOLLOW, TWO_FOLLOW, TWO_FOLLOW, TOO_SHORT | OVERLONG_2, TOO_SHORT,
        TOO_SHORT | OVERLONG_3 | SURROGATE, TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4);
    const v128_t of_first_low = wasm_u8x16_const(ANY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, ANY | OVERLONG_2, ANY, ANY,
        ANY | TOO_LARGE, ANY | TOO_LARGE | TOO_LARGE_1000, ANY | TOO_LARGE | TOO_LARGE_1000,
        ANY | TOO_LARGE | TOO_LARGE_1000, ANY | TOO_LARGE | TOO_LARGE_1000, ANY | TOO_LARGE | TOO_LARGE_1000,
        ANY | TOO_LARGE | TOO_LARGE_1000, ANY | TOO_LARGE | TOO_LARGE_1000, ANY | TOO_LARGE | TOO_LARGE_1000,
        ANY | TOO_LARGE | TOO_LARGE_1000 | SURROGATE, ANY | TOO_LARGE | TOO_LARGE_1000,
        ANY | TOO_LARGE | TOO_LARGE_1000);
    const v128_t of_second_high = wasm_u8x16_const(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
        TOO_SHORT, TOO_SHORT, TOO_LONG | OVERLONG_2 | TWO_FOLLOW | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4,
        TOO_LONG | OVERLONG_2 | TWO_FOLLOW | OVERLONG_3 | TOO_LARGE,
        TOO_LONG | OVERLONG_2 | TWO_FOLLOW | SURROGATE | TOO_LARGE,
        TOO_LONG | OVERLONG_2 | TWO_FOLLOW | SURROGATE | TOO_LARGE, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT);
    v128_t first = wasm_i8x16_shuffle(before, bytes, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
    v128_t second = wasm_i8x16_shuffle(before, bytes, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    v128_t third = wasm_i8x16_shuffle(before, bytes, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28);
    v128_t special = wasm_v128_and(wasm_i8x16_swizzle(of_first_high, high(first)),
        wasm_i8x16_swizzle(of_first_low, wasm_v128_and(first, wasm_i8x16_const_splat(15))));
    special = wasm_v128_and(special, wasm_i8x16_swizzle(of_second_high, high(bytes)));
    v128_t third_of_three = wasm_u8x16_sub_sat(second, wasm_u8x16_const_splat(0xE0 - 0x80));
    v128_t fourth_of_four = wasm_u8x16_sub_sat(third, wasm_u8x16_const_splat(0xF0 - 0x80));
    v128_t must_follow = wasm_v128_or(third_of_three, fourth_of_four);
    return wasm_v128_xor(wasm_v128_and(must_follow, wasm_u8x16_const_splat(0x80)), special);
}

/* How often the text was valid. It ends with zeros. */
EXPORTED int utf8(int rounds)
{
    int valid = 0;
    while (rounds--) {
        v128_t before = wasm_i8x16_const_splat(0), found = before;
        for (int at = 0; at < LENGTH + 16; at += 16) {
            v128_t bytes = wasm_v128_load(input + at);
            if (wasm_i8x16_bitmask(wasm_v128_or(before, bytes)))
                found = wasm_v128_or(found, errors(before, bytes));
            before = bytes;
        }
        valid += !wasm_v128_any_true(found);
    }
    return valid;
}
