"""What git tracks: the paths in an index file, versions 2, 3 and 4, of SHA-1 and SHA-256 repositories.

Only names and modes are read. A split index names its shared part, which the caller reads and gives to `merge`.
The format is described in git's own gitformat-index(5).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from codesync.delta.errors import ScanError

_GITLINK = 0o160000
_EXTENDED = 0x4000
_LONG_NAME = 0xFFF
_FIXED = 40  # bytes of stat data before an entry's object id
_HEADER = struct.Struct(">4sLL")
_U32 = struct.Struct(">L")


class Index(NamedTuple):
    """Entries as (path, whether it is a submodule's commit), in the index's order; and a split index's link."""

    entries: list[tuple[bytes, bool]]
    link: Link | None


class Link(NamedTuple):
    """The file sharedindex.<shared> has the entries; of them `deleted` are gone and `replaced` are written anew."""

    shared: str
    deleted: frozenset[int]
    replaced: frozenset[int]


def read_index(data: bytes, hash_length: int = 20) -> Index:
    """Read an index file's bytes.

    Raises:
        ScanError: damaged, or a version or a required extension that is not known.
    """
    try:
        magic, version, count = _HEADER.unpack_from(data)
        if magic != b"DIRC" or version not in {2, 3, 4}:
            raise ScanError(
                f"git's index has version {version}, only 2, 3 and 4 are read; try `git update-index`"
            )
        entries, at = (_compressed if version == 4 else _padded)(data, count, hash_length)
        return Index(entries, _link(data, at, hash_length))
    except (struct.error, IndexError, ValueError) as error:
        raise ScanError("git's index is damaged; `git status` says more") from error


def merge(shared: Index, split: Index) -> list[tuple[bytes, bool]]:
    """Return the entries of a split index: replacements have no name, they take that of the entry they replace."""
    assert split.link is not None
    link = split.link
    replacements = iter([entry for entry in split.entries if not entry[0]])
    merged = []
    for number, (path, gitlink) in enumerate(shared.entries):
        if number in link.replaced:
            gitlink = next(replacements, (b"", gitlink))[1]  # noqa: PLW2901 - the entry as the split index has it
        if number not in link.deleted:
            merged.append((path, gitlink))
    return sorted(merged + [entry for entry in split.entries if entry[0]])


def _padded(data: bytes, count: int, hash_length: int) -> tuple[list[tuple[bytes, bool]], int]:
    """Versions 2 and 3: names end in one to eight NULs, up to a multiple of eight."""
    entries = []
    at = _HEADER.size
    flags_at = _FIXED + hash_length
    for _ in range(count):
        flags = data[at + flags_at] << 8 | data[at + flags_at + 1]
        start = at + flags_at + (4 if flags & _EXTENDED else 2)
        length = flags & _LONG_NAME
        end = start + length if length < _LONG_NAME else data.index(b"\0", start)
        entries.append((data[start:end], _is_gitlink(data, at)))
        at += (end - at + 8) & ~7
    return _complete(data, entries, at)


def _compressed(data: bytes, count: int, hash_length: int) -> tuple[list[tuple[bytes, bool]], int]:
    """Version 4: how many bytes to drop from the last name, then what to add, then one NUL."""
    entries = []
    at, name = _HEADER.size, b""
    flags_at = _FIXED + hash_length
    for _ in range(count):
        gitlink = _is_gitlink(data, at)
        flags = data[at + flags_at]
        drop, start = _varint(data, at + flags_at + (4 if flags << 8 & _EXTENDED else 2))
        end = data.index(b"\0", start)
        if drop > len(name):
            raise ValueError(drop)
        name = name[: len(name) - drop] + data[start:end]
        entries.append((name, gitlink))
        at = end + 1
    return _complete(data, entries, at)


def _complete(
    data: bytes, entries: list[tuple[bytes, bool]], at: int
) -> tuple[list[tuple[bytes, bool]], int]:
    if at > len(data):
        raise ValueError(at)
    return entries, at


def _is_gitlink(data: bytes, at: int) -> bool:
    return (data[at + 26] << 8 | data[at + 27]) & 0o170000 == _GITLINK


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The offset encoding of pack files: seven bits a byte, each continuation adds one."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1 << 7) | data[at] & 0x7F
    return value, at + 1


def _link(data: bytes, at: int, hash_length: int) -> Link | None:
    """Go through the extensions; those in lower case must be understood."""
    link = None
    while at + 8 <= len(data) - hash_length:
        name, (size,) = data[at : at + 4], _U32.unpack_from(data, at + 4)
        body = data[at + 8 : at + 8 + size]
        if name == b"link":
            link = _read_link(body, hash_length)
        elif not name[:1].isupper() and name != b"sdir":
            raise ScanError(f"git's index needs the extension {name!r}, which is not known here")
        at += 8 + size
    return link


def _read_link(body: bytes, hash_length: int) -> Link | None:
    shared = body[:hash_length]
    if not any(shared):
        return None
    if len(body) == hash_length:
        return Link(shared.hex(), frozenset(), frozenset())
    deleted, at = _bitmap(body, hash_length)
    replaced, _ = _bitmap(body, at)
    return Link(shared.hex(), deleted, replaced)


def _bitmap(data: bytes, at: int) -> tuple[frozenset[int], int]:
    """Numbers of the set bits of an EWAH bitmap: runs of equal words, each run followed by literal words."""
    bits, count = struct.unpack_from(">LL", data, at)
    words = struct.unpack_from(f">{count}Q", data, at + 8)
    found, position, i = set[int](), 0, 0
    while i < count:
        run, literals = words[i] >> 1 & 0xFFFFFFFF, words[i] >> 33
        if words[i] & 1:
            found.update(range(position, min(bits, position + 64 * run)))
        position += 64 * run
        for word in words[i + 1 : i + 1 + literals]:
            found.update(position + bit for bit in range(64) if word >> bit & 1)
            position += 64
        i += 1 + literals
    return frozenset(found), at + 8 + 8 * count + 4
