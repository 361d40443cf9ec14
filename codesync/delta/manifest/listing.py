"""One directory as a scan lists it, and what a comparison with how it was tells."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from codesync.delta.manifest.looks import PLAIN, RULES, TRACKED_ONLY, YOUNG, Look, is_settled

if TYPE_CHECKING:
    from codesync.delta.ignore import Level, Verdict


_RULES = {".git", ".gitignore"}  # names of what brings rules of its own


class Listing:
    """A directory that is being gone through. `children`: what of it is to be descended into, and the rules' word on it."""

    __slots__ = (
        "_digest", "children", "fd", "items", "level", "names", "number", "path", "settled", "status", "tracked_only"
    )  # fmt: skip

    def __init__(self, fd: int, path: bytes, *, tracked_only: bool) -> None:
        """List it; the descriptor is the caller's until `close` is called. Raises OSError."""
        moment = time.time_ns()
        self.status = os.fstat(fd)
        self.settled = is_settled(self.status, moment)  # whether the same look will mean the same names
        with os.scandir(fd) as opened:
            self.items = list(opened)
        self.names = {item.name for item in self.items}
        self._digest = digest_of(self.items)
        self.fd: int | None = fd  # None: given up for a while, or for good
        self.path = path
        self.tracked_only = tracked_only
        self.level: Level | None = None
        self.number = 0  # of the level
        self.children: list[tuple[bytes, Verdict | None]] = []

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def forget(self) -> None:
        """Nobody needs the items any more."""
        self.items.clear()
        self.names &= _RULES

    def look(self, *, settled: bool) -> Look:
        """What is remembered of it; not `settled`: it is to be listed anew next time."""
        flags = PLAIN if settled and self.settled else PLAIN | YOUNG
        if not self.names.isdisjoint(_RULES):
            flags |= RULES
        if self.tracked_only:
            flags |= TRACKED_ONLY
        return Look.of(self.status)._replace(flags=flags, level=self.number, listing=self._digest)


def digest_of(items: Sequence[os.DirEntry[str]]) -> int:
    """Of the names and kinds in a directory, as they were listed."""
    try:
        names = [f"{item.name}/" if item.is_dir(follow_symlinks=False) else item.name for item in items]
    except OSError:  # a file system that tells no kinds, and something that has vanished
        names = [item.name for item in items]
    return xxh3_64_intdigest(os.fsencode("\0".join(names)))


def vanished(
    paths: Sequence[bytes],
    rows: tuple[int, int],
    directory: bytes,
    directories: Container[bytes],
    leaves: Container[bytes],
) -> Iterator[bytes]:
    """Of the paths below a directory, which have these rows, those that are gone, given what there is still in it."""
    row, stop = rows
    start = len(directory) + 1 if directory else 0
    while row < stop:
        path = paths[row]
        slash = path.find(b"/", start)
        if slash < 0:
            if path not in directories and path not in leaves:
                yield path
            row += 1
        elif path[:slash] in directories:
            row = bisect_left(paths, path[:slash] + b"0", row, stop)  # "0" comes after "/"
        else:
            yield path
            row += 1
