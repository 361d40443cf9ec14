"""Where requests and responses end."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.launcher.relay.bodies import MAX_HEAD, MAX_LINE
from codesync.launcher.relay.exchange import Exchange

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5;a=b\r\nhello\r\n0A \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
ANSWER_IN_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS
EXPECT = b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Step = tuple[str, bytes]  # "c": from the client, "s": from the application


def c(data: bytes) -> Step:
    return "c", data


def s(data: bytes) -> Step:
    return "s", data


def show(exchange: Exchange, side: str, pieces: Iterable[bytes]) -> bytes:
    """What the exchange does not let through yet."""
    held = b""
    for piece in pieces:
        if side == "s":
            exchange.response(piece)
            continue
        held += piece
        while held and not (exchange.sent and not exchange.final and not exchange.opaque):
            held = held[exchange.request(held) :]
    return held


def play(*steps: Step) -> tuple[Exchange, bytes]:
    exchange, held = Exchange(), b""
    for side, data in steps:
        held = show(exchange, side, [data])
    return exchange, held


def state(exchange: Exchange) -> tuple[object, ...]:
    return (
        exchange.idle,
        exchange.sent,
        exchange.answering,
        exchange.answered,
        exchange.final,
        exchange.opaque,
        exchange.method,
        exchange.repeatable,
    )


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [c(GET), s(OK)],
        [c(GET), s(OK), c(POST + b"hello"), s(OK), c(b"\r\n")],
        [c(b"\r\n" + GET), s(OK)],
        [c(CHUNKED + CHUNKS), s(ANSWER_IN_CHUNKS)],
        [c(POST), s(OK), c(b"hello")],  # the answer was early
        [c(EXPECT), s(CONTINUE), c(b"hello"), s(OK)],
        [c(EXPECT + b"hello"), s(OK)],
        [c(GET), s(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)],
        [c(b"HEAD / HTTP/1.1\r\n\r\n"), s(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")],
        [c(GET), s(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")],
        [c(GET), s(b"HTTP/1.1 204 No Content\r\n\r\n")],
        [c(b"OPTIONS * HTTP/1.1\r\n\r\n"), s(OK)],
        [c(GET), s(b"HTTP/1.1 426 \r\nContent-Length: 0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")],
        [
            c(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"),
            s(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
        ],
        [
            c(GET),
            s(b"HTTP/1.1 200 OK\r\nX-Connection: close\r\nContent-Lengths: 9\r\nContent-Length:0\r\n\r\n"),
        ],
        [c(b"CONNECT x:1 HTTP/1.1\r\n\r\n"), s(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")],
    ],
)
def test_it_is_known_when_a_connection_is_between_requests(steps: list[Step]) -> None:
    exchange, held = play(*steps)
    assert exchange.idle
    assert not held
    assert not exchange.opaque
    assert not exchange.final


@pytest.mark.parametrize(
    "steps",
    [
        [c(b"G")],
        [c(GET)],
        [c(POST + b"hell")],
        [c(POST + b"hello"), s(CONTINUE)],
        [c(CHUNKED + CHUNKS[:-2])],
        [c(GET), s(OK[:-1])],
        [c(GET), s(ANSWER_IN_CHUNKS[:-1])],
        [c(POST + b"hell"), s(OK)],
        [c(GET + GET), s(OK), c(GET)],
    ],
)
def test_it_is_known_when_something_is_outstanding(steps: list[Step]) -> None:
    exchange, _ = play(*steps)
    assert not exchange.idle
    assert not exchange.opaque
    assert not exchange.final


@pytest.mark.parametrize(
    "steps",
    [
        [c(GET), s(b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok")],
        [c(GET), s(b"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: x\r\nContent-Length: 0\r\n\r\n")],
        [c(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), s(OK)],
        [c(b"GET / HTTP/1.0\r\n\r\n"), s(OK)],
        [c(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), s(OK)],  # nobody has told the client
        [c(GET), s(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")],
        [c(GET), s(b"HTTP/1.1 200 OK\r\n\r\n")],
        [c(GET), s(b"HTTP/1.1 200 OK\r\n\r\ndata: without end\n\n")],
        [c(POST), s(b"HTTP/1.1 200 OK\r\n\r\nearly"), c(b"hello")],
    ],
)
def test_it_is_known_when_no_other_request_follows(steps: list[Step]) -> None:
    exchange, _ = play(*steps)
    assert exchange.final
    assert not exchange.idle
    assert show(exchange, "c", [b"whatever"]) == b""


@pytest.mark.parametrize(
    "steps",
    [
        [c(b"\x16\x03\x01\x02\x00")],  # TLS
        [c(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
        [c(b"PING\r\n")],
        [c(b"GET /\r\n")],
        [c(b"OPTIONS rtsp://x RTSP/1.0\r\n")],
        [c(b"x" * 33)],
        [s(b"220 ready\r\n")],
        [c(b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n")],
        [c(b"GET / HTTP/1.1\nHost: x\n\n")],
        [c(b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n")],
        [c(b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n")],
        [c(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n")],
        [c(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD)],
        [c(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")],
        [c(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n")],
        [c(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")],
        [c(CHUNKED + b"x\r\n")],
        [c(CHUNKED + b"5\n")],
        [c(CHUNKED + b"1\r\nab\r\n")],
        [c(CHUNKED + b"0\r\ntrailer\n")],
        [c(CHUNKED + b"1;" + b"x" * MAX_LINE)],
        [c(GET), s(b"HTTP/2 200\r\n")],
        [c(GET), s(b"SSH")],
        [c(GET), s(b"HTTP/1.1 600 x\r\n\r\n")],
        [c(GET), s(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        [c(GET), s(OK + b"more")],
        [c(GET), s(OK), s(b"HTTP/1.1 408 Request Timeout\r\n\r\n")],
        [c(b"GET /"), s(b"HTTP/1.1 400 Bad Request\r\n\r\n")],
        [c(POST), s(OK + b"more")],
        [c(EXPECT), s(OK)],  # with or without the body? Nobody can tell
        [c(GET), s(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")],
        [c(b"CONNECT x:1 HTTP/1.1\r\n\r\nearly"), s(b"HTTP/1.1 200 OK\r\n\r\n")],
    ],
)
def test_what_is_not_understood_goes_through_for_good(steps: list[Step]) -> None:
    exchange, _ = play(*steps)
    assert exchange.opaque
    assert show(exchange, "c", [GET + GET]) == b""
    exchange.response(OK)
    assert exchange.opaque
    assert not exchange.idle
    assert not exchange.method


def test_the_next_request_waits_for_the_answer() -> None:
    exchange, held = play(c(POST + b"hello" + GET + POST))
    assert held == GET + POST
    assert exchange.sent
    exchange.response(OK)
    assert exchange.idle
    assert show(exchange, "c", [held]) == POST


@pytest.mark.parametrize(
    ("steps", "repeatable"),
    [
        ([], False),
        ([c(b"GE")], True),
        ([c(GET)], True),
        ([c(b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")], True),
        ([c(GET), s(b"H")], False),
        ([c(EXPECT), s(CONTINUE)], False),
        ([c(POST)], False),
        ([c(b"POST / HT")], True),
        ([c(b"\x16")], False),
    ],
)
def test_it_is_known_what_may_be_sent_twice(steps: list[Step], repeatable: bool) -> None:
    assert play(*steps)[0].repeatable is repeatable


REQUESTS = (
    GET,
    POST + b"hello",
    CHUNKED + CHUNKS,
    EXPECT + b"hello",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"\r\n" + GET,
)
PARTS = (b"\r", b"\n", b"\r\n\r\n", b" ", b"0", b"HTTP/1.1", b"Connection: close\r\n", b"x" * 40)
ANSWERS = (
    OK,
    ANSWER_IN_CHUNKS,
    CONTINUE + OK,
    CONTINUE,
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nx",
)


@st.composite
def damaged(draw: st.DrawFn, whole: tuple[bytes, ...]) -> bytes:
    """Something whole, perhaps with a part put in or cut out."""
    data = b"".join(draw(st.lists(st.sampled_from(whole), min_size=1, max_size=2)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from(PARTS)) + data[at + cut :]
    return data


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=6)))
    ends = [0, *cuts, len(data)]
    return [piece for piece in map(data.__getitem__, map(slice, ends, ends[1:])) if piece]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_how_the_bytes_are_split_changes_nothing(data: st.DataObject) -> None:
    whole, split = Exchange(), Exchange()
    held_whole = held_split = b""
    for _ in range(3):
        request = data.draw(damaged(REQUESTS))
        held_whole = show(whole, "c", [held_whole + request])
        held_split = show(split, "c", [held_split, *data.draw(pieces(request))])
        assert (held_whole, state(whole)) == (held_split, state(split))
        answer = data.draw(damaged(ANSWERS))
        show(whole, "s", [answer])
        show(split, "s", data.draw(pieces(answer)))
        assert state(whole) == state(split)


@pytest.mark.parametrize(
    "steps", [[c(CHUNKED + CHUNKS), s(CONTINUE + ANSWER_IN_CHUNKS)], [c(POST + b"hello"), s(OK)]]
)
def test_a_conversation_byte_by_byte_is_idle_at_its_ends_only(steps: list[Step]) -> None:
    exchange = Exchange()
    for side, data in steps:
        for at in range(len(data)):
            assert exchange.idle is (side == "c" and at == 0)
            show(exchange, side, [data[at : at + 1]])
    assert exchange.idle
