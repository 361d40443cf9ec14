"""Source trees: a real one, what is done to it, a tar of it, one file of it; and one of many small files.

A tree is a dict from path to content. On the disk all that is older than an edit has one time, and an edit a later one.
"""

import io
import os
import random
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench.workloads.downloads import django_files
from bench.workloads.pair import Pair, Workload
from bench.workloads.store import Store

Files = dict[str, bytes]
OLD, NEW = "django/contrib/", "django/bundled/"  # the directory that is renamed
_MADE, _EDITED = 1_750_000_000, 1_750_000_060  # seconds since the epoch
_SOURCE_FILE_BYTES = 50_000
_SMALL_TREE = 200
_WORDS = ("self", "value", "return", "for", "name", "in", "request", "not", "model", "field", "if", "import")


@cache
def source_tree(real: bool) -> Files:
    """Django's, about 7,000 files; or 200 made ones in a tree that looks like it."""
    if real:
        return django_files()
    modules = {
        f"{OLD}app{number // 20}/module{number}.py": _source(number, 120) for number in range(_SMALL_TREE)
    }
    return {"README": b"A tree.\n", **modules}


def small_files(count: int) -> Files:
    """So many files of about 1 KB, 50 in each directory."""
    return {
        f"package{number // 50}/module{number}.py": _source(number, 5 + number * 7 % 30)
        for number in range(count)
    }


def _source(seed: int, lines: int) -> bytes:
    chance = random.Random(seed)
    return b"".join(
        f"    {' '.join(chance.choices(_WORDS, k=6))} = {chance.getrandbits(32)}\n".encode()
        for _ in range(lines)
    )


def edit_lines(files: Files, count: int) -> Files:
    """What differs with one line edited in each of `count` files of Python."""
    chance = random.Random(count)
    paths = [path for path, content in files.items() if path.endswith(".py") and len(content) > 2000]
    return {
        path: edit_line(files[path], chance.getrandbits(32)) for path in chance.sample(sorted(paths), count)
    }


def edit_line(content: bytes, number: int) -> bytes:
    """The line in the middle, replaced."""
    lines = content.splitlines(keepends=True)
    lines[len(lines) // 2] = b"    edited = %d\n" % number
    return b"".join(lines)


def renamed(files: Files) -> Files:
    """All of them, with one directory at another path."""
    return {path.replace(OLD, NEW, 1) if path.startswith(OLD) else path: files[path] for path in files}


class TreeEdit(NamedTuple):
    """`apply` does to a tree on the disk, which holds `files`, what `name` says."""

    name: str
    apply: Callable[[Path, Files], None]


def tree_edits() -> list[TreeEdit]:
    """The four of the 7,000 files."""
    return [
        TreeEdit("unchanged", lambda root, files: None),
        TreeEdit("one line in one file", lambda root, files: write_tree(root, edit_lines(files, 1), _EDITED)),
        TreeEdit("a line in 50 files", lambda root, files: write_tree(root, edit_lines(files, 50), _EDITED)),
        TreeEdit("a directory renamed", lambda root, files: os.rename(root / OLD, root / NEW)),
    ]


def write_tree(root: Path, files: Files, seconds: int = _MADE) -> None:
    """Write files below a directory, each as a new one; directories keep the older time."""
    root.mkdir(parents=True, exist_ok=True)
    directories = {root}
    for path, content in files.items():
        file = root / path
        if file.parent not in directories:
            file.parent.mkdir(parents=True, exist_ok=True)
            directories.update(parent for parent in file.parents if parent.is_relative_to(root))
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        os.utime(file, (seconds, seconds))
    for directory in directories:
        os.utime(directory, (_MADE, _MADE))


def _tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(content), _MADE
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_workloads(store: Store, real: bool) -> list[Workload]:
    """A tar of the tree, about 60 MB."""

    def made(name: str, change: Callable[[Files], Files]) -> Path:
        return store.file(
            f"tar-{name}-{'real' if real else 'made'}",
            lambda file: file.write(_tar(change(source_tree(real)))),
        )

    def edits(files: Files) -> Files:
        return files | edit_lines(files, 50)

    def basis() -> Path:
        return made("basis", dict)

    return [
        Workload("tar, 50 one-line edits", "edits", lambda: Pair(basis(), made("edits", edits))),
        Workload("tar, a directory renamed", "moves", lambda: Pair(basis(), made("renamed", renamed))),
    ]


def source_workload(store: Store, real: bool) -> Workload:
    """The file of Python that is nearest to 50 KB, and a line of it edited."""

    def pair() -> Pair:
        files = {path: content for path, content in source_tree(real).items() if path.endswith(".py")}
        content = min(files.values(), key=lambda content: abs(len(content) - _SOURCE_FILE_BYTES))
        kind = "real" if real else "made"
        return Pair(
            store.file(f"source-basis-{kind}", lambda file: file.write(content)),
            store.file(f"source-edited-{kind}", lambda file: file.write(edit_line(content, 7))),
        )

    return Workload("50 KB source file, one line", "edits", pair)
