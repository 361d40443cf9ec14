"""Contents that are held give back exactly themselves or nothing, whatever the disk does; they are bounded, and no push waits for them."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codesync.client import contents
from codesync.client.contents import LARGEST, LARGEST_NEW, SMALLEST, Contents, worth_keeping
from codesync.delta import Entry, Kind, scan

DATA = b"what a file holds\n" * 500


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    return root


@pytest.fixture
def held(tmp_path: Path) -> Contents:
    return Contents(str(tmp_path / "cache" / "contents"))


def put(source: Path, name: str, data: bytes) -> Entry:
    """A file of the source, and its entry."""
    (source / name).write_bytes(data)
    return scan(str(source))[os.fsencode(name)]


def given(held: Contents, entry: Entry) -> bytes | None:
    file = held.open(entry.digest, entry.size)
    assert held.has(entry.digest, entry.size) == (file is not None)
    if file is None:
        return None
    with file:
        return file.read()


def place(tmp_path: Path, entry: Entry) -> Path:
    return tmp_path / "cache" / "contents" / entry.digest.hex()


def test_what_was_kept_is_given_to_this_client_and_to_others(
    tmp_path: Path, source: Path, held: Contents
) -> None:
    entry = put(source, "a", DATA)
    assert given(held, entry) is None
    held.keep(str(source), [entry])
    assert given(held, entry) == DATA
    assert given(Contents(str(tmp_path / "cache" / "contents")), entry) == DATA
    assert held.open(hashlib.sha256(b"other").digest(), 5) is None


def test_it_is_for_its_owner_only(tmp_path: Path, source: Path, held: Contents) -> None:
    entry = put(source, "a", DATA)
    held.keep(str(source), [entry])
    assert oct(place(tmp_path, entry).stat().st_mode & 0o777) == "0o600"
    assert oct(place(tmp_path, entry).parent.stat().st_mode & 0o777) == "0o700"
    assert list(place(tmp_path, entry).parent.iterdir()) == [place(tmp_path, entry)]


def changed(path: Path) -> None:
    path.write_bytes(DATA[:-1] + b"?")


def longer(path: Path) -> None:
    path.write_bytes(DATA + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [changed, longer, empty, link, fifo, directory])
def test_what_is_no_longer_itself_is_not_given(
    tmp_path: Path, source: Path, held: Contents, damage: Callable[[Path], None]
) -> None:
    entry = put(source, "a", DATA)
    held.keep(str(source), [entry])
    damage(place(tmp_path, entry))
    assert given(held, entry) is None


@pytest.mark.parametrize("damage", [changed, longer, empty, link, fifo])
def test_what_is_damaged_is_dropped_and_kept_anew(
    tmp_path: Path, source: Path, held: Contents, damage: Callable[[Path], None]
) -> None:
    entry = put(source, "a", DATA)
    held.keep(str(source), [entry])
    damage(place(tmp_path, entry))
    assert given(held, entry) is None
    assert not place(tmp_path, entry).exists()
    held.keep(str(source), [entry])
    assert given(held, entry) == DATA


def test_a_file_that_is_not_what_its_entry_says_is_not_kept(
    tmp_path: Path, source: Path, held: Contents
) -> None:
    entries = [put(source, name, DATA + name.encode()) for name in "abcdef"]
    (source / "a").write_bytes(b"changed")
    (source / "b").write_bytes(DATA + b"b" + b"x")
    (source / "c").write_bytes(DATA + b"?")
    (source / "d").unlink()
    (source / "e").unlink()
    (source / "e").symlink_to("f")
    held.keep(str(source), entries)
    assert [path.name for path in (tmp_path / "cache" / "contents").iterdir()] == [entries[5].digest.hex()]


def test_a_directory_that_is_a_link_is_left_alone(tmp_path: Path, source: Path, held: Contents) -> None:
    entry = put(source, "a", DATA)
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "contents").symlink_to(tmp_path / "elsewhere")
    held.keep(str(source), [entry])
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "elsewhere" / entry.digest.hex()).write_bytes(DATA)
    assert given(held, entry) is None


def test_a_disk_that_refuses_is_no_error(tmp_path: Path, source: Path, held: Contents) -> None:
    entry = put(source, "a", DATA)
    (tmp_path / "cache").write_bytes(b"in the way")
    held.keep(str(source), [entry])
    assert given(held, entry) is None


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, source: Path, held: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(source, "a", DATA), put(source, "b", DATA * 100)
    held.keep(str(source), [first])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(contents, "_copied", full)
    held.keep(str(source), [second])
    assert given(held, second) is None
    assert given(held, first) == DATA
    assert [path.name for path in place(tmp_path, first).parent.iterdir()] == [first.digest.hex()]


def test_the_longest_unused_go_first(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_LOOK_EVERY", 1)
    held = Contents(str(tmp_path / "cache" / "contents"), limit=4 * (len(DATA) + 4096 + 1))
    entries = [put(source, name, DATA + name.encode()) for name in "abcdefg"]
    for number, entry in enumerate(entries[:4]):
        held.keep(str(source), [entry])
        os.utime(place(tmp_path, entry), (number, number))
    assert given(held, entries[0]) is not None  # used just now
    held.keep(str(source), entries[4:6])
    assert [given(held, entry) is not None for entry in entries[:6]] == [True, False, False, True, True, True]
    held.keep(str(source), [entries[0], entries[6]])
    assert [given(held, entry) is not None for entry in (entries[0], *entries[3:])] == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_it_does_not_grow_beyond_its_limit_by_much(tmp_path: Path, source: Path) -> None:
    limit = 16 * 1024 * 1024
    held = Contents(str(tmp_path / "cache" / "contents"), limit)
    for number in range(60):
        held.keep(str(source), [put(source, "a", number.to_bytes(2, "big") * 256 * 1024)])
    sizes = [path.stat().st_size for path in (tmp_path / "cache" / "contents").iterdir()]
    assert limit // 2 < sum(sizes) <= limit + 8 * 1024 * 1024


def test_a_draft_that_nobody_finishes_goes_and_a_new_one_stays(
    tmp_path: Path, source: Path, held: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_LOOK_EVERY", 1)
    entry = put(source, "a", DATA)
    held.keep(str(source), [entry])
    old, new = (place(tmp_path, entry).with_name(f".new-{name}") for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    held.keep(str(source), [put(source, "b", DATA + b"b")])
    assert (old.exists(), new.exists(), given(held, entry)) == (False, True, DATA)


def test_many_clients_may_keep_and_open_at_once(tmp_path: Path, source: Path) -> None:
    entries = [put(source, str(number), DATA + b"%d" % number) for number in range(40)]
    directory = str(tmp_path / "cache" / "contents")
    wrong: list[object] = []

    def client(turn: int) -> None:
        held = Contents(directory, limit=20 * len(DATA))
        for entry in entries[turn:] + entries[:turn]:
            held.keep(str(source), [entry])
            file = held.open(entry.digest, entry.size)
            if file is not None:
                with file:
                    data = file.read()
                if hashlib.sha256(data).digest() != entry.digest:
                    wrong.append(entry)

    threads = [threading.Thread(target=client, args=(turn,)) for turn in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert all(not path.name.startswith(".") for path in Path(directory).iterdir())


def entry_of(size: int, kind: Kind = Kind.FILE) -> Entry:
    return Entry(path=b"%d" % size, kind=kind, mode=0o644, mtime_ns=0, size=size, digest=bytes(32))


def test_what_was_modified_comes_before_what_is_new_and_the_small_before_the_large() -> None:
    modified = [entry_of(size) for size in (LARGEST + 1, 50_000, 2000, 5000, SMALLEST - 1)]
    added = [entry_of(size) for size in (LARGEST_NEW + 1, 60_000, 3000, 6000, 10)]
    found = worth_keeping(modified, [*added, entry_of(9000, Kind.SYMLINK)])
    assert [entry.size for entry in found] == [5000, 50_000, 2000, 6000, 60_000, 3000]


def test_a_push_of_much_keeps_only_some_of_it() -> None:
    assert len(worth_keeping([], [entry_of(5000)] * 10_000)) == contents.FILES_AT_ONCE
    large = worth_keeping([entry_of(LARGEST // 2 + 1)] * 5, [])
    assert len(large) == 1
