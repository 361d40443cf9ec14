"""How the set of tracked paths goes from one push to the next without being sent whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from codesync.delta.errors import BatchError
from codesync.delta.manifest import tracked_id

if TYPE_CHECKING:
    from codesync.delta.manifest import Manifest

BASE, TARGET = "base", "target"


class TrackedChange(NamedTuple):
    """Take the base's tracked set (`start` "base") or all paths of the target tree ("target"), remove, then add.

    `base_id` and `target_id` are the `tracked_id` of the set before and after; empty ones are not checked.
    """

    start: str = BASE
    add: tuple[bytes, ...] = ()
    remove: tuple[bytes, ...] = ()
    base_id: str = ""
    target_id: str = ""

    @classmethod
    def between(
        cls, base_tracked: Collection[bytes], target: Manifest, target_tracked: Collection[bytes]
    ) -> TrackedChange:
        """The shorter of the two ways to `target_tracked`."""
        old, new = frozenset(base_tracked), frozenset(target_tracked)
        ids = tracked_id(old), tracked_id(new)
        ways = [_way(BASE, old, new, ids)]
        if old != new:
            ways.append(_way(TARGET, frozenset(target.paths), new, ids))
        return min(ways, key=lambda way: _length(way.add) + _length(way.remove))

    def apply(self, base_tracked: Collection[bytes], target: Manifest) -> frozenset[bytes]:
        """The new set. BatchError unless it, and the one it starts from, have the ids named here."""
        if self.base_id and self.start == BASE and tracked_id(base_tracked) != self.base_id:
            raise BatchError("the batch is made for another set of tracked paths; make it anew")
        start = frozenset(base_tracked) if self.start == BASE else frozenset(target.paths)
        # the very same set where it stays as it is: its id is known
        tracked = start.difference(self.remove).union(self.add) if self.remove or self.add else start
        if self.target_id and tracked_id(tracked) != self.target_id:
            raise BatchError("the batch does not lead to the set of tracked paths it names")
        return tracked


def _way(start: str, old: frozenset[bytes], new: frozenset[bytes], ids: tuple[str, str]) -> TrackedChange:
    return TrackedChange(start, tuple(sorted(new - old)), tuple(sorted(old - new)), *ids)


def _length(paths: Iterable[bytes]) -> int:
    return sum(len(path) + 4 for path in paths)
