"""How two trees differ, moves told apart from deletes and adds. Pure, and the same answer every time."""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import NamedTuple

from codesync.delta.manifest.entry import Entry, Kind
from codesync.delta.manifest.tree import Manifest


class Difference(NamedTuple):
    """What leads from one tree to another: every path in exactly one place, all in path order.

    `renamed` holds (old, new): a file's content that left one path and arrived at another; neither path is in
    `deleted` or `added` then. `attributes`: only mode or mtime differ (filled where `exact` was asked for).
    """

    added: tuple[bytes, ...] = ()
    modified: tuple[bytes, ...] = ()
    deleted: tuple[bytes, ...] = ()
    renamed: tuple[tuple[bytes, bytes], ...] = ()
    attributes: tuple[bytes, ...] = ()


def difference(base: Manifest, target: Manifest, *, exact: bool = False) -> Difference:
    """Say how `target` differs from `base`: by kind, executable bit, digest and link target.

    With `exact` entries that differ only in mode or mtime are named in `attributes`. A rename is a deleted and an
    added file with the same content, not empty; each is used once, one with the same last component is preferred.
    """
    old, new = base.index, target.index
    modified, attributes, added = [], [], []
    # most entries of two trees that follow one another are the same object
    differ = map(is_not, new.values(), map(old.get, new))
    for after in compress(new.values(), differ):
        path = after.path
        before = old.get(path)
        if before is None:
            added.append(after)
        elif not _same_content(before, after):
            modified.append(path)
        elif exact and not _same_attributes(before, after):
            attributes.append(path)
    # as many as there were, and none that there was not: then none has gone
    deleted = [] if len(new) - len(added) == len(old) else [old[path] for path in old if path not in new]
    renamed = _renames(deleted, added)
    moved = {path for pair in renamed for path in pair}
    return Difference(
        tuple(entry.path for entry in added if entry.path not in moved),
        tuple(modified),
        tuple(entry.path for entry in deleted if entry.path not in moved),
        tuple(renamed),
        tuple(attributes),
    )


def _same_content(before: Entry, after: Entry) -> bool:
    """Whether two entries of a path are the same to a tree_id."""
    return (
        before.digest == after.digest
        and before.kind is after.kind
        and before.target == after.target
        and (not (before.mode ^ after.mode) & 0o100 or before.kind is not Kind.FILE)
    )


def _same_attributes(before: Entry, after: Entry) -> bool:
    """What `exact` adds; a symlink's mode means nothing and cannot be set."""
    return before.mtime_ns == after.mtime_ns and (before.mode == after.mode or before.kind is Kind.SYMLINK)


def _renames(deleted: list[Entry], added: list[Entry]) -> list[tuple[bytes, bytes]]:
    """Pairs of (old, new), sorted; first those that keep their last component, then any."""
    by_name: dict[tuple[bytes, bytes], list[bytes]] = {}
    by_digest: dict[bytes, list[bytes]] = {}
    for entry in reversed(deleted):
        if entry.size:
            by_name.setdefault((entry.digest, _name(entry.path)), []).append(entry.path)
            by_digest.setdefault(entry.digest, []).append(entry.path)
    pairs, used, left = [], set(), []
    for entry in added:
        same = by_name.get((entry.digest, _name(entry.path)))
        if entry.size and same:
            pairs.append((same[-1], entry.path))
            used.add(same.pop())
        elif entry.size and entry.digest in by_digest:
            left.append(entry)
    for entry in left:
        sources = by_digest[entry.digest]
        while sources and sources[-1] in used:
            sources.pop()
        if sources:
            pairs.append((sources.pop(), entry.path))
    return sorted(pairs)


def _name(path: bytes) -> bytes:
    return path[path.rfind(b"/") + 1 :]
