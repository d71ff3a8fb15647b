"""The Python API: modules, instances, and what crosses between Python and Wasm.

Reading order: `engine`, `module`, `instance` (linking and instantiation), `bridge` (calls in both directions and the
conversion of values), `externs` (memories, tables and globals as Python objects), `types` (making types from text).
"""
