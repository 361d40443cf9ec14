"""Health checks, and the thread that asks one until it passes.

A check is asked at once, then every few milliseconds, then more and more rarely. It says "" when all is well, else why
not. How long is too long is not decided here.
"""

from __future__ import annotations

import queue
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codesync.supervise.answer import MAX_ANSWER, judge_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from codesync.supervise.children import Children, Exit

PROBE_SECONDS = 5.0  # one question waits no longer for its answer
OPEN_SECONDS = 0.5  # so long, and what was heard before is not the reason any more
_SCHEDULE = (
    (0.5, 0.005),
    (2.0, 0.02),
    (10.0, 0.1),
    (30.0, 0.5),
)  # until so many seconds after the start: this pause
_SLOWEST = 1.0


class HealthError(ValueError):
    """A health check is written in a way that nobody here understands; the message shows the ways there are."""


class Check(ABC):
    """What tells that an application works.

    `real` is False where nothing is asked and being alive must do; `least_pause` is in seconds, between two questions.
    """

    real = True
    least_pause = 0.0

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Ask once; "" or the reason why not."""

    def watch(self, env: Mapping[str, str], passed: Callable[[Prober], None]) -> Prober:
        """Begin to ask; `passed` is called from another thread."""
        prober = Prober(self, env, passed)
        prober.start()
        return prober


class Alive(Check):
    """No check at all: whoever is still alive after `settle` seconds runs."""

    real = False

    def __init__(self, settle: float) -> None:
        super().__init__(f"alive for {settle:g} s")
        self._settle = settle

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Wait."""
        return "stopped" if cancelled.wait(self._settle) else ""


class Never(Check):
    """For what has nothing to be healthy about, and is only waited for: it is not asked, and does not pass."""

    real = False

    def __init__(self) -> None:
        super().__init__("its end")

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Say so."""
        return "not asked"

    def watch(self, env: Mapping[str, str], passed: Callable[[Prober], None]) -> Prober:
        """A prober that asks nothing."""
        return Prober(self, env, passed)


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
    """GET answers 2xx or 3xx, with `body` in the body. Spoken by hand: the library's client costs more to import than
    all of us.
    """

    def __init__(self, label: str, host: str, port: int, target: str, body: str) -> None:
        super().__init__(label)
        self._address = (host, port)
        self._body = body
        name = f"[{host}]" if ":" in host else host
        head = "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: codesync\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        self._request = head.format(target, name, port).encode()

    def probe(self, cancelled: threading.Event, env: Mapping[str, str]) -> str:
        """Ask, and read no more of the answer than it takes."""
        until = time.monotonic() + PROBE_SECONDS
        answer, reason = b"", None
        try:
            with socket.create_connection(self._address, PROBE_SECONDS) as connection:
                connection.sendall(self._request)
                while reason is None:
                    connection.settimeout(max(0.001, until - time.monotonic()))
                    data = connection.recv(65536)
                    answer += data
                    reason = judge_answer(answer, not data or len(answer) >= MAX_ANSWER, self._body)
        except OSError as error:
            return _reason(error)
        return reason


class Command(Check):
    """A command of the shell exits 0; it runs in the application's directory and environment."""

    least_pause = 0.1  # each question is a new process, next to an application that is starting

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
        self._children.signal_session(pid, signal.SIGKILL)
        return f"no answer within {PROBE_SECONDS:g} s"


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def parse_check(
    text: str | None, settle: float, cwd: str, children: Children, body: str | None = None
) -> Check:
    """`http://HOST:PORT/PATH`, `tcp://HOST:PORT`, `cmd:COMMAND`; none: alive for `settle` seconds. Raises HealthError.

    `body`: text that the body of the answer must contain, in its first MiB; for http:// only.
    """
    check = _parse(text, settle, cwd, children, body or "")
    if body and not isinstance(check, Http):
        raise HealthError(
            "only an http:// check has a body to look into; write --health http://HOST:PORT/PATH"
        )
    return check


def _parse(text: str | None, settle: float, cwd: str, children: Children, body: str) -> Check:
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
        return Http(text, host, port or 80, target, body)
    raise _unknown(text)


def _unknown(text: str) -> HealthError:
    ways = "http://HOST:PORT/PATH, tcp://HOST:PORT or cmd:COMMAND"
    return HealthError(f"the health check {text!r} is not understood; write {ways}")


def pause_after(elapsed: float, least: float = 0.0) -> float:
    """Seconds between two questions, `elapsed` seconds after the first; not below `least`."""
    return max(least, next((pause for limit, pause in _SCHEDULE if elapsed < limit), _SLOWEST))


class Prober:
    """Asks `check` until it passes, and then calls `passed(self)` once; `reason` is the last thing it heard."""

    def __init__(self, check: Check, env: Mapping[str, str], passed: Callable[[Prober], None]) -> None:
        self._heard = "not asked yet"
        self._asked = float("inf")  # when the question was put that is still open
        self._check = check
        self._env = env
        self._passed = passed
        self._cancelled = threading.Event()

    @property
    def reason(self) -> str:
        """Why it has not passed."""
        waits = time.monotonic() - self._asked > OPEN_SECONDS
        return "no answer yet" if waits else self._heard

    @property
    def cancelled(self) -> bool:
        """Whether its answer is wanted no more."""
        return self._cancelled.is_set()

    def start(self) -> None:
        """Ask, in a thread of its own."""
        threading.Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        """Ask no more. It may have passed already, and say so once."""
        self._cancelled.set()

    def _run(self) -> None:
        start = time.monotonic()
        while not self.cancelled:
            self._asked = time.monotonic()
            self._heard = self._check.probe(self._cancelled, self._env)
            self._asked = float("inf")
            if not self._heard:
                self._passed(self)
                return
            self._cancelled.wait(pause_after(time.monotonic() - start, self._check.least_pause))
