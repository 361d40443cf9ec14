"""Whichever way many things are asked for, the same are found to have changed."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codesync.delta.manifest import bulk
from codesync.delta.manifest.looks import STATUS, Look, Looks
from tests.delta.files import write

NAMES = (b"after", b"before", b"big", b"d", b"f", b"link", b"odd \xff")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    (tmp_path / "d").unlink()
    (tmp_path / "d").mkdir(mode=0o3771)
    for number in range(600):  # more than are asked for at once
        write(tmp_path / f"many/{number:03}", b"%d" % number)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("nowhere")
    os.utime(tmp_path / "before", ns=(0, -1))
    os.utime(tmp_path / "after", ns=(0, 7_258_118_400_123_456_789))
    os.truncate(tmp_path / "big", 2**40 + 5)
    return tmp_path


def groups(root: Path) -> list[bulk.Group]:
    many = [b"%03d" % number for number in range(600)]
    return [(b"", NAMES), (b"many", many), (b"", [b"many", b"d"])]


def looks_of(root: Path) -> Looks:
    paths = [os.path.join(directory, name) for directory, names in groups(root) for name in names]
    return Looks.of([Look.of(os.lstat(os.path.join(os.fsencode(root), path))) for path in paths])


@pytest.fixture(params=["at once", "one by one"])
def ask(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Looks, Path], list[int]]:
    if request.param == "one by one":
        monkeypatch.setattr(sys, "platform", "other")
    else:
        monkeypatch.setattr(bulk, "_FEW", 0)

    def asked(looks: Looks, root: Path) -> list[int]:
        descriptor = os.open(root, os.O_RDONLY)
        try:
            return sorted(bulk.asking(looks).differing(groups(root), descriptor))
        finally:
            os.close(descriptor)

    return asked


Ask = Callable[[Looks, Path], list[int]]


def test_what_is_as_it_was_looks_so(root: Path, ask: Ask) -> None:
    assert ask(looks_of(root), root) == []


@pytest.mark.parametrize("field", range(STATUS))
def test_each_field_counts(root: Path, ask: Ask, field: int) -> None:
    looks = looks_of(root)
    for row in (0, 3, 5, 300, len(looks.flags) - 1):
        looks[field][row] ^= 1
    assert ask(looks, root) == [0, 3, 5, 300, len(looks.flags) - 1]


def test_what_has_gone_or_cannot_be_reached_is_doubted(root: Path, ask: Ask) -> None:
    looks = looks_of(root)
    (root / "big").unlink()
    (root / "many/300").unlink()
    assert ask(looks, root) == [2, 307, 607]  # and the directory
    os.link(root / "many/299", root / "many/300")  # what the same was said about just before
    assert {306, 307} <= set(ask(looks, root))
    (root / "many").rename(root / "other")
    assert ask(looks, root) == [2, *range(7, 608)]
    (root / "many").symlink_to("other")  # nothing is opened through it
    assert ask(looks, root) == [2, *range(7, 608)]


def test_what_was_said_the_last_time_is_not_said_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_FEW", 0)
    monkeypatch.setattr(bulk, "_AT_ONCE", 1024)  # each in its own place
    asking = bulk.asking(looks_of(root))
    descriptor = os.open(root, os.O_RDONLY)
    try:
        assert asking.differing(groups(root), descriptor) == []
        (root / "odd \udcff").unlink()
        (root / "many/599").unlink()
        assert asking.differing(groups(root), descriptor) == [6, 606, 607]  # and the directory
        assert asking.differing(groups(root), descriptor) == [6, 606, 607]
    finally:
        os.close(descriptor)


def test_without_statx_they_are_asked_for_one_by_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    monkeypatch.setattr(bulk, "_FEW", 0)
    looks = looks_of(root)
    looks.sizes[1] += 1
    descriptor = os.open(root, os.O_RDONLY)
    try:
        for library in (object(), type("Refusing", (), {"statx": staticmethod(lambda *_: -1)})()):
            monkeypatch.setattr(ctypes, "CDLL", lambda _, library=library: library)
            assert bulk.asking(looks).differing(groups(root), descriptor) == [1]
    finally:
        os.close(descriptor)


def test_the_faster_way_is_taken_where_it_is_said_to_be(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above compare one way with itself."""
    asked: list[bytes] = []
    real = os.stat
    monkeypatch.setattr(bulk, "_FEW", 0)

    def noting(name: bytes, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        asked.append(name)
        return real(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    looks = looks_of(root)
    monkeypatch.setattr(os, "stat", noting)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        bulk.asking(looks).differing(groups(root), descriptor)
    finally:
        os.close(descriptor)
    assert (not asked) is (sys.platform == "linux" and sys.byteorder == "little")
