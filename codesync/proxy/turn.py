"""Whose turn it is: the one holder of a deployment's lease, from its grant to its end, and what it orders of whom.

Pure. The orders are worked out here: which batch, or which remembered tree, each replica gets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from codesync.protocol import (
    GENERATION_0,
    Busy,
    Code,
    HistoryEntry,
    Hook,
    ProtocolError,
    Push,
    ReplicaState,
    TreeRef,
)
from codesync.proxy.attempt import Attempt
from codesync.proxy.events import Spooled
from codesync.proxy.member import Order, Words

MAX_SPOOL = 4 * 1024 * 1024 * 1024  # bytes of all batches of one push


class Kind(StrEnum):
    """What is going on in a turn."""

    PUSH = "push"
    ROLLBACK = "rollback"
    REPLAY = "replay"


class Stage(StrEnum):
    """How far the turn is."""

    SETTLING = "settling"  # replicas are waited for
    PLANNING = "planning"  # granted; the client is at it
    RUNNING = "running"  # there is an attempt


class Impossible(Exception):
    """The orders cannot be given. `code` and the text are for the client."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class Turn:
    """`since` is in Unix seconds, `due` in the coordinator's time; `watchers` are the ides that get the end of it."""

    kind: Kind
    words: Words
    since: float
    due: float | None = None
    to: str = ""
    hooks: tuple[Hook, ...] = ()
    watchers: list[int] = field(default_factory=list)
    stage: Stage = Stage.SETTLING
    members: tuple[str, ...] = ()
    push: Push | None = None
    sizes: list[int] = field(default_factory=list)
    attempt: Attempt | None = None
    given_up: bool = False

    @property
    def needs_client(self) -> bool:
        """Whether it waits for something that only its client can send."""
        return self.kind is Kind.PUSH and (self.push is None or self.due is not None)

    @property
    def busy(self) -> Busy:
        """What others are told of it."""
        return Busy(push_id=self.words.push_id, source=self.words.source, since=self.since)

    @property
    def holder(self) -> str:
        """The words for it, to those who wait."""
        since = datetime.fromtimestamp(self.since, UTC).strftime("%H:%M:%S UTC")
        return f"push {self.words.push_id} of {self.words.source or 'somebody'} since {since}"

    def take(self, batch: int, size: int) -> None:
        """Count a chunk. Raises Impossible when it is too much."""
        while len(self.sizes) <= batch:
            self.sizes.append(0)
        self.sizes[batch] += size
        if sum(self.sizes) > MAX_SPOOL:
            words = f"the push is larger than {MAX_SPOOL >> 30} GiB; push less at once, or ignore what need not be sent"
            raise Impossible(Code.TOO_LARGE, words)

    def is_last(self, batch: int) -> bool:
        """Whether that batch is the last one of the push."""
        return self.push is not None and batch == len(self.push.batches) - 1


def push_orders(push: Push, states: Iterable[ReplicaState]) -> list[tuple[str, Order]]:
    """Each replica gets the batch that starts at its tree. Raises ProtocolError, Impossible."""
    by_base = {batch.base: index for index, batch in enumerate(push.batches)}
    if len(by_base) != len(push.batches):
        raise ProtocolError("push.batches start twice at the same tree")
    return [(state.id, _batch_order(push, by_base, state)) for state in states]


def _batch_order(push: Push, by_base: Mapping[TreeRef, int], state: ReplicaState) -> Order:
    index = by_base.get(state.tree)
    if index is None:
        words = f"replica {state.id} is at tree {state.tree.tree_id[:12]}, where no batch starts; push again"
        raise Impossible(Code.STAGE_FAILED, words)
    batch = push.batches[index]
    return Order(
        base=state.tree, target=batch.target, content=Spooled(push.push_id, index), hooks=batch.hooks
    )


def rollback_orders(
    to: str, hooks: tuple[Hook, ...], states: Iterable[ReplicaState]
) -> list[tuple[str, Order]]:
    """Each replica gets the tree that the push `to` left there; empty: the one before the present. Raises Impossible."""
    states = list(states)
    to = to or _before_present(states)
    return [(state.id, _tree_order(to, hooks, state)) for state in states]


def _before_present(states: Iterable[ReplicaState]) -> str:
    """The push before the present one, as the replica with the longest history tells; rollbacks are seen through."""
    history = max((state.history for state in states), key=len, default=())
    index = len(history) - 1
    while index > 0 and history[index].restores:
        index = _last_index(history[:index], history[index].restores)
    if index <= 0:
        raise Impossible(Code.UNKNOWN_PUSH, "there is nothing before the present tree to roll back to")
    return history[index - 1].push_id or GENERATION_0


def _tree_order(to: str, hooks: tuple[Hook, ...], state: ReplicaState) -> Order:
    index = _last_index(state.history, to)
    if index < 0:
        known = ", ".join(entry.push_id for entry in state.history) or "nothing"
        words = f"replica {state.id} does not remember push {to}; it remembers {known}"
        raise Impossible(Code.UNKNOWN_PUSH, words[:4096])
    return Order(base=state.tree, target=state.history[index].tree, restores=to, hooks=hooks)


def _last_index(history: tuple[HistoryEntry, ...], push_id: str) -> int:
    indices = [index for index, entry in enumerate(history) if entry.push_id == push_id]
    return indices[-1] if indices else -1
