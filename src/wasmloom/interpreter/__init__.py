"""The interpreter: register bytecode, its generated handlers, and the translator that makes bytecode of function
bodies.

Reading order: `isa` (what a bytecode instruction is), `families` and `control` (which instructions exist, and what
their handlers do), `handlers` (the build), `translator` (Wasm to bytecode), `machine` (running it).
"""
