"""All commands, each imported when it is asked for: `--help` of one does not load the others.

0 is done, 1 failed, 2 wrong usage, 130 interrupted. Results go to stdout, all else to stderr. Commands raise; run.py makes
lines of errors, but for click's own, which are here.
"""

import importlib
from collections.abc import Sequence

import click

from codesync import __version__
from codesync.cli.output import say

__all__ = ["codesync", "invoke"]

# The order people meet them in, not the alphabet's; and the module of each.
_MODULES = {
    "demo": "services",
    "init": "project",
    "push": "remote",
    "status": "look",
    "history": "look",
    "rollback": "remote",
    "logs": "look",
    "mcp": "services",
    "proxy": "services",
    "sidecar": "services",
    "scan": "trees",
    "sync": "trees",
}


class _Group(click.Group):
    """Loads a command when it is looked up, and all when they are to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_MODULES, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (module := _MODULES.get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"codesync.cli.{module}"), cmd_name)
        return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def codesync() -> None:
    """Push code changes into a running remote application, and learn what became of it."""


def _plain(name: str, about: str) -> None:
    """List a command of plain.py, which costs a fifth of what click does; run.py goes there without coming by here."""

    @codesync.command(
        name, help=about, add_help_option=False, context_settings={"ignore_unknown_options": True}
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def _(arguments: tuple[str, ...]) -> int:
        from codesync.cli.run import run

        return run([name, *arguments])


_plain("delta", "Make and apply deltas of files, as rdiff does.")
_plain("batch", "Write, look into and apply what leads from one tree to another.")


def invoke(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit status; wrong usage is a line, errors come out."""
    try:
        with codesync.make_context("codesync", list(argv)) as context:
            result = codesync.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.ClickException as error:
        return _say_usage(error)
    return result if isinstance(result, int) else 0


def _say_usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    path = context.command_path if context else "codesync"
    message = " ".join(error.format_message().split())
    where = path.partition(" ")[2]
    stop = "" if message.endswith((".", "?")) else "."
    return say(f"{where + ': ' if where else ''}{message}{stop} See {path} --help", status=error.exit_code)
