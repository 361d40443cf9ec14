"""A Root sees what is there, and only there."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from codesync.transaction import MAGIC, Root, UnsafePath, is_staging
from tests.transaction.trees import Tree, as_nobody, build, directory, file, link

STAGING = b".codesync-0123456789abcdef"
TREE: Tree = {
    b"f": file(b"content"),
    b"d": directory(),
    b"d/e": directory(),
    b"d/e/f": file(b"deep"),
    b"l": link(b"d"),
    b"d/up": link(b".."),
    b"loop": link(b"loop"),
}


def test_files_links_and_directories_are_read(world: bytes) -> None:
    build(world, TREE)
    with Root(os.fsdecode(world)) as root:
        assert stat.S_ISDIR(root.lstat(b"").st_mode)
        assert root.lstat(b"d/e/f").st_size == 4
        assert stat.S_ISLNK(root.lstat(b"l").st_mode)
        assert root.readlink(b"d/up") == b".."
        assert root.scandir() == [b"d", b"f", b"l", b"loop"]
        assert root.scandir(b"d/e") == [b"f"]
        with root.open(b"d/e/f") as content:
            assert content.read() == b"deep"
        fd = root.open_directory(b"d")
        assert sorted(os.listdir(fd)) == ["e", "up"]
        os.close(fd)


def test_what_is_missing_is_the_systems_error(world: bytes) -> None:
    build(world, TREE)
    with Root(world) as root:
        for method in (root.lstat, root.open, root.readlink, root.scandir, root.open_directory):
            for path in (b"no", b"no/x", b"d/no/x"):
                with pytest.raises(FileNotFoundError):
                    method(path)
            with pytest.raises(NotADirectoryError):
                method(b"f/x")
        for method in (root.scandir, root.open_directory):
            with pytest.raises(NotADirectoryError):
                method(b"f")
        with pytest.raises(OSError, match="Invalid argument"):
            root.readlink(b"f")


def test_no_component_is_followed_through_a_symlink(world: bytes) -> None:
    build(world, TREE)
    with Root(world) as root:
        for method in (root.lstat, root.open, root.readlink, root.scandir, root.open_directory):
            for path in (b"l/e", b"d/up/f", b"loop/x", b"l/e/f"):
                with pytest.raises(UnsafePath) as caught:
                    method(path)
                assert path.startswith(caught.value.path or b"?")
        for method in (root.open, root.scandir, root.open_directory):
            with pytest.raises(UnsafePath):
                method(b"l")


@pytest.mark.parametrize("path", [b"/etc", b"..", b"d/../f", b"d//e", b"./f", b"d/", b"f\0"])
def test_a_path_that_leaves_is_refused(world: bytes, path: bytes) -> None:
    build(world, TREE)
    with Root(world) as root:
        for method in (root.lstat, root.open, root.readlink, root.scandir, root.open_directory):
            with pytest.raises(UnsafePath):
                method(path)


def test_only_regular_files_are_opened_and_nothing_blocks(world: bytes) -> None:
    os.mkfifo(os.path.join(world, b"fifo"))
    os.mkdir(os.path.join(world, b"d"))
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.fsdecode(os.path.join(world, b"sock")))
    server.close()
    with Root(world) as root:
        for name in (b"fifo", b"d", b"sock"):
            with pytest.raises(UnsafePath, match="not a regular file"):
                root.open(name)


def test_a_directory_that_was_replaced_is_noticed(world: bytes, outside: bytes) -> None:
    build(world, TREE)
    build(outside, {b"f": file(b"secret")})
    at = os.path.join(world, b"d/e")
    with Root(world) as root:
        assert root.lstat(b"d/e/f").st_size == 4
        os.rename(at, at + b"2")
        with pytest.raises(FileNotFoundError):
            root.lstat(b"d/e/f")
        os.symlink(outside, at)
        with pytest.raises(UnsafePath):
            root.open(b"d/e/f")
        os.unlink(at)
        build(at, {b"f": file(b"another")})
        assert root.lstat(b"d/e/f").st_size == 7


def test_directories_that_can_only_be_passed_are_passed(world: bytes) -> None:
    def run() -> None:
        build(world, {b"d": directory(0o311), b"d/f": file(b"x")})
        with Root(world) as root, root.open(b"d/f") as content:
            assert content.read() == b"x"

    as_nobody(run)


def test_no_descriptor_is_lost(world: bytes) -> None:
    build(world, TREE)
    before = os.listdir("/proc/self/fd")
    with Root(world) as root, root.twin() as twin:
        for path in TREE:
            root.lstat(path)
            twin.lstat(path)
            for method in (root.open, root.scandir):
                try:
                    found = method(path)
                except (OSError, UnsafePath):
                    continue
                if not isinstance(found, list):
                    found.close()
        root.close()
        assert twin.lstat(b"d/e/f").st_size == 4
    assert os.listdir("/proc/self/fd") == before


def test_a_root_may_itself_be_reached_through_a_symlink(world: bytes, outside: bytes) -> None:
    build(world, TREE)
    os.symlink(world, os.path.join(outside, b"way"))
    with Root(os.path.join(outside, b"way")) as root:
        assert root.lstat(b"f").st_size == 7


# ---- staging directories


def test_a_staging_directory_is_known_by_name_and_magic(world: bytes) -> None:
    build(world, {STAGING: directory(0o700), STAGING + b"/magic": file(MAGIC), b"f": file()})
    with Root(world) as root:
        assert is_staging(root.fd, STAGING)
        assert root.scandir() == [b"f"]


LOOKALIKES: list[Tree] = [
    {STAGING: file(MAGIC)},
    {STAGING: link(b"elsewhere"), b"elsewhere": directory(), b"elsewhere/magic": file(MAGIC)},
    {STAGING: directory()},
    {STAGING: directory(), STAGING + b"/magic": directory()},
    {STAGING: directory(), STAGING + b"/magic": file(b"")},
    {STAGING: directory(), STAGING + b"/magic": file(MAGIC + b"x")},
    {STAGING: directory(), STAGING + b"/magic": link(b"../real"), b"real": file(MAGIC)},
    {STAGING + b"0": directory(), STAGING + b"0/magic": file(MAGIC)},
    {STAGING[:-1]: directory(), STAGING[:-1] + b"/magic": file(MAGIC)},
    {STAGING.upper(): directory(), STAGING.upper() + b"/magic": file(MAGIC)},
    {STAGING + b"\n": directory(), STAGING + b"\n/magic": file(MAGIC)},
]


@pytest.mark.parametrize("tree", LOOKALIKES)
def test_what_only_looks_like_a_staging_directory_is_ordinary(world: bytes, tree: Tree) -> None:
    build(world, tree)
    with Root(world) as root:
        assert not any(is_staging(root.fd, name) for name in tree)
        assert set(root.scandir()) == {name for name in tree if b"/" not in name}
