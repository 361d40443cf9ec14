"""Bytes on the wire when only the other side holds the basis: the signature one way and the delta the other."""

from collections.abc import Iterator
from functools import partial

from bench.job import Job
from bench.row import Goal, Row, Unavailable
from bench.rows import files
from bench.rows.generation import SIZE
from bench.setting import Setting
from bench.workloads import noise, trees
from bench.workloads.pair import Pair, Workload

_GROUP = "wire"
_TEXT, _TWO_ROUNDS = Goal(0.85, ("bytes",)), Goal(0.1, ("bytes",))
_INSERTIONS = "100 insertions of 10 bytes"


def jobs(setting: Setting) -> Iterator[Job]:
    texts = trees.tar_workloads(setting.store, not setting.quick)
    for workload in [*texts, trees.source_workload(setting.store, not setting.quick)]:
        yield Job(workload.name, partial(_text, setting, workload))
    insertions = partial(noise.insertions, setting.store, setting.size(SIZE))
    yield Job(_INSERTIONS, lambda: [_one(setting, insertions())])
    yield Job(f"{_INSERTIONS}, two rounds", lambda: [_two(setting, insertions())])


def _text(setting: Setting, workload: Workload) -> Iterator[Row]:
    pair = workload.pair()
    figures = {"bytes": files.one_round(setting, pair)}
    theirs = files.total(files.traffic(setting, pair, "-z"))
    yield Row(_GROUP, workload.name, "signature + delta, one round", figures, "rsync -z", theirs, _TEXT)


def _one(setting: Setting, pair: Pair) -> Row:
    figures = {"bytes": files.one_round(setting, pair)}
    theirs = files.total(files.traffic(setting, pair))
    return Row(_GROUP, _INSERTIONS, "signature + delta, one round", figures, "rsync", theirs)


def _two(setting: Setting, pair: Pair) -> Row:
    figures = {"bytes": two_rounds(pair)}
    theirs = files.total(files.traffic(setting, pair))
    return Row(_GROUP, _INSERTIONS, "signatures + deltas, two rounds", figures, "rsync", theirs, _TWO_ROUNDS)


def two_rounds(pair: Pair) -> float:
    """Bytes both ways with large blocks first, and small ones around what they did not find."""
    raise Unavailable("the engine has no second round yet")
