"""What is done ahead of the rename, and what after it: prepare, rename without sync, sync."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

import pytest

from codesync.transaction import DELETE, Change, NotEmpty, Transaction, TransactionError, recover
from tests.transaction.trees import (
    Tree,
    build,
    directory,
    file,
    in_child,
    kill_oneself,
    link,
    put,
    read,
    stage,
    staged,
    stagings_in,
    without_mtimes,
    without_root,
)

OLD: Tree = {
    b"": directory(),
    b"changed": file(b"old", 0o640),
    b"gone": file(b"gone"),
    b"link": link(b"old"),
    b"mode": file(b"x"),
    b"d": directory(),
    b"d/x": file(b"x"),
    b"e": directory(),
    b"e/y": file(b"y"),
}
NEW: Tree = {
    b"": directory(),
    b"changed": file(b"new!", 0o600),
    b"link": link(b"new"),
    b"mode": file(b"x", 0o755),
    b"d": directory(),
    b"d/x": file(b"x2"),
    b"e": file(b"a file now"),
    b"n": directory(0o750),
    b"n/z": file(b"z"),
}


@pytest.fixture
def transaction(world: bytes) -> Iterator[Transaction]:
    """From OLD to NEW, prepared."""
    build(world, OLD)
    with staged(world, OLD, NEW, durable=True) as transaction:
        transaction.prepare()
        yield transaction


def test_prepared_is_nothing_changed(world: bytes, transaction: Transaction) -> None:
    assert {path: node for path, node in read(world).items() if not path.startswith(b".codesync")} == OLD
    transaction.undo()
    assert read(world) == OLD


def test_in_steps_it_is_the_same_as_at_once(world: bytes, transaction: Transaction) -> None:
    transaction.rename(sync=False)
    assert read(world).keys() >= NEW.keys()
    transaction.sync()
    transaction.sync()
    transaction.keep(decided=True)
    assert without_root(read(world)) == without_root(NEW)
    assert recover(world) == []


def write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as out:
        out.write(data)


def relink(root: bytes) -> None:
    os.unlink(root + b"/link")
    os.symlink(b"x", root + b"/link")


def remake(root: bytes) -> None:
    os.rename(root + b"/d", root + b"/d2")
    os.mkdir(root + b"/d")
    os.rename(root + b"/d2/x", root + b"/d/x")
    os.rmdir(root + b"/d2")


def replace(path: bytes, data: bytes) -> None:
    write(path + b".draft", data)
    os.utime(path + b".draft", ns=(OLD[b"changed"].mtime,) * 2)
    os.chmod(path + b".draft", os.stat(path).st_mode)
    os.replace(path + b".draft", path)


MEANWHILE: dict[str, Callable[[bytes], object]] = {
    "a file is written to": lambda root: write(root + b"/changed", b"theirs"),
    "a file is replaced by one that looks the same": lambda root: replace(root + b"/changed", b"OLD"),
    "a file has another mode": lambda root: os.chmod(root + b"/mode", 0o700),
    "a file is deleted": lambda root: os.unlink(root + b"/changed"),
    "what is to be deleted is replaced": lambda root: replace(root + b"/gone", b"GONE"),
    "what is to be deleted is gone": lambda root: os.unlink(root + b"/gone"),
    "something is at a path to be put": lambda root: write(root + b"/n", b"theirs"),
    "a directory is at a path to be put": lambda root: os.mkdir(root + b"/n"),
    "a link has another target": relink,
    "a directory has another mode": lambda root: os.chmod(root + b"/d", 0o700),
    "a directory is a new one": remake,
    "something is put beside": lambda root: write(root + b"/d/beside", b"theirs"),
}


@pytest.mark.parametrize("change", MEANWHILE.values(), ids=MEANWHILE.keys())
@pytest.mark.parametrize("end", ["keep", "undo", "killed"])
def test_what_others_change_until_the_rename_is_what_undo_brings_back(
    world: bytes, change: Callable[[bytes], object], end: str
) -> None:
    build(world, OLD)
    theirs: Tree = {}

    def run() -> None:
        with staged(world, OLD, NEW) as transaction:
            transaction.prepare()
            change(world)
            if end == "killed":
                transaction.rename(sync=False)
                kill_oneself()
            theirs.update(
                (path, node) for path, node in read(world).items() if not path.startswith(b".codesync")
            )
            transaction.rename()
            if end == "keep":
                transaction.keep()

    if end == "killed":
        in_child(run)
        change_of(world, change, theirs)
        recover(world)
    else:
        run()
    here = without_root(without_mtimes(read(world)))
    if end == "keep":
        beside = {b"d/beside": here[b"d/beside"]} if b"d/beside" in here else {}
        assert here == without_root(without_mtimes(NEW)) | beside
    else:
        assert here == without_root(without_mtimes(theirs))


def change_of(world: bytes, change: Callable[[bytes], object], into: Tree) -> None:
    """What the change makes of OLD, tried elsewhere."""
    twin = world + b"-twin"
    build(twin, OLD)
    change(twin)
    into.update(read(twin))


def test_what_another_puts_in_the_way_is_refused_and_stays(world: bytes, transaction: Transaction) -> None:
    write(world + b"/e/theirs", b"precious")
    with pytest.raises(NotEmpty):
        transaction.rename()
    assert without_mtimes(read(world)) == without_mtimes({**OLD, b"e/theirs": file(b"precious")})


@pytest.mark.parametrize("kept", [False, True])
def test_one_that_died_prepared_is_forgotten_and_touches_nothing(world: bytes, kept: bool) -> None:
    build(world, OLD)

    def die() -> None:
        staged(world, OLD, NEW, durable=True).prepare()
        kill_oneself()

    in_child(die)
    replace(world + b"/changed", b"OLD")  # it is theirs, and the journal has another
    os.unlink(world + b"/gone")
    assert recover(world, lambda id: kept) == []
    tree = without_mtimes(read(world))
    assert tree.pop(b"changed").data == b"OLD"
    assert tree == without_mtimes({p: n for p, n in OLD.items() if p not in (b"changed", b"gone")})
    in_child(die)
    Transaction.begin(world, "next").undo()
    assert stagings_in(world) == []


def test_undoing_a_prepared_one_leaves_what_others_have_done(world: bytes, transaction: Transaction) -> None:
    replace(world + b"/changed", b"OLD")
    write(world + b"/d/beside", b"x")
    there = read(world)
    transaction.undo()
    assert read(world) == {p: n for p, n in there.items() if not p.startswith(b".codesync")}


def test_what_is_added_after_preparing_is_in_the_same_transaction(
    world: bytes, transaction: Transaction
) -> None:
    write(world + b"/late.pyc", b"x")
    transaction.add(Change(b"late.pyc", DELETE))
    transaction.rename()
    assert b"late.pyc" not in read(world)
    transaction.undo()
    assert without_mtimes(read(world)) == without_mtimes(OLD | {b"late.pyc": file(b"x")})


def test_each_step_has_its_time(world: bytes, transaction: Transaction) -> None:
    with pytest.raises(TransactionError, match="cannot be prepared: it is prepared already"):
        transaction.prepare()
    with pytest.raises(TransactionError, match="cannot be kept: it is prepared already"):
        transaction.keep()
    transaction.rename(sync=False)
    with pytest.raises(TransactionError, match="cannot be renamed"):
        transaction.rename()
    transaction.undo()
    assert without_mtimes(read(world)) == without_mtimes(OLD)


def test_an_open_file_is_not_prepared(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        transaction.create(put(b"f", file(b"x")))
        with pytest.raises(TransactionError, match="still being written"):
            transaction.prepare()


# ---- what is on the disk, and when


class Disk:
    """In order what is synced, by its name at that time, and `-> name` for what is renamed."""

    def __init__(self, root: bytes) -> None:
        self.log: list[str] = []
        self._root = os.fsdecode(os.path.basename(root))

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The names of what happens meanwhile."""
        fsync, rename = os.fsync, os.rename

        def synced(fd: int) -> None:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
            staging = os.path.isfile(f"/proc/self/fd/{fd}/magic")
            self.log.append("staging" if staging else "root" if name == self._root else name)
            fsync(fd)

        def renamed(old: bytes, new: bytes, **where: int) -> None:
            self.log.append(f"-> {os.fsdecode(new)}")
            rename(old, new, **where)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", synced)
            patch.setattr(os, "rename", renamed)
            yield self.log
        self.log = []


@pytest.mark.parametrize("decided", [False, True])
def test_each_name_is_taken_when_all_that_it_promises_is_on_the_disk(world: bytes, decided: bool) -> None:
    build(world, {b"": directory(), b"d": directory(), b"d/x": file(b"old")})
    disk = Disk(world)
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(put(b"d/x", file(b"new")), b"new")])
        with disk.watched() as log:
            transaction.prepare()
            assert log == ["journal.new", "n0", "-> prepared", "root"]
        with disk.watched() as log:
            transaction.rename(sync=False)
            assert log == ["-> journal", "staging", "-> x"]
        with disk.watched() as log:
            transaction.sync()
            assert log == ["d", "-> renamed", "staging"]
        with disk.watched() as log:
            transaction.keep(decided=decided)
            assert log == ["-> kept"] + ["staging"] * (not decided)


def test_at_once_it_costs_no_more(world: bytes) -> None:
    build(world, {b"": directory(), b"d": directory(), b"d/x": file(b"old")})
    disk = Disk(world)
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(put(b"d/x", file(b"new")), b"new")])
        with disk.watched() as log:
            transaction.rename()
            transaction.keep()
            before = ["journal.new", "n0", "-> prepared", "root", "-> journal", "staging", "-> x"]
            assert log == [*before, "d", "-> renamed", "-> kept", "staging"]


def test_a_tree_that_cannot_be_synced_can_still_be_undone(world: bytes, transaction: Transaction) -> None:
    transaction.rename(sync=False)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for attempt in (transaction.sync, transaction.keep):
            with pytest.raises(TransactionError, match="cannot be written"):
                attempt()
    transaction.undo()
    assert without_root(read(world)) == without_root(OLD)
