"""One deployment, sans I/O: events with the time in, commands out. No clock, no socket, no file, no task.

A connection that breaks the protocol is told why and closed; nothing it says can do more than that.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from codesync.protocol import (
    MAX_REPLICAS,
    Answer,
    AnswerError,
    Begin,
    Cancel,
    Chunk,
    Code,
    DeploymentState,
    EndRequest,
    Failed,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Hello,
    Keep,
    Kept,
    Message,
    Progress,
    ProtocolError,
    Push,
    ReplicaState,
    Rollback,
    Side,
    State,
    Step,
    Timeouts,
    Undo,
    Undone,
    Welcome,
    fit_deployment,
    negotiate,
)
from codesync.protocol import Close as CloseCode
from codesync.proxy.attempt import Phase
from codesync.proxy.chain import Chain
from codesync.proxy.events import (
    Close,
    Command,
    DiskFailed,
    Event,
    Garbled,
    Lost,
    Opened,
    Received,
    Relayed,
    Stop,
)
from codesync.proxy.lease import Lease
from codesync.proxy.replays import Replays
from codesync.proxy.requests import Requests
from codesync.proxy.switchboard import Peer, Replica, Switchboard

RETURN_SECONDS = 5.0  # after a start of the proxy: what was connected before comes back, in any order

_CLOSE_CODES = {Code.VERSION: CloseCode.VERSION, Code.TOO_LARGE: CloseCode.TOO_LARGE}


class Deployment:
    """`receive` every event as it comes, do the commands in order, and send Woken at `next_deadline`.

    `epoch` is what added to `now` makes Unix seconds; `neighbours` names the deployments that have a replica now,
    `is_behind` says whether a connection has not taken yet what it was told a while ago.
    """

    def __init__(
        self,
        app_id: str,
        deployment_id: str,
        *,
        software: str,
        epoch: float,
        chain: Chain | None = None,
        timeouts: Timeouts | None = None,
        neighbours: Callable[[], Iterable[str]] = tuple,
        is_behind: Callable[[int], bool] = lambda connection: False,
    ) -> None:
        self.app_id = app_id
        self.deployment_id = deployment_id
        self._software = software
        self._neighbours = neighbours
        self._timeouts = timeouts or Timeouts()
        self._orphans_due: float | None = None  # until then healthy trials are not undone, only kept
        self._board = Switchboard(is_behind=is_behind)
        self._chain = chain or Chain()
        self._requests = Requests(self._board, self._timeouts)
        self._lease = Lease(
            f"app {app_id} deployment {deployment_id}",
            self._board,
            self._chain,
            Replays(self._chain),
            self._timeouts,
            epoch,
            self._describe,
            self._no_replica,
        )

    # -- what the adapter asks ---------------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """When Woken is due at the latest, in the time of `now`."""
        dues = [
            self._lease.deadline,
            self._requests.deadline,
            self._orphans_due if any(self._orphans()) else None,
            *(peer.due for peer in self._board.peers.values()),
        ]
        return min((due for due in dues if due is not None), default=None)

    @property
    def replicas(self) -> int:
        """How many replicas are connected."""
        return sum(1 for _ in self._board.connected())

    @property
    def busy(self) -> bool:
        """Whether somebody has the lease."""
        return self._lease.turn is not None

    @property
    def idle(self) -> bool:
        """Nobody is connected and nothing goes on: it may be forgotten."""
        return not self._board.peers and not self.busy

    # -- events ------------------------------------------------------------------------------------------------------

    def receive(self, event: Event, now: float) -> list[Command]:
        """What follows from an event, in order."""
        self._handle(event, now)
        self._judge_orphans(now)
        self._lease.settle(now)
        self._board.prune(self._lease.turn.members if self._lease.turn is not None else ())
        return self._board.take()

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case Opened():
                self._board.open(event.connection, event.side, now + self._timeouts.hello)
                if self._board.return_due is None and self._chain.last is not None:
                    self._board.return_due = now + RETURN_SECONDS
            case Received():
                self._received(event.connection, event.message, now)
            case Garbled():
                self._fault(event.connection, event.code, event.reason, now)
            case Lost():
                self._gone(event.connection, now)
            case Relayed():
                self._relayed(event, now)
            case DiskFailed():
                self._lease.disk_failed(event.push_id, event.reason, now)
            case Stop():
                self._stop(now)
            case _:
                self._wake(now)

    def _received(self, connection: int, message: Message, now: float) -> None:
        peer = self._board.peers.get(connection)
        if peer is None:
            return  # it was closed while this was on its way
        try:
            if not peer.link.receive(message):
                return
            if peer.side is Side.IDE:
                self._from_ide(peer, message, now)
            else:
                self._from_sidecar(peer, message, now)
        except ProtocolError as error:
            self._fault(connection, error.code, error.message, now)

    def _relayed(self, event: Relayed, now: float) -> None:
        peer, attempt = self._board.peers.get(event.connection), self._lease.attempt
        if peer is None or peer.link.step is not Step.STAGING or peer.link.push_id != event.push_id:
            return
        peer.link.send(Chunk(push_id=event.push_id, data=b"", last=event.last))
        if attempt is not None and peer.replica is not None:
            attempt.relayed(peer.replica.id, now)

    def _fault(self, connection: int, code: Code, reason: str, now: float) -> None:
        if connection in self._board.peers:
            self._board.refuse(connection, code, reason, _CLOSE_CODES.get(code, CloseCode.BAD_MESSAGE))
            self._board.note("fault", connection=connection, code=str(code), reason=reason[:300])
            self._gone(connection, now)

    def _gone(self, connection: int, now: float) -> None:
        peer = self._board.drop(connection)
        self._requests.lost(connection)  # also of a replica that was sent away for its silence
        if peer is None:
            return
        if peer.side is Side.IDE:
            self._lease.client_gone(connection, now)
        elif peer.replica is not None:
            self._board.note("replica lost", connection=connection, replica=peer.replica.id)
            if self._lease.attempt is not None:
                self._lease.attempt.gone(peer.replica.id, now)

    def _wake(self, now: float) -> None:
        for peer in [p for p in self._board.peers.values() if p.due is not None and p.due <= now]:
            words = f"no hello came within {self._timeouts.hello:g} s (hello)"
            self._board.refuse(peer.connection, Code.TIMEOUT, words, CloseCode.TIMEOUT)
            self._gone(peer.connection, now)
        self._requests.wake(now)
        self._lease.wake(now)

    def _stop(self, now: float) -> None:
        """Clients whose push is not decided are sent away (they come back with the same push_id); the rest finishes."""
        self._lease.stopping = True
        attempt, turn = self._lease.attempt, self._lease.turn
        decided = turn.watchers if turn is not None and attempt and attempt.phase is not Phase.STAGING else []
        for peer in [peer for peer in self._board.peers.values() if peer.side is Side.IDE]:
            if peer.connection not in decided:
                self._board.do(Close(peer.connection, CloseCode.GOING_AWAY, "the proxy stops; connect again"))
                self._gone(peer.connection, now)

    # -- ides --------------------------------------------------------------------------------------------------------

    def _from_ide(self, peer: Peer, message: Message, now: float) -> None:
        connection = peer.connection
        match message:
            case Hello():
                version = self._greet(peer, message)
                deployment = fit_deployment(self._describe(self._board.connected()))
                welcome = Welcome(version=version, software=self._software, deployment=deployment)
                self._board.say(connection, welcome)
            case Begin() | Rollback():
                self._lease.ask(connection, message, now)
            case Push():
                self._lease.push(connection, message, now)
            case Chunk():
                self._lease.chunk(connection, message, now)
            case Cancel():
                self._lease.cancel(connection, message, now)
            case GetManifest() | GetSignatures() | GetDetails() | GetHistory() | GetLogs():
                if self._requests.ask(connection, message, now):
                    self._lease.touch(connection, now)
            case EndRequest():
                self._requests.end(connection, message)

    def _greet(self, peer: Peer, hello: Hello) -> int:
        version = negotiate(hello.versions)
        peer.due, peer.source = None, hello.source
        return version

    def _describe(self, replicas: Iterable[Replica]) -> DeploymentState:
        return DeploymentState(
            app_id=self.app_id,
            deployment_id=self.deployment_id,
            replicas=tuple(replica.state for replica in replicas),
            last_push=self._chain.last,
            busy=self._lease.busy,
        )

    def _no_replica(self) -> str:
        others = sorted(self._neighbours())
        known = f"connected now: {', '.join(others[:20])}" if others else "no deployment is connected now"
        return (
            f"no sidecar is connected for {self._lease.name}; start it with `codesync sidecar` beside the application, "
            f"or check app_id and deployment_id ({known})"
        )

    # -- sidecars ----------------------------------------------------------------------------------------------------

    def _from_sidecar(self, peer: Peer, message: Message, now: float) -> None:
        if isinstance(message, Hello):
            self._join(peer, message, now)
            return
        replica = peer.replica
        assert replica is not None, "the link lets nothing through before Hello"
        match message:
            case State():
                self._take_state(replica, message.replica, now)
            case Answer() | AnswerError():
                asker = self._requests.answer(peer.connection, message, now)
                if asker is not None:
                    self._lease.touch(asker, now)
            case _:
                self._of_push(replica, message, now)

    def _join(self, peer: Peer, hello: Hello, now: float) -> None:
        state = hello.replica
        assert state is not None, "the link has checked it"
        version = self._greet(peer, hello)
        self._make_room(state.id, now)
        replica = self._board.replicas.setdefault(state.id, Replica(state))
        replica.state, replica.peer, peer.replica = state, peer, replica
        self._board.say(peer.connection, Welcome(version=version, software=self._software))
        self._board.note(
            "replica", connection=peer.connection, replica=state.id, tree=state.tree.tree_id[:12]
        )
        self._lease.adopt(state, now)
        if self._orphans_due is None:
            self._orphans_due = now + RETURN_SECONDS
        self._resume(replica, now)

    def _make_room(self, replica_id: str, now: float) -> None:
        known = self._board.replicas.get(replica_id)
        if known is not None and known.peer is not None:
            old = known.peer.connection
            words = f"another connection has taken over as replica {replica_id}"
            self._board.refuse(old, Code.REPLACED, words, CloseCode.REPLACED)
            self._gone(old, now)
        elif known is None and self.replicas >= MAX_REPLICAS:
            words = f"{self._lease.name} has {MAX_REPLICAS} replicas already, which is the most there may be"
            raise ProtocolError(words, Code.UNSUPPORTED)

    def _resume(self, replica: Replica, now: float) -> None:
        """Go on with the running push; of any other push a trial that is not healthy was kept nowhere."""
        attempt, trial = self._lease.attempt, replica.state.trial
        replica.unsure = False
        if trial is not None and (attempt is None or trial.push_id != attempt.words.push_id):
            if trial.phase != "healthy":
                self._undo_orphan(replica, trial.push_id)
        elif attempt is not None:
            attempt.back(replica.state, now)

    def _orphans(self) -> Iterator[tuple[Replica, str]]:
        """The replicas with a healthy trial that no attempt of this proxy decides about, and the push it is of."""
        attempt = self._lease.attempt
        for replica in self._board.connected():
            link = replica.peer.link if replica.peer is not None else None
            if link is None or link.step is not Step.TRIED:
                continue
            if attempt is None or link.push_id != attempt.words.push_id:
                yield replica, link.push_id

    def _judge_orphans(self, now: float) -> None:
        """Whoever has kept a push was told to, by a proxy that is lost: so were all. Witnesses have time to come."""
        for replica, push_id in list(self._orphans()):
            others = (other.state for other in self._board.connected() if other is not replica)
            if any(state.history and state.history[-1].push_id == push_id for state in others):
                self._board.tell(replica.id, Keep(push_id=push_id))
                self._board.note("late keep", push_id=push_id, replica=replica.id)
            elif self._orphans_due is None or now >= self._orphans_due:
                self._undo_orphan(replica, push_id)

    def _undo_orphan(self, replica: Replica, push_id: str) -> None:
        reason = f"push {push_id} is not running on this proxy (any more)"
        self._board.tell(replica.id, Undo(push_id=push_id, reason=reason))

    def _take_state(self, replica: Replica, state: ReplicaState, now: float) -> None:
        if state.id != replica.id:
            raise ProtocolError(f"replica {replica.id} calls itself {state.id} now")
        replica.state = state
        self._lease.adopt(state, now)
        if replica.unsure:
            self._resume(replica, now)

    def _of_push(self, replica: Replica, message: Message, now: float) -> None:
        attempt, push_id = self._lease.attempt, getattr(message, "push_id", "")
        if attempt is not None and attempt.words.push_id == push_id:
            if isinstance(message, Progress):
                self._pass_progress(replica.id, message)
            attempt.hear(replica.id, message, now)
        elif isinstance(message, Kept):  # the State that follows says where it is now
            replica.unsure = True
        elif isinstance(message, Undone | Failed):  # an old trial is gone: the replica is free
            replica.state = replace(replica.state, trial=None)
            self._resume(replica, now)

    def _pass_progress(self, replica_id: str, progress: Progress) -> None:
        for watcher in self._lease.turn.watchers if self._lease.turn is not None else ():
            self._board.say(watcher, replace(progress, replica=replica_id))
