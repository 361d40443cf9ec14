"""A push on its way through the store: who pushes what, what is staged, how it ended. Records only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from codesync.plan import ReplicaTree
from codesync.protocol import Hook, TreeRef
from codesync.sidecar.state import Result, StartHook
from codesync.transaction import Change

MAX_WORDS = 500  # characters of a sentence that a result remembers
MAX_TIMINGS = 32
MAX_STEP = 64  # characters of a step's name
BEFORE_START = "before_start"


class Push(NamedTuple):
    """Who pushes what, as the history will tell it. `restores` is the push a rollback goes back to.

    `size`: bytes of the batch as it came; `timings_ms`: what the push has cost the client.
    """

    push_id: str
    source: str
    description: str
    source_tree_id: str = ""
    restores: str = ""
    hooks: tuple[Hook, ...] = ()
    size: int = 0
    timings_ms: Mapping[str, int] = {}


class Ending(NamedTuple):
    """How a push ended: its status, by step what it took, and one line where something was wrong."""

    status: str
    timings_ms: Mapping[str, int] = {}
    reason: str = ""


@dataclass(frozen=True)
class Staged:
    """A trial as it lies in `trial/`: `files` has the content of every FILE in `changes`."""

    push: Push
    target: ReplicaTree
    changes: tuple[Change, ...]
    files: dict[bytes, Path]


def start_hooks(staged: Staged) -> Iterator[StartHook]:
    """Those of its hooks that also a later container has to run: none where there is nothing to be started for."""
    push = staged.push
    for hook in push.hooks if staged.changes else ():
        if hook.moment == BEFORE_START:
            yield StartHook(push.push_id, hook.run, hook.moment, hook.seconds)


def make_result(push: Push, ending: Ending, tree: TreeRef, generation: int, at: float) -> Result:
    """What the history tells of a push; `tree` and `generation` are what the replica has afterwards, `at` is Unix time."""
    return Result(
        push_id=push.push_id,
        source_tree_id=push.source_tree_id,
        status=ending.status,
        tree_id=tree.tree_id,
        tracked_id=tree.tracked_id,
        generation=generation,
        at=at,
        source=push.source[:MAX_WORDS],
        description=push.description[:MAX_WORDS],
        restores=push.restores,
        bytes=push.size,
        timings_ms=_bounded({**push.timings_ms, **ending.timings_ms}),
        reason=ending.reason[:MAX_WORDS],
    )


def _bounded(timings_ms: Mapping[str, int]) -> dict[str, int]:
    return {step: spent for step, spent in list(timings_ms.items())[:MAX_TIMINGS] if len(step) <= MAX_STEP}
