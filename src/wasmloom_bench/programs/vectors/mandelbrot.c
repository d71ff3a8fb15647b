/* The Mandelbrot set, four points at a time. */

#include "program.h"

enum { WIDTH = 64, HEIGHT = 48, MOST = 50 };

static byte counts[WIDTH * HEIGHT];

EXPORTED byte *mandelbrot_output(void) { return counts; }

EXPORTED void mandelbrot(int rounds)
{
    const v128_t four = wasm_f32x4_splat(4), steps = wasm_f32x4_make(0, 1, 2, 3);
    while (rounds--)
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x += 4) {
                v128_t real = wasm_f32x4_sub(
                    wasm_f32x4_mul(wasm_f32x4_add(wasm_f32x4_splat(x), steps), wasm_f32x4_splat(1.f / 16)),
                    wasm_f32x4_splat(2.75f));
                v128_t imaginary = wasm_f32x4_splat(y * (1.f / 16) - 1.5f);
                v128_t a = real, b = imaginary, count = wasm_i32x4_splat(0);
                for (int i = 0; i < MOST; i++) {
                    v128_t a2 = wasm_f32x4_mul(a, a), b2 = wasm_f32x4_mul(b, b);
                    v128_t inside = wasm_f32x4_le(wasm_f32x4_add(a2, b2), four);
                    if (!wasm_v128_any_true(inside))
                        break;
                    count = wasm_i32x4_sub(count, inside);
                    b = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_add(a, a), b), imaginary);
                    a = wasm_f32x4_add(wasm_f32x4_sub(a2, b2), real);
                }
                v128_t bytes = wasm_u8x16_narrow_i16x8(wasm_u16x8_narrow_i32x4(count, count), count);
                wasm_v128_store32_lane(counts + y * WIDTH + x, bytes, 0);
            }
}
