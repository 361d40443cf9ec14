"""What the system may refuse, and the filesystems a container brings: these tests mount, so they need root."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess

import pytest

from codesync.transaction import DELETE, Change, Transaction, TransactionError, recover
from tests.transaction.trees import (
    Tree,
    as_nobody,
    build,
    directory,
    file,
    in_child,
    in_own_mounts,
    kill_oneself,
    link,
    mount,
    put,
    read,
    stage,
    staged,
    stagings_in,
    without_mtimes,
)

OLD: Tree = {
    b"": directory(),
    b"f": file(b"old"),
    b"gone": file(b"gone"),
    b"l": link(b"f"),
    b"d": directory(0o750),
    b"d/x": file(b"x", 0o600),
    b"e": directory(0o555),
    b"e/deep": directory(),
    b"e/deep/y": file(b"y"),
    b"kept": directory(),
    b"kept/z": file(b"z"),
    b"to-dir": file(b"file"),
}
NEW: Tree = {
    b"": directory(),
    b"f": file(b"new", 0o755),
    b"l": link(b"d"),
    b"d": file(b"now a file"),
    b"n": directory(0o555),
    b"n/e": directory(),
    b"n/e/y": file(b"y"),
    b"kept": directory(),
    b"kept/z": file(b"z", 0o640),
    b"to-dir": directory(),
    b"to-dir/in": file(b"in"),
}


def refused(world: bytes, old: Tree, changes: list[tuple[Change, bytes]], match: str) -> TransactionError:
    """The changes fail with one line that says why, and the tree is as it was."""
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, changes)
        with pytest.raises(TransactionError, match=match) as caught:
            transaction.rename()
    assert stagings_in(world) == []
    assert (read(world) if os.getuid() == 0 else without_mtimes(read(world))) == old
    return caught.value


def test_a_full_disk_leaves_the_old_tree(world: bytes) -> None:
    def run() -> None:
        mount("tmpfs", world, "size=256k")
        build(world, OLD)
        data = os.urandom(100_000)
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(put(b"one", file(data)), data)])
            with pytest.raises(TransactionError, match="no space left") as caught:
                stage(transaction, [(put(b"big", file(data * 3)), data * 3)])
            assert caught.value.path == b"big"
        assert read(world) == OLD

    in_own_mounts(run)


def test_a_disk_without_free_inodes_leaves_the_old_tree(world: bytes) -> None:
    """Every number of free inodes: from too few to begin, over too few to stage or to save, to enough."""

    def run() -> None:
        done: list[bool] = []
        for free in range(1, 40, 3):
            where = os.path.join(world, b"%d" % free)
            os.mkdir(where)
            mount("tmpfs", where, f"size=1m,nr_inodes={len(OLD) + free}")
            build(where, OLD)
            done.append(kept(where))
            assert read(where) == (NEW if done[-1] else OLD)
        assert set(done) == {False, True}

    in_own_mounts(run)


def kept(root: bytes) -> bool:
    """Whether there was room to make OLD into NEW."""
    try:
        with staged(root, OLD, NEW) as transaction:
            transaction.rename()
            transaction.keep()
    except TransactionError as error:
        return "no space left" not in str(error)
    return True


def test_a_read_only_filesystem_is_named(world: bytes) -> None:
    def run() -> None:
        mount("tmpfs", world, "ro")
        with pytest.raises(TransactionError, match="read-only; mount it writable"):
            Transaction.begin(world, "t")

    in_own_mounts(run)


def test_an_immutable_file_is_named_and_everything_put_back(world: bytes) -> None:
    assert os.getuid() == 0, "run this test as root: it makes a file immutable"
    build(world, OLD)
    fd = os.open(os.path.join(world, b"f"), os.O_RDONLY)
    set_flags, immutable = 0x40086602, 0x10
    fcntl.ioctl(fd, set_flags, struct.pack("l", immutable))
    try:
        for change in (put(b"f", file(b"new")), Change(b"f", DELETE)):
            others = [(Change(b"gone", DELETE), b""), (put(b"kept/z", file(b"new")), b"new")]
            error = refused(world, OLD, [*others, (change, b"new")], "immutable")
            assert error.path == b"f"
    finally:
        fcntl.ioctl(fd, set_flags, struct.pack("l", 0))
        os.close(fd)


def test_a_mount_point_is_named_and_everything_put_back(world: bytes) -> None:
    def run() -> None:
        build(world, OLD)
        mount("tmpfs", os.path.join(world, b"kept"), "size=64k")
        inner = os.path.join(world, b"kept", b"z")
        with open(inner, "wb") as out:
            out.write(b"inner")
        subprocess.run(
            ["mount", "--bind", os.path.join(world, b"gone"), os.path.join(world, b"f")], check=True
        )
        old = read(world)
        other = (Change(b"d/x", DELETE), b"")
        for change, match in (
            (Change(b"kept/z", DELETE), "another filesystem"),
            (put(b"kept/z", file(b"new")), "another filesystem"),
            (put(b"kept/new", file(b"new")), "another filesystem"),
            (put(b"f", file(b"new")), "mount point"),
            (Change(b"f", DELETE), "mount point"),
        ):
            assert refused(world, old, [other, (change, b"new")], match).path == change.path
        os.unlink(inner)
        assert (
            refused(world, read(world), [other, (Change(b"kept", DELETE), b"")], "mount point").path
            == b"kept"
        )

    in_own_mounts(run)


def test_a_directory_over_unknown_mounts_stays(world: bytes) -> None:
    def run() -> None:
        build(world, OLD)
        mount("tmpfs", os.path.join(world, b"e/deep"), "size=64k")
        before = read(world)
        with Transaction.begin(world, "t") as transaction:
            transaction.add(Change(b"e", DELETE))
            transaction.rename()
            assert transaction.left == [b"e"]
            transaction.keep()
        assert without_mtimes(read(world)) == without_mtimes(before)

    in_own_mounts(run)


def test_another_users_files_are_replaced_only_where_he_lets_us(world: bytes) -> None:
    assert os.getuid() == 0, "run this test as root: it gives files away"
    build(
        world,
        {
            b"open": directory(0o777),
            b"open/f": file(b"old", 0o600),
            b"shut": directory(),
            b"shut/f": file(b"old"),
        },
    )
    for path in (b"open", b"open/f", b"shut", b"shut/f"):
        os.chown(os.path.join(world, path), 0, 0)

    def run() -> None:
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(put(b"open/f", file(b"new", 0o600)), b"new")])
            transaction.rename()
            transaction.keep()
        old = without_mtimes(read(world))  # nobody but its owner can give a directory its mtime back
        for change in (put(b"shut/f", file(b"new")), Change(b"shut/f", DELETE), put(b"shut/g", directory())):
            changes = [(put(b"open/f", file(b"newer")), b"newer"), (change, b"new")]
            error = refused(world, old, changes, "Permission denied")
            assert error.path == change.path

    as_nobody(run)
    assert read(world)[b"open/f"].data == b"new"


# ---- an image's layers: directories of lower layers cannot be renamed, links copy up


def overlay(world: bytes) -> bytes:
    """An overlay with OLD in its lower layer."""
    mount("tmpfs", world, "size=4m")
    names = {
        name: os.fsdecode(os.path.join(world, name.encode())) for name in ("lower", "upper", "work", "merged")
    }
    for where in names.values():
        os.mkdir(where)
    build(os.fsencode(names["lower"]), OLD)
    os.utime(names["upper"], ns=(OLD[b""].mtime, OLD[b""].mtime))
    merged = os.fsencode(names["merged"])
    options = f"lowerdir={names['lower']},upperdir={names['upper']},workdir={names['work']},redirect_dir=off"
    mount("overlay", merged, options)
    return merged


@pytest.mark.parametrize("end", ["keep", "undo", "killed"])
def test_the_layers_of_an_image_are_like_any_tree(world: bytes, end: str) -> None:
    def run() -> None:
        root = overlay(world)
        assert read(root) == OLD

        def rename() -> None:
            transaction = staged(root, OLD, NEW)
            transaction.rename()
            assert read(root).keys() >= NEW.keys()
            if end == "killed":
                kill_oneself()
            getattr(transaction, end)()

        in_child(rename)
        recover(root)
        assert read(root) == (NEW if end == "keep" else OLD)

    in_own_mounts(run)
