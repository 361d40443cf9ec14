"""The cache never makes a scan wrong; most of the time it makes it fast."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from codesync.delta.cache import MAGIC, ManifestCache
from codesync.delta.manifest import Entry, Kind, Manifest, Skipped, scan
from codesync.delta.manifest.looks import STATUS, Look, Looks, is_settled
from codesync.delta.manifest.memory import Past

SECOND = 1_000_000_000
DIGEST = bytes(range(32))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is ten seconds ahead of all files: nothing is racy."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10 * SECOND)


def status(
    *,
    mtime_ns: int = 100 * SECOND + 1,
    ctime_ns: int = 100 * SECOND + 1,
    size: int = 5,
    inode: int = 2**63 + 7,
) -> os.stat_result:
    times = {"st_atime_ns": 0, "st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns}
    return os.stat_result((0o100644, inode, 1, 1, 0, 0, size, 0, 0, 0), times)


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(os, "read", refuse)


def past_of(statuses: dict[bytes, os.stat_result], *, settled: bool = True) -> Past:
    """As after a scan that has found these files, all with the same digest."""
    entries = [
        Entry(path, Kind.FILE, 0o644, found.st_mtime_ns, found.st_size, DIGEST)
        for path, found in sorted(statuses.items())
    ]
    looks = [Look.of(statuses[entry.path], settled=settled) for entry in entries]
    root = Look.of(status())._replace(flags=1, level=1, listing=7)
    return Past(
        Manifest.of(entries, [Skipped(b"pipe", "fifo")]),
        Looks.of([*looks, root]),
        (b"", bytes(16)),
        {bytes(range(48)): bytes(range(16))},
    )


def saved(path: Path, statuses: dict[bytes, os.stat_result], *, settled: bool = True) -> ManifestCache:
    cache = ManifestCache(str(path))
    cache.keep(past_of(statuses, settled=settled))
    return cache


# ------------------------------------------------------------------------------------------------ when it is asked


def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree/d").mkdir(parents=True)
    (tmp_path / "tree/d/f").write_bytes(b"content")
    cache = str(tmp_path / "cache")
    first = scan(str(tmp_path / "tree"), cache=ManifestCache(cache))
    no_reading(monkeypatch)
    assert scan(str(tmp_path / "tree"), cache=ManifestCache(cache)) == first


def test_one_cache_object_serves_many_scans(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"content")
    cache = ManifestCache(str(tmp_path / "cache"))
    first = scan(str(tmp_path / "tree"), cache=cache)
    no_reading(monkeypatch)
    for _ in range(3):
        assert scan(str(tmp_path / "tree"), cache=cache) == first


def test_a_new_mode_and_a_moved_file_are_seen(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"content")
    cache = str(tmp_path / "cache")
    scan(str(tmp_path / "tree"), cache=ManifestCache(cache))
    (tmp_path / "tree/f").chmod(0o755)
    (tmp_path / "tree/f").rename(tmp_path / "tree/g")
    found = scan(str(tmp_path / "tree"), cache=ManifestCache(cache))
    assert found.paths == (b"g",)
    assert found[b"g"].mode == 0o755


@pytest.mark.parametrize(
    "other",
    [status(size=6), status(mtime_ns=100 * SECOND + 2), status(ctime_ns=100 * SECOND + 2), status(inode=3)],
    ids=["size", "mtime", "ctime", "inode"],
)
def test_a_digest_counts_only_for_the_very_same_file(tmp_path: Path, other: os.stat_result) -> None:
    cache = saved(tmp_path / "cache", {b"f": status()})
    for past in (cache.load(), ManifestCache(cache.path).load()):
        assert past is not None
        assert past.lookup(b"f", status()) == DIGEST
        assert past.lookup(b"f", other) is None
        assert past.lookup(b"g", status()) == DIGEST  # it has been moved there
        assert past.lookup(b"g", other) is None


# ------------------------------------------------------------------------------------------------ racy entries


def test_same_size_content_written_within_one_tick_of_the_clock_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree/f"
    cache = ManifestCache(str(tmp_path / "cache"))
    for number in range(300):
        content = b"%06d" % number
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, content)
        os.close(descriptor)
        os.utime(file, ns=(0, 10**18 + 1))
        assert scan(str(tmp_path / "tree"), cache=cache)[b"f"].digest == hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("times", "age", "kept"),
    [
        ({}, -1, False),
        ({}, 1_000_000, False),
        ({}, 90_000_000, False),
        ({}, 200_000_000, True),
        ({"mtime_ns": 1}, 1_000_000, False),
        ({"ctime_ns": 1}, 1_000_000, False),
        ({"mtime_ns": 300 * SECOND}, 150 * SECOND, False),
        ({"mtime_ns": 100 * SECOND, "ctime_ns": 100 * SECOND}, 200_000_000, False),
        ({"mtime_ns": 100 * SECOND, "ctime_ns": 100 * SECOND}, 2 * SECOND, False),
        ({"mtime_ns": 100 * SECOND, "ctime_ns": 100 * SECOND}, 3 * SECOND, True),
    ],
    ids=str,
)
def test_a_digest_is_kept_only_if_the_file_was_safely_older_than_the_reading(
    tmp_path: Path, times: dict[str, int], age: int, kept: bool
) -> None:
    """`age`: of the file, in nanoseconds, when its reading began. Whole seconds tell of a coarse clock."""
    found = status(**times)
    settled = is_settled(found, 100 * SECOND + age)
    past = saved(tmp_path / "cache", {b"f": found}, settled=settled).load()
    assert past is not None
    assert (past.lookup(b"f", found) == DIGEST) is kept


# ------------------------------------------------------------------------------------------------ the file


def test_the_file_brings_everything_back(tmp_path: Path) -> None:
    statuses = {
        b"0\n\xff": status(mtime_ns=-1),
        b"1": status(size=2**62, inode=1),
        b"2": status(inode=2**64 - 1, ctime_ns=2**62),
    }
    cache = saved(tmp_path / "deep/below/cache", statuses)
    past, again = cache.load(), ManifestCache(cache.path).load()
    assert past is not None
    assert again is not None
    assert again.manifest == past.manifest
    assert again.manifest.skipped == past.manifest.skipped == (Skipped(b"pipe", "fifo"),)
    assert again.manifest.tree_id == past.manifest.tree_id
    assert (again.looks, again.levels, again.indexes) == (past.looks, past.levels, past.indexes)
    for path, found in statuses.items():
        assert again.lookup(path, found) == DIGEST
        assert Look.of(found)[:STATUS] == again.looks.row(again.row(path))[:STATUS]


def test_a_tree_without_anything_in_it_is_remembered_too(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    scan(str(tmp_path / "tree"), cache=ManifestCache(str(tmp_path / "cache")))
    past = ManifestCache(str(tmp_path / "cache")).load()
    assert past is not None
    assert not past.is_empty
    assert len(scan(str(tmp_path / "tree"), cache=ManifestCache(str(tmp_path / "cache")))) == 0


def test_the_file_is_written_only_when_something_has_changed(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"1")
    (tmp_path / "tree/g").write_bytes(b"2")
    path = tmp_path / "cache"

    def inode_after_scan() -> int:
        scan(str(tmp_path / "tree"), cache=ManifestCache(str(path)))
        return path.stat().st_ino if path.exists() else 0

    first = inode_after_scan()
    keep = os.open(path, os.O_RDONLY)  # so that its inode is not used again
    assert inode_after_scan() == first
    (tmp_path / "tree/g").unlink()
    second = inode_after_scan()
    os.close(keep)
    assert second != first
    assert sorted(os.listdir(tmp_path)) == ["cache", "tree"]


def test_the_file_is_not_rewritten_for_the_content_of_a_few_files(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    statuses = {b"%02d" % number: status(inode=number + 1) for number in range(40)}
    saved(path, statuses)
    first = path.read_bytes()

    def touch(count: int) -> None:
        """Each time as another process."""
        cache = ManifestCache(str(path))
        cache.load()
        changed = {name: status(inode=7_000 + int(name)) for name in list(statuses)[:count]}
        cache.keep(past_of(statuses | changed), (count, 5 * count))

    touch(16)
    assert path.read_bytes() == first
    touch(17)
    assert path.read_bytes() != first


def test_a_tree_that_was_young_is_remembered_as_an_old_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree/d").mkdir(parents=True)
    path = str(tmp_path / "cache")
    now = time.time_ns
    for age in (0, 10):
        monkeypatch.setattr(time, "time_ns", lambda age=age: now() + age * SECOND)
        scan(str(tmp_path / "tree"), cache=ManifestCache(path))
        past = ManifestCache(path).load()
        assert past is not None
        assert bool(past.special) is not bool(age)


def test_who_scans_often_writes_only_when_it_pays(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = ManifestCache(str(path))
    known: dict[bytes, os.stat_result] = {}

    def learn(numbers: range, size: int = 5) -> bool:
        """Whether the file was written."""
        before = path.read_bytes() if path.exists() else b""
        known.update({b"%d" % number: status(size=size, inode=len(known) + 1) for number in numbers})
        cache.keep(past_of(known), (len(numbers), len(numbers) * size), lasting=True)
        return path.exists() and path.read_bytes() != before

    assert not learn(range(10))
    assert learn(range(10, 20))
    assert not learn(range(20, 30))
    assert learn(range(30, 31), size=5_000_000)
    assert learn(range(31, 2000))
    assert not learn(range(50))
    assert learn(range(50, 100))
    again = ManifestCache(str(path)).load()
    assert again is not None
    assert again.lookup(b"99", known[b"99"]) == DIGEST


def test_what_is_gone_is_forgotten(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).write_bytes(b"1")
    statuses = {name: (tmp_path / "tree" / name).stat() for name in ("a", "b")}
    cache = ManifestCache(str(tmp_path / "cache"))
    scan(str(tmp_path / "tree"), cache=cache)
    (tmp_path / "tree/b").unlink()
    scan(str(tmp_path / "tree"), cache=cache)
    again = ManifestCache(cache.path).load()
    assert again is not None
    assert again.lookup(b"a", statuses["a"]) is not None
    assert again.lookup(b"b", statuses["b"]) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_empty_cache(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    saved(path, {name: status() for name in (b"a", b"b")})
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    path.write_bytes(data.draw(st.sampled_from([flipped, whole[:at], whole + b"x", b""])))
    assert ManifestCache(str(path)).load() is None
    saved(path, {b"a": status()})
    assert ManifestCache(str(path)).load() is not None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_only_looks_undamaged_is_an_empty_cache_too(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "forged"
    saved(path, {name: status() for name in (b"a", b"b")})
    start = len(MAGIC) + 16
    body = path.read_bytes()[start:]
    at = data.draw(st.integers(32, 120))
    for forged in (body[:at], body[:at] + data.draw(st.binary(min_size=1, max_size=9)) + body[at + 1 :]):
        path.write_bytes(MAGIC + xxh3_128_digest(forged) + forged)
        found = ManifestCache(str(path)).load()
        assert found is None or len(found.looks.flags) == len(found.manifest) + 1


def test_a_cache_that_cannot_be_read_or_written_is_no_error(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"1")
    for path in (tmp_path / "tree", tmp_path / "tree/f/cache"):
        for _ in range(2):
            assert scan(str(tmp_path / "tree"), cache=ManifestCache(str(path))).paths == (b"f",)
    assert os.listdir(tmp_path / "tree") == ["f"]
