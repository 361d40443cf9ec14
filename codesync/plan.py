"""What a push changes: one pure function of two trees and the ignore rules, and the guards around it.

This file reads no disk, no clock and no socket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from codesync.delta.manifest import Difference, Entry, Kind, Manifest, difference, tracked_id, unlike
from codesync.errors import UserError

Modes = Literal["executable", "exact"]
Ignored = Callable[[bytes, bool], bool]

MASS_DELETE_PATHS = 20
LARGE_BYTES = 64 * 1024 * 1024
DEPENDENCY_DIRECTORIES = (b".venv", b"node_modules")
_NAMED = 5  # paths that a guard's message spells out


class GuardError(UserError):
    """A push that looks like an accident. `override` is the argument that allows it, "" where none does."""

    def __init__(self, message: str, *, override: str, paths: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.override = override
        self.paths = paths


@dataclass(frozen=True)
class ReplicaTree:
    """What a replica has committed, and which of its paths the source of its last kept push had."""

    manifest: Manifest
    tracked: frozenset[bytes] = frozenset()

    @cached_property
    def ids(self) -> tuple[str, str]:
        """tree_id and tracked_id."""
        return self.manifest.tree_id, tracked_id(self.tracked)


@dataclass(frozen=True)
class Plan:
    """From `base`, the replica's tree, to `target`, what it shall be; `tracked` are the source's paths then."""

    base: Manifest
    target: Manifest
    base_tracked: frozenset[bytes]
    tracked: frozenset[bytes]

    @cached_property
    def difference(self) -> Difference:
        """What changes, moves told apart from deletes and adds."""
        return difference(self.base, self.target, exact=True)

    @property
    def changes_tree(self) -> bool:
        """Whether the replica's files change at all (else at most `tracked` does)."""
        return any(self.difference)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell the replica."""
        return not self.changes_tree and self.tracked == self.base_tracked

    @cached_property
    def least_bytes(self) -> int:
        """Content bytes that no basis can spare: what is added, and what files have grown by."""
        found = self.difference
        added = sum(self.target[path].size for path in found.added)
        grown = sum(max(0, self.target[path].size - self.base[path].size) for path in found.modified)
        return added + grown


def plan(
    source: Manifest,
    replica: Manifest,
    tracked: frozenset[bytes],
    ignored: Ignored,
    *,
    mirror: bool = False,
    modes: Modes = "executable",
) -> Plan:
    """Say what the replica's tree shall be once `source` is pushed.

    `tracked` are the paths of the source of the last kept push; `ignored(path, is_directory)` are the source's
    rules. With `mirror`, known paths that were never tracked go too. What the rules ignore is never deleted.

    Raises:
        GuardError: a file of the source stands where the replica has a directory holding paths that must stay.
    """
    given = _differing(source, replica, modes)
    merged = {entry.path: _merged(entry, replica.get(entry.path), modes) for entry in given}
    deleted = _deletes(source, replica, tracked, ignored, mirror=mirror)
    target = replica.changed(merged.values(), deleted)
    kept = _still_parents(target, [path for path in deleted if replica[path].kind == Kind.DIRECTORY])
    # both trees have been checked, and once this has passed nothing of them can clash any more
    _refuse_clashes(target, [e.path for e in given if _takes_a_place(e, replica.get(e.path))])
    if kept:
        target = target.changed([replica[path] for path in kept], ())
    return Plan(replica, target, tracked, _tracked_then(source, tracked))


def _differing(source: Manifest, replica: Manifest, modes: Modes) -> list[Entry]:
    """The source's entries that the replica does not have, or not with the same content and executable bit."""
    return list(source) if modes == "exact" else unlike(replica, source)


def _tracked_then(source: Manifest, tracked: frozenset[bytes]) -> frozenset[bytes]:
    """The paths of the source, and those tracked ones of which it could not tell; the old set itself if it is equal."""
    left_out = {skipped.path for skipped in source.skipped}
    gone = tracked.difference(source.path_set)
    still = {path for path in gone if _covered(path, left_out)} if left_out else set()
    if len(gone) == len(still) and len(tracked) == len(source) + len(still):
        return tracked
    return source.path_set.union(still)


def _merged(new: Entry, old: Entry | None, modes: Modes) -> Entry:
    """`new` as it will stand on the replica; `old` itself where nothing about it counts as a change."""
    mode = _mode(new, old, modes)
    if old is None or old.kind != new.kind:
        return new._replace(mode=mode)
    if (old.digest, old.target) == (new.digest, new.target):
        return old if mode == old.mode else old._replace(mode=mode)
    return new._replace(mode=mode)


def _mode(new: Entry, old: Entry | None, modes: Modes) -> int:
    if new.kind == Kind.SYMLINK:
        return old.mode if old is not None and old.kind == new.kind else new.mode
    if modes == "exact":
        return new.mode & 0o777
    if old is None or old.kind != new.kind:
        return 0o755 if new.kind == Kind.DIRECTORY or new.mode & 0o100 else 0o644
    if new.kind == Kind.DIRECTORY or bool(new.mode & 0o100) == bool(old.mode & 0o100):
        return old.mode
    return old.mode | 0o100 | (old.mode & 0o044) >> 2 if new.mode & 0o100 else old.mode & ~0o111


def _deletes(
    source: Manifest, replica: Manifest, tracked: frozenset[bytes], ignored: Ignored, *, mirror: bool
) -> list[bytes]:
    left_out = {skipped.path for skipped in source.skipped}
    known = replica.path_set if mirror else tracked
    return [
        path
        for path in sorted(known.difference(source.path_set))
        if (entry := replica.get(path)) is not None
        and not _covered(path, left_out)
        and not ignored(path, entry.kind == Kind.DIRECTORY)
    ]


def _covered(path: bytes, roots: set[bytes]) -> bool:
    """Whether `path` is one of `roots` or lies below one."""
    return bool(roots) and any(ancestor in roots for ancestor in (path, *_parents(path)))


def _parents(path: bytes) -> Iterable[bytes]:
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        yield path


def _still_parents(target: Manifest, deleted: list[bytes]) -> list[bytes]:
    """A directory that still holds something known stays, whoever deleted it."""
    paths = target.paths if deleted else ()
    return [path for path in deleted if _first_below(path, paths) is not None]


def _first_below(directory: bytes, paths: Sequence[bytes]) -> bytes | None:
    """The first of the sorted paths that lies in a directory."""
    start = directory + b"/"
    at = bisect_left(paths, start)
    return paths[at] if at < len(paths) and paths[at].startswith(start) else None


def _takes_a_place(new: Entry, old: Entry | None) -> bool:
    return old is not None and old.kind == Kind.DIRECTORY != new.kind


def _refuse_clashes(target: Manifest, replaced: list[bytes]) -> None:
    paths = target.paths if replaced else ()
    for parent in replaced:
        path = _first_below(parent, paths)
        if path is not None:
            message = (
                f"{show(parent)} is no directory in the source, but on the replica it is one and holds "
                f"{show(path)}, which this push must not delete; rename {show(parent)}, or delete "
                f"{show(path)} where the application runs"
            )
            raise GuardError(message, override="", paths=(parent, path))


def check_deletes(plan: Plan, source: Manifest, *, allow_mass_delete: bool) -> None:
    """Refuse an empty source, and deletes of more than 20 paths and more than half of the known tree."""
    if allow_mass_delete:
        return
    deleted = plan.difference.deleted
    if not len(source) and len(plan.base):
        message = (
            "the source is empty; check app_root, or pass allow_mass_delete if the tree shall be emptied"
        )
        raise GuardError(message, override="allow_mass_delete", paths=deleted)
    if len(deleted) > MASS_DELETE_PATHS and 2 * len(deleted) > len(plan.base):
        message = (
            f"this push deletes {len(deleted)} of {len(plan.base)} known paths ({_some(deleted)}); "
            "check app_root, or pass allow_mass_delete if that is meant"
        )
        raise GuardError(message, override="allow_mass_delete", paths=deleted)


def check_size(plan: Plan, *, allow_large: bool, wire_bytes: int = 0) -> None:
    """Refuse more than 64 MiB to send (by the plan, or `wire_bytes` once measured), and new dependency trees."""
    if allow_large:
        return
    size = max(plan.least_bytes, wire_bytes)
    if size > LARGE_BYTES:
        largest = sorted(plan.difference.added, key=lambda path: -plan.target[path].size)
        message = (
            f"this push sends {size / 2**20:.0f} MiB, more than {LARGE_BYTES // 2**20} MiB ({_some(largest)}); "
            "ignore what is not code in .codesyncignore, or pass allow_large"
        )
        raise GuardError(message, override="allow_large", paths=tuple(largest))
    found = [p for p in plan.difference.added if not set(DEPENDENCY_DIRECTORIES).isdisjoint(p.split(b"/"))]
    if found:
        message = (
            f"this push adds {len(found)} paths of installed dependencies ({_some(found)}); "
            "ignore them in .codesyncignore, or pass allow_large"
        )
        raise GuardError(message, override="allow_large", paths=tuple(found))


def check_conflict(plan: Plan, *, mine: str, last: str, last_at: str, push_id: str, take_over: bool) -> None:
    """Refuse to replace another source's push. `last` is that source ("" where none), `last_at` when it was."""
    if take_over or not last or last == mine or not plan.changes_tree:
        return
    message = (
        f"conflict: the last push ({push_id}) came from {last} at {last_at} and its tree differs from this one "
        f"({mine}); fetch those changes first, or pass take_over to replace them"
    )
    raise GuardError(message, override="take_over")


def show(path: bytes) -> str:
    """Turn a path into one line for a person: UTF-8, anything that cannot be printed escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _some(paths: Iterable[bytes]) -> str:
    listed = list(paths)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(show(path) for path in listed[:_NAMED]) + more
