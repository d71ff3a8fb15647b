"""Running suites, one after the other, into a `Run`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from wasmloom_bench import harness
from wasmloom_bench.conditions import conditions, load
from wasmloom_bench.context import Context, Options
from wasmloom_bench.results import Missing, Run, SuiteResult, Table
from wasmloom_bench.suites import SUITES


def run_suites(
    names: Sequence[str],
    options: Options,
    tell: Callable[[str], None],
    done: Callable[[SuiteResult], None] = lambda suite: None,
) -> Run:
    """Run the suites with these names; `tell` learns what is being measured, `done` each suite when it is there.

    A `KeyboardInterrupt` ends the run: what was measured until then is in it, and its option "interrupted" names the
    suite that ran. Suites that stop with an error are named in its option "stopped".
    """
    options.settings.add_packages()
    if options.quick:
        options.settings.warm_up = min(options.settings.warm_up, 0.2)
    run = Run(conditions(), options={"quick": options.quick, "suites": list(names)})
    for name in names:
        suite = SUITES[name]
        result = SuiteResult(name, suite.title)
        run.suites.append(result)
        budget = (suite.quick if options.quick else suite.seconds) * options.scale
        before, start = load(), time.monotonic()
        try:
            suite.measure(Context(run, result, options, budget, tell))
        except harness.Unsupported as error:  # something that all of the suite needs
            result.tables.append(Table(f"{name}/all", suite.title, missing=[Missing("all", str(error))]))
        except KeyboardInterrupt:
            run.options["interrupted"] = name
        except Exception as error:  # a fault of a suite mustn't cost what others have measured
            said = f"the suite stopped: {type(error).__name__}: {error}"
            result.tables.append(Table(f"{name}/all", suite.title, missing=[Missing("all", said)]))
            run.options.setdefault("stopped", []).append(name)
        result.took, result.load = time.monotonic() - start, (before, load())
        with contextlib.suppress(BrokenPipeError):
            done(result)
        if "interrupted" in run.options:
            break
    return run
