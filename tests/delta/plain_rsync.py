"""The rsync algorithm (Tridgell and Mackerras, "The rsync algorithm", 1996) as plainly as can be, to judge a better one by.

It holds the whole basis, so that equal blocks are equal bytes and no strong checksum is needed. At each place, from the
left: is the block here that follows the one matched last; if not, is any; if not, this byte is a literal. As in rsync the
short last block is only looked for where the target has as many bytes left. It shares no code with the engine.
"""

from collections import defaultdict
from operator import mul

from codesync.delta import Copy, Literal


def plain_weak(block: bytes) -> tuple[int, int]:
    """The two sums of the definition."""
    return sum(block) % 65536, sum(map(mul, block, range(len(block), 0, -1))) % 65536


def plain_delta(basis: bytes, target: bytes, size: int) -> list[Copy | Literal]:
    """The operations that make `target`, by blocks of `size` bytes: one for each block, one for each row of literals."""
    blocks = [basis[at : at + size] for at in range(0, len(basis), size)]
    known: dict[tuple[int, int], dict[bytes, int]] = defaultdict(dict)
    for number in reversed(range(len(blocks))):
        known[plain_weak(blocks[number])][blocks[number]] = number
    ops: list[Copy | Literal] = []
    start = at = 0  # of the literals that have no operation yet; of the window
    following = len(blocks)
    sums: tuple[int, int] | None = None  # of the window, where they are known
    while at < len(target):
        window = target[at : at + size]
        found: int | None = following
        if following >= len(blocks) or blocks[following] != window:
            sums = sums or plain_weak(window)
            found = known[sums].get(window) if sums in known else None
        if found is None:
            sums = _rolled(sums, target, at, size)
            at += 1
            following = len(blocks)
            continue
        if start < at:
            ops.append(Literal(target[start:at]))
        ops.append(Copy(found * size, len(window)))
        start = at = at + len(window)
        following, sums = found + 1, None
    if start < at:
        ops.append(Literal(target[start:at]))
    return ops


def _rolled(sums: tuple[int, int] | None, target: bytes, at: int, size: int) -> tuple[int, int]:
    """The sums of the window one byte farther on; at the end of the target it becomes shorter."""
    assert sums is not None
    a, b = sums
    count = min(size, len(target) - at)
    a -= target[at]
    b -= count * target[at]
    if at + size < len(target):
        a += target[at + size]
        b += a
    return a % 65536, b % 65536
