"""The machine code around compiled functions, written in assembly, for the object that the build makes.

The calling convention of compiled code is C's, with at most six integers and eight floats in registers
(`wasmloom.compiler.abi`); the environment (the callee's `WlInstance`, or for what isn't compiled its `WlFunction`) is
in R13, which is LLVM's `swiftself`.

========================= ==============================================================================================
``wl_native_enter``       C function: from the thread's stack to a guest's, and back when the function returns
``wl_native_continue``    C function: the same, to a guest that has been parked
``wl_native_leave``       ends the innermost `wl_native_enter` or `wl_native_continue` from anywhere: what a trap does
``wl_park``               leaves the guest so that `wl_native_continue` can return to it
``wl_on_host``            calls a C function on the thread's stack, from any guest stack
``wl_compiled_trap``      a trap; the return address says where
``wl_adapter``            what compiled code calls for functions that aren't compiled: puts the registers into memory
``wl_array_adapter``      the same for arguments that are in memory already
``wl_lazy``               a function that isn't compiled yet, whose number is in R11: has it compiled, and goes on there
``wl_loop_interrupt``     a loop saw an interrupt; keeps all registers (LLVM's `preserve_mostcc`)
``wl_morestack``          LLVM's ``__morestack``: a function's frame doesn't fit yet, or an interrupt
``wl_switch_call``        a switch of stacks, for ``stack_switching="libcall"``
``wl_drive``              a resumption by the host
``wl_frames``             goes on with a stack's frames of bytecode, one by one, as compiled code
``wl_frames_start``       the same at the bottom of a continuation's stack
``wl_fiber_start``        the bottom of a native stack: begins a continuation, and goes to its parent when it ends
========================= ==============================================================================================

Invariants:

* ``ctx.host_sp`` is the stack pointer of the innermost `wl_native_enter` or `wl_native_continue`, whose frames are
  alike; code that nests saves and restores it.
* Nothing on a guest's stack is an address in the thread's stack, except the frame pointer that the bottom frame has
  saved, which only walkers follow. So a parked guest can go on in another thread, whose frame then takes that place.
* C code only ever runs on the thread's stack. Guest stacks have room for a signal's frame below their limit.
* The word ``fs:112``, which the C library keeps free for this purpose, is the limit of the running stack. The ticker
  sets it to the highest number, so every check fails; the slow path then restores it.
* Each piece keeps RBP as a frame pointer, or doesn't touch it: a walk along frame pointers crosses from any guest stack
  through its parents to the thread's stack. The call-frame information says the same to unwinders.
"""

from __future__ import annotations

from wasmloom.contract.layout import RUNTIME_CALLS, offset
from wasmloom.contract.traps import HOST_WAIT
from wasmloom.target.x86_64.registers import CALLEE_SAVED, FLOAT_ARGUMENTS, INTEGER_ARGUMENTS


def _ctx(field: str) -> int:
    return offset("WlContext", field)


def _runtime(name: str) -> str:
    return f"wl_runtime+{8 * RUNTIME_CALLS.index(name)}(%rip)"


#: For frames whose caller's stack may lie anywhere. Otherwise gdb takes a caller below its callee for a broken stack,
#: and stops; it makes this exception for signal handlers.
_OTHER_STACK_CFI = "    .cfi_signal_frame\n"


def _function(name: str, body: str, cfi: str = "") -> str:
    return f"""
    .globl {name}
    .hidden {name}
    .type {name},@function
    .p2align 4
{name}:
    .cfi_startproc
{cfi}{body}
    .cfi_endproc
    .size {name}, .-{name}
"""


_FRAME = """
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
"""

_PUSH_SAVED = "".join(f"    pushq %{register}\n" for register in CALLEE_SAVED)
_POP_SAVED = "".join(f"    popq %{register}\n" for register in reversed(CALLEE_SAVED))
#: Where a frame that has pushed them keeps the callee-saved registers.
_SAVED_CFI = "".join(f"    .cfi_offset %{r}, {-24 - 8 * i}\n" for i, r in enumerate(CALLEE_SAVED))


def _save_arguments() -> str:
    """Store the parameter registers from the stack pointer on."""
    lines = [f"    movq %{register}, {8 * i}(%rsp)" for i, register in enumerate(INTEGER_ARGUMENTS)]
    first = 8 * len(INTEGER_ARGUMENTS)
    lines += [f"    movsd %xmm{i}, {first + 8 * i}(%rsp)" for i in range(FLOAT_ARGUMENTS)]
    return "\n".join(lines) + "\n"


def _load_arguments() -> str:
    lines = [f"    movq {8 * i}(%rsp), %{register}" for i, register in enumerate(INTEGER_ARGUMENTS)]
    first = 8 * len(INTEGER_ARGUMENTS)
    lines += [f"    movsd {first + 8 * i}(%rsp), %xmm{i}" for i in range(FLOAT_ARGUMENTS)]
    return "\n".join(lines) + "\n"


_ARGUMENT_BYTES = 8 * (len(INTEGER_ARGUMENTS) + FLOAT_ARGUMENTS)


def _set_limit(context: str) -> str:
    """Let functions check for the limit of the stack that the context in a register runs; changes RAX."""
    return f"""    movq {_ctx("current")}({context}), %rax
    movq {offset("WlCont", "control")}(%rax), %rax
    movq {offset("WlControl", "limit")}(%rax), %rax
    movq %rax, %fs:112
"""


#: The beginning of whatever goes to a guest, with the context in RDI: `wl_native_leave` undoes it.
_ENTRY = f"""{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
    subq $8, %rsp
    movq %fs:112, %rax
    movq %rax, (%rsp)
    movq %rsp, {_ctx("host_sp")}(%rdi)
{_set_limit("%rdi")}"""

#: wl_native_enter(ctx, array call, code, environment, words, top of the guest's stack). Array calls check the stack's
#: limit: for that, the environment is in R13.
_ENTER = f"""{_ENTRY}
    movq %rdi, %rbx
    movq %rsi, %rax
    movq %r9, %rsp
    movq %rdx, %rdi
    movq %rcx, %rsi
    movq %rcx, %r13
    movq %r8, %rdx
    callq *%rax
    .globl wl_native_return
    .hidden wl_native_return
wl_native_return:
    movq %rbx, %rdi
    .globl wl_native_leave
    .hidden wl_native_leave
wl_native_leave:
    movq {_ctx("host_sp")}(%rdi), %rsp
    leaq 48(%rsp), %rbp
    movq (%rsp), %rax
    movq %rax, %fs:112
    addq $8, %rsp
{_POP_SAVED}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
"""

#: wl_native_continue(ctx, top of the guest's stack): returns from the `wl_park` whose frame ``guest_fp`` is. Right
#: below the top are the return address and the frame pointer of what `wl_native_enter` has called.
_CONTINUE = f"""{_ENTRY}
    movq %rbp, -16(%rsi)
    movq {_ctx("guest_fp")}(%rdi), %rbp
    leaq -{8 * len(CALLEE_SAVED)}(%rbp), %rsp
{_POP_SAVED}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
"""

#: wl_park(ctx): its frame is like that of `wl_on_host`, where walks expect a guest that waits. It returns when the
#: results are where the adapter expects them, with no registers changed but those that calls may change.
_PARK = f"""{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
    movq %rsp, {_ctx("guest_sp")}(%rdi)
    movq %rbp, {_ctx("guest_fp")}(%rdi)
    movq ${HOST_WAIT}, {_ctx("trap_code")}(%rdi)
    jmp wl_native_leave
"""

#: wl_on_host(ctx, function, a, b, c, d): function(ctx, a, b, c, d)
_ON_HOST = f"""{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
    movq %rsp, {_ctx("guest_sp")}(%rdi)
    movq %rbp, {_ctx("guest_fp")}(%rdi)
    movq {_ctx("host_sp")}(%rdi), %rsp
    movq %rsi, %rax
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %rcx
    movq %r9, %r8
    callq *%rax
    leaq -{8 * len(CALLEE_SAVED)}(%rbp), %rsp
{_POP_SAVED}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
"""


def _trap(code: str, ip: str, fp: str, context: str) -> str:
    """Leave with a trap; the operands must not be in RCX, and `context` in no other register than RDI."""
    return f"""
    movq {code}, {_ctx("trap_code")}({context})
    movq {ip}, %rcx
    movq %rcx, {_ctx("trap_ip")}({context})
    movq {fp}, %rcx
    movq %rcx, {_ctx("trap_fp")}({context})
    movq $0, {_ctx("trap_instance")}({context})
    movq $0, {_ctx("trap_fault")}({context})
    jmp wl_native_leave
"""


_CONTEXT = offset("WlInstance", "context")

#: wl_compiled_trap(code), environment in R13
_TRAP = f"""
    movl %edi, %eax
    movq {_CONTEXT}(%r13), %rdi
{_trap("%rax", "(%rsp)", "%rbp", "%rdi")}"""


def _adapter(call: str, registers: bool) -> str:
    """A function for compiled callers that the runtime call `call` runs; `registers`: parameters are in registers.

    The caller's instance is in R10, LLVM's `nest`; without registers no instance calls. Host functions may ask for it:
    `instance_of_adapter` reads it.
    """
    words = "%rsp" if registers else "%rdx"
    save = f"    subq ${_ARGUMENT_BYTES + 16}, %rsp\n{_save_arguments()}" if registers else "    subq $16, %rsp\n"
    environment = "%r13" if registers else "%rsi"
    calling = "%r10" if registers else "$0"
    result = "    movq (%rsp), %rax\n    movq %rax, %xmm0\n" if registers else ""
    return f"""{_FRAME}{save}
    movq {calling}, -16(%rbp)
    movq {words}, %rcx
    movq {environment}, %rdx
    movq {_CONTEXT}(%rdx), %rdi
    movq %rdi, -8(%rbp)
    movq {_runtime(call)}, %rsi
    callq wl_on_host
    testq %rax, %rax
    jne 2f
1:
{result}    leave
    .cfi_def_cfa %rsp, 8
    ret
2:
    .cfi_def_cfa %rbp, 16
    movq -8(%rbp), %rdi
    cmpq ${HOST_WAIT}, %rax
    jne 3f
    callq wl_park
    jmp 1b
3:
{_trap("%rax", "8(%rbp)", "(%rbp)", "%rdi")}"""


#: Keeps the parameter registers and the environment, which `wl_on_host` keeps.
_LAZY = f"""{_FRAME}    subq ${_ARGUMENT_BYTES + 16}, %rsp
{_save_arguments()}    movq {_CONTEXT}(%r13), %rdi
    movq {_runtime("compile_function")}, %rsi
    movq %r13, %rdx
    movl %r11d, %ecx
    leaq {_ARGUMENT_BYTES}(%rsp), %r8
    callq wl_on_host
    testq %rax, %rax
    jne 1f
{_load_arguments()}    movq {_ARGUMENT_BYTES}(%rsp), %r11
    leave
    .cfi_def_cfa %rsp, 8
    jmpq *%r11
1:
    .cfi_def_cfa %rbp, 16
    movq {_CONTEXT}(%r13), %rdi
{_trap("%rax", "8(%rbp)", "(%rbp)", "%rdi")}"""


_SCRATCH = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10")

def _loop_interrupt() -> str:
    """RDI has the instance; R11 need not be kept, and vector registers are the caller's."""
    pushes = "".join(f"    pushq %{register}\n" for register in _SCRATCH)
    pops = "".join(f"    popq %{register}\n" for register in reversed(_SCRATCH))
    return f"""{_FRAME}{pushes}
    movq {_CONTEXT}(%rdi), %rdi
    pushq %rdi
    subq $8, %rsp
    movq {_runtime("interrupt")}, %rsi
    callq wl_on_host
    movq 8(%rsp), %rdi
    testq %rax, %rax
    jne 1f
{_set_limit("%rdi")}    addq $16, %rsp
{pops}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
1:
    .cfi_def_cfa %rbp, 16
{_trap("%rax", "8(%rbp)", "(%rbp)", "%rdi")}"""


def _morestack() -> str:
    """R10 has the frame's size; the return address is that of a `ret`, behind which the function goes on."""
    return f"""
    movq {_CONTEXT}(%r13), %r11
    movq {_runtime("interrupt")}, %rax
    cmpq $0, {_ctx("interrupt")}(%r11)
    jne 2f
1:
    pushq %r11
    .cfi_def_cfa_offset 16
    leaq 16(%rsp), %rax
    subq %r10, %rax
    movq {_ctx("current")}(%r11), %r11
    movq {offset("WlCont", "control")}(%r11), %r11
    movq {offset("WlControl", "limit")}(%r11), %r11
    cmpq %r11, %rax
    jbe 3f
    movq %r11, %fs:112
    popq %r11
    .cfi_def_cfa_offset 8
    popq %rax
    .cfi_def_cfa_offset 0
    incq %rax
    jmpq *%rax
3:
    .cfi_def_cfa_offset 16
    popq %r11
    .cfi_def_cfa_offset 8
    movq {_runtime("native_grow")}, %rax
2:
{_FRAME}    subq ${_ARGUMENT_BYTES + 8}, %rsp
{_save_arguments()}    movq %r10, {_ARGUMENT_BYTES}(%rsp)
    movq %r11, %rdi
    movq %rax, %rsi
    leaq 16(%rbp), %rdx
    subq %r10, %rdx
    callq wl_on_host
    movq {_CONTEXT}(%r13), %r11
    testq %rax, %rax
    jne 4f
{_load_arguments()}    movq {_ARGUMENT_BYTES}(%rsp), %r10
    leave
    .cfi_def_cfa %rsp, 8
    jmp 1b
4:
    .cfi_def_cfa %rbp, 16
    movq %r11, %rdi
{_trap("%rax", "16(%rbp)", "(%rbp)", "%rdi")}"""


#: RBP is the address of the control's `fp`: what a walker takes for a frame is the parent's. The parent's
#: stack pointer is one word below.
_START_CFI = f"""{_OTHER_STACK_CFI}    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
    .cfi_escape 0x10, 0x07, 0x02, 0x76, 0x78
"""


def _fiber_start() -> str:
    function = f"{offset('WlCont', 'function')}(%rax), %rax"
    return f"""
    movq %rdi, %rbx
    cmpq $0, {_ctx("pending")}(%rdi)
    jne wl_fiber_return
    movq {_ctx("args")}(%rdi), %r8
    movq %rdx, (%r8)
    movq {_ctx("current")}(%rdi), %rax
    movq {function}
    movq {offset("WlFunction", "register_call")}(%rax), %rdi
    movq {offset("WlFunction", "environment")}(%rax), %rsi
    movq %rsi, %r13
    movq %r8, %rdx
    movq {offset("WlFunction", "array_call")}(%rax), %rax
    callq *%rax
    .globl wl_fiber_return
    .hidden wl_fiber_return
wl_fiber_return:
    movq %rbx, %rdi
    callq wl_fiber_end
    movq %rax, %rcx
{_set_limit("%rbx")}    movq {_ctx("args")}(%rbx), %rdx
    movq (%rdx), %rdx
    movq %rbx, %rdi
    xorl %eax, %eax
    movq {offset("WlControl", "sp")}(%rcx), %rsp
    movq {offset("WlControl", "pc")}(%rcx), %rsi
    movq {offset("WlControl", "fp")}(%rcx), %rbp
    .cfi_same_value %rbp
    .cfi_same_value %rsp
    .cfi_register %rip, %rsi
    jmpq *%rsi
"""


#: wl_switch_call(reason, first value, reference, ctx, control): the switch of code that switches by calls. Returns
#: reason, first value and reference in RAX, RDX and RCX. What goes on elsewhere sees the registers that it would see
#: after the inline switch (see `inline_assembly`).
_SWITCH_CALL = f"""{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
{_set_limit("%rcx")}    movq %rdi, %rax
    movq %rcx, %rdi
    movq %rdx, %rcx
    movq %rsi, %rdx
    movq {offset("WlControl", "sp")}(%r8), %r9
    movq {offset("WlControl", "fp")}(%r8), %r10
    movq {offset("WlControl", "pc")}(%r8), %r11
    leaq 1f(%rip), %rsi
    movq %rsp, {offset("WlControl", "sp")}(%r8)
    movq %rbp, {offset("WlControl", "fp")}(%r8)
    movq %rsi, {offset("WlControl", "pc")}(%r8)
    movq %r9, %rsp
    movq %r10, %rbp
    jmpq *%r11
1:
{_POP_SAVED}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
"""


#: wl_drive(ctx, control, words), in the place of a function that `wl_native_enter` calls: resumes a continuation for
#: the host. The first value is in word 0; afterwards the words are reason, first value and reference.
_DRIVE = f"""{_FRAME}    pushq %rdx
    subq $8, %rsp
    movq %rdi, %rcx
    movq %rsi, %r8
    movq (%rdx), %rsi
    xorl %edi, %edi
    xorl %edx, %edx
    callq wl_switch_call
    movq -8(%rbp), %rsi
    movq %rax, (%rsi)
    movq %rdx, 8(%rsi)
    movq %rcx, 16(%rsi)
    leave
    .cfi_def_cfa %rsp, 8
    ret
"""


#: wl_frames(ctx, control or NULL, reason, first value, reference): the latter three are the outcome of a switch, for
#: frames that wait in a `resume`; with a control, that is switched to first, and the outcome is what comes back. Each
#: frame's entry finds the outcome in the words at RBX; the words behind it are what the runtime says of the next frame.
_FRAMES = f"""{_FRAME}{_PUSH_SAVED}{_SAVED_CFI}
    subq $72, %rsp
    movq %rsp, %rbx
    movq %rdi, %r12
    movq %rdx, (%rbx)
    movq %rcx, 8(%rbx)
    movq %r8, 16(%rbx)
    testq %rsi, %rsi
    je 1f
    movq %rdi, %rcx
    movq %rsi, %r8
    xorl %edi, %edi
    xorl %esi, %esi
    xorl %edx, %edx
    callq wl_switch_call
    movq %rax, (%rbx)
    movq %rdx, 8(%rbx)
    movq %rcx, 16(%rbx)
1:
    movq %r12, %rdi
    movq {_runtime("next_frame")}, %rsi
    movq %rbx, %rdx
    callq wl_on_host
    testq %rax, %rax
    jne 3f
    movq 24(%rbx), %rax
    testq %rax, %rax
    je 2f
    movq 32(%rbx), %r13
    movq 40(%rbx), %rdi
    movq 48(%rbx), %rsi
    movq %rbx, %rdx
    callq *%rax
    .globl wl_frames_return
    .hidden wl_frames_return
wl_frames_return:
    jmp 1b
2:
    leaq -{8 * len(CALLEE_SAVED)}(%rbp), %rsp
{_POP_SAVED}    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
3:
    .cfi_def_cfa %rbp, 16
    movq %r12, %rdi
{_trap("%rax", "8(%rbp)", "(%rbp)", "%rdi")}"""


#: What goes there brings the context in RDI, and an outcome in RAX, RDX and RCX.
_FRAMES_START = """
    movq %rdi, %rbx
    movq %rcx, %r8
    movq %rdx, %rcx
    movq %rax, %rdx
    xorl %esi, %esi
    callq wl_frames
    .globl wl_frames_bottom
    .hidden wl_frames_bottom
wl_frames_bottom:
    jmp wl_fiber_return
"""


def assembly() -> str:
    """The text of all pieces, for the assembler (AT&T syntax)."""
    return ".text\n" + "".join(
        (
            _function("wl_native_enter", _ENTER, _OTHER_STACK_CFI),
            _function("wl_native_continue", _CONTINUE, _OTHER_STACK_CFI),
            _function("wl_park", _PARK),
            _function("wl_on_host", _ON_HOST, _OTHER_STACK_CFI),
            _function("wl_compiled_trap", _TRAP),
            _function("wl_adapter", _adapter("adapter_call", True)),
            _function("wl_array_adapter", _adapter("array_adapter_call", False)),
            _function("wl_lazy", _LAZY),
            _function("wl_loop_interrupt", _loop_interrupt()),
            _function("wl_morestack", _morestack()),
            _function("wl_switch_call", _SWITCH_CALL),
            _function("wl_drive", _DRIVE),
            _function("wl_frames", _FRAMES),
            _function("wl_frames_start", _FRAMES_START, _START_CFI),
            _function("wl_fiber_start", _fiber_start(), _START_CFI),
        )
    )
