"""Functions in the place of calls: small ones are lowered where they are called (`FunctionLowering.stand_in`).

What calls, traps and accesses in such a function, and in the functions that stand in it, have columns in the line table
that say at which *site* they are (`wasmloom.compiler.lines`). So backtraces show a frame for it, as if it had been
called. LLVM knows nothing of this: to it, all is one function.

What isn't inlined: functions with tail calls, which leave their frame; with loops, which gain nothing, and with
exception handlers, which are rare. Nothing at all where code counts fuel, or the depth of calls: what is paid for a
piece of code, and for a frame, is known where the function ends.

Functions that switch stacks gain most. A processor predicts where a function returns to by the calls before, and after
a switch these are another stack's: so the return of each function that is left and entered by a switch is predicted
wrongly. Such functions may be larger, and so may those that do little but call one. Frames that change to compiled code
in the middle of such a function are none of this: an OSR entry is of the function itself, wherever else it stands.

In stores that mix, functions of continuations stay bytecode (`wasmloom.tiers.mixed`), so they stand nowhere else
(`Options.mixed`).
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
#: The same of functions that switch stacks, or call such a function: anywhere.
SWITCHING = 256
#: How deep functions stand in each other, and how often the same.
DEEPEST = 4
MOST_ALIKE = 2
#: Bytes of bodies that may be added to a function, and the part of its own body that may be, if that is more; bytes of
#: those that switch stacks.
GROWTH = 256
GROWTH_PART = 4
GROWTH_SWITCHING = 1024


class Inlining:
    """What stands in the place of calls in the functions of one unit."""

    def __init__(self, facts: Facts, mixed: bool = False) -> None:
        """`mixed`: see `Options.mixed`."""
        self._facts = facts
        self._mixed = mixed
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
        if not facts.simple[callee] or len(self._sites) >= MOST_SITES or len(chain) >= DEEPEST:
            return False
        alike = chain.count(callee) + (caller == callee)
        if alike > MOST_ALIKE or (self._mixed and facts.stacks[callee]):
            return False
        if size <= SWITCHING and callee in facts.switching:
            return self.has_room(caller, added + size, GROWTH_SWITCHING)
        return (size <= TINY or (size <= SMALL and (in_loop or alike > 0))) and self.has_room(caller, added + size)

    def has_room(self, caller: int, added: int, always: int = GROWTH) -> bool:
        """Whether so many bytes may be added to a function, to which so many may `always` be."""
        return added <= max(always, self._facts.size(caller) // GROWTH_PART)

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
    return None if options.as_interpreted else Inlining(facts, options.mixed)
