"""Which moves say shortest how a base has become a target. Pure; any answer would be right, this one is small.

Renamed files vote: one that went from `a/b/x` to `c/b/x` says that `a/b` went to `c/b`, and `a` to `c`. Directories are
asked from the top down whether most of what they hold went to one place; what does not follow has a move of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from codesync.delta.batch.moves import below, image_of, span, tree_order
from codesync.delta.manifest import Entry, Kind

if TYPE_CHECKING:
    from codesync.delta.manifest import Difference, Manifest


def find_moves(base: Manifest, target: Manifest, found: Difference) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Moves (source → path), and the paths of the base that must be deleted.

    What the moves carry stands in the target, though perhaps with other content, and nothing is carried to two places.
    """
    if not found.renamed:
        return {}, set(found.deleted)
    gone = {*found.deleted, *(old for old, _ in found.renamed)}
    try:
        return _Finder(base, target, found, gone).run()
    except _Clash:
        moves = dict(found.renamed)
        return moves, gone.difference(moves)


class _Clash(Exception):
    """A path must stay where something else is moved to; then every file moves by itself."""


class _Finder:
    def __init__(self, base: Manifest, target: Manifest, found: Difference, gone: set[bytes]) -> None:
        self._base, self._target = base, target
        self._paths = base.paths
        self._new = dict(found.renamed)
        self._votes = _votes(found.renamed)
        self._gone = gone
        self._gone_below = Counter(above for path in gone for above in _parents(path))
        self._moves: dict[bytes, bytes] = {}
        self._dropped: set[bytes] = set()
        self._seen: set[bytes] = set()  # of the base
        self._taken: set[bytes] = set()  # of the target

    def run(self) -> tuple[dict[bytes, bytes], set[bytes]]:
        last = None
        for directory in sorted(self._votes, key=tree_order):
            if last is None or not directory.startswith(last):
                image = self._image(directory)
                if image:
                    last = directory + b"/"
                    self._walk(directory, image)
        for old, new in self._new.items():
            if old not in self._seen and new not in self._taken:
                self._moves[old] = new
                self._taken.add(new)
        return self._moves, self._dropped.union(self._gone.difference(self._seen, self._moves))

    def _image(self, directory: bytes) -> bytes:
        """Where a directory went as a whole, or nothing."""
        image, votes = self._favourite(directory)
        if directory not in self._base or not self._is_free(image, self._base[directory]):
            return b""
        return image if votes > self._staying(directory) + (image in self._base) else b""

    def _favourite(self, directory: bytes) -> tuple[bytes, int]:
        return max(self._votes.get(directory, {b"": 0}).items(), key=lambda item: (item[1], item[0]))

    def _staying(self, directory: bytes) -> int:
        """How many entries below a directory are in the target too."""
        start, stop = span(directory, self._paths)
        return stop - start - self._gone_below[directory]

    def _is_free(self, path: bytes, entry: Entry) -> bool:
        there = self._target.get(path)
        return there is not None and there.kind is entry.kind and path not in self._taken

    def _walk(self, top: bytes, image: bytes) -> None:
        """Let everything from `top` down follow it, or say why not."""
        known = {top: image}
        self._moves[top] = image
        self._seen.add(top)
        self._taken.add(image)
        for path in below(top, self._paths):
            entry = self._base[path]
            inherited = image_of(path, known)
            place = self._place(entry, inherited)
            self._seen.add(path)
            if place:
                self._taken.add(place)
                if place != inherited:
                    self._moves[path] = place
            else:
                self._dropped.add(path)
            if entry.kind is Kind.DIRECTORY:
                known[path] = place or inherited

    def _place(self, entry: Entry, inherited: bytes) -> bytes:
        """Where an entry goes for which there is a place already; nothing for one that goes away."""
        path = entry.path
        if entry.kind is Kind.DIRECTORY:
            wanted = self._wanted(path, inherited)
        elif self._is_same(entry, inherited):
            return inherited
        else:
            wanted = self._new.get(path) or (path if self._is_same(entry, path) else inherited)
        for place in (wanted, inherited):
            if self._is_free(place, entry):
                return place
        if path not in self._target:
            return b""
        if path in self._taken:
            raise _Clash
        return path

    def _wanted(self, path: bytes, inherited: bytes) -> bytes:
        """Where most below a directory went."""
        following = self._votes.get(path, Counter[bytes]())[inherited]
        image, votes = self._favourite(path)
        staying = self._staying(path) if path in self._target else 0
        if staying > max(votes, following):
            return path
        return image if votes > following + 1 else inherited

    def _is_same(self, entry: Entry, path: bytes) -> bool:
        there = self._target.get(path)
        return (
            self._is_free(path, entry)
            and there is not None
            and (there.digest, there.target) == (entry.digest, entry.target)
        )


def _votes(renamed: Iterable[tuple[bytes, bytes]]) -> dict[bytes, Counter[bytes]]:
    """For each directory that files left, where they say that it went, and how many."""
    votes: dict[bytes, Counter[bytes]] = {}
    for old, new in renamed:
        for there, here in zip(_parents(old), _parents(new), strict=False):
            if there == here:
                break
            votes.setdefault(there, Counter())[here] += 1
            if there.rpartition(b"/")[2] != here.rpartition(b"/")[2]:
                break
    return votes


def _parents(path: bytes) -> Iterator[bytes]:
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        yield path
