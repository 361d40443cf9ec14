"""`.sidecar/state`: the one authority on what is committed on a replica, as typed records and as JSON.

This file knows the format only; `store.py` reads and writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

VERSION = 1
KEPT_RESULTS = 64
KEPT_HOOKS = 64


class StateError(Exception):
    """The state file is damaged or of another version; nothing has been touched."""


@dataclass(frozen=True)
class Commit:
    """One committed tree. Generation 0 is the image's and has the push_id ""."""

    push_id: str
    generation: int
    tree_id: str
    tracked_id: str
    description: str = ""
    source: str = ""
    at: float = 0.0  # unix seconds
    restores: str = ""  # the push_id a rollback went back to
    displaced: tuple[str, ...] = ()  # digests this commit moved from current/ into the history's objects

    @property
    def transaction(self) -> str:
        """The id of the transaction that brings it into `current/`; no two commits share one."""
        return f"{self.push_id} {self.tree_id} {self.at!r}"


@dataclass(frozen=True)
class Trial:
    """The one staged push. A trial that a start of the sidecar finds here is an orphan."""

    push_id: str
    base: str
    target: str


@dataclass(frozen=True)
class Result:
    """What became of a push_id, for whoever asks again, and for the history: kept pushes and those that were not.

    What has a default is not written while it holds it; results of earlier versions have none of these.
    """

    push_id: str
    source_tree_id: str
    status: str
    tree_id: str
    tracked_id: str
    generation: int
    at: float = 0.0  # unix seconds
    source: str = ""
    description: str = ""
    restores: str = ""  # the push_id a rollback went back to
    bytes: int = 0  # of the batch as it was received
    timings_ms: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class StartHook:
    """A command before the start that a kept push called for, in the launcher's words; `seconds` bounds it."""

    push_id: str
    run: str
    moment: str
    seconds: float


@dataclass(frozen=True)
class State:
    """All of `.sidecar/state`. `history` is oldest first and ends with what is committed.

    `hooks` are those of all pushes since generation 0, oldest first: a container made from the image has to run them.
    """

    replica: str
    image: str = ""
    gen0: str = ""
    trial: Trial | None = None
    history: tuple[Commit, ...] = ()
    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()
    hooks: tuple[StartHook, ...] = ()
    version: int = field(default=VERSION)

    @property
    def committed(self) -> Commit | None:
        """The tree of `current/`; None before any tree is known."""
        return self.history[-1] if self.history else None

    def result(self, push_id: str) -> Result | None:
        """The record of `push_id`, if it is among the last 64."""
        return next((r for r in self.results if r.push_id == push_id), None)

    def with_result(self, result: Result) -> tuple[Result, ...]:
        """The records with `result` in place of an older one of the same push."""
        others = tuple(r for r in self.results if r.push_id != result.push_id)
        return (*others, result)[-KEPT_RESULTS:]

    def with_hooks(self, hooks: Iterable[StartHook]) -> tuple[StartHook, ...]:
        """The hooks with these as the newest; one that runs the same as an older one takes its place."""
        found = {hook.run: hook for hook in self.hooks}
        for hook in hooks:
            found.pop(hook.run, None)
            found[hook.run] = hook
        return tuple(found.values())[-KEPT_HOOKS:]

    def to_bytes(self) -> bytes:
        """JSON; `committed` is repeated at the top level, where the launcher looks for it."""
        record: dict[str, Any] = asdict(self)
        record["results"] = [_without_defaults(result) for result in self.results]
        if not self.hooks:
            del record["hooks"]
        record["committed"] = asdict(self.committed) if self.committed else None
        return json.dumps(record, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Read it back. Raises StateError."""
        try:
            record = json.loads(data)
            version = record["version"]
            if version != VERSION:
                raise StateError(f"it has version {version}, this codesync reads {VERSION}")
            record.pop("committed")
            trial = record.pop("trial")
            history = tuple(
                Commit(**(c | {"displaced": tuple(c["displaced"])})) for c in record.pop("history")
            )
            results = tuple(Result(**r) for r in record.pop("results"))
            notes = tuple(record.pop("notes"))
            hooks = tuple(StartHook(**h) for h in record.pop("hooks", ()))
            return cls(
                trial=Trial(**trial) if trial else None,
                history=history,
                results=results,
                notes=notes,
                hooks=hooks,
                **record,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"it is damaged ({error})") from error


def _without_defaults(result: Result) -> dict[str, Any]:
    """The result's fields, less those that hold their default."""
    told = {}
    for known in fields(result):
        value = getattr(result, known.name)
        if known.default_factory is not MISSING:
            if value != known.default_factory():
                told[known.name] = dict(value)
        elif value != known.default:
            told[known.name] = value
    return told
