"""Patching 100 MB, the result's digest verified, beside rsync and rdiff with deltas of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from bench import ours
from bench.job import Job
from bench.measure import Contender, medians
from bench.row import Goal, Row
from bench.rows import files
from bench.rows.generation import SIZE
from bench.setting import Setting
from bench.workloads import noise
from bench.workloads.pair import Pair

_WORKLOAD = "100 MB, 100 insertions"
_GOALS = {"rsync --read-batch": Goal(0.3), "rdiff patch": Goal(1.1)}


def jobs(setting: Setting) -> Iterator[Job]:
    """One delta, patched by each."""
    pair = noise.insertions
    yield Job(_WORKLOAD, lambda: _rows(setting, pair(setting.store, setting.size(SIZE))))


def _rows(setting: Setting, pair: Pair) -> Iterator[Row]:
    with setting.place() as place:
        delta, out = place / "delta", place / "out"
        ours.process("generate", pair.basis, pair.target, delta).run()
        ours.check(pair.basis, delta, pair.target)
        mine, inside = (make("restore", pair.basis, delta, out) for make in (ours.process, ours.inside))

        def remove() -> None:
            out.unlink(missing_ok=True)

        contenders = {
            "ours": Contender(mine.run, remove),
            "inside": Contender(inside.run, remove),
            "rsync --read-batch": _rsync(setting, place, pair),
            "rdiff patch": _rdiff(setting, place, pair),
        }
        samples = setting.compare(contenders)
    for name, goal in _GOALS.items():
        theirs = medians(samples[name])
        yield Row("patch", _WORKLOAD, "patch", medians(samples["ours"]), name, theirs, goal)
        yield Row("patch", _WORKLOAD, "patch, in process", medians(samples["inside"]), name, theirs)


def _rsync(setting: Setting, place: Path, pair: Pair) -> Contender | None:
    """It patches a directory in its place: each time a fresh copy."""
    source, destination = files.sides(place, pair)
    batch, copy = place / "batch", place / "copy"
    write = setting.references.rsync_batch(source, destination, batch)
    if write is not None:
        write.run()

    def prepare() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        shutil.copy2(pair.basis, copy / "file")

    return setting.references.contender("rsync", "-a", f"--read-batch={batch}", f"{copy}/", prepare=prepare)


def _rdiff(setting: Setting, place: Path, pair: Pair) -> Contender | None:
    signature, delta, out = (place / f"rdiff-{name}" for name in ("signature", "delta", "out"))
    references = setting.references
    if references.told("rdiff", "signature", pair.basis, signature) is not None:
        references.told("rdiff", "delta", signature, pair.target, delta)
    return references.contender(
        "rdiff", "patch", pair.basis, delta, out, prepare=lambda: out.unlink(missing_ok=True)
    )
