"""One connection at a time through a relay: bytes and ends."""

import hashlib
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.launcher.relay import RESERVED_DESCRIPTORS, Relay
from codesync.launcher.relay.side import Side
from tests.launcher.relay_twins import (
    SECONDS,
    Listener,
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

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def make() -> Iterator[Callable[[str], Twin]]:
    """Makes twins; they are stopped after the test."""
    with making_twins() as made:
        yield made


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.stop()


@pytest.fixture
def relay(listener: Listener) -> Iterator[Relay]:
    """Points at `listener`."""
    with relaying(listener.port) as made:
        yield made


# --- bytes ---------------------------------------------------------------------------------------------------


PIECES = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)
SIZES = st.integers(1, 400)


def in_chunks(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def message(start: bytes, pieces: list[bytes], chunked: bool) -> bytes:
    if chunked:
        return start + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(pieces)
    body = b"".join(pieces)
    return start + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def send_in_pieces(connection: socket.socket, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        connection.sendall(data[at : at + size])


def test_http_arrives_unchanged_however_it_is_cut(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:

        @settings(max_examples=60, deadline=None)
        @given(PIECES, PIECES, st.tuples(st.booleans(), st.booleans()), st.tuples(SIZES, SIZES))
        def exchange(
            there: list[bytes], back: list[bytes], chunked: tuple[bool, bool], sizes: tuple[int, int]
        ) -> None:
            request = message(b"POST / HTTP/1.1", there, chunked[0])
            send_in_pieces(client, request, sizes[0])
            assert read_exactly(backend, len(request)) == request
            answer = message(b"HTTP/1.1 200 OK", back, chunked[1])
            send_in_pieces(backend, answer, sizes[1])
            assert read_exactly(client, len(answer)) == answer

        exchange()
        drained = drain(relay, listener.port)  # all of it was understood: nothing is outstanding
        assert drained.wait(SECONDS)


def test_anything_else_arrives_unchanged_however_it_is_cut(relay: Relay, listener: Listener) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from([b"\x16\x03", b"GET / HTTP/3\r\n", b"PRI * HTTP/2.0\r\n\r\n"]), PIECES, PIECES)
    def check(start: bytes, there: list[bytes], back: list[bytes]) -> None:
        with client_of(relay) as client, listener.accept() as backend:
            for piece, answer in zip_longest([start, *there], back, fillvalue=b""):
                client.sendall(piece)
                backend.sendall(answer)
            client.shutdown(socket.SHUT_WR)
            backend.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"".join(back)
            assert read_all(backend) == start + b"".join(there)

    check()


def test_half_closed_connections_go_on_in_the_other_direction(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(b"\0question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(backend) == b"\0question"
        backend.sendall(b"answer")
        backend.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"answer"
    with client_of(relay) as client, listener.accept() as backend:
        backend.sendall(b"banner")
        backend.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"banner"
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        assert read_all(backend) == b"bye"


def test_a_request_is_answered_after_its_client_has_half_closed(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        client.shutdown(socket.SHUT_WR)
        assert read_all(backend) == get()
        backend.sendall(OK)
        assert read_all(client) == OK
        assert backend.recv(1) == b""


def test_nobody_reads_for_a_client_that_does_not(relay: Relay, listener: Listener) -> None:
    block = bytes(range(256)) * 256
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        read_exactly(backend, len(get()))
        backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * len(block)))
        backend.setblocking(False)
        sent = 0
        while select.select([], [backend], [], 0.5)[1]:  # nothing moves any more
            sent += backend.send(block[sent % len(block) :])
            assert sent < 48 * 1024 * 1024, "more than two sockets' buffers hold"
        backend.settimeout(SECONDS)

        def send_the_rest() -> None:
            backend.sendall((block * 1024)[sent:])

        sender = threading.Thread(target=send_the_rest)
        sender.start()
        read_until(client, b"\r\n\r\n")
        digest, left = hashlib.sha256(), 1024 * len(block)
        while left:
            piece = client.recv(1024 * 1024)
            digest.update(piece)
            left -= len(piece)
        sender.join(SECONDS)
        assert digest.digest() == hashlib.sha256(block * 1024).digest()


def test_nobody_reads_for_an_application_that_does_not(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept():
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % 10**9)
        client.setblocking(False)
        sent = 0
        while select.select([], [client], [], 0.5)[1]:
            sent += client.send(b"x" * 65536)
            assert sent < 48 * 1024 * 1024, "more than two sockets' buffers hold"


def test_a_client_that_is_gone_is_gone_for_the_application(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        assert read_exactly(backend, len(get()))
        Side(client, relay._poll, lambda _: None).reset()
        with pytest.raises(ConnectionResetError):
            assert backend.recv(1)
    with client_of(relay) as client, listener.accept() as backend:
        client.close()
        assert backend.recv(1) == b""


# --- ends ----------------------------------------------------------------------------------------------------


def test_an_application_that_closes_an_idle_connection_closes_the_client(
    relay: Relay, listener: Listener
) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        backend.sendall(OK)
        assert read_answer(client) == b"ok"
        backend.close()
        assert client.recv(1) == b""


def test_an_answer_that_ends_with_the_connection_is_whole(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        read_exactly(backend, len(get()))
        backend.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)
        backend.close()
        assert read_all(client).endswith(b"\n" + b"x" * 100_000)


def test_an_answer_that_is_cut_off_is_not_taken_for_whole(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        read_exactly(backend, len(get()))
        backend.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        read_until(client, b"half")
        Side(backend, relay._poll, lambda _: None).reset()
        with pytest.raises(ConnectionResetError):
            assert client.recv(1)


def test_an_early_answer_reaches_a_client_that_is_still_sending(relay: Relay, listener: Listener) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        client.sendall(b"x" * 500_000)
        read_until(backend, b"\r\n\r\n")
        backend.sendall(refusal)
        backend.close()  # with bytes unread: a reset
        assert read_exactly(client, len(refusal)) == refusal
        client.sendall(b"x" * 500_000)
        assert client.recv(1) == b""


@pytest.mark.parametrize("listening", [True, False])
def test_a_request_that_may_be_repeated_is(
    relay: Relay, listener: Listener, listening: bool, make: Callable[[str], Twin]
) -> None:
    twin = make("b")
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        read_exactly(backend, len(get()))
        if not listening:
            listener.stop()
            relay.point(twin.port)
            settle(relay)
        backend.close()
        if listening:
            with listener.accept() as again:
                assert read_exactly(again, len(get())) == get()
                again.sendall(OK)
                assert read_answer(client) == b"ok"
        else:
            assert read_answer(client) == b"b"
            assert ask(client) == "b"


def test_a_request_that_may_not_be_repeated_is_answered_all_the_same(
    relay: Relay, listener: Listener
) -> None:
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(POST)
        read_exactly(backend, len(POST))
        backend.close()
        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"\r\nConnection: close\r\n" in answer


def test_a_request_is_repeated_once(relay: Relay, listener: Listener) -> None:
    with client_of(relay) as client:
        client.sendall(get())
        for _ in range(2):
            with listener.accept() as backend:
                read_exactly(backend, len(get()))
        assert read_all(client).startswith(b"HTTP/1.1 502 ")


def test_an_application_that_stops_by_itself_while_it_is_drained_costs_no_client(
    relay: Relay, listener: Listener, make: Callable[[str], Twin]
) -> None:
    twin = make("b")
    with client_of(relay) as client, listener.accept() as backend:
        client.sendall(get())
        backend.sendall(OK)
        assert read_answer(client) == b"ok"
        client.sendall(get())
        read_exactly(backend, 2 * len(get()))
        relay.point(twin.port)
        drained = drain(relay, listener.port)
        settle(relay)
        backend.close()
        assert read_answer(client) == b"b"
        assert drained.wait(SECONDS)


# --- the relay itself ----------------------------------------------------------------------------------------


def test_it_listens_before_it_serves(make: Callable[[str], Twin]) -> None:
    relay = Relay("", 0)
    with socket.create_connection(("127.0.0.1", relay.address[1]), SECONDS) as client:
        client.sendall(get())
        relay.point(make("a").port)
        relay.serve()
        assert read_answer(client) == b"a"
        relay.close()
        assert client.recv(1) == b""


def test_an_address_in_use_is_an_error_and_a_closed_relay_uses_none() -> None:
    first = Relay("localhost", 0)
    with pytest.raises(OSError, match="in use"):
        Relay(*first.address)
    first.close()
    second = Relay(*first.address)
    second.serve()
    second.close()
    second.close()
    second.point(1)  # nobody minds
    with pytest.raises(OSError):
        Relay("no such host.invalid", 0)


def test_many_connections_at_once(make: Callable[[str], Twin]) -> None:
    a, b = make("a"), make("b")
    with relaying(a.port) as relay:
        clients = [client_of(relay) for _ in range(100)]
        for port, name in ((a.port, "a"), (b.port, "b")):
            relay.point(port)
            for client in clients:
                client.sendall(get())
            assert {read_answer(client).decode() for client in clients} == {name}
        assert drain(relay, a.port).wait(SECONDS)
        for client in clients:
            client.close()
        drained = drain(relay, b.port)
        assert drained.wait(SECONDS)


def test_clients_leave_the_launcher_its_own_descriptors(
    make: Callable[[str], Twin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (RESERVED_DESCRIPTORS + 5, 1024))
    with relaying(make("one").port) as relay:
        first, second, third = (client_of(relay) for _ in range(3))
        assert (ask(first), ask(second)) == ("one", "one")
        third.sendall(get())
        assert select.select([third], [], [], 0.2)[0] == []
        first.close()
        assert read_answer(third) == b"one"
        second.close()
        third.close()
