"""Memory layout of everything that generated code touches: written once, here.

The handler generator turns these rows into offsets in LLVM IR; the build turns them into a C header and a `.pxd`
(``_layout.h`` and ``_layout.pxd`` in this folder), so Cython modules see the same structs by name. All fields
are 8 bytes wide: offsets are 8 × position on every platform.
"""

from __future__ import annotations

#: The size classes of small objects, in bytes of a block: steps of 8, then four for each doubling. Behind them comes
#: the "class" of all larger objects, which lie apart.
OBJECT_SIZES: tuple[int, ...] = (
    *range(16, 64, 8),
    *(step * quarter for step in (16, 32, 64, 128, 256, 512, 1024) for quarter in range(4, 8)),
    8192,
)
LARGE_OBJECT = len(OBJECT_SIZES)

#: struct name → fields in order, each (name, C type). C types: "void*", "char*", "uint64_t", "int64_t".
STRUCTS: dict[str, tuple[tuple[str, str], ...]] = {
    # One per Store: the state of its guest thread of control.
    "WlContext": (
        # A frame must end at or below this address. The ticker thread sets it to 0 to send the next function
        # entry to its slow path (`enter_slow`), which restores it.
        ("stack_limit", "char*"),
        # Non-zero: the next loop back-edge goes to `loop_slow`.
        ("interrupt", "uint64_t"),
        # Fuel left; only touched by code translated with fuel.
        ("fuel", "int64_t"),
        # The value stack's memory. It may move during `enter_slow` and during host calls; nothing on it is an
        # absolute address of itself.
        ("stack_base", "char*"),
        ("stack_end", "char*"),
        # Byte offset from stack_base where a re-entrant call may put its frame; written before each host call.
        ("stack_top", "uint64_t"),
        # Set by a trap exit: code (0: none), and where.
        ("trap_code", "uint64_t"),
        ("trap_ip", "char*"),
        ("trap_fp", "char*"),
        ("trap_instance", "void*"),  # of bytecode; compiled code has none
        # While guest code waits in a host call: return ip, offset of the callee's frame from stack_base, and the host
        # function's WlFunction* (for backtraces), which is NULL again when the call has ended. When compiled code has
        # called it, host_ip is instead where the first result goes, and host_fp is `CALLED_BY_COMPILED`.
        ("host_ip", "char*"),
        ("host_fp", "uint64_t"),
        ("host_function", "void*"),
        # The thread's PyThreadState while it runs guest code.
        ("thread_state", "void*"),
        # Borrowed PyObject* of the owning Store's Python object.
        ("store", "void*"),
        # The innermost `try_table` record on the running stack, as an offset to stack_base; 0: none.
        ("catch_top", "uint64_t"),
        # The running stack: a continuation, or the root that an entry from the host put at the bottom of its own.
        ("current", "void*"),
        # The exception that leaves the guest with the code "wasm exception", or that `throw` has just made.
        ("exception", "uint64_t"),
        # Continuations that can be used again, linked by `next`.
        ("free_conts", "void*"),
        # What follows is for compiled code (see the stubs of wasmloom.target).
        # Where the thread's own stack goes on, when a guest leaves compiled code or calls the host from it.
        ("host_sp", "char*"),
        # Stack and frame pointer of compiled code that waits in a host call. In stores that mix, while bytecode runs:
        # where the native stack ends, and nothing.
        ("guest_sp", "char*"),
        ("guest_fp", "char*"),
        # uint64_t[MAX_ARGUMENTS]: parameters and results that have no register, and what goes along with a switch.
        ("args", "void*"),
        # The exception that is on its way up through compiled frames; 0: none.
        ("pending", "uint64_t"),
        # Native stacks that can be used again (WlControl*), linked by `next`.
        ("free_stacks", "void*"),
        # Bytes of continuations that compiled code has taken from the pool: what the collector's pace counts.
        ("allocated", "uint64_t"),
        # Set by a trap exit of compiled code: 1 if `trap_ip` is the instruction that faulted, 0: a return address.
        ("trap_fault", "uint64_t"),
        # Only touched by deterministic code: the bytes of frames that a function may use that begins, and those that
        # the first function of another stack may (see `wasmloom.semantics.determinism`).
        ("depth_left", "int64_t"),
        ("depth_of_stack", "int64_t"),
        # While bytecode that begins a function is in `enter_slow`: its return ip; its instance is in `trap_instance`.
        ("return_ip", "char*"),
        # What stands in for an object where there is none, so that its type can be read: a WlObject, whose type has
        # nothing that any test looks for.
        ("no_type", "void*"),
        # By size class (`OBJECT_SIZES`): blocks for objects, linked by their second words. The first ones are 0. What
        # takes one needs no call.
        *((f"objects_{number}", "void*") for number in range(LARGE_OBJECT + 1)),
    ),
    # One per instance. It is followed by `slots`, one pointer each to the module's global cells (uint64_t*), functions
    # (WlFunction*), tables (WlTable*) and memories (WlMemory*), in this order and imports first, so handlers
    # reach each with one load from a constant offset; the pointers below point into them for the runtime. Tags
    # (WlTag*) follow, for each shared memory the host functions that wait in it (see `WAITS`), and if there are
    # structs or arrays, the layouts of all types (WlType*, NULL of others).
    "WlInstance": (
        ("memory0_base", "char*"),
        ("memory0_length", "uint64_t"),
        ("context", "void*"),
        ("data_segments", "void*"),  # WlSegment[]
        ("element_segments", "void*"),  # WlSegment[], contents are reference words
        ("object", "void*"),  # borrowed PyObject* of the Instance
        ("globals", "void*"),  # uint64_t*[]
        ("functions", "void*"),  # WlFunction*[]
        ("tables", "void*"),  # WlTable*[]
        ("memories", "void*"),  # WlMemory*[]
        ("tags", "void*"),  # WlTag*[]
        ("types", "void*"),  # WlType*[]
        ("element_count", "uint64_t"),  # how many element segments there are
    ),
    # A function: what a funcref points to. `context` lies where WlInstance has it, since compiled code takes either as
    # its environment. `code_cell` is the address of a pointer to the bytecode's entry: for guest
    # functions a cell of the module's code space, for host functions the address of `own_code`.
    "WlFunction": (
        ("code_cell", "void*"),
        ("instance", "void*"),  # WlInstance*, NULL for a host function
        ("context", "void*"),
        ("type_id", "uint64_t"),  # canonical id of its type
        ("own_code", "char*"),
        ("index", "uint64_t"),
        ("object", "void*"),  # host functions: borrowed PyObject* of the HostFunction that runs it
        ("wrapper", "void*"),  # borrowed PyObject* of the Func that Python has for it, or NULL
        # For compiled callers: code that takes its arguments in registers, as compiled code does; its environment; and
        # a function that calls such code with arguments from memory. NULL in stores that run no compiled code.
        ("register_call", "void*"),
        ("environment", "void*"),
        ("array_call", "void*"),
        # In stores that mix bytecode and compiled code: how parameters and results travel (see `PASSING_HEAD`).
        ("passing", "char*"),
    ),
    # What the cell of a function leads to that has compiled code, in stores that mix: an instruction, whose handler
    # calls that code where it can. Where it can't, the bytecode runs.
    "WlNative": (
        ("handler", "void*"),
        ("bytecode", "char*"),
        ("call", "void*"),  # the array call of its type
        ("code", "void*"),
        ("passing", "char*"),
        ("words", "uint64_t"),  # of its parameters or its results, whichever are more
    ),
    # A loop that frames of bytecode leave for compiled code: its label's word leads to code that puts the address of
    # this into the accumulator, and goes to `entry`.
    "WlLoop": (
        ("entry", "void*"),
        ("code", "void*"),  # the OSR entry
        ("first", "void*"),  # where the word led to before
        ("frame", "uint64_t"),  # words of the function's frame
        ("record", "uint64_t"),  # the slot of its return ip
    ),
    "WlMemory": (
        ("base", "char*"),
        ("length", "uint64_t"),  # bytes
        ("max_pages", "uint64_t"),
        ("object", "void*"),
        # Bytes of address space at `base`.
        ("mapped", "uint64_t"),
        # Python's views of it: a checked memory stays where it is, and so can't grow, while there are any.
        ("exports", "uint64_t"),
        # Whether it is a checked one, which may move when it grows: see `wasmloom.runtime.regions`.
        ("checked", "uint64_t"),
        ("is64", "uint64_t"),  # whether its addresses have 64 bits
        ("page_bits", "uint64_t"),  # its pages have 2**page_bits bytes
        # Whether threads share it: it never moves, and no store owns it (`wasmloom.runtime.sharing`).
        ("shared", "uint64_t"),
        # So many bytes at `base` are mapped from a file, copied when they are written; 0: none.
        ("imaged", "uint64_t"),
    ),
    "WlTable": (
        ("elements", "void*"),  # uint64_t[]: reference words; a funcref is a WlFunction*, null is 0
        ("length", "uint64_t"),
        ("max", "uint64_t"),
        ("object", "void*"),
        ("is64", "uint64_t"),  # whether its indices have 64 bits
    ),
    "WlTag": (
        ("type_id", "uint64_t"),  # canonical id of its function type
        ("object", "void*"),
    ),
    # An exception: what an exnref points to. Its values follow, one word each.
    "WlException": (
        ("next", "void*"),  # all objects of the heap are linked
        ("mark", "uint64_t"),
        ("tag", "void*"),  # WlTag*
        ("count", "uint64_t"),
    ),
    # An object, a struct or an array: what references of the "any" hierarchy point to, unless they are i31s or the
    # host's (see `I31_TAG`). Fields of a struct follow the type, elements of an array the length. A type of 0: a free
    # block.
    "WlObject": (
        ("type", "void*"),  # WlType*
        ("length", "uint64_t"),  # of an array: elements
    ),
    # What code and collector know of a type of objects. It belongs to the canonical type, and lives as long. It is
    # followed by the types above it and itself, by depth: at least `SHALLOW` places, those beyond its depth NULL.
    "WlType": (
        ("what", "uint64_t"),  # one of OBJECT_KINDS
        ("bytes", "uint64_t"),  # of a whole struct; of an element
        ("size_class", "uint64_t"),  # of structs
        ("depth", "uint64_t"),
        ("id", "uint64_t"),  # the canonical id
        # Of fields: where they are in the object (uint32_t[]).
        ("offsets", "void*"),
        # Of a struct: the fields with what the collector looks at, `traced` of them: offsets, plus 1 where it has to
        # find out what the word is. Of an array: 0, 1 if it looks at elements, 2 if it has to find out.
        ("traced_at", "void*"),
        ("traced", "uint64_t"),
        ("descriptor", "uint64_t"),  # of a struct: where the reference to its descriptor is; 0: it has none
    ),
    # A stack. A reference to a continuation (a contref) is its address and, in the upper 16 bits, a revision: what
    # consumes the reference adds one to that of the continuation.
    # What a switch of native stacks touches comes first: a cache line.
    "WlCont": (
        # The only reference that counts. With the revision 0 there is none: 1 to MAX_REVISION have been used up.
        ("reference", "uint64_t"),
        # Who resumed it; NULL for roots and while it is suspended.
        ("parent", "void*"),
        # The `resume` instruction that did, or in compiled code the description of its clauses; the instance that this
        # is in; and the address of the tag of the first clause, plus ON_SWITCH (NULL: there is none, or it has to be
        # looked for). The last two are about compiled code, which leaves all three as they are when it resumes a stack
        # again from the same place: code that changes one must change all. A search for a handler begins with the tag;
        # a search that finds it goes to the parent, so it must be NULL while a stack runs that has none.
        ("resume", "char*"),
        ("resumer", "void*"),  # WlInstance*
        ("first_tag", "char*"),
        # Itself: it may be resumed at once while it is suspended (has no parent), or it has been. Another one: it is
        # suspended, and begins a chain; the other one ends that, and its parent is the stack that resumes the chain.
        # NULL: `state` says what is to be done first, or it ends another one's chain, or is a root.
        ("last", "void*"),
        # Its native stack, or NULL: an interpreted one, or not begun.
        ("control", "void*"),  # WlControl*
        # One of CONT_STATES; from BOUND_SHIFT on, how many values `cont.bind` has already put there. Of a native stack
        # that has begun it says "suspended" while it runs, too (see `state_of` in `wasmloom.runtime.stacks`).
        ("state", "uint64_t"),
        # Where it goes on (and while it waits for one that it has resumed: where that one's results go): the instance;
        # for stacks of bytecode see `ip`.
        ("instance", "void*"),
        # Of a stack of bytecode, where it goes on: ip, frame as an offset to stack_base, and the slot of that frame
        # where values that are passed to it arrive.
        ("ip", "char*"),
        ("fp", "uint64_t"),
        ("values", "uint64_t"),
        # Its memory. While it runs, the context's fields of the same names count instead.
        ("stack_base", "char*"),
        ("stack_end", "char*"),
        # The innermost exception record. Of a native stack: the bytes of the frames of bytecode that wait below the
        # compiled ones. While there are any, `ip` is in the instruction that the innermost of them goes on behind, `fp`
        # is its frame's address and `function` its instance (see `waiting_bytes` in `wasmloom.runtime.stacks`).
        ("catch_top", "uint64_t"),
        # What it will run (WlFunction*), before its first resumption.
        ("function", "void*"),
        ("next", "void*"),
        # The continuation whose memory the stack is: itself, or for a root the one that it was entered on; NULL: the
        # context's own stack.
        ("owner", "void*"),
        ("mark", "uint64_t"),
    ),
    # The top of a native stack. The first three words are the control context: where the other side goes on. While
    # the stack runs, that is its parent; `fp` and `pc` then look like any frame's, so a walk along frame
    # pointers goes on in the parent.
    "WlControl": (
        ("sp", "char*"),
        ("fp", "char*"),
        ("pc", "char*"),
        ("next", "void*"),
        # The lowest stack pointer that a function may begin with, now and at most; see `wasmloom.runtime.native_stacks`
        ("limit", "char*"),
        ("floor", "char*"),
        ("cont", "void*"),  # WlCont* whose stack it is
    ),
    "WlSegment": (
        ("data", "char*"),
        ("length", "uint64_t"),  # bytes, or elements; 0 once dropped
    ),
}

#: Runtime functions that handlers call, by position in the exported array `wl_runtime`.
#: All have the C signature  uint64_t f(WlContext*, WlInstance*, uint64_t *fp, char *ip)  and return a trap code (0:
#: none), except those whose comment says otherwise. They must not assume that the GIL is held (see `leave_python`).
RUNTIME_CALLS: tuple[str, ...] = (
    # (ctx, bytes needed, fp, code ip) at a function entry whose frame doesn't fit or after an interrupt; may move
    # the stack: the caller computes fp again from its offset to stack_base.
    "enter_slow",
    # a loop back-edge saw ctx.interrupt
    "loop_slow",
    # (ctx, inst, fp, ip of the lazy stub): translate the function; its cell then points to real code
    "translate",
    # (ctx, WlFunction*, fp of the callee's arguments, return ip): run a host function; results replace arguments
    "host_call",
    # (ctx, type id, expected type id): 0 when the first is a subtype of the second, else a trap code
    "subtype",
    # (ctx, WlCont*): a continuation has ended (returned, trapped, thrown): its stack can be used again
    "cont_done",
    # (ctx, WlCont*): its revisions have run out: moves the suspended stack to a fresh continuation, put in
    # ctx.exception
    "cont_renew",
    # (ctx, inst, fp, ip): a traced instruction is about to run; without an ip, the native stack of the continuation in
    # the place of `fp` has ended
    "trace",
    # Of compiled code. (ctx, WlFunction*, registers): run a function that isn't compiled; `registers` has what the
    # parameter registers held, those of integers first, and gets the first result.
    "adapter_call",
    # (ctx, WlFunction*, words): the same with parameters and results in memory
    "array_adapter_call",
    # (ctx): a loop or a function entry saw that the guest is to be interrupted
    "interrupt",
    # (ctx, WlCont*, words, n): make a consumed continuation ready for n values: give it a native stack if it begins,
    # and put the values behind those that it has been bound to. The first value is in word 0, in and out, the others
    # in the context's `args`.
    "native_begin",
    # (ctx, words, n): `cont.bind` of the reference in word 0 to the n words that follow; word 0 ← the new reference
    "native_bind",
    # (ctx): the running continuation's revisions have run out
    "native_renew",
    # (ctx, address): a function's frame reaches down to an address below the running native stack's limit
    "native_grow",
    # Of code compiled with stack_switching="libcall": everything about a switch but the switch. The words say what is
    # to be done, and get what `wl_switch_call` then takes: control, first value, reason, reference.
    # (ctx, words: reference, first value and WlInstance*; n values; description of the clauses)
    "libcall_resume",
    # (ctx, words: first value; WlTag*)
    "libcall_suspend",
    # (ctx, words: reference and first value; WlTag*; n values, to which the own reference is added)
    "libcall_switch",
    # (ctx, words): the running native stack has frames of bytecode that are to go on. The words 3 to 6 ← code of the
    # next one's entry (0: there is none), its environment, its frame, where its results go.
    "next_frame",
    # (ctx, WlInstance*, function, words): code calls a function of its module (by its number among those defined there)
    # that hasn't been compiled. Word 0 ← its address.
    "compile_function",
    # (ctx, address, count): wake those that wait at an address of a memory; returns how many
    "notify",
    # (ctx, WlType*): there is no block for a struct of this type in the context's list: put some there
    "refill_objects",
    # From here on `ip` points to an instruction of the form
    #   handler:8  a:u16 b:u16 c:u16 d:u16  imm0:u32 imm1:u32
    # where a…d are frame slots. In the comments "a ← f(b)" means: read slot b, write slot a.
    "memory_grow",  # a ← grow(memory imm0, b pages)
    "memory_init",  # memory imm1, data imm0, (a: destination, b: source, c: count)
    "memory_copy",  # memory imm0 from memory imm1, (a, b, c)
    "memory_fill",  # memory imm0, (a: destination, b: byte, c: count)
    "data_drop",  # data imm0
    "table_init",  # table imm1, element imm0, (a, b, c)
    "table_copy",  # table imm0 from table imm1, (a, b, c)
    "table_fill",  # table imm0, (a: start, b: reference, c: count)
    "table_grow",  # a ← grow(table imm0, with b, by c elements)
    "elem_drop",  # element imm0
    "cont_new",  # a ← a continuation that runs function b, which needs imm0 slots for its parameters or results
    "new_exception",  # ctx.exception ← one with the tag at offset imm0 of the instance, imm1 values from slot a on
    # Of arrays: imm0 is the index of the type, the operands are in the slots from b on.
    "array_new",  # a ← array of value, length
    "array_new_default",  # a ← array of length
    "array_new_fixed",  # a ← array of imm1 values
    "array_new_data",  # a ← array from data imm1, of offset, length
    "array_new_elem",  # a ← array from element imm1, of offset, length
    "array_fill",  # array, index, value, count
    "array_copy",  # array, index, source, index, count; imm1: the index of the source's type
    "array_init_data",  # from data imm1: array, index, offset, count
    "array_init_elem",  # from element imm1: array, index, offset, count
    "function_test",  # a ← whether the function has the type imm0; imm1: 1 is of null, plus 2 for exactly that type
)

#: What waits in a shared memory, by bytes that are compared: its place among the memory's.
WAITS: tuple[int, ...] = (4, 8)

#: How parameters and results of a function travel: two numbers of 16 bits, the words of parameters and of results; a
#: byte that isn't 0 if a parameter is in a register of floats; and from `PASSING_HEAD` on a byte for each word of the
#: parameters. That is `PASSED_IN_ARGS` for one in the context's `args`; else the number of its register, those of
#: integers first, plus `PASSED_AS_I32` where the upper half of the register means nothing.
PASSING_RESULTS, PASSING_FLOATS, PASSING_HEAD = 2, 4, 8
PASSED_IN_ARGS, PASSED_AS_I32 = 0x40, 0x80
#: Instead of the frame of a host function that bytecode has called (`host_fp`): compiled code has called it.
CALLED_BY_COMPILED = (1 << 64) - 1

#: States of a continuation: new, suspended, running or waiting for one that it has resumed, and ended (in the pool).
CONT_STATES: tuple[str, ...] = ("fresh", "suspended", "active", "ended")
CONT_FRESH, CONT_SUSPENDED, CONT_ACTIVE, CONT_ENDED = range(len(CONT_STATES))
#: A continuation's number of bound values begins at this bit of its state.
BOUND_SHIFT = 2
#: Kinds of clauses of a `resume` in compiled code.
ON_LABEL, ON_SWITCH = 0, 1
#: Kinds of types of objects; that of `no_type`.
OBJECT_KINDS: tuple[str, ...] = ("none", "struct", "array")
OBJECT_NONE, OBJECT_STRUCT, OBJECT_ARRAY = range(len(OBJECT_KINDS))
#: The lowest bits of references of the "any" and the "extern" hierarchy: of an i31, whose number begins behind this
#: bit; of an object of the host. Others are addresses, or null. So nothing has to be done for a conversion between
#: both.
I31_TAG, HOST_TAG = 1, 2
#: A type of this depth, or less, is looked for without a look at how deep the other one is.
SHALLOW = 8
#: A contref's revision begins at this bit.
REVISION_SHIFT = 48
NEXT_REVISION = 1 << REVISION_SHIFT
MAX_REVISION = 0xFFFF


#: A 64-bit memory has less than 2 to the power of this many bytes, or just that many: what is beyond is refused without
#: a look at its length, and behind that come guard pages (`wasmloom.runtime.regions`).
ADDRESS_BITS_64 = 36
#: Bytes of a slot: a word of a frame, of arguments in memory, of a table, of what is bound to a continuation.
SLOT_BYTES = 8
#: Bytes of a field of a struct, and of a pointer.
FIELD_BYTES = 8


def offset(struct: str, field: str) -> int:
    """Byte offset of `field` in `struct`."""
    for i, (name, _) in enumerate(STRUCTS[struct]):
        if name == field:
            return FIELD_BYTES * i
    raise KeyError(f"{struct}.{field}")


def size(struct: str) -> int:
    """Size of `struct` in bytes."""
    return FIELD_BYTES * len(STRUCTS[struct])


#: Bytes of a continuation with the stack that it begins with, and words of that stack.
CONT_BYTES = 384
INLINE_WORDS = (CONT_BYTES - size("WlCont")) // SLOT_BYTES


def c_header() -> str:
    """The C header with all structs."""
    parts = ["/* Generated from wasmloom/contract/layout.py */", "#pragma once", "#include <stdint.h>"]
    parts.append(f"#define NEXT_REVISION UINT64_C({NEXT_REVISION})")
    parts.append(f"#define MOST_BYTES_64 UINT64_C({1 << ADDRESS_BITS_64})")
    for name, fields in STRUCTS.items():
        body = "".join(f"    {ctype} {field};\n" for field, ctype in fields)
        parts.append(f"typedef struct {name} {{\n{body}}} {name};")
    return "\n".join(parts) + "\n"


def pxd() -> str:
    """The Cython declarations of all structs, and the position of each runtime call (``RT_NAME``)."""
    parts = ["# Generated from wasmloom/contract/layout.py", "from libc.stdint cimport int64_t, uint64_t", ""]
    parts.append('cdef extern from "_layout.h":')
    parts.append("    const uint64_t NEXT_REVISION")
    parts.append("    const uint64_t MOST_BYTES_64")
    for name, fields in STRUCTS.items():
        parts.append(f"    ctypedef struct {name}:")
        parts += [f"        {ctype} {field}" for field, ctype in fields]
    parts.append("")
    parts.append("cdef enum:")
    parts += [f"    RT_{name.upper()} = {i}" for i, name in enumerate(RUNTIME_CALLS)]
    parts.append(f"    RT_COUNT = {len(RUNTIME_CALLS)}")
    parts += [f"    CONT_{name.upper()} = {i}" for i, name in enumerate(CONT_STATES)]
    parts += [f"    SLOT_BYTES = {SLOT_BYTES}", f"    FIELD_BYTES = {FIELD_BYTES}"]
    parts += [f"    CONT_BYTES = {CONT_BYTES}", f"    INLINE_WORDS = {INLINE_WORDS}"]
    parts += [f"    BOUND_SHIFT = {BOUND_SHIFT}", f"    ON_LABEL = {ON_LABEL}", f"    ON_SWITCH = {ON_SWITCH}"]
    parts += [f"    REVISION_SHIFT = {REVISION_SHIFT}", f"    MAX_REVISION = {MAX_REVISION}"]
    parts += [f"    OBJECT_{name.upper()} = {i}" for i, name in enumerate(OBJECT_KINDS)]
    parts += [f"    OBJECT_CLASSES = {len(OBJECT_SIZES)}", f"    MOST_OBJECT_BYTES = {OBJECT_SIZES[-1]}"]
    parts.append(f"    OBJECT_WORDS = {OBJECT_SIZES[-1] // SLOT_BYTES + 1}")  # sizes in words, of small objects
    parts += [f"    I31_TAG = {I31_TAG}", f"    HOST_TAG = {HOST_TAG}", f"    SHALLOW = {SHALLOW}"]
    return "\n".join(parts) + "\n"
