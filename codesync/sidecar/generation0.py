"""The launcher's files, read with suspicion: the image that it hands over, the tree that it runs.

docs/launcher-socket.md has the fields of `.launcher/gen0.json` and `.launcher/applied`.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from codesync.delta import Entry, Kind
from codesync.delta.manifest.form import entry_from_json
from codesync.sidecar.volume import read_bounded
from codesync.transaction import Root, TransactionError

MAX_RECORD = 256 * 1024 * 1024
MAX_APPLIED = 64 * 1024


class Image(NamedTuple):
    """Its identity, its entries, and the name below `gen0/` of each file's content."""

    identity: str
    entries: list[Entry]
    files: dict[bytes, bytes]


def read_image(volume: Root) -> Image:
    """Raises OSError, TransactionError, and ValueError for what is malformed."""
    try:
        record = json.loads(read_bounded(volume, b".launcher/gen0.json", MAX_RECORD))
        rows = [(entry_from_json(fields), os.fsencode(name)) for *fields, name in record["entries"]]
        files = {entry.path: name for entry, name in rows if entry.kind == Kind.FILE}
        return Image(str(record["image"])[:128], [entry for entry, _ in rows], files)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def applied_tree(volume: Root) -> str:
    """The tree_id that the launcher runs, as far as that can be read; else ""."""
    try:
        return str(json.loads(read_bounded(volume, b".launcher/applied", MAX_APPLIED))["tree_id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, TransactionError):
        return ""
