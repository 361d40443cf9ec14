"""A real proxy on a free port of loopback, and peers that speak raw messages to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from codesync.protocol import (
    MAX_CHUNK,
    VERSIONS,
    BatchRef,
    Begin,
    Chunk,
    Error,
    Granted,
    Hello,
    Keep,
    Kept,
    Message,
    Push,
    ReplicaReport,
    ReplicaState,
    Stage,
    Staged,
    Timeouts,
    TreeRef,
    Tried,
    Try,
    Welcome,
    decode,
    encode,
)
from codesync.proxy import serve

KEY = "a-secret-key"
PATIENCE = 10.0

M = TypeVar("M", bound=Message)


def ref(number: int) -> TreeRef:
    return TreeRef(f"{number:064x}", f"{number + 1:064x}")


@asynccontextmanager
async def running_proxy(
    data_dir: Path, *, keys: Sequence[str] = (KEY,), timeouts: Timeouts | None = None, insecure: bool = False
) -> AsyncIterator[Running]:
    """Serve until the end of the block."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            host="127.0.0.1",
            port=0,
            keys=keys,
            insecure=insecure,
            data_dir=str(data_dir),
            on_ready=port.set_result,
            timeouts=timeouts,
        )
    )
    try:
        started: list[asyncio.Future[Any]] = [port, task]
        await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if task.done():
            await task
        yield Running(port.result(), task)
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        if not task.cancelled() and task.exception() is not None:
            raise AssertionError("the proxy failed") from task.exception()


@dataclass
class Running:
    """A proxy that runs in this process."""

    port: int
    task: asyncio.Task[None]

    @asynccontextmanager
    async def connected(
        self, side: str, path: str = "shop/dev", *, key: str = KEY, **options: object
    ) -> AsyncIterator[Peer]:
        """A websocket, nothing said yet."""
        url = f"ws://127.0.0.1:{self.port}/api/v1/push/{side}/{path}"
        headers = {"X-Api-Key": key} if key else {}
        websocket = await connect(
            url,
            additional_headers=headers,
            compression=None,
            proxy=None,
            close_timeout=1,
            **options,  # type: ignore[arg-type]
        )
        try:
            yield Peer(websocket)
        finally:
            if (
                websocket.state is not State.CLOSED
            ):  # closing twice trips over a closed transport on Python 3.11
                await websocket.close()

    @asynccontextmanager
    async def sidecar(
        self, name: str = "r1", tree: TreeRef | None = None, path: str = "shop/dev"
    ) -> AsyncIterator[Peer]:
        """A welcomed sidecar."""
        async with self.connected("sidecar", path) as peer:
            state = ReplicaState(id=name, tree=tree or ref(0), launcher="ready")
            await peer.say(Hello(versions=VERSIONS, software="test", replica=state))
            await peer.hear(Welcome)
            yield peer

    @asynccontextmanager
    async def ide(self, path: str = "shop/dev") -> AsyncIterator[Peer]:
        """A welcomed client."""
        async with self.connected("ide", path) as peer:
            await peer.say(Hello(versions=VERSIONS, software="test", source="me"))
            await peer.hear(Welcome)
            yield peer

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body of a plain HTTP request with exactly these header lines."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{method} {path} HTTP/1.1", "Host: proxy", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        async with asyncio.timeout(PATIENCE):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()


class Peer:
    """A websocket with messages."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def say(self, *messages: Message) -> None:
        for message in messages:
            await self.websocket.send(encode(message))

    async def hear(self, kind: type[M]) -> M:
        """The next message, which must be of that kind."""
        async with asyncio.timeout(PATIENCE):
            data = await self.websocket.recv()
        assert isinstance(data, bytes)
        message = decode(data)
        assert isinstance(message, kind), message
        return message

    async def hear_batch(self) -> bytes:
        """All chunks up to the last."""
        pieces: list[bytes] = []
        while True:
            chunk = await self.hear(Chunk)
            pieces.append(chunk.data)
            if chunk.last:
                return b"".join(pieces)

    async def closing(self) -> tuple[int, str, Error | None]:
        """How the proxy closes it: the code, the reason, and what it said before, if that was an Error."""
        said = None
        async with asyncio.timeout(PATIENCE):
            async for data in _until_closed(self.websocket):
                message = decode(data)
                said = message if isinstance(message, Error) else said
        assert self.websocket.close_code is not None
        return self.websocket.close_code, self.websocket.close_reason or "", said


async def _until_closed(websocket: ClientConnection) -> AsyncIterator[bytes]:
    try:
        while True:
            data = await websocket.recv()
            assert isinstance(data, bytes)
            yield data
    except ConnectionClosed:
        return


# -- a push ----------------------------------------------------------------------------------------------------------


async def begin(ide: Peer, push_id: str = "p1", *, base: int = 0, target: int = 1) -> None:
    tree_id = ref(target).tree_id
    await ide.say(Begin(push_id=push_id, source="me", description="d", source_tree_id=tree_id))
    await ide.hear(Granted)
    await ide.say(Push(push_id=push_id, batches=(BatchRef(base=ref(base), target=ref(target)),)))


async def send(ide: Peer, data: bytes, push_id: str = "p1") -> None:
    pieces = [data[start : start + MAX_CHUNK] for start in range(0, len(data), MAX_CHUNK)] or [b""]
    for number, piece in enumerate(pieces, 1):
        await ide.say(Chunk(push_id=push_id, data=piece, last=number == len(pieces)))


def report(name: str = "r1", status: str = "healthy") -> ReplicaReport:
    return ReplicaReport(id=name, status=status, generation=1)


async def take(sidecar: Peer, name: str = "r1") -> bytes:
    """A replica's part in a healthy push; returns what it was sent."""
    stage = await sidecar.hear(Stage)
    batch = await sidecar.hear_batch()
    await sidecar.say(Staged(push_id=stage.push_id))
    await sidecar.hear(Try)
    await sidecar.say(Tried(push_id=stage.push_id, healthy=True, report=report(name)))
    await sidecar.hear(Keep)
    await sidecar.say(Kept(push_id=stage.push_id, report=report(name)))
    return batch
