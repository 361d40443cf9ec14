"""One deployment as it lives in the event loop: its coordinator, its connections, its disk, its timer.

Thin: every decision is the coordinator's; here events are collected and commands are done.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from codesync.protocol import Chunk, Code, ProtocolError, Side, Timeouts, decode
from codesync.proxy.coordinator import Deployment
from codesync.proxy.events import (
    Close,
    Command,
    DiskFailed,
    DropSpool,
    Event,
    Garbled,
    KeepSpool,
    Lost,
    Note,
    Opened,
    Received,
    Relay,
    Relayed,
    Send,
    SpoolChunk,
    Stop,
    Stored,
    Unrelay,
    Woken,
)
from codesync.proxy.log import line, where
from codesync.proxy.metrics import Metrics
from codesync.proxy.store import Store
from codesync.proxy.wire import Listener, Wire

log = logging.getLogger("codesync.proxy")

_AFTER_DEFECT = 1.0  # seconds until the next try, when the coordinator fails in what it is due to do


class Host(Listener):
    """A deployment; `serve` each of its connections. Making it reads its directory: OSError."""

    def __init__(
        self,
        app_id: str,
        deployment_id: str,
        directory: Path,
        *,
        software: str,
        timeouts: Timeouts,
        metrics: Metrics,
        neighbours: Callable[[], Iterable[str]],
    ) -> None:
        self.name = f"{app_id}/{deployment_id}"
        self._loop = asyncio.get_running_loop()
        self._store = Store(directory)
        self.deployment = Deployment(
            app_id,
            deployment_id,
            software=software,
            epoch=time.time() - self._loop.time(),
            chain=self._store.load(),
            timeouts=timeouts,
            neighbours=neighbours,
            is_behind=lambda number: number in self._wires and self._wires[number].is_behind,
        )
        self._timeouts = timeouts
        self._metrics = metrics
        self._wires: dict[int, Wire] = {}
        self._numbers: dict[Wire, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._written: asyncio.Future[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self.settled = asyncio.Event()

    # -- a connection ------------------------------------------------------------------------------------------------

    async def serve(self, websocket: ServerConnection, side: Side, number: int) -> None:
        """Until the connection ends."""
        wire = Wire(websocket, self._store, self)
        self._wires[number], self._numbers[wire] = wire, number
        writer = self._loop.create_task(wire.write())
        try:
            self.feed(Opened(number, side))
            await self._read(websocket, number)
        finally:
            del self._wires[number], self._numbers[wire]
            self.feed(Lost(number))
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _read(self, websocket: ServerConnection, number: int) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._take(number, await websocket.recv())

    async def _take(self, number: int, data: bytes | str) -> None:
        """One message in; then wait until what it caused is on the disk and on its way."""
        self._written = None
        wires = self.feed(_event(number, data))
        if (written := self._written) is not None:
            with contextlib.suppress(OSError):
                await asyncio.shield(written)
        for wire in wires:
            await wire.room(self._timeouts.slow_reader)

    # -- events in, commands out -------------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Wire]:
        """Tell the coordinator, do what it says. Returns the wires that got something to say."""
        spoken: dict[Wire, None] = {}
        try:
            for command in self.deployment.receive(event, self._loop.time()):
                wire = self._wires.get(getattr(command, "connection", 0))
                if wire is not None and getattr(command, "holds", True):
                    spoken[wire] = None
                self._do(command, wire)
        finally:  # the others' waits go on, whatever failed
            self._set_timer()
            if not self.deployment.busy:
                self.settled.set()
            else:
                self.settled.clear()
        return list(spoken)

    def _do(self, command: Command, wire: Wire | None) -> None:
        match command:
            case Send() if wire is not None:
                wire.say(command.message)
            case Close() if wire is not None:
                wire.close(command.code, command.reason)
            case Relay() if wire is not None:
                self._relay(command, wire)
            case Unrelay() if wire is not None:
                wire.unrelay()
            case SpoolChunk():
                self._spool(command)
            case DropSpool():
                self._store.drop(command.push_id)
            case KeepSpool():
                self._store.keep(command.push_id, command.names, command.index, command.evicted)
            case Note():
                log.info("%s", line(f"{self.name}: {command.kind}", command.facts))
                self._metrics.note(command)

    def _spool(self, command: SpoolChunk) -> None:
        self._metrics.add("codesync_received_bytes_total", len(command.data))
        written = self._store.append(command.spool, command.data, last=command.last)
        written.add_done_callback(lambda future: self._check_written(command.spool.push_id, future))
        self._written = written

    def _check_written(self, push_id: str, written: asyncio.Future[None]) -> None:
        error = None if written.cancelled() else written.exception()
        if error is not None:
            self.feed(DiskFailed(push_id, str(error)))

    def _relay(self, command: Relay, wire: Wire) -> None:
        if isinstance(command.content, Stored):
            wire.unrelay()
            task = self._loop.create_task(self._relay_stored(command.push_id, command.content.name, wire))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            wire.relay(command.push_id, self._store.acquire(command.content))

    async def _relay_stored(self, push_id: str, name: str, wire: Wire) -> None:
        wanted = wire.relays
        try:
            content = await self._store.open(name)
        except OSError as error:
            self.cannot_read(push_id, error)
            return
        if wire in self._numbers and wire.relays == wanted:
            wire.relay(push_id, content)
        else:  # it was ended while the file was opened
            self._store.release(content)

    def relaying(self, wire: Wire, chunk: Chunk) -> None:
        """Tell the coordinator before the chunk can be answered."""
        self._metrics.add("codesync_relayed_bytes_total", len(chunk.data))
        if wire in self._numbers:
            self.feed(Relayed(self._numbers[wire], chunk.push_id, chunk.last))

    def cannot_read(self, push_id: str, error: OSError) -> None:
        """End the push."""
        self.feed(DiskFailed(push_id, str(error)))

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self, earliest: float = 0.0) -> None:
        due = self.deployment.next_deadline
        due = None if due is None else max(due, earliest)
        if self._timer is not None and self._timer.when() == due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        try:
            self.feed(Woken())
        except Exception as error:  # a defect of ours; the waits that do not fail must end all the same
            log.error("%s", line(f"{self.name}: defect", {"error": repr(error), "at": where(error)}))
            self._set_timer(self._loop.time() + _AFTER_DEFECT)

    async def stop(self, seconds: float) -> None:
        """Begin nothing new; give what is decided up to `seconds` to end."""
        self.feed(Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.settled.wait()

    async def close(self) -> None:
        """After the last connection."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await self._store.close()


def _event(number: int, data: bytes | str) -> Event:
    if isinstance(data, str):
        return Garbled(number, Code.BAD_MESSAGE, "messages are binary, this was text")
    try:
        return Received(number, decode(data))
    except ProtocolError as error:
        return Garbled(number, error.code, error.message)
