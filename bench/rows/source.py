"""A source file of 50 KB, one line edited, its basis held: opening, delta, writing, all in this process."""

from collections.abc import Iterator
from pathlib import Path

from bench import ours
from bench.job import Job
from bench.measure import Contender, call, medians
from bench.row import Goal, Row
from bench.rows import files
from bench.rows.held import GOALS
from bench.setting import Setting
from bench.workloads import trees
from bench.workloads.pair import Pair
from codesync.delta import write_delta

_GROUP = "source"
_TIMES = 40  # it takes less than a thousandth of a second
_TIME, _SIZE = Goal(0.0006, absolute=True), Goal(100, ("bytes",), absolute=True)
_WHAT = "delta, basis held, in process with file I/O"


def jobs(setting: Setting) -> Iterator[Job]:
    """The delta by itself, and its size beside xdelta3's."""
    workload = trees.source_workload(setting.store, not setting.quick)
    yield Job(workload.name, lambda: _alone(setting, workload.name, workload.pair()))
    yield Job(workload.name, lambda: files.held(setting, _GROUP, workload, GOALS["edits"]))


def _alone(setting: Setting, name: str, pair: Pair) -> Iterator[Row]:
    with setting.place() as place:
        out = place / "delta"
        contenders = {"ours": Contender(lambda: call(lambda: _delta(pair, out)))}
        figures = medians(setting.compare(contenders, _TIMES)["ours"])
        ours.check(pair.basis, out, pair.target)
        size = {"bytes": out.stat().st_size}
    yield Row(_GROUP, name, _WHAT, figures, goal=_TIME)
    yield Row(_GROUP, name, "delta, basis held", size, goal=_SIZE)


def _delta(pair: Pair, out: Path) -> None:
    with pair.basis.open("rb") as basis, pair.target.open("rb") as target, out.open("wb") as file:
        write_delta(file, basis, target)
