"""The uses of registers."""

from __future__ import annotations

#: What messages call the processor.
NAME = "x86-64"

#: The registers of integer parameters after the environment, in the order of the System V ABI.
INTEGER_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
#: How many parameters of floats have a register: XMM0 and those that follow.
FLOAT_ARGUMENTS = 8

#: The registers that a C function leaves as they were; and RBP, which is always the frame pointer. The environment of
#: compiled functions, LLVM's `swiftself`, is in R13.
CALLEE_SAVED = ("rbx", "r12", "r13", "r14", "r15")

#: The calling convention of handlers, by LLVM's name: no register is saved, and the first four parameters are in
#: registers that C functions preserve, R12 to R15. A signal handler finds them there (`signal_frame.pxd`).
HANDLER_CONVENTION = "preserve_nonecc"

#: How handlers are unwound, for DWARF: the column of the return address, and the rules for their frame's address (the
#: stack pointer and 8) and for where the return address is (8 below that).
HANDLER_UNWINDING = (16, bytes([0x0C, 7, 8, 0x80 | 16, 1]))
