"""Twins that come and go behind a relay: who is asked, who waits, who stays."""

import hashlib
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from codesync.launcher.relay import connection, search
from tests.launcher.relay_twins import (
    SECONDS,
    Twin,
    ask,
    client_of,
    drain,
    get,
    making_twins,
    read_all,
    read_answer,
    read_exactly,
    read_until,
    relaying,
    settle,
)


@pytest.fixture
def make() -> Iterator[Callable[[str], Twin]]:
    """Makes twins; they are stopped after the test."""
    with making_twins() as made:
        yield made


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_who_refuses_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REFUSED_SECONDS", 0.05)
    with relaying(unused_port()) as relay:
        with client_of(relay) as client:
            client.sendall(get())
            assert read_all(client).startswith(b"HTTP/1.1 502 ")
        with client_of(relay) as client:
            client.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
            assert read_all(client).endswith(b"\r\n\r\n")
        with client_of(relay) as client:
            client.sendall(b"\0")
            assert client.recv(1) == b""


def test_a_twin_that_begins_to_listen_late_is_found(make: Callable[[str], Twin]) -> None:
    with relaying(unused_port()) as relay, client_of(relay) as client:
        client.sendall(get())
        settle(relay)
        relay.point(make("late").port)
        assert read_answer(client) == b"late"


@contextmanager
def busy() -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A server whose backlog is full, and the connections in it: who connects now gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        waiting: list[socket.socket] = []
        while not waiting or select.select([], waiting[-1:], [], 0.2)[1]:
            waiting.append(stack.enter_context(socket.socket()))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(server.getsockname())
        server.settimeout(SECONDS)
        yield server, waiting


def test_who_waits_for_a_busy_twin_goes_to_the_next(make: Callable[[str], Twin]) -> None:
    with busy() as (server, _), relaying(server.getsockname()[1]) as relay, client_of(relay) as client:
        client.sendall(get())
        settle(relay)
        relay.point(make("b").port)
        drained = drain(relay, server.getsockname()[1])
        assert read_answer(client) == b"b"
        assert drained.wait(SECONDS)


def test_a_busy_twin_is_waited_for() -> None:
    with busy() as (server, waiting), relaying(server.getsockname()[1]) as relay, client_of(relay) as client:
        client.sendall(get())
        settle(relay)
        for each in waiting:
            each.close()
        request = b""
        while request != get():
            with server.accept()[0] as backend:  # the kernel asks again after a second
                backend.settimeout(SECONDS)
                request = backend.recv(len(get()))
                if request == get():
                    backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbusy")
                    assert read_answer(client) == b"busy"
                    assert drain(relay, server.getsockname()[1]).wait(SECONDS)


def test_who_waits_too_long_for_a_busy_twin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WAIT_SECONDS", 0.05)
    with busy() as (server, _), relaying(server.getsockname()[1]) as relay, client_of(relay) as client:
        client.sendall(get())
        assert read_all(client).startswith(b"HTTP/1.1 502 ")


def test_clients_wait_while_nobody_serves(make: Callable[[str], Twin]) -> None:
    with relaying(None) as relay, client_of(relay) as client, client_of(relay) as silent:
        client.sendall(get())
        settle(relay)
        relay.point(make("a").port)
        assert read_answer(client) == b"a"
        assert ask(silent) == "a"
        relay.point(None)
        client.sendall(get())
        settle(relay)
        relay.point(make("b").port)
        assert read_answer(client) == b"b"


def test_clients_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WAIT_SECONDS", 0.05)
    with relaying(None) as relay, client_of(relay) as silent:
        assert silent.recv(1) == b""
        with client_of(relay) as client:
            client.sendall(get())
            assert read_all(client).startswith(b"HTTP/1.1 502 ")


def test_a_client_between_two_requests_changes_over(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client, client_of(relay) as silent:
        assert ask(client) == "a"
        relay.point(b.port)
        drained = drain(relay, a.port)
        assert drained.wait(SECONDS)
        assert ask(client) == "b"
        assert ask(silent) == "b"
        assert ask(client, "/chunked?") == "b"
        assert drained.times == 1


def test_what_is_in_flight_ends_where_it_began(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client:
        client.sendall(get("/gate") + get() + get())  # pipelined
        assert a.entered.acquire(timeout=SECONDS)
        relay.point(b.port)
        drained = drain(relay, a.port)
        settle(relay)
        assert not drained.is_set()
        a.gate.set()
        assert [read_answer(client) for _ in range(3)] == [b"a", b"b", b"b"]
        assert drained.wait(SECONDS)


def test_an_upload_ends_where_it_began(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    body = bytes(range(256)) * 1000
    with relaying(a.port) as relay, client_of(relay) as client:
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        assert a.entered.acquire(timeout=SECONDS)
        relay.point(b.port)
        drained = drain(relay, a.port)
        client.sendall(body)
        assert read_answer(client).decode() == "a " + hashlib.sha256(body).hexdigest()
        assert drained.wait(SECONDS)
        assert ask(client) == "b"


def test_what_was_upgraded_stays_until_the_bound(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client, client_of(relay) as raw:
        client.sendall(get("/upgrade", "Connection: Upgrade", "Upgrade: echo"))
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        relay.point(b.port)
        settle(relay)
        client.sendall(b"still there")
        assert read_exactly(client, 11) == b"still there"
        raw.sendall(b"GET / HTTP/1.1\r\nHost")  # unfinished, but with the new twin
        drained = drain(relay, a.port, 0.05)
        with pytest.raises(ConnectionResetError):
            assert client.recv(1)
        assert drained.wait(SECONDS)
        raw.sendall(b": x\r\n\r\n")
        assert read_answer(raw) == b"b"


def test_at_the_bound_a_request_that_nobody_answers_goes_to_the_new_twin(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    b.gate.set()
    with relaying(a.port) as relay, client_of(relay) as client:
        client.sendall(get("/gate"))
        assert a.entered.acquire(timeout=SECONDS)
        relay.point(b.port)
        assert drain(relay, a.port, 0.05).wait(SECONDS)
        assert read_answer(client) == b"b"
        assert ask(client) == "b"


def test_a_drain_of_who_serves_leaves_nobody_serving(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client:
        assert ask(client) == "a"
        assert drain(relay, a.port).wait(SECONDS)
        client.sendall(get())
        settle(relay)
        relay.point(b.port)
        assert read_answer(client) == b"b"


def test_who_serves_again_is_not_drained_any_more(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client:
        client.sendall(get("/gate"))
        assert a.entered.acquire(timeout=SECONDS)
        relay.point(b.port)
        drained = drain(relay, a.port)
        relay.point(a.port)
        settle(relay)
        a.gate.set()
        assert read_answer(client) == b"a"
        assert ask(client) == "a"
        assert not drained.is_set()


def test_who_wants_to_know_of_a_drain_cannot_end_the_relay(
    make: Callable[[str], Twin], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("not ours")

    twin = make("a")
    with relaying(twin.port) as relay, client_of(relay) as client:
        relay.drain(1, 0.0, fail)
        assert ask(client) == "a"
    assert "not ours" in capsys.readouterr().err


def test_a_client_without_a_twin_is_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[str], Twin]
) -> None:
    monkeypatch.setattr(connection, "PARKED_SECONDS", 0.05)
    a, b = make("a"), make("b")
    with relaying(a.port) as relay, client_of(relay) as client:
        assert ask(client) == "a"
        relay.point(b.port)
        assert client.recv(1) == b""
