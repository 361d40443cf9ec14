"""The cache never makes a scan wrong; most of the time it makes it fast."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.cache import ManifestCache
from codesync.delta.manifest import scan

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
    cache = ManifestCache(str(tmp_path / "cache"))
    cache.store(b"f", status(), DIGEST, 200 * SECOND)
    cache.save()
    assert cache.lookup(b"f", status()) == DIGEST
    assert cache.lookup(b"f", other) is None
    assert cache.lookup(b"g", status()) is None


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
    cache = ManifestCache(str(tmp_path / "cache"))
    cache.store(b"f", status(**times), DIGEST, 100 * SECOND + age)
    cache.save()
    assert (cache.lookup(b"f", status(**times)) == DIGEST) is kept


# ------------------------------------------------------------------------------------------------ the file


def test_the_file_brings_everything_back(tmp_path: Path) -> None:
    cache = ManifestCache(str(tmp_path / "deep/below/cache"))
    stats = [status(mtime_ns=-1), status(size=2**62, inode=1), status(inode=2**64 - 1)]
    for number, stat in enumerate(stats):
        cache.store(b"%d\n\xff" % number, stat, bytes([number]) * 32, 200 * SECOND)
    cache.save()
    again = ManifestCache(str(tmp_path / "deep/below/cache"))
    found = [again.lookup(b"%d\n\xff" % number, stat) for number, stat in enumerate(stats)]
    assert found == [bytes([number]) * 32 for number in range(3)]


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


def test_a_lazy_save_waits_until_it_pays(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = ManifestCache(str(path))

    def learn(numbers: range, size: int = 5) -> bool:
        """Whether the file was written."""
        before = path.read_bytes() if path.exists() else b""
        cache.carry_over()
        for number in numbers:
            cache.store(b"%d" % number, status(size=size), DIGEST, 200 * SECOND)
        cache.save(lazily=True)
        return path.exists() and path.read_bytes() != before

    assert not learn(range(10))
    assert learn(range(10, 20))
    assert not learn(range(20, 30))
    assert learn(range(30, 31), size=5_000_000)
    assert learn(range(31, 2000))
    assert not learn(range(50))
    assert learn(range(50, 100))
    assert ManifestCache(str(path)).lookup(b"99", status()) == DIGEST


def test_what_is_carried_over_stays_known_but_what_is_forgotten_or_has_changed(tmp_path: Path) -> None:
    cache = ManifestCache(str(tmp_path / "cache"))
    for path in (b"a", b"b", b"c"):
        cache.store(path, status(), DIGEST, 200 * SECOND)
    cache.save()
    cache.carry_over()
    cache.forget(b"b")
    cache.forget(b"never known")
    assert cache.lookup(b"c", status(size=6)) is None
    cache.save()
    again = ManifestCache(cache.path)
    assert [again.lookup(path, status()) for path in (b"a", b"b", b"c")] == [DIGEST, None, None]


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    cache = ManifestCache(str(tmp_path / "cache"))
    for path in (b"a", b"b"):
        cache.store(path, status(), DIGEST, 200 * SECOND)
    cache.save()
    cache.lookup(b"a", status())
    cache.save()
    assert ManifestCache(cache.path).lookup(b"a", status()) == DIGEST
    assert ManifestCache(cache.path).lookup(b"b", status()) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_empty_cache(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    cache = ManifestCache(str(path))
    for name in (b"a", b"b"):
        cache.store(name, status(), DIGEST, 200 * SECOND)
    cache.save()
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    path.write_bytes(data.draw(st.sampled_from([flipped, whole[:at], whole + b"x", b""])))
    damaged = ManifestCache(str(path))
    assert damaged.lookup(b"a", status()) is None
    damaged.store(b"a", status(), DIGEST, 200 * SECOND)
    damaged.save()
    assert ManifestCache(str(path)).lookup(b"a", status()) == DIGEST


def test_a_cache_that_cannot_be_read_or_written_is_no_error(tmp_path: Path, later: None) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(b"1")
    for path in (tmp_path / "tree", tmp_path / "tree/f/cache"):
        for _ in range(2):
            assert scan(str(tmp_path / "tree"), cache=ManifestCache(str(path))).paths == (b"f",)
    assert os.listdir(tmp_path / "tree") == ["f"]
