"""What stands behind a relay in the tests: real servers, and clients that say exactly what they are told to."""

import hashlib
import http.server
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from codesync.launcher.relay import Relay

SECONDS = 20.0  # longer than anything here takes


class Handler(http.server.BaseHTTPRequestHandler):
    """Every answer begins with the twin's name."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Twin"

    def do_GET(self) -> None:
        if self.path == "/upgrade":
            self._upgrade()
        elif self.path == "/chunked":
            self._chunked()
        else:
            if self.path == "/gate":
                self.server.entered.release()
                assert self.server.gate.wait(SECONDS)
            self._answer(self.server.name.encode())

    def do_POST(self) -> None:
        self.server.entered.release()
        length = int(self.headers["Content-Length"])
        digest = hashlib.sha256(self.rfile.read(length)).hexdigest()
        self._answer(f"{self.server.name} {digest}".encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (self.server.name.encode(), b" in", b" pieces"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _upgrade(self) -> None:
        """Echo, until the client has enough."""
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "echo")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while data := self.connection.recv(1024):
                self.connection.sendall(data)

    def log_message(self, *_: object) -> None:
        pass


class Twin(http.server.ThreadingHTTPServer):
    """An application, on a port of its own."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.port: int = self.server_address[1]
        self.entered = threading.Semaphore(
            0
        )  # once for each request to /gate, and each upload that has begun
        self.gate = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Connections that end early are what these tests are about."""


class Listener:
    """A server that does what the test does with `accept`ed connections."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._socket.settimeout(SECONDS)
        self.port: int = self._socket.getsockname()[1]

    def accept(self) -> socket.socket:
        made, _ = self._socket.accept()
        made.settimeout(SECONDS)
        return made

    def stop(self) -> None:
        self._socket.close()


@contextmanager
def making_twins() -> Iterator[Callable[[str], Twin]]:
    """Makes twins by name; they are stopped in the end."""
    made: list[Twin] = []

    def make(name: str) -> Twin:
        made.append(Twin(name))
        return made[-1]

    try:
        yield make
    finally:
        for twin in made:
            twin.gate.set()
            twin.stop()


@contextmanager
def relaying(port: int | None) -> Iterator[Relay]:
    relay = Relay("127.0.0.1", 0)
    relay.point(port)
    relay.serve()
    try:
        yield relay
    finally:
        relay.close()


def client_of(relay: Relay) -> socket.socket:
    return socket.create_connection(relay.address, SECONDS)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, f"ended after {data[:1000]!r}"
        data += piece
    return data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = connection.recv(1)
        assert piece, f"ended after {data[:1000]!r}"
        data += piece
    return data


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def read_answer(connection: socket.socket) -> bytes:
    """The body of a response that says its length."""
    head = read_until(connection, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return read_exactly(connection, int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


def get(path: str = "/", *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def ask(connection: socket.socket, path: str = "/") -> str:
    connection.sendall(get(path))
    return read_answer(connection).decode()


class Drained(threading.Event):
    """Counts how often it has been said."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def say(self) -> None:
        self.times += 1
        self.set()


def drain(relay: Relay, port: int, seconds: float = SECONDS) -> Drained:
    drained = Drained()
    relay.drain(port, seconds, drained.say)
    return drained


def settle(relay: Relay) -> None:
    """Until the relay has done all that it was told."""
    done = threading.Event()
    relay.drain(0, 0.0, done.set)  # nobody uses that port
    assert done.wait(SECONDS)


class Crowd:
    """Clients in threads, each repeating one `visit` until the end; what goes wrong is kept."""

    def __init__(self, *visits: Callable[[], Any]) -> None:
        self.failures: list[str] = []
        self.seen: list[set[str]] = [set() for _ in visits]
        self._counts = [0] * len(visits)
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(number, visit)) for number, visit in enumerate(visits)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_all(self, times: int = 2) -> None:
        """Until each client has been answered so many times more."""
        with self._changed:
            wanted = [count + times for count in self._counts]
            done = self._changed.wait_for(
                lambda: self.failures or all(map(int.__ge__, self._counts, wanted)), SECONDS
            )
        assert done, f"{self._counts} of {wanted}"

    def leave(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def _repeat(self, number: int, visit: Callable[[], Any]) -> None:
        for turn in itertools.count():
            if self._end.is_set():
                return
            try:
                names = visit()
            except Exception as error:  # whatever it is, the test tells it
                with self._changed:
                    self.failures.append(f"client {number}, turn {turn}: {error!r}")
                    self._changed.notify_all()
                return
            with self._changed:
                self.seen[number].update(names)
                self._counts[number] += 1
                self._changed.notify_all()
