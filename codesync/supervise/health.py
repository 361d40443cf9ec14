"""Health checks, and the thread that asks one until it passes.

A check is asked at once, then every 20 ms, then more and more rarely. It says "" when all is well, else why not. How long
is too long is not decided here.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from codesync.supervise.children import Children, Exit

PROBE_SECONDS = 5.0  # one question waits no longer for its answer
_SCHEDULE = ((2.0, 0.02), (10.0, 0.1), (30.0, 0.5))  # until so many seconds after the start: this pause
_SLOWEST = 1.0


class HealthError(ValueError):
    """A health check is written in a way that nobody here understands; the message shows the ways there are."""


class Check(ABC):
    """What tells that an application works. `real` is False where nothing is asked and being alive must do."""

    real = True

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Ask once; "" or the reason why not."""


class Alive(Check):
    """No check at all: whoever is still alive after `settle` seconds runs."""

    real = False

    def __init__(self, settle: float) -> None:
        super().__init__(f"alive for {settle:g} s")
        self._settle = settle

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Wait."""
        return "stopped" if cancelled.wait(self._settle) else ""


class Tcp(Check):
    """Somebody accepts connections."""

    def __init__(self, label: str, host: str, port: int) -> None:
        super().__init__(label)
        self._address = (host, port)

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Connect."""
        try:
            with socket.create_connection(self._address, PROBE_SECONDS):
                return ""
        except OSError as error:
            return _reason(error)


class Http(Check):
    """GET answers 2xx or 3xx. Spoken by hand: the library's client costs more to import than all of us."""

    def __init__(self, label: str, host: str, port: int, target: str) -> None:
        super().__init__(label)
        self._address = (host, port)
        name = f"[{host}]" if ":" in host else host
        head = "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: codesync\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        self._request = head.format(target, name, port).encode()

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Ask, and read the status line only."""
        try:
            line = self._status_line()
        except OSError as error:
            return _reason(error)
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/") or not rest[:3].isdigit():
            return "the answer is not HTTP"
        return "" if rest[:1] in (b"2", b"3") else f"HTTP status {rest[:3].decode()}"

    def _status_line(self) -> bytes:
        until = time.monotonic() + PROBE_SECONDS
        answer = b""
        with socket.create_connection(self._address, PROBE_SECONDS) as connection:
            connection.sendall(self._request)
            while b"\n" not in answer and len(answer) < 1024:
                connection.settimeout(max(0.001, until - time.monotonic()))
                data = connection.recv(1024)
                if not data:
                    break
                answer += data
        return answer


class Command(Check):
    """A command of the shell exits 0; it runs in the application's directory and environment."""

    def __init__(self, label: str, command: str, cwd: str, children: Children) -> None:
        super().__init__(label)
        self._command = command
        self._cwd = cwd
        self._children = children

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Run it."""
        exits: queue.SimpleQueue[Exit] = queue.SimpleQueue()
        try:
            pid = self._children.spawn(["/bin/sh", "-c", self._command], exits.put, cwd=self._cwd, env=env)
        except OSError as error:
            return _reason(error)
        until = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < until and not cancelled.is_set():
            with suppress(queue.Empty):
                ended = exits.get(timeout=0.05)
                return "" if ended.code == 0 else str(ended)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return f"no answer within {PROBE_SECONDS:g} s"


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def parse_check(text: str | None, settle: float, cwd: str, children: Children) -> Check:
    """`http://HOST:PORT/PATH`, `tcp://HOST:PORT`, `cmd:COMMAND`; none: alive for `settle` seconds. Raises HealthError."""
    if not text:
        return Alive(settle)
    if text.startswith("cmd:") and text[4:].strip():
        return Command(text, text[4:], cwd, children)
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise _unknown(text) from None
    if url.scheme == "tcp" and host and port:
        return Tcp(text, host, port)
    if url.scheme == "http" and host and text.isascii() and text.isprintable() and " " not in text:
        target = (url.path or "/") + ("?" + url.query if url.query else "")
        return Http(text, host, port or 80, target)
    raise _unknown(text)


def _unknown(text: str) -> HealthError:
    ways = "http://HOST:PORT/PATH, tcp://HOST:PORT or cmd:COMMAND"
    return HealthError(f"the health check {text!r} is not understood; write {ways}")


def pause_after(elapsed: float) -> float:
    """Seconds between two questions, `elapsed` seconds after the first."""
    return next((pause for limit, pause in _SCHEDULE if elapsed < limit), _SLOWEST)


class Prober:
    """Asks `check` until it passes, and then calls `passed` once; `reason` is the last thing it heard."""

    def __init__(self, check: Check, env: Mapping[str, str], passed: Callable[[], None]) -> None:
        self.reason = "not asked yet"
        self._check = check
        self._env = env
        self._passed = passed
        self._cancelled = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        """Ask no more."""
        self._cancelled.set()

    def _run(self) -> None:
        start = time.monotonic()
        while not self._cancelled.is_set():
            self.reason = self._check.probe(self._cancelled, self._env)
            if not self.reason:
                self._passed()
                return
            self._cancelled.wait(pause_after(time.monotonic() - start))
