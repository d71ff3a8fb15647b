"""What generated code, Cython and Python agree on: struct layout, trap codes, handler numbers and field offsets.

`layout` and `traps` are the source; the build writes ``_layout.h``, ``_layout.pxd`` and (out of the handlers' shapes)
``_handlers.pxd`` from them.
"""
