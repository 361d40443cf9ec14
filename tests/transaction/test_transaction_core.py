"""What a transaction does to a tree, kind by kind, and what it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import threading

import pytest

from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    FILE,
    MAGIC,
    Busy,
    Change,
    NotEmpty,
    Recovery,
    Root,
    Transaction,
    TransactionError,
    Unfinished,
    UnsafePath,
    VerificationError,
    recover,
)
from tests.transaction.trees import (
    LONG_AGO,
    Tree,
    as_nobody,
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


# ---- modes, owners, special bits


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


# ---- content nobody knows


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


# ---- a trial leaves traces


def test_undo_gives_the_old_tree_whatever_the_application_did_in_between(world: bytes) -> None:
    old: Tree = {
        b"": directory(),
        b"f": file(b"old"),
        b"gone": file(b"gone"),
        b"d": directory(),
        b"d/x": file(b"x"),
    }
    old |= {
        b"was": directory(),
        b"was/y": file(b"y"),
        b"p": directory(),
        b"p/q": directory(),
        b"p/q/r": file(b"r"),
    }
    new: Tree = {
        b"": directory(),
        b"f": file(b"new"),
        b"n": directory(),
        b"n/z": file(b"z"),
        b"d": file(b"now a file"),
    }
    new |= {b"p": directory(), b"p/q": directory(), b"p/q/r": file(b"r2"), b"top": file(b"t")}
    build(world, old)
    at = os.path.join(world, b"")
    with staged(world, old, new) as transaction:
        transaction.rename()
        os.unlink(at + b"f")
        build(at + b"f", {b"junk": file()})  # a directory where the old file belongs
        os.symlink(b"/etc", at + b"gone")
        build(at + b"n", {b"cache": directory(0o500), b"cache/deep": directory(0)})
        os.unlink(at + b"d")
        os.symlink(b"/etc", at + b"d")
        build(at + b"was", {b"log": file(b"unknown")})
        os.unlink(at + b"p/q/r")
        os.rmdir(at + b"p/q")
        os.rmdir(at + b"p")
        os.symlink(b"/tmp", at + b"p")
        os.unlink(at + b"top")
        transaction.undo()
    tree = read(world)
    assert tree.pop(b"was/log") == file(b"unknown"), "what the transaction never touched is not touched"
    assert without_mtimes(tree) == without_mtimes(old)


def test_undo_takes_along_what_python_compiled_from_the_new_source(world: bytes) -> None:
    old: Tree = {b"": directory(), b"m.py": file(b"x = 1\n"), b"k.py": file(b"y = 1\n")}
    new: Tree = old | {b"m.py": file(b"x = 2\n"), b"n.py": file(b"z = 1\n")}  # same size, same second
    build(world, old)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import {}; print(m.x)"
    with staged(world, old, new) as transaction:
        transaction.rename()
        assert python(script.format("m, n, k"), world) == "2"
        transaction.undo()
    assert [name.partition(b".")[0] for name in os.listdir(os.path.join(world, b"__pycache__"))] == [b"k"]
    assert python(script.format("m"), world) == "1"


def python(script: str, *arguments: bytes) -> str:
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.check_output(
        [sys.executable, "-c", script, *arguments], text=True, env=environment
    ).strip()


# ---- what is refused


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


# ---- staged content


def test_bytes_that_are_not_the_announced_ones_are_refused(world: bytes) -> None:
    change = put(b"f", file(b"right"))
    with Transaction.begin(world, "t") as transaction:
        for data in (b"wrong", b"righ", b"", b"right!"):
            with pytest.raises(VerificationError) as caught:
                transaction.copy(change, io.BytesIO(data))
            assert caught.value.path == b"f"
        transaction.copy(change, io.BytesIO(b"right"))  # the next try may be the right one
        transaction.rename()
        transaction.keep()
    assert read(world)[b"f"].data == b"right"


def test_a_file_left_open_holds_the_rename_up(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        content = transaction.create(put(b"f", file(b"x")))
        with pytest.raises(TransactionError, match="still being written"):
            transaction.rename()
        content.write(b"x")
        content.close()
        content.close()
        with pytest.raises(ValueError, match="closed"):
            content.write(b"more")
        transaction.rename()
        transaction.keep()
    assert read(world)[b"f"].data == b"x"


def test_an_error_while_writing_leaves_nothing_of_the_file(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        with contextlib.suppress(KeyError), transaction.create(put(b"f", file(b"right"))) as content:
            content.write(b"rig")
            raise KeyError
        transaction.rename()
        transaction.keep()
    assert b"f" not in read(world)


def test_adopt_renames_a_file_in_and_copies_where_it_must(world: bytes, outside: bytes) -> None:
    build(
        outside,
        {b"own": file(b"12345"), b"shared": file(b"12345"), b"false": file(b"54321"), b"l": link(b"own")},
    )
    os.link(os.path.join(outside, b"shared"), os.path.join(outside, b"twin"))
    os.link(os.path.join(outside, b"false"), os.path.join(outside, b"false2"))
    inode = os.stat(os.path.join(outside, b"own")).st_ino
    at = os.fsdecode(os.path.join(outside, b""))
    with Transaction.begin(world, "t") as transaction:
        with pytest.raises(VerificationError):
            transaction.adopt(put(b"short", file(b"1234")), at + "own")
        with pytest.raises(VerificationError):
            transaction.adopt(put(b"false", file(b"12345")), at + "false")
        with pytest.raises(UnsafePath):
            transaction.adopt(put(b"link", file(b"12345")), at + "l")
        with pytest.raises(TransactionError, match="No such file"):
            transaction.adopt(put(b"none", file(b"12345")), at + "none")
        transaction.adopt(put(b"own", file(b"12345", 0o600)), at + "own")
        transaction.adopt(put(b"shared", file(b"12345", 0o600)), at + "shared")
        transaction.rename()
        transaction.keep()
    assert without_mtimes(read(world))[b"own"] == without_mtimes(read(world))[b"shared"]
    assert os.stat(os.path.join(world, b"own")).st_ino == inode
    assert stat.S_IMODE(os.stat(at + "shared").st_mode) == 0o644
    assert not os.path.exists(at + "own")


# ---- life and death of a transaction


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


# ---- what it costs


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
