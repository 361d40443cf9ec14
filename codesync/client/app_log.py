"""The application's output, from the launchers' memory: the last lines once, or followed over lost connections.

What replicas send is not trusted: bounded and checked. Text may hold anything that a terminal would obey; whoever shows it
must see to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from codesync.client.records import Record, malformed, read_lines
from codesync.client.results import ClientError
from codesync.client.session import Session, asking, no_replica
from codesync.client.zstd import MALFORMED
from codesync.config import Settings
from codesync.connection import backoff
from codesync.protocol import MAX_LOG_LINES, DeploymentState, is_id

STREAMS = ("stdout", "stderr", "codesync")
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
    """The last lines of one replica, oldest first; the launcher's remarks begin with `codesync: `. `reason`: why there are none."""

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
        if since_push and not is_id(since_push):
            raise ClientError(f"{since_push[:140]!r} is no push_id; history lists them", code="unknown_push")
        return cls(lines, since_push or "", replica or "")

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
    if len(found) == 1 and isinstance(found[0], ClientError):
        raise found[0]
    answers = [answer for answer in found if isinstance(answer, ReplicaLogs)]
    missing = any(answer.reason for answer in answers)
    kind = "missing" if missing else "some" if any(answer.lines for answer in answers) else "none"
    return LogsResult(deployment.app_id, deployment.deployment_id, answers, LOGS_STEPS[kind])


async def _last_lines(
    session: Session, replica: str, query: LogQuery, turns: asyncio.Semaphore
) -> ReplicaLogs:
    async with turns:
        try:
            data = await session.logs(replica, query.lines, query.since_push)
            return ReplicaLogs(replica, [shown(line) for line in read_log(data, replica)])
        except ClientError as error:
            if query.replica:
                raise
            return ReplicaLogs(replica, [], str(error))


def read_log(data: bytes, replica: str) -> list[LogLine]:
    """Read a piece of an answer, cut at a line's end. Raises ClientError."""
    what = f"the log of replica {replica}"
    try:
        return [_line(record, replica) for record in read_lines(data, what)]
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


_Queue = asyncio.Queue[LogLine | Exception | None]  # None: one of them has ended, there is no more


async def follow_logs(
    settings: Settings,
    *,
    lines: int = 200,
    since_push: str | None = None,
    replica: str | None = None,
    on_lost: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[LogLine]:
    """Yield the last lines and then every further one as it is written, until the iterator is closed.

    It ends by itself only where no launcher keeps a log. A connection that is lost is taken up again where it was, for as
    long as it takes; `on_lost` is told why, one line. Replicas that come later are heard from the next connection on.
    Close it in the task that reads it: `contextlib.aclosing`.

    Raises:
        UserError: what is wrong from the beginning, or cannot become better: one line that says what to do.
    """
    query = LogQuery.of(lines, since_push, replica)
    seen: dict[str, _Seen] = {}
    waits, begun = backoff(), False
    while True:
        try:
            async with asking(settings) as session:
                names = query.chosen(session.deployment)
                _check_number(names)
                begun = True
                async with aclosing(_heard(session, names, query, seen)) as heard:
                    async for line in heard:
                        seen[line.replica] = _further(seen.get(line.replica), line)
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


async def _heard(
    session: Session, names: list[str], query: LogQuery, seen: Mapping[str, _Seen]
) -> AsyncGenerator[LogLine]:
    """What comes on one connection, of all these replicas, until each has ended. Raises ClientError when one is lost."""
    queue: _Queue = asyncio.Queue(QUEUED_LINES)
    tasks = [asyncio.create_task(_listen(session, name, query, seen.get(name), queue)) for name in names]
    left = len(tasks)
    try:
        while left:
            match await queue.get():
                case LogLine() as line:
                    yield line
                case None:
                    left -= 1
                case Exception() as error:
                    raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(
    session: Session,
    name: str,
    query: LogQuery,
    seen: _Seen | None,
    queue: _Queue,
) -> None:
    lines = MAX_LOG_LINES if seen else query.lines
    place: _Seen | None = None
    try:
        async for data in session.follow(name, lines, query.since_push):
            for line in read_log(data, name):
                place = _further(place, line)
                if seen is None or place > seen:
                    await queue.put(line)
        await queue.put(None)
    except Exception as error:  # whatever it is, it belongs to whoever reads the lines
        await queue.put(error)


def _further(place: _Seen | None, line: LogLine) -> _Seen:
    """The place after this line. A clock that was set back does not take us back."""
    if place is None or line.at > place.at:
        return _Seen(line.at, 1)
    return _Seen(place.at, place.lines + 1)
