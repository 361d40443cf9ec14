"""Output goes through untouched, and its end is kept."""

import os
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.supervise import Tail
from codesync.supervise.output import pump


def test_lines_come_as_they_were_written_and_an_unfinished_one_last() -> None:
    tail = Tail()
    tail.add(1, b"one\ntw")
    tail.add(1, b"o\nthr")

    assert tail.lines() == ["one", "two", "thr"]


def test_streams_do_not_cut_into_each_others_lines() -> None:
    tail = Tail()
    tail.add(1, b"out")
    tail.add(2, b"Traceback:\n")
    tail.add(1, b"put\n")

    assert tail.lines() == ["Traceback:", "output"]


def test_a_flood_on_one_stream_does_not_wash_the_other_away() -> None:
    tail = Tail(max_lines=10, max_bytes=1000)
    tail.add(1, b"".join(b"request %d\n" % number for number in range(20)))
    tail.add(2, b"Traceback:\nBoom\n")
    for number in range(50):
        tail.add(1, b"%d" % number + b"x" * 200 + b"\n")

    assert [line for line in tail.lines() if not line.endswith("x")] == ["Traceback:", "Boom"]
    assert len([line for line in tail.lines() if line.endswith("x")]) == 4


def test_what_is_no_utf8_is_replaced() -> None:
    tail = Tail()
    tail.add(1, b"caf\xe9\r\n")

    assert tail.lines() == ["caf\ufffd"]


def test_a_line_without_end_keeps_its_last_bytes() -> None:
    tail = Tail(max_bytes=40)
    for _ in range(100):
        tail.add(1, b"abc")
    tail.add(1, b"END")

    assert tail.lines() == ["cabcabcEND"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\r", b"\n")), max_size=40),
    st.integers(1, 6),
)
def test_however_it_is_cut_the_tail_is_that_of_the_whole(chunks: Sequence[bytes], count: int) -> None:
    tail = Tail(max_lines=count, max_bytes=100_000)
    for chunk in chunks:
        tail.add(1, chunk)
    *lines, rest = b"".join(chunks).split(b"\n")
    expected = [*lines[-count:], *([rest] if rest else [])][-count:]

    assert tail.lines() == [line.decode("utf-8", "replace") for line in expected]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=50)), max_size=60))
def test_the_tail_never_grows_beyond_its_bounds(chunks: Sequence[tuple[int, bytes]]) -> None:
    tail = Tail(max_lines=5, max_bytes=40)
    for stream, chunk in chunks:
        tail.add(stream, chunk)

    assert len(tail.lines()) <= 5
    assert sum(len(line) for line in tail.lines()) <= 40


def _through(data: bytes, sink: int) -> tuple[bytes, bool]:
    """Pump `data` into `sink`; what was kept, and whether it ended."""
    kept: list[bytes] = []
    source, end = os.pipe()
    thread = pump(source, sink, kept.append)
    with open(end, "wb") as file:
        file.write(data)
    thread.join(10)
    return b"".join(kept), kept[-1] == b""


def test_a_pump_passes_on_every_byte_and_says_when_it_ends() -> None:
    data = os.urandom(300_000)
    out, sink = os.pipe()
    got: list[bytes] = []

    def listen() -> None:
        with open(out, "rb") as file:
            got.append(file.read())

    listener = threading.Thread(target=listen)
    listener.start()
    kept, ended = _through(data, sink)
    os.close(sink)
    listener.join(10)

    assert (kept, ended, got) == (data, True, [data])


@pytest.mark.filterwarnings("error")
def test_a_sink_that_breaks_does_not_hold_the_source_up() -> None:
    out, sink = os.pipe()
    os.close(out)
    kept, ended = _through(b"x" * 200_000, sink)
    os.close(sink)

    assert (len(kept), ended) == (200_000, True)


def test_a_sink_that_must_not_block_gets_everything_all_the_same() -> None:
    out, sink = os.pipe()
    os.set_blocking(sink, False)
    data = os.urandom(300_000)
    got = bytearray()

    def listen() -> None:
        time.sleep(0.02)  # until the pipe is full
        while chunk := os.read(out, 65536):
            got.extend(chunk)

    listener = threading.Thread(target=listen)
    listener.start()
    _through(data, sink)
    os.close(sink)
    listener.join(10)
    os.close(out)

    assert bytes(got) == data
