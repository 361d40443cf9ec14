"""How two trees differ, moves told apart from deletes and adds. Pure, and the same answer every time."""

from __future__ import annotations

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
    modified, attributes = [], []
    for after in target:
        before = base.get(after.path)
        if before is None or before is after:
            continue
        if _content(before) != _content(after):
            modified.append(after.path)
        elif exact and _attributes(before) != _attributes(after):
            attributes.append(after.path)
    deleted = [entry for entry in base if entry.path not in target]
    added = [entry for entry in target if entry.path not in base]
    renamed = _renames(deleted, added)
    moved = {path for pair in renamed for path in pair}
    return Difference(
        tuple(entry.path for entry in added if entry.path not in moved),
        tuple(modified),
        tuple(entry.path for entry in deleted if entry.path not in moved),
        tuple(renamed),
        tuple(attributes),
    )


def _content(entry: Entry) -> tuple[Kind, bytes, bytes, int]:
    return entry.kind, entry.digest, entry.target, entry.mode & 0o100 if entry.kind is Kind.FILE else 0


def _attributes(entry: Entry) -> tuple[int, int]:
    """What `exact` adds; a symlink's mode means nothing and cannot be set."""
    return entry.mtime_ns, 0 if entry.kind is Kind.SYMLINK else entry.mode


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
