"""One change of one path, and which paths are paths. This file touches no filesystem."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple

from .errors import TransactionError, UnsafePath, shown

FILE, DIRECTORY, SYMLINK, ATTRIBUTES, DELETE = "file", "directory", "symlink", "attributes", "delete"
KINDS = (FILE, DIRECTORY, SYMLINK, ATTRIBUTES, DELETE)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NO_NAMES = frozenset((b"", b".", b".."))


def check_path(path: bytes) -> None:
    """Raise UnsafePath unless `path` is relative, its components are plain names and it has no NUL."""
    if not isinstance(path, bytes) or b"\0" in path or not _NO_NAMES.isdisjoint(path.split(b"/")):
        raise UnsafePath(
            f"not a path inside the root: {path!r:.200}; send relative paths without '.' and '..'", path
        )


def parent_of(path: bytes) -> bytes:
    """The directory a path is in; b"" is the root."""
    return path.rpartition(b"/")[0]


def tree_order(path: bytes) -> bytes:
    """Sort key: parents before children, a subtree in one piece."""
    return path.replace(b"/", b"\0")


class Change(NamedTuple):
    """What one path becomes.

    `kind` is FILE, DIRECTORY, SYMLINK (what the path is afterwards), ATTRIBUTES (mode and mtime of what is there) or DELETE.
    `mode` holds permission bits 0..0o777; None keeps the mode of what is there, else 0o644 or 0o755.
    `mtime_ns` None: whatever it gets. `size` and `digest` (SHA-256, hex) belong to FILE, `target` to SYMLINK.
    The empty path is the root itself; only ATTRIBUTES may name it.
    """

    path: bytes
    kind: str
    mode: int | None = None
    mtime_ns: int | None = None
    size: int = 0
    digest: str = ""
    target: bytes = b""

    def check(self) -> None:
        """Raise UnsafePath for a bad path, TransactionError for any other bad field."""
        if not (self.path == b"" and self.kind == ATTRIBUTES):
            check_path(self.path)
        fault = self._fault()
        if fault:
            raise TransactionError(f"change of {shown(self.path)} is malformed: {fault}", self.path)

    def _fault(self) -> str:
        """The first field that is wrong, or nothing."""
        if self.kind not in KINDS:
            return f"kind {self.kind!r:.40}"
        if not (self.mode is None or (_is_int(self.mode) and 0 <= self.mode <= 0o777)):
            return f"mode {self.mode!r:.40}"
        if not (self.mtime_ns is None or (_is_int(self.mtime_ns) and -(1 << 63) <= self.mtime_ns < 1 << 63)):
            return f"mtime_ns {self.mtime_ns!r:.40}"
        if not (_is_int(self.size) and 0 <= self.size < 1 << 63):
            return f"size {self.size!r:.40}"
        return self._content_fault()

    def _content_fault(self) -> str:
        if not isinstance(self.digest, str) or (
            (self.digest or self.kind == FILE) and not _SHA256.match(self.digest)
        ):
            return f"sha256 {self.digest!r:.80}"
        if (
            not isinstance(self.target, bytes)
            or b"\0" in self.target
            or (self.kind == SYMLINK and not self.target)
        ):
            return f"target {self.target!r:.80}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; path and target are base64."""
        return {
            "path": base64.b64encode(self.path).decode("ascii"),
            "kind": self.kind,
            "mode": self.mode,
            "mtime_ns": self.mtime_ns,
            "size": self.size,
            "sha256": self.digest,
            "target": base64.b64encode(self.target).decode("ascii"),
        }

    @classmethod
    def from_json(cls, obj: Any) -> Change:
        """The Change `to_json` wrote; unknown keys are ignored, anything malformed is a TransactionError."""
        if not isinstance(obj, dict):
            raise TransactionError(f"a change must be a JSON object, not {type(obj).__name__}")
        change = cls(
            unbase64(obj.get("path"), "path"),
            obj.get("kind", ""),
            obj.get("mode"),
            obj.get("mtime_ns"),
            obj.get("size", 0),
            obj.get("sha256", ""),
            unbase64(obj.get("target", ""), "target"),
        )
        change.check()
        return change


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def unbase64(value: object, name: str) -> bytes:
    """The bytes of a base64 string out of JSON; TransactionError names the field."""
    if not isinstance(value, str):
        raise TransactionError(f"a change is malformed: {name} must be a base64 string")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise TransactionError(f"a change is malformed: {name} is not base64: {value!r:.80}") from None
