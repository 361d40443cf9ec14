"""Questions of an ide to some replica, and the way of the answers back. Answers are opaque here.

A question about a tree goes to the least asked replica that has it, any other to the replica that it names. Every
question ends with its last Answer, one AnswerError, or the asker's EndRequest; when it ends here before it ends
there, the replica is told by EndRequest.
"""

from dataclasses import dataclass, field, replace

from codesync.protocol import (
    Answer,
    AnswerError,
    Code,
    EndRequest,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    ProtocolError,
    Timeouts,
    wire_name,
)
from codesync.proxy.switchboard import Replica, Switchboard

MAX_OPEN = 16  # questions of one ide that wait for their answer

AboutTree = GetManifest | GetSignatures | GetDetails
Question = AboutTree | GetHistory | GetLogs


@dataclass(slots=True)
class _Open:
    ide: int
    request: int
    sidecar: int
    due: float
    plans: bool  # the asker needs it to plan a push
    follows: bool  # the answer has no end


@dataclass(slots=True)
class Requests:
    """The open questions of one deployment, by the number the replica was given."""

    board: Switchboard
    timeouts: Timeouts
    _open: dict[int, _Open] = field(default_factory=dict)
    _next: int = 1

    @property
    def deadline(self) -> float | None:
        """When `wake` must be called at the latest."""
        return min((question.due for question in self._open.values()), default=None)

    def ask(self, ide: int, question: Question, now: float) -> bool:
        """Route a question; ProtocolError when its number is in use. Returns whether it belongs to planning a push."""
        plans = isinstance(question, AboutTree)
        mine = [other.request for other in self._open.values() if other.ide == ide]
        if question.request in mine:
            raise ProtocolError(f"request {question.request} is still being answered")
        if len(mine) >= MAX_OPEN:
            words = f"{MAX_OPEN} requests are waiting; wait for an answer"
            self._refuse(ide, question.request, Code.BUSY, words)
            return plans
        replica = self._choose(question)
        if replica is None or replica.peer is None:
            self._refuse(ide, question.request, Code.NO_REPLICA, self._nobody(question))
            return plans
        number, self._next = self._next, self._next + 1
        sidecar, due = replica.peer.connection, now + self.timeouts.answer
        follows = isinstance(question, GetLogs) and question.follow
        self._open[number] = _Open(ide, question.request, sidecar, due, plans, follows)
        self.board.say(sidecar, replace(question, request=number))
        return plans

    def answer(self, sidecar: int, answer: Answer | AnswerError, now: float) -> int | None:
        """Pass an answer on; ProtocolError when nobody asked. The asker may be gone, or want no more: no fault.

        Returns the ide, if the answer belongs to planning a push.
        """
        question = self._open.get(answer.request)
        if question is None and 0 < answer.request < self._next:
            return None
        if question is None or question.sidecar != sidecar:
            raise ProtocolError(f"an answer to request {answer.request}, which was not asked here")
        if question.follows and self.board.is_behind(question.ide):
            self._drop(answer.request)
            words = "the output comes faster than it is read here; ask again for what is left of it"
            self._refuse(question.ide, question.request, Code.TOO_LARGE, words)
            return None
        # what somebody only looks at must not hold up what the replica says about a push
        self.board.say(question.ide, replace(answer, request=question.request), holds=question.plans)
        question.due = now + self.timeouts.answer
        if isinstance(answer, AnswerError) or answer.last:
            del self._open[answer.request]
        return question.ide if question.plans else None

    def end(self, ide: int, message: EndRequest) -> None:
        """The asker wants no more of an answer, which may have ended meanwhile."""
        for number, question in list(self._open.items()):
            if (question.ide, question.request) == (ide, message.request):
                self._drop(number)

    def lost(self, connection: int) -> None:
        """A connection is gone, of either side."""
        for number, question in list(self._open.items()):
            if question.ide == connection:
                self._drop(number)
            elif question.sidecar == connection:
                del self._open[number]
                self._refuse(
                    question.ide,
                    question.request,
                    Code.REPLICA_LOST,
                    "the replica was lost while it answered",
                )

    def wake(self, now: float) -> None:
        """End the questions whose time is over."""
        for number, question in list(self._open.items()):
            if question.due <= now:
                self._drop(number)
                words = f"the replica did not answer within {self.timeouts.answer:g} s (answer)"
                self._refuse(question.ide, question.request, Code.TIMEOUT, words)

    def _drop(self, number: int) -> None:
        """Nobody wants the rest of an answer."""
        self.board.say(self._open.pop(number).sidecar, EndRequest(request=number))

    def _choose(self, question: Question) -> Replica | None:
        able = [replica for replica in self.board.connected() if _can_answer(replica, question)]
        return min(able, key=self._load, default=None)

    def _nobody(self, question: Question) -> str:
        if isinstance(question, GetDetails):
            return "no connected replica that knows this question has that tree"
        if isinstance(question, AboutTree):
            return "no connected replica has that tree any more; begin again"
        names = ", ".join(replica.id for replica in self.board.connected())
        known = f"connected now: {names}" if names else "no replica is connected now"
        return f"replica {question.replica} is not connected; ask one that is ({known})"[:4096]

    def _load(self, replica: Replica) -> int:
        peer = replica.peer
        return sum(
            peer is not None and question.sidecar == peer.connection for question in self._open.values()
        )

    def _refuse(self, ide: int, request: int, code: Code, message: str) -> None:
        self.board.say(ide, AnswerError(request=request, code=code, message=message))


def _can_answer(replica: Replica, question: Question) -> bool:
    match question:
        case GetManifest():
            return replica.state.tree == question.tree
        case GetSignatures():
            return replica.state.tree.tree_id == question.tree_id
        case GetDetails():
            knows = wire_name(GetDetails) in replica.state.questions
            return knows and replica.state.tree.tree_id == question.tree_id
        case _:
            return replica.id == question.replica
