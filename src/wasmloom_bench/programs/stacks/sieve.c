// As sieve.wat: one fiber per prime answers which candidates it divides; the sum of the first n primes.
#include "fiber.h"

static int64_t filter(int64_t prime) {
  uint32_t divisor = (uint32_t)prime;
  uint32_t candidate = (uint32_t)fiber_yield(0);
  while (candidate) candidate = (uint32_t)fiber_yield(candidate % divisor == 0);
  return 0;
}

EXPORT("run") int64_t run(uint32_t n) {
  fiber **filters = fiber_room(n * sizeof *filters);
  uint32_t found = 0;
  int64_t sum = 0;
  for (uint32_t candidate = 2; found < n; candidate++) {
    bool divisible = false;
    for (uint32_t i = 0; i < found && !divisible; i++) divisible = fiber_resume(filters[i], candidate);
    if (divisible) continue;
    fiber *f = fiber_alloc(filter);
    fiber_resume(f, candidate);
    filters[found++] = f;
    sum += candidate;
  }
  for (uint32_t i = 0; i < n; i++) {
    fiber_resume(filters[i], 0);
    if (!fiber_done(filters[i])) __builtin_trap();
    fiber_free(filters[i]);
  }
  return sum;
}
