"""A scan that remembers the one before finds what a fresh one finds, whatever was done to the tree between them."""

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from codesync.delta.cache import ManifestCache
from codesync.delta.errors import ScanError
from codesync.delta.manifest import scan
from codesync.delta.manifest.looks import Look, Looks
from codesync.delta.manifest.memory import Past
from codesync.transaction import MAGIC
from tests.delta.files import open_to_all, without_privileges, write
from tests.delta.scanned import Scanned

SECOND = 1_000_000_000


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(os, "read", refuse)


def test_a_tree_that_has_not_changed_is_the_same_manifest_and_nothing_is_read(
    scanned: Scanned, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scanned.root / "d/f")
    write(scanned.root / ".gitignore", b"*.log\n")
    write(scanned.root / "x.log")
    first = scanned.check()
    no_reading(monkeypatch)
    assert scanned.remembering() is first


def test_only_what_has_changed_is_another_entry(scanned: Scanned, later: None) -> None:
    for name in ("a/1", "a/2", "b/1"):
        write(scanned.root / name)
    first = scanned.check()
    write(scanned.root / "a/2", b"other")
    second = scanned.check()
    assert [entry.path for entry, new in zip(first, second, strict=True) if new is not entry] == [b"a/2"]


def test_files_in_a_directory_that_was_renamed_are_not_read_again(
    scanned: Scanned, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scanned.root / "d/e/f", b"one")
    write(scanned.root / "d/g", b"two")
    (scanned.root / "d/link").symlink_to("g")
    first = scanned.check()
    (scanned.root / "d").rename(scanned.root / "new")
    write(scanned.root / "d/g", b"six")
    scanned.check()
    (scanned.root / "new").rename(scanned.root / "newer")
    with monkeypatch.context() as patch:
        no_reading(patch)
        found = scanned.remembering()
    assert found[b"newer/e/f"].digest == first[b"d/e/f"].digest
    assert found[b"newer/g"].digest == first[b"d/g"].digest != found[b"d/g"].digest
    scanned.check()


# ------------------------------------------------------------------------------------------- what hides a change


def times_put_back(file: Path, act: Callable[[], object]) -> Callable[[], None]:
    def action() -> None:
        before = file.lstat()
        act()
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)

    return action


def replaced_by_rename(file: Path, content: bytes) -> None:
    new = write(file.with_name("new"), content)
    os.utime(new, ns=(0, file.stat().st_mtime_ns))
    new.replace(file)


def fifo_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    "act",
    [
        lambda root: times_put_back(root / "d/f", lambda: (root / "d/f").write_bytes(b"NEW"))(),
        lambda root: replaced_by_rename(root / "d/f", b"NEW"),
        lambda root: os.utime(root / "d/f", ns=(0, 1)),
        lambda root: times_put_back(root / "d/f", lambda: (root / "d/f").chmod(0o755))(),
        lambda root: (root / "d").chmod(0o700),
        lambda root: os.utime(root / "d", ns=(0, 1)),
        lambda root: times_put_back(root / "d/link", lambda: link_to(root / "d/link", "g"))(),
        lambda root: link_to(root / "d/f", "g"),
        lambda root: ((root / "d/f").unlink(), write(root / "d/f", b"old")),
        lambda root: (root / "d/f").unlink(),
        lambda root: ((root / "d/f").unlink(), write(root / "d/f/inside")),
        lambda root: (root / "d").rename(root / "e"),
        lambda root: ((root / "d").rename(root / "e"), (root / "d").symlink_to("e")),
        lambda root: ((root / "d").rename(root / "e"), write(root / "d")),
        lambda root: (
            (root / "d").rename(root / "e"),
            write(root / "d/f", b"old"),
            (root / "d/link").symlink_to("f"),
        ),
        lambda root: ((root / "d/f").rename(root / "d/h"), write(root / "d/f", b"old")),
        lambda root: os.mkfifo(root / "d/pipe"),
        lambda root: fifo_for(root / "d/f"),
    ],
    ids=[
        "same size and mtime",
        "same size and mtime by rename",
        "mtime back",
        "mode only",
        "mode of a directory",
        "mtime of a directory",
        "a link's target",
        "file to link",
        "deleted and made again",
        "deleted",
        "file to directory",
        "directory renamed",
        "directory to link",
        "directory to file",
        "directory made again",
        "renamed and made again",
        "a fifo",
        "file to fifo",
    ],
)
@pytest.mark.parametrize("young", [False, True])
def test_every_change_is_noticed(
    scanned: Scanned, act: Callable[[Path], object], young: bool, request: pytest.FixtureRequest
) -> None:
    if not young:
        request.getfixturevalue("later")
    write(scanned.root / "d/f", b"old")
    write(scanned.root / "a/sub/f")
    (scanned.root / "d/link").symlink_to("f")
    scanned.check()
    scanned.check()
    act(scanned.root)
    scanned.check()
    scanned.check()


@pytest.mark.parametrize("field", range(5))
def test_each_field_of_a_status_counts(field: int) -> None:
    def status(numbers: list[int]) -> os.stat_result:
        size, mtime, ctime, inode, mode = numbers
        return os.stat_result(
            (mode, inode, 1, 1, 0, 0, size, 0, 0, 0), {"st_mtime_ns": mtime, "st_ctime_ns": ctime}
        )

    now = [1, 2, 3, 4, 0o100644]
    looks = Looks.of([Look.of(status([9] * 5)), Look.of(status(now))])
    assert not looks.differs(1, status(now))
    assert looks.differs(0, status(now))
    now[field] += 1
    assert looks.differs(1, status(now))


def test_what_is_not_settled_looks_like_nothing() -> None:
    status = os.stat_result((0o100644, 0, 1, 1, 0, 0, 0, 0, 0, 0), {"st_mtime_ns": 0, "st_ctime_ns": 0})
    assert Looks.of([Look.of(status, settled=False)]).differs(0, status)


def test_what_was_young_when_it_was_read_is_read_again(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system with a coarse clock a second write may leave the same times."""
    write(scanned.root / "d/f")
    (scanned.root / "l").mkdir()
    (scanned.root / "l/link").symlink_to("f")
    read: list[str] = []

    def noting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            if name == "read" or "dir_fd" in more:  # else it is no link of the tree
                read.append(name)
            return real(*args, **more)

        return call

    for name in ("read", "readlink"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    born = max((scanned.root / name).lstat().st_ctime_ns for name in ("d/f", "l/link"))

    def reads_at(age: int) -> set[str]:
        read.clear()
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: born + age)
            scan(str(scanned.root), memory=scanned.memory)
        return set(read)

    assert reads_at(1_000_000) == {"read", "readlink"}
    assert reads_at(2_000_000) == {"read", "readlink"}
    assert reads_at(10 * SECOND) == {"read", "readlink"}
    assert reads_at(10 * SECOND) == set()


def test_content_written_within_one_tick_of_the_clock_is_not_missed(scanned: Scanned) -> None:
    file = scanned.root / "d/f"
    write(file)
    for number in range(200):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"%06d" % number)
        os.close(descriptor)
        os.utime(file, ns=(0, 10**18 + 1))
        assert scan(str(scanned.root), memory=scanned.memory) == scan(str(scanned.root))


def test_a_link_replaced_within_one_tick_of_the_clock_is_not_missed(scanned: Scanned) -> None:
    link = scanned.root / "link"
    link.symlink_to("000")
    for number in range(200):
        link.unlink()
        link.symlink_to(f"{number:03}")
        os.utime(link, ns=(0, 10**18 + 1), follow_symlinks=False)
        assert scan(str(scanned.root), memory=scanned.memory)[b"link"].target == b"%03d" % number


# ------------------------------------------------------------------------------------------- what cannot be read


def test_what_may_not_be_read_is_tried_again_each_time(scanned: Scanned, later: None) -> None:
    open_to_all(scanned.root)
    file = write(scanned.root / "d/f", mode=0)
    inside = write(scanned.root / "closed/inside")
    inside.parent.chmod(0)
    with without_privileges():
        assert [skipped.path for skipped in scanned.check().skipped] == [b"closed", b"d/f"]
        assert len(scanned.check().skipped) == 2
    file.chmod(0o644)
    inside.parent.chmod(0o755)
    with without_privileges():
        assert scanned.check().paths == (b"closed", b"closed/inside", b"d", b"d/f")
    inside.parent.chmod(0)
    with without_privileges():
        assert scanned.check().paths == (b"d", b"d/f")
    inside.parent.chmod(0o755)


def test_a_scan_that_fails_leaves_nothing_half_true(
    scanned: Scanned, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/f", "b/f", "c/f"):
        write(scanned.root / name)
    scanned.check()
    write(scanned.root / "a/f", b"other")
    (scanned.root / "b/f").unlink()
    write(scanned.root / "c/f", b"other")
    with monkeypatch.context() as patch:
        read = os.read
        calls = iter([True, False])

        def fails(descriptor: int, length: int) -> bytes:
            if next(calls, False):
                return read(descriptor, length)
            raise OSError(12, "Cannot allocate memory")

        patch.setattr(os, "read", fails)
        with pytest.raises(ScanError):
            scanned.remembering()
    assert scanned.memory.size == 0
    scanned.check()


def test_a_directory_that_becomes_a_staging_directory_is_left_out(scanned: Scanned, later: None) -> None:
    name = ".codesync-0123456789abcdef"
    write(scanned.root / name / "f")
    write(scanned.root / "d/f")
    assert os.fsencode(name) in scanned.check()
    write(scanned.root / name / "magic", MAGIC)
    assert scanned.check().paths == (b"d", b"d/f")


def test_a_directory_that_is_a_file_by_the_time_it_is_opened_is_a_file_and_then_seen_anew(
    scanned: Scanned, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scanned.root / "x/f")
    scanned.check()
    write(scanned.root / "d/f")
    listing = os.scandir

    def disturbed(fd: int) -> object:
        found = listing(fd)
        if (scanned.root / "d").is_dir():
            (scanned.root / "d").rename(scanned.root.parent / "d")
            write(scanned.root / "d")
        return found

    monkeypatch.setattr(os, "scandir", disturbed)
    assert scanned.remembering().paths == (b"d", b"x", b"x/f")
    monkeypatch.undo()
    scanned.check()


def replaced_by_file(path: Path) -> None:
    path.rename(path.with_name("was"))
    write(path)


def replaced_by_fifo(path: Path) -> None:
    path.rename(path.with_name("was"))
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("act", "there", "left_out"),
    [
        (replaced_by_file, [b"d"], []),
        (replaced_by_fifo, [], [b"d"]),
        (lambda path: path.rename(path.with_name("was")), [], []),
        (lambda path: (path.rename(path.with_name("was")), path.symlink_to("was")), [b"d"], []),
    ],
    ids=["a file", "a fifo", "nothing", "a link"],
)
@pytest.mark.parametrize("doubted", ["d", "d/f"])
def test_what_becomes_of_a_directory_after_it_was_doubted_is_seen_and_then_seen_anew(  # noqa: PLR0917
    scanned: Scanned,
    later: None,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], object],
    there: list[bytes],
    left_out: list[bytes],
    doubted: str,
) -> None:
    write(scanned.root / "d/f")
    write(scanned.root / "x/f")
    scanned.check()
    os.utime(scanned.root / doubted, ns=(0, 1))
    suspects = Past.suspects

    def disturbed(past: Past, root: int) -> list[int]:
        found = suspects(past, root)
        act(scanned.root / "d")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Past, "suspects", disturbed)
        found = scanned.remembering()
    assert {b"x", b"x/f", *there} <= set(found.paths) <= {b"x", b"x/f", b"was", b"was/f", *there}
    assert [skipped.path for skipped in found.skipped] == left_out
    scanned.check()


def test_directories_of_a_file_system_that_keeps_no_times_for_them_are_listed_each_time(
    scanned: Scanned, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scanned.root / "d/f")
    scanned.check()
    suspects = Past.suspects

    def no_directories(past: Past, root: int) -> list[int]:
        return [row for row in suspects(past, root) if not past.looks.flags[row]]

    monkeypatch.setattr(Past, "suspects", no_directories)
    write(scanned.root / "d/new")
    write(scanned.root / "new")
    for tell in (True, False):
        monkeypatch.setattr("codesync.delta.manifest.scanner.directories_tell", lambda _, tell=tell: tell)
        found = scanned.remembering()
        assert (b"d/new" not in found and b"new" not in found) is tell
    scanned.check()


# ------------------------------------------------------------------------------------------- the cache beside it


def test_the_cache_knows_what_the_memory_knows(scanned: Scanned, later: None) -> None:
    for name in ("d/f", "d/g", "e/f"):
        write(scanned.root / name)
    scanned.check()
    (scanned.root / "d/g").unlink()
    write(scanned.root / "d/h", b"new")
    (scanned.root / "e").rename(scanned.root.with_name("e"))
    write(scanned.root / "e", b"a file now")
    scanned.check()
    past = scanned.cache.load()
    assert past is not None
    scanned.cache.keep(past)
    again = ManifestCache(scanned.cache.path).load()
    assert again is not None
    known = {name for name in ("d/f", "d/g", "d/h", "e") if in_cache(again, scanned.root, name)}
    assert known == {"d/f", "d/h", "e"}
    write(scanned.root / "d/g")
    assert not in_cache(again, scanned.root, "d/g")


def in_cache(past: Past, root: Path, name: str) -> bool:
    path = root / name
    return path.exists() and past.lookup(os.fsencode(name), path.lstat()) is not None


# ------------------------------------------------------------------------------------------- anything at all


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_to_a_tree_both_find_the_same(
    scanned: Scanned, seed: int, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(seed)
    if seed % 2:
        request.getfixturevalue("later")
    if seed % 3 == 0:
        scanned.git.init(scanned.root)
    for _ in range(40):
        for _ in range(chance.randrange(3)):
            disturb(scanned, chance)
        scanned.check()


def disturb(scanned: Scanned, chance: random.Random) -> None:
    """One change at a random place; what cannot be done there is left."""
    root = scanned.root
    names = ["d", "d/f", "d/x.log", "d/e/f", "f", "x.log", "build", "build/f", ".gitignore", "d/.gitignore"]
    path, other = (root / name for name in chance.choices(names, k=2))
    actions: list[Callable[[], object]] = [
        lambda: write(path, chance.randbytes(3)),
        lambda: path.write_bytes(chance.choice([b"*.log\n", b"build/\n", b"f\n!d/f\n", b"d\n", b""])),
        times_put_back(path, lambda: path.write_bytes(chance.randbytes(3))),
        path.unlink,
        lambda: path.rename(other),
        path.mkdir,
        lambda: path.symlink_to(chance.choice(["f", "d", "nowhere"])),
        lambda: path.chmod(chance.choice([0o644, 0o755, 0o700])),
        lambda: os.utime(path, ns=(0, chance.randrange(10**18)), follow_symlinks=False),
        lambda: scanned.git.track(root, os.fsencode(path.relative_to(root))),
        lambda: (root / ".codesyncignore").write_bytes(chance.choice([b"", b"d/e\n", b"!x.log\n"])),
    ]
    with suppress(OSError, CalledProcessError):
        chance.choice(actions)()
