"""How the set of tracked paths goes from one push to the next without being sent whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from codesync.delta.errors import BatchError
from codesync.delta.manifest import tracked_id

if TYPE_CHECKING:
    from codesync.delta.manifest import Manifest

BASE, TARGET, MOVED = "base", "target", "moved"
STARTS = ("", BASE, TARGET, MOVED)  # on the wire a start is its number here
_NOTHING: Mapping[bytes, bytes] = {}


class TrackedChange(NamedTuple):
    """Start with a set, remove, then add.

    `start`: "base", the base's tracked set; "moved", the same with each path that the batch moves (`moves`: old → new)
    replaced by its new one; "target", all paths of the target tree. `base_id` and `target_id` are the `tracked_id` of
    the set before and after, or how it begins; empty ones are not checked. `sets` are both, where they are known.
    """

    start: str = BASE
    add: tuple[bytes, ...] = ()
    remove: tuple[bytes, ...] = ()
    base_id: str = ""
    target_id: str = ""
    moves: Mapping[bytes, bytes] = _NOTHING
    sets: tuple[frozenset[bytes], frozenset[bytes]] | None = None

    @classmethod
    def between(
        cls, base_tracked: Collection[bytes], target: Manifest, target_tracked: Collection[bytes]
    ) -> TrackedChange:
        """The shorter of the two ways to `target_tracked` that need no moves."""
        old, new = frozenset(base_tracked), frozenset(target_tracked)
        change = cls(base_id=tracked_id(old), target_id=tracked_id(new), sets=(old, new))
        ways = [change._way(BASE, old)]
        if old != new:
            ways.append(change._way(TARGET, frozenset(target.paths)))
        return min(ways, key=TrackedChange._length)

    def along(self, moves: Mapping[bytes, bytes]) -> TrackedChange:
        """The same change, or a shorter one that lets tracked paths go where a batch moves them."""
        if not moves or self.sets is None:
            return self
        way = self._way(MOVED, _moved(self.sets[0], moves))
        return min(self, way, key=TrackedChange._length)._replace(moves=moves)

    def apply(self, base_tracked: Collection[bytes], target: Manifest) -> frozenset[bytes]:
        """The new set. BatchError unless it, and the one it starts from, have the ids named here."""
        if self.base_id and self.start != TARGET and not tracked_id(base_tracked).startswith(self.base_id):
            raise BatchError("the batch is made for another set of tracked paths; make it anew")
        start = frozenset(target.paths) if self.start == TARGET else frozenset(base_tracked)
        if self.start == MOVED:
            start = _moved(start, self.moves)
        # the very same set where it stays as it is: its id is known
        tracked = start.difference(self.remove).union(self.add) if self.remove or self.add else start
        if self.target_id and not tracked_id(tracked).startswith(self.target_id):
            raise BatchError("the batch does not lead to the set of tracked paths it names")
        return tracked

    def _way(self, start: str, old: frozenset[bytes]) -> TrackedChange:
        assert self.sets is not None, "ways are made between known sets"
        new = self.sets[1]
        return self._replace(start=start, add=tuple(sorted(new - old)), remove=tuple(sorted(old - new)))

    def _length(self) -> int:
        return _length(self.add) + _length(self.remove)


def _moved(paths: frozenset[bytes], moves: Mapping[bytes, bytes]) -> frozenset[bytes]:
    return frozenset(moves.get(path, path) for path in paths)


def _length(paths: Iterable[bytes]) -> int:
    return sum(len(path) + 4 for path in paths)
