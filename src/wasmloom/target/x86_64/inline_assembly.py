"""Inline assembly, for LLVM's IR. Each function returns the part of a `call` between the type and the operands.

The caller adds the attributes that say what else LLVM may assume of a piece.
"""

from __future__ import annotations

from collections.abc import Set

from wasmloom.contract.layout import offset

_SP, _FP, _PC = (offset("WlControl", field) for field in ("sp", "fp", "pc"))

#: LLVM's constraint for a register of floats, and for one of integers and addresses.
_FLOAT, _INTEGER = "x", "r"

#: The word ``fs:112``, which the C library keeps free for it, is the limit of the running stack (see `stubs`).
_LIMIT = "%fs:112"


def float_arithmetic(name: str, bits: int, packed: bool, features: Set[str]) -> str:
    """The sum ("add"), difference ("sub"), product ("mul") or quotient ("div") of two floats of 32 or 64 bits.

    `packed`: of as many as there are in 128 bits. `features`: what the processor is known to have (see
    `backend.known_features`).
    """
    suffix = ("p" if packed else "s") + {64: "d", 32: "s"}[bits]
    if "avx" in features:  # instructions with a destination of their own
        return f'asm "v{name}{suffix} $2, $1, $0", "=x,x,x"'
    return f'asm "{name}{suffix} $2, $0", "=x,0,x"'


def float_arithmetic_in_memory(name: str, bits: int, features: Set[str]) -> str | None:
    """The same of vectors, the second one at an address that may fault, or None where that had to be aligned."""
    if "avx" not in features:
        return None
    suffix = {64: "pd", 32: "ps"}[bits]
    return f'asm sideeffect "v{name}{suffix} $2, $1, $0", "=x,x,*m"'


#: LLVM's function of two vectors of bytes: for each of the second one's that of the first with this number, of which
#: four bits count; or 0, where its highest bit is set.
LOOK_UP = "@llvm.x86.ssse3.pshuf.b.128"

#: LLVM's function of two vectors of signed numbers of 16 bits: sums of two neighbouring products each.
SUM_PRODUCTS = "@llvm.x86.sse2.pmadd.wd"

#: LLVM's functions of two vectors with lanes of some bits and signs: all lanes in one, each of half the bits, as near
#: as it gets, with signs or without.
NARROW = {
    (16, "s"): "@llvm.x86.sse2.packsswb.128",
    (16, "u"): "@llvm.x86.sse2.packuswb.128",
    (32, "s"): "@llvm.x86.sse2.packssdw.128",
    (32, "u"): "@llvm.x86.sse41.packusdw",
}


#: Order all accesses to memory. LLVM's own `fence` would write to the stack, which handlers don't touch.
FENCE = 'asm sideeffect "mfence", "~{memory}"'


def opaque(is_float: bool) -> str:
    """Hide a value (a float or an integer) from LLVM's optimiser. This is no instruction."""
    return f'asm "", "={_FLOAT if is_float else _INTEGER},0"'


def keep(is_float: bool) -> str:
    """Keep a value in a register up to here. This is no instruction."""
    return f'asm sideeffect "", "{_FLOAT if is_float else _INTEGER}"'


def mark(directive: str = "") -> str:
    """A directive for the assembler, or nothing, at a place that stays where it is. This is no instruction."""
    return f'asm sideeffect "{directive}", ""'


def prefetch(distance: int) -> str:
    """Fetch the cache line at a distance in bytes from a pointer."""
    return f'asm sideeffect "prefetcht0 {distance}($0)", "r"'


#: The type of what `safepoint` returns.
SAFEPOINT_TYPE = "i8"


def safepoint() -> str:
    """Whether the stack pointer is not above the stack's limit: never, unless the guest is to be interrupted."""
    return f'asm sideeffect "cmpq {_LIMIT}, %rsp", "={{@ccbe}},~{{dirflag}},~{{fpsr}},~{{flags}}"'


def set_stack_limit() -> str:
    """Set the limit of the stack that is switched to, which functions compare the stack pointer with."""
    return f'asm sideeffect "movq $0, {_LIMIT}", "r"'


# --- switches of stacks ---
#
# A switch exchanges RSP, RBP and RIP with those in a control context, and goes there. What goes along: RAX says why the
# other side goes on, RCX has a reference, RDX the first value, RDI the context. All other registers are clobbered.

_GENERAL = ("rbx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
_CLOBBERS = ",".join(
    [*(f"~{{{name}}}" for name in _GENERAL), *(f"~{{xmm{i}}}" for i in range(32))]
    + [f"~{{k{i}}}" for i in range(8)]
    + ["~{memory}", "~{dirflag}", "~{fpsr}", "~{flags}"]
)

#: Exchange the registers with the control context at RSI, and go there; what comes back does so behind it.
_SWITCH = "; ".join(
    (
        f"movq {_SP}(%rsi), %r8",
        f"movq {_FP}(%rsi), %r9",
        f"movq {_PC}(%rsi), %r10",
        "leaq 1f(%rip), %r11",
        f"movq %rsp, {_SP}(%rsi)",
        f"movq %rbp, {_FP}(%rsi)",
        f"movq %r11, {_PC}(%rsi)",
        "movq %r8, %rsp",
        "movq %r9, %rbp",
        "jmpq *%r10",
        "1:",
    )
)
#: The same with the parent's resume point, which is in the control context at RSI, moved to the one at RBX: from one
#: continuation to another of the same parent. All loads come before the stores, whose addresses are known later, and
#: two of the parent's words move as one: where two stacks switch to each other, a third of the time was loads that
#: waited.
_EXCHANGE = "; ".join(
    (
        f"movq {_SP}(%rbx), %r8",
        f"movq {_FP}(%rbx), %r9",
        f"movq {_PC}(%rbx), %r10",
        f"movq {_SP}(%rsi), %r11",
        f"movups {_FP}(%rsi), %xmm0",  # and _PC
        "leaq 1f(%rip), %r14",
        f"movq %rsp, {_SP}(%rsi)",
        f"movq %rbp, {_FP}(%rsi)",
        f"movq %r14, {_PC}(%rsi)",
        f"movq %r11, {_SP}(%rbx)",
        f"movups %xmm0, {_FP}(%rbx)",
        "movq %r8, %rsp",
        "movq %r9, %rbp",
        "jmpq *%r10",
        "1:",
    )
)


def _switch(code: str, inputs: str) -> str:
    outputs = "={ax},={dx},={cx},={di}"
    return f'asm sideeffect "{code}", "{outputs},{outputs.replace("=", "")},{inputs},{_CLOBBERS}"'


def switch() -> str:
    """Go on at a control context.

    Operands: reason, first value, reference, context; the control context. Returns the first four as what comes back
    brings them.
    """
    return _switch(_SWITCH, "{si}")


def exchange() -> str:
    """Go on at a control context that another one takes the place of: one more operand, the other one."""
    return _switch(_EXCHANGE, "{si},{bx}")


# --- assembly outside of functions ---


def constant(name: str, size: int, bits: int) -> list[str]:
    """Lines that define a constant of 4 or 8 bytes, which the linker may merge with equal ones."""
    return [
        f'.section .rodata.cst{size},"aM",@progbits,{size}',
        f".p2align {2 if size == 4 else 3}",
        f"{name}: .{'long' if size == 4 else 'quad'} {bits}",
    ]


def tail_jump(name: str, word: int) -> list[str]:
    """Lines that define a function which goes on elsewhere, with its own parameters.

    Where, and the environment for it, say two words of the context's `args`, from `word` on. It gets the instance that
    it comes from as calls of references do.
    """
    return [
        ".text",
        ".p2align 4",
        f"{name}:",
        ".cfi_startproc",
        f"movq {offset('WlInstance', 'context')}(%r13), %rax",
        f"movq {offset('WlContext', 'args')}(%rax), %rax",
        "movq %r13, %r10",
        f"movq {8 * word}(%rax), %r11",
        f"movq {8 * word + 8}(%rax), %r13",
        "jmpq *%r11",
        ".cfi_endproc",
    ]
