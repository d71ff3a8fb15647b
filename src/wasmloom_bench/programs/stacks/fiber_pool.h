// What both implementations share: memory for fibers, and the pointer of the C stack.
#pragma once

#include "fiber.h"

// Bytes for a fiber's C stack, and with asyncify also for its saved frames.
#ifndef FIBER_STACK
#define FIBER_STACK 4096
#endif

struct fiber {
  fiber_body body;
  fiber *next;         // in the list of free fibers
  fiber *resumer;      // the fiber that resumed this one, or NULL
  uintptr_t c_stack;   // the pointer of its C stack while it is suspended
  uint32_t number;     // counts up from 0
  bool started, done;
#ifdef FIBER_EXTRA
  FIBER_EXTRA
#endif
  _Alignas(16) char stack[FIBER_STACK];
};

static fiber *running;
static fiber *free_fibers;
static uint32_t fiber_count;

static inline uintptr_t get_c_stack(void) {
  uintptr_t pointer;
  __asm__ volatile(".globaltype __stack_pointer, i32\n\tglobal.get __stack_pointer\n\tlocal.set %0" : "=r"(pointer));
  return pointer;
}

static inline void set_c_stack(uintptr_t pointer) {
  __asm__ volatile(".globaltype __stack_pointer, i32\n\tlocal.get %0\n\tglobal.set __stack_pointer" : : "r"(pointer));
}

extern char __heap_base;

void *fiber_room(size_t n) {
  static uintptr_t used;
  if (!used) used = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
  uintptr_t start = used;
  used = (used + n + 15) & ~(uintptr_t)15;
  size_t have = __builtin_wasm_memory_size(0) << 16;
  if (used > have) {
    // An eighth more than needed, so that growing stays rare.
    size_t pages = (used - have + used / 8 + 0xffff) >> 16;
    if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) __builtin_trap();
  }
  return (void *)start;
}

fiber *fiber_alloc(fiber_body body) {
  fiber *f = free_fibers;
  if (f) {
    free_fibers = f->next;
  } else {
    f = fiber_room(sizeof *f);
    f->number = fiber_count++;
  }
  f->body = body;
  f->started = f->done = false;
  f->c_stack = (uintptr_t)(f->stack + FIBER_STACK);
  return f;
}

bool fiber_done(const fiber *f) { return f->done; }

void fiber_free(fiber *f) {
  f->next = free_fibers;
  free_fibers = f;
}
