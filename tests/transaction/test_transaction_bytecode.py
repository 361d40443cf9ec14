"""Bytecode goes with its source."""

from __future__ import annotations

from codesync.transaction import ATTRIBUTES, DELETE, FILE, SYMLINK, Change, Root, Transaction, bytecode
from tests.transaction.trees import Tree, build, directory, file, link, put, read, stage

TREE: Tree = {
    b"a.py": file(b"a"),
    b"ab.py": file(b"ab"),
    b"__pycache__": directory(),
    b"__pycache__/a.cpython-311.pyc": file(),
    b"__pycache__/a.cpython-311.opt-1.pyc": file(),
    b"__pycache__/a.cpython-38.pyc": file(),
    b"__pycache__/ab.cpython-311.pyc": file(),
    b"__pycache__/notes.txt": file(),
    b"pkg": directory(),
    b"pkg/m.py": file(b"m"),
    b"pkg/n.py": file(b"n"),
    b"pkg/__pycache__": directory(),
    b"pkg/__pycache__/m.cpython-311.pyc": file(),
    b"pkg/__pycache__/n.cpython-311.pyc": file(),
    b"pkg/__pycache__/stale.cpython-311.pyc": file(),
}


def extra(world: bytes, *changes: Change) -> list[bytes]:
    build(world, TREE)
    with Root(world) as root:
        found = bytecode(root, changes)
    assert all(change == Change(change.path, DELETE) for change in found)
    return sorted(change.path for change in found)


def test_a_changed_source_takes_its_bytecode_along(world: bytes) -> None:
    wanted = [
        b"__pycache__/a.cpython-311.opt-1.pyc",
        b"__pycache__/a.cpython-311.pyc",
        b"__pycache__/a.cpython-38.pyc",
    ]
    for change in (put(b"a.py", file(b"new")), Change(b"a.py", DELETE), put(b"a.py", link(b"ab.py"))):
        build(world, TREE) if not read(world).get(b"a.py") else None
        with Root(world) as root:
            assert sorted(c.path for c in bytecode(root, [change])) == wanted


def test_what_changes_no_source_takes_nothing(world: bytes) -> None:
    assert (
        extra(world, put(b"a.txt", file()), Change(b"a.py", ATTRIBUTES, 0o755), put(b"new.py", file())) == []
    )


def test_a_deleted_directory_takes_all_its_bytecode_along(world: bytes) -> None:
    changes = [Change(path, DELETE) for path in (b"pkg", b"pkg/m.py", b"pkg/n.py")]
    wanted = sorted(path for path in TREE if path.startswith(b"pkg/__pycache__"))
    assert extra(world, *changes) == wanted
    with Transaction.begin(world, "t") as transaction, Root(world) as root:
        stage(transaction, [(change, b"") for change in [*changes, *bytecode(root, changes)]])
        transaction.rename()
        assert transaction.left == []
        transaction.keep()
    assert b"pkg" not in read(world)


def test_a_directory_that_becomes_a_file_too(world: bytes) -> None:
    changes = [Change(b"pkg/m.py", DELETE), Change(b"pkg/n.py", DELETE), put(b"pkg", file(b"x"))]
    assert extra(world, *changes) == sorted(path for path in TREE if path.startswith(b"pkg/__pycache__"))


def test_a_cache_that_loses_all_it_holds_goes(world: bytes) -> None:
    changes = [
        Change(b"pkg/m.py", DELETE),
        Change(b"pkg/n.py", DELETE),
        Change(b"pkg/__pycache__/stale.cpython-311.pyc", DELETE),
    ]
    assert b"pkg/__pycache__" in extra(world, *changes)


def test_a_cache_with_anything_else_in_it_stays(world: bytes) -> None:
    assert extra(world, Change(b"ab.py", DELETE)) == [b"__pycache__/ab.cpython-311.pyc"]


def test_what_python_left_unfinished_and_an_empty_cache_hold_no_directory_up(world: bytes) -> None:
    tree: Tree = {
        b"p": directory(),
        b"p/__pycache__": directory(),
        b"q": directory(),
        b"q/__pycache__": directory(),
    }
    tree |= {b"p/__pycache__/m.cpython-311.pyc.140": file(), b"p/m.py": file()}
    build(world, tree)
    changes = [Change(b"p", DELETE), Change(b"p/m.py", DELETE), Change(b"q", DELETE)]
    with Transaction.begin(world, "t") as transaction, Root(world) as root:
        stage(transaction, [(change, b"") for change in [*changes, *bytecode(root, changes)]])
        transaction.rename()
        transaction.keep()
    assert set(read(world)) == {b""}


def test_no_change_comes_twice(world: bytes) -> None:
    given = [Change(b"ab.py", DELETE), Change(b"__pycache__/ab.cpython-311.pyc", DELETE)]
    assert extra(world, *given) == []


def test_a_cache_behind_a_symlink_is_not_looked_into(world: bytes, outside: bytes) -> None:
    build(outside, {b"a.cpython-311.pyc": file()})
    build(world, {b"a.py": file(), b"__pycache__": link(outside)})
    with Root(world) as root:
        assert bytecode(root, [Change(b"a.py", FILE), Change(b"x", SYMLINK)]) == []
