"""The groups of rows by name, which of them `make bench` measures, and what disk space they need."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.job import Job
from bench.rows import (
    awkward,
    generation,
    growth,
    held,
    manifest,
    patching,
    scanning,
    signing,
    source,
    trees,
    wire,
)
from bench.setting import Setting


class Group(NamedTuple):
    """`full`: only `make bench-full` measures it. `gigabytes`: of the disk, workloads and copies together, at most."""

    about: str
    jobs: Callable[[Setting], Iterator[Job]]
    full: bool = False
    gigabytes: float = 0.3


GROUPS = {
    "generation": Group(
        "signature + delta of 100 MB and of a tar, beside rsync", generation.jobs, gigabytes=1.2
    ),
    "signature": Group("time beside rdiff's, size beside what rsync sends", signing.jobs),
    "wire": Group("bytes both ways when only the remote holds the basis", wire.jobs, gigabytes=0.7),
    "held": Group(
        "bytes of the delta when the sender holds the basis, beside xdelta3", held.jobs, gigabytes=1.2
    ),
    "source": Group("a line in a source file of 50 KB", source.jobs),
    "patch": Group("patching 100 MB, beside rsync and rdiff", patching.jobs, gigabytes=0.8),
    "scan": Group("20,000 files of which none has changed, beside rsync and git", scanning.jobs),
    "tree": Group("scan, delta and batch of 7,000 files, beside rsync", trees.jobs),
    "manifest": Group("loading 100,000 entries", manifest.jobs),
    "import": Group("the import of the engine", manifest.importing),
    "large": Group("signature + delta of 1 GB, beside rsync", generation.large, True, 3.2),
    "awkward": Group(
        "data of low entropy and other stumbling blocks, 13 kinds and SQLite", awkward.jobs, True, 2.0
    ),
    "growth": Group("time, memory and bytes at 1, 10, 100, 1000 MB", growth.jobs, True, 4.5),
}
# programs of their own: the whole chain of a push rather than the engine, with options of their own
PROGRAMS = {
    "push_latency": "from the tool call to healthy, for each way to reload and size of tree",
    "release_push": "one release of Django over the one before, beside rsync",
    "relay_load": "the relay of blue-green under load; needs wrk or hey",
}
