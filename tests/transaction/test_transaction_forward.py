"""From old to new, kind by kind, with the right modes and owners."""

from __future__ import annotations

import hashlib
import io
import os
import threading

import pytest

from codesync.transaction import (
    ATTRIBUTES,
    DIRECTORY,
    FILE,
    Change,
    Transaction,
    TransactionError,
)
from tests.transaction.trees import (
    LONG_AGO,
    Tree,
    as_nobody,
    build,
    directory,
    file,
    in_child,
    link,
    put,
    read,
    stage,
    staged,
    without_mtimes,
)

LATER = LONG_AGO + 10**18

ODD_NAMES = [
    b"a\nb",
    b"\x1b[31m",
    b"*",
    b"$(id)",
    b" x ",
    b"-rf",
    b"...",
    b"..a",
    b"\xff\xfe",
    b"caf\xe9",
    b"\x7f",
]
ODD_NAMES += ["\u00e9".encode(), "e\u0301".encode(), "\u202egnp".encode(), b"x" * 255, b".codesync", b"con"]

TRANSITIONS: dict[str, tuple[Tree, Tree]] = {
    "file to directory": (
        {b"a": file(b"x")},
        {b"a": directory(), b"a/b": directory(), b"a/b/c": file(b"new")},
    ),
    "directory to file": (
        {b"a": directory(), b"a/b": directory(0o555), b"a/b/c": file(b"x")},
        {b"a": file(b"file now")},
    ),
    "file to symlink": ({b"a": file(b"old")}, {b"a": link(b"b"), b"b": file(b"t")}),
    "symlink to file": ({b"a": link(b"/etc/passwd")}, {b"a": file(b"new")}),
    "directory to symlink": ({b"a": directory(), b"a/x": file(b"x")}, {b"a": link(b"/etc")}),
    "symlink to directory": ({b"a": link(b"/etc")}, {b"a": directory(), b"a/x": file(b"x")}),
    "odd links": (
        {b"r": link(b"old"), b"d": link(b"x")},
        {
            b"r": link(b"new\n\xff"),
            b"self": link(b"self"),
            b"up": link(b"../.."),
            b"long": link(b"a/" * 1999),
        },
    ),
    "a link and what it names": (
        {b"v1": directory(), b"v1/f": file(b"1"), b"cur": link(b"v1")},
        {b"v2": directory(), b"v2/f": file(b"2"), b"cur": link(b"v2")},
    ),
    "odd names": (
        {name + b"-old"[: 255 - len(name)]: file(b"del") for name in ODD_NAMES if len(name) < 200},
        {name: file(name) for name in ODD_NAMES}
        | {b"d": directory()}
        | {b"d/" + name: file() for name in ODD_NAMES},
    ),
    "other case": ({b"readme": file(b"1")}, {b"README": file(b"1"), b"A": file(b"A"), b"a": file(b"a")}),
    "common beginnings": (
        {
            b"foo": directory(),
            b"foo/a": file(),
            b"foo-bar": directory(),
            b"foo-bar/a": file(),
            b"foo0": file(),
        },
        {b"foo-bar": directory(), b"foo-bar/a": file(), b"foo0": file()},
    ),
    "swapped": (
        {b"a": file(b"1"), b"b": file(b"2"), b"x": directory(), b"x/1": file(b"3"), b"y": directory()},
        {b"a": file(b"2"), b"b": file(b"1"), b"x": directory(), b"y": directory(), b"y/1": file(b"3")},
    ),
    "a file and a directory swapped": (
        {b"a": file(b"1"), b"b": directory(), b"b/f": file(b"2")},
        {b"b": file(b"1"), b"a": directory(), b"a/f": file(b"2")},
    ),
    "into its own child": (
        {b"a": directory(), b"a/f": file(b"1")},
        {b"a": directory(), b"a/a": directory(), b"a/a/f": file(b"1")},
    ),
    "out of its parent": (
        {b"p": directory(), b"p/q": directory(), b"p/q/f": file(b"2")},
        {b"q": directory(), b"q/f": file(b"2"), b"p": file(b"p")},
    ),
    "read-only directories": (
        {b"a": directory(0o555), b"a/x": file(b"x"), b"gone": directory(0o500), b"gone/x": file(b"x")},
        {b"a": directory(0o555), b"a/new": directory(0o555), b"a/new/deep": file(b"n")},
    ),
    "becomes read-only": (
        {b"a": directory(), b"a/x": file(b"x")},
        {b"a": directory(0o555, LATER), b"a/x": file(b"y"), b"a/z": file(b"z", 0o444, LATER)},
    ),
    "unreadable files": (
        {b"a": file(b"old", 0), b"b": file(b"old", 0o444)},
        {b"a": file(b"new", 0o600), b"b": file(b"new", 0)},
    ),
    "modes only": (
        {b"run": file(b"#!"), b"l": file(b"q", 0o755)},
        {b"run": file(b"#!", 0o755), b"l": file(b"q", 0o640)},
    ),
    "wide modes": (
        {},
        {b"a": file(b"x", 0o666), b"b": file(b"x", 0o777), b"c": directory(0o700), b"e": directory(0o777)},
    ),
    "empty directories": (
        {
            b"was": directory(),
            b"was/f": file(),
            b"gone": directory(),
            b"gone/x": directory(),
            b"gone/x/y": directory(),
        },
        {b"was": directory(), b"new": directory(), b"new/a": directory(), b"new/a/b": directory()},
    ),
    "mtimes": (
        {b"old": file(b"new", mtime=2 * LONG_AGO), b"same": file(b"s"), b"l": link(b"x")},
        {
            b"old": file(b"old"),
            b"same": file(b"s", mtime=LATER),
            b"neg": file(b"", mtime=-86400 * 10**9),
            b"l": link(b"x", LATER),
        },
    ),
    "everything goes": ({b"a": file(), b"b": directory(), b"b/c": file(), b"l": link(b"a")}, {}),
}
MODES = [directory(), directory(0o555, LATER)]


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("nobody", [False, True])
def test_keep_gives_the_new_tree_and_undo_the_old_one(world: bytes, name: str, nobody: bool) -> None:
    def run() -> None:
        os.umask(0o077)
        for turn, top in enumerate(MODES):
            old, new = ({b"": top, **tree} for tree in TRANSITIONS[name])
            root = os.path.join(world, b"%d" % turn)
            build(root, old)
            with staged(root, old, new) as transaction:
                transaction.rename()
                transaction.undo()
            assert read(root) == old
            with staged(root, old, new) as transaction:
                transaction.rename()
                transaction.keep()
            assert read(root) == new

    if nobody:
        as_nobody(run)
    else:
        assert in_child(run) == 0


def test_a_path_longer_than_path_max_is_as_good_as_any(world: bytes) -> None:
    deep = [b"/".join([b"d" * 100] * depth) for depth in range(1, 61)]
    old: Tree = {b"": directory()}
    new: Tree = {b"": directory(), **{path: directory() for path in deep}, deep[-1] + b"/leaf": file(b"x")}
    newer = new | {deep[-1] + b"/leaf": file(b"y", 0o600), deep[-1] + b"/l": link(b"leaf")}
    for before, after in [(old, new), (new, newer), (newer, old)]:
        with staged(world, before, after) as transaction:
            transaction.rename()
            transaction.undo()
        assert without_mtimes(read(world)) == without_mtimes(before)
        with staged(world, before, after) as transaction:
            transaction.rename()
            transaction.keep()
        assert read(world) == after


def test_a_replaced_file_is_there_at_every_moment(world: bytes) -> None:
    path = os.path.join(world, b"f")
    build(world, {b"f": file(b"old")})
    stop, seen = threading.Event(), set()

    def watch() -> None:
        while not stop.is_set():
            with open(path, "rb") as content:
                seen.add(content.read())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for turn in range(100):
            with Transaction.begin(world, "t", durable=False) as transaction:
                stage(transaction, [(put(b"f", file(b"new")), b"new")])
                transaction.rename()
                transaction.keep() if turn % 2 else transaction.undo()
    finally:
        stop.set()
        watcher.join()
    assert seen <= {b"old", b"new"}


def test_what_is_not_said_stays_or_gets_the_usual(world: bytes) -> None:
    build(world, {b"": directory(), b"f": file(b"old", 0o640), b"d": directory(0o750)})
    os.chmod(os.path.join(world, b"d"), 0o3750)
    with Transaction.begin(world, "t") as transaction:
        for path in (b"f", b"new"):
            transaction.copy(
                Change(path, FILE, size=1, digest=hashlib.sha256(b"x").hexdigest()), io.BytesIO(b"x")
            )
        transaction.add(Change(b"d", DIRECTORY))
        transaction.add(Change(b"made", DIRECTORY))
        transaction.add(Change(b"d/sub", DIRECTORY))
        transaction.rename()
        transaction.keep()
    modes = {path: node.mode for path, node in read(world).items()}
    assert modes == {b"": 0o755, b"f": 0o640, b"new": 0o644, b"d": 0o3750, b"made": 0o755, b"d/sub": 0o2755}


def test_special_bits_of_a_directory_stay_and_none_come_with_a_change(world: bytes) -> None:
    build(world, {b"d": directory(), b"f": file(b"x")})
    os.chmod(os.path.join(world, b"d"), 0o1777)
    os.chmod(os.path.join(world, b"f"), 0o4755)
    with Transaction.begin(world, "t") as transaction:
        transaction.add(Change(b"d", ATTRIBUTES, 0o750))
        stage(transaction, [(put(b"f", file(b"y", 0o755)), b"y")])
        with pytest.raises(TransactionError, match="mode"):
            transaction.add(Change(b"s", DIRECTORY, 0o2755))
        transaction.rename()
        tree = read(world)
        transaction.undo()
    assert (tree[b"d"].mode, tree[b"f"].mode) == (0o1750, 0o755)
    assert (read(world)[b"d"].mode, read(world)[b"f"].mode) == (0o1777, 0o4755)


def test_a_replaced_file_keeps_its_owner_and_a_new_one_takes_its_directorys(world: bytes) -> None:
    assert os.getuid() == 0, "run this test as root: only root can give files away"
    build(world, {b"d": directory(), b"d/f": file(b"old")})
    os.chown(os.path.join(world, b"d"), 1001, 1002)
    os.chown(os.path.join(world, b"d/f"), 1003, 1004)
    new: Tree = {
        b"d/f": file(b"new"),
        b"d/n": file(b"n"),
        b"d/s": directory(),
        b"d/s/deep": file(b"deep"),
        b"d/l": link(b"f"),
    }
    with Transaction.begin(world, "t") as transaction:
        stage(transaction, [(put(path, node), node.data) for path, node in new.items()])
        transaction.rename()
        transaction.keep()
    for path in new:
        found = os.lstat(os.path.join(world, path))
        assert (found.st_uid, found.st_gid) == ((1003, 1004) if path == b"d/f" else (1001, 1002))
