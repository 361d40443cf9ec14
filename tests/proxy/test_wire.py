"""One websocket of the proxy when its own side fails."""

from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from codesync.protocol import Chunk
from codesync.proxy.events import Spooled
from codesync.proxy.store import Store
from codesync.proxy.wire import Listener, Wire

pytestmark = pytest.mark.anyio


class Broken(Listener):
    def relaying(self, wire: Wire, chunk: Chunk) -> None:
        raise RuntimeError("broken")

    def cannot_read(self, push_id: str, error: OSError) -> None:
        raise RuntimeError("broken")


async def test_a_connection_that_cannot_be_written_to_any_more_does_not_stay_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, spool = Store(tmp_path), Spooled("p1", 0)
    await store.append(spool, b"batch", last=True)

    async def handle(websocket: ServerConnection) -> None:
        wire = Wire(websocket, store, Broken())
        wire.relay("p1", store.acquire(spool))
        await wire.write()
        with pytest.raises(ConnectionClosed):
            await websocket.recv()

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None, open_timeout=10) as websocket:
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
    assert "defect in writing error=RuntimeError('broken')" in caplog.text
    await store.close()
