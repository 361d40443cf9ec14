"""Random bytes, which nothing can compress: of a basis only what is found there need not be sent."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bench.workloads.pair import Pair, Workload
from bench.workloads.store import Store

_PIECES = 100  # a file is made in so many, and each gets as many insertions
_INSERTED = 10
_EVEN = 64 * 1024


def _pieces(size: int, seed: int) -> Iterator[bytes]:
    for number in range(_PIECES):
        length = size * (number + 1) // _PIECES - size * number // _PIECES
        yield random.Random(seed * 1_000_003 + number).randbytes(length)


def _write(size: int, seed: int, file: BinaryIO) -> None:
    file.writelines(_pieces(size, seed))


def _write_insertions(size: int, count: int, file: BinaryIO) -> None:
    chance = random.Random(3)
    for piece in _pieces(size, 1):
        last = 0
        for at in sorted(chance.randrange(len(piece)) for _ in range(count // _PIECES)):
            file.writelines([piece[last:at], chance.randbytes(_INSERTED)])
            last = at
        file.write(piece[last:])


def basis(store: Store, size: int) -> Path:
    """So many random bytes."""
    return store.file(f"noise-{size}", partial(_write, size, 1))


def insertions(store: Store, size: int, count: int = _PIECES) -> Pair:
    """100 insertions of 10 bytes, or another multiple of 100, whatever the size."""
    name = f"noise-{size}-insertions" if count == _PIECES else f"noise-{size}-insertions-{count}"
    return Pair(basis(store, size), store.file(name, partial(_write_insertions, size, count)))


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


def _shuffled_even(data: bytes) -> bytes:
    return _shuffled(lambda _: min(len(data) // 10, _EVEN), data)


def _moved(data: bytes) -> bytes:
    start, end, to = (len(data) * tenths // 10 for tenths in (2, 3, 7))
    return data[:start] + data[end:to] + data[start:end] + data[to:]


def _made(store: Store, size: int, name: str, make: Callable[[bytes], bytes]) -> Pair:
    old = basis(store, size)
    return Pair(old, store.file(f"noise-{size}-{name}", lambda file: file.write(make(old.read_bytes()))))


def moves(store: Store, size: int, label: str) -> list[Workload]:
    """A binary file of `size` bytes, which the names tell as `label`: its pieces shuffled, and a tenth of it moved."""
    made = partial(_made, store, size)
    return [
        Workload(f"64 KiB pieces shuffled, {label}", "moves", lambda: made("shuffled", _shuffled_even)),
        Workload(f"a tenth moved, {label}", "moves", lambda: made("moved", _moved)),
    ]


def workloads(store: Store, size: int) -> list[Workload]:
    """The seven of a binary file of `size` bytes."""
    made = partial(_made, store, size)

    def odd(chance: random.Random) -> int:
        return min(size // 10, chance.randrange(5_001, 100_000, 2))

    def nothing() -> Pair:
        return Pair(basis(store, size), store.file(f"noise-{size}-other", partial(_write, size, 2)))

    return [
        Workload("unchanged", "edits", lambda: Pair(basis(store, size), basis(store, size))),
        Workload("one byte changed", "edits", lambda: made("changed", _changed)),
        Workload("100 insertions of 10 bytes", "edits", lambda: insertions(store, size)),
        Workload("one byte prepended", "edits", lambda: made("prepended", lambda data: b"x" + data)),
        Workload("64 KiB pieces shuffled", "moves", lambda: made("shuffled", _shuffled_even)),
        Workload("odd pieces shuffled", "moves", lambda: made("shuffled-odd", partial(_shuffled, odd))),
        Workload("nothing in common", "nothing", nothing),
    ]
