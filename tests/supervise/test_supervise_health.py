"""What counts as healthy, and how it is asked."""

import http.server
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codesync.supervise import Check, Children, HealthError, Loop, Never, Signals, health, parse_check
from codesync.supervise.health import pause_after


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/").partition("?")[0]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Chatty(http.server.BaseHTTPRequestHandler):
    """Answers in chunks, and keeps the connection although it is asked to close it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in (b'{"status": "o', b'k"}', b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.close_connection = False

    def log_message(self, *_: object) -> None:
        pass


class Garbage(socketserver.BaseRequestHandler):
    """Speaks something else."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"220 smtp ready\r\n")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc, index]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def children() -> Iterator[Children]:
    """Children that are reaped as soon as they end."""
    made, loop = Children(), Loop()
    signals = Signals(loop)
    signals.on(signal.SIGCHLD, lambda _: made.reap())
    end = threading.Event()
    consumer = threading.Thread(target=loop.wait, args=(end.is_set,))
    consumer.start()
    yield made
    end.set()
    loop.post(end.is_set)
    consumer.join()
    signals.close()


def check(
    text: str | None, children: Children | None = None, cwd: str = "/", body: str | None = None
) -> Check:
    return parse_check(text, 0.01, cwd, children or Children(), body)


def ask(
    text: str | None,
    children: Children | None = None,
    cwd: str = "/",
    body: str | None = None,
    **env: str,
) -> str:
    return check(text, children, cwd, body).probe(threading.Event(), {"PATH": os.environ["PATH"], **env})


def test_http_is_healthy_from_200_to_399_only() -> None:
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        base = f"http://127.0.0.1:{port}"
        answers = {status: ask(f"{base}/{status}?a=b") for status in (200, 204, 302, 399, 404, 500, 503)}

    assert [status for status, answer in answers.items() if not answer] == [200, 204, 302, 399]
    assert answers[503] == "HTTP status 503"


def test_the_body_must_contain_the_wanted_text() -> None:
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chatty)) as port:
        assert ask(f"http://127.0.0.1:{port}/", body='"status": "ok"') == ""
        answer = ask(f"http://127.0.0.1:{port}/", body="degraded")

    assert answer == "the answer does not contain 'degraded'"


@pytest.mark.parametrize("text", [None, "tcp://localhost:1", "cmd:true"])
def test_only_http_has_a_body_to_look_into(text: str | None) -> None:
    with pytest.raises(HealthError, match="write --health http://HOST:PORT/PATH"):
        check(text, body="ok")


def test_a_refused_connection_and_another_protocol_are_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "refused" in ask(f"http://127.0.0.1:{port}/")
    assert "refused" in ask(f"tcp://127.0.0.1:{port}")
    with serving(socketserver.TCPServer(("127.0.0.1", 0), Garbage)) as port:
        assert ask(f"http://127.0.0.1:{port}/") == "the answer is not HTTP"
        assert ask(f"tcp://127.0.0.1:{port}") == ""


def test_an_ipv6_address_may_be_written_in_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert ask(f"tcp://[::1]:{server.getsockname()[1]}") == ""


def test_a_command_is_healthy_when_it_exits_0(children: Children, tmp_path: os.PathLike[str]) -> None:
    assert ask("cmd:exit 0", children) == ""
    assert ask("cmd:exit 3", children) == "exit code 3"
    assert ask("cmd:kill -9 $$", children) == "signal SIGKILL"
    assert ask("cmd:test $WORD = yes", children, WORD="yes") == ""
    assert ask(f"cmd:test $PWD = {tmp_path}", children, cwd=os.fspath(tmp_path)) == ""
    assert "No such file" in ask("cmd:true", children, cwd="/nowhere/at/all")


def test_a_command_that_hangs_is_killed_when_nobody_waits_any_more(children: Children) -> None:
    cancelled = threading.Event()
    threading.Timer(0.05, cancelled.set).start()
    start = time.monotonic()
    answer = check("cmd:sleep 100 & wait", children).probe(cancelled, os.environ)

    assert answer
    assert time.monotonic() - start < 3


def test_without_a_check_being_alive_is_enough() -> None:
    assert ask(None) == ""
    assert not check(None).real
    assert check("tcp://localhost:1").real
    stopped = threading.Event()
    stopped.set()
    assert check(None).probe(stopped, {}) == "stopped"


@pytest.mark.parametrize(
    "text",
    [
        "https://x/",
        "http://",
        "tcp://host",
        "tcp://:80",
        "cmd:",
        "cmd:  ",
        "localhost:80",
        "http://x:99999/",
        "http://x/a b",
        "http://é/",
    ],
)
def test_what_is_not_understood_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(HealthError, match="http://HOST:PORT/PATH, tcp://HOST:PORT or cmd:COMMAND"):
        check(text)


def test_questions_come_fast_at_first_and_never_stop() -> None:
    pauses = [pause_after(second) for second in (0, 1, 5, 20, 100, 10_000)]

    assert pauses[0] == 0.005
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_command_is_not_started_every_few_milliseconds() -> None:
    assert check("cmd:true").least_pause == 0.1
    assert [pause_after(second, 0.1) for second in (0, 1, 5, 20)] == [0.1, 0.1, 0.1, 0.5]


def test_what_is_only_waited_for_is_never_asked() -> None:
    never, passed = Never(), threading.Event()
    prober = never.watch({}, lambda _: passed.set())
    prober.cancel()

    assert (never.real, never.probe(threading.Event(), {})) == (False, "not asked")
    assert not passed.is_set()


class Third(Check):
    """Passes when it is asked for the third time."""

    def __init__(self) -> None:
        super().__init__("third time")
        self.asked = 0

    def probe(self, cancelled: threading.Event, env: object) -> str:
        self.asked += 1
        return "" if self.asked == 3 else f"asked {self.asked} times"


def test_a_prober_asks_until_it_passes_and_says_so_once() -> None:
    third, passed = Third(), threading.Semaphore(0)
    prober = third.watch({}, lambda _: passed.release())

    assert passed.acquire(timeout=5)
    assert (third.asked, prober.reason) == (3, "")
    assert not passed.acquire(timeout=0.05)


def test_a_cancelled_prober_is_silent() -> None:
    class Deaf(Check):
        def probe(self, cancelled: threading.Event, env: object) -> str:
            return "no"

    passed = threading.Event()
    prober = Deaf("deaf").watch({}, lambda _: passed.set())
    prober.cancel()

    assert not passed.wait(0.05)
    assert prober.reason in ("no", "not asked yet")


def test_a_question_that_stays_open_is_the_reason_not_what_was_heard_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hangs(Check):
        def probe(self, cancelled: threading.Event, env: object) -> str:
            asked.release()
            cancelled.wait(10)
            return "too late"

    asked = threading.Semaphore(0)
    monkeypatch.setattr(health, "OPEN_SECONDS", 0.0)
    prober = Hangs("hangs").watch({}, lambda _: None)
    assert asked.acquire(timeout=5)
    until = time.monotonic() + 5
    while prober.reason != "no answer yet":
        assert time.monotonic() < until
    prober.cancel()


def test_the_http_client_of_the_library_is_not_imported() -> None:
    import subprocess

    code = "import sys, codesync.supervise; sys.exit('http' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
