"""The sidecar's process: keeps a connection to the proxy, hands messages to the replica, until it is stopped."""

from __future__ import annotations

import asyncio
import logging

from codesync.config import Settings
from codesync.connection import SOFTWARE, ConnectError, Connection, Disconnected, backoff, connect
from codesync.protocol import VERSIONS, Hello, Message
from codesync.pyz import build_pyz
from codesync.sidecar.replica import Replica
from codesync.sidecar.store import Store
from codesync.sidecar.volume import Volume

DISK_SECONDS = 30.0  # at the end, for a commit that has begun
QUIET_SECONDS = 3600.0  # the websocket's own pings notice a dead proxy much earlier

log = logging.getLogger("codesync.sidecar")


async def run(settings: Settings) -> None:
    """Serve one replica on the volume at `settings.files_dir` until cancelled.

    Raises StoreError when the volume cannot be used, ConnectError when the proxy refuses us for good.
    """
    store = await asyncio.to_thread(Store.open, settings.files_dir)
    try:
        await asyncio.to_thread(_offer_launcher, store.volume)
        await _Service(store, settings.endpoint("sidecar"), settings.api_key).run()
    finally:
        store.close()


def _offer_launcher(volume: Volume) -> None:
    build_pyz(str(volume.pyz))


class _Service:
    def __init__(self, store: Store, url: str, api_key: str) -> None:
        self._url = url
        self._api_key = api_key
        self._connection: Connection | None = None
        self._replica = Replica(store, self._send)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._replica.launcher.run())
                tasks.create_task(self._replica.permissions.run())
                tasks.create_task(self._stay_connected())
        finally:
            await self._replica.tasks.settle(DISK_SECONDS)

    async def _stay_connected(self) -> None:
        await self._replica.launcher.looked.wait()  # bounded by the hello's timeout
        waits = backoff()
        while True:
            try:
                told = self._replica.state
                hello = Hello(versions=VERSIONS, software=SOFTWARE, replica=told)
                async with connect(self._url, self._api_key, hello) as (connection, _):
                    log.info("connected to %s as replica %s", self._url, self._replica.store.state.replica)
                    waits = backoff()
                    self._connection = connection
                    await self._replica.reintroduce(told)
                    await self._listen(connection)
            except (ConnectError, Disconnected) as error:
                if isinstance(error, ConnectError) and error.final:
                    raise
                log.warning("%s", error)
            finally:
                self._connection = None
                self._replica.parted()
            await asyncio.sleep(next(waits))

    async def _listen(self, connection: Connection) -> None:
        while True:
            message = await connection.receive(within=QUIET_SECONDS, what="the next push")
            try:
                await self._replica.handle(message)
            except (
                Exception
            ) as error:  # a mistake of ours, or a disk's, fails this push and not the next ones
                log.exception("%s", type(message).__name__)
                await self._replica.fail(message, error)

    async def _send(self, message: Message) -> None:
        """Say it if somebody is there; a lost proxy asks again with our next hello."""
        if self._connection is not None:
            try:
                await self._connection.send(message)
            except (Disconnected, ConnectError) as error:  # whoever receives is told for good
                log.warning("%s", error)
