"""What the command line and the MCP tools tell people: progress and errors, a line each."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from codesync.errors import UserError

if TYPE_CHECKING:
    from codesync.client import Progress

_STAGES = {
    "scan": "reading the tree",
    "wait": "waiting behind another push",
    "delta": "working out what has changed",
    "transfer": "sending",
    "apply": "putting files in place",
    "hook": "running a hook",
    "stop": "stopping the application",
    "start": "starting the application",
    "health": "waiting for the application",
    "commit": "keeping the new tree",
}
_ENDS = {  # of a push that is cancelled
    "cancelling": "undoing the push",
    "cancelled": "the push is undone, the old code runs",
    "kept": "the push was kept before that",
}
_SOON = 0.2  # seconds: a rate over less than that tells nothing
_STEP = 0.001  # less than a tenth of a stage: what keeps a late replica's report ahead of the last one


def error_line(error: BaseException) -> str | None:
    """Return the one line an expected error is worth; None for a defect, which deserves its traceback."""
    from codesync.delta.errors import DeltaError
    from codesync.transaction import TransactionError

    if isinstance(error, ExceptionGroup):  # of tasks: one defect among them makes all of it one
        lines = [error_line(inner) for inner in error.exceptions]
        return None if None in lines else lines[0]
    if isinstance(error, OSError) and error.strerror:
        name = error.filename if isinstance(error.filename, str | bytes) else ""  # it may be a descriptor
        return f"{os.fsdecode(name)}: {error.strerror}" if name else error.strerror
    if isinstance(error, UserError | DeltaError | TransactionError):
        return str(error).removeprefix("codesync: ")  # what a proxy answers over HTTP names its author
    return None


def stage_words(stage: str) -> str:
    """Return a stage of a push in words; one that is not known, as it is called."""
    return _STAGES.get(stage) or _ENDS.get(stage) or stage


class Milestones:
    """Lets through each stage of each replica once, and each further tenth of a long one. `clock` is in seconds."""

    total = float(len(_STAGES))

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sending: tuple[float, int] | None = None  # since when, and what was sent by then
        self._seen: set[tuple[str, str, int]] = set()
        self._position = 0.0

    def line(self, report: "Progress") -> str | None:
        """Return what to tell, None where nothing worth telling has happened."""
        if report.stage == "transfer" and self._sending is None:
            self._sending = (self._clock(), report.done)
        done = report.done / report.total if report.total > 0 else 0.0
        milestone = (report.stage, report.replica, int(done * 10))
        if milestone in self._seen:
            return None
        self._seen.add(milestone)
        self._advance(report.stage, done)
        how_far = f" ({done:.0%})" if report.done > 0 else ""
        if self._sending is not None and report.stage == "transfer":
            how_far = f" {self._sent(report, *self._sending)}"
        return f"{report.replica + ': ' if report.replica else ''}{stage_words(report.stage)}{how_far}"

    def _sent(self, report: "Progress", since: float, sent: int) -> str:
        """How much of how much, the rate since the first report, and how long it takes at that rate."""
        words = [f"{size(report.done)} of {size(report.total)}"]
        spent, further = self._clock() - since, report.done - sent
        if spent >= _SOON and further > 0:
            rate = further / spent
            words.append(f"{size(int(rate))}/s")
            if left := max(0, report.total - report.done):
                words.append(f"{left / rate:.0f} s left")
        return ", ".join(words)

    @property
    def position(self) -> float:
        """How far the last line is, of `total`. It grows with every line, as MCP demands."""
        return self._position

    def _advance(self, stage: str, done: float) -> None:
        reached = list(_STAGES).index(stage) + max(0.0, min(done, 1.0)) if stage in _STAGES else 0.0
        self._position = max(reached, self._position + _STEP)


def size(count: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"
