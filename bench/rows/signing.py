"""A signature: how long it takes beside rdiff's, and how large it is beside what rsync sends in its place."""

from collections.abc import Iterator

from bench import ours
from bench.job import Job
from bench.measure import medians
from bench.row import Goal, Row
from bench.rows import files
from bench.rows.generation import SIZE
from bench.setting import Setting
from bench.workloads import noise
from bench.workloads.pair import Pair

_BLOCK = "8192"
_GROUP = "signature"
_TIME, _SIZE = Goal(0.15), Goal(1.5, ("bytes",))


def jobs(setting: Setting) -> Iterator[Job]:
    """Time and size, of noise of 100 MB."""
    yield Job("100 MB", lambda: [_time(setting), _size(setting)])


def _time(setting: Setting) -> Row:
    basis = noise.basis(setting.store, setting.size(SIZE))
    with setting.place() as place:
        made = place / "rdiff-signature"
        contenders = {
            "ours": ours.inside("sign", basis, place / "signature", _BLOCK),
            "rdiff": setting.references.contender(
                "rdiff", "-b", _BLOCK, "signature", basis, made, prepare=lambda: made.unlink(missing_ok=True)
            ),
        }
        samples = setting.compare(contenders)
    what = "signature, 8 KiB blocks, in process"
    return Row(_GROUP, "100 MB", what, medians(samples["ours"]), "rdiff", medians(samples["rdiff"]), _TIME)


def _size(setting: Setting) -> Row:
    basis = noise.basis(setting.store, setting.size(SIZE))
    with setting.place() as place:
        out = place / "signature"
        ours.process("sign", basis, out).run()
        figures = {"bytes": out.stat().st_size}
    found = files.traffic(setting, Pair(basis, basis))
    theirs = {"bytes": found.received} if found else {}
    return Row(_GROUP, "100 MB", "signature, beside rsync's checksums", figures, "rsync", theirs, _SIZE)
