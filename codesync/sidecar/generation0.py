"""What the launcher hands over of the image: `.launcher/gen0.json`, read with suspicion. docs/launcher-socket.md has its fields."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from codesync.delta import Entry, Kind
from codesync.delta.manifest.form import entry_from_json
from codesync.sidecar.volume import read_bounded
from codesync.transaction import Root

MAX_RECORD = 256 * 1024 * 1024


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
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
