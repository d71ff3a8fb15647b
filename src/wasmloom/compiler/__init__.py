"""The optimising tier: function bodies → LLVM → machine code (see docs/architecture.md)."""
