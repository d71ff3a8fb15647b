// As pi.wat: a hundred tasks throw n batches of fifty points each; how many fell into the quarter circle.
#include "fiber.h"

#define TASKS 100
#define POINTS 50

static uint32_t batches;

static double coordinate(uint64_t *x) {
  *x = *x * 6364136223846793005u + 1442695040888963407u;
  return (double)(*x >> 33) * 0x1p-31;
}

static int64_t task(int64_t seed) {
  uint64_t x = (uint64_t)seed;
  int64_t inside = 0;
  for (uint32_t batch = 0; batch < batches; batch++) {
    for (uint32_t i = 0; i < POINTS; i++) {
      double a = coordinate(&x);
      double b = coordinate(&x);
      inside += a * a + b * b < 1;
    }
    fiber_yield(0);
  }
  return inside;
}

EXPORT("run") int64_t run(uint32_t n) {
  static fiber *tasks[TASKS];
  batches = n;
  for (uint32_t t = 0; t < TASKS; t++) tasks[t] = fiber_alloc(task);
  int64_t sum = 0;
  for (uint32_t t = 0, left = TASKS, first = TASKS; left; t = (t + 1) % TASKS) {
    if (!tasks[t]) continue;
    // The first resume of each passes its seed.
    int64_t value = fiber_resume(tasks[t], first ? t + 1 : 0);
    if (first) first--;
    if (!fiber_done(tasks[t])) continue;
    sum += value;
    fiber_free(tasks[t]);
    tasks[t] = NULL;
    left--;
  }
  return sum;
}
