"""A deployment's whole world without I/O: a clock, wires that can be cut, sidecars and ides that keep the protocol.

Every message of every side passes a Link, so that a test fails as soon as anybody says what is not legal. What must
hold in every history is checked here while it happens.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from codesync.protocol import (
    GENERATION_0,
    KEPT_STATUSES,
    VERSIONS,
    BatchRef,
    Begin,
    Cancel,
    Chunk,
    Error,
    Failed,
    Granted,
    Hello,
    HistoryEntry,
    Keep,
    Kept,
    Link,
    Message,
    Outcome,
    Progress,
    Push,
    ReplicaReport,
    ReplicaState,
    Result,
    Rollback,
    Side,
    Stage,
    Staged,
    StageTree,
    State,
    Step,
    Timeouts,
    TreeRef,
    Trial,
    Tried,
    Try,
    Undo,
    Undone,
    Welcome,
    decode,
    encode,
)
from codesync.proxy.chain import Chain
from codesync.proxy.coordinator import Deployment
from codesync.proxy.events import (
    Close,
    Command,
    DropSpool,
    Event,
    KeepSpool,
    Lost,
    Note,
    Opened,
    Received,
    Relay,
    Relayed,
    Send,
    SpoolChunk,
    Spooled,
    Stored,
    Unrelay,
    Woken,
)

EPOCH = 1_700_000_000.0


def ref(number: int) -> TreeRef:
    """A tree, by number."""
    return TreeRef(f"{number:064x}", f"{number + 1:064x}")


IMAGE = ref(0)


@dataclass(eq=False)
class End:
    """One end of a connection that is not the proxy's."""

    world: World
    side: Side
    connection: int = 0
    link: Link = field(init=False)
    inbox: deque[Message | None] = field(default_factory=deque)  # None: closed
    outbox: deque[Message] = field(default_factory=deque)
    heard: list[Message] = field(default_factory=list)
    closed: tuple[int, str] | None = None

    @property
    def connected(self) -> bool:
        return self.connection != 0

    def open(self) -> None:
        """A new connection; the old one, if any, is left behind without a word."""
        self.connection = self.world.open(self)
        self.link = Link(self.side, Side.PROXY)
        self.inbox.clear()
        self.outbox.clear()
        self.closed = None

    def cut(self) -> None:
        """The connection breaks, and the proxy notices."""
        if self.connection:
            connection, self.connection = self.connection, 0
            self.world.ends.pop(connection, None)
            self.world.forget_verdict(self)
            self.world.feed(Lost(connection))

    def say(self, message: Message) -> None:
        if self.connection:
            self.link.send(message)
            self.outbox.append(message)

    def hear_one(self) -> None:
        message = self.inbox.popleft()
        if message is None:
            self.world.ends.pop(self.connection, None)
            self.connection = 0
            self.lost()
            return
        self.heard.append(message)
        if self.link.receive(message):
            self.hear(message)

    def hear(self, message: Message) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        """The proxy has closed the connection."""


@dataclass(eq=False)
class Sidecar(End):
    """A replica as docs/protocol.md has it. `plan` says how trials end: healthy, unhealthy, fail (to stage), hang."""

    name: str = "r1"
    tree: TreeRef = IMAGE
    launcher: str = "ready"
    plan: str = "healthy"
    status: str = "healthy"
    history: tuple[HistoryEntry, ...] = (HistoryEntry(push_id=GENERATION_0, generation=0, tree=IMAGE),)
    results: tuple[Result, ...] = ()
    trial: Trial | None = None
    target: TreeRef = IMAGE
    words: Stage | StageTree | None = None
    deadline: float | None = None
    verdict: Tried | None = None
    received: list[bytes] = field(default_factory=list)
    unsaid: list[Message] = field(default_factory=list)

    @property
    def state(self) -> ReplicaState:
        return ReplicaState(
            id=self.name,
            tree=self.tree,
            generation=self.history[-1].generation,
            launcher=self.launcher,
            trial=self.trial,
            history=self.history,
            results=self.results,
        )

    def say(self, message: Message) -> None:
        """Between Hello and Welcome nothing may be said: it waits."""
        if self.connection and self.link.step is Step.GREETED:
            self.unsaid.append(message)
        else:
            super().say(message)

    def connect(self) -> Sidecar:
        self.open()
        self.unsaid.clear()
        self.words = None if self.trial is None else self.words
        self.say(Hello(versions=VERSIONS, software="test", replica=self.state))
        return self

    def report(self, status: str) -> ReplicaReport:
        return ReplicaReport(id=self.name, status=status, generation=self.history[-1].generation)

    def hear(self, message: Message) -> None:
        match message:
            case Welcome():
                if self.verdict is not None and self.trial is not None:
                    self.unsaid.insert(0, self.verdict)
                while self.unsaid:
                    self.say(self.unsaid.pop(0))
            case Stage():
                self.words, self.received = message, []
                assert message.base == self.tree, "a batch for another tree"
            case Chunk():
                self.received.append(message.data)
                if message.last:
                    self._stage()
            case StageTree():
                self.words = message
                self._stage()
            case Try():
                self.trial = Trial(push_id=message.push_id, phase="trying")
                self.deadline = self.world.now + message.deadline_s
                if self.plan != "hang":
                    self.judge()
            case Keep():
                self._keep(message)
            case Undo():
                self.undo(message.push_id)
            case Error():
                pass
            case _:
                raise AssertionError(f"what is a sidecar to do with {message}?")

    def _stage(self) -> None:
        assert self.words is not None
        push_id = self.words.push_id
        if self.plan == "fail":
            self.words = None
            self.say(Failed(push_id=push_id, phase="stage", code="stage_failed", message="the disk is full"))
            return
        self.target = self.words.target if isinstance(self.words, Stage) else self.words.tree
        self.trial, self.deadline, self.verdict = (
            Trial(push_id=push_id, phase="staged"),
            self.world.now + 180,
            None,
        )
        self.say(Progress(push_id=push_id, stage="apply", done=1, total=1))
        self.say(Staged(push_id=push_id))

    def judge(self) -> None:
        """The launcher's verdict arrives."""
        if self.trial is None or self.trial.phase != "trying" or self.verdict is not None:
            return
        healthy = self.plan != "unhealthy"
        status = self.status if healthy else "rolled_back"
        if healthy:
            self.trial = replace(self.trial, phase="healthy")
        self.verdict = Tried(push_id=self.trial.push_id, healthy=healthy, report=self.report(status))
        self.say(self.verdict)

    def _keep(self, message: Keep) -> None:
        assert self.trial == Trial(push_id=message.push_id, phase="healthy")
        assert self.words is not None
        assert self.verdict is not None
        self.tree = self.target
        restores = self.words.restores if isinstance(self.words, StageTree) else ""
        entry = HistoryEntry(
            push_id=message.push_id,
            generation=self.history[-1].generation + 1,
            tree=self.tree,
            at=self.world.now + EPOCH,
            restores=restores,
        )
        self.history = (*self.history, entry)[-20:]
        status = self.verdict.report.status
        self._remember(status)
        self.trial = self.deadline = None
        self.say(Kept(push_id=message.push_id, report=self.report(status)))
        self.say(State(replica=self.state))

    def undo(self, push_id: str) -> None:
        """Told to, or at the deadline."""
        if self.trial is not None and self.trial.push_id == push_id:
            if self.trial.phase != "staged":
                self._remember("rolled_back")
            self.trial = self.deadline = None
        self.words = None
        self.say(Undone(push_id=push_id, report=self.report("rolled_back")))
        self.say(State(replica=self.state))

    def _remember(self, status: str) -> None:
        assert self.trial is not None
        tree_id = self.words.source_tree_id if isinstance(self.words, Stage) else ""
        result = Result(push_id=self.trial.push_id, source_tree_id=tree_id, status=status, tree=self.tree)
        self.results = (*self.results, result)[-64:]

    def tick(self) -> None:
        if self.deadline is not None and self.world.now >= self.deadline and self.trial is not None:
            self.undo(self.trial.push_id)


@dataclass(eq=False)
class Ide(End):
    """A client that plans as soon as it is granted a push, and sends when told to (`send_one`) or at once."""

    eager: bool = True
    ends: list[Outcome | Error] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    asked: int = 0
    pending: deque[Message] = field(default_factory=deque)
    target: TreeRef = IMAGE

    def connect(self) -> Ide:
        self.open()
        self.pending.clear()
        self.asked = 0
        self.ends.clear()
        self.say(Hello(versions=VERSIONS, software="test", source="me@here:/app"))
        return self

    def begin(self, push_id: str, number: int) -> None:
        self.target, self.asked = ref(number), self.asked + 1
        tree_id = self.target.tree_id
        self.say(
            Begin(push_id=push_id, source="me@here:/app", description="a change", source_tree_id=tree_id)
        )

    def roll_back(self, push_id: str, to: str = "") -> None:
        self.asked += 1
        self.say(Rollback(push_id=push_id, to=to, source="me@here:/app", description="back"))

    def cancel(self) -> None:
        self.pending.clear()
        self.say(Cancel(push_id=self.link.push_id))

    @property
    def may_begin(self) -> bool:
        return self.connected and self.link.step is Step.READY

    @property
    def end(self) -> Outcome | Error:
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    @property
    def outcome(self) -> Outcome:
        assert isinstance(self.end, Outcome), self.end
        return self.end

    @property
    def error(self) -> Error:
        assert isinstance(self.end, Error), self.end
        return self.end

    def hear(self, message: Message) -> None:
        if isinstance(message, Granted):
            self._plan(message)
        elif isinstance(message, Progress):
            self.progress.append(message)
        elif isinstance(message, Outcome) or (isinstance(message, Error) and message.push_id):
            self.pending.clear()
            self.ends.append(message)
            assert len(self.ends) <= self.asked, "more ends than beginnings"

    def _plan(self, granted: Granted) -> None:
        if self.link.step is not Step.PLANNING:
            return  # it was cancelled meanwhile
        trees = dict.fromkeys(replica.tree for replica in granted.deployment.replicas)
        push = Push(
            push_id=granted.push_id, batches=tuple(BatchRef(base=t, target=self.target) for t in trees)
        )
        self.pending.append(push)
        for index in range(len(trees)):
            for last in (False, True):
                data = f"{granted.push_id} {index} {last}".encode()
                self.pending.append(Chunk(push_id=granted.push_id, batch=index, data=data, last=last))
        while self.eager and self.pending:
            self.send_one()

    def send_one(self) -> None:
        self.say(self.pending.popleft())


class World:
    """Call `run` to let everything that is on the wires arrive, `wait` to let time pass."""

    def __init__(self, *, timeouts: Timeouts | None = None, chain: Chain | None = None) -> None:
        self.now = 1000.0
        self.timeouts = timeouts or Timeouts()
        self.ends: dict[int, End] = {}
        self.all: list[End] = []
        self.notes: list[Note] = []
        self.commands: list[Command] = []
        self.spools: dict[Spooled, list[Chunk]] = {}
        self.stored: dict[str, list[Chunk]] = {}
        self.index: object = None
        self.relays: dict[int, tuple[Relay, int]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._healthy: set[tuple[str, str]] = set()
        self._staged: dict[str, set[str]] = {}
        self._keeping: set[str] = set()
        self._next = 1
        self._pumping = False
        self.may_fault = True
        self.deployment = self._deploy(chain)

    def _deploy(self, chain: Chain | None) -> Deployment:
        return Deployment(
            "shop",
            "dev",
            software="test",
            epoch=EPOCH,
            chain=chain,
            timeouts=self.timeouts,
            neighbours=lambda: ["shop/dev"],
        )

    # -- making it ---------------------------------------------------------------------------------------------------

    def sidecar(
        self, name: str = "r1", *, plan: str = "healthy", tree: TreeRef = IMAGE, greet: bool = True
    ) -> Sidecar:
        history = (HistoryEntry(push_id=GENERATION_0, generation=0, tree=tree),)
        sidecar = Sidecar(self, Side.SIDECAR, name=name, plan=plan, tree=tree, history=history)
        self.all.append(sidecar.connect())
        if greet:
            self.run()
        return sidecar

    def ide(self, *, eager: bool = True, greet: bool = True) -> Ide:
        ide = Ide(self, Side.IDE, eager=eager)
        self.all.append(ide.connect())
        if greet:
            self.run()
        return ide

    def open(self, end: End) -> int:
        connection, self._next = self._next, self._next + 1
        self.ends[connection] = end
        self.feed(Opened(connection, end.side))
        return connection

    def restart(self) -> None:
        """The proxy dies and another one starts with what was on its disk."""
        for end in self.all:
            end.connection = 0
        self.ends.clear()
        self.relays.clear()
        self.spools.clear()
        self.outcomes.clear()
        self._healthy.clear()
        self._staged.clear()
        self.deployment = self._deploy(
            Chain.from_json(json.loads(json.dumps(self.index))) if self.index else None
        )

    # -- running it --------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        for command in self.deployment.receive(event, self.now):
            self.commands.append(command)
            self._do(command)
        due = self.deployment.next_deadline
        assert due is None or due > self.now or not isinstance(event, Woken), "a wait that does not end"
        self._pump()

    def run(self) -> None:
        """Deliver everything, until nobody has anything to say."""
        for _ in range(10_000):
            busy = [end for end in self.all if end.connected and (end.inbox or end.outbox)]
            if not busy:
                return
            for end in busy:
                if end.inbox:
                    end.hear_one()
                elif end.outbox and end.connected:
                    self.deliver(end)
        raise AssertionError("they never stop talking")

    def deliver(self, end: End) -> None:
        """One message to the proxy."""
        message = decode(encode(end.outbox.popleft()))
        self._watch(end, message)
        if end.connection in self.ends:
            self.feed(Received(end.connection, message))

    def wait(self, seconds: float) -> None:
        """Let time pass, with everything delivered all the time."""
        end = self.now + seconds
        self.run()
        while True:
            due = self.deployment.next_deadline
            assert due is None or due >= self.now, "a deadline in the past"
            self.now = end if due is None else min(end, due)
            self.feed(Woken())
            for sidecar in self.sidecars:
                sidecar.tick()
            self.run()
            if self.now >= end:
                return

    def skip(self, seconds: float) -> None:
        """Let time pass with nothing delivered."""
        end = self.now + seconds
        while self.now < end:
            due = self.deployment.next_deadline
            self.now = end if due is None else min(end, max(due, self.now))
            self.feed(Woken())
            for sidecar in self.sidecars:
                sidecar.tick()

    @property
    def sidecars(self) -> Iterator[Sidecar]:
        return (end for end in self.all if isinstance(end, Sidecar))

    # -- doing what the coordinator says -----------------------------------------------------------------------------

    def _do(self, command: Command) -> None:
        match command:
            case Send():
                message = decode(encode(command.message))
                self._check(command.connection, message)
                if command.connection in self.ends:
                    self._inbox(command.connection).append(message)
            case Close():
                if command.connection in self.ends:
                    end = self.ends.pop(command.connection)
                    if end.connection == command.connection:
                        end.inbox.append(None)
                        end.closed = (command.code, command.reason)
                self.relays.pop(command.connection, None)
            case SpoolChunk():
                chunk = Chunk(push_id=command.spool.push_id, data=command.data, last=command.last)
                self.spools.setdefault(command.spool, []).append(chunk)
            case Relay():
                self.relays[command.connection] = (command, 0)
            case Unrelay():
                self.relays.pop(command.connection, None)
            case DropSpool():
                self._pop_spools(command.push_id)
            case KeepSpool():
                self._keep_spool(command)
            case Note():
                self.notes.append(command)
                assert command.kind != "fault" or self.may_fault, command.facts
                if "status" in command.facts:  # a turn is over
                    self._staged.pop(str(command.facts["push_id"]), None)

    def _inbox(self, connection: int) -> deque[Message | None]:
        end = self.ends[connection]
        return end.inbox if end.connection == connection else deque()

    def _keep_spool(self, command: KeepSpool) -> None:
        spools = self._pop_spools(command.push_id)
        self.stored.update({name: spools[number] for number, name in command.names.items()})
        for name in command.evicted:
            del self.stored[name]
        self.index = command.index

    def _pop_spools(self, push_id: str) -> dict[int, list[Chunk]]:
        mine = [spooled for spooled in self.spools if spooled.push_id == push_id]
        return {spooled.batch: self.spools.pop(spooled) for spooled in mine}

    def _pump(self) -> None:
        """What the relays can send goes on the wires."""
        while not self._pumping and (connection := next(self._sendable(), 0)):
            self._pumping = True
            relay, done = self.relays[connection]
            chunk = replace(self._content(relay)[done], push_id=relay.push_id)
            self.relays[connection] = (relay, done + 1)
            if chunk.last:
                del self.relays[connection]
            self._inbox(connection).append(chunk)
            self.feed(Relayed(connection, relay.push_id, chunk.last))
            self._pumping = False

    def _sendable(self) -> Iterator[int]:
        for connection, (relay, done) in self.relays.items():
            if connection in self.ends and done < len(self._content(relay)):
                yield connection

    def _content(self, relay: Relay) -> list[Chunk]:
        content = relay.content
        return self.stored[content.name] if isinstance(content, Stored) else self.spools.get(content, [])

    # -- what must always hold ---------------------------------------------------------------------------------------

    def _watch(self, end: End, message: Message) -> None:
        """What the proxy is told of trials."""
        if not isinstance(end, Sidecar) or end.connection not in self.ends:
            return
        match message:
            case Tried(healthy=True):
                self._healthy.add((message.push_id, end.name))
            case Undone() | Failed() | Tried():
                self._healthy.discard((message.push_id, end.name))
            case Kept():
                self._staged.get(message.push_id, set()).discard(end.name)
            case Hello(replica=ReplicaState() as state):
                self.forget_verdict(end)
                if state.trial is not None and state.trial.phase == "healthy":
                    self._healthy.add((state.trial.push_id, end.name))

    def forget_verdict(self, end: End) -> None:
        """The proxy cannot speak to it any more, so it must not rely on what it said."""
        if isinstance(end, Sidecar):
            self._healthy = {pair for pair in self._healthy if pair[1] != end.name}

    def _check(self, connection: int, message: Message) -> None:
        end = self.ends.get(connection)
        if isinstance(end, Sidecar) and isinstance(message, Stage | StageTree):
            self._staged.setdefault(message.push_id, set()).add(end.name)
            self._keeping.discard(message.push_id)
        elif isinstance(end, Sidecar) and isinstance(message, Undo):
            self._staged.get(message.push_id, set()).discard(end.name)
        elif isinstance(message, Keep) and message.push_id not in self._keeping:
            self._keeping.add(message.push_id)
            unsure = {
                name for name in self._staged[message.push_id] if (message.push_id, name) not in self._healthy
            }
            assert not unsure, f"keep though {unsure} did not say healthy"
        elif isinstance(message, Outcome):
            if message.push_id not in self.outcomes:
                self.outcomes[message.push_id] = message
                self._check_outcome(message)
            assert self.outcomes[message.push_id] == message, "two outcomes of one push"

    def _check_outcome(self, outcome: Outcome) -> None:
        have = {s.name for s in self.sidecars if any(entry.push_id == outcome.push_id for entry in s.history)}
        told = {report.id for report in outcome.replicas if report.status in KEPT_STATUSES}
        assert told <= have, f"{told} are said to have kept it, {have} have"
        undone = {report.id for report in outcome.replicas if report.status == "rolled_back"}
        assert not undone & have, f"{undone} are said to have undone it, {have} have it"
        if outcome.status in KEPT_STATUSES:
            assert told == {report.id for report in outcome.replicas}
