"""Labels: where branches to the open blocks go, and where exceptions go."""

from __future__ import annotations

from wasmloom.semantics.llvm import Value


class Landing:
    """Where exceptions go in a part of a function: the clauses of a `try_table`, or out of the function."""

    __slots__ = ("clauses", "height", "name", "outer", "used")

    def __init__(self, name: str, outer: Landing | None, clauses: list[tuple[int, int, Label]], height: int) -> None:
        self.name = name
        self.outer = outer
        self.clauses = clauses
        self.height = height
        self.used = False


class Rounds:
    """The rounds of a short loop, whose body is there several times (see `wasmloom.compiler.loops`).

    While a round is lowered, branches to the loop's label go to the next one, from the last one to the loop's
    beginning.
    """

    __slots__ = ("at", "entries", "exits", "first", "left", "start")

    def __init__(self, label: Label, at: int, start: int, left: int) -> None:
        #: the loop's offset, where its body begins in the list of instructions, and how many rounds are to come
        self.at = at
        self.start = start
        self.left = left
        #: the loop's beginning, and the ways to it
        self.first = label.target
        self.entries = label.incoming
        #: the ways out at the loop's end
        self.exits: list[tuple[list[Value], str]] = []


class Label:
    """An open block. A branch to it goes to `target` with values of the kinds `kinds`."""

    __slots__ = (
        "current", "else_name", "end", "exception", "first_values", "has_parts", "height", "incoming", "is_loop",
        "kinds", "landing", "memo", "outer", "phis_at", "results", "rounds", "target", "uncaught", "writes",
    )  # fmt: skip

    def __init__(self, target: str, end: str, height: int, kinds: tuple[str, ...], results: tuple[str, ...]) -> None:
        self.target = target
        self.end = end
        self.height = height
        self.kinds = kinds
        self.results = results
        self.is_loop = False
        #: of a `try` with clauses: jumps lead from all of them to its end
        self.has_parts = False
        #: (values, block) of every branch
        self.incoming: list[tuple[list[Value], str]] = []
        #: loops: where in the builder's lines the phis go
        self.phis_at = -1
        self.rounds: Rounds | None = None
        self.else_name: str | None = None
        #: what the body begins with: of a loop its phis, of an `if` what its `else` finds again
        self.first_values: list[Value] = []
        #: of a `try_table`, and of a `try` in its body: the landing that it opened
        self.landing: Landing | None = None
        #: where exceptions go from outside the block
        self.outer: Landing | None = None
        #: of a `try` in a clause: the exception's word, if anything throws, and where those go that aren't caught yet
        self.exception: Value | None = None
        self.uncaught: str | None = None
        #: what was known where the block was opened (see `FunctionBuilder`), and how often each local of `current` had
        #: been written
        self.memo: dict[tuple[str, int | str], Value] = {}
        self.current: dict[int, Value] = {}
        self.writes: list[int] = []
