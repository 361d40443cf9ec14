"""How far a push is, on stderr: bars on a terminal, lines elsewhere, or nothing. rich is imported only for bars."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from codesync.cli.output import printable
from codesync.wording import Milestones, size, stage_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task, TaskID

    from codesync.client import Progress


class Silent:
    """Says nothing. `end` is what became of a push that was cancelled, as far as that was learnt."""

    def __init__(self) -> None:
        self.end: Progress | None = None

    def __call__(self, report: "Progress") -> None:
        """Take a report of the client."""
        if report.stage in ("cancelled", "kept"):
            self.end = report
        else:
            self.show(report)

    def show(self, report: "Progress") -> None:
        """Show it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was shown only for the time being goes away."""


class Lines(Silent):
    """A line for each stage of each replica, and for each tenth of a long one."""

    def __init__(self) -> None:
        super().__init__()
        self._milestones = Milestones()

    def show(self, report: "Progress") -> None:
        """Print what is new."""
        if line := self._milestones.line(report):
            click.echo(printable(line), err=True)


class Bars(Silent):
    """A row for this machine and one for each replica, gone when the push is over."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn
        from rich.progress import Progress as Rows

        super().__init__()
        self._rows = Rows(_words(), BarColumn(bar_width=24), _numbers(), console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def show(self, report: "Progress") -> None:
        """Move the row on."""
        name, total, done = report.replica, report.total or None, report.done
        where = f"{name}: " if name else ""
        words = printable(f"{where}{stage_words(report.stage)}")
        if name not in self._tasks:
            self._tasks[name] = self._rows.add_task(words, total=total, completed=done, stage=report.stage)
        elif self._task(name).fields["stage"] != report.stage:
            self._task(name).total = None  # a new total is taken by `reset`, but not that there is none
            self._rows.reset(
                self._tasks[name], total=total, completed=done, description=words, stage=report.stage
            )
        self._rows.update(self._tasks[name], total=total, completed=done)

    def _task(self, name: str) -> "Task":
        return next(task for task in self._rows.tasks if task.id == self._tasks[name])

    def __enter__(self) -> Self:
        self._rows.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.stop()


def _words() -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Words(ProgressColumn):
        """The stage; as it is, no markup."""

        def render(self, task: "Task") -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    return Words()


def _numbers() -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Numbers(ProgressColumn):
        """How much of how much, the rate and the time that remains; the time spent where no end is known."""

        def render(self, task: "Task") -> Text:
            words = numbers(
                task.fields.get("stage", ""),
                int(task.completed),
                task.total,
                rate=task.speed,
                left=task.time_remaining,
                spent=task.elapsed,
            )
            return Text(words, no_wrap=True, overflow="ellipsis")

    return Numbers()


def numbers(
    stage: str,
    done: int,
    total: float | None,
    *,
    rate: float | None,
    left: float | None,
    spent: float | None,
) -> str:
    """Return a row's numbers: `rate` a second, `left` and `spent` seconds, None where they are not known."""
    if not total:
        return f"{spent:.0f} s" if spent else ""
    show = size if stage == "transfer" else str
    cells = [f"{show(done)} of {show(int(total))}"]
    if rate and done < total:
        cells.append(f"{show(int(rate))}/s")
    if left:
        cells.append(f"{left:.0f} s left")
    return "  ".join(cells)


def reporter(*, quiet: bool, as_json: bool) -> Silent:
    """Return what fits stderr and the options. Bars are for people: programs that read JSON get lines beside it."""
    if quiet:
        return Silent()
    if not as_json and sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            return Bars(console)
    return Lines()
