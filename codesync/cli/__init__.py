"""`codesync …`: Ctrl-C is one line and exit status 130, from the first import to the last word.

Nothing is imported here before `main` can answer for it. run.py has the rest.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from codesync.cli.commands import codesync

__all__ = ["codesync", "main"]

INTERRUPTED = 130
PLAIN = (
    ["delta"],
    ["batch"],
)  # commands that take less time than python needs to end as it should, see plain.py


def __getattr__(name: str) -> object:
    """`codesync`, the group of all commands, is loaded when it is asked for."""
    if name != "codesync":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from codesync.cli import commands

    return commands.codesync


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status; without `argv` that of this process."""
    if argv is not None:
        from codesync.cli.run import run

        with _interruptible_again():
            return run(list(argv))
    try:
        from codesync.cli.run import run

        status = run(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is done, whatever comes while the process ends
    except KeyboardInterrupt:  # before or behind what `run` answers for
        os.write(2, b"codesync: interrupted\n")
        status = INTERRUPTED
    if status == INTERRUPTED or sys.argv[1:2] in PLAIN:
        _leave(status)
    return status


def _leave(status: int) -> NoReturn:
    """End at once. After Ctrl-C python itself would end by the signal if that had interrupted code compiled at run time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError):  # whoever read our output has gone
        sys.stdout.flush()
    os._exit(status)


@contextmanager
def _interruptible_again() -> Iterator[None]:
    """A push that has ended ignores Ctrl-C; a caller that goes on does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
