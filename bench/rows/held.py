"""The size of a delta when the sender still holds the basis, beside xdelta3 with its defaults."""

from collections.abc import Iterator
from functools import partial

from bench.job import Job
from bench.row import Goal
from bench.rows import files
from bench.rows.generation import SIZE
from bench.setting import Setting
from bench.workloads import noise, trees

GOALS = {"edits": Goal(1.0, ("bytes",)), "moves": Goal(1.1, ("bytes",)), "nothing": None}


_MEGABYTE = 1_000_000
_SMALLER = (1, 10)  # MB


def jobs(setting: Setting) -> Iterator[Job]:
    """Noise of 100 MB and the tar, and moves in less, where what an operation costs is more of the whole."""
    workloads = noise.workloads(setting.store, setting.size(SIZE))
    workloads += trees.tar_workloads(setting.store, not setting.quick)
    for size in _SMALLER:
        workloads += noise.moves(setting.store, setting.size(size * _MEGABYTE), f"{size} MB")
    for workload in workloads:
        yield Job(workload.name, partial(files.held, setting, "held", workload, GOALS[workload.kind]))
