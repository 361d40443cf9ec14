"""Bases of many kinds, and targets that come from them by edits as people and programs make them."""

from collections.abc import Callable
from random import Random

_TWO = bytes(byte & 1 for byte in range(256))
_WORDS = [
    b"def",
    b"return",
    b"self",
    b"value",
    b"import",
    b"from",
    b"class",
    b"if",
    b"else:",
    b"for",
    b"x",
    b"in",
]


def _noise(random: Random, length: int) -> bytes:
    return random.randbytes(length)


def _two_symbols(random: Random, length: int) -> bytes:
    return random.randbytes(length).translate(_TWO)


def _runs(random: Random, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        data += bytes([random.randrange(256)]) * random.choice(
            [1, 5, 50, 300, 2000, random.randrange(1, 5000)]
        )
    return bytes(data[:length])


def _periodic(random: Random, length: int) -> bytes:
    period = random.randbytes(random.choice([3, 17, 256, 1000, 4099]))
    return (period * (length // len(period) + 1))[:length]


def _islands(random: Random, length: int) -> bytes:
    """Zeros, and here and there something else."""
    data = bytearray(length)
    for _ in range(length // 4000 + 1):
        at, island = random.randrange(length), random.randbytes(random.choice([1, 20, 300]))
        data[at : at + len(island)] = island
    return bytes(data[:length])


def _text(random: Random, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        data += (
            b"    " * random.randrange(4) + b" ".join(random.choices(_WORDS, k=random.randrange(8))) + b"\n"
        )
    return bytes(data[:length])


def _csv(random: Random, length: int) -> bytes:
    data, number = bytearray(), 0
    while len(data) < length:
        draw = random.randrange
        data += b"%d,%d,user%d,2024-01-%02d,%d.%02d\n" % (
            number,
            draw(5),
            draw(1000),
            draw(1, 29),
            draw(100),
            draw(100),
        )
        number += 1
    return bytes(data[:length])


KINDS: dict[str, Callable[[Random, int], bytes]] = {
    "noise": _noise,
    "two symbols": _two_symbols,
    "runs": _runs,
    "periodic": _periodic,
    "islands": _islands,
    "text": _text,
    "csv": _csv,
}


def edited(kind: str, seed: int, low: int, high: int) -> tuple[bytes, bytes]:
    """A basis of `low` to `high` bytes, and it with 1 to 40 insertions, deletions, replacements, moves and doublings."""
    random, make = Random(f"{kind} {seed}"), KINDS[kind]
    basis = target = make(random, random.randrange(low, high))
    for _ in range(random.choice([1, 3, 10, 40])):
        length = random.choice([1, 10, 100, 1000, random.randrange(1, max(2, len(basis) // 4))])
        at = random.randrange(len(target) + 1)
        fresh, piece = make(random, min(length, 2000)), target[at : at + length]
        match random.choice(["insert", "delete", "replace", "move", "double"]):
            case "insert":
                target = target[:at] + fresh + target[at:]
            case "delete":
                target = target[:at] + target[at + min(length, 3000) :]
            case "replace":
                target = target[:at] + fresh + target[at + len(fresh) :]
            case "move":
                rest = target[:at] + target[at + length :]
                place = random.randrange(len(rest) + 1)
                target = rest[:place] + piece + rest[place:]
            case _:
                target = target[: at + length] + piece + target[at + length :]
    return basis, target
