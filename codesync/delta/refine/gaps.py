"""The sender's question: what a first round has left open, and what of the basis to ask about. It knows no checksums."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from codesync.delta.match import search
from codesync.delta.ops import Copy, Literal
from codesync.delta.reading import Readable
from codesync.delta.signature import Signature, default_block_size

MOST_TIMES = 2  # that any byte of the basis may be asked about, on the average
_COARSER = 4
_NEARBY = 8  # blocks between two matches: what a longer stretch holds may well have moved within it
_WORTH = 512  # bytes that a gap or an orphan must have to be asked about
_WORTH_SEARCHING = 4096  # bytes of the target, in all, that orphans are looked for in


class Range(NamedTuple):
    """`length` bytes of the basis, from `offset` on. An `orphan` is looked for everywhere, others in their place."""

    offset: int
    length: int
    orphan: bool = False


class Gap(NamedTuple):
    """`size` bytes of the target, from `start` on, that have not matched, and what stands there in the basis."""

    start: int
    size: int
    basis: Range


class Gaps(NamedTuple):
    """What a first round has left open: gaps, and what of the basis has not been found anywhere."""

    gaps: tuple[Gap, ...]
    orphans: tuple[Range, ...]


def coarse_block_size(length: int) -> int:
    """Bytes per block for a signature that is to be refined: four times `default_block_size`."""
    return _COARSER * default_block_size(length)


def gaps(sig: Signature, target: bytes | Readable) -> Gaps:
    """What the delta from the basis of `sig` to `target` leaves open, as far as it is worth asking about."""
    found: list[Gap] = []
    used: list[tuple[int, int]] = []
    at = start = before = unplaced = 0
    left = (MOST_TIMES - 1) * sig.length  # bytes of the basis that gaps may ask about; orphans come once
    for op in chain(search(sig, target), [Copy(sig.length, 0)]):
        if isinstance(op, Literal):
            at += len(op.data)
            continue
        size, between = at - start, Range(before, op.offset - before)
        if size >= _WORTH and 0 < between.length <= min(2 * size, _NEARBY * sig.block_size, left):
            found.append(Gap(start, size, between))
            used.append((before, op.offset))
            left -= between.length
        elif size >= _WORTH:
            unplaced += size
        at += op.length
        start, before = at, op.offset + op.length
        used.append((op.offset, before))
    if not any(start < stop for start, stop in used):  # nothing in common
        return Gaps((), ())
    return Gaps(tuple(found), tuple(_unused(used, sig.length)) if unplaced >= _WORTH_SEARCHING else ())


def _unused(used: list[tuple[int, int]], length: int) -> Iterator[Range]:
    """What of a basis is in none of these stretches."""
    at = 0
    for start, stop in sorted(used):
        if start - at >= _WORTH:
            yield Range(at, start - at, orphan=True)
        at = max(at, stop)
    if length - at >= _WORTH:
        yield Range(at, length - at, orphan=True)


def ranges(found: Gaps) -> list[Range]:
    """What to ask the remote about."""
    return [*(gap.basis for gap in found.gaps), *found.orphans]
