"""Functions in the place of calls: small ones are lowered where they are called (`FunctionLowering.stand_in`).

What calls, traps and accesses in such a function, and in the functions that stand in it, have columns in the line table
that say at which *site* they are (`wasmloom.compiler.lines`). So backtraces show a frame for it, as if it had been
called. LLVM knows nothing of this: to it, all is one function.

Exactness is the reason for what isn't inlined. Functions with continuations, whose frames others enter in the middle;
with tail calls, which leave their frame; with loops, which gain nothing, and with exception handlers, which are rare.
Nothing at all where code counts fuel, or the depth of calls: what is paid for a piece of code, and for a frame, is
known where the function ends.
"""

from __future__ import annotations

from wasmloom.compiler.bodies import read_body
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.lines import INLINED, MOST_SITES
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.options import Options
from wasmloom.semantics.llvm import module_assembly

#: Bytes of a function that is inlined anywhere: little more than what a call takes, and often less.
TINY = 32
#: The same in loops, and in functions that call themselves.
SMALL = 64
#: How deep functions stand in each other, and how often the same.
DEEPEST = 4
MOST_ALIKE = 2
#: Bytes of bodies that may be added to a function, and the part of its own body that may be, if that is more.
GROWTH = 256
GROWTH_PART = 4


class Inlining:
    """What stands in the place of calls in the functions of one unit."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._bodies: dict[int, tuple[list[tuple[int, int]], list[Instr]]] = {}
        #: by site, from 1 on: the site that the call is in, its offset, the function
        self._sites: list[tuple[int, int, int]] = []

    def body(self, index: int) -> tuple[list[tuple[int, int]], list[Instr]]:
        """What `read_body` gives for a function of those defined in the module."""
        found = self._bodies.get(index)
        if found is None:
            found = self._bodies[index] = read_body(self._facts.module, index)
        return found

    def wants(self, caller: int, callee: int, chain: list[int], in_loop: bool, added: int) -> bool:
        """Whether a call is one that a function is to stand in for; both of those defined in the module.

        `chain`: the functions that stand in each other there; `added`: bytes that have been added to the caller.
        """
        facts = self._facts
        size = facts.size(callee)
        if size > SMALL or not facts.simple[callee] or len(self._sites) >= MOST_SITES or len(chain) >= DEEPEST:
            return False
        alike = chain.count(callee) + (caller == callee)
        if alike > MOST_ALIKE or not self.has_room(caller, added + size):
            return False
        return size <= TINY or in_loop or alike > 0

    def has_room(self, caller: int, added: int) -> bool:
        """Whether so many bytes may be added to a function."""
        return added <= max(GROWTH, self._facts.size(caller) // GROWTH_PART)

    def add(self, site: int, offset: int, callee: int) -> int:
        """The number of a new site: a call of a function of those defined in the module, at an offset, in a `site`."""
        self._sites.append((site, offset, self._facts.imported + callee))
        return len(self._sites)

    def table(self) -> list[str]:
        """The lines of a unit that tell of its sites."""
        if not self._sites:
            return []
        rows = [f".long {parent}, {offset}, {function}" for parent, offset, function in self._sites]
        return module_assembly([f'.section {INLINED},"",@progbits', *rows])


def inlining(facts: Facts, options: Options) -> Inlining | None:
    """Of a unit; None: nothing is inlined."""
    return None if options.as_interpreted else Inlining(facts)
