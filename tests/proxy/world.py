"""A deployment's whole world without I/O: a clock, wires that can be cut, sidecars and ides that keep the protocol.

Every message of every side passes a Link, so that a test fails as soon as anybody says what is not legal. What must
hold in every history is checked here while it happens.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from codesync.protocol import (
    GENERATION_0,
    KEPT_STATUSES,
    Chunk,
    Code,
    Error,
    Failed,
    Hello,
    HistoryEntry,
    Keep,
    Kept,
    Message,
    Outcome,
    Progress,
    ReplicaState,
    Side,
    Stage,
    StageTree,
    Timeouts,
    TreeRef,
    Tried,
    Undo,
    Undone,
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
from tests.proxy.peers import EPOCH, IMAGE, End, Ide, Sidecar


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
        self._undoing: dict[tuple[str, str], float] = {}
        self._waiting: set[tuple[int, str]] = set()  # connections that have been told to wait for their turn
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
        self._undoing.clear()
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
                if isinstance(message, Undone):
                    self._undoing.pop((message.push_id, end.name), None)
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
            self._undoing = {pair: since for pair, since in self._undoing.items() if pair[1] != end.name}

    def _check(self, connection: int, message: Message) -> None:
        end = self.ends.get(connection)
        if isinstance(end, Sidecar) and isinstance(message, Stage | StageTree):
            self._staged.setdefault(message.push_id, set()).add(end.name)
            self._keeping.discard(message.push_id)
        elif isinstance(end, Sidecar) and isinstance(message, Undo):
            if end.name in self._staged.get(message.push_id, set()):
                self._staged[message.push_id].discard(end.name)
                self._undoing[message.push_id, end.name] = self.now
        elif isinstance(message, Progress):
            waits = {(connection, message.push_id)}
            self._waiting = self._waiting | waits if message.stage == "wait" else self._waiting - waits
        elif isinstance(message, Error) and message.code == Code.CANCELLED:
            # who has only waited, for another one's push of the same id, has nothing undone
            if (connection, message.push_id) not in self._waiting:
                self._check_cancelled(message.push_id)
        elif isinstance(message, Keep) and message.push_id not in self._keeping:
            self._keeping.add(message.push_id)
            unsure = {
                name
                for name in self._staged.get(message.push_id, ())
                if (message.push_id, name) not in self._healthy
            }
            assert not unsure, f"keep though {unsure} did not say healthy"
        elif isinstance(message, Outcome):
            if message.push_id not in self.outcomes:
                self.outcomes[message.push_id] = message
                self._check_outcome(message)
            assert self.outcomes[message.push_id] == message, "two outcomes of one push"

    def _check_cancelled(self, push_id: str) -> None:
        """Whoever was told to undo it has said so, or had its time."""
        recent = self.now - self.timeouts.undo
        early = {
            name for (other, name), since in self._undoing.items() if other == push_id and since > recent
        }
        assert not early, f"cancelled before {early} said that it has undone it"

    def _check_outcome(self, outcome: Outcome) -> None:
        have = {s.name for s in self.sidecars if any(entry.push_id == outcome.push_id for entry in s.history)}
        told = {report.id for report in outcome.replicas if report.status in KEPT_STATUSES}
        assert told <= have, f"{told} are said to have kept it, {have} have"
        undone = {report.id for report in outcome.replicas if report.status == "rolled_back"}
        assert not undone & have, f"{undone} are said to have undone it, {have} have it"
        if outcome.status in KEPT_STATUSES:
            assert told == {report.id for report in outcome.replicas}


# -- the usual beginnings --------------------------------------------------------------------------------------------


def kinds(sidecar: Sidecar) -> list[type]:
    return [type(message) for message in sidecar.heard if not isinstance(message, Chunk)]


def halfway(world: World, *names: str) -> tuple[list[Sidecar], Ide]:
    """A push whose chunks are half sent."""
    sidecars = [world.sidecar(name, plan="hang") for name in names]
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    ide.send_one()
    world.run()
    return sidecars, ide


def on_trial(world: World, *names: str) -> tuple[list[Sidecar], Ide]:
    """A push that all replicas are trying."""
    sidecars, ide = halfway(world, *names)
    ide.send_one()
    world.run()
    return sidecars, ide


def judge(world: World, *sidecars: Sidecar, plan: str = "healthy") -> None:
    for sidecar in sidecars:
        sidecar.plan = plan
        sidecar.judge()
    world.run()


def push_all(world: World, *numbers: int) -> Ide:
    ide = world.ide()
    for number in numbers:
        ide.begin(f"p{number}", number)
        world.run()
    assert all(isinstance(end, Outcome) and end.status == "healthy" for end in ide.ends)
    return ide
