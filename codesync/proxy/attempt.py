"""One push (or rollback, or replay) on its replicas: stage on all, try on all, then keep on all or undo on all.

Pure. The rule kept here: Keep is said to no replica before every replica of the attempt has said that its trial is
healthy and is there to hear it. Every replica is waited for with a bound, connected or not; OVER comes always.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from codesync.protocol import (
    KEPT_STATUSES,
    Code,
    Failed,
    Failure,
    Keep,
    Kept,
    Message,
    Progress,
    ReplicaReport,
    ReplicaState,
    Staged,
    Timeouts,
    Tried,
    Try,
    Undo,
    Undone,
)
from codesync.proxy.events import Relay, Unrelay
from codesync.proxy.member import FINAL, At, Cause, Member, Order, Words, failed, merged
from codesync.proxy.switchboard import Switchboard


class Phase(StrEnum):
    """What the attempt is doing on all replicas together."""

    STAGING = "staging"
    TRYING = "trying"
    KEEPING = "keeping"
    UNDOING = "undoing"
    OVER = "over"


_UNDECIDED = frozenset({Phase.STAGING, Phase.TRYING})


@dataclass(slots=True)
class Attempt:
    """Drive it by `start`, `complete`, `hear`, `relayed`, `gone`, `back`, `give_up`, `wake` until `phase` is OVER."""

    words: Words
    board: Switchboard
    timeouts: Timeouts
    members: dict[str, Member] = field(default_factory=dict)
    phase: Phase = Phase.STAGING
    tried: bool = False
    cause: Cause | None = None
    _received: bool = False
    _try_end: float = 0.0

    # -- what happens ------------------------------------------------------------------------------------------------

    def start(self, orders: Iterable[tuple[str, Order]], now: float, *, received: bool) -> None:
        """Begin to stage. `received`: nothing more is to come from the client."""
        self._received = received
        self.members = {replica_id: Member(replica_id, order) for replica_id, order in orders}
        for member in self.members.values():
            if self.board.is_ready(member.id):
                self._stage(member, now)
            else:
                self._miss(member, now)

    def complete(self, now: float) -> None:
        """The client has sent everything."""
        self._received = True
        self._advance(now)

    @property
    def undecided(self) -> bool:
        """Whether it can still be given up: Keep was said to nobody, and Undo neither."""
        return self.phase in _UNDECIDED

    def give_up(self, cause: Cause, now: float) -> None:
        """Undo on all; without effect once it is decided."""
        if self.undecided:
            self._undo_all(cause, now)
            self._advance(now)

    def hear(self, replica_id: str, message: Message, now: float) -> None:
        """What a replica says about this push. Its link has checked that it may say so."""
        member = self.members.get(replica_id)
        if member is None:
            return
        match message:
            case Progress():
                self.relayed(replica_id, now)
            case Staged() if member.at is At.STAGING:
                member.settle(At.STAGED)
            case Tried():
                self._hear_tried(member, message, now)
            case Kept() if member.at is At.KEEPING:
                member.settle(At.KEPT, message.report)
            case Failed():
                self._hear_failed(member, message, now)
            case Undone():
                self._hear_undone(member, message, now)
        self._advance(now)

    def relayed(self, replica_id: str, now: float) -> None:
        """The replica took a chunk, or said how far it is."""
        member = self.members.get(replica_id)
        if member is not None and member.at is At.STAGING and not member.lost:
            member.due = now + self.timeouts.stage_idle

    def gone(self, replica_id: str, now: float) -> None:
        """The replica's connection is lost."""
        member = self.members.get(replica_id)
        if member is None or member.lost:
            return
        member.lost = True
        if member.at in {At.STAGING, At.STAGED}:
            self._miss(member, now)
        elif member.at is At.HEALTHY:
            member.expect(
                At.HEALTHY, self._verdict_due, "connect again to be told to keep (deadline + try_margin)"
            )
        elif member.at is At.UNDOING and not self.tried:
            member.end_lost("its connection was lost; it undoes by itself")
        self._advance(now)

    def back(self, state: ReplicaState, now: float) -> None:
        """The replica said Hello again and is free for this push: `state.trial` is of it, or None."""
        member = self.members.get(state.id)
        if member is None or self.phase is Phase.OVER or member.at in {At.KEPT, At.UNDONE, At.LOST}:
            self._dismiss(state)
            return
        member.lost = False
        if self.phase is Phase.STAGING:
            self._back_staging(member, state, now)
        elif self.phase is Phase.TRYING:
            self._back_trying(member, state, now)
        elif self.phase is Phase.KEEPING:
            self._back_keeping(member, state)
        else:
            self._back_undoing(member, state)
        self._advance(now)

    def wake(self, now: float) -> None:
        """End the waits that are over."""
        for member in self.members.values():
            if member.due is not None and member.due <= now:
                self._too_late(member, now)
        self._advance(now)

    # -- what became of it -------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `wake` must be called at the latest."""
        return min((member.due for member in self.members.values() if member.due is not None), default=None)

    @property
    def kept(self) -> list[Member]:
        """The replicas that have committed."""
        return [member for member in self.members.values() if member.at is At.KEPT]

    @property
    def reports(self) -> tuple[ReplicaReport, ...]:
        """What became of it on each replica."""
        return tuple(member.final_report(self.cause) for member in self.members.values())

    @property
    def status(self) -> str:
        """The overall status, once over."""
        if not self.kept:
            nobody_knows = self.cause is None and any(m.at is At.LOST for m in self.members.values())
            return "failed" if not self.tried or nobody_knows else "rolled_back"
        if len(self.kept) < len(self.members):
            return "partial"
        return max((report.status for report in self.reports), key=KEPT_STATUSES.index)

    @property
    def failure(self) -> Failure | None:
        """Why not all is well, when that is not an application's fault."""
        if self.cause is not None:
            return (
                None
                if self.cause.verdict
                else Failure(code=self.cause.code, message=self.cause.message[:4096])
            )
        for member, report in zip(self.members.values(), self.reports, strict=True):
            if member.at is not At.KEPT:
                code = Code.TIMEOUT if member.at is At.LOST else Code.REPLICA_LOST
                words = f"all replicas were healthy, but {member.id} did not keep it: {report.reason}"
                return Failure(code=code, message=words[:4096])
        return None

    # -- staging -----------------------------------------------------------------------------------------------------

    def _stage(self, member: Member, now: float) -> None:
        self.board.tell(member.id, self.words.order(member.order))
        peer = self.board.peer_of(member.id)
        if peer is not None and member.order.content is not None:
            self.board.do(Relay(peer.connection, self.words.push_id, member.order.content))
        member.expect(At.STAGING, now + self.timeouts.stage_idle, "stage it (stage_idle)")

    def _miss(self, member: Member, now: float) -> None:
        member.lost = True
        member.expect(member.at, now + self.timeouts.reconnect, "connect again (reconnect)")

    def _back_staging(self, member: Member, state: ReplicaState, now: float) -> None:
        if state.trial is None and state.tree == member.order.base:
            self._stage(member, now)
        elif state.trial is not None and state.trial.phase == "staged" and member.at is not At.UNTOLD:
            member.settle(At.STAGED)
        else:
            if member.at is At.UNTOLD:
                self._dismiss(state)
            words = f"replica {member.id} came back with another tree; push again"
            self._undo_all(Cause(Code.REPLICA_LOST, words), now)

    # -- trying ------------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Go to the next phase when all are ready for it."""
        if self.phase is Phase.STAGING and self._received and self._all(At.STAGED):
            self._try_all(now)
        if self.phase is Phase.TRYING and self._all(At.HEALTHY):
            self._keep_all(now)
        if self.phase in {Phase.KEEPING, Phase.UNDOING} and all(m.at in FINAL for m in self.members.values()):
            self.phase = Phase.OVER

    def _all(self, at: At) -> bool:
        return all(member.at is at and not member.lost for member in self.members.values())

    @property
    def _verdict_due(self) -> float:
        return self._try_end + self.timeouts.try_margin

    def _try_all(self, now: float) -> None:
        self.phase, self.tried = Phase.TRYING, True
        hook_seconds = max((member.order.hook_seconds for member in self.members.values()), default=0.0)
        self._try_end = now + self.timeouts.deadline + hook_seconds
        for member in self.members.values():
            self._try(member, now)

    def _try(self, member: Member, now: float) -> None:
        left = max(1.0, self._try_end - now)
        self.board.tell(member.id, Try(push_id=self.words.push_id, deadline_s=left))
        self._await_verdict(member)

    def _await_verdict(self, member: Member) -> None:
        member.expect(At.TRYING, self._verdict_due, "give its verdict (deadline + try_margin)")

    def _hear_tried(self, member: Member, message: Tried, now: float) -> None:
        if member.at not in {At.TRYING, At.HEALTHY}:
            return
        if message.healthy:
            member.settle(At.HEALTHY, message.report)
            return
        member.settle(At.UNHEALTHY, _not_kept(message.report))
        reason = message.report.reason or "the application was not healthy"
        self._undo_all(Cause(Code.STAGE_FAILED, f"replica {member.id}: {reason}", verdict=True), now)

    def _back_trying(self, member: Member, state: ReplicaState, now: float) -> None:
        if state.trial is None:
            member.settle(At.UNDONE)
            words = f"replica {member.id} came back without its trial"
            self._undo_all(Cause(Code.REPLICA_LOST, words), now)
        elif state.trial.phase == "staged":
            self._try(member, now)
        elif state.trial.phase == "healthy":
            member.settle(At.HEALTHY)
        else:
            self._await_verdict(member)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def _keep_all(self, now: float) -> None:
        self.phase = Phase.KEEPING
        for member in self.members.values():
            member.expect(At.KEEPING, now + self.timeouts.keep, "say that it has kept it (keep)")
            self.board.tell(member.id, Keep(push_id=self.words.push_id))

    def _back_keeping(self, member: Member, state: ReplicaState) -> None:
        if state.trial is not None and state.trial.phase == "healthy":
            self.board.tell(member.id, Keep(push_id=self.words.push_id))
        elif state.trial is None and state.tree == member.order.target:
            member.settle(At.KEPT, self._remembered(member, state))
        else:
            self._dismiss(state)
            member.settle(At.UNDONE, failed(member.id, "its trial was undone before it was told to keep"))

    def _remembered(self, member: Member, state: ReplicaState) -> ReplicaReport:
        """The report that was lost with the connection."""
        known = member.report or ReplicaReport(id=member.id, status="stored")
        for result in reversed(state.results):
            if result.push_id == self.words.push_id and result.status in KEPT_STATUSES:
                return replace(known, status=result.status, generation=result.generation)
        return replace(known, generation=state.generation)

    # -- undoing -----------------------------------------------------------------------------------------------------

    def _undo_all(self, cause: Cause, now: float) -> None:
        self.phase, self.cause = Phase.UNDOING, cause
        for member in self.members.values():
            if member.at in FINAL:
                member.settle(member.at)
            elif member.lost and not self.tried:
                member.end_lost("its connection was lost; it undoes by itself")
            else:
                self._undo(member, now)

    def _undo(self, member: Member, now: float) -> None:
        peer = self.board.peer_of(member.id)
        if peer is not None and not member.lost:
            self.board.do(Unrelay(peer.connection))
            self._say_undo(member.id, self.words.push_id)
        member.expect(At.UNDOING, now + self.timeouts.undo, "say that it has undone it (undo)")

    def _say_undo(self, replica_id: str, push_id: str) -> None:
        reason = self.cause.message if self.cause else "the push is over"
        self.board.tell(replica_id, Undo(push_id=push_id, reason=reason[:1024]))

    def _back_undoing(self, member: Member, state: ReplicaState) -> None:
        if state.trial is None:
            member.settle(member.at if member.at is At.UNTOLD else At.UNDONE)
        else:
            self._say_undo(member.id, state.trial.push_id)

    def _dismiss(self, state: ReplicaState) -> None:
        if state.trial is not None:
            self._say_undo(state.id, state.trial.push_id)

    def _hear_failed(self, member: Member, message: Failed, now: float) -> None:
        report = failed(member.id, message.message, member.report)
        if member.at is At.KEEPING:
            member.settle(At.UNDONE, report)
        elif self.undecided:
            member.settle(At.FAILED, report)
            words = f"replica {member.id} could not {message.phase}: {message.message}"
            self._undo_all(Cause(Code.STAGE_FAILED, words), now)

    def _hear_undone(self, member: Member, message: Undone, now: float) -> None:
        if member.at is At.KEPT:
            return
        unasked = self.undecided
        member.settle(At.UNDONE, merged(member.report, _not_kept(message.report)))
        if unasked:
            words = f"replica {member.id} undid the trial by itself: {message.report.reason}"
            self._undo_all(Cause(Code.REPLICA_LOST, words), now)

    def _too_late(self, member: Member, now: float) -> None:
        if self.undecided:
            words = f"replica {member.id} did not {member.wait}"
            self._undo_all(Cause(Code.REPLICA_LOST if member.lost else Code.TIMEOUT, words), now)
        else:
            member.end_lost(f"it did not {member.wait}")


def _not_kept(report: ReplicaReport) -> ReplicaReport:
    return replace(report, status="rolled_back") if report.status in KEPT_STATUSES else report
