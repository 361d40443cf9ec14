"""Bytes on the wire when only the other side holds the basis: the signature one way and the delta the other."""

from collections.abc import Callable, Iterator
from functools import partial

from bench.job import Job
from bench.row import Goal, Row
from bench.rows import files
from bench.rows.generation import SIZE
from bench.setting import Setting
from bench.workloads import noise, trees
from bench.workloads.pair import Pair

_GROUP = "wire"
_TEXT, _FEW = Goal(0.85, ("bytes",)), Goal(0.1, ("bytes",))
_INSERTIONS = "100 insertions of 10 bytes"
_MANY = "300 insertions of 10 bytes, 10 MB"
_MANY_SIZE = 10_000_000


def jobs(setting: Setting) -> Iterator[Job]:
    """Text beside `rsync -z`; noise, with few edits and with many, beside rsync."""
    texts = trees.tar_workloads(setting.store, not setting.quick)
    for workload in [*texts, trees.source_workload(setting.store, not setting.quick)]:
        yield Job(workload.name, partial(_rows, setting, workload.name, workload.pair, _TEXT, "-z"))
    insertions = partial(noise.insertions, setting.store, setting.size(SIZE))
    yield Job(_INSERTIONS, partial(_rows, setting, _INSERTIONS, insertions, _FEW))
    many = partial(noise.insertions, setting.store, setting.size(_MANY_SIZE), 300)
    yield Job(_MANY, partial(_rows, setting, _MANY, many, None))


def _rows(
    setting: Setting, name: str, make: Callable[[], Pair], goal: Goal | None, *flags: str
) -> Iterator[Row]:
    """One round and two beside rsync, which has one; the better of the two has the goal to reach."""
    pair = make()
    theirs = files.total(files.traffic(setting, pair, *flags))
    rsync = " ".join(("rsync", *flags))
    one, two = files.one_round(setting, pair), files.two_rounds(setting, pair)
    for what, wire in (("one round", one), ("two rounds", two)):
        judged = goal if wire == min(one, two) else None
        yield Row(_GROUP, name, f"signature + delta, {what}", {"bytes": wire}, rsync, theirs, judged)
