"""Random operations of hosts and guests, and random programs, where an allocation fails at a random moment.

    python -m tests.fuzz.memory [--seed N] [--minutes M] [--tier compiler]
    python -m tests.fuzz.memory --seed N --case K

Each case makes a store, with or without a small memory limit, in one of the tiers, and does some of
`tests.runtime.operations` in it, and some programs with continuations of `tests.fuzz.generator`. Most of that while one
allocation, or all from one on, are refused. Each must end in a result or an error that says so, and each store must do
what it should afterwards. A crash ends the process; the case's number has been printed before, with ``--verbose``.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import random
import time

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.fuzz import differential
from tests.fuzz.differential import Form
from tests.fuzz.generator import generate
from tests.runtime.operations import OPERATIONS, SOURCE, instance_of
from wasmloom.runtime.collector import collect_garbage
from wasmloom.system import allocation

#: What may be said where there is no memory.
ERRORS = (MemoryError, wl.Trap, wl.WasmException, wl.WasmError)

_made: dict[str, tuple[wl.Engine, wl.Module]] = {}


def _module(name: str) -> tuple[wl.Engine, wl.Module]:
    """The engine of a tier, and the module of `SOURCE` for it."""
    if name not in _made:
        engine = engine_of(name)
        _made[name] = engine, wl.Module(SOURCE, engine)
    return _made[name]


def _refused(chance: random.Random) -> contextlib.AbstractContextManager[None]:
    """Refuse memory, mostly: soon or late."""
    if chance.random() < 0.2:
        return contextlib.nullcontext()
    return allocation.refuse(chance.randrange(1, chance.choice((4, 20, 200))), chance.random() < 0.3)


def operations(chance: random.Random, name: str) -> None:
    """Some operations in one store."""
    engine, module = _module(name)
    store = wl.Store(engine, memory_limit=chance.choice((None, None, 200_000, 1 << 20, 8 << 20)))
    instance = None
    while instance is None:
        with _refused(chance), contextlib.suppress(*ERRORS):
            instance = instance_of(module, store)
    for _ in range(chance.randrange(1, 12)):
        operation = OPERATIONS[chance.choice(list(OPERATIONS))]
        with _refused(chance), contextlib.suppress(*ERRORS):
            operation(instance)
        if chance.random() < 0.2:
            collect_garbage(store)
        try:
            assert instance.exports.check() == 42
        except wl.Trap as trap:
            # With a limit, what a guest keeps may leave nothing for a call.
            assert trap.code == "out of memory" and store.memory_used > 100_000, trap


def program(chance: random.Random, seed: int, case: int) -> None:
    """A program with continuations, where memory is refused from some point on or once."""
    made = generate(differential.choices_of(seed, case), stacks=True)
    limit = chance.choice((None, None, 80_000, 1 << 20))
    for variant in Form(stacks=True).variants(case):
        if chance.random() < 0.3:
            with _refused(chance), contextlib.suppress(*ERRORS):
                differential.run_wasmloom(made, variant, memory_limit=limit)


def run_case(seed: int, case: int, tiers: list[str]) -> None:
    """One case; the same numbers do the same."""
    chance = random.Random(f"{seed}.{case}")
    if chance.random() < 0.1:
        program(chance, seed, case)
    else:
        operations(chance, chance.choice(tiers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this case only")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--tier", choices=list(ENGINES), action="append", help="only this one, or these")
    parser.add_argument("--verbose", action="store_true", help="name each case before it runs")
    args = parser.parse_args()
    tiers = args.tier or list(ENGINES)
    faulthandler.enable()
    if args.case is not None:
        run_case(args.seed, args.case, tiers)
        return 0
    end = time.monotonic() + 60 * args.minutes
    case = 0
    while time.monotonic() < end:
        if args.verbose:
            print(case, flush=True)
        try:
            run_case(args.seed, case, tiers)
        except Exception:
            print(f"seed {args.seed}, case {case}:", flush=True)
            raise
        case += 1
    print(f"{case} cases of seed {args.seed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
