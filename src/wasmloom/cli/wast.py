"""`wasmloom wast`: run test scripts."""

from __future__ import annotations

import click

from wasmloom.cli.common import INPUT, CommandError, engine_options, make_engine, read_input


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=INPUT)
@engine_options
def wast(files: tuple[str, ...], **options: str | None) -> int:
    """Run WAST scripts.

    Prints a line per file with why commands were skipped, the failures on standard error, and the sums last. The exit
    status is 1 when a command failed.
    """
    from wasmloom.cli.script_runner import run_script

    engine = make_engine(**options)
    passed = failed = skipped = 0
    for path in files:
        try:
            data = read_input(path)
        except CommandError as error:
            error.show()
            failed += 1
            continue
        outcome = run_script(data, engine)
        for line, what in outcome.failures:
            click.echo(f"{path}:{line}: {what}", err=True)
        counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skips} skipped"
        reasons = "; ".join(f"{number}: {reason}" for reason, number in outcome.skipped.most_common())
        click.echo(f"{path}: {counts}" + (f" ({reasons})" if reasons else ""))
        passed += outcome.passed
        failed += outcome.failed
        skipped += outcome.skips
    click.echo(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


COMMANDS = {"wast": wast}
