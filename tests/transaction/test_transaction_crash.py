"""A process dies, or a system call fails, at every single step: the tree is the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codesync.transaction import Recovery, Transaction, TransactionError, recover
from tests.transaction.trees import (
    FOREVER,
    Counter,
    Tree,
    build,
    dead_at,
    difference,
    directory,
    file,
    killed_at,
    link,
    place,
    read,
    stage,
    staged,
    stagings_in,
    without_root,
)

OLD: Tree = {
    b"": directory(mtime=10**18 + 1),
    b"changed": file(b"old", 0o640),
    b"same": file(b"same"),
    b"gone": file(b"gone"),
    b"mode": file(b"x", 0o644),
    b"link": link(b"old target"),
    b"file-dir": file(b"was a file"),
    b"link-dir": link(b"sub"),
    b"dir-file": directory(0o555, 10**18 + 2),
    b"dir-file/inner": file(b"inner"),
    b"dir-link": directory(0o700, 10**18 + 3),
    b"dir-link/deep": directory(0o755, 10**18 + 4),
    b"dir-link/deep/f": file(b"deep", 0o600),
    b"sub": directory(0o555, 10**18 + 5),
    b"sub/a": file(b"a"),
    b"sub/b": file(b"b"),
    b"empty": directory(0o750, 10**18 + 6),
}
NEW: Tree = {
    b"": directory(mtime=2 * 10**18 + 1),
    b"changed": file(b"new!", 0o600, 2 * 10**18),
    b"same": file(b"same"),
    b"mode": file(b"x", 0o755),
    b"link": link(b"new target", 2 * 10**18 + 2),
    b"file-dir": directory(0o555, 2 * 10**18 + 3),
    b"file-dir/child": file(b"child"),
    b"link-dir": directory(0o755, 2 * 10**18 + 4),
    b"link-dir/more": directory(0o500, 2 * 10**18 + 5),
    b"link-dir/more/f": file(b"f"),
    b"dir-file": file(b"now a file", 0o444),
    b"dir-link": link(b"elsewhere"),
    b"sub": directory(0o555, 2 * 10**18 + 6),
    b"sub/a": file(b"b"),
    b"sub/b": file(b"a"),
    b"sub/new": file(b"", 0o755),
}


@pytest.fixture
def root() -> Iterator[bytes]:
    with place() as where:
        yield os.path.join(where, b"root")


def keep(root: bytes) -> None:
    with staged(root, OLD, NEW, durable=True) as transaction:
        transaction.rename()
        transaction.keep()


def undo(root: bytes) -> None:
    with staged(root, OLD, NEW, durable=True) as transaction:
        transaction.rename()
        transaction.undo()


def keep_in_steps(root: bytes) -> None:
    with staged(root, OLD, NEW, durable=True) as transaction:
        transaction.prepare()
        transaction.rename(sync=False)
        transaction.sync()
        transaction.keep()


def undo_in_steps(root: bytes) -> None:
    with staged(root, OLD, NEW, durable=True) as transaction:
        transaction.prepare()
        transaction.rename(sync=False)
        transaction.undo()


def keep_prepared_anew(root: bytes) -> None:
    """With a change that comes too late."""
    early, late = difference(OLD, NEW)[1:], difference(OLD, NEW)[:1]
    with Transaction.begin(root, "t") as transaction:
        stage(transaction, early)
        transaction.prepare()
        stage(transaction, late)
        transaction.rename(sync=False)
        transaction.keep()


def fresh(root: bytes) -> None:
    shutil.rmtree(root, ignore_errors=True)
    build(root, OLD)


def judged(root: bytes, found: list[Recovery]) -> str:
    """Which tree is there; it has to be the one that recovery claims."""
    tree = without_root(read(root))  # the root's own mtime is lost in the instant a staging directory appears
    assert tree in (without_root(OLD), without_root(NEW))
    outcome = "new" if tree == without_root(NEW) else "old"
    assert outcome == {(): outcome, ("kept",): "new", ("undone",): "old"}[tuple(r.outcome for r in found)]
    return outcome


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        (keep, False),
        (keep, True),
        (undo, True),
        (keep_in_steps, False),
        (keep_in_steps, True),
        (undo_in_steps, True),
        (keep_prepared_anew, False),
        (keep_prepared_anew, True),
    ],
)
def test_whenever_a_process_is_killed_recovery_gives_the_old_or_the_new_tree(
    root: bytes, action: Callable[[bytes], None], kept: bool
) -> None:
    outcomes, step = [], 1
    fresh(root)
    while killed_at(step, lambda: action(root)):
        outcomes.append(judged(root, recover(root, lambda id: kept)))
        assert recover(root, lambda id: not kept) == []
        fresh(root)
        step += 1
    assert step > 100
    assert outcomes[0] == "old"
    assert outcomes[-1] == ("old" if action in (undo, undo_in_steps) else "new")
    assert "new" in outcomes


def test_the_owners_record_decides_and_needs_no_sync_of_ours(root: bytes) -> None:
    """Killed anywhere, before his record is there or after: also while what only undoing needs is let go."""
    record = os.path.join(os.path.dirname(root), b"record")

    def run() -> None:
        with staged(root, OLD, NEW, durable=True) as transaction:
            transaction.prepare()
            transaction.rename(sync=False)
            transaction.sync()
            os.mkdir(record)
            transaction.keep(decided=True)

    outcomes, step = [], 1
    fresh(root)
    while killed_at(step, run):
        outcomes.append(judged(root, recover(root, lambda id: os.path.exists(record))))
        assert outcomes[-1] == ("new" if os.path.exists(record) else "old")
        fresh(root)
        shutil.rmtree(record, ignore_errors=True)
        step += 1
    assert outcomes.count("new") > 10


@pytest.mark.parametrize("kept", [False, True])
def test_a_recovery_that_dies_too_can_be_recovered(root: bytes, kept: bool) -> None:
    step, again = 1, 1
    while True:
        fresh(root)
        if not dead_at(step, lambda: undo(root)):
            break
        if dead_at(again, lambda: recover(root, lambda id: kept)):
            again += 5
        else:
            step, again = step + 5, 1 + step % 5
        judged(root, recover(root, lambda id: kept))


@pytest.mark.parametrize("kept", [False, True])
def test_where_hard_links_are_forbidden_it_is_no_different(
    root: bytes, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", forbid)
    outcomes, again = set(), 1
    for step in itertools.count(1):
        fresh(root)
        if not dead_at(step, lambda: keep(root)):
            break
        dead_at(again, lambda: recover(root, lambda id: kept))
        outcomes.add(judged(root, recover(root, lambda id: kept)))
        again = again % 70 + 1
    assert without_root(read(root)) == without_root(NEW)
    assert outcomes == {"old", "new"}


ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS)


def failing(step: int, many: int = 1) -> Counter:
    error = ERRORS[step % len(ERRORS)]

    def fail() -> None:
        raise OSError(error, os.strerror(error))

    return Counter(step, fail, many=many, reading=True)


@pytest.mark.parametrize("ahead", [False, True])
def test_whichever_system_call_fails_the_tree_is_put_back_and_the_error_raised(
    root: bytes, ahead: bool
) -> None:
    step, counter = 0, failing(0)
    while step <= counter.calls:
        step += 1
        fresh(root)
        counter = failing(step)
        with counter.installed():
            raised = _fails(root, ahead)
        assert raised or without_root(read(root)) == without_root(NEW)
        judged(root, recover(root, lambda id: False))
        assert stagings_in(root) == []
    assert step > 200


def _fails(root: bytes, ahead: bool) -> bool:
    """Whether the transaction raises; before it is kept the tree is then the old one, without any recovery."""
    try:
        with staged(root, OLD, NEW, durable=True) as transaction:
            try:
                if ahead:
                    transaction.prepare()
                transaction.rename(sync=not ahead)
            except TransactionError:
                assert without_root(read(root)) == without_root(OLD)
                raise
            transaction.keep()
    except TransactionError:
        return True
    return False


@pytest.mark.parametrize("action", [keep, undo, keep_in_steps, keep_prepared_anew])
@pytest.mark.parametrize("many", [2, 3, 7, 20, FOREVER])
def test_a_disk_that_fails_for_a_while_is_recovered_when_it_works_again(
    root: bytes, action: Callable[[bytes], None], many: int
) -> None:
    for step in itertools.count(1 + many % 4, 4):
        fresh(root)
        counter = failing(step, many)
        with counter.installed(), contextlib.suppress(TransactionError):
            action(root)
        judged(root, recover(root, lambda id: many % 2 > 0))
        assert stagings_in(root) == []
        if counter.calls < step:
            break
    assert step > 150


def test_keep_that_dies_offers_the_old_files_again(root: bytes) -> None:
    history = Path(os.fsdecode(root)).with_name("history")
    replaced = {
        b"changed": b"old",
        b"gone": b"gone",
        b"file-dir": b"was a file",
        b"sub/a": b"a",
        b"sub/b": b"b",
    }
    replaced.update({b"dir-file/inner": b"inner", b"dir-link/deep/f": b"deep"})

    def retire(path: bytes, saved: str) -> None:
        os.rename(saved, history / path.hex())

    def run() -> None:
        transaction = staged(root, OLD, NEW)
        transaction.rename()
        transaction.keep(retire)

    step = 150
    while True:
        fresh(root)
        shutil.rmtree(history, ignore_errors=True)
        history.mkdir()
        if not killed_at(step, run):
            break
        if judged(root, recover(root, lambda id: True, retire)) == "new":
            assert {bytes.fromhex(p.name): p.read_bytes() for p in history.iterdir()} == replaced
        step += 7
