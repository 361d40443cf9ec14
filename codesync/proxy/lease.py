"""Who may change a deployment: one turn at a time, the queue behind it, and replays when nobody wants a turn.

Pure. The rule kept here: every Begin and every Rollback gets exactly one Outcome or Error, unless its connection is
lost, and the turn is always given up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from codesync.protocol import (
    Begin,
    Busy,
    Cancel,
    Chunk,
    Code,
    DeploymentState,
    Error,
    Granted,
    Message,
    Progress,
    Push,
    ReplicaState,
    Rollback,
    Timeouts,
    fit_deployment,
)
from codesync.protocol import Close as CloseCode
from codesync.proxy.attempt import Attempt, Phase
from codesync.proxy.chain import Chain
from codesync.proxy.endings import cancelled, outcome_of, state_after, stored
from codesync.proxy.events import SpoolChunk, Spooled
from codesync.proxy.member import At, Cause, Order
from codesync.proxy.records import Records
from codesync.proxy.replays import Replays
from codesync.proxy.switchboard import Replica, Switchboard
from codesync.proxy.turn import Impossible, Kind, Stage, Turn, push_orders, rollback_orders
from codesync.proxy.waiting import Line, Waiting


@dataclass(slots=True)
class Lease:
    """The lease of one deployment. `now` is the coordinator's time; `epoch` added to it makes Unix seconds."""

    name: str
    board: Switchboard
    chain: Chain
    replays: Replays
    timeouts: Timeouts
    epoch: float
    describe: Callable[[Iterable[Replica]], DeploymentState]
    no_replica: Callable[[], str]
    turn: Turn | None = None
    stopping: bool = False
    _records: Records = field(default_factory=Records)
    _line: Line = field(default_factory=Line)

    # -- asking for it -----------------------------------------------------------------------------------------------

    def ask(self, connection: int, message: Begin | Rollback, now: float) -> None:
        """A client wants the turn, or asks again what became of a push."""
        waiting = Waiting.of(connection, message, now + self.timeouts.lease_wait)
        if self._conflicts(waiting):
            words = f"push {message.push_id} was sent before with another source tree; use a new push_id"
            self._error(waiting, Code.CONFLICT_PUSH_ID, words)
        elif not (self._joined(waiting, now) or self._replaced(waiting) or self._answered(waiting)):
            self._enqueue(waiting, now)

    def _conflicts(self, waiting: Waiting) -> bool:
        words, turn = waiting.words, self.turn
        known = [other.words for other in self._line]
        known += [turn.words] if turn is not None and turn.kind is not Kind.REPLAY else []
        return any(o.push_id == words.push_id and o.source_tree_id != words.source_tree_id for o in known)

    def _joined(self, waiting: Waiting, now: float) -> bool:
        """The push is in its turn: wait for its end, or take over where its client is needed."""
        turn = self.turn
        if (
            turn is None
            or turn.kind is Kind.REPLAY
            or turn.words.push_id != waiting.words.push_id
            or turn.given_up
        ):
            return False
        if not turn.needs_client:
            turn.watchers.append(waiting.connection)
            return True
        for watcher in turn.watchers:
            self._replace(watcher, waiting.words.push_id)
        turn.watchers = []
        if turn.attempt is None:
            turn.watchers = [waiting.connection]
            turn.stage, turn.due = Stage.SETTLING, now + self.timeouts.launcher_wait
        else:
            self._wait(waiting, first=True)
            self._give_up(turn, "a newer connection took over", now)
        return True

    def _replaced(self, waiting: Waiting) -> bool:
        connection = self._line.replace(waiting)
        if connection is not None:
            self._replace(connection, waiting.words.push_id)
            self._tell_waiting(waiting)
        return connection is not None

    def _replace(self, connection: int, push_id: str) -> None:
        words = f"push {push_id} is continued on a newer connection"
        self.board.say(connection, Error(code=Code.REPLACED, message=words, push_id=push_id))

    def _answered(self, waiting: Waiting) -> bool:
        states = [replica.state for replica in self.board.connected()]
        record = self._records.find(waiting.words.push_id, self.chain, states)
        if record is None:
            return False
        if record.source_tree_id == waiting.words.source_tree_id:
            self.board.say(waiting.connection, record.outcome)
        else:
            words = f"push {waiting.words.push_id} is done, with another source tree; use a new push_id"
            self._error(waiting, Code.CONFLICT_PUSH_ID, words)
        return True

    def _enqueue(self, waiting: Waiting, now: float) -> None:
        if not any(self.board.connected()) and not self.board.expects(now):
            self._error(waiting, Code.NO_REPLICA, self.no_replica())
        elif self._line.is_full:
            self._refuse_busy(waiting)
        else:
            self._wait(waiting)

    def _wait(self, waiting: Waiting, *, first: bool = False) -> None:
        self._line.add(waiting, first=first)
        self._tell_waiting(waiting)

    def _tell_waiting(self, waiting: Waiting) -> None:
        """It waits behind another push, if it does: for a client that has just asked."""
        push_id, first = waiting.words.push_id, next(iter(self._line))
        if self.turn is not None or first.words.push_id != push_id:
            wait = Progress(push_id=push_id, stage="wait", done=0, total=0)
            self.board.say(waiting.connection, wait)

    def _refuse_busy(self, waiting: Waiting) -> None:
        by = f" by {self.turn.holder}" if self.turn is not None else ""
        self._error(waiting, Code.BUSY, f"{self.name} is taken{by}; push again when that is done")

    # -- the client's words ------------------------------------------------------------------------------------------

    def push(self, connection: int, push: Push, now: float) -> None:
        """The plan is made: stage it. ProtocolError when its batches make no sense."""
        turn = self._turn_of(connection)
        if turn is None:
            return
        states = [self.board.replicas[replica_id].state for replica_id in turn.members]
        try:
            orders = push_orders(push, states)
        except Impossible as error:
            self._refuse(turn, error.code, error.message)
            return
        turn.push, turn.due = push, now + self.timeouts.chunk_idle
        turn.words = replace(turn.words, timings_ms=push.timings_ms)
        self._run(turn, orders, now, received=False)

    def chunk(self, connection: int, chunk: Chunk, now: float) -> None:
        """A piece of a batch; dropped when the push is being undone already."""
        turn = self._turn_of(connection)
        if turn is None or turn.attempt is None or turn.attempt.phase is not Phase.STAGING:
            return
        try:
            turn.take(chunk.batch, len(chunk.data))
        except Impossible as error:
            turn.attempt.give_up(Cause(error.code, error.message), now)
            return
        self.board.do(SpoolChunk(Spooled(chunk.push_id, chunk.batch), chunk.data, chunk.last))
        turn.due = now + self.timeouts.chunk_idle
        if chunk.last and turn.is_last(chunk.batch):
            turn.due = None
            turn.attempt.complete(now)

    def cancel(self, connection: int, message: Cancel, now: float) -> None:
        """The client gives up; without effect once any replica is told to keep it."""
        words = "the push was cancelled by its client"
        for waiting in self._line.leave(connection):
            self._error(waiting, Code.CANCELLED, words)
        turn = self._turn_of(connection)
        if turn is not None and (turn.attempt is None or turn.attempt.undecided):
            self._give_up(turn, words, now, status="no_changes" if message.no_changes else "cancelled")

    def client_gone(self, connection: int, now: float) -> None:
        """A client's connection is lost: before all have staged that ends the push. Later it goes on."""
        self._line.leave(connection)
        if (turn := self._turn_of(connection)) is not None:
            turn.watchers.remove(connection)
            is_staged = turn.attempt is not None and turn.attempt.phase is not Phase.STAGING
            if not turn.watchers and not is_staged:
                self._give_up(turn, "the push's client was lost", now)

    def touch(self, connection: int, now: float) -> None:
        """A client that plans asks a replica, or is answered: it is not idle."""
        turn = self._turn_of(connection)
        if turn is not None and turn.stage is Stage.PLANNING:
            turn.due = now + self.timeouts.plan_idle

    def _turn_of(self, connection: int) -> Turn | None:
        return self.turn if self.turn is not None and connection in self.turn.watchers else None

    def _give_up(self, turn: Turn, reason: str, now: float, *, status: str = "cancelled") -> None:
        """Undo it, if that is needed, and forget it. `status` is for the log, where nothing has reached a replica."""
        turn.given_up = True
        self._records.forget(turn.words.push_id)
        if turn.attempt is None:
            self._refuse(turn, Code.CANCELLED, reason, status=status)
        else:
            turn.attempt.give_up(Cause(Code.CANCELLED, reason), now)

    # -- for the replicas --------------------------------------------------------------------------------------------

    @property
    def attempt(self) -> Attempt | None:
        """What is running on the replicas."""
        return self.turn.attempt if self.turn is not None else None

    @property
    def busy(self) -> Busy | None:
        """Who has the turn."""
        return self.turn.busy if self.turn is not None else None

    def adopt(self, state: ReplicaState, now: float) -> None:
        """Learn from a replica what was kept last, unless it speaks of the turn that is not over yet."""
        newest = state.history[-1] if state.history else None
        if newest is not None and (self.turn is None or newest.push_id != self.turn.words.push_id):
            self.chain.adopt(newest, now + self.epoch)

    def disk_failed(self, push_id: str, reason: str, now: float) -> None:
        """Its content cannot be written or read."""
        if self.turn is not None and self.turn.attempt is not None and self.turn.words.push_id == push_id:
            words = (
                f"the proxy's disk failed ({reason}); free some space in its data directory, then push again"
            )
            self.turn.attempt.give_up(Cause(Code.TOO_LARGE, words), now)

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `wake` must be called at the latest."""
        turn_due = self.turn.due if self.turn is not None else None
        attempt_due = self.attempt.deadline if self.attempt is not None else None
        is_held = self.turn is None and not self.stopping and len(self._line) > 0
        replica_due = self.board.return_due if is_held else None
        dues = (self._line.due, replica_due, turn_due, attempt_due)
        return min((due for due in dues if due is not None), default=None)

    def wake(self, now: float) -> None:
        """End the waits that are over. The client's come first: a replica is idle because its client is."""
        for waiting in self._line.late(now):
            self._refuse_busy(waiting)
        turn = self.turn
        if turn is not None and turn.due is not None and turn.due <= now and turn.stage is not Stage.SETTLING:
            self._client_too_late(turn, now)
        if self.attempt is not None:
            self.attempt.wake(now)

    def _client_too_late(self, turn: Turn, now: float) -> None:
        if turn.attempt is None:
            words = f"no push came within {self.timeouts.plan_idle:g} s of planning (plan_idle)"
            self._refuse(turn, Code.TIMEOUT, words)
        else:
            turn.due = None
            words = f"no chunk came from the client for {self.timeouts.chunk_idle:g} s (chunk_idle)"
            turn.attempt.give_up(Cause(Code.TIMEOUT, words), now)

    def settle(self, now: float) -> None:
        """After every event: end what is over, begin what can begin."""
        while self._step(now):
            pass

    def _step(self, now: float) -> bool:
        turn = self.turn
        if turn is None:
            return not self.stopping and self._next_turn(now)
        if turn.stage is Stage.SETTLING:
            return self._try_grant(turn, now)
        if turn.attempt is not None and turn.attempt.phase is Phase.OVER:
            self._finish(turn, turn.attempt, now)
            return True
        if turn.attempt is not None and turn.attempt.phase is not Phase.STAGING:
            turn.due = None  # what the client may still send is of no use
        return False

    # -- a turn ------------------------------------------------------------------------------------------------------

    def _next_turn(self, now: float) -> bool:
        if not self._line or self.board.expects(now):
            return self._replay(now)
        waiting = self._line.pop()
        self.turn = Turn(
            waiting.kind,
            waiting.words,
            since=now + self.epoch,
            due=now + self.timeouts.launcher_wait,
            to=waiting.to,
            hooks=waiting.hooks,
            watchers=[waiting.connection],
        )
        return True

    def _try_grant(self, turn: Turn, now: float) -> bool:
        replicas = list(self.board.connected())
        late = turn.due is not None and turn.due <= now
        if replicas and not late and not all(replica.settled for replica in replicas):
            return False
        ready = [replica for replica in replicas if self.board.is_ready(replica.id)]
        turn.members, turn.due = tuple(replica.id for replica in ready), None
        if not replicas:
            self._refuse(turn, Code.NO_REPLICA, self.no_replica())
        elif not ready:
            words = (
                f"no replica was free within {self.timeouts.launcher_wait:g} s (launcher_wait); push again"
            )
            self._refuse(turn, Code.TIMEOUT, words)
        elif turn.kind is Kind.ROLLBACK:
            self._roll_back(turn, [replica.state for replica in ready], now)
        else:
            turn.stage, turn.due = Stage.PLANNING, now + self.timeouts.plan_idle
            granted = Granted(push_id=turn.words.push_id, deployment=fit_deployment(self.describe(ready)))
            self._tell_all(turn, granted)
        return True

    def _roll_back(self, turn: Turn, states: list[ReplicaState], now: float) -> None:
        try:
            orders = rollback_orders(turn.to, turn.hooks, states)
        except Impossible as error:
            self._refuse(turn, error.code, error.message)
            return
        self._run(turn, orders, now, received=True)

    def _replay(self, now: float) -> bool:
        """Bring one late replica one push nearer to the present tree."""
        step = self.replays.next(self.board.connected())
        if step is None:
            return False
        self.turn = Turn(Kind.REPLAY, step.words, since=now + self.epoch, members=(step.replica_id,))
        self._run(self.turn, [(step.replica_id, step.order)], now, received=True)
        return True

    def _run(self, turn: Turn, orders: list[tuple[str, Order]], now: float, *, received: bool) -> None:
        turn.stage = Stage.RUNNING
        turn.attempt = Attempt(turn.words, self.board, self.timeouts)
        turn.attempt.start(orders, now, received=received)

    # -- the end of a turn -------------------------------------------------------------------------------------------

    def _finish(self, turn: Turn, attempt: Attempt, now: float) -> None:
        self.turn = None
        at = now + self.epoch
        self._note_replicas(turn, attempt, at)
        if turn.kind is Kind.REPLAY:
            if not attempt.kept:
                self.replays.failed(self.board.replicas[turn.members[0]])
        elif turn.given_up:
            self._tell_all(turn, cancelled(attempt))
        else:
            outcome = outcome_of(attempt)
            self._records.add(turn.words.source_tree_id, outcome)
            self._tell_all(turn, outcome)
        if (command := stored(turn, attempt, self.chain, at)) is not None:
            self.board.do(command)
        status = "given_up" if turn.given_up else attempt.status
        self.board.note(
            turn.kind, push_id=turn.words.push_id, status=status, seconds=round(at - turn.since, 3)
        )

    def _note_replicas(self, turn: Turn, attempt: Attempt, at: float) -> None:
        """What the replicas will say of themselves is true from now on, so that the next push is planned on it."""
        for member in attempt.members.values():
            replica = self.board.replicas[member.id]
            if member.at is At.KEPT:
                replica.state = state_after(replica.state, member, turn.words, at)
            if member.at is At.LOST and replica.peer is not None and not member.lost:
                # silent, but there: a new connection says Hello and tells where it stands
                words = f"no answer about push {turn.words.push_id}; connect again"
                connection = replica.peer.connection
                self.board.refuse(connection, Code.TIMEOUT, words, CloseCode.TIMEOUT)
                self.board.drop(connection)

    def _refuse(self, turn: Turn, code: Code, message: str, *, status: str = "") -> None:
        """End a turn of which nothing has reached a replica."""
        self.turn = None
        self._tell_all(turn, Error(code=code, message=message[:4096], push_id=turn.words.push_id))
        self.board.note(turn.kind, push_id=turn.words.push_id, status=status or str(code))

    def _tell_all(self, turn: Turn, message: Message) -> None:
        for watcher in turn.watchers:
            self.board.say(watcher, message)

    def _error(self, waiting: Waiting, code: Code, message: str) -> None:
        push_id = waiting.words.push_id
        self.board.say(waiting.connection, Error(code=code, message=message[:4096], push_id=push_id))
        self.board.note("refused", push_id=push_id, code=str(code))
