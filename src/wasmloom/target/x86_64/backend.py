"""What LLVM is told when it compiles for this processor."""

from __future__ import annotations

from collections.abc import Mapping

#: The function attribute that makes a function compare the stack pointer with the running stack's limit, where the
#: thread has it (see `stubs`), and the function that LLVM then calls where there is no room.
STACK_CHECK = '"split-stack"'
STACK_CHECK_FAILED = "__morestack"

#: How LLVM calls this processor's kind, in the names of its functions.
LLVM_NAME = "X86"

#: Options of LLVM, for the whole process. Conditional moves with a memory operand stay as they are: LLVM would make
#: branches of them, and load in one arm only (https://github.com/llvm/llvm-project/issues/219814).
OPTIONS = ("-x86-cmov-converter-force-mem-operand=false",)

#: An option of LLVM: programs have no variables that debuggers could show, and looking for them takes a twentieth of
#: the time.
NO_VARIABLES = "-experimental-debug-variable-locations=false"

#: Features that mask accesses. An access that a mask suppresses doesn't fault, and LLVM turns a load that only a
#: `select` needs into one, although it is volatile. Masks came with AVX-512 and AVX10; the conditional moves of APX
#: ("cf") suppress faults, too.
_MASKED = ("avx512", "avx10", "amx-avx512")


def features(host: Mapping[str, bool]) -> str:
    """The processor's features that LLVM may use: none that keeps an access from faulting."""
    return ",".join(
        f"{'+' if has and name != 'cf' and not name.startswith(_MASKED) else '-'}{name}"
        for name, has in sorted(host.items())
    )


def known_features(host: Mapping[str, bool]) -> frozenset[str]:
    """The processor's features that `inline_assembly` makes use of."""
    return frozenset(name for name in ("avx",) if host.get(name))
