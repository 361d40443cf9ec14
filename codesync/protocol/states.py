"""When each message may be said: two tables, and a `Link` that walks one of them at either end of a connection.

A link carries one push at a time. What is said about an earlier push of the same link crossed something on the wire:
it is late, and to be ignored. Everything else that the table does not name is a ProtocolError.
"""

from collections import deque
from collections.abc import Mapping
from enum import StrEnum

from codesync.protocol.codec import wire_name
from codesync.protocol.errors import ProtocolError
from codesync.protocol.messages import (
    Answer,
    AnswerError,
    Begin,
    Cancel,
    Chunk,
    EndRequest,
    Error,
    Failed,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Granted,
    Hello,
    Keep,
    Kept,
    Message,
    Outcome,
    Progress,
    Push,
    Rollback,
    Stage,
    Staged,
    StageTree,
    State,
    Tried,
    Try,
    Undo,
    Undone,
    Welcome,
)


class Side(StrEnum):
    """Who speaks. A link has the proxy at one end."""

    IDE = "ide"
    SIDECAR = "sidecar"
    PROXY = "proxy"


class Step(StrEnum):
    """Where a link stands."""

    NEW = "new"  # nothing was said
    GREETED = "greeted"  # Hello was said
    READY = "ready"  # no push
    # a push on an ide's link
    WAITING = "waiting"  # for the lease
    PLANNING = "planning"  # granted
    SENDING = "sending"  # chunks to come
    FINISHING = "finishing"  # all sent
    CANCELLING = "cancelling"  # the client gave up, the end is on its way
    # a push on a sidecar's link
    STAGING = "staging"  # chunks to come
    VERIFYING = "verifying"  # all sent
    STAGED = "staged"
    TRYING = "trying"
    TRIED = "tried"
    KEEPING = "keeping"
    UNDOING = "undoing"


Rules = Mapping[type[Message], Step]
Table = Mapping[Step, Mapping[Side, Rules]]

_N = Step
_ENDS: Rules = {Outcome: _N.READY, Error: _N.READY}

IDE_TABLE: Table = {
    _N.NEW: {Side.IDE: {Hello: _N.GREETED}},
    _N.GREETED: {Side.PROXY: {Welcome: _N.READY}},
    _N.READY: {Side.IDE: {Begin: _N.WAITING, Rollback: _N.FINISHING}},
    _N.WAITING: {
        Side.IDE: {Cancel: _N.CANCELLING},
        Side.PROXY: {Granted: _N.PLANNING, Progress: _N.WAITING, **_ENDS},
    },
    _N.PLANNING: {Side.IDE: {Push: _N.SENDING, Cancel: _N.CANCELLING}, Side.PROXY: _ENDS},
    _N.SENDING: {
        Side.IDE: {Chunk: _N.SENDING, Cancel: _N.CANCELLING},
        Side.PROXY: {Progress: _N.SENDING, **_ENDS},
    },
    _N.FINISHING: {Side.IDE: {Cancel: _N.CANCELLING}, Side.PROXY: {Progress: _N.FINISHING, **_ENDS}},
    _N.CANCELLING: {Side.PROXY: {Granted: _N.CANCELLING, Progress: _N.CANCELLING, **_ENDS}},
}

# A step goes on while its progress is told, and a progress overtaken by the step's end is told all the same.
SIDECAR_TABLE: Table = {
    _N.NEW: {Side.SIDECAR: {Hello: _N.GREETED}},
    _N.GREETED: {Side.PROXY: {Welcome: _N.READY}},
    _N.READY: {Side.PROXY: {Stage: _N.STAGING, StageTree: _N.VERIFYING, Undo: _N.UNDOING}},
    _N.STAGING: {
        Side.PROXY: {Chunk: _N.STAGING, Undo: _N.UNDOING},
        Side.SIDECAR: {Progress: _N.STAGING, Failed: _N.READY},
    },
    _N.VERIFYING: {
        Side.PROXY: {Undo: _N.UNDOING},
        Side.SIDECAR: {Progress: _N.VERIFYING, Staged: _N.STAGED, Failed: _N.READY},
    },
    _N.STAGED: {
        Side.PROXY: {Try: _N.TRYING, Undo: _N.UNDOING},
        Side.SIDECAR: {Progress: _N.STAGED, Undone: _N.READY},
    },
    _N.TRYING: {
        Side.PROXY: {Undo: _N.UNDOING},
        Side.SIDECAR: {Progress: _N.TRYING, Tried: _N.TRIED, Failed: _N.READY, Undone: _N.READY},
    },
    _N.TRIED: {
        Side.PROXY: {Keep: _N.KEEPING, Undo: _N.UNDOING},
        Side.SIDECAR: {Progress: _N.TRIED, Tried: _N.TRIED, Undone: _N.READY},
    },
    _N.KEEPING: {
        Side.SIDECAR: {
            Progress: _N.KEEPING,
            Tried: _N.KEEPING,
            Kept: _N.READY,
            Failed: _N.READY,
            Undone: _N.READY,
        },
    },
    _N.UNDOING: {Side.SIDECAR: {Progress: _N.UNDOING, Undone: _N.READY}},
}

_QUESTIONS = frozenset({GetManifest, GetSignatures, GetDetails, GetHistory, GetLogs, EndRequest})
# said at any time after Welcome, about no push
_ASIDE = {
    Side.IDE: _QUESTIONS,
    Side.SIDECAR: frozenset({State, Answer, AnswerError}),
    Side.PROXY: frozenset({Answer, AnswerError}) | _QUESTIONS,
}
_RESUMED = {"staged": Step.STAGED, "trying": Step.TRYING, "healthy": Step.TRIED}
_REMEMBERED = 16  # earlier pushes of a link that late messages may be about


class Link:
    """One end of one connection: call `send` before sending and `receive` after decoding, every message, in order.

    `step` and `push_id` (empty: no push) say where the link stands. A sidecar that says Hello with a trial goes on
    with it: after Welcome the link stands where that trial is.
    """

    def __init__(self, me: Side, peer: Side) -> None:
        self.me = me
        self.peer = peer
        self.step = Step.NEW
        self.push_id = ""
        self._table = IDE_TABLE if Side.IDE in {me, peer} else SIDECAR_TABLE
        self._past: deque[str] = deque(maxlen=_REMEMBERED)
        self._resume = (Step.READY, "")
        self._batch = self._batches = 0

    def send(self, message: Message) -> bool:
        """Whether the peer will act on it: False means late, it is no harm. ProtocolError when we must not say this now."""
        return self._walk(self.me, message)

    def receive(self, message: Message) -> bool:
        """Whether to act on it: False means late, ignore it. ProtocolError when the peer must not say this now."""
        return self._walk(self.peer, message)

    def _walk(self, sender: Side, message: Message) -> bool:
        kind = type(message)
        if self._is_aside(sender, message):
            return True
        push_id: str = getattr(message, "push_id", "")
        following = self._table[self.step].get(sender, {}).get(kind)
        if following is None or push_id != (self.push_id or push_id):
            return self._late(sender, message, push_id)
        self._check(message)
        self._enter(following, message, push_id)
        return True

    def _is_aside(self, sender: Side, message: Message) -> bool:
        if isinstance(message, Error) and not message.push_id:
            return sender is Side.PROXY
        return self.step not in {Step.NEW, Step.GREETED} and self._may_aside(sender, type(message))

    def _may_aside(self, sender: Side, kind: type[Message]) -> bool:
        if sender is Side.PROXY:  # it answers an ide and asks a sidecar
            answers = kind in {Answer, AnswerError}
            return kind in _ASIDE[sender] and answers == (Side.IDE in {self.me, self.peer})
        return kind in _ASIDE[sender]

    def _late(self, sender: Side, message: Message, push_id: str) -> bool:
        if push_id and self._is_late(message, push_id):
            return False
        about = f" about push {push_id}" if push_id else ""
        now = f"{self.step}, push {self.push_id}" if self.push_id else self.step
        raise ProtocolError(f"{sender} said {wire_name(type(message))}{about} while the connection was {now}")

    def _is_late(self, message: Message, push_id: str) -> bool:
        if push_id != self.push_id:
            return push_id in self._past
        if self.step is Step.UNDOING:  # said before our Undo was read
            return isinstance(message, (Staged, Tried, Failed))
        # The same push has begun anew, after an Undone of the sidecar had crossed our Undo, which it has answered too.
        begun_anew = self.step in {Step.STAGING, Step.VERIFYING} and push_id in self._past
        return begun_anew and isinstance(message, Undone)

    def _check(self, message: Message) -> None:
        if isinstance(message, Hello) and (message.replica is None) == (Side.SIDECAR in {self.me, self.peer}):
            raise ProtocolError("hello.replica is what a sidecar gives and an ide does not")
        if isinstance(message, Chunk) and message.batch != self._batch:
            raise ProtocolError(f"chunk of batch {message.batch} where batch {self._batch} was expected")

    def _enter(self, following: Step, message: Message, push_id: str) -> None:
        if isinstance(message, Hello) and message.replica and message.replica.trial:
            trial = message.replica.trial
            self._resume = (_RESUMED[trial.phase], trial.push_id)
        elif isinstance(message, Welcome):
            following, push_id = self._resume
        elif isinstance(message, Push):
            self._batch, self._batches = 0, len(message.batches)
        elif isinstance(message, Stage):
            self._batch, self._batches = 0, 1
        elif isinstance(message, Chunk) and message.last:
            following = self._next_batch(following)
        if following is Step.READY and push_id:
            self._past.append(push_id)
        self.step, self.push_id = following, "" if following is Step.READY else push_id

    def _next_batch(self, following: Step) -> Step:
        self._batch += 1
        if self._batch < self._batches:
            return following
        return Step.FINISHING if following is Step.SENDING else Step.VERIFYING
