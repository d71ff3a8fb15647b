"""The command group: subcommands that are loaded when they are called."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from wasmloom.cli.common import CommandError

#: Subcommand → module that defines its `command`.
COMMANDS: dict[str, str] = {
    "run": "wasmloom.cli.run",
    "compile": "wasmloom.cli.compile",
    "wast": "wasmloom.cli.wast",
    "validate": "wasmloom.cli.validate",
    "inspect": "wasmloom.cli.inspect",
    "wat2wasm": "wasmloom.cli.convert",
    "wasm2wat": "wasmloom.cli.convert",
}


class _Group(click.Group):
    """A group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name]).COMMANDS[name]
        return command


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from wasmloom import __version__

        click.echo(f"wasmloom {__version__}")
        ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def app() -> None:
    """Run and examine WebAssembly."""


def run_app(arguments: Sequence[str]) -> int:
    """Run the group and return the exit status: 2 for wrong usage, 1 for errors, else what the subcommand says."""
    try:
        status = app.main(arguments, prog_name="wasmloom", standalone_mode=False)
    except CommandError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0
