"""The application's output, from the launchers' memory: the last lines once, or followed over lost connections.

What replicas send is not trusted: bounded and checked. Text may hold anything that a terminal would obey; whoever shows it
must see to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from codesync.client.records import Record, malformed, read_lines
from codesync.client.results import ClientError, checked_push_id
from codesync.client.session import Session, asking, no_replica
from codesync.client.zstd import MALFORMED
from codesync.config import Settings
from codesync.connection import backoff
from codesync.protocol import MAX_LOG_LINES, DeploymentState

OWN_STREAMS = ("stdout", "stderr")  # what the application itself has written
STREAMS = (*OWN_STREAMS, "codesync")
LOOK_SECONDS = 3.0  # between two looks for replicas that have come
QUEUED_LINES = 1000  # that a follower has not taken yet, before replicas have to wait
AT_ONCE = 8  # questions that are open at a time
MAX_FOLLOWED = 16  # the proxy keeps no more questions of a connection open
LASTING = frozenset(  # codes of errors that asking again cannot help
    {
        "unauthorized",
        "unknown_deployment",
        "unknown_push",
        "unsupported",
        "version",
        "bad_message",
        "too_large",
    }
)

LOGS_STEPS: dict[str, str] = {
    "some": "If the application is not well: mend the code and push again, or roll back.",
    "none": "The application has written nothing that is still remembered; ask without since_push, or look at status.",
    "unknown": "Where there is a reason nothing is remembered of that push, and the lines are all that there are; history lists pushes.",
    "missing": "Where there is a reason the output could not be read; look at status.",
}


class LogLine(NamedTuple):
    """One line of output. `at` is in Unix seconds; `stream` stdout, stderr, or codesync for the launcher's own remarks."""

    replica: str
    at: float
    stream: str
    push_id: str
    text: str


@dataclass
class ReplicaLogs:
    """The last lines of one replica, oldest first; the launcher's remarks begin with `codesync: `.

    `reason`: why there are none, or why they are not those since the push that was named.
    """

    id: str
    lines: list[str]
    reason: str = ""


@dataclass
class LogsResult:
    """The output of the replicas that were asked."""

    app_id: str
    deployment_id: str
    replicas: list[ReplicaLogs]
    next_step: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class LogQuery:
    """Which lines: the last `lines`, of those since `since_push` came in, of one replica or ("") of all."""

    lines: int
    since_push: str
    replica: str

    @classmethod
    def of(cls, lines: int, since_push: str | None, replica: str | None) -> LogQuery:
        """Check what a caller asks for. Raises ClientError."""
        if not 0 <= lines <= MAX_LOG_LINES:
            raise ClientError(f"lines must be 0 to {MAX_LOG_LINES}, not {lines}", code="too_large")
        return cls(lines, checked_push_id(since_push) if since_push else "", replica or "")

    def chosen(self, deployment: DeploymentState) -> list[str]:
        """The ids of the replicas to ask. Raises ClientError."""
        known = [state.id for state in deployment.replicas]
        if not known:
            raise no_replica(deployment)
        if self.replica and self.replica not in known:
            message = f"no replica {self.replica[:140]!r} is connected; there are: {', '.join(known)}"
            raise ClientError(message, code="no_replica")
        return [self.replica] if self.replica else known


# --- once -------------------------------------------------------------------------------------------------------------


async def logs(
    settings: Settings, *, lines: int = 200, since_push: str | None = None, replica: str | None = None
) -> LogsResult:
    """Ask for the last lines (at most 10,000) of the application's output, of one replica or of all.

    `since_push`: only what was written while that push, or a later one, ran.

    Raises:
        UserError: no replica, or none that answers: one line that says what to do.
    """
    query = LogQuery.of(lines, since_push, replica)
    async with asking(settings) as session:
        deployment = session.deployment
        turns = asyncio.Semaphore(AT_ONCE)
        asked = (_last_lines(session, name, query, turns) for name in query.chosen(deployment))
        found = await asyncio.gather(*asked)
    answers = [answer for answer, _ in found]
    kinds = {kind for _, kind in found}
    kind = next(kind for kind in ("missing", "unknown", "some", "none") if kind in kinds)
    return LogsResult(deployment.app_id, deployment.deployment_id, answers, LOGS_STEPS[kind])


async def _last_lines(
    session: Session, replica: str, query: LogQuery, turns: asyncio.Semaphore
) -> tuple[ReplicaLogs, str]:
    """One replica's answer, and which of LOGS_STEPS it calls for."""
    async with turns:
        try:
            piece = read_log(await session.logs(replica, query.lines, query.since_push), replica)
        except ClientError as error:
            if query.replica:
                raise
            return ReplicaLogs(replica, [], str(error)), "missing"
    kind = "some" if any(line.stream in OWN_STREAMS for line in piece.lines) else "none"
    found = ReplicaLogs(replica, [shown(line) for line in piece.lines])
    if not piece.known:
        found.reason, kind = _not_remembered(replica, query), "unknown"
    return found, kind


def _not_remembered(replica: str, query: LogQuery) -> str:
    return (
        f"replica {replica} remembers nothing of push {query.since_push}; these are the last lines there are"
    )


class LogPiece(NamedTuple):
    """A piece of an answer. `known`: something is remembered of the push that was named."""

    lines: list[LogLine]
    known: bool


def read_log(data: bytes, replica: str) -> LogPiece:
    """Read a piece of an answer, cut at a line's end. Raises ClientError."""
    what = f"the log of replica {replica}"
    try:
        records = read_lines(data, what)
        known = not records or records[0].flag("known", default=True)
        return LogPiece([_line(record, replica) for record in records[not known :]], known)
    except MALFORMED as error:
        raise malformed(what, error) from error


def _line(record: Record, replica: str) -> LogLine:
    stream = record.one_of("stream", STREAMS)
    return LogLine(replica, record.time("at"), stream, record.text("push_id"), record.text("text"))


def shown(line: LogLine) -> str:
    """A line's text; a remark of the launcher says whose it is."""
    return f"codesync: {line.text}" if line.stream == "codesync" else line.text


# --- followed ---------------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """How far a replica was heard: the time of its last line, and how many lines had that time."""

    at: float
    lines: int


class _Lost(NamedTuple):
    """Why a replica is not heard any more."""

    replica: str
    error: Exception


# a list: there are these replicas; None: one of them has ended
_Queue = asyncio.Queue[LogLine | list[str] | _Lost | None]


async def follow_logs(
    settings: Settings,
    *,
    lines: int = 200,
    since_push: str | None = None,
    replica: str | None = None,
    on_lost: Callable[[str], None] = lambda _: None,
    on_remark: Callable[[str], object] = lambda _: None,
) -> AsyncGenerator[LogLine]:
    """Yield the last lines and then every further one as it is written, until the iterator is closed.

    It ends by itself only where no launcher keeps a log. A connection or replica that is lost is taken up again where it
    was, for as long as it takes; `on_lost` is told why, one line. Unless one is named, replicas that come later are heard
    within seconds. `on_remark` is told, a line each, which replicas remember nothing of `since_push`, or are too many.
    Close it in the task that reads it: `contextlib.aclosing`.

    Raises:
        UserError: what is wrong from the beginning, or cannot become better: one line that says what to do.
    """
    query = LogQuery.of(lines, since_push, replica)
    follower = _Follower(settings, query, on_lost, on_remark)
    waits, begun = backoff(), False
    while True:
        try:
            async with asking(settings) as session:
                names = query.chosen(session.deployment)
                if not begun:
                    _check_number(names)
                begun = True
                async with aclosing(follower.hear(session, names)) as heard:
                    async for line in heard:
                        waits = backoff()
                        yield line
                return
        except ClientError as error:
            if not begun or error.code in LASTING:
                raise
            on_lost(str(error))
        await asyncio.sleep(next(waits))


def _check_number(names: list[str]) -> None:
    if len(names) > MAX_FOLLOWED:
        message = f"{len(names)} replicas, and only {MAX_FOLLOWED} can be followed at once; name one of {', '.join(names)}"
        raise ClientError(message, code="too_large")


class _Follower:
    """What is heard on one connection after the other."""

    def __init__(
        self,
        settings: Settings,
        query: LogQuery,
        on_lost: Callable[[str], None],
        on_remark: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._query = query
        self._on_lost = on_lost
        self._on_remark = on_remark
        self._seen: dict[str, _Seen] = {}
        self._lost: dict[str, str] = {}  # what was told of replicas that are not heard
        self._told: set[str] = set()  # remarks

    async def hear(self, session: Session, names: list[str]) -> AsyncGenerator[LogLine]:
        """What comes on this connection, until each replica has ended. Raises ClientError when it, or the last one, is lost."""
        queue: _Queue = asyncio.Queue(QUEUED_LINES)
        listening: dict[str, asyncio.Task[None]] = {}
        looking = None if self._query.replica else asyncio.create_task(self._look(queue))
        ended = 0
        try:
            self._listen_to(names, session, queue, listening)
            while ended < len(listening):
                match await queue.get():
                    case LogLine() as line:
                        self._seen[line.replica] = _further(self._seen.get(line.replica), line)
                        self._lost.pop(line.replica, None)
                        yield line
                    case list() as there:
                        self._listen_to(there, session, queue, listening)
                    case None:
                        ended += 1
                    case _Lost() as lost:
                        del listening[lost.replica]
                        self._lose(lost, is_last=len(listening) == ended)
        finally:
            tasks = [*listening.values(), *filter(None, [looking])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _listen_to(
        self, names: list[str], session: Session, queue: _Queue, listening: dict[str, asyncio.Task[None]]
    ) -> None:
        """Begin with those that are not listened to, as many as can be."""
        for name in names:
            if name in listening:
                continue
            if len(listening) < MAX_FOLLOWED:
                listening[name] = asyncio.create_task(self._listen(session, name, queue))
            else:
                self._remark_once(f"replica {name} is not heard: only {MAX_FOLLOWED} can be followed at once")

    def _lose(self, lost: _Lost, *, is_last: bool) -> None:
        """While others are heard, one that is lost is found again by looking. Raises what else it was."""
        error = lost.error
        if is_last or not isinstance(error, ClientError) or error.code in LASTING:
            raise error
        if self._lost.get(lost.replica) != str(error):
            self._lost[lost.replica] = str(error)
            self._on_lost(str(error))

    async def _look(self, queue: _Queue) -> None:
        """Tell which replicas there are, again and again: the proxy tells it only to whoever connects."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(ClientError):  # the connection that is listened on notices what is wrong
                async with asking(self._settings) as session:
                    await queue.put([state.id for state in session.deployment.replicas])

    async def _listen(self, session: Session, name: str, queue: _Queue) -> None:
        seen = self._seen.get(name)
        lines = MAX_LOG_LINES if seen else self._query.lines
        place: _Seen | None = None
        try:
            async for data in session.follow(name, lines, self._query.since_push):
                piece = read_log(data, name)
                if not (piece.known or seen or place):
                    self._remark_once(_not_remembered(name, self._query))
                for line in piece.lines:
                    place = _further(place, line)
                    if seen is None or place > seen:
                        await queue.put(line)
            await queue.put(None)
        except Exception as error:  # whatever it is, it belongs to whoever reads the lines
            await queue.put(_Lost(name, error))

    def _remark_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._on_remark(text)


def _further(place: _Seen | None, line: LogLine) -> _Seen:
    """The place after this line. A clock that was set back does not take us back."""
    if place is None or line.at > place.at:
        return _Seen(line.at, 1)
    return _Seen(place.at, place.lines + 1)
