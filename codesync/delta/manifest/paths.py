"""Many sorted paths at once, as they are when NUL joins them: which are siblings, and whether they can be a tree's.

A regular expression goes over them, so that Python has one step for each run of siblings instead of one for each path.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from operator import lt

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.entry import MAX_DEPTH, MAX_PATH, check_path

_NAME = rb"(?!\.{1,2}(?:\0|\Z))[^/\0]++(?=\0|\Z)"
# expressions, compiled when they are first needed
_SIBLINGS = rb"([^\0]*/|)%s(?:\0\1%s)*+" % (_NAME, _NAME)
_EIGHT_SIBLINGS = rb"(?<![^\0])((?>[^\0]*/))[^/\0]++(?:\0\1[^/\0]++(?=\0|\Z)){7,}+"
_STEP = MAX_PATH // 2


def families(joined: bytes) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Runs of eight and more siblings, not in the root: their directory, their names, joined, and where they are."""
    for run in re.finditer(_EIGHT_SIBLINGS, joined):
        common, (start, stop) = run[1], run.span()
        yield common[:-1], run[0][len(common) :].replace(b"\0" + common, b"\0"), start, stop


def check_paths(joined: bytes, paths: Sequence[bytes], directories: bytes) -> None:
    """Check paths; `directories` has a byte for each, which is not 0 where it is one.

    Raises:
        ManifestError: not sorted, one twice, too long, unsafe, or below one that is no directory.
    """
    if not all(map(lt, paths, islice(paths, 1, None))):
        raise ManifestError("the paths of a manifest are not sorted, or one stands there twice")
    if any(joined.find(b"\0", at, at + _STEP) < 0 for at in range(0, len(joined), _STEP)):
        for path in paths:  # one of them may be too long
            check_path(path)
    # a directory that is one of the paths is as safe as what it is in, and so on; the others are looked at
    known = {b"", *compress(paths, directories)}
    for parent in _parents(joined) - known:
        _check_parent(parent, paths, known)


def _parents(joined: bytes) -> set[bytes]:
    """What the paths are in; ManifestError where one has no name."""
    at = 0
    found = set()
    match = re.compile(_SIBLINGS).match  # no search: it would go on from a path that is wrong
    while at < len(joined) and (run := match(joined, at)) is not None:
        found.add(run[1])
        at = run.end() + 1
    if joined and at != len(joined) + 1:
        raise ManifestError("a path must be relative, without NUL, empty, '.' or '..' components")
    if any(common.count(b"/") >= MAX_DEPTH for common in found):
        raise ManifestError(f"a path may have {MAX_DEPTH} components")
    return {common[:-1] for common in found if common} | ({b"/"} if b"/" in found else set())


def _check_parent(parent: bytes, paths: Sequence[bytes], known: set[bytes]) -> None:
    check_path(parent)
    above = parent
    while parent not in known:
        row = bisect_left(paths, parent)
        if row < len(paths) and paths[row] == parent:
            raise below_none(parent)
        parent = parent_of(parent)
    known.add(above)  # not those between: of paths as long as can be they would be too many


def parent_of(path: bytes) -> bytes:
    """The directory a path is in; b"" is the root."""
    return path[: max(0, path.rfind(b"/"))]


def below_none(path: bytes) -> ManifestError:
    """What is raised about an entry at or below `path`."""
    return ManifestError("an entry stands below one that is no directory", path)
