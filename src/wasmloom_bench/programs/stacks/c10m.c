// As c10m.wat: n workers come and go through 10 000 places; each yields its number, uses some stack, and ends.
#include "fiber.h"

#define PLACES 10000

static NOINLINE void touch(volatile char *bytes, uint32_t size) {
  for (uint32_t i = 0; i < size; i += 64) bytes[i] = (char)i;
}

static int64_t worker(int64_t number) {
  uint32_t complement = (uint32_t)fiber_yield(number);
  char bytes[256];
  touch(bytes, sizeof bytes);
  return complement & 255;
}

static fiber *live[PLACES];

EXPORT("run") int64_t run(uint32_t n) {
  uint32_t places = n < PLACES ? n : PLACES, started = 0, place = 0;
  int64_t sum = 0;
  while (started < places) live[started++] = fiber_alloc(worker);
  for (uint32_t i = 0; i < n; i++) {
    fiber *f = live[place];
    sum += fiber_resume(f, i);
    sum += fiber_resume(f, ~i);
    if (!fiber_done(f)) __builtin_trap();
    fiber_free(f);
    if (started < n) {
      live[place] = fiber_alloc(worker);
      started++;
    }
    if (++place == places) place = 0;
  }
  return sum;
}
