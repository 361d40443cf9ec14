"""Who may change a deployment: one turn at a time, the queue behind it, and the replays when nobody wants a turn.

Pure. The rule kept here: every Begin and every Rollback gets exactly one Outcome or Error, unless its connection is lost,
and the turn is always given up.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from codesync.protocol import (
    GENERATION_0,
    MAX_MESSAGE,
    Begin,
    Busy,
    Cancel,
    Chunk,
    Code,
    DeploymentState,
    Error,
    Granted,
    HistoryEntry,
    LastPush,
    Message,
    Outcome,
    Push,
    ReplicaState,
    Rollback,
    Timeouts,
    fit_deployment,
    fit_report,
)
from codesync.protocol import Close as CloseCode
from codesync.proxy.attempt import Attempt, Phase
from codesync.proxy.chain import Chain, Edge, KeptPush
from codesync.proxy.events import DropSpool, KeepSpool, SpoolChunk, Spooled, Stored
from codesync.proxy.member import At, Cause, Member, Order, Words
from codesync.proxy.records import Records
from codesync.proxy.switchboard import Replica, Switchboard
from codesync.proxy.turn import Impossible, Kind, Stage, Turn, push_orders, rollback_orders

MAX_WAITING = 64
_OUTCOME_ROOM = MAX_MESSAGE - 64 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Begin or Rollback in the queue."""

    connection: int
    message: Begin | Rollback
    due: float

    @property
    def words(self) -> Words:
        """What it tells replicas."""
        message = self.message
        tree_id = message.source_tree_id if isinstance(message, Begin) else ""
        return Words(
            push_id=message.push_id,
            source=message.source,
            description=message.description,
            source_tree_id=tree_id,
        )


@dataclass(slots=True)
class Lease:
    """The lease of one deployment. Times called `now` are the coordinator's; `epoch` makes Unix seconds of them."""

    name: str
    board: Switchboard
    chain: Chain
    timeouts: Timeouts
    epoch: float
    describe: Callable[[Iterable[Replica]], DeploymentState]
    no_replica: Callable[[], str]
    turn: Turn | None = None
    stopping: bool = False
    records: Records = field(default_factory=Records)
    _queue: deque[Waiting] = field(default_factory=deque)
    _hopeless: set[tuple[str, object, object]] = field(default_factory=set)

    # -- asking for it -----------------------------------------------------------------------------------------------

    def ask(self, connection: int, message: Begin | Rollback, now: float) -> None:
        """A client wants the turn, or asks again what became of a push."""
        waiting = Waiting(connection, message, now + self.timeouts.lease_wait)
        if not self._answered(waiting) and not self._joined(waiting, now) and not self._replaced(waiting):
            self._enqueue(waiting)

    def _answered(self, waiting: Waiting) -> bool:
        """From the record, or by refusing the push_id."""
        words, turn = waiting.words, self.turn
        states = [replica.state for replica in self.board.connected()]
        record = self.records.find(words.push_id, self.chain, states)
        if record is not None:
            if record.source_tree_id != words.source_tree_id:
                self._refuse_push_id(waiting)
            else:
                self.board.say(waiting.connection, record.outcome)
            return True
        others = [other.words for other in self._queue]
        others += [turn.words] if turn is not None and turn.kind is not Kind.REPLAY else []
        if any(o.push_id == words.push_id and o.source_tree_id != words.source_tree_id for o in others):
            self._refuse_push_id(waiting)
            return True
        return False

    def _refuse_push_id(self, waiting: Waiting) -> None:
        words = f"push {waiting.words.push_id} was sent before with another source tree; use a new push_id"
        self._error(waiting.connection, Code.CONFLICT_PUSH_ID, words, waiting.words.push_id)

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
        words = f"push {turn.words.push_id} is continued on a newer connection"
        for watcher in turn.watchers:
            self._error(watcher, Code.REPLACED, words, turn.words.push_id)
        turn.watchers = []
        if turn.attempt is None:
            turn.watchers = [waiting.connection]
            turn.stage, turn.due = Stage.SETTLING, now + self.timeouts.launcher_wait
        else:
            self._queue.appendleft(waiting)
            self._give_up(turn, words, now)
        return True

    def _replaced(self, waiting: Waiting) -> bool:
        for index, other in enumerate(self._queue):
            if other.words.push_id == waiting.words.push_id:
                words = f"push {other.words.push_id} is continued on a newer connection"
                self._error(other.connection, Code.REPLACED, words, other.words.push_id)
                self._queue[index] = waiting
                return True
        return False

    def _enqueue(self, waiting: Waiting) -> None:
        if not any(self.board.connected()):
            self._error(waiting.connection, Code.NO_REPLICA, self.no_replica(), waiting.words.push_id)
        elif len(self._queue) >= MAX_WAITING:
            self._refuse_busy(waiting)
        else:
            self._queue.append(waiting)

    def _refuse_busy(self, waiting: Waiting) -> None:
        words = f"{self.name} is taken"
        if (busy := self.busy) is not None:
            since = datetime.fromtimestamp(busy.since, UTC).strftime("%H:%M:%S UTC")
            words = (
                f"{self.name} is taken by push {busy.push_id} of {busy.source or 'somebody'} since {since}"
            )
        self._error(
            waiting.connection, Code.BUSY, f"{words}; push again when it is done", waiting.words.push_id
        )

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
            self._end_with_error(turn, error.code, error.message)
            return
        turn.push, turn.due = push, now + self.timeouts.chunk_idle
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
        """The client gives up; without effect once all have staged."""
        words = "the push was cancelled by its client"
        for waiting in list(self._queue):
            if waiting.connection == connection:
                self._queue.remove(waiting)
                self._error(connection, Code.CANCELLED, words, message.push_id)
        if (turn := self._turn_of(connection)) is not None:
            self._give_up(turn, words, now)

    def client_gone(self, connection: int, now: float) -> None:
        """A client's connection is lost."""
        self._queue = deque(waiting for waiting in self._queue if waiting.connection != connection)
        turn = self._turn_of(connection)
        if turn is not None:
            turn.watchers.remove(connection)
            if not turn.watchers:
                self._give_up(turn, "its client was lost", now)

    def touch(self, connection: int, now: float) -> None:
        """A client that plans asks a replica, or is answered: it is not idle."""
        turn = self._turn_of(connection)
        if turn is not None and turn.stage is Stage.PLANNING:
            turn.due = now + self.timeouts.plan_idle

    def _turn_of(self, connection: int) -> Turn | None:
        return self.turn if self.turn is not None and connection in self.turn.watchers else None

    def _give_up(self, turn: Turn, reason: str, now: float) -> None:
        """Before all have staged: undo it and forget it. Later it goes on."""
        if turn.attempt is None:
            turn.given_up = True
            self._end_with_error(turn, Code.CANCELLED, reason)
        elif turn.attempt.phase is Phase.STAGING:
            turn.given_up = True
            turn.attempt.give_up(Cause(Code.CANCELLED, reason), now)

    # -- the replicas' words -----------------------------------------------------------------------------------------

    @property
    def attempt(self) -> Attempt | None:
        """What is running on the replicas."""
        return self.turn.attempt if self.turn is not None else None

    @property
    def push_id(self) -> str:
        """The push that is running on the replicas, or empty."""
        return self.turn.words.push_id if self.turn is not None and self.turn.attempt is not None else ""

    @property
    def watchers(self) -> list[int]:
        """The ides that want to know."""
        return list(self.turn.watchers) if self.turn is not None else []

    @property
    def busy(self) -> Busy | None:
        """Who has the turn."""
        turn = self.turn
        return turn and Busy(push_id=turn.words.push_id, source=turn.words.source, since=turn.since)

    def adopt(self, state: ReplicaState) -> None:
        """A replica remembers a push later than the last we know of: another proxy served it."""
        entry, last = (state.history[-1] if state.history else None), self.chain.last
        if (
            entry is None
            or entry.push_id in {"", GENERATION_0, self.push_id}
            or self.chain.find(entry.push_id)
        ):
            return
        if last is None or (entry.push_id != last.push_id and entry.at > last.at):
            self.chain.last = LastPush(
                push_id=entry.push_id,
                source=entry.source,
                description=entry.description,
                at=entry.at,
                tree=entry.tree,
            )

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `wake` must be called at the latest."""
        dues = [waiting.due for waiting in self._queue]
        if self.turn is not None:
            dues += [
                due for due in (self.turn.due, self.attempt and self.attempt.deadline) if due is not None
            ]
        return min(dues, default=None)

    def wake(self, now: float) -> None:
        """End the waits that are over. The client's come first: a replica is idle because its client is."""
        for waiting in [waiting for waiting in self._queue if waiting.due <= now]:
            self._queue.remove(waiting)
            self._refuse_busy(waiting)
        turn = self.turn
        if turn is not None and turn.due is not None and turn.due <= now and turn.stage is not Stage.SETTLING:
            self._client_too_late(turn, now)
        if self.attempt is not None:
            self.attempt.wake(now)

    def _client_too_late(self, turn: Turn, now: float) -> None:
        if turn.attempt is None:
            words = f"no push came within {self.timeouts.plan_idle:g} s of planning (plan_idle)"
            self._end_with_error(turn, Code.TIMEOUT, words)
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
            return self._next_turn(now)
        if turn.stage is Stage.SETTLING:
            return self._try_grant(turn, now)
        if turn.attempt is not None and turn.attempt.phase is Phase.OVER:
            self._finish(turn, turn.attempt, now)
            return True
        if turn.attempt is not None and turn.attempt.phase is not Phase.STAGING:
            turn.due = None
        return False

    # -- a turn ------------------------------------------------------------------------------------------------------

    def _next_turn(self, now: float) -> bool:
        if self.stopping:
            return False
        if not self._queue:
            return self._replay(now)
        waiting = self._queue.popleft()
        message = waiting.message
        kind, to = (Kind.PUSH, "") if isinstance(message, Begin) else (Kind.ROLLBACK, message.to)
        self.turn = Turn(kind, waiting.words, now + self.epoch, now + self.timeouts.launcher_wait, to)
        self.turn.watchers.append(waiting.connection)
        return True

    def _try_grant(self, turn: Turn, now: float) -> bool:
        replicas = list(self.board.connected())
        late = turn.due is not None and turn.due <= now
        if replicas and not late and not all(replica.settled for replica in replicas):
            return False
        ready = [replica for replica in replicas if self.board.is_ready(replica.id)]
        turn.members, turn.due = tuple(replica.id for replica in ready), None
        if not ready:
            self._end_with_error(turn, Code.NO_REPLICA, self.no_replica())
        elif turn.kind is Kind.ROLLBACK:
            self._roll_back(turn, [replica.state for replica in ready], now)
        else:
            turn.stage, turn.due = Stage.PLANNING, now + self.timeouts.plan_idle
            granted = Granted(push_id=turn.words.push_id, deployment=fit_deployment(self.describe(ready)))
            self.board.say(turn.watchers[0], granted)
        return True

    def _roll_back(self, turn: Turn, states: list[ReplicaState], now: float) -> None:
        words = turn.words
        rollback = Rollback(
            push_id=words.push_id, to=turn.to, source=words.source, description=words.description
        )
        try:
            orders = rollback_orders(rollback, states)
        except Impossible as error:
            self._end_with_error(turn, error.code, error.message)
            return
        self._run(turn, orders, now, received=True)

    def _run(self, turn: Turn, orders: list[tuple[str, Order]], now: float, *, received: bool) -> None:
        turn.stage = Stage.RUNNING
        turn.attempt = Attempt(turn.words, self.board, self.timeouts)
        turn.attempt.start(orders, now, received=received)

    def _replay(self, now: float) -> bool:
        """Bring one late replica one push nearer to the present tree."""
        for replica in self.board.connected():
            path = self.chain.path(replica.state.tree) if replica.settled else []
            if path and self._key(replica) not in self._hopeless:
                push, edge = path[0]
                words = Words(
                    push_id=push.push_id,
                    source=push.source,
                    description=push.description,
                    source_tree_id=push.source_tree_id,
                )
                content = Stored(edge.name) if edge.name else None
                order = Order(base=edge.base, target=edge.target, content=content, restores=edge.restores)
                self.turn = Turn(Kind.REPLAY, words, now + self.epoch, members=(replica.id,))
                self._run(self.turn, [(replica.id, order)], now, received=True)
                return True
        return False

    def _key(self, replica: Replica) -> tuple[str, object, object]:
        return (replica.id, replica.state.tree, self.chain.last and self.chain.last.tree)

    # -- the end of a turn -------------------------------------------------------------------------------------------

    def _finish(self, turn: Turn, attempt: Attempt, now: float) -> None:
        self.turn = None
        self._note_replicas(turn, attempt, now)
        if turn.kind is Kind.REPLAY:
            self._finish_replay(turn, attempt)
        elif turn.given_up:
            self.records.forget(turn.words.push_id)
            self._tell_all(turn, self._cancelled(turn, attempt))
            self._drop_spool(turn)
        else:
            outcome = self._outcome(turn, attempt)
            self.records.add(turn.words.source_tree_id, outcome)
            self._tell_all(turn, outcome)
            self._store(turn, attempt, now)
        seconds = round(now + self.epoch - turn.since, 3)
        status = "given_up" if turn.given_up else attempt.status
        self.board.note(turn.kind, push_id=turn.words.push_id, status=status, seconds=seconds)

    def _outcome(self, turn: Turn, attempt: Attempt) -> Outcome:
        room = _OUTCOME_ROOM // len(attempt.members)
        return Outcome(
            push_id=turn.words.push_id,
            status=attempt.status,
            replicas=tuple(fit_report(report, room) for report in attempt.reports),
            tree=attempt.kept[0].order.target if attempt.kept else None,
            error=attempt.failure,
        )

    def _cancelled(self, turn: Turn, attempt: Attempt) -> Error:
        words = attempt.cause.message if attempt.cause else "cancelled"
        return Error(code=Code.CANCELLED, message=words, push_id=turn.words.push_id)

    def _note_replicas(self, turn: Turn, attempt: Attempt, now: float) -> None:
        """What the replicas will say of themselves is true from now on, so that the next push is planned on it."""
        for member in attempt.members.values():
            self.board.update(member.id, trial=None)
            if member.at is At.KEPT:
                self._note_kept(turn, member, now)
            peer = self.board.peer_of(member.id)
            if member.at is At.LOST and peer is not None and not member.lost:
                # silent, but there: a new connection says Hello and tells where it stands
                words = f"no answer about push {turn.words.push_id}; connect again"
                self.board.refuse(peer.connection, Code.TIMEOUT, words, CloseCode.TIMEOUT)
                self.board.drop(peer.connection)

    def _note_kept(self, turn: Turn, member: Member, now: float) -> None:
        state, words = self.board.replicas[member.id].state, turn.words
        if state.history and state.history[-1].push_id == words.push_id:
            return
        generation = member.report.generation if member.report else state.generation + 1
        entry = HistoryEntry(
            push_id=words.push_id,
            generation=generation,
            tree=member.order.target,
            description=words.description,
            source=words.source,
            at=now + self.epoch,
            restores=member.order.restores,
        )
        history = (*state.history, entry)
        self.board.update(member.id, tree=member.order.target, generation=generation, history=history)

    def _finish_replay(self, turn: Turn, attempt: Attempt) -> None:
        if not attempt.kept:
            self._hopeless |= {self._key(self.board.replicas[replica_id]) for replica_id in turn.members}

    def _store(self, turn: Turn, attempt: Attempt, now: float) -> None:
        if not attempt.kept:
            self._drop_spool(turn)
            return
        names, edges = self._push_edges(turn) if turn.push is not None else ({}, _tree_edges(attempt))
        words = turn.words
        kept = KeptPush(
            push_id=words.push_id,
            source=words.source,
            description=words.description[:4096],
            source_tree_id=words.source_tree_id,
            at=now + self.epoch,
            status=attempt.status,
            edges=tuple(edges),
        )
        evicted = self.chain.add(kept, attempt.kept[0].order.target)
        self._hopeless.clear()
        self.board.do(KeepSpool(words.push_id, names, self.chain.to_json(), evicted))

    def _push_edges(self, turn: Turn) -> tuple[dict[int, str], list[Edge]]:
        assert turn.push is not None
        names: dict[int, str] = {}
        edges: list[Edge] = []
        for index, (batch, size) in enumerate(zip(turn.push.batches, turn.sizes, strict=True)):
            if batch.base != batch.target:
                names[index] = self.chain.name()
                edges.append(Edge(base=batch.base, target=batch.target, name=names[index], size=size))
        return names, edges

    def _end_with_error(self, turn: Turn, code: Code, message: str) -> None:
        """Nothing has reached a replica."""
        self.turn = None
        if turn.given_up:
            self.records.forget(turn.words.push_id)
        self._tell_all(turn, Error(code=code, message=message[:4096], push_id=turn.words.push_id))
        self.board.note(turn.kind, push_id=turn.words.push_id, status=str(code))

    def _drop_spool(self, turn: Turn) -> None:
        if turn.push is not None:
            self.board.do(DropSpool(turn.words.push_id))

    def _tell_all(self, turn: Turn, message: Message) -> None:
        for watcher in turn.watchers:
            self.board.say(watcher, message)

    def _error(self, connection: int, code: Code, message: str, push_id: str) -> None:
        self.board.say(connection, Error(code=code, message=message[:4096], push_id=push_id))


def _tree_edges(attempt: Attempt) -> list[Edge]:
    orders = {(member.order.base, member.order.target): member.order for member in attempt.members.values()}
    return [
        Edge(base=order.base, target=order.target, restores=order.restores)
        for order in orders.values()
        if order.base != order.target
    ]
