"""The machine code between bytecode and compiled code of one entry: crossings from one to the other, and back.

An entry whose store mixes has two stacks: frames of bytecode are on its value stack, those of compiled code on its
native stack. Whichever runs, the other side waits, and is described by a *record* on the native stack:

::

    native stack of an entry, downwards          value stack, upwards
    ├─ control ────────────────────────┐         ┌───────────────────────
    │ return address, frame pointer    │         │ frames of bytecode
    │ return ip, frame                 │ ──────▶ │ callee's arguments, results      ◀─ ctx.stack_top
    │ frames of compiled code          │         │
    │ return address, RBP, RBX, R12 …  │         │
    │ catch_top, stack_top, passing    │ ◀─ guest_sp
    │ (what comes next)                │         │ arguments of the bytecode's function …

========================= =============================================================================================
``wl_native_call``        a call of compiled code by bytecode: what the handler `native` goes to
``wl_osr_call``           a frame of bytecode goes on as compiled code: what the handler `wl_osr` goes to
``wl_native_back``        where compiled code returns to bytecode
``wl_crossing``           for compiled callers: a function that isn't compiled; its number among the instance's
                          functions is in R11, the instance in R13
``wl_crossing_function``  the same with the `WlFunction` in R13
``wl_cross_return``       a function of bytecode returns to compiled code: what the handler `cross_back` goes to
``wl_cross_go_on``        an instruction: a guest that has been parked in compiled code goes on (see `wl_park`)
``wl_left``               where `wl_native_leave` returns to in such an entry: behind the interpreter's last handler
========================= =============================================================================================

Handlers run on the thread's stack, and call each other by jumps, so the stack pointer is the same number, H, whenever
an entry runs bytecode. Right below H lies what `wl_native_leave` expects. C code that handlers call writes over it, so
each crossing to compiled code writes it anew: it has the same content each time, but for the limit word.

Invariants:

* While bytecode runs, ``ctx.guest_sp`` is where the native stack ends: the address of the record that the bytecode
  returns to, or of the control, if there is none.
* While compiled code runs, ``ctx.host_sp`` is H less the size of the frame there, and `wl_on_host` and
  `wl_native_leave` find what `wl_native_enter` would have left. ``fs:112`` is the limit of the native stack; while
  bytecode runs it is what it was before.
* ``ctx.stack_top`` is the end of what is in use of the value stack, while compiled code runs.
* The value stack doesn't move (`mixes` in `wasmloom.runtime.entries`): arguments and frames are passed as addresses.
* Nothing in either stack is an address in the thread's stack, except the first two words of the outermost record, which
  only walkers follow. So a guest that waits in a host function can go on in another thread, where H is another number;
  if it goes on in compiled code, it sets these words right.
* No crossing leaves a frame of C behind, and a tail call that crosses leaves no record behind either: a function that
  returns to compiled code and calls compiled code in its place jumps there (``wl_native_tail``).
* What is written here below a stack pointer is less than the 128 bytes that signal handlers leave alone.
"""

from __future__ import annotations

from wasmloom.contract.layout import (
    PASSED_AS_I32,
    PASSED_IN_ARGS,
    PASSING_FLOATS,
    PASSING_HEAD,
    PASSING_RESULTS,
    offset,
)
from wasmloom.target.x86_64.registers import CALLEE_SAVED, INTEGER_ARGUMENTS
from wasmloom.target.x86_64.stubs import (
    _ARGUMENT_BYTES,
    _FRAME,
    _OTHER_STACK_CFI,
    _POP_SAVED,
    _PUSH_SAVED,
    _SAVED_CFI,
    _ctx,
    _function,
    _load_arguments,
)

#: From H down to the stack pointer of the frame that `wl_native_leave` expects; see `_ENTRY` in `stubs`. Besides that
#: frame there is a word that keeps the alignment. From its stack pointer: its frame pointer and return address.
_HOST_FRAME = 8 * (len(CALLEE_SAVED) + 4)
_FRAME_POINTER = 8 * (len(CALLEE_SAVED) + 1)
_RETURN = _FRAME_POINTER + 8
#: From `guest_sp`, while bytecode runs that returns to compiled code: the frame pointer of `wl_crossing`.
_WAITING_FRAME = 8 * (3 + len(CALLEE_SAVED))


def _native(field: str) -> int:
    return offset("WlNative", field)


def _loop(field: str) -> int:
    return offset("WlLoop", field)


_MEMORY0 = offset("WlInstance", "memory0_base")

#: From bytecode to compiled code, with H in RSP, the context in R15 and the control in RDI; changes RAX. A tick whose
#: interrupt bytecode hasn't seen is for the compiled code.
_TO_NATIVE = f"""
    movq %fs:112, %rax
    movq %rax, {-_HOST_FRAME}(%rsp)
    movq %rbp, {_FRAME_POINTER - _HOST_FRAME}(%rsp)
    leaq wl_left(%rip), %rax
    movq %rax, {_RETURN - _HOST_FRAME}(%rsp)
    leaq {-_HOST_FRAME}(%rsp), %rax
    movq %rax, {_ctx("host_sp")}(%r15)
    movq {offset("WlControl", "limit")}(%rdi), %rax
    movq %rax, %fs:112
    cmpq $0, {_ctx("interrupt")}(%r15)
    je 9f
    movq $-1, %fs:112
9:
"""


def _record(back: str) -> str:
    """Write the record of bytecode that calls compiled code, with its return ip in a register.

    Changes RAX, RCX and RDX.

    The first two words are for what follows frame pointers: the thread's frame, or that of compiled code that waits.
    """
    return f"""
    movq {_ctx("guest_sp")}(%r15), %rcx
    movq (%rsp), %rax
    movq %rbp, %rdx
    cmpq %rdi, %rcx
    je 1f
    leaq wl_crossing_waits(%rip), %rax
    leaq {_WAITING_FRAME}(%rcx), %rdx
1:
    movq %rax, -8(%rcx)
    movq %rdx, -16(%rcx)
    movq {back}, -24(%rcx)
    movq %r13, -32(%rcx)
    leaq -16(%rcx), %rbp
    leaq -32(%rcx), %rsp
    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
"""


def _set_stack_top(size: str) -> str:
    """The value stack is in use up to `size` words behind the frame in R13; changes RAX."""
    return f"""    movq {size}, %rax
    leaq (%r13,%rax,8), %rax
    subq {_ctx("stack_base")}(%r15), %rax
    movq %rax, {_ctx("stack_top")}(%r15)
"""


#: State of handlers: R12 the instruction, R13 the callee's frame, R14 its instance, R15 the context, RSI the return ip.
#: RDI has the control.
_NATIVE_CALL = f"""
    leaq wl_cross_code+8(%rip), %rax
    cmpq %rax, %rsi
    je wl_native_tail
{_TO_NATIVE}{_record("%rsi")}{_set_stack_top(f"{_native('words')}(%r12)")}
    movq {_native("code")}(%r12), %rdi
    movq %r14, %rsi
    movq %r13, %rdx
    movq %r14, %r13
    movq {_native("call")}(%r12), %rax
    callq *%rax
    .globl wl_native_back
    .hidden wl_native_back
wl_native_back:
    movq {_ctx("host_sp")}(%r15), %rsp
    movq (%rsp), %rax
    movq %rax, %fs:112
    leaq 16(%rbp), %rax
    movq %rax, {_ctx("guest_sp")}(%r15)
    movq -8(%rbp), %r12
    movq -16(%rbp), %r13
    movq {_FRAME_POINTER}(%rsp), %rbp
    addq ${_HOST_FRAME}, %rsp
    .cfi_def_cfa %rsp, 8
    .cfi_same_value %rbp
    movq {_ctx("pending")}(%r15), %rsi
    testq %rsi, %rsi
    jne 2f
    movq {_MEMORY0}(%r14), %rdi
    movq (%r13), %rsi
    movq %rsi, %xmm0
    movzwl -8(%r12), %eax
    shlq $3, %rax
    subq %rax, %r13
    jmpq *(%r12)
2:
    movq $0, {_ctx("pending")}(%r15)
    xorl %r14d, %r14d
    jmp wl_throw
"""

#: The same state, but R12 has the return ip of the frame, and RSI its `WlLoop`.
_OSR_CALL = f"""
{_TO_NATIVE}{_record("%r12")}{_set_stack_top(f"{_loop('frame')}(%rsi)")}
    movq {_loop("code")}(%rsi), %rax
    movq %r13, %rdi
    movq %r13, %rsi
    movq %r13, %rdx
    movq %r14, %r13
    leaq wl_native_back(%rip), %r11
    pushq %r11
    jmpq *%rax
"""

#: The state of `wl_native_call` where the callee takes the place of a function that returns to compiled code.
_NATIVE_TAIL = f"""
{_TO_NATIVE}
    movq {_native("passing")}(%r12), %r10
    movq {_native("code")}(%r12), %r11
    movq %r13, %rcx
    movq %r14, %rdx
    movq {_ctx("args")}(%r15), %rax
    movq {_ctx("guest_sp")}(%r15), %rsp
    popq %rsi
    popq {_ctx("stack_top")}(%r15)
    popq {_ctx("catch_top")}(%r15)
{_POP_SAVED}    popq %rbp
    movq %rdx, %r13
    movzwl (%r10), %edi
    addq ${PASSING_HEAD}, %r10
    subq ${_ARGUMENT_BYTES}, %rsp
    .cfi_def_cfa %rsp, {_ARGUMENT_BYTES + 8}
1:
    subl $1, %edi
    js 3f
    movq (%rcx), %rdx
    movzbl (%r10), %esi
    testb ${PASSED_IN_ARGS}, %sil
    jne 2f
    andl $15, %esi
    movq %rdx, (%rsp,%rsi,8)
    jmp 4f
2:
    movq %rdx, (%rax)
4:
    addq $8, %rcx
    addq $8, %rax
    incq %r10
    jmp 1b
3:
{_load_arguments()}    addq ${_ARGUMENT_BYTES}, %rsp
    .cfi_def_cfa %rsp, 8
    jmpq *%r11
"""

_SAVE_INTEGERS = "".join(f"    movq %{register}, {8 * i}(%rsp)\n" for i, register in enumerate(INTEGER_ARGUMENTS))
_SAVE_FLOATS = "".join(
    f"    movsd %xmm{i}, {8 * (len(INTEGER_ARGUMENTS) + i)}(%rsp)\n"
    for i in range(_ARGUMENT_BYTES // 8 - len(INTEGER_ARGUMENTS))
)

_CROSSING = f"""
    movq {offset("WlInstance", "functions")}(%r13), %rax
    movq (%rax,%r11,8), %rax
    jmp 1f
    .globl wl_crossing_function
    .hidden wl_crossing_function
    .p2align 4
wl_crossing_function:
    movq %r13, %rax
1:
{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
    movq {offset("WlFunction", "passing")}(%rax), %r10
    movq {offset("WlFunction", "context")}(%rax), %r15
    movq {_ctx("stack_top")}(%r15), %r12
    pushq {_ctx("catch_top")}(%r15)
    pushq %r12
    pushq %r10
    addq {_ctx("stack_base")}(%r15), %r12
    subq ${_ARGUMENT_BYTES}, %rsp
{_SAVE_INTEGERS}    cmpb $0, {PASSING_FLOATS}(%r10)
    je 1f
{_SAVE_FLOATS}1:
    movzwl (%r10), %ecx
    addq ${PASSING_HEAD}, %r10
    movq {_ctx("args")}(%r15), %rsi
    movq %r12, %rdi
1:
    subl $1, %ecx
    js 3f
    movzbl (%r10), %edx
    testb ${PASSED_IN_ARGS}, %dl
    jne 2f
    movl %edx, %r8d
    andl $15, %r8d
    movq (%rsp,%r8,8), %r9
    testb ${PASSED_AS_I32}, %dl
    je 4f
    movl %r9d, %r9d
4:
    movq %r9, (%rdi)
    addq $8, %rdi
    addq $8, %rsi
    incq %r10
    jmp 1b
2:
    movq (%rsi), %r9
    jmp 4b
3:
    addq ${_ARGUMENT_BYTES}, %rsp
    movq %rsp, {_ctx("guest_sp")}(%r15)
    movq $0, {_ctx("catch_top")}(%r15)
    movq {_ctx("host_sp")}(%r15), %rcx
    movq (%rcx), %rdx
    movq %rdx, %fs:112
    movq %r12, %r13
    movq {offset("WlFunction", "instance")}(%rax), %r14
    movq {offset("WlFunction", "code_cell")}(%rax), %rdx
    movq (%rdx), %r12
    movq {_MEMORY0}(%r14), %rdi
    leaq wl_cross_code+8(%rip), %rsi
    movq {_FRAME_POINTER}(%rcx), %rbp
    leaq {_HOST_FRAME}(%rcx), %rsp
    jmpq *(%r12)
    .globl wl_crossing_waits
    .hidden wl_crossing_waits
wl_crossing_waits:
    ud2
"""

#: R13 is the frame that has returned, with its results; unless an exception is pending.
_CROSS_RETURN = f"""
    movq {_ctx("current")}(%r15), %rdi
    movq {offset("WlCont", "control")}(%rdi), %rdi
{_TO_NATIVE}
    movq {_ctx("guest_sp")}(%r15), %rsp
    popq %rdi
    popq {_ctx("stack_top")}(%r15)
    popq {_ctx("catch_top")}(%r15)
    cmpq $0, {_ctx("pending")}(%r15)
    jne 3f
    movzwl {PASSING_RESULTS}(%rdi), %ecx
    movq (%r13), %rax
    movq %rax, %xmm0
    movq {_ctx("args")}(%r15), %rdx
1:
    subl $1, %ecx
    jle 3f
    movq (%r13,%rcx,8), %rsi
    movq %rsi, (%rdx,%rcx,8)
    jmp 1b
3:
{_POP_SAVED}    popq %rbp
    ret
"""

#: The innermost stack is the entry's bottom, and its outermost frame of compiled code was called by bytecode.
_GO_ON = f"""
    movq {_ctx("current")}(%r15), %rdi
    movq {offset("WlCont", "control")}(%rdi), %rdi
{_TO_NATIVE}
    movq (%rsp), %rax
    movq %rax, -8(%rdi)
    movq %rbp, -16(%rdi)
    movq {_ctx("guest_fp")}(%r15), %rbp
    leaq -{8 * len(CALLEE_SAVED)}(%rbp), %rsp
{_POP_SAVED}    popq %rbp
    ret
"""

_LEFT = """
    addq $8, %rsp
    ret
"""


def assembly() -> str:
    """The text of all pieces, for the assembler (AT&T syntax)."""
    return ".text\n" + "".join(
        (
            _function("wl_native_call", _NATIVE_CALL, _OTHER_STACK_CFI),
            _function("wl_osr_call", _OSR_CALL, _OTHER_STACK_CFI),
            _function("wl_native_tail", _NATIVE_TAIL),
            _function("wl_crossing", _CROSSING, _OTHER_STACK_CFI),
            _function("wl_cross_return", _CROSS_RETURN),
            _function("wl_cross_go_on", _GO_ON),
            _function("wl_left", _LEFT),
        )
    )
