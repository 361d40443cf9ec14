"""The journal: everything needed to finish a transaction or to take it back, written before the first rename.

A first line with the version and the SHA-256 of the rest, then one JSON object. Bytes of paths are base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from typing import Any, NamedTuple

from .change import ATTRIBUTES, DELETE, DIRECTORY, FILE, SYMLINK, Change, check_path, unbase64
from .errors import TransactionError

VERSION = 1
OTHER = "other"  # a FIFO, socket or device: may be replaced or deleted, never put


class Old(NamedTuple):
    """What was at a path: FILE, DIRECTORY, SYMLINK or OTHER, all mode bits, owner and mtime."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Old:
        """The same from a stat result."""
        kind = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}.get(
            stat.S_IFMT(status.st_mode), OTHER
        )
        return cls(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)


class Step(NamedTuple):
    """One change, its number (which names its files in the staging directory) and what was there."""

    number: int
    change: Change
    old: Old | None

    @property
    def new_name(self) -> bytes:
        """Where the thing to put waits."""
        return b"n%d" % self.number

    @property
    def old_name(self) -> bytes:
        """Where the old thing is saved."""
        return b"o%d" % self.number

    @property
    def on_directory(self) -> bool:
        """Whether a directory is there now."""
        return self.old is not None and self.old.kind == DIRECTORY

    @property
    def places(self) -> bool:
        """Whether something is renamed to the path."""
        kind = self.change.kind
        return kind in (FILE, SYMLINK) or (kind == DIRECTORY and not self.on_directory)

    @property
    def saves(self) -> bool:
        """Whether something other than a directory is replaced or removed."""
        return self.old is not None and not self.on_directory and self.change.kind != ATTRIBUTES

    @property
    def adjusts(self) -> bool:
        """Whether only mode and mtime of something change; a directory's are seen to with all directories'."""
        return self.change.kind == ATTRIBUTES and not self.on_directory

    @property
    def removes_directory(self) -> bool:
        """Whether a directory has to go."""
        return self.on_directory and self.change.kind in (DELETE, FILE, SYMLINK)


class Journal(NamedTuple):
    """Steps in tree order; every directory that was there and is touched, in tree order; the root is b""."""

    id: str
    durable: bool
    steps: list[Step]
    directories: list[tuple[bytes, Old]]

    def fresh(self) -> set[bytes]:
        """The paths that become directories and were none."""
        return {step.change.path for step in self.steps if step.places and step.change.kind == DIRECTORY}

    def to_bytes(self) -> bytes:
        """The file's content."""
        body = {
            "id": self.id,
            "durable": self.durable,
            "steps": [[step.number, step.change.to_json(), step.old] for step in self.steps],
            "directories": [[base64.b64encode(path).decode("ascii"), old] for path, old in self.directories],
        }
        text = json.dumps(body, separators=(",", ":")).encode("ascii")
        return b"codesync journal %d %s\n%s" % (
            VERSION,
            hashlib.sha256(text).hexdigest().encode("ascii"),
            text,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Journal:
        """TransactionError when the version is another's or the content is damaged."""
        head, _, text = data.partition(b"\n")
        words = head.split(b" ")
        if words[:2] != [b"codesync", b"journal"] or len(words) < 3:
            raise _damaged()
        if words[2] != b"%d" % VERSION:
            found = words[2].decode("ascii", "replace")
            raise TransactionError(
                f"the journal has version {found:.20}, this is version {VERSION}: recover with the codesync that wrote it"
            )
        if words[3:] != [hashlib.sha256(text).hexdigest().encode("ascii")]:
            raise _damaged()
        try:
            return cls._from_json(json.loads(text.decode("ascii")))
        except (KeyError, TypeError, ValueError):
            raise _damaged() from None

    @classmethod
    def _from_json(cls, body: Any) -> Journal:
        steps = [
            Step(int(n), Change.from_json(c), None if old is None else _old(old))
            for n, c, old in body["steps"]
        ]
        directories = [(unbase64(path, "path"), _old(old)) for path, old in body["directories"]]
        for path, _ in directories:
            if path:
                check_path(path)
        return cls(str(body["id"]), bool(body["durable"]), steps, directories)


def _old(values: Any) -> Old:
    kind, *numbers = values
    return Old(str(kind), *map(int, numbers))


def _damaged() -> TransactionError:
    return TransactionError(
        "the journal is damaged; compare the tree with a good copy, then remove the staging directory by hand"
    )
