"""Twenty swaps under clients that never rest: not one request fails."""

import hashlib
import http.client
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random

import pytest

from codesync.launcher.relay import Relay, search
from tests.launcher.relay_twins import (
    SECONDS,
    Crowd,
    Twin,
    ask,
    client_of,
    drain,
    get,
    read_answer,
    read_until,
    relaying,
)

SWAPS = 20
BODY = bytes(range(256)) * 800  # more than is kept of a request
POST = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(BODY)

Visit = Callable[[], list[str]]


def keeping_alive(relay: Relay, stack: ExitStack) -> Visit:
    client = stack.enter_context(client_of(relay))
    return lambda: [ask(client)]


def closing(relay: Relay, _: ExitStack) -> Visit:
    def visit() -> list[str]:
        with client_of(relay) as client:
            client.sendall(get("/", "Connection: close"))
            name = read_answer(client).decode()
            assert client.recv(1) == b""
            return [name]

    return visit


def leaving(relay: Relay, _: ExitStack) -> Visit:
    def visit() -> list[str]:
        with client_of(relay) as client:
            return [ask(client)]

    return visit


def pipelining(relay: Relay, stack: ExitStack) -> Visit:
    client = stack.enter_context(client_of(relay))
    client.sendall(get() * 4)  # there is never a moment without a request

    def visit() -> list[str]:
        client.sendall(get() * 2)
        return [read_answer(client).decode() for _ in range(2)]

    return visit


def uploading(relay: Relay, stack: ExitStack) -> Visit:
    client = stack.enter_context(client_of(relay))
    digest = hashlib.sha256(BODY).hexdigest()

    def visit() -> list[str]:
        client.sendall(POST + BODY)
        name, received = read_answer(client).decode().split()
        assert received == digest
        return [name]

    return visit


def asking_first(relay: Relay, stack: ExitStack) -> Visit:
    client = stack.enter_context(client_of(relay))

    def visit() -> list[str]:
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.sendall(b"hello")
        return [read_answer(client).decode().split()[0]]

    return visit


def reading_chunks(relay: Relay, stack: ExitStack) -> Visit:
    client = http.client.HTTPConnection(*relay.address, timeout=SECONDS)
    client.auto_open = 0  # another connection would hide that this one has been closed
    client.connect()
    stack.callback(client.close)

    def visit() -> list[str]:
        client.request("GET", "/chunked")
        return client.getresponse().read().decode().split()[:1]

    return visit


CLIENTS = (keeping_alive, closing, leaving, pipelining, uploading, asking_first, reading_chunks)


def test_not_one_request_fails_over_twenty_swaps() -> None:
    twin = Twin("0")
    with relaying(twin.port) as relay, ExitStack() as stack:
        crowd = Crowd(*(make(relay, stack) for make in CLIENTS for _ in range(2)))
        try:
            for number in range(1, SWAPS + 1):
                old, twin = twin, Twin(str(number))
                relay.point(twin.port)
                assert drain(relay, old.port).wait(SECONDS)
                old.stop()
                crowd.wait_for_all()
        finally:
            crowd.leave()
            twin.stop()
    assert crowd.failures == []
    assert all(len(names) >= SWAPS for names in crowd.seen)


def misbehave(relay: Relay, seed: int, end: threading.Event) -> None:
    """Come, say anything, leave at any time, in any way."""
    random = Random(seed)
    words = (get(), get() * 3, get()[:9], b"\0", POST, POST + BODY, get("/chunked", "Connection: close"))
    while not end.is_set():
        with suppress(OSError), client_of(relay) as client:
            for _ in range(random.randint(0, 4)):
                client.sendall(random.choice(words))
                if random.random() < 0.7:
                    client.settimeout(random.choice((0.001, 0.02)))
                    client.recv(random.choice((1, 100_000)))
                if random.random() < 0.2:
                    client.shutdown(socket.SHUT_WR)
            if random.random() < 0.2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_nothing_is_left_of_clients_that_misbehave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WAIT_SECONDS", 0.1)
    end = threading.Event()
    mistakes: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: mistakes.append(error))
    twin = Twin("0")
    with relaying(twin.port) as relay:
        clients = [threading.Thread(target=misbehave, args=(relay, seed, end)) for seed in range(8)]
        for client in clients:
            client.start()
        for number in range(SWAPS):
            old, twin = twin, Twin(str(number))
            relay.point(None if number % 4 == 3 else twin.port)
            assert drain(relay, old.port, 0.05).wait(SECONDS)
            old.stop()
        end.set()
        for client in clients:
            client.join(SECONDS)
        assert drain(relay, twin.port, 0.05).wait(SECONDS)
        gone = threading.Event()

        def look() -> None:
            if relay._connections:
                relay._poll.after(0.01, look)
            else:
                gone.set()

        relay._poll.post(look)
        assert gone.wait(SECONDS)
    twin.stop()
    assert mistakes == []


def test_an_upgraded_connection_lives_through_swaps_until_its_twin_is_drained() -> None:
    twins = [Twin(str(number)) for number in range(5)]
    with relaying(twins[0].port) as relay, client_of(relay) as client:
        client.sendall(get("/upgrade", "Connection: Upgrade", "Upgrade: echo"))
        read_until(client, b"\r\n\r\n")
        for twin in twins[1:]:
            relay.point(twin.port)
            client.sendall(b"word")
            assert client.recv(4) == b"word"
            with client_of(relay) as other:
                assert ask(other) == twin.name
        drained = drain(relay, twins[0].port)
        client.shutdown(1)
        assert client.recv(1) == b""
        assert drained.wait(SECONDS)
    for twin in twins:
        twin.stop()
