"""Questions of an ide to some replica, and the way of the answers back. Answers are opaque here.

A question goes to the least asked replica that has the tree. Every question ends with its last Answer or one AnswerError.
"""

from dataclasses import dataclass, field, replace

from codesync.protocol import Answer, AnswerError, Code, GetManifest, GetSignatures, ProtocolError, Timeouts
from codesync.proxy.switchboard import Replica, Switchboard

MAX_OPEN = 16  # questions of one ide that wait for their answer


@dataclass(slots=True)
class _Open:
    ide: int
    request: int
    sidecar: int
    due: float


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

    def ask(self, ide: int, question: GetManifest | GetSignatures, now: float) -> None:
        """Route a question; ProtocolError when its number is in use."""
        mine = [other.request for other in self._open.values() if other.ide == ide]
        if question.request in mine:
            raise ProtocolError(f"request {question.request} is still being answered")
        if len(mine) >= MAX_OPEN:
            self._refuse(
                ide, question.request, Code.BUSY, f"{MAX_OPEN} requests are waiting; wait for an answer"
            )
            return
        replica = self._choose(question)
        if replica is None or replica.peer is None:
            self._refuse(
                ide,
                question.request,
                Code.NO_REPLICA,
                "no connected replica has that tree any more; begin again",
            )
            return
        number, self._next = self._next, self._next + 1
        sidecar = replica.peer.connection
        self._open[number] = _Open(ide, question.request, sidecar, now + self.timeouts.answer)
        self.board.say(sidecar, replace(question, request=number))

    def answer(self, sidecar: int, answer: Answer | AnswerError, now: float) -> int | None:
        """Pass an answer on, to the ide returned; ProtocolError when nobody asked. The asker may be gone: no fault."""
        question = self._open.get(answer.request)
        if question is None and 0 < answer.request < self._next:
            return None
        if question is None or question.sidecar != sidecar:
            raise ProtocolError(f"an answer to request {answer.request}, which was not asked here")
        self.board.say(question.ide, replace(answer, request=question.request))
        question.due = now + self.timeouts.answer
        if isinstance(answer, AnswerError) or answer.last:
            del self._open[answer.request]
        return question.ide

    def lost(self, connection: int) -> None:
        """A connection is gone, of either side."""
        for number, question in list(self._open.items()):
            if question.ide == connection:
                del self._open[number]
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
                del self._open[number]
                words = f"the replica did not answer within {self.timeouts.answer:g} s (answer)"
                self._refuse(question.ide, question.request, Code.TIMEOUT, words)

    def _choose(self, question: GetManifest | GetSignatures) -> Replica | None:
        able = [replica for replica in self.board.connected() if _has(replica, question)]
        return min(able, key=self._load, default=None)

    def _load(self, replica: Replica) -> int:
        peer = replica.peer
        return sum(
            peer is not None and question.sidecar == peer.connection for question in self._open.values()
        )

    def _refuse(self, ide: int, request: int, code: Code, message: str) -> None:
        self.board.say(ide, AnswerError(request=request, code=code, message=message))


def _has(replica: Replica, question: GetManifest | GetSignatures) -> bool:
    if isinstance(question, GetManifest):
        return replica.state.tree == question.tree
    return replica.state.tree.tree_id == question.tree_id
