// Fibers: functions that can stop in the middle and be continued, for C compiled to WebAssembly.
//
// Two implementations run the same programs: fiber_wasmfx.c over the stack-switching instructions, fiber_asyncify.c over
// Binaryen's asyncify pass. Both give each fiber its own stack for addressable C variables.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fiber fiber;

// What a fiber runs: it gets what the first resume passes, and what it returns is the result of the last resume.
typedef int64_t (*fiber_body)(int64_t);

// A new fiber, suspended before its first instruction.
fiber *fiber_alloc(fiber_body body);

// Continues the fiber until it yields or ends, and returns the value that it yields or ends with. It must not be at its
// end, and must not be one of those that are running.
int64_t fiber_resume(fiber *f, int64_t value);

// Whether the fiber has ended.
bool fiber_done(const fiber *f);

// Stops the running fiber; `fiber_resume` returns the value there. Returns what the next resume passes.
int64_t fiber_yield(int64_t value);

// Gives up a fiber that has ended; its memory serves the next `fiber_alloc`.
void fiber_free(fiber *f);

// Room for n bytes that are never given back, aligned to 16.
void *fiber_room(size_t n);

#define EXPORT(name) __attribute__((export_name(name), used))
#define NOINLINE __attribute__((noinline))
