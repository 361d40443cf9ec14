"""One connection of the client to the proxy: requests and their answers, progress, and the end of a push.

Reads all the time, so that a refusal in the middle of an upload is heard at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import msgpack
import zstandard

from codesync.client.results import ClientError
from codesync.config import Settings
from codesync.connection import SOFTWARE, Connection, connect
from codesync.delta import Signature
from codesync.protocol import (
    VERSIONS,
    Answer,
    AnswerError,
    DeploymentState,
    Error,
    GetManifest,
    GetSignatures,
    Granted,
    Hello,
    Message,
    Outcome,
    Progress,
    Timeouts,
    TreeRef,
    Welcome,
)

QUIET_SECONDS = 3600.0  # the waits below are the bounds; pings notice a dead proxy
MAX_MANIFEST = 256 * 1024 * 1024
SIGNATURES_PER_REQUEST = 1000
REQUEST_BYTES = 256 * 1024

T = TypeVar("T")
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
        self._answers: dict[int, asyncio.Queue[Answer | AnswerError]] = {}
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
                self._dispatch(message)
        except Exception as error:  # whatever it is, it belongs to those who wait
            self._end(error)

    def _dispatch(self, message: Message) -> None:
        match message:
            case Progress():
                self._on_progress(message)
            case Answer() | AnswerError():
                if message.request in self._answers:
                    self._answers[message.request].put_nowait(message)
            case Granted():
                _settle(self.granted, message)
            case Outcome():
                _settle(self.granted, message)
                _settle(self.ended, message)
            case Error():
                self._end(ClientError(message.message, code=message.code))

    def _end(self, error: Exception) -> None:
        for future in (self.granted, self.ended):
            if not future.done():
                future.set_exception(error)
        for request, queue in self._answers.items():
            queue.put_nowait(AnswerError(request=request, code="lost", message=str(error)))

    async def send(self, message: Message) -> None:
        """Send a message, unless the push has ended already: then raise what ended it."""
        if self.ended.done():
            self.ended.result()
        await self._connection.send(message)

    async def wait(self, future: asyncio.Future[T], what: str) -> T:
        """Wait for one of the moments, as long as the proxy is not silent for too long.

        Raises ClientError `timeout`, and whatever ended the connection.
        """
        loop = asyncio.get_running_loop()
        while True:
            left = self._heard + SILENCE_SECONDS - loop.time()
            if left <= 0:
                message = f"no {what}, and nothing else from the proxy for {SILENCE_SECONDS:.0f} s; see `codesync status`"
                raise ClientError(message, code="timeout")
            await asyncio.wait([future], timeout=left)
            if future.done():
                return future.result()

    async def manifest(self, tree: TreeRef) -> bytes:
        """Ask a replica for its tree; the answer is what `trees.py` reads. Raises ClientError."""
        self._requests += 1
        data = b"".join([piece async for piece in self._ask(GetManifest(request=self._requests, tree=tree))])
        if len(data) > MAX_MANIFEST:
            raise ClientError("the replica's manifest is larger than 256 MiB", code="too_large")
        return data

    async def signatures(self, tree: TreeRef, paths: list[bytes]) -> dict[bytes, Signature]:
        """Ask a replica for signatures of its files. Raises ClientError, SignatureError."""
        found: dict[bytes, Signature] = {}
        for group in _groups(paths):
            self._requests += 1
            asked = GetSignatures(request=self._requests, tree_id=tree.tree_id, paths=tuple(group))
            decompressor, unpacker = zstandard.ZstdDecompressor().decompressobj(), msgpack.Unpacker()
            async for piece in self._ask(asked):
                unpacker.feed(decompressor.decompress(piece))
                found.update((path, Signature.from_bytes(data)) for path, data in unpacker)
        return found

    async def _ask(self, request: GetManifest | GetSignatures) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[Answer | AnswerError] = asyncio.Queue()
        self._answers[request.request] = queue
        try:
            await self.send(request)
            while True:
                async with asyncio.timeout(TIMEOUTS.answer):
                    answer = await queue.get()
                if isinstance(answer, AnswerError):
                    raise ClientError(
                        f"the replica did not describe its tree: {answer.message}", code=answer.code
                    )
                yield answer.data
                if answer.last:
                    return
        except TimeoutError as error:
            raise ClientError(
                f"no answer from the replica within {TIMEOUTS.answer:.0f} s", code="timeout"
            ) from error
        finally:
            del self._answers[request.request]

    async def close(self) -> None:
        """Stop reading."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
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


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _groups(paths: list[bytes]) -> list[list[bytes]]:
    groups: list[list[bytes]] = []
    size = REQUEST_BYTES
    for path in paths:
        if size + len(path) > REQUEST_BYTES or len(groups[-1]) >= SIGNATURES_PER_REQUEST:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += len(path) + 8
    return groups
