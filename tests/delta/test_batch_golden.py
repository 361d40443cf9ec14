"""The batch format is frozen: what version 1 once wrote stays readable, and the same change is the same records."""

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

GOLDEN = Path(__file__).parents[1] / "golden" / "batch-1.bin"
# of the records before the trailer; how zstd packs them may differ from one of its versions to the next
RECORDS = "367368d2b1cdba9d5d715cde04d641dcdcbacada0528a6b42e35b5c3554c0b5c"

OLD = b"".join(b"line %d\n" % n for n in range(500))
NEW = OLD.replace(b"line 250\n", b"line two hundred and fifty\n")
BASE = {b"dir/edited.txt": OLD, b"dir/gone": b"gone\n", b"dir/moved": b"moves\n", b"run.sh": b"#!/bin/sh\n"}
TARGET = {b"dir/edited.txt": NEW, b"new": b"new\n", b"other/moved": b"moves\n", b"run.sh": b"#!/bin/sh\n"}


def manifest(files: dict[bytes, bytes], mode: Callable[[bytes], int], *more: Entry) -> Manifest:
    entries = [
        Entry(path, Kind.FILE, mode(path), 1_700_000_000_123_456_789, len(data), sha256(data).digest())
        for path, data in files.items()
    ]
    directories = {path.rpartition(b"/")[0] for path in files} - {b""}
    return Manifest.of([*entries, *more, *(Entry(path, Kind.DIRECTORY, 0o755, 0) for path in directories)])


def before() -> Manifest:
    return manifest(BASE, lambda path: 0o644, Entry(b"link", Kind.SYMLINK, 0o777, 0, target=b"dir"))


def after() -> Manifest:
    link = Entry(b"link", Kind.SYMLINK, 0o777, 5, target=b"other")
    return manifest(TARGET, lambda path: 0o755 if path == b"run.sh" else 0o644, link)


def write(place: Path) -> bytes:
    for path, data in TARGET.items():
        file = place / path.decode()
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    out = BytesIO()
    write_batch(
        out,
        str(place),
        before(),
        after(),
        push_id="20250101-120000-0123456789",
        signatures={b"dir/edited.txt": signature(OLD)},
        tracked=TrackedChange.between({b"new", b"dir/gone"}, after(), {b"new", b"run.sh"}),
    )
    return out.getvalue()


def records_digest(batch: bytes) -> str:
    reader = read_batch(BytesIO(batch))
    assert all(record is not None for record in reader)
    assert reader.trailer is not None
    return reader.trailer.digest.hex()


def test_the_same_change_is_the_same_records_as_ever(tmp_path: Path) -> None:
    assert records_digest(write(tmp_path)) == RECORDS


def test_a_stored_batch_of_version_1_can_still_be_read_and_applied(tmp_path: Path) -> None:
    stored = GOLDEN.read_bytes()
    assert records_digest(stored) == RECORDS
    info = inspect_batch(BytesIO(stored))
    assert info.counts == {
        "delete": 2,
        "delta": 1,
        "symlink": 1,
        "put": 1,
        "directory": 1,
        "move": 1,
        "attributes": 1,
        "untrack": 1,
        "track": 1,
    }
    (tmp_path / "dir").mkdir()
    for path, data in BASE.items():
        (tmp_path / path.decode()).write_bytes(data)
    (tmp_path / "link").symlink_to("dir")
    assert apply_batch(BytesIO(stored), str(tmp_path), durable=False).tree_id == after().tree_id
    assert scan(str(tmp_path)).tree_id == after().tree_id
