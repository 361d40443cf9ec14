"""A transaction's life, its end, and what it costs."""

from __future__ import annotations

import contextlib
import os
import stat

import pytest

from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    MAGIC,
    Busy,
    Change,
    Recovery,
    Root,
    Transaction,
    TransactionError,
    Unfinished,
    recover,
)
from tests.transaction.trees import (
    LONG_AGO,
    Tree,
    build,
    difference,
    directory,
    file,
    fork,
    in_child,
    kill_oneself,
    link,
    put,
    read,
    stage,
    staged,
    stagings_in,
)


def test_leaving_without_keep_undoes(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"old")}
    build(world, old)
    with staged(world, old, old | {b"f": file(b"new")}) as transaction:
        transaction.rename()
        assert read(world)[b"f"].data == b"new"
    assert read(world) == old


def test_staging_shows_nothing_and_costs_the_root_no_mtime(world: bytes) -> None:
    build(world, {b"": directory()})
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(put(b"f", file(b"x")), b"x")])
        (name,) = stagings_in(world)
        assert stat.S_IMODE(os.stat(os.path.join(world, name)).st_mode) == 0o700
        with open(os.path.join(world, name, b"magic"), "rb") as magic:
            assert magic.read() == MAGIC
        assert Root(world).scandir() == []
        assert read(world)[b""].mtime == LONG_AGO
    assert read(world) == {b"": directory()}


def test_only_one_transaction_lives_in_a_root(world: bytes) -> None:
    with Transaction.begin(world, "one") as transaction:
        for attempt in (lambda: Transaction.begin(world, "two"), lambda: recover(world)):
            with pytest.raises(Busy):
                attempt()
        stage(transaction, [(put(b"f", file(b"x")), b"x")])
        transaction.rename()
        with pytest.raises(Busy):
            Transaction.begin(world, "two")
        transaction.keep()
    assert set(read(world)) == {b"", b"f"}
    Transaction.begin(world, "two").undo()


def test_of_many_processes_one_at_a_time_gets_in(world: bytes) -> None:
    mark = os.path.join(world, b"mine")

    def work() -> None:
        done = 0
        while done < 5:
            try:
                transaction = Transaction.begin(world, "t", durable=False)
            except Busy:
                recover_if_free(world)
                continue
            with transaction:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                stage(transaction, [(put(b"f", file(b"x")), b"x")])
                transaction.rename()
                os.unlink(mark)
                transaction.keep()
                done += 1

    children = [fork(work) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert set(read(world)) == {b"", b"f"}


def recover_if_free(root: bytes) -> None:
    with contextlib.suppress(Busy):
        assert recover(root) == []


def test_no_descriptor_is_lost(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"old"), b"d": directory(), b"d/x": file(b"x")}
    build(world, old)
    before = os.listdir("/proc/self/fd")
    for end in ("keep", "undo", "leave", "open", "refused"):
        with contextlib.suppress(TransactionError), Transaction.begin(world, "t") as transaction:
            stage(transaction, [(put(b"d/x", file(b"y")), b"y")])
            if end == "open":
                transaction.create(put(b"g", file(b"y"))).write(b"y")
            elif end == "refused":
                transaction.add(Change(b"no", ATTRIBUTES, 0o755))
                transaction.rename()
            elif end != "leave":
                transaction.rename()
                getattr(transaction, end)()
        recover(world)
        with Transaction.begin(world, "holder"), pytest.raises(Busy):
            Transaction.begin(world, "late")
        assert os.listdir("/proc/self/fd") == before


def test_what_died_before_its_journal_is_cleared_away_by_the_next(world: bytes) -> None:
    def die() -> None:
        transaction = Transaction.begin(world, "one")
        stage(transaction, [(put(b"f", file(b"x")), b"x")])
        kill_oneself()

    in_child(die)
    assert len(stagings_in(world)) == 1
    Transaction.begin(world, "two").undo()
    assert stagings_in(world) == []


def test_what_died_with_its_journal_has_to_be_recovered_first(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"old")}
    build(world, old)

    def die() -> None:
        staged(world, old, {b"": directory()}, "push-7").rename()
        kill_oneself()

    in_child(die)
    with pytest.raises(Unfinished):
        Transaction.begin(world, "two")
    assert recover(world) == [Recovery("push-7", "undone")]
    assert read(world) == old


def test_a_transaction_has_one_end(world: bytes) -> None:
    transaction = Transaction.begin(world, "t")
    with pytest.raises(TransactionError, match="cannot be kept"):
        transaction.keep()
    transaction.rename()
    with pytest.raises(TransactionError, match="cannot be staged to"):
        transaction.add(Change(b"a", DELETE))
    transaction.keep()
    for attempt in (transaction.undo, transaction.keep, transaction.rename):
        with pytest.raises(TransactionError):
            attempt()
    undone = Transaction.begin(world, "t")
    undone.undo()
    undone.undo()


def test_a_missing_root_is_named(world: bytes) -> None:
    for attempt in (lambda: Transaction.begin(world + b"/no", "t"), lambda: recover(world + b"/no")):
        with pytest.raises(TransactionError, match=r"/no cannot be opened as a directory: No such file"):
            attempt()


def test_a_root_may_be_lent(world: bytes) -> None:
    with Root(world) as root:
        with Transaction.begin(root, "t") as transaction:
            stage(transaction, [(put(b"f", file(b"x")), b"x")])
            transaction.rename()
            transaction.keep()
        assert root.scandir() == [b"f"]
        assert recover(root) == []


def test_replaced_and_deleted_files_are_offered_when_kept(world: bytes, outside: bytes) -> None:
    old: Tree = {
        b"": directory(),
        b"f": file(b"old f"),
        b"g": file(b"old g"),
        b"l": link(b"f"),
        b"m": file(b"m"),
    }
    new: Tree = {b"": directory(), b"f": file(b"new"), b"m": file(b"m", 0o755), b"n": file(b"n")}
    build(world, old)
    offered: dict[bytes, bytes] = {}

    def retire(path: bytes, saved: str) -> None:
        os.rename(saved, os.path.join(outside, path))
        with open(os.path.join(outside, path), "rb") as content:
            offered[path] = content.read()

    with staged(world, old, new) as transaction:
        transaction.rename()
        transaction.keep(retire)
    assert offered == {b"f": b"old f", b"g": b"old g"}
    assert read(world) == new


def test_an_error_of_retire_does_not_unkeep(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"old")}
    build(world, old)

    def refuse(path: bytes, saved: str) -> None:
        raise KeyError(path)

    with staged(world, old, {b"": directory()}) as transaction:
        transaction.rename()
        with pytest.raises(KeyError):
            transaction.keep(refuse)
    offered: list[bytes] = []
    assert recover(world, lambda id: False, lambda path, saved: offered.append(path)) == [
        Recovery("t", "kept")
    ]
    assert offered == [b"f"]
    assert read(world) == {b"": directory()}


def test_one_put_in_a_large_tree_costs_few_fsyncs(world: bytes) -> None:
    build(
        world,
        {b"d%d" % i: directory() for i in range(40)} | {b"d%d/%d" % (i % 40, i): file() for i in range(400)},
    )
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(put(b"d7/7", file(b"new")), b"new")])
        transaction.rename()
        transaction.keep()
    assert transaction.fsyncs == 6


def test_many_puts_cost_no_fsync_each(world: bytes) -> None:
    new: Tree = {b"d%d" % i: directory() for i in range(40)} | {
        b"d%d/%d" % (i % 40, i): file(b"%d" % i) for i in range(400)
    }
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, difference({}, new))
        transaction.rename()
        transaction.keep()
    assert transaction.fsyncs == 5
    assert len(read(world)) == 441


def test_without_durability_nothing_is_synced(world: bytes) -> None:
    with Transaction.begin(world, "t", durable=False) as transaction:
        stage(transaction, [(put(b"f", file(b"new")), b"new")])
        transaction.rename()
        transaction.keep()
    assert transaction.fsyncs == 0
