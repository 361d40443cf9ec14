"""One command line, from its words to an exit status. This is the one place where errors become lines; commands raise.

0 is done, 1 failed, 2 wrong usage, 130 interrupted, 128+n ended by signal n. Results go to stdout, all else to stderr.
"""

import errno
import io
import os
import sys

from codesync.cli import PLAIN
from codesync.cli.output import say
from codesync.cli.place import Ended


def run(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    _fill_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name may stop us from saying what happened
    try:
        status = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return say("interrupted", status=130)
    except Ended as error:
        return say(f"ended by {error}", status=error.status)
    except BrokenPipeError:  # whoever read our output has seen enough
        _discard()
        return 1
    except Exception as error:  # ours are one line; a defect keeps its traceback
        from codesync.wording import error_line

        if (line := error_line(error)) is None:
            raise
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            _discard()
        return say(line, status=1)
    return status


def _fill_closed() -> None:
    """A standard stream that the caller has closed fails when it is used; stderr is not missed."""
    for name, mode, flags in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode))


def _discard() -> None:
    """What stdout has not taken yet goes nowhere, and so is no second error when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> int:
    if argv[:1] in PLAIN:
        from importlib import import_module

        from codesync.cli.plain import invoke as invoke_plain

        return invoke_plain(import_module(f"codesync.cli.{argv[0]}").COMMANDS, argv)
    from codesync.cli.commands import invoke

    return invoke(argv)
