// As scheduler.wat: ten workers share n turns, round robin.
#include "fiber.h"

#define WORKERS 10
#define PLACES 16

static int64_t turn, sum;
static fiber *queue[PLACES];
static uint32_t front, back;

static NOINLINE void enqueue(fiber *f) { queue[back++ % PLACES] = f; }
static NOINLINE fiber *dequeue(void) { return queue[front++ % PLACES]; }

static uint32_t turns_of_all;

static int64_t worker(int64_t weight) {
  for (uint32_t turns = (uint32_t)((turns_of_all + WORKERS - weight) / WORKERS); turns; turns--) {
    sum += weight * turn++;
    fiber_yield(0);
  }
  return 0;
}

EXPORT("run") int64_t run(uint32_t n) {
  turn = sum = 0;
  turns_of_all = n;
  for (uint32_t w = 0; w < WORKERS; w++) enqueue(fiber_alloc(worker));
  // The first resume of each passes its weight, the others are ignored.
  for (int64_t weight = 1; front != back; weight++) {
    fiber *f = dequeue();
    fiber_resume(f, weight);
    if (fiber_done(f)) fiber_free(f);
    else enqueue(f);
  }
  return sum;
}
