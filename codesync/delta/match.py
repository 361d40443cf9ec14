"""The search: which stretches of a target stand in the basis too, told from the basis's signature alone.

The target is read once, front to back, in bounded memory. After a match the next block of the basis is tried first,
by its strong checksum; only where that fails does the weak checksum roll over the target byte by byte. Where nothing
has matched for long, ever more is left out between stretches as long as a block: a run of blocks shows in any such
stretch, and what was left out of it is found by going back from there. This file knows neither the basis's content nor
how a delta travels.
"""

from collections.abc import Iterable, Iterator
from operator import length_hint

from codesync.delta.checksum import strong, sums
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import READ_SIZE as _READ_SIZE
from codesync.delta.reading import Readable, as_readable, read_fully
from codesync.delta.signature import Signature

_NOWHERE = -1
_PATIENCE = 16  # blocks without a match for each further block that is left out
_FARTHEST = 15  # blocks left out at once, at most


def delta(sig: Signature, target: bytes | Readable) -> Iterator[Op]:
    """The operations that make `target` from the basis of `sig`, in order, as the target is read.

    Neighbouring copies are one `Copy`; a `Literal` has at most 256 KiB, and only the last of a row has less.
    Memory: some 256 KiB and forty blocks of the target, besides the signature.
    """
    file = as_readable(target)
    return _coalesced(_search(_Index(sig), file) if sig.length else _literals(file))


def _literals(file: Readable) -> Iterator[Op]:
    while data := file.read(_READ_SIZE):
        yield Literal(data)


def _coalesced(ops: Iterable[Op]) -> Iterator[Op]:
    copy: Copy | None = None
    pending = bytearray()
    for op in ops:
        if isinstance(op, Literal):
            if copy:
                yield copy
                copy = None
            pending += op.data
            while len(pending) >= MAX_LITERAL:
                yield Literal(bytes(pending[:MAX_LITERAL]))
                del pending[:MAX_LITERAL]
        elif copy and copy.offset + copy.length == op.offset:
            copy = Copy(copy.offset, copy.length + op.length)
        else:
            if copy:
                yield copy
            elif pending:
                yield Literal(bytes(pending))
                pending.clear()
            copy = op
    if copy:
        yield copy
    elif pending:
        yield Literal(bytes(pending))


class _Index:
    """A signature made ready for looking up. A basis shorter than its block size counts as one block of its length."""

    def __init__(self, sig: Signature) -> None:
        self.size = min(sig.block_size, sig.length)
        self.count, self.tail = divmod(
            sig.length, self.size
        )  # blocks of full size; length of the short last one
        self.strong = sig.strong
        self.weak = frozenset(sig.weak[: self.count])
        self.weak_high = frozenset(number >> 16 for number in self.weak)
        # equal blocks: the first stands for all, so the dictionary is filled from the end
        self.block = {sig.strong[block]: block for block in range(self.count - 1, -1, -1)}
        self.leaving = [self.size * byte for byte in range(256)]

    def follow(self, data: bytes, at: int, block: int) -> int:
        """How many blocks, `block` and its successors, stand in `data` from `at` on."""
        size, numbers = self.size, self.strong
        most = min(self.count - block, (len(data) - at) // size)
        for matched in range(most):
            if strong(data[at : at + size]) != numbers[block + matched]:
                return matched
            at += size
        return max(most, 0)

    def precede(self, data: bytes, start: int, at: int, block: int) -> int:
        """How many blocks, the predecessors of `block`, stand in `data` between `start` and `at`, right before `at`."""
        size, matched = self.size, 0
        most = min(block, (at - start) // size)
        while matched < most:
            at -= size
            if strong(data[at : at + size]) != self.strong[block - matched - 1]:
                break
            matched += 1
        return matched

    def is_tail(self, data: bytes, at: int) -> bool:
        """Does the short last block stand in `data` at `at`?"""
        tail = self.tail
        return 0 < tail <= len(data) - at and strong(data[at : at + tail]) == self.strong[self.count]

    def roll(self, data: bytes, at: int, stop: int) -> tuple[int, int]:
        """The first place in `at` … `stop`-1 where some block stands, and which; `(stop, -1)` where none does."""
        a, b = sums(data[at : at + self.size])
        if (b & 0xFFFF) << 16 | a & 0xFFFF in self.weak and (block := self.lookup(data, at)) != _NOWHERE:
            return at, block
        known, known_high, leaving = self.weak, self.weak_high, self.leaving
        last = stop - 1
        entering = iter(data[at + self.size : last + self.size])
        # the hottest loop: a membership test in 16 bits first, as cheap as can be
        for out, in_ in zip(data[at:last], entering, strict=True):
            a += in_ - out
            b += a - leaving[out]
            if b & 0xFFFF in known_high and (b & 0xFFFF) << 16 | a & 0xFFFF in known:
                at = last - length_hint(entering)
                if (block := self.lookup(data, at)) != _NOWHERE:
                    return at, block
        return stop, _NOWHERE

    def lookup(self, data: bytes, at: int) -> int:
        """The block that stands in `data` at `at`, or -1."""
        return self.block.get(strong(data[at : at + self.size]), _NOWHERE)


def _search(index: _Index, file: Readable) -> Iterator[Op]:
    """Literals and copies, in order, not yet coalesced."""
    size = index.size
    room = max(_READ_SIZE, _FARTHEST * size) + 2 * size
    data, ended = b"", False
    start = at = 0  # data[start:at] matches nothing, as far as is known
    block = 0  # what would follow if the target went on as the basis does
    missed = 0  # blocks searched since the last match
    while True:
        if not ended and len(data) - at < 2 * size:
            keep = max(start, at - _FARTHEST * size)
            if start < keep:
                yield Literal(data[start:keep])
            fresh = read_fully(file, room)
            data, start, at, ended = data[keep:] + fresh, 0, at - keep, len(fresh) < room
        if length := _matched(index, data, at, block):
            back = index.precede(data, start, at, block) * size
            if start < at - back:
                yield Literal(data[start : at - back])
            yield Copy(block * size - back, back + length)
            block += -(-length // size)
            start = at = at + length
            missed = 0
        elif len(data) - at < size:
            break
        elif index.follow(data, at + size, block + 1):  # one block edited in its place
            at += size
            block += 1
        else:
            at, found = index.roll(data, at, min(at + size, len(data) - size + 1))
            if found == _NOWHERE:
                missed += 1
                left_out = min(missed // _PATIENCE, _FARTHEST, max(0, len(data) - at - size) // size)
                at += left_out * size
                block += 1 + left_out
            else:
                block = found
    yield from _end(index, data, start, at)


def _matched(index: _Index, data: bytes, at: int, block: int) -> int:
    """Bytes at `at` that are `block` and its successors, among them the short last block."""
    length = index.follow(data, at, block) * index.size
    if block + length // index.size == index.count and index.is_tail(data, at + length):
        length += index.tail
    return length


def _end(index: _Index, data: bytes, start: int, at: int) -> Iterator[Op]:
    """Less than a block is left: it may still end as the basis does."""
    stop = len(data) - index.tail
    if stop < at or not index.is_tail(data, stop):
        stop = len(data)
    if start < stop:
        yield Literal(data[start:stop])
    if stop < len(data):
        yield Copy(index.count * index.size, index.tail)
