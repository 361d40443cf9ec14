"""Commands that are to be over at once: read by argparse, since importing click takes longer than patching 100 MB.

They look like the others: `--help` ends with an example, wrong usage is one line and exit status 2.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from codesync.cli.output import say
from codesync.cli.place import endable


class UsageError(Exception):
    """Wrong usage that only the command itself can see; the message is one sentence without its end."""


class Plain(NamedTuple):
    """One command: its line of arguments, what it does, how its parser is filled, what runs it, examples."""

    usage: str
    about: str
    fill: Callable[[argparse.ArgumentParser], object]
    run: Callable[[Any], int | None]
    examples: tuple[str, ...]


def invoke(commands: Mapping[str, Plain], argv: Sequence[str]) -> int:
    """Run `argv`, the group's name first, by one of `commands`."""
    group, *rest = argv
    name = rest[0] if rest else ""
    path = f"codesync {group}"
    if name in ("-h", "--help"):
        print(_group_help(path, commands))
        return 0
    if not name:
        print(_group_help(path, commands), file=sys.stderr)
        return 2
    if name not in commands:
        return _say_usage(path, f"No such command {name!r}")
    path = f"{path} {name}"
    try:
        parser = _parser(path, commands[name])
        arguments = parser.parse_intermixed_args(rest[1:])
        with endable():
            return commands[name].run(arguments) or 0
    except UsageError as error:
        return _say_usage(path, str(error))
    except SystemExit:  # --help has been printed
        return 0


def _say_usage(path: str, message: str) -> int:
    return say(f"{path.partition(' ')[2]}: {message}. See {path} --help", status=2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)  # looking for the terminal's takes longer than all the rest

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: ")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].upper() + message[1:])


def _parser(path: str, command: Plain) -> argparse.ArgumentParser:
    lines = "".join(f"\n  {line}" for line in command.examples)
    parser = _Parser(
        path,
        usage=f"{path} {command.usage}",
        description=command.about,
        epilog=f"Example:{lines}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    command.fill(parser)
    return parser


def _group_help(path: str, commands: Mapping[str, Plain]) -> str:
    rows = [f"  {name:<11}{command.about.partition(chr(10))[0]}" for name, command in commands.items()]
    example = next(iter(commands.values())).examples[0]
    return "\n".join(
        [f"Usage: {path} COMMAND [ARGS]...", "", "Commands:", *rows, "", "Example:", f"  {example}"]
    )
