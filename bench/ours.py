"""The engine as a contender: operations of `bench.process`, and whether what they made is right."""

import sys
from pathlib import Path

from xxhash import xxh3_128

from bench.measure import Contender, Failed, Sample, run
from codesync.delta import DeltaReader, patch

_PIECE = 1 << 20


def command(operation: str, *arguments: str | Path) -> list[str]:
    """The command line that runs an operation of `bench.process` with this Python, in the checkout."""
    return [sys.executable, "-m", "bench.process", operation, *map(str, arguments)]


def process(operation: str, *arguments: str | Path) -> Contender:
    """The operation as a process, from its start to its end."""
    return Contender(lambda: run(command(operation, *arguments)))


def inside(operation: str, *arguments: str | Path) -> Contender:
    """The operation alone, within a process of its own."""

    def measure() -> Sample:
        cpu, wall, _ = _told(run(command(operation, *arguments)))
        return Sample(cpu, wall)

    return Contender(measure)


def peak(operation: str, *arguments: str | Path) -> float:
    """Bytes of memory at most, less those of the idle process."""
    *_, idle = _told(run(command("idle")))
    *_, most = _told(run(command(operation, *arguments)))
    return max(0.0, most - idle)


def _told(sample: Sample) -> tuple[float, float, float]:
    cpu, wall, most = map(float, sample.told.split()[-3:])
    return cpu, wall, most


class _Digest:
    """What is written is digested and dropped."""

    def __init__(self) -> None:
        self.hash = xxh3_128()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)


def check(basis: Path, delta: Path, target: Path) -> None:
    """Raise Failed unless the delta file makes the target of the basis."""
    made = _Digest()
    with basis.open("rb") as old, delta.open("rb") as operations:
        patch(old, DeltaReader(operations), made)  # type: ignore[arg-type]  # nothing but write is used
    if made.hash.digest() != digest(target):
        raise Failed("the delta does not restore the target")


def digest(path: Path) -> bytes:
    """XXH3 of a file's content, 16 bytes."""
    hashed = xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return hashed.digest()
