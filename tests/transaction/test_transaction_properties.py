"""For any two trees: undo gives the first exactly, keep the second, and so does a recovery from any death."""

from __future__ import annotations

import os
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.transaction import recover
from tests.transaction.trees import (
    LONG_AGO,
    Node,
    Tree,
    as_nobody,
    build,
    dead_at,
    directory,
    file,
    in_child,
    link,
    place,
    read,
    staged,
    stagings_in,
    without_root,
)

NAMES = st.sampled_from([b"a", b"b", b"a.py", b"\xff", b"a-", b"__pycache__"])
MTIMES = st.integers(0, 5).map(lambda n: LONG_AGO + n * 10**15 + n)
FILES = st.builds(
    file, st.sampled_from([b"", b"x", b"y" * 5000]), st.sampled_from([0o644, 0o755, 0, 0o444, 0o666]), MTIMES
)
LINKS = st.builds(link, st.sampled_from([b"a", b"..", b"/etc", b"a/b"]), MTIMES)
DIRECTORIES = st.builds(directory, st.sampled_from([0o755, 0o700, 0o555, 0o500, 0o777]), MTIMES)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Tree:
    tree: Tree = {b"": draw(DIRECTORIES)}
    _grow(draw, b"", depth, tree)
    return tree


def _grow(draw: st.DrawFn, prefix: bytes, depth: int, tree: Tree) -> None:
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        node: Node = draw(st.one_of(FILES, LINKS, DIRECTORIES) if depth else st.one_of(FILES, LINKS))
        tree[prefix + name] = node
        if node.kind == "d":
            _grow(draw, prefix + name + b"/", depth - 1, tree)


def there_and_back(where: bytes, old: Tree, new: Tree) -> None:
    root = os.path.join(where, b"root")
    build(root, old)
    with staged(root, old, new) as transaction:
        transaction.rename()
        assert transaction.left == []
        assert without_root(read(root)).items() >= without_root(new).items()
        transaction.undo()
    assert read(root) == old
    with staged(root, old, new) as transaction:
        transaction.rename()
        transaction.keep()
    assert read(root) == new


@settings(max_examples=150, deadline=None)
@given(trees(), trees())
def test_undo_gives_the_old_tree_and_keep_the_new_one(old: Tree, new: Tree) -> None:
    with place() as where:
        there_and_back(where, old, new)


@settings(max_examples=40, deadline=None)
@given(trees(), trees())
def test_without_roots_powers_too(old: Tree, new: Tree) -> None:
    with place() as where:
        as_nobody(lambda: there_and_back(where, old, new))


@settings(max_examples=80, deadline=None)
@given(trees(2), trees(2), st.tuples(st.integers(1, 150), st.integers(1, 60)), st.booleans(), st.booleans())
def test_two_deaths_leave_the_old_tree_or_the_new_one(
    old: Tree, new: Tree, deaths: tuple[int, int], undo: bool, kept: bool
) -> None:
    def run(root: bytes) -> None:
        with staged(root, old, new) as transaction:
            transaction.rename()
            if not undo:
                transaction.keep()

    with place() as where:
        root = os.path.join(where, b"root")
        build(root, old)
        died = dead_at(deaths[0], lambda: run(root))
        if died:
            dead_at(deaths[1], lambda: recover(root, lambda id: kept))
        found = recover(root, lambda id: kept)
        tree = without_root(read(root))
        assert tree in (without_root(old), without_root(new))
        if found:
            assert tree == without_root(new if found[0].outcome == "kept" else old)
        elif not died:
            assert tree == without_root(old if undo else new)


MISCHIEF = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from(["remove", "file", "link", "directory"])), max_size=6
)


@settings(max_examples=80, deadline=None)
@given(trees(), trees(), MISCHIEF, st.tuples(st.integers(1, 120), st.integers(1, 60)))
def test_whatever_a_trial_did_and_whoever_died_what_was_changed_is_put_back(
    old: Tree, new: Tree, mischief: list[tuple[int, str]], deaths: tuple[int, int]
) -> None:
    with place() as where:
        root = os.path.join(where, b"root")
        build(root, old)
        transaction = staged(root, old, new)
        transaction.rename()
        for which, what in mischief:
            _meddle(root, sorted(new)[which % len(new)], what)
        if dead_at(deaths[0], transaction.undo):
            dead_at(deaths[1], lambda: recover(root))
            recover(root)
        tree = read(root)
        assert stagings_in(root) == []
        for path, node in old.items():
            if node.kind != "d" and (path not in new or new[path][:1] + new[path][3:] != node[:1] + node[3:]):
                assert tree[path] == node
        assert not {path for path in tree if path in new and path not in old}


def _meddle(root: bytes, path: bytes, what: str) -> None:
    """What an application might do: remove something, or put something of another kind there."""
    where = os.path.join(root, path)
    parent = os.path.dirname(where)
    if not path or not os.path.lexists(where) or os.path.realpath(parent) != parent:
        return
    if os.path.isdir(where) and not os.path.islink(where):
        shutil.rmtree(where)
    else:
        os.unlink(where)
    if what != "remove":
        build(
            root, {path: {"file": file(b"theirs"), "link": link(b".."), "directory": directory(0o500)}[what]}
        )


def test_a_child_that_fails_is_noticed() -> None:
    def fail() -> None:
        os._exit(3)

    assert os.WEXITSTATUS(in_child(fail)) == 3
