"""Loading a manifest of 100,000 entries, and what that takes of memory; the import of the engine."""

import hashlib
import sys
from collections.abc import Iterator

from bench import ours
from bench.job import Job
from bench.measure import Contender, Sample, medians, run
from bench.row import Goal, Row
from bench.setting import Setting
from codesync.delta import Entry, Kind, Manifest

ENTRIES = 100_000
_LOAD, _MEMORY = Goal(0.015, absolute=True), Goal(40_000_000, ("peak",), absolute=True)
_IMPORT = Goal(0.040, absolute=True)
_TIMES = 3
_WORKLOAD = "100,000 entries"
_IMPORTING = """\
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
import codesync.delta
print(process_time() - cpu, perf_counter() - wall)
"""


def jobs(setting: Setting) -> Iterator[Job]:
    """Loading, with and without a look-up, and its memory."""
    yield Job(_WORKLOAD, lambda: _rows(setting))


def _rows(setting: Setting) -> Iterator[Row]:
    packed, path = _packed(setting.size(ENTRIES))
    with setting.place() as place:
        file = place / "manifest"
        file.write_bytes(packed)
        contenders = {
            "load, until the first entry is needed": ours.inside("load", file),
            "load and look up one entry": ours.inside("load", file, path),
        }
        samples = setting.compare(contenders, _TIMES)
        peak = ours.peak("load", file, path)
    for (what, found), goal in zip(samples.items(), (_LOAD, None), strict=True):
        yield Row("manifest", _WORKLOAD, what, medians(found), goal=goal)
    yield Row("manifest", _WORKLOAD, "peak memory, over the idle process", {"peak": peak}, goal=_MEMORY)


def _packed(count: int) -> tuple[bytes, str]:
    """A manifest of so many entries, and a path of it."""
    directories = [
        Entry(b"package%d" % number, Kind.DIRECTORY, 0o755, 10**18) for number in range(count // 50)
    ]
    files = [
        Entry(
            b"package%d/module%d.py" % (number % len(directories), number),
            Kind.FILE,
            0o644,
            10**18 + number,
            number * 7 % 10_000,
            hashlib.sha256(b"%d" % number).digest(),
        )
        for number in range(count - len(directories))
    ]
    return Manifest.of([*directories, *files]).to_bytes(), files[len(files) // 2].path.decode()


def importing(setting: Setting) -> Iterator[Job]:
    """The import in a fresh process, without that process's own start."""
    yield Job("codesync.delta", lambda: [_import(setting)])


def _import(setting: Setting) -> Row:
    def measure() -> Sample:
        cpu, wall = run([sys.executable, "-c", _IMPORTING]).told.split()
        return Sample(float(cpu), float(wall))

    samples = setting.compare({"ours": Contender(measure)}, _TIMES)
    return Row("import", "codesync.delta", "import", medians(samples["ours"]), goal=_IMPORT)
