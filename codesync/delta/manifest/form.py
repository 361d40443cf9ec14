"""How a manifest is written down as JSON, which the launcher reads on any Python. Versioned and checked.

This file checks shapes; whether the entries can be a tree is `Manifest.of`'s business. For the packed form see packed.py.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.entry import Entry, Kind, Skipped

JSON_VERSION = 1
_KINDS = {kind.value: kind for kind in Kind}
# what reading a field of a wrong shape raises, here or below
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError)


def to_json(entries: Iterable[Entry], skipped: Iterable[Skipped], tree_id: str) -> dict[str, Any]:
    """Shape: {"version", "tree_id", "entries": [[path, kind, mode, mtime_ns, size, digest | target | ""]], "skipped"}."""
    return {
        "version": JSON_VERSION,
        "tree_id": tree_id,
        "entries": [
            [
                _text(e.path),
                e.kind.value,
                e.mode,
                e.mtime_ns,
                e.size,
                _text(e.target) if e.target else e.digest.hex(),
            ]
            for e in entries
        ],
        "skipped": [[_text(skip.path), skip.reason] for skip in skipped],
    }


def from_json(obj: object) -> tuple[list[Entry], list[Skipped], str]:
    """Read what `to_json` made, "skipped" may be absent; ManifestError where it is anything else."""
    if not isinstance(obj, dict) or obj.get("version") != JSON_VERSION:
        raise ManifestError("this is not a JSON manifest of a version that this codesync reads")
    try:
        entries = [entry_from_json(row) for row in obj["entries"]]
        skipped = [Skipped(_bytes(path), reason) for path, reason in obj.get("skipped", [])]
        return entries, skipped, str(obj["tree_id"])
    except _MALFORMED as error:
        raise ManifestError(f"the JSON manifest is malformed ({type(error).__name__})") from error


def entry_from_json(row: list[Any]) -> Entry:
    """Read one row of `to_json`. ValueError, TypeError, KeyError where it is none."""
    path, letter, mode, mtime_ns, size, last = row
    kind = _KINDS[letter]
    digest, target = (b"", _bytes(last)) if kind is Kind.SYMLINK else (bytes.fromhex(last), b"")
    return Entry(_bytes(path), kind, mode, mtime_ns, size, digest, target)


def _text(path: bytes) -> str:
    return b64encode(path).decode()


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)
