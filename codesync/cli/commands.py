"""All commands: parse, call, print, and turn every outcome into an exit status.

0 is done, 1 failed, 2 wrong usage, 130 interrupted. Results go to stdout, all else to stderr. This is the one
place where errors become lines; commands raise. Nothing heavy is imported before a command asks for it.
"""

import io
import os
import sys
from collections.abc import Sequence

import click

from codesync import __version__
from codesync.cli.look import history, logs, status
from codesync.cli.output import say
from codesync.cli.project import init
from codesync.cli.remote import push, rollback
from codesync.cli.services import demo, mcp, proxy, sidecar
from codesync.cli.trees import scan, sync
from codesync.wording import error_line

__all__ = ["codesync", "run"]


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """The order people meet them in, not the alphabet's."""
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def codesync() -> None:
    """Push code changes into a running remote application, and learn what became of it."""


for _command in (demo, init, push, status, history, rollback, logs, mcp, proxy, sidecar, scan, sync):
    codesync.add_command(_command)


def run(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name may stop us from saying what happened
    try:
        status = _run(list(argv))
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return say("interrupted", status=130)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        return _say_usage(error)
    except Exception as error:  # ours are one line; a defect keeps its traceback
        if (line := error_line(error)) is None:
            raise
        return say(line, status=1)
    return status


def _run(argv: list[str]) -> int:
    try:
        with codesync.make_context("codesync", argv) as context:
            result = codesync.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
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
