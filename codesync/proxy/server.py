"""The proxy's process: a listening socket, what is let in through it, and the deployments behind it."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from weakref import WeakKeyDictionary

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from codesync import __version__
from codesync.config import is_loopback
from codesync.errors import UserError
from codesync.protocol import MAX_MESSAGE, Close, Code, Error, Side, Timeouts, encode
from codesync.proxy.gate import Door, Keys, Page, Refusal, Request, judge, usable_keys
from codesync.proxy.host import Host
from codesync.proxy.log import line, websocket_logger, where
from codesync.proxy.metrics import Metrics

log = logging.getLogger("codesync.proxy")

MAX_CONNECTIONS = 2048
_MAX_IDLE = 256  # deployments remembered though nobody is connected
_PING_SECONDS = 20.0
_STOP_SECONDS = 10.0  # what is decided may still end
_DEPLOYMENTS = "deployments"  # below the data directory; beside it nothing is named by an id
_WRITE_BUFFER = 256 * 1024  # the kernel's, per connection: a ping must not wait behind megabytes


class Proxy:
    """All deployments of one process."""

    def __init__(self, keys: Keys, data_dir: Path, timeouts: Timeouts) -> None:
        self._keys = keys
        self._data_dir = data_dir
        self._timeouts = timeouts
        self._metrics = Metrics()
        self._hosts: dict[str, Host] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}  # deployments that are being forgotten, by name
        self._doors: WeakKeyDictionary[ServerConnection, Door] = WeakKeyDictionary()
        self._open: Counter[Side] = Counter()
        self._next = 1

    # -- before the upgrade ------------------------------------------------------------------------------------------

    def judge(self, websocket: ServerConnection, http: HttpRequest) -> Response | None:
        """The answer to a request that gets no websocket; None lets it in."""
        path = http.path.partition("?")[0]
        verdict = judge(Request(http.method, path, tuple(http.headers.raw_items())), self._keys)
        if isinstance(verdict, Door):
            if self._open.total() >= MAX_CONNECTIONS:
                words = "codesync: the proxy has all the connections it can take; try again later"
                verdict = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, words)
            else:
                self._doors[websocket] = verdict
                return None
        if isinstance(verdict, Page):
            return self._page(websocket, verdict)
        self._metrics.add("codesync_http_total", status=str(verdict.status.value))
        log.info("%s", line("refused", {"status": verdict.status.value, "from": _address(websocket)}))
        response = websocket.respond(verdict.status, f"{verdict.text}\n")
        if verdict.status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _page(self, websocket: ServerConnection, page: Page) -> Response:
        self._metrics.add("codesync_http_total", status="200")
        if page.name == "metrics":
            return websocket.respond(HTTPStatus.OK, self._metrics_text())
        if page.name == "ready":
            replicas = self._replicas(f"{page.app_id}/{page.deployment_id}")
            record: dict[str, object] = {"ready": replicas > 0, "replicas": replicas}
        else:
            record = {"status": "ok"}
        response = websocket.respond(HTTPStatus.OK, json.dumps(record) + "\n")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _replicas(self, name: str) -> int:
        host = self._hosts.get(name)
        return host.deployment.replicas if host is not None else 0

    def _metrics_text(self) -> str:
        counts = [host.deployment.replicas for host in self._hosts.values()]
        return self._metrics.text(replicas=sum(counts), deployments=sum(1 for count in counts if count))

    # -- after it ----------------------------------------------------------------------------------------------------

    async def handle(self, websocket: ServerConnection) -> None:
        """One connection, from its upgrade to its end."""
        door = self._doors.pop(websocket)
        number, self._next = self._next, self._next + 1
        _narrow(websocket)
        try:
            host = await self._host(door)
        except OSError as error:
            await _refuse(websocket, door, error)
            return
        facts = {"connection": number, "side": str(door.side), "from": _address(websocket)}
        log.info("%s", line(f"{host.name}: opened", facts))
        with self._counted(door.side):
            try:
                await host.serve(websocket, door.side, number)
            except Exception as error:  # a defect of ours: one connection may end by it, not the proxy
                log.error("%s", line(f"{host.name}: defect", {"error": repr(error), "at": where(error)}))
        log.info("%s", line(f"{host.name}: closed", {"connection": number, "code": websocket.close_code}))
        await self._forget_idle()

    @contextlib.contextmanager
    def _counted(self, side: Side) -> Iterator[None]:
        self._metrics.add("codesync_http_total", status="101")
        self._metrics.add("codesync_connections_total", side=str(side))
        self._metrics.add("codesync_connections", side=str(side))
        self._open[side] += 1
        try:
            yield
        finally:
            self._open[side] -= 1
            self._metrics.add("codesync_connections", -1, side=str(side))

    async def _host(self, door: Door) -> Host:
        """The deployment, made if it is new: then its directory is read, which no other may be writing to. OSError."""
        name = _name(door)
        while (closing := self._closing.get(name)) is not None:
            await asyncio.wait([closing])
        host = self._hosts.pop(name, None) or Host(
            door.app_id,
            door.deployment_id,
            self._data_dir / _DEPLOYMENTS / door.app_id / door.deployment_id,
            software=f"codesync/{__version__}",
            timeouts=self._timeouts,
            metrics=self._metrics,
            neighbours=self._with_replicas,
        )
        self._hosts[name] = host  # the last used is the last to be forgotten
        return host

    def _with_replicas(self) -> list[str]:
        return [name for name, host in self._hosts.items() if host.deployment.replicas]

    async def _forget_idle(self) -> None:
        idle = [name for name, host in self._hosts.items() if host.deployment.idle]
        for name in idle[: max(0, len(idle) - _MAX_IDLE)]:
            self._closing[name] = asyncio.create_task(self._forget(name, self._hosts.pop(name)))
        if self._closing:
            await asyncio.wait(list(self._closing.values()))

    async def _forget(self, name: str, host: Host) -> None:
        try:
            await host.close()
        finally:
            del self._closing[name]

    # -- the end -----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Nothing new begins; what is decided may end."""
        hosts = list(self._hosts.values())
        for error in await asyncio.gather(
            *(host.stop(_STOP_SECONDS) for host in hosts), return_exceptions=True
        ):
            if error is not None:  # a defect; the others are stopped all the same
                log.error("%s", line("defect", {"error": repr(error), "at": where(error)}))

    async def close(self) -> None:
        """After the last connection."""
        await asyncio.gather(*(host.close() for host in self._hosts.values()), *self._closing.values())


async def serve(
    *,
    host: str,
    port: int,
    keys: Sequence[str],
    insecure: bool = False,
    data_dir: str | None = None,
    on_ready: Callable[[int], None] | None = None,
    timeouts: Timeouts | None = None,
) -> None:
    """Run a proxy until cancelled; then what is decided may still end, for some seconds.

    `on_ready` gets the port (0 means any free one) as soon as connections are accepted. Without `data_dir` kept batches
    are stored below the user's cache. Raises UserError when it must not or cannot start.
    """
    accepted = Keys(usable_keys(keys))
    if not accepted and not (insecure and is_loopback(host)):
        raise UserError(
            "no API key: set CODESYNC_API_KEY, or pass --insecure with a loopback --host (127.0.0.1)"
        )
    with _data_directory(data_dir) as directory:
        proxy = Proxy(accepted, directory, timeouts or Timeouts())
        async with _listening(proxy, host, port) as bound:
            if on_ready is not None:
                on_ready(bound)
            await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def _listening(proxy: Proxy, host: str, port: int) -> AsyncIterator[int]:
    try:
        server = await serve_websockets(
            proxy.handle,
            host,
            port,
            process_request=proxy.judge,
            compression=None,
            server_header=None,
            max_size=2 * MAX_MESSAGE,
            max_queue=2,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
            close_timeout=2,
            logger=websocket_logger(),
        )
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --port"
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close(close_connections=False)
        await proxy.stop()
        leaving = (
            connection.close(1001, "the proxy stops; connect again") for connection in server.connections
        )
        await asyncio.gather(*leaving, return_exceptions=True)
        await server.wait_closed()
        await proxy.close()


@contextlib.contextmanager
def _data_directory(wanted: str | None) -> Iterator[Path]:
    """A directory that is ours alone. Without a wish, and with the usual one in use, a temporary one."""
    path = Path(wanted or os.path.expanduser("~/.cache/codesync/proxy"))
    try:
        lock = _locked(path)
    except OSError as error:
        if wanted is not None:
            reason = "another proxy uses it" if isinstance(error, BlockingIOError) else error.strerror
            raise UserError(
                f"cannot use the data directory {wanted}: {reason}; choose another --data-dir"
            ) from error
        temporary = tempfile.mkdtemp(prefix="codesync-proxy-")
        try:
            yield Path(temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return
    try:
        yield path
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _name(door: Door) -> str:
    return f"{door.app_id}/{door.deployment_id}"


async def _refuse(websocket: ServerConnection, door: Door, error: OSError) -> None:
    """The deployment's directory cannot be read. A sidecar is not told why: an Error in place of Welcome ends it."""
    log.error("%s", line(f"{_name(door)}: cannot be opened", {"error": repr(error), "at": where(error)}))
    words = (
        f"the proxy cannot read what it stores of {_name(door)} ({error.strerror}); mend its data directory"
    )
    with contextlib.suppress(ConnectionClosed):
        if door.side is Side.IDE:
            await websocket.send(encode(Error(code=Code.UNSUPPORTED, message=words)))
        await websocket.close(Close.INTERNAL, "the proxy cannot read its data directory; see its log")


def _narrow(websocket: ServerConnection) -> None:
    found = websocket.transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WRITE_BUFFER)


def _address(websocket: ServerConnection) -> str:
    address = websocket.remote_address
    return str(address[0]) if address else "?"
