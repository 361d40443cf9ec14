"""Signature and delta together, beside rsync's batch: files of 100 MB, a tar, and one of 1 GB."""

from collections.abc import Iterator
from functools import partial

from bench.job import Job
from bench.row import Goal
from bench.rows import files
from bench.setting import Setting
from bench.workloads import noise, trees
from bench.workloads.pair import Workload

SIZE = 100_000_000
LARGE = 1_000_000_000
_PROCESS, _IN_PROCESS = Goal(0.20, ("cpu",)), Goal(0.12, ("cpu",))
_NOTHING = Goal(0.25, ("cpu",))
_TAR = Goal(0.9)  # of the table's limits the one for data of any kind


def jobs(setting: Setting) -> Iterator[Job]:
    """Noise of 100 MB changed in seven ways, and the tar changed in two."""
    for workload in noise.workloads(setting.store, setting.size(SIZE)):
        goals = (_NOTHING, _NOTHING) if workload.kind == "nothing" else (_PROCESS, _IN_PROCESS)
        yield Job(workload.name, partial(files.generation, setting, "generation", workload, *goals))
    for workload in trees.tar_workloads(setting.store, not setting.quick):
        yield Job(workload.name, partial(files.generation, setting, "generation", workload, _TAR, None))


def large(setting: Setting) -> Iterator[Job]:
    """1 GB; its memory is in the group `growth`."""
    size = setting.size(LARGE)
    workload = Workload("1 GB, 100 insertions", "edits", lambda: noise.insertions(setting.store, size))
    yield Job(workload.name, partial(files.generation, setting, "large", workload, _PROCESS, _IN_PROCESS))
