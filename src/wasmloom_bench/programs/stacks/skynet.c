// As skynet.wat: a tree of actors, ten children each, n levels; the leaves send their number, the others the sum.
#include "fiber.h"

// Level and number in one value, for a fiber takes only one.
#define PACK(level, number) ((int64_t)(level) << 48 | (number))

static int64_t actor(int64_t packed);

static NOINLINE int64_t sum_children(uint32_t level, int64_t number) {
  if (level == 0) return number;
  int64_t sum = 0;
  for (int64_t child = 10 * number; child < 10 * number + 10; child++) {
    fiber *f = fiber_alloc(actor);
    sum += fiber_resume(f, PACK(level - 1, child));
    fiber_resume(f, 0);
    if (!fiber_done(f)) __builtin_trap();
    fiber_free(f);
  }
  return sum;
}

static int64_t actor(int64_t packed) {
  fiber_yield(sum_children((uint32_t)(packed >> 48), packed & 0xffffffffffff));
  return 0;
}

EXPORT("run") int64_t run(uint32_t n) { return sum_children(n, 0); }
