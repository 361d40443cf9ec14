"""Runs of equal bytes: where they begin and end, found at the speed of memory. This file knows bytes only.

A run of `LONG` bytes fills, wherever it lies, one of the cells of `CELL` bytes that data is cut into. So a look at the
first and the last byte of each cell tells nearly all that matters, and those two are slices with a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CELL = 128
LONG = 2 * CELL - 1
_STRIDE = 1 << 16


class Run(NamedTuple):
    """`data[start:stop]` is one byte again and again. An edge is sharp where another byte is known to be beside it."""

    start: int
    stop: int
    starts_sharp: bool
    stops_sharp: bool


def runs(data: bytearray | bytes, at: int, stop: int, first: int, last: int) -> Iterator[Run]:
    """Every run of at least `LONG` bytes that begins in `data[at:stop]`, and some shorter ones, in order.

    They may go on behind `stop`; only `data[first:last]` is looked at.
    """
    heads = data[at : stop + CELL - 1 : CELL]
    tails = data[at + CELL - 1 : last : CELL]
    done = at
    for number in [cell for cell, (head, tail) in enumerate(zip(heads, tails, strict=False)) if head == tail]:
        place = at + number * CELL
        byte = data[place : place + 1]
        if place < done or data[place : place + CELL] != byte * CELL:
            continue
        earliest = max(first, done, place - CELL)
        start = earliest + len(bytes(data[earliest:place]).rstrip(byte))
        if start >= stop:
            break
        done = _end(data, place + CELL, last, byte)
        yield Run(start, done, start > earliest, done < last)


def _end(data: bytearray | bytes, at: int, last: int, byte: bytes | bytearray) -> int:
    """Where the run of `byte` that goes up to `at` comes to its end."""
    step = CELL
    while at + step <= last and data[at : at + step] == byte * step:
        at += step
        step = min(2 * step, _STRIDE)
    rest = data[at : min(at + step, last)]
    return at + len(rest) - len(rest.lstrip(byte))
