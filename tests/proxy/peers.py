"""Sidecars and ides that keep the protocol, for a world without I/O: what they hear, what they say, what they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from codesync.protocol import (
    GENERATION_0,
    VERSIONS,
    Answer,
    AnswerError,
    BatchRef,
    Begin,
    Cancel,
    Chunk,
    EndRequest,
    Error,
    Failed,
    GetLogs,
    Granted,
    Hello,
    HistoryEntry,
    Hook,
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
    TreeRef,
    Trial,
    Tried,
    Try,
    Undo,
    Undone,
    Welcome,
)
from codesync.proxy.events import (
    Lost,
)

if TYPE_CHECKING:
    from tests.proxy.world import World

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
        """Answer what the link lets through."""

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
    asked: set[int] = field(default_factory=set)  # questions that are not answered to their end

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
        self.asked.clear()
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
            case GetLogs():
                self.asked.add(message.request)
            case EndRequest():
                self.asked.discard(message.request)  # it may cross our last piece
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

    def answer(self, *, last: bool) -> None:
        """A piece of every answer that is wanted."""
        for request in sorted(self.asked):
            self.say(Answer(request=request, data=b"a line", last=last))
        if last:
            self.asked.clear()

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
    hooks: tuple[Hook, ...] = ()
    requests: int = 0
    wanted: set[int] = field(default_factory=set)  # questions that are not answered to their end

    def connect(self) -> Ide:
        self.open()
        self.pending.clear()
        self.wanted.clear()
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
        self.say(
            Rollback(push_id=push_id, to=to, source="me@here:/app", description="back", hooks=self.hooks)
        )

    def follow(self, replica: str) -> int:
        """Ask for the logs of a replica. Returns the request's number."""
        self.requests += 1
        self.wanted.add(self.requests)
        self.say(GetLogs(request=self.requests, replica=replica, lines=10, follow=True))
        return self.requests

    def end_request(self, request: int) -> None:
        self.wanted.discard(request)
        self.say(EndRequest(request=request))

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
        elif isinstance(message, AnswerError) or (isinstance(message, Answer) and message.last):
            self.wanted.discard(message.request)
        elif isinstance(message, Outcome) or (isinstance(message, Error) and message.push_id):
            self.pending.clear()
            self.ends.append(message)
            assert len(self.ends) <= self.asked, "more ends than beginnings"

    def _plan(self, granted: Granted) -> None:
        if self.link.step is not Step.PLANNING:
            return  # it was cancelled meanwhile
        trees = dict.fromkeys(replica.tree for replica in granted.deployment.replicas)
        batches = tuple(BatchRef(base=tree, target=self.target, hooks=self.hooks) for tree in trees)
        push = Push(push_id=granted.push_id, batches=batches, timings_ms={"scan": 1})
        self.pending.append(push)
        for index in range(len(trees)):
            for last in (False, True):
                data = f"{granted.push_id} {index} {last}".encode()
                self.pending.append(Chunk(push_id=granted.push_id, batch=index, data=data, last=last))
        while self.eager and self.pending:
            self.send_one()

    def send_one(self) -> None:
        self.say(self.pending.popleft())
