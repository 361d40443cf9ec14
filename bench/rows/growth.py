"""Time and memory of each operation at 1, 10, 100 and 1000 MB, and the delta's size: all of it grows with the file or slower."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import ours
from bench.job import Job
from bench.measure import medians
from bench.row import Figures, Goal, Row
from bench.rows import files
from bench.rows.held import GOALS
from bench.setting import Setting
from bench.workloads import noise
from bench.workloads.pair import Pair, Workload

MEGABYTE = 1_000_000
SIZES = (1, 10, 100, 1000)
_GROUP = "growth"
_TIME = Goal(15, ("cpu",))  # for ten times the size; what fits a processor's cache is faster
_MEMORY = Goal(64_000_000, ("peak",), absolute=True)


def jobs(setting: Setting) -> Iterator[Job]:
    """Each operation at all sizes, patching with a held delta at the largest, and the sizes of held deltas."""
    for operation in ("sign", "generate", "held", "restore"):
        yield Job(_NAMES[operation], partial(_rows, setting, operation))
    yield Job(_HELD_PATCH, lambda: [_held_patch(setting, SIZES[-1])])
    for size in SIZES:
        pair = partial(noise.insertions, setting.store, setting.size(size * MEGABYTE))
        workload = Workload(f"{size} MB, 100 insertions", "edits", pair)
        yield Job(workload.name, partial(files.held, setting, _GROUP, workload, GOALS["edits"]))


_NAMES = {
    "sign": "signature",
    "generate": "signature + delta",
    "held": "delta, basis held",
    "restore": "patch",
}
_HELD_PATCH = "patch, delta of a held basis"


def _rows(setting: Setting, operation: str) -> Iterator[Row]:
    before: Figures = {}
    reference = ""
    for size in SIZES:
        pair = noise.insertions(setting.store, setting.size(size * MEGABYTE))
        with setting.place() as place:
            arguments = _arguments(operation, place, pair)
            samples = setting.compare({"ours": ours.inside(operation, *arguments)})
            peak = ours.peak(operation, *arguments)
        figures, name, what = medians(samples["ours"]), f"{size} MB", _NAMES[operation]
        goal = _TIME if reference else None
        yield Row(_GROUP, name, f"{what}, in process", figures, reference, before, goal)
        yield Row(_GROUP, name, f"{what}, peak memory", {"peak": peak}, goal=_MEMORY)
        before, reference = figures, f"ours, {name}"


def _held_patch(setting: Setting, size: int) -> Row:
    """A delta of windows is patched by other code than one of copies."""
    pair = noise.insertions(setting.store, setting.size(size * MEGABYTE))
    with setting.place() as place:
        delta, out = place / "delta", place / "out"
        ours.process("held", pair.basis, pair.target, delta).run()
        peak = ours.peak("restore", pair.basis, delta, out)
    return Row(_GROUP, f"{size} MB", f"{_HELD_PATCH}, peak memory", {"peak": peak}, goal=_MEMORY)


def _arguments(operation: str, place: Path, pair: Pair) -> tuple[Path, ...]:
    out = place / "out"
    if operation == "sign":
        return pair.basis, out
    if operation == "restore":
        delta = place / "delta"
        ours.process("generate", pair.basis, pair.target, delta).run()
        return pair.basis, delta, out
    return pair.basis, pair.target, out
