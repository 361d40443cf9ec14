"""What is refused before anything is touched, and unknown content."""

from __future__ import annotations

import os

import pytest

from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    Change,
    NotEmpty,
    Transaction,
    TransactionError,
    UnsafePath,
)
from tests.transaction.trees import (
    Tree,
    build,
    directory,
    file,
    link,
    put,
    read,
    stage,
    staged,
)


def test_a_directory_with_unknown_content_stays_and_is_named(world: bytes) -> None:
    old: Tree = {b"": directory(), b"d": directory(0o555), b"d/known": file(), b"d/unknown": file(b"mine")}
    build(world, old)
    with Transaction.begin(world, "t") as transaction:
        transaction.add(Change(b"d", DELETE))
        transaction.add(Change(b"d/known", DELETE))
        transaction.rename()
        assert transaction.left == [b"d"]
        transaction.keep()
    tree = read(world)
    assert set(tree) == {b"", b"d", b"d/unknown"}
    assert tree[b"d"].mode == 0o555


def test_a_directory_with_unknown_content_does_not_become_a_file(world: bytes) -> None:
    old: Tree = {
        b"": directory(),
        b"d": directory(),
        b"d/e": directory(),
        b"d/e/unknown": file(b"mine"),
        b"d/f": file(),
    }
    build(world, old)
    for kind in (file(b"x"), link(b"x")):
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(put(b"d", kind), kind.data)])
            transaction.add(Change(b"d/e", DELETE))
            transaction.add(Change(b"d/f", DELETE))
            with pytest.raises(NotEmpty) as caught:
                transaction.rename()
        assert (caught.value.path, caught.value.children) == (b"d", (b"d/e/unknown",))
        assert read(world) == old


def test_what_was_never_there_can_be_deleted(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"x"), b"l": link(b"/etc")}
    build(world, old)
    with Transaction.begin(world, "t") as transaction:
        for path in (b"no", b"no/such", b"f/below", b"l/passwd"):
            transaction.add(Change(path, DELETE))
        transaction.rename()
        transaction.keep()
    assert read(world) == old


def test_a_special_file_can_be_replaced_deleted_and_put_back(world: bytes) -> None:
    for name in (b"a", b"b"):
        os.mkfifo(os.path.join(world, name), 0o640)
    before = read(world)
    for finish in ("undo", "keep"):
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(put(b"a", file(b"x")), b"x"), (Change(b"b", DELETE), b"")])
            transaction.rename()
            getattr(transaction, finish)()
        assert (read(world) == before) == (finish == "undo")
    assert {path: node.data for path, node in read(world).items() if path} == {b"a": b"x"}


@pytest.mark.parametrize(
    "path", [b"", b"/abs", b"a//b", b"a/", b"./a", b"a/../b", b"..", b".", b"nul\0", b"../../etc/passwd"]
)
def test_a_path_that_is_none_is_refused_at_once(world: bytes, path: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        with pytest.raises(UnsafePath):
            transaction.add(Change(path, DELETE))
        with pytest.raises(UnsafePath):
            transaction.create(put(path, file()))


def test_nothing_is_put_through_a_symlink(world: bytes, outside: bytes) -> None:
    build(outside, {b"secret": file(b"s"), b"d": directory()})
    build(world, {b"": directory(), b"l": link(outside), b"d": directory(), b"d/l": link(b"../l")})
    before, there = read(world), read(outside)
    for change in (
        put(b"l/secret", file(b"x")),
        put(b"l/new", link(b"x")),
        put(b"d/l/d/new", directory()),
        Change(b"l/secret", ATTRIBUTES, 0o777),
    ):
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(change, b"x")])
            with pytest.raises(UnsafePath) as caught:
                transaction.rename()
        assert b"l" in (caught.value.path or b"")
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(Change(b"l/secret", DELETE), b""), (Change(b"l/d", DELETE), b"")])
        transaction.rename()
        transaction.keep()
    assert (read(world), read(outside)) == (before, there)


def test_a_directory_swapped_for_a_symlink_while_staging_is_not_followed(
    world: bytes, outside: bytes
) -> None:
    build(outside, {b"f": file(b"secret")})
    build(world, {b"": directory(), b"d": directory(), b"d/f": file(b"f")})
    there = read(outside)
    for change in (put(b"d/f", file(b"new")), Change(b"d/f", ATTRIBUTES, 0o777)):
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, [(change, b"new")])
            os.rename(os.path.join(world, b"d"), os.path.join(world, b"moved"))
            os.symlink(outside, os.path.join(world, b"d"))
            with pytest.raises(UnsafePath):
                transaction.rename()
        assert read(outside) == there
        os.unlink(os.path.join(world, b"d"))
        os.rename(os.path.join(world, b"moved"), os.path.join(world, b"d"))


def test_undo_does_not_follow_a_symlink_that_came_during_the_trial(world: bytes, outside: bytes) -> None:
    old: Tree = {b"": directory(), b"d": directory(), b"d/f": file(b"f"), b"d/g": file(b"g")}
    new: Tree = {b"": directory(), b"d": directory(), b"d/f": file(b"new"), b"d/h": file(b"h")}
    build(outside, {b"f": file(b"secret"), b"h": file(b"secret")})
    build(world, old)
    there = read(outside)
    with staged(world, old, new) as transaction:
        transaction.rename()
        os.rename(os.path.join(world, b"d"), os.path.join(world, b"moved"))
        os.symlink(outside, os.path.join(world, b"d"))
        transaction.undo()
    assert read(outside) == there
    assert {path: node.data for path, node in read(world).items() if path.startswith(b"d/")} == {
        b"d/f": b"f",
        b"d/g": b"g",
    }


def test_a_put_without_its_parent_is_refused(world: bytes) -> None:
    old: Tree = {b"": directory(), b"f": file(b"f"), b"d": directory(), b"d/x": file()}
    build(world, old)
    cases = [
        [(put(b"no/x", file()), b"")],
        [(put(b"f/x", file()), b"")],
        [(put(b"new", file()), b""), (put(b"new/x", file()), b"")],
        [(Change(b"d", DELETE), b""), (Change(b"d/x", DELETE), b""), (put(b"d/y", file()), b"")],
        [(Change(b"no", ATTRIBUTES, 0o755), b"")],
    ]
    for changes in cases:
        with Transaction.begin(world, "t") as transaction:
            stage(transaction, changes)
            with pytest.raises(TransactionError, match=r"parent missing|not there"):
                transaction.rename()
        assert read(world) == old


def test_one_path_is_changed_once(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        transaction.add(Change(b"a", DELETE))
        with pytest.raises(TransactionError, match="twice"):
            transaction.add(Change(b"a", DIRECTORY))


def test_kinds_come_by_their_own_methods(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        with pytest.raises(TransactionError, match="create"):
            transaction.add(put(b"a", file()))
        with pytest.raises(TransactionError, match="add"):
            transaction.create(Change(b"a", DELETE))
