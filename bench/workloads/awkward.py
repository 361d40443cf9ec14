"""Data on which engines like this one stumble: of low entropy, alike everywhere, shifted, sparse, or hard to cut.

Each kind makes content of a size from a seed; another seed is a file of the same kind with nothing in common on purpose.
`changed` is what happens to such a file by nature, before it gets 50 edits.
"""

import base64
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.workloads.downloads import wheel_files
from bench.workloads.pair import Pair, Workload, edited
from bench.workloads.store import Store

SMALLER, LARGER = 32_000_000, 48_000_000  # between them the size of a block takes a step
_RECORD, _OWN = 8192, 192
_EDITS = 50
_PAGE = 4096
_TWO_SYMBOLS = bytes(b"ab"[number & 1] for number in range(256))
_WORDS = ("red", "green", "blue", "white", "grey")
Make = Callable[[int, int], bytes]  # size, seed


class Kind(NamedTuple):
    """`size` in bytes; `change` is given a file and what makes more of its kind."""

    make: Make
    size: int
    change: Callable[[bytes, Make], bytes] | None = None


def _zeros(size: int, seed: int) -> bytes:
    return bytes([seed - 1]) * size


def _sparse(size: int, seed: int) -> bytes:
    """Zeros, and one page in a hundred that has something in it."""
    chance, data = random.Random(seed), bytearray(size)
    for _ in range(size // _PAGE // 100 + 1):
        at = chance.randrange(max(1, size // _PAGE)) * _PAGE
        data[at : at + _PAGE] = chance.randbytes(min(_PAGE, size - at))
    return bytes(data)


def _runs(size: int, seed: int) -> bytes:
    chance = random.Random(seed)
    return _filled(size, lambda: bytes([chance.randrange(256)]) * chance.randint(1, 3000))


def _two_symbols(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size).translate(_TWO_SYMBOLS)


def _periodic(size: int, seed: int) -> bytes:
    period = random.Random(seed).randbytes(1009)
    return (period * (size // len(period) + 1))[:size]


def _records(size: int, seed: int) -> bytes:
    """Records of 8 KiB: 192 bytes of its own in each, the others the same in all."""
    chance = random.Random(seed)
    shared = chance.randbytes(_RECORD - _OWN)
    return _filled(size, lambda: chance.randbytes(_OWN) + shared)


def _log(size: int, seed: int) -> bytes:
    chance = random.Random(seed)
    second = 0

    def line() -> bytes:
        nonlocal second
        second += chance.randrange(3)
        clock = (
            f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{chance.randrange(1000):03}"
        )
        client = f"10.{chance.randrange(8)}.{chance.randrange(256)}.{chance.randrange(256)}"
        path = f"/api/v1/{chance.choice(('users', 'orders', 'items', 'carts'))}/{chance.randrange(10**6)}"
        status, took = chance.choice((200, 200, 200, 201, 304, 404, 500)), chance.randrange(2000)
        return (
            f"2026-03-{second // 86400 + 1:02}T{clock}Z INFO {client} GET {path} {status} {took}ms\n".encode()
        )

    return _filled(size, line)


def _csv(size: int, seed: int) -> bytes:
    chance, number = random.Random(seed), 0

    def line() -> bytes:
        nonlocal number
        number += 1
        cells = (number, chance.randrange(10**4), round(chance.gauss(50, 20), 2), chance.choice("ABCDEF"))
        return (
            ",".join(map(str, cells)) + f",{chance.random():.6f},2026-{chance.randint(1, 12):02}\n"
        ).encode()

    return _filled(size, line)


def _hex(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size // 2).hex("\n", 32).encode()


def _base64(size: int, seed: int) -> bytes:
    return base64.encodebytes(random.Random(seed).randbytes(size * 74 // 100))


def _filled(size: int, make: Callable[[], bytes]) -> bytes:
    pieces, length = [], 0
    while length < size:
        pieces.append(make())
        length += len(pieces[-1])
    return b"".join(pieces)[:size]


def _javascript(size: int, seed: int) -> bytes:
    """What the front ends of three packages load, as it is published: minified, a line of many thousand characters."""
    if size < SMALLER:
        words = _log(size, seed).replace(b"\n", b";").replace(b" ", b"=")
        return words[:size]
    names = ("streamlit", "jupyterlab") if seed == 1 else ("panel",)
    seen = dict.fromkeys(
        content
        for name in names
        for path, content in wheel_files(name)
        if path.endswith(".js") and len(content) > 2000 and content.count(b"\n") * 400 < len(content)
    )
    return b"".join(seen)[:size]


def _library(size: int, seed: int) -> bytes:
    """Shared libraries one after the other; seed 1 is one large one."""
    if size < SMALLER:
        content = Path(sys.executable).resolve().read_bytes()
        return content[: min(size, len(content) // 2)] if seed == 1 else content[len(content) // 2 :][:size]
    libraries = sorted(
        (content for path, content in wheel_files("pyarrow") if ".so" in path), key=len, reverse=True
    )
    return (libraries[0] if seed == 1 else b"".join(libraries[1:]))[:size]


def _grown(data: bytes, make: Make) -> bytes:
    """More lines at its end."""
    return data + make(len(data) // 10, 3)


def _rotated(data: bytes, make: Make) -> bytes:
    """Its older half gone, as much that is new at its end."""
    return data[len(data) // 2 :] + make(len(data) // 2, 3)


KINDS = {
    "all zeros": Kind(_zeros, SMALLER),
    "sparse": Kind(_sparse, LARGER),
    "byte runs": Kind(_runs, SMALLER),
    "two-symbol noise": Kind(_two_symbols, LARGER),
    "periodic": Kind(_periodic, LARGER),
    "records": Kind(_records, SMALLER),
    "log grown": Kind(_log, SMALLER, _grown),
    "log rotated": Kind(_log, LARGER, _rotated),
    "CSV": Kind(_csv, LARGER),
    "hex": Kind(_hex, SMALLER),
    "base64": Kind(_base64, LARGER),
    "minified JavaScript": Kind(_javascript, SMALLER),
    "ELF library": Kind(_library, SMALLER),
}
DATABASE = LARGER


def _database(size: int, seed: int, updated: bool) -> bytes:
    """A table with an index; `updated`: 50 of its rows are written again, most of them longer."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "database")
        database = sqlite3.connect(path)
        database.execute(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, mail TEXT, note TEXT, balance REAL)"
        )
        database.execute("CREATE INDEX by_name ON people (name)")
        rows = max(100, size // 125)
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?)", _people(chance, rows))
        database.commit()
        for _ in range(_EDITS if updated else 0):
            values = (f"edited {chance.getrandbits(64):x} ", chance.randrange(rows))
            database.execute("UPDATE people SET note = ? || note, balance = balance + 1 WHERE id = ?", values)
        database.commit()
        database.close()
        return path.read_bytes()


def _people(chance: random.Random, count: int) -> Iterator[tuple[int, str, str, str, float]]:
    for number in range(count):
        name = f"{chance.choice(_WORDS)} {chance.getrandbits(40):x}"
        note = " ".join(chance.choices(("called", "paid", "late", "new", "moved", "twice", "again"), k=8))
        yield number, name, f"{name[:3]}{number}@example.org", note, chance.randrange(10**6) / 100


def workloads(store: Store, sized: Callable[[int], int]) -> list[Workload]:
    """Each kind with 50 edits, and with nothing in common; `sized` says how large one is made that should have so many bytes."""
    found = []
    for name, kind in KINDS.items():
        found += _of_kind(store, name, kind._replace(size=sized(kind.size)))
    return [*found, *_of_databases(store, sized(DATABASE))]


def _of_kind(store: Store, name: str, kind: Kind) -> list[Workload]:
    label = name.replace(" ", "-")
    make, size, change = kind

    def file(what: str, content: Callable[[], bytes]) -> Path:
        return store.file(f"awkward-{label}-{size}-{what}", lambda out: out.write(content()))

    def basis() -> Path:
        return file("basis", lambda: make(size, 1))

    def other() -> Path:
        return file("other", lambda: make(size, 2))

    def edits() -> bytes:
        data = basis().read_bytes()
        return edited(change(data, make) if change else data, other().read_bytes(), _EDITS, 4)

    return [
        Workload(f"{name}, 50 edits", "edits", lambda: Pair(basis(), file("edits", edits))),
        Workload(f"{name}, nothing in common", "nothing", lambda: Pair(basis(), other())),
    ]


def _of_databases(store: Store, size: int) -> list[Workload]:
    def file(seed: int, updated: bool) -> Path:
        what = f"awkward-database-{size}-{seed}{'-updated' if updated else ''}"
        return store.file(what, lambda out: out.write(_database(size, seed, updated)))

    return [
        Workload("SQLite, 50 rows updated", "edits", lambda: Pair(file(1, False), file(1, True))),
        Workload("SQLite, nothing in common", "nothing", lambda: Pair(file(1, False), file(2, False))),
    ]
