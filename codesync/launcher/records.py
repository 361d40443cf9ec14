"""The JSON records on the volume, as typed values: what the sidecar writes and this side reads, and our own.

Pure: bytes in, values out, and the other way round. Whatever is malformed is a RecordError that says which record.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from codesync.transaction import DIRECTORY, FILE, SYMLINK, Change, TransactionError

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1
MARK = b".codesync-instance"  # the file inside the application's directory that tells a restart from a fresh container
MARK_LINE = b"codesync instance 1\n"
KINDS = {"f": FILE, "d": DIRECTORY, "l": SYMLINK}
BEFORE_STOP, BEFORE_START, AFTER_HEALTHY = MOMENTS = ("before_stop", "before_start", "after_healthy")
MAX_HOOK_SECONDS = 600
_TREE_ID = re.compile("[0-9a-f]{64}")
_TRIAL_FILE = re.compile("files/[0-9]+")
_INSTANCE = re.compile("[0-9a-f]{32}")


class RecordError(Exception):
    """A record is malformed, or of another version; nothing has been touched."""


class Entry(NamedTuple):
    """One path of a manifest. `digest` is SHA-256 in hex, for files; `target` is for symlinks."""

    path: bytes
    kind: str  # "f", "d" or "l"
    mode: int
    mtime_ns: int = 0
    size: int = 0
    digest: str = ""
    target: bytes = b""

    def to_json(self) -> list[Any]:
        """As in a manifest: six fields, the last one depends on the kind."""
        last = encode(self.target) if self.kind == "l" else self.digest
        return [encode(self.path), self.kind, self.mode, self.mtime_ns, self.size, last]

    @classmethod
    def from_json(cls, fields: list[Any]) -> Entry:
        """Read it back. Raises ValueError."""
        path, kind, mode, mtime_ns, size, last = fields
        if kind not in KINDS or not all(isinstance(number, int) for number in (mode, mtime_ns, size)):
            raise ValueError("an entry has fields of the wrong type")
        target = decode(last) if kind == "l" else b""
        return cls(decode(path), kind, mode, mtime_ns, size, last if kind == "f" else "", target)


class Committed(NamedTuple):
    """The committed tree, as `.sidecar/state` names it."""

    tree_id: str
    push_id: str


class Planned(NamedTuple):
    """A change, and where below `trial/` its content lies (files only)."""

    change: Change
    file: str = ""


class PlannedHook(NamedTuple):
    """A command to run, when (one of MOMENTS), and for how long at most."""

    run: str
    moment: str
    seconds: float


class State(NamedTuple):
    """What the launcher needs of `.sidecar/state`; empty strings for what is not there.

    `hooks` are those that a container which has not run them needs before the start, each with the push that called
    for it; `pushes` the committed ones, oldest first, as far back as they are remembered.
    """

    committed: Committed | None = None
    image: str = ""
    gen0: str = ""
    hooks: tuple[tuple[str, PlannedHook], ...] = ()
    pushes: tuple[str, ...] = ()

    def hooks_since(self, push_id: str | None) -> list[PlannedHook]:
        """Those of the pushes after that one; None: of all there were."""
        known = push_id is not None and push_id in self.pushes
        newer = self.pushes[self.pushes.index(push_id) + 1 :] if known else ()
        return [hook for caller, hook in self.hooks if not known or caller in newer]


class Plan(NamedTuple):
    """`.sidecar/trial/plan.json`. `generation` is the number that the tree gets when it is kept."""

    push_id: str
    base: str
    target: str
    changes: list[Planned]
    generation: int = 0
    hooks: tuple[PlannedHook, ...] = ()

    def hooks_at(self, moment: str) -> list[PlannedHook]:
        """Those of one moment, in order."""
        return [hook for hook in self.hooks if hook.moment == moment]


class Applied(NamedTuple):
    """`.launcher/applied`: what the application's directory holds. `tree_id` is None while nobody knows a name for it."""

    instance: str
    image: str
    tree_id: str | None = None
    push_id: str = ""
    transaction: str = ""  # id of the transaction that brought it; recovery finishes that one

    def to_bytes(self) -> bytes:
        """JSON."""
        return dump(self._asdict())

    @classmethod
    def from_bytes(cls, data: bytes) -> Applied:
        """Read it back. Raises RecordError."""
        record = _load(data, ".launcher/applied")
        try:
            values = {name: record[name] for name in cls._fields}
        except KeyError as error:
            raise RecordError(f".launcher/applied lacks {error}") from error
        return cls(**values)


def encode(raw: bytes) -> str:
    """Base64, as paths and link targets travel in JSON."""
    return base64.b64encode(raw).decode("ascii")


def decode(text: str) -> bytes:
    """Back to bytes. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"{text!r} is no base64") from error


def dump(fields: dict[str, Any]) -> bytes:
    """A record of the current version."""
    return json.dumps(dict(version=VERSION, **fields)).encode()


def read_state(data: bytes) -> State:
    """`.sidecar/state`. Raises RecordError."""
    record = _load(data, ".sidecar/state")
    try:
        committed = record.get("committed")
        pair = committed and Committed(tree_id(committed["tree_id"]), str(committed["push_id"]))
        hooks = tuple((str(each["push_id"]), _hook(each)) for each in record.get("hooks", ()))
        pushes = tuple(str(each["push_id"]) for each in record.get("history", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f".sidecar/state is malformed: {error!r}") from error
    return State(pair, str(record.get("image") or ""), str(record.get("gen0") or ""), hooks, pushes)


def read_manifest(data: bytes, tree: str) -> dict[bytes, Entry]:
    """`.sidecar/manifest/<tree_id>.json`, by path. Raises RecordError."""
    name = f".sidecar/manifest/{tree}.json"
    record = _load(data, name)
    try:
        entries = [Entry.from_json(fields) for fields in record["entries"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{name} is malformed: {error}") from error
    return {entry.path: entry for entry in entries}


def read_plan(data: bytes) -> Plan:
    """`.sidecar/trial/plan.json`. Raises RecordError."""
    name = ".sidecar/trial/plan.json"
    record = _load(data, name)
    try:
        changes = [_planned(dict(fields)) for fields in record["changes"]]
        plan = Plan(
            str(record["push_id"]),
            str(record["base"]),
            tree_id(record["target"]),
            changes,
            int(record.get("generation", 0)),
            tuple(_hook(fields) for fields in record.get("hooks", ())),
        )
    except (KeyError, TypeError, ValueError, TransactionError) as error:
        raise RecordError(f"{name} is malformed: {error}") from error
    if any(planned.change.path == MARK for planned in changes):
        raise RecordError(
            f"{name} changes {MARK.decode()}, which is the launcher's own; ignore that name where you push"
        )
    return plan


def _planned(fields: dict[str, Any]) -> Planned:
    file = fields.pop("file", "")
    change = Change.from_json(fields)
    if change.kind == FILE and not _TRIAL_FILE.fullmatch(file):
        raise ValueError(f"{file!r} is no file of a trial")
    return Planned(change, file)


def _hook(fields: dict[str, Any]) -> PlannedHook:
    run, moment, seconds = fields["run"], fields["moment"], float(fields["seconds"])
    if not isinstance(run, str) or not run or "\0" in run or moment not in MOMENTS:
        raise ValueError("a hook has a command and one of the moments " + ", ".join(MOMENTS))
    if not 0 < seconds <= MAX_HOOK_SECONDS:
        raise ValueError(f"a hook runs for more than 0 and at most {MAX_HOOK_SECONDS} seconds")
    return PlannedHook(run, moment, seconds)


def read_mark(data: bytes) -> str | None:
    """The instance that a mark names; None when it is none of ours."""
    if not data.startswith(MARK_LINE):
        return None
    text = data[len(MARK_LINE) :].decode("ascii", "replace").strip()
    return text if _INSTANCE.fullmatch(text) else None


def tree_id(value: Any) -> str:
    """A tree_id, checked. Raises ValueError."""
    if not isinstance(value, str) or not _TREE_ID.fullmatch(value):
        raise ValueError(f"{value!r} is no tree_id")
    return value


def write_listing(applied: Applied, entries: Iterable[Entry], left_out: Iterable[bytes]) -> bytes:
    """`.launcher/listing.json`: the image as it was before the application first ran."""
    return dump(
        {
            "instance": applied.instance,
            "image": applied.image,
            "entries": [entry.to_json() for entry in entries],
            "left_out": [encode(path) for path in left_out],
        }
    )


def read_listing(data: bytes, applied: Applied) -> tuple[list[Entry], list[bytes]]:
    """Entries and what was left out, of that very instance. Raises RecordError."""
    name = ".launcher/listing.json"
    record = _load(data, name)
    try:
        if (record["instance"], record["image"]) != (applied.instance, applied.image):
            raise RecordError(f"{name} is of another container")
        return [Entry.from_json(fields) for fields in record["entries"]], [
            decode(path) for path in record["left_out"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{name} is malformed: {error}") from error


def is_of(data: bytes | None, instance: str) -> bool:
    """Whether `gen0.json` is complete and of that instance."""
    try:
        return data is not None and _load(data, ".launcher/gen0.json").get("instance") == instance
    except RecordError:
        return False


def _load(data: bytes, name: str) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except ValueError as error:
        raise RecordError(f"{name} is no JSON: {error}") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise RecordError(
            f"{name} is not of version {VERSION}; use a launcher and a sidecar of the same codesync"
        )
    return record
