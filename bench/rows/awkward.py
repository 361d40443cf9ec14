"""Data on which an engine stumbles, each kind with 50 edits and with nothing in common: never worse than rsync, whatever it is."""

from collections.abc import Iterator
from functools import partial

from bench.job import Job
from bench.row import Goal, Row
from bench.rows import files
from bench.setting import Setting
from bench.workloads import awkward
from bench.workloads.pair import Workload

_GROUP = "awkward"
_TIME, _WIRE, _HELD = Goal(0.9), Goal(1.0, ("bytes",)), Goal(2.0, ("bytes",))


def jobs(setting: Setting) -> Iterator[Job]:
    """Each kind twice: time, bytes on the wire, and the delta's with the basis held."""
    for workload in awkward.workloads(setting.store, setting.size):
        yield Job(workload.name, partial(_rows, setting, workload))


def _rows(setting: Setting, workload: Workload) -> Iterator[Row]:
    yield from files.generation(setting, _GROUP, workload, _TIME, None)
    pair = workload.pair()
    figures = {"bytes": files.one_round(setting, pair)}
    for flags, goal in (((), _WIRE), (("-z",), None)):  # our deltas are packed, of rsync's only those of -z
        theirs, reference = files.total(files.traffic(setting, pair, *flags)), " ".join(("rsync", *flags))
        yield Row(_GROUP, workload.name, "signature + delta, on the wire", figures, reference, theirs, goal)
    yield from files.held(setting, _GROUP, workload, _HELD)
