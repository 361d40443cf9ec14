"""What is asked of a pair of files, whichever it is: generation beside rsync, bytes on the wire, the delta of who holds the basis."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgpack

from bench import ours
from bench.measure import medians
from bench.references import Traffic
from bench.row import Goal, Row
from bench.setting import Setting
from bench.workloads.pair import Pair, Workload
from codesync.delta.patch import write_delta
from codesync.delta.refine import Refined, coarse_block_size, details, gaps, ranges
from codesync.delta.signature import signature


def sides(place: Path, pair: Pair) -> tuple[Path, Path]:
    """Two directories, in each a file of the same name: the target in the first, the basis in the second."""
    source, destination = place / "source", place / "destination"
    for directory, file in ((source, pair.target), (destination, pair.basis)):
        directory.mkdir()
        os.link(file, directory / "file")
    return source, destination


def generation(
    setting: Setting, group: str, workload: Workload, process: Goal | None, in_process: Goal | None
) -> Iterator[Row]:
    """Signature and delta: as a process and, where there is a goal for it, in process."""
    pair = workload.pair()
    with setting.place() as place:
        source, destination = sides(place, pair)
        out = place / "delta"
        contenders = {
            "ours": ours.process("generate", pair.basis, pair.target, out),
            "inside": ours.inside("search", pair.basis, pair.target) if in_process else None,
            "rsync": setting.references.rsync_batch(source, destination, place / "batch"),
        }
        samples = setting.compare(contenders)
        ours.check(pair.basis, out, pair.target)
    theirs = medians(samples["rsync"])
    what = "signature + delta"
    row = Row(group, workload.name, what, medians(samples["ours"]), "rsync", theirs, process)
    yield row
    if in_process:
        inside = medians(samples["inside"])
        yield Row(group, workload.name, f"{what}, in process", inside, "rsync", theirs, in_process)


def one_round(setting: Setting, pair: Pair) -> float:
    """Bytes of the signature that goes one way and of the delta that comes back."""
    with setting.place() as place:
        signature, delta = place / "signature", place / "delta"
        ours.process("sign", pair.basis, signature).run()
        ours.process("generate", pair.basis, pair.target, delta).run()
        ours.check(pair.basis, delta, pair.target)
        return signature.stat().st_size + delta.stat().st_size


def two_rounds(setting: Setting, pair: Pair) -> float:
    """Bytes of all four messages: a signature of large blocks, the ranges that are asked about, their details, the delta."""
    with setting.place() as place, open(pair.basis, "rb") as basis, open(pair.target, "rb") as target:
        sig = signature(basis, coarse_block_size(pair.basis.stat().st_size))
        open_ends = gaps(sig, target)
        asked = ranges(open_ends)
        answer = details(basis, asked)
        target.seek(0)
        out = place / "delta"
        with open(out, "wb") as file:
            write_delta(file, Refined(sig, open_ends, answer), target)
        ours.check(pair.basis, out, pair.target)
        question = msgpack.packb([tuple(wanted) for wanted in asked])
        return len(sig.to_bytes()) + len(question) + len(answer.to_bytes()) + out.stat().st_size


def traffic(setting: Setting, pair: Pair, *flags: str) -> Traffic | None:
    """What two rsyncs say they sent each other; None where it is missing."""
    with setting.place() as place:
        source, destination = sides(place, pair)
        (destination / "file").unlink()  # the transfer changes it
        shutil.copy(pair.basis, destination / "file")
        return setting.references.rsync_traffic(source, destination, *flags)


def total(found: Traffic | None) -> Mapping[str, float]:
    """Both directions as a row's figures."""
    return {"bytes": sum(found)} if found else {}


def held(setting: Setting, group: str, workload: Workload, goal: Goal | None) -> Iterator[Row]:
    """The size of the delta of who holds the basis, beside xdelta3's."""
    pair = workload.pair()
    with setting.place() as place:
        out = place / "delta"
        ours.process("held", pair.basis, pair.target, out).run()
        ours.check(pair.basis, out, pair.target)
        theirs = setting.references.xdelta3_bytes(pair.basis, pair.target, place / "vcdiff")
        figures = {"bytes": out.stat().st_size}
    yield Row(group, workload.name, "delta, basis held", figures, "xdelta3", theirs, goal)
