"""What is found after a process died, and what is left alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from codesync.transaction import (
    DELETE,
    MAGIC,
    Change,
    Recovery,
    Transaction,
    TransactionError,
    UnsafePath,
    recover,
)
from codesync.transaction.journal import Journal
from tests.transaction.test_transaction_root import LOOKALIKES
from tests.transaction.trees import (
    NOBODY,
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
)

OLD: Tree = {
    b"": directory(),
    b"f": file(b"old"),
    b"gone": file(b"gone"),
    b"d": directory(),
    b"d/x": file(b"x"),
}
NEW: Tree = {
    b"": directory(),
    b"f": file(b"new"),
    b"d": link(b"f"),
    b"n": directory(0o555),
    b"n/y": file(b"y"),
}


def die_renamed(root: bytes) -> None:
    """Leave a renamed transaction behind."""

    def die() -> None:
        staged(root, OLD, NEW, "push-1").rename()
        kill_oneself()

    build(root, OLD)
    in_child(die)
    assert len(stagings_in(root)) == 1


def test_a_recovered_transaction_is_undone(world: bytes) -> None:
    die_renamed(world)
    assert recover(world) == [Recovery("push-1", "undone")]
    assert read(world) == OLD
    assert recover(world) == []
    assert read(world) == OLD


def test_or_kept_when_somebody_knows_that_it_is(world: bytes, outside: bytes) -> None:
    die_renamed(world)
    asked: list[str] = []
    offered: dict[bytes, str] = {}

    def kept(id: str) -> bool:
        asked.append(id)
        return True

    assert recover(world, kept, lambda path, saved: offered.update({path: Path(saved).read_text()})) == [
        Recovery("push-1", "kept")
    ]
    assert asked == ["push-1"]
    assert offered == {b"f": "old", b"gone": "gone", b"d/x": "x"}
    assert read(world) == NEW
    assert recover(world, kept) == []


def test_a_journal_of_another_version_is_an_error_and_nothing_is_touched(world: bytes) -> None:
    die_renamed(world)
    journal = os.path.join(world, stagings_in(world)[0], b"renamed")
    content = Path(os.fsdecode(journal)).read_bytes()
    rest = content.partition(b"\n")[2]
    for head in (
        b"codesync journal 2 something else",
        b"codesync journal 2",
        b"codesync journal 10 " + b"0" * 64,
    ):
        Path(os.fsdecode(journal)).write_bytes(head + b"\n" + rest)
        before = read(world)
        for kept in (False, True):
            with pytest.raises(TransactionError, match=r"version .*codesync that wrote it"):
                recover(world, lambda id, answer=kept: answer)  # type: ignore[misc]
        assert read(world) == before
    Path(os.fsdecode(journal)).write_bytes(content)
    recover(world)
    assert read(world) == OLD


def test_a_damaged_journal_is_an_error_and_nothing_is_touched(world: bytes) -> None:
    die_renamed(world)
    journal = Path(os.fsdecode(os.path.join(world, stagings_in(world)[0], b"renamed")))
    content = journal.read_bytes()
    for damaged in (b"", content[:-1], content[:40], content.replace(b"push-1", b"push-2"), b"x" + content):
        journal.write_bytes(damaged)
        before = read(world)
        with pytest.raises(TransactionError, match="damaged"):
            recover(world)
        assert read(world) == before


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"id":"x","durable":true,"steps":[[0]],"directories":[]}',
        b'{"id":"x","durable":true,"steps":[],"directories":[["YQ==",["directory"]]]}',
    ],
)
def test_a_journal_that_says_nonsense_is_damaged(text: bytes) -> None:
    head = b"codesync journal 1 " + hashlib.sha256(text).hexdigest().encode()
    with pytest.raises(TransactionError, match="damaged"):
        Journal.from_bytes(head + b"\n" + text)


def test_a_journal_leads_nowhere_else() -> None:
    text = b'{"id":"x","durable":true,"steps":[],"directories":[["Li4vLi4=",["directory",493,0,0,0]]]}'
    head = b"codesync journal 1 " + hashlib.sha256(text).hexdigest().encode()
    with pytest.raises(UnsafePath):
        Journal.from_bytes(head + b"\n" + text)


def test_a_journal_another_user_left_is_not_believed(world: bytes) -> None:
    assert os.getuid() == 0, "run this test as root: it needs another user's file"
    die_renamed(world)
    os.chown(os.path.join(world, stagings_in(world)[0]), NOBODY, NOBODY)
    before = without_mtimes(read(world))
    with pytest.raises(TransactionError, match="another user"):
        recover(world)
    assert without_mtimes(read(world)) == before


def test_a_transaction_that_died_while_staging_leaves_no_trace(world: bytes) -> None:
    build(world, OLD)

    def die() -> None:
        staged(world, OLD, NEW, "push-1")
        kill_oneself()

    in_child(die)
    assert recover(world, lambda id: True) == []
    assert read(world) == OLD


@pytest.mark.parametrize("tree", LOOKALIKES)
def test_what_only_looks_like_a_staging_directory_is_content(world: bytes, tree: Tree) -> None:
    tree = {b"": directory(), **tree}
    build(world, tree)
    assert recover(world) == []
    assert read(world) == tree
    with Transaction.begin(world, "t") as transaction:
        for path in tree:
            if path:
                transaction.add(Change(path, DELETE))
        transaction.rename()
        transaction.keep()
    assert set(read(world)) == {b""}


def test_nothing_is_put_into_a_staging_directory(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        (name,) = stagings_in(world)
        for change in (put(name + b"/n0", file()), Change(name, DELETE), Change(name + b"/magic", DELETE)):
            with pytest.raises(UnsafePath, match="staging"):
                stage(transaction, [(change, b"")])


def test_a_nested_root_recovers_for_itself(world: bytes) -> None:
    """Only directly in the root: what is further down belongs to somebody else's root."""
    staging = b"sub/.codesync-0123456789abcdef"
    tree: Tree = {
        b"": directory(),
        b"sub": directory(),
        staging: directory(0o700),
        staging + b"/magic": file(MAGIC),
    }
    build(world, tree)
    assert recover(world) == []
    assert read(world) == tree
    assert recover(os.path.join(world, b"sub")) == []
    assert set(read(world)) == {b"", b"sub"}
