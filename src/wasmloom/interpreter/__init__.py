"""The interpreter: register bytecode, its generated handlers, and the translator from function bodies to bytecode.

Reading order: `isa` (what a bytecode instruction is), `families` and `control_handlers` (which instructions exist, and
what their handlers do), `handlers` (the build), `translator` (Wasm to bytecode), `machine` (running it).
"""
