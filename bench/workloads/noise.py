"""Random bytes, which nothing can compress: of a basis only what is found there need not be sent."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bench.workloads.pair import Pair, Workload
from bench.workloads.store import Store

_PIECES = 100  # a file is made in so many, and each gets one insertion
_INSERTED = 10
_EVEN = 64 * 1024


def _pieces(size: int, seed: int) -> Iterator[bytes]:
    for number in range(_PIECES):
        length = size * (number + 1) // _PIECES - size * number // _PIECES
        yield random.Random(seed * 1_000_003 + number).randbytes(length)


def _write(size: int, seed: int, file: BinaryIO) -> None:
    file.writelines(_pieces(size, seed))


def _write_insertions(size: int, file: BinaryIO) -> None:
    chance = random.Random(3)
    for piece in _pieces(size, 1):
        at = chance.randrange(len(piece))
        file.writelines([piece[:at], chance.randbytes(_INSERTED), piece[at:]])


def basis(store: Store, size: int) -> Path:
    """So many random bytes."""
    return store.file(f"noise-{size}", partial(_write, size, 1))


def insertions(store: Store, size: int) -> Pair:
    """100 insertions of 10 bytes, whatever the size."""
    return Pair(basis(store, size), store.file(f"noise-{size}-insertions", partial(_write_insertions, size)))


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _shuffled(lengths: Callable[[random.Random], int], data: bytes) -> bytes:
    chance = random.Random(5)
    pieces, at = [], 0
    while at < len(data):
        length = lengths(chance)
        pieces.append(data[at : at + length])
        at += length
    chance.shuffle(pieces)
    return b"".join(pieces)


def workloads(store: Store, size: int) -> list[Workload]:
    """The seven of a binary file of `size` bytes."""

    def made(name: str, make: Callable[[bytes], bytes]) -> Pair:
        old = basis(store, size)
        return Pair(old, store.file(f"noise-{size}-{name}", lambda file: file.write(make(old.read_bytes()))))

    def odd(chance: random.Random) -> int:
        return min(size // 10, chance.randrange(5_001, 100_000, 2))

    def nothing() -> Pair:
        return Pair(basis(store, size), store.file(f"noise-{size}-other", partial(_write, size, 2)))

    even = partial(_shuffled, lambda _: min(size // 10, _EVEN))
    return [
        Workload("unchanged", "edits", lambda: Pair(basis(store, size), basis(store, size))),
        Workload("one byte changed", "edits", lambda: made("changed", _changed)),
        Workload("100 insertions of 10 bytes", "edits", lambda: insertions(store, size)),
        Workload("one byte prepended", "edits", lambda: made("prepended", lambda data: b"x" + data)),
        Workload("64 KiB pieces shuffled", "moves", lambda: made("shuffled", even)),
        Workload("odd pieces shuffled", "moves", lambda: made("shuffled-odd", partial(_shuffled, odd))),
        Workload("nothing in common", "nothing", nothing),
    ]
