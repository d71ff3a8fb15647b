# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Branch hints: which of the two ways of an `if` or `br_if` is likely, in a custom section.

Source: the branch hinting proposal. A malformed section never makes a module invalid: what comes before the malformed
part counts, and the rest is ignored.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import int64_t
from cython.cimports.wasmloom.binary.reader import Reader, read_byte, read_range, read_u32

from wasmloom.errors import CompileError

#: The name of the custom section, and of the annotation in the text format.
BRANCH_HINT = "metadata.code.branch_hint"
#: The instructions that can have a hint.
HINTED = frozenset(("if", "br_if"))
#: What follows so many hints is ignored: each takes much more memory than its four bytes.
_MOST = cython.declare(int64_t, 1 << 20)


def parse_hints(data: bytes, start: int, end: int) -> dict[int, dict[int, bool]]:
    """The hints in the contents of a section, ``data[start:end]``: function → offset in its body → whether it branches.

    Functions count imports; bodies begin with their locals.
    """
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
    r = cython.declare(Reader)
    functions: int64_t
    hints: int64_t
    offset: int64_t
    index: int64_t
    total: int64_t = 0
    found: dict = {}
    own: dict
    read_range(
        cython.address(r), base, base + cython.cast(cython.size_t, start), base + cython.cast(cython.size_t, end)
    )
    try:
        functions = read_u32(cython.address(r))
        while functions > 0:
            functions -= 1
            index = read_u32(cython.address(r))
            hints = read_u32(cython.address(r))
            own = found.setdefault(index, {})
            while hints > 0:
                hints -= 1
                total += 1
                offset = read_u32(cython.address(r))
                if total > _MOST or read_u32(cython.address(r)) != 1:
                    return found
                own[offset] = read_byte(cython.address(r)) == 1
    except CompileError:
        pass
    return found
