"""How two trees differ, moves told apart from deletes and adds. Pure, and the same answer every time.

Columns are compared, large pieces at a time: entries are looked at only where some column says that they differ.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from codesync.delta.manifest.columns import DIGEST, NONE, SYMLINK, Columns, edit
from codesync.delta.manifest.entry import Entry, Kind, by_path
from codesync.delta.manifest.tree import Manifest

_AT_ONCE = 256  # rows


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
    added, deleted = _only_in(target, base), _only_in(base, target)
    old, new = _without(base, deleted), _without(target, added)
    modified, attributes = [], []
    for row in _differing(old, new, exact=exact):
        before, after = old.entry(row), new.entry(row)
        if not _same_content(before, after):
            modified.append(after.path)
        elif exact and not _same_attributes(before, after):
            attributes.append(after.path)
    come, gone = [target[path] for path in added], [base[path] for path in deleted]
    renamed = _renames(gone, come) if come and gone else []
    moved = {path for pair in renamed for path in pair}
    return Difference(
        tuple(path for path in added if path not in moved),
        tuple(modified),
        tuple(path for path in deleted if path not in moved),
        tuple(renamed),
        tuple(attributes),
    )


def unlike(base: Manifest, target: Manifest) -> list[Entry]:
    """Entries of `target`, in path order, that `base` lacks or has with another kind, executable bit or content."""
    added = _only_in(target, base)
    old, new = _without(base, _only_in(base, target)), _without(target, added)
    rows = _differing(old, new, exact=False)
    changed = [new.entry(row) for row in rows if not _same_content(old.entry(row), new.entry(row))]
    return sorted([*changed, *(target[path] for path in added)], key=by_path)


def _only_in(one: Manifest, other: Manifest) -> list[bytes]:
    """Sorted paths that `one` has and `other` has not."""
    return [] if one.paths == other.paths else sorted(one.path_set - other.path_set)


def _without(manifest: Manifest, paths: list[bytes]) -> Columns:
    columns = manifest.columns
    return columns.spliced(NONE, edit(columns.paths, (), paths)) if paths else columns


def _differing(old: Columns, new: Columns, *, exact: bool) -> list[int]:
    """Rows in which entries of the same path differ, and perhaps some more."""
    rows = {*_unequal(old.kinds, new.kinds), *_unequal(old.modes, new.modes)}
    rows.update(_unequal(old.digests, new.digests, DIGEST))
    if exact:
        rows.update(_unequal(old.mtimes, new.mtimes))
    if old.targets != new.targets:
        rows.update(row for row, kind in enumerate(new.kinds) if kind == SYMLINK)
    return sorted(rows)


def _unequal(old: bytes | array[int], new: bytes | array[int], width: int = 1) -> Iterator[int]:
    """Rows in which two columns with `width` items a row differ."""
    if old == new:
        return
    for start in range(0, len(old), _AT_ONCE * width):
        stop = start + _AT_ONCE * width
        if old[start:stop] != new[start:stop]:
            for at in range(start, min(stop, len(old)), width):
                if old[at : at + width] != new[at : at + width]:
                    yield at // width


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
