"""The meaning of instructions: one definition per instruction, over a typed builder.

`definitions` holds the definitions, `registry` the decorator that collects them, `llvm` the builder that turns a
definition into LLVM IR and `fold` the one that computes it on constants.
"""
