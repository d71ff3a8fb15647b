"""What the engine needs from the C library and from CPython: memory, the C API, interruption, a log.

Nothing in here knows WebAssembly.
"""
