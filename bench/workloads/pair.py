"""A workload: two files, the old and the new one, made when they are asked for."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """Two files on the disk."""

    basis: Path
    target: Path


class Workload(NamedTuple):
    """`kind`: what leads from basis to target; `edits`, `moves` or `nothing` (in common). `pair` may raise Unavailable."""

    name: str
    kind: str
    pair: Callable[[], Pair]


def edited(data: bytes, other: bytes, count: int, seed: int) -> bytes:
    """`data` with `count` edits: 1 to 60 bytes replaced, inserted or deleted; what comes in is taken from `other`."""
    chance = random.Random(seed)
    pieces, last = [], 0
    for position in sorted(chance.randrange(len(data)) for _ in range(count)):
        at, length = max(last, position), chance.randint(1, 60)
        taken = chance.randrange(max(1, len(other) - length))
        what = chance.choice(("replace", "insert", "delete"))
        pieces += [data[last:at], b"" if what == "delete" else other[taken : taken + length]]
        last = at if what == "insert" else at + length
    return b"".join([*pieces, data[last:]])
