"""The binary format (Core 3.0, chapter 5).

`decoder` turns bytes into a module, `encoder` a module into bytes, and `reader` reads single instructions.
"""
