/* What the programs share. Each exports one function of its name, which does its work `rounds` times; what it works on
   is at `…_input`, what it made at `…_output`. */

#include <stdint.h>
#include <wasm_simd128.h>

typedef uint8_t byte;

#define EXPORTED __attribute__((visibility("default")))
