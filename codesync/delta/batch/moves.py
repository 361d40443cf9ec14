"""What moves do to a base. The one place that knows, for those who write a batch and for those who unpack it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from codesync.delta.errors import BatchError
from codesync.delta.manifest import Entry, Kind

if TYPE_CHECKING:
    from codesync.delta.manifest import Manifest


def carried(
    base: Manifest,
    moves: Mapping[bytes, bytes],
    deleted: Collection[bytes],
    count: Callable[[bytes, int], object],
) -> dict[bytes, Entry]:
    """Where moves (source → path) put entries of `base` that are not deleted: path → the entry at its old path.

    An entry goes where its own move says, else with the nearest directory above it that has one; a move to the same
    path keeps it. `count(path, size)` is told of each before it takes memory. BatchError: a source that is not there,
    two entries at one path.
    """
    placed: dict[bytes, Entry] = {}
    for entry, path in _images(base, moves):
        if entry.path in deleted:
            continue
        count(path, entry.size)
        if path in placed:
            raise BatchError("the batch moves two things to one path", path)
        placed[path] = entry
    return placed


def _images(base: Manifest, moves: Mapping[bytes, bytes]) -> Iterator[tuple[Entry, bytes]]:
    paths = base.paths if moves else ()
    for source in outermost(moves):
        if source not in base:
            raise BatchError("the batch moves a path that its base does not have", source)
        known = {source: moves[source]}  # where the directories go that were seen so far
        for path in (source, *below(source, paths)):
            entry = base[path]
            image = moves.get(path) or image_of(path, known)
            if entry.kind is Kind.DIRECTORY:
                known[path] = image
            yield entry, image


def outermost(sources: Collection[bytes]) -> Iterator[bytes]:
    """Those that do not lie below another one."""
    last = None
    for source in sorted(sources, key=tree_order):
        if last is None or not source.startswith(last):
            last = source + b"/"
            yield source


def tree_order(path: bytes) -> bytes:
    """Sort key: a directory, then at once all that is below it."""
    return path.replace(b"/", b"\0")


def below(directory: bytes, paths: Sequence[bytes]) -> Sequence[bytes]:
    """Those of the sorted paths that lie below a directory."""
    return paths[slice(*span(directory, paths))]


def span(directory: bytes, paths: Sequence[bytes]) -> tuple[int, int]:
    """Where they begin and end."""
    start = bisect_left(paths, directory + b"/")
    return start, bisect_left(paths, directory + b"0", start)  # "0" follows "/"


def image_of(path: bytes, known: Mapping[bytes, bytes]) -> bytes:
    """Where a path goes with the nearest directory above it in `known`; there is one."""
    above = path
    while above not in known:
        above = above[: above.rindex(b"/")]
    return known[above] + path[len(above) :]
