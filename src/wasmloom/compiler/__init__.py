"""The optimising tier: function bodies → LLVM → compiled code (see docs/compiler.md)."""
