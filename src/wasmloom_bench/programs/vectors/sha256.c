/* SHA-256 of four messages at once, one in each lane. */

#include "program.h"

enum { LENGTH = 1024 };  /* of each message, padding included */

static byte messages[4][LENGTH];
static uint32_t hashes[8][4];

EXPORTED void *sha256_input(void) { return messages; }
EXPORTED void *sha256_output(void) { return hashes; }

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
};
static const uint32_t first[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static v128_t turned(v128_t x, int count)
{
    return wasm_v128_or(wasm_u32x4_shr(x, count), wasm_i32x4_shl(x, 32 - count));
}

static v128_t sum(v128_t x, v128_t y) { return wasm_i32x4_add(x, y); }
static v128_t odd(v128_t x, v128_t y, v128_t z) { return wasm_v128_xor(wasm_v128_xor(x, y), z); }

/* The word at an offset of all messages. */
static v128_t words(int at)
{
    v128_t all = wasm_v128_load32_zero(messages[0] + at);
    all = wasm_v128_load32_lane(messages[1] + at, all, 1);
    all = wasm_v128_load32_lane(messages[2] + at, all, 2);
    all = wasm_v128_load32_lane(messages[3] + at, all, 3);
    return wasm_i8x16_shuffle(all, all, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
}

EXPORTED void sha256(int rounds)
{
    while (rounds--) {
        v128_t state[8];
        for (int i = 0; i < 8; i++)
            state[i] = wasm_i32x4_splat(first[i]);
        for (int block = 0; block < LENGTH; block += 64) {
            v128_t w[64];
            for (int i = 0; i < 16; i++)
                w[i] = words(block + 4 * i);
            for (int i = 16; i < 64; i++) {
                v128_t x = w[i - 15], y = w[i - 2];
                x = odd(turned(x, 7), turned(x, 18), wasm_u32x4_shr(x, 3));
                y = odd(turned(y, 17), turned(y, 19), wasm_u32x4_shr(y, 10));
                w[i] = sum(sum(w[i - 16], x), sum(w[i - 7], y));
            }
            v128_t a = state[0], b = state[1], c = state[2], d = state[3];
            v128_t e = state[4], f = state[5], g = state[6], h = state[7];
            for (int i = 0; i < 64; i++) {
                v128_t choice = wasm_v128_bitselect(f, g, e);
                v128_t majority = wasm_v128_or(wasm_v128_and(a, b), wasm_v128_and(c, wasm_v128_or(a, b)));
                v128_t more = sum(sum(h, odd(turned(e, 6), turned(e, 11), turned(e, 25))),
                    sum(choice, sum(wasm_i32x4_splat(constants[i]), w[i])));
                v128_t rest = sum(odd(turned(a, 2), turned(a, 13), turned(a, 22)), majority);
                h = g, g = f, f = e, e = sum(d, more);
                d = c, c = b, b = a, a = sum(more, rest);
            }
            state[0] = sum(state[0], a), state[1] = sum(state[1], b), state[2] = sum(state[2], c);
            state[3] = sum(state[3], d), state[4] = sum(state[4], e), state[5] = sum(state[5], f);
            state[6] = sum(state[6], g), state[7] = sum(state[7], h);
        }
        for (int i = 0; i < 8; i++)
            wasm_v128_store(hashes[i], state[i]);
    }
}
