"""What the engine wants of the C library and of CPython: memory, their C API, being interrupted, a log.

Nothing in here knows of WebAssembly.
"""
