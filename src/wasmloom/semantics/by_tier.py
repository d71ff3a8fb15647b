"""The executed instructions that have no definition, because each tier does them in its own way; with the reasons.

Every executed instruction is either defined (`wasmloom.semantics.registry.OPERATIONS`) or here.
"""

from __future__ import annotations

#: Reason → mnemonics.
REASONS: dict[str, tuple[str, ...]] = {
    # A definition would be no more than "push what is there".
    "It moves no value: it is about the operand stack and locals, which are slots and accumulators in bytecode that is"
    " written in one pass, and LLVM's values and variables in compiled code.": (
        "drop", "local.get", "local.set", "local.tee", "i32.const", "i64.const", "f32.const", "f64.const", "v128.const",
    ),
    "It says where control goes: by jumps that are patched, with values in their home slots, or by blocks and phis."
    " (Whether a branch on a reference is taken is defined, by `ref.is_null`.)": (
        "block", "loop", "if", "else", "end", "br", "br_if", "br_table", "br_on_null", "br_on_non_null", "return",
    ),
    "It is nothing but the calling convention: frames on the value stack, or registers and the native stack."
    " (What other calls check first is defined.)": ("call", "return_call"),
    "Exceptions are found by records in frames, or by a word in the context that is looked at behind calls.": (
        "throw", "try_table", "try", "catch", "catch_all", "rethrow", "delegate",
    ),
    "A switch exchanges what the context says of a stack, or three registers and what LLVM keeps in others; where a"
    " continuation's values wait depends on that, too. (What they check first is in `continuations`.)": (
        "cont.new", "cont.bind", "suspend", "resume", "resume_throw", "resume_throw_ref", "switch",
    ),
}  # fmt: skip
#: Mnemonic → reason.
BY_TIER: dict[str, str] = {name: reason for reason, names in REASONS.items() for name in names}
