"""The batch format is frozen: what version 2 once wrote stays readable, and the same change is the same records."""

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from codesync.delta import (
    Entry,
    Kind,
    Manifest,
    TrackedChange,
    apply_batch,
    inspect_batch,
    read_batch,
    scan,
    signature,
    write_batch,
)
from codesync.delta.batch.format import Data, Header, Record, Trailer, encode

GOLDEN = Path(__file__).parents[1] / "golden" / "batch-2.bin"
# SHA-256 of what its frame holds
STORED = "1c488a0fa909c3a0cd7e64a831226ccfbc5a92e32e9536457b617d76aab79303"
# the same of what is written now, but for the data: deltas may become smaller, and so may what zstd makes of it all
RECORDS = "9cc5f062f57b937ccf8ff86c69b810103498162fd7beca18ab55f1e638172d52"

OLD = b"".join(b"line %d\n" % n for n in range(500))
NEW = OLD.replace(b"line 250\n", b"line two hundred and fifty\n")
BASE = {
    b"dir/edited.txt": OLD,
    b"dir/gone": b"gone\n",
    b"dir/held.txt": OLD[::-1],
    b"dir/moved": b"moves\n",
    b"old/a.py": b"a = 1\n",
    b"old/b.py": b"b = 2\n",
    b"old/sub/c.py": OLD[100:2000],
    b"run.sh": b"#!/bin/sh\n",
}
TARGET = {
    b"dir/edited.txt": NEW,
    b"dir/held.txt": NEW[::-1],
    b"fresh/a.py": b"a = 1\n",
    b"fresh/b.py": b"b = 2\n",
    b"fresh/copy.py": b"a = 1\n",
    b"fresh/sub/c.py": OLD[100:2000] + b"edited\n",
    b"new": b"new\n",
    b"other/moved": b"moves\n",
    b"run.sh": b"#!/bin/sh\n",
}


def manifest(files: dict[bytes, bytes], mode: Callable[[bytes], int], *more: Entry) -> Manifest:
    entries = [
        Entry(path, Kind.FILE, mode(path), 1_700_000_000_123_456_789, len(data), sha256(data).digest())
        for path, data in files.items()
    ]
    directories = {above for path in files for above in _above(path)}
    return Manifest.of([*entries, *more, *(Entry(path, Kind.DIRECTORY, 0o755, 0) for path in directories)])


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[: n + 1]) for n in range(len(parts))]


def before() -> Manifest:
    return manifest(BASE, lambda path: 0o644, Entry(b"link", Kind.SYMLINK, 0o777, 0, target=b"dir"))


def after() -> Manifest:
    link = Entry(b"link", Kind.SYMLINK, 0o777, 5, target=b"other")
    return manifest(TARGET, lambda path: 0o755 if path == b"run.sh" else 0o644, link)


def write(place: Path) -> bytes:
    for path, data in TARGET.items():
        file = place / path.decode()
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(data)
    held = {b"dir/held.txt", b"old/sub/c.py"}
    out = BytesIO()
    write_batch(
        out,
        str(place),
        before(),
        after(),
        push_id="20250101-120000-0123456789",
        signatures={b"dir/edited.txt": signature(OLD)},
        basis=lambda entry: BytesIO(BASE[entry.path]) if entry.path in held else None,
        tracked=TrackedChange.between(
            {b"new", b"old/a.py", b"dir/gone"}, after(), {b"new", b"run.sh", b"fresh/a.py"}
        ),
    )
    return out.getvalue()


def records(batch: bytes) -> list[Record | Header | Trailer]:
    reader = read_batch(BytesIO(batch))
    found = list(reader)
    assert reader.trailer is not None
    return [reader.header, *found, reader.trailer]


def digest(records: list[Record | Header | Trailer]) -> str:
    return sha256(b"".join(map(encode, records))).hexdigest()


def test_the_same_change_is_the_same_records_as_ever(tmp_path: Path) -> None:
    found = records(write(tmp_path))
    assert len({type(record) for record in found}) == 13
    assert digest([record for record in found if not isinstance(record, Data | Trailer)]) == RECORDS


def test_a_stored_batch_of_version_2_can_still_be_read_and_applied(tmp_path: Path) -> None:
    stored = GOLDEN.read_bytes()
    assert digest(records(stored)) == STORED
    info = inspect_batch(BytesIO(stored))
    assert info.counts == {
        "delete": 1,
        "move": 2,
        "delta": 2,
        "copy": 2,
        "symlink": 1,
        "put": 1,
        "directory": 1,
        "attributes": 1,
        "untrack": 1,
        "track": 1,
    }
    assert info.header.tracked_start == "moved"
    for path, data in BASE.items():
        (tmp_path / path.decode()).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path.decode()).write_bytes(data)
    (tmp_path / "link").symlink_to("dir")
    assert apply_batch(BytesIO(stored), str(tmp_path), durable=False).tree_id == after().tree_id
    assert scan(str(tmp_path)).tree_id == after().tree_id
