"""Python's bytecode goes with its source: a `.pyc` is believed when its source has the recorded size and second of
mtime, so one left behind could make Python run code that is not there any more.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from .change import DELETE, FILE, SYMLINK, Change, parent_of
from .errors import GONE, UnsafePath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .root import Root

_CACHE = b"__pycache__"
_BYTECODE = re.compile(rb"\.pyc(\.[0-9]+)?\Z")  # with a number: Python was killed while it wrote


def bytecode(root: Root, changes: Iterable[Change]) -> list[Change]:
    """The DELETEs to add to `changes` so that no bytecode outlives its source.

    Those are `__pycache__/x.*.pyc` of every x.py that is put or deleted, a `__pycache__` that loses all it holds, and all
    of a `__pycache__` (nothing but bytecode in it) whose directory is deleted or gives way and would otherwise be kept by it.
    """
    return _Sweep(root, changes).extra()


class _Sweep:
    def __init__(self, root: Root, changes: Iterable[Change]) -> None:
        self._root = root
        self._changes = {change.path: change for change in changes}
        self._listed: dict[bytes, list[bytes] | None] = {}
        self._doomed: set[bytes] = set()

    def extra(self) -> list[Change]:
        for change in self._changes.values():
            if change.kind in (FILE, SYMLINK, DELETE):
                self._of_source(change.path)
                self._of_directory(change.path)
        going = self._doomed.union(change.path for change in self._changes.values() if change.kind == DELETE)
        for cache, children in self._listed.items():
            if children and going.issuperset(children):
                self._doomed.add(cache)
        return [Change(path, DELETE) for path in sorted(self._doomed.difference(self._changes), reverse=True)]

    def _of_source(self, path: bytes) -> None:
        if path.endswith(b".py"):
            self._doomed.update(compiled_from(path, self._children(_cache_of(path)) or ()))

    def _of_directory(self, path: bytes) -> None:
        cache = path + b"/" + _CACHE
        children = self._children(cache)
        if children is not None and all(map(_BYTECODE.search, children)):
            self._doomed.update(children, (cache,))

    def _children(self, path: bytes) -> list[bytes] | None:
        if path not in self._listed:
            self._listed[path] = _children(self._root, path)
        return self._listed[path]


def compiled_from(source: bytes, paths: Iterable[bytes]) -> list[bytes]:
    """Which of the paths of a `__pycache__` are bytecode of `source`."""
    start = _cache_of(source) + b"/" + source.rpartition(b"/")[2][:-2]
    return [path for path in paths if path.startswith(start) and _BYTECODE.search(path)]


def forget_bytecode(root: Root, source: bytes) -> None:
    """Unlink what Python compiled from the file that is at `source` now, and a `__pycache__` that is empty then."""
    if not source.endswith(b".py"):
        return
    found = compiled_from(source, _children(root, _cache_of(source)) or ())
    if not found:
        return
    try:
        status = root.lstat(source)
    except GONE:
        return
    mark = struct.pack("<II", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    for path in found:
        if _header(root, path)[8:16] == mark:
            directory, name = root.parent(path)
            os.unlink(name, dir_fd=directory)
    if not _children(root, _cache_of(source)):
        directory, name = root.parent(_cache_of(source))
        os.rmdir(name, dir_fd=directory)


def _header(root: Root, path: bytes) -> bytes:
    try:
        with root.open(path) as file:
            return file.read(16)
    except (UnsafePath, OSError):
        return b""


def _cache_of(source: bytes) -> bytes:
    parent = parent_of(source)
    return parent + b"/" + _CACHE if parent else _CACHE


def _children(root: Root, path: bytes) -> list[bytes] | None:
    """The paths in a directory; None when there is none, or none that may be read."""
    try:
        return [path + b"/" + name for name in root.scandir(path)]
    except (*GONE, PermissionError):
        return None
