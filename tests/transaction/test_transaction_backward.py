"""Undo, after an application has run in the new tree."""

from __future__ import annotations

import os

from tests.transaction.trees import (
    Tree,
    build,
    directory,
    file,
    read,
    staged,
    without_mtimes,
)


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
