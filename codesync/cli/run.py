"""One command line, from its words to an exit status. This is the one place where errors become lines; commands raise.

0 is done, 1 failed, 2 wrong usage, 130 interrupted. Results go to stdout, all else to stderr.
"""

import io
import os
import sys

from codesync.cli import PLAIN
from codesync.cli.output import say


def run(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name may stop us from saying what happened
    try:
        status = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return say("interrupted", status=130)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # ours are one line; a defect keeps its traceback
        from codesync.wording import error_line

        if (line := error_line(error)) is None:
            raise
        return say(line, status=1)
    return status


def _run(argv: list[str]) -> int:
    if argv[:1] in PLAIN:
        from importlib import import_module

        from codesync.cli.plain import invoke as invoke_plain

        return invoke_plain(import_module(f"codesync.cli.{argv[0]}").COMMANDS, argv)
    from codesync.cli.commands import invoke

    return invoke(argv)
