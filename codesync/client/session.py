"""One connection of the client to the proxy: requests and their answers, progress, and the end of a push.

Reads all the time, so that a refusal in the middle of an upload is heard at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from codesync.client.results import ClientError
from codesync.config import Settings
from codesync.connection import SOFTWARE, ConnectError, Connection, Disconnected, backoff, connect
from codesync.errors import UserError
from codesync.protocol import (
    VERSIONS,
    Answer,
    AnswerError,
    DeploymentState,
    Error,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Granted,
    Hello,
    Hook,
    Message,
    Outcome,
    Progress,
    Timeouts,
    TreeRef,
    Welcome,
)

ATTEMPTS = 8  # connections tried for one push
QUIET_SECONDS = 3600.0  # the waits below are the bounds; pings notice a dead proxy
MAX_ANSWER = 256 * 1024 * 1024  # bytes of one answer, as sent
QUEUED_PIECES = 16  # of an answer, before the proxy has to wait
SMALLEST_PIECE = 1024  # bytes that a piece counts for at least: empty ones may not go on for ever
MAX_HISTORY = 8 * 1024 * 1024  # bytes of one replica's history
MAX_LOGS = 64 * 1024 * 1024  # bytes of one replica's last lines

Question = GetManifest | GetSignatures | GetDetails | GetHistory | GetLogs

T = TypeVar("T")
_Pieces = asyncio.Queue[Answer | AnswerError | Exception]
TIMEOUTS = Timeouts()
# the longest that the proxy can have nothing to say: a trial without progress, put back on every replica
SILENCE_SECONDS = (
    TIMEOUTS.stage_idle + TIMEOUTS.deadline + TIMEOUTS.try_margin + TIMEOUTS.keep + TIMEOUTS.undo
)


class Session:
    """A welcomed connection. `granted` and `ended` are the two moments of a push worth waiting for."""

    def __init__(
        self, connection: Connection, deployment: DeploymentState, on_progress: Callable[[Progress], None]
    ) -> None:
        self.deployment = deployment
        self._connection = connection
        self._on_progress = on_progress
        self._answers: dict[int, _Pieces] = {}
        self._requests = 0
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        self.granted: asyncio.Future[Granted | Outcome] = loop.create_future()
        self.ended: asyncio.Future[Outcome] = loop.create_future()
        self._reader = loop.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                message = await self._connection.receive(within=QUIET_SECONDS, what="the next message")
                self._heard = asyncio.get_running_loop().time()
                await self._dispatch(message)
        except Exception as error:  # whatever it is, it belongs to those who wait
            await self._end(error)

    async def _dispatch(self, message: Message) -> None:
        match message:
            case Progress():
                self._on_progress(message)
            case Answer() | AnswerError():
                if message.request in self._answers:
                    await self._answers[message.request].put(message)
            case Granted():
                _settle(self.granted, message)
            case Outcome():
                _settle(self.granted, message)
                _settle(self.ended, message)
            case Error():
                await self._end(ClientError(message.message, code=message.code))

    async def _end(self, error: Exception) -> None:
        for future in (self.granted, self.ended):
            if not future.done():
                future.set_exception(error)
        for queue in list(self._answers.values()):
            await queue.put(error)

    async def send(self, message: Message) -> None:
        """Send a message, unless the push has ended already: then raise what ended it."""
        if self.ended.done():
            self.ended.result()
        await self._connection.send(message)

    async def wait(self, future: asyncio.Future[T], what: str, *, hooks: Iterable[Hook] = ()) -> T:
        """Wait for one of the moments, as long as the proxy is not silent for too long; `hooks` may take their time.

        Raises ClientError `timeout`, and whatever ended the connection.
        """
        loop = asyncio.get_running_loop()
        patience = SILENCE_SECONDS + sum(hook.seconds for hook in hooks)
        while True:
            left = self._heard + patience - loop.time()
            if left <= 0:
                message = (
                    f"no {what}, and nothing else from the proxy for {patience:.0f} s; see `codesync status`"
                )
                raise ClientError(message, code="timeout")
            await asyncio.wait([future], timeout=left)
            if future.done():
                return future.result()

    async def manifest(self, tree: TreeRef) -> bytes:
        """Ask a replica for its tree; the answer is what `trees.py` reads. Raises ClientError, Disconnected."""
        question = GetManifest(request=0, tree=tree)
        return await self.ask(question, "the replica did not describe its tree", MAX_ANSWER)

    async def history(self, replica: str) -> bytes:
        """Ask a replica for what it remembers; the answer is what `past.py` reads. Raises ClientError, Disconnected."""
        question = GetHistory(request=0, replica=replica)
        return await self.ask(question, f"replica {replica} did not tell its history", MAX_HISTORY)

    async def logs(self, replica: str, lines: int, since_push: str) -> bytes:
        """Ask a replica for its last lines; the answer is what `app_log.py` reads. Raises ClientError, Disconnected."""
        question = GetLogs(request=0, replica=replica, lines=lines, since_push=since_push)
        return await self.ask(question, f"replica {replica} did not tell its log", MAX_LOGS)

    async def follow(self, replica: str, lines: int, since_push: str) -> AsyncGenerator[bytes]:
        """Yield the pieces of a log that goes on, some of them empty. Raises ClientError, Disconnected."""
        question = GetLogs(request=0, replica=replica, lines=lines, since_push=since_push, follow=True)
        async with self._asked(question) as queue:
            while True:
                piece = await _piece(queue, f"replica {replica} did not tell its log")
                yield piece.data
                if piece.last:
                    return

    async def ask(self, question: Question, refused: str, limit: int) -> bytes:
        """The whole answer, at most `limit` bytes; `refused` begins the error where there is none.

        The question is given its number here. Raises ClientError, Disconnected.
        """
        async with self._asked(question) as queue:
            return await _whole(queue, refused, limit)

    @asynccontextmanager
    async def _asked(self, question: Question) -> AsyncIterator[_Pieces]:
        """The queue of an answer's pieces, as long as somebody wants them."""
        queue: _Pieces = asyncio.Queue(QUEUED_PIECES)
        self._requests += 1
        number = self._requests
        self._answers[number] = queue
        try:
            await self.send(replace(question, request=number))
            yield queue
        finally:
            del self._answers[number]
            while not queue.empty():  # the reader may wait for room, and must not wait for ever
                queue.get_nowait()

    async def close(self) -> None:
        """Stop reading."""
        self._reader.cancel()
        try:
            await asyncio.wait([self._reader])
        finally:
            for future in (self.granted, self.ended):
                if future.done() and not future.cancelled():
                    future.exception()  # looked at, so that nobody complains of an error not fetched


@asynccontextmanager
async def open_session(settings: Settings, on_progress: Callable[[Progress], None]) -> AsyncIterator[Session]:
    """Connect and say hello. Raises ConnectError, Disconnected."""
    hello = Hello(versions=VERSIONS, software=SOFTWARE, source=settings.source)
    async with connect(settings.endpoint("ide"), settings.api_key, hello) as (connection, welcome):
        if not isinstance(welcome, Welcome) or welcome.deployment is None:
            raise ClientError(f"{connection.url} did not welcome us; is it a codesync proxy?", code="version")
        session = Session(connection, welcome.deployment, on_progress)
        try:
            yield session
        finally:
            await session.close()


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[Session]:
    """Connect, to ask and no more. Raises ClientError."""
    try:
        async with open_session(settings, lambda _: None) as session:
            yield session
    except (ConnectError, Disconnected) as error:
        raise ClientError(str(error), code=getattr(error, "code", "lost")) from error


async def persistently(
    settings: Settings,
    on_progress: Callable[[Progress], None],
    converse: Callable[[Session], Awaitable[T]],
) -> T:
    """Have a conversation that can be begun anew on another connection, until it comes to its end.

    Raises ClientError: what ended it, or why no connection could be made.
    """
    for attempt, wait in enumerate(backoff(), 1):
        try:
            async with open_session(settings, on_progress) as session:
                return await converse(session)
        except (ConnectError, Disconnected, ClientError) as error:
            if attempt == ATTEMPTS or not _may_pass(error, attempt):
                if isinstance(error, ClientError):
                    raise
                raise ClientError(str(error), code=getattr(error, "code", "lost")) from error
            await asyncio.sleep(wait)
    raise AssertionError("backoff never ends")


def _may_pass(error: UserError, attempt: int) -> bool:
    """Whether trying again may help. After a restart of the proxy a sidecar may come back a moment later than we do."""
    if isinstance(error, ClientError):
        return error.code == "no_replica" and attempt > 1
    return not (isinstance(error, ConnectError) and error.final)


def no_replica(deployment: DeploymentState) -> ClientError:
    """Return the error for a deployment that nobody serves."""
    words = (
        f"no sidecar is connected for app {deployment.app_id} deployment {deployment.deployment_id}; "
        "start it beside the application, or check app_id and deployment_id"
    )
    return ClientError(words, code="no_replica")


async def _whole(queue: _Pieces, refused: str, limit: int) -> bytes:
    """Join the pieces of an answer. Raises ClientError, and whatever ended the connection."""
    data, counted = bytearray(), 0
    while True:
        piece = await _piece(queue, refused)
        counted += max(len(piece.data), SMALLEST_PIECE)
        if counted > limit:
            raise ClientError(
                f"a replica's answer is larger than {limit >> 20} MiB; ignore what is not code",
                code="too_large",
            )
        data += piece.data
        if piece.last:
            return bytes(data)


async def _piece(queue: _Pieces, refused: str) -> Answer:
    """The next piece. Raises ClientError, and whatever ended the connection."""
    try:
        async with asyncio.timeout(TIMEOUTS.answer):
            piece = await queue.get()
    except TimeoutError as error:
        message = f"no answer from the replica within {TIMEOUTS.answer:.0f} s; see `codesync status`"
        raise ClientError(message, code="timeout") from error
    if isinstance(piece, Exception):
        raise piece
    if isinstance(piece, AnswerError):
        raise ClientError(f"{refused}: {piece.message}", code=piece.code)
    return piece


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
