"""Anchors: where they stand, that none is jumped over, and which delimiters are chosen."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.anchors import (
    EDGE,
    MAX_DELIMITERS,
    MAX_NEEDLE,
    OFFSET_BITS,
    VALUE_BITS,
    VALUE_MASK,
    Delimiter,
    Finder,
    choose,
    edge_value,
    hash32,
)

NOISE = Random(1).randbytes(1 << 16)
TEXT = b"".join(b"the %dth line, of %d words\n" % (n, n % 7) for n in range(3000))

DATA = st.lists(st.sampled_from(b"ab\n]"), max_size=600).map(bytes)
DELIMITERS = st.builds(
    lambda needle, bounds: Delimiter(bytes(needle), min(bounds), max(bounds)),
    st.lists(st.sampled_from(b"ab\n]"), min_size=1, max_size=MAX_NEEDLE),
    st.tuples(st.sampled_from(b"\0ab\n]\xff"), st.sampled_from(b"\0ab\n]\xff")),
)


def plainly(delimiter: Delimiter, data: bytes) -> Iterator[int]:
    """Where the delimiter stands, with all of its span, as its words say."""
    needle, low, high = delimiter
    for at in range(len(data) - delimiter.span + 1):
        behind = at + len(needle)
        if data[at:behind] == needle and low <= data[behind] <= high:
            yield at


@settings(max_examples=200, deadline=None)
@given(DATA, DELIMITERS)
def test_a_pattern_matches_what_the_delimiter_says(data: bytes, delimiter: Delimiter) -> None:
    pattern, wanted = delimiter.pattern(), set(plainly(delimiter, data))
    for at in range(len(data) + 1):
        found = pattern.match(data, at)
        assert (found is not None) == (at in wanted)
        assert found is None or found[0] == data[at : at + delimiter.span]


def test_every_byte_may_be_a_needle_and_a_bound() -> None:
    for low in range(256):
        high = min(255, low + 2)
        pattern = Delimiter(bytes([low]), low, high).pattern()
        for byte in {0, 255, low, high, low - 1, high + 1} & set(range(256)):
            assert (pattern.match(bytes([low, byte]) + bytes(48)) is not None) == (low <= byte <= high)


# --- marks -------------------------------------------------------------------------------------------------------


def isolated(delimiter: Delimiter, block: bytes) -> list[int]:
    """Where in a block the delimiter stands and none other begins in the span before it."""
    places, found, last = plainly(delimiter, block), [], -1
    for at in places:
        if at - last >= delimiter.span:
            found.append(at)
        last = at
    return found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 999), st.sampled_from([b"ab\n]", b"aaaaaaaab\n]", b"----------------a"]), DELIMITERS)
def test_a_block_is_marked_by_its_first_isolated_delimiter(
    seed: int, alphabet: bytes, delimiter: Delimiter
) -> None:
    block = bytes(Random(seed).choices(alphabet, k=600))
    marks = Finder([delimiter], edges=False).mark(block, len(block), [0])
    if 0 in marks:
        offset = marks[0] >> VALUE_BITS
        assert offset == isolated(delimiter, block)[0]
        assert marks[0] & VALUE_MASK == hash32(block[offset : offset + delimiter.span]) & VALUE_MASK
    else:  # it may have looked at too many that are not isolated
        assert not isolated(delimiter, block) or len(list(plainly(delimiter, block))) > 12


@pytest.mark.parametrize("data", [NOISE, TEXT[: 1 << 16]], ids=["noise", "text"])
def test_no_search_jumps_over_an_anchor_wherever_it_starts(data: bytes) -> None:
    random, size = Random(2), 2048
    delimiters = choose([data[at : at + size] for at in range(0, len(data) - size, size)], size)
    marks = Finder(delimiters).mark(data, size, range(len(data) // size))
    assert len(marks) > 25
    for block, mark in marks.items():
        text = data[block * size : (block + 1) * size]
        before = bytes(random.choices(data, k=random.randrange(300)))
        anchor = len(before) + (mark >> VALUE_BITS)
        for start in (*range(0, len(before), 7), len(before)):
            found = {
                match.start(): hash32(match[0]) & VALUE_MASK
                for delimiter in delimiters
                for match in re.finditer(delimiter.pattern(), (before + text)[start:])
            }
            assert found.get(anchor - start) == mark & VALUE_MASK


def test_anchors_lie_in_the_first_8_kib_of_their_block() -> None:
    size = 1 << 15
    late = b"".join(b"\0" * 8185 + b"x" + NOISE[at : at + size - 8186] for at in (0, 300))
    marks = Finder([Delimiter(b"x")], edges=False).mark(
        late.replace(b"x", b"y").replace(b"y", b"x", 1), size, [0, 1]
    )
    assert {block: mark >> VALUE_BITS for block, mark in marks.items()} == {0: 8185}
    beyond = b"\0" * (1 << OFFSET_BITS) + b"x" + NOISE[: size - (1 << OFFSET_BITS) - 1].replace(b"x", b"y")
    assert Finder([Delimiter(b"x")], edges=False).mark(beyond, size, [0]) == {}


def test_an_anchor_with_all_of_its_span_lies_in_its_block() -> None:
    delimiter = Delimiter(b"x")
    for at, is_marked in (
        (512 - delimiter.span, True),
        (513 - delimiter.span, False),
        (delimiter.span - 2, False),
    ):
        data = bytes(at) + b"x" + bytes(2000)
        assert (0 in Finder([delimiter], edges=False).mark(data, 512, [0])) is is_marked


def test_few_blocks_share_a_value_and_the_others_take_their_next_delimiter() -> None:
    block = b"-" * 100 + b"x same" + b"-" * 100 + b"x%03d" + b"-" * 300
    data = b"".join((block % n)[:500].ljust(512, b"-") for n in range(10))
    marks = Finder([Delimiter(b"x")], edges=False).mark(data, 512, range(10))
    assert Counter(mark >> VALUE_BITS for mark in marks.values()) == {100: 4, 206: 6}
    assert len({mark & VALUE_MASK for mark in marks.values()}) == 7


def test_a_second_delimiter_is_asked_only_for_blocks_without_the_first() -> None:
    data = (b"-" * 200 + b"x").ljust(512, b"-") + (b"-" * 100 + b"y").ljust(512, b"-") + b"-" * 512
    marks = Finder([Delimiter(b"x"), Delimiter(b"y")], edges=False).mark(data, 512, [0, 1, 2])
    assert {block: mark >> VALUE_BITS for block, mark in marks.items()} == {0: 200, 1: 100}


# --- edges -------------------------------------------------------------------------------------------------------


def test_the_edge_of_a_run_marks_a_block_that_has_no_delimiter() -> None:
    block = NOISE[:700] + bytes(600) + NOISE[700:1448]
    finder = Finder([])
    marks = finder.mark(NOISE[:2048] + block, 2048, [0, 1])
    assert finder.uses_edges
    assert marks == {1: 700 << VALUE_BITS | edge_value(block, 700)}
    assert edge_value(block, 700) == hash32(block[700 - EDGE : 700 + EDGE]) & VALUE_MASK


@pytest.mark.parametrize("at", [0, 1, EDGE - 1])
def test_an_edge_too_near_to_the_blocks_begin_is_none_but_the_other_one_may_be(at: int) -> None:
    block = NOISE[:at] + bytes(600) + NOISE[at : 2048 - 600]
    marks = Finder([]).mark(block, 2048, [0])
    assert [mark >> VALUE_BITS for mark in marks.values()] == [at + 600]


def test_a_constant_block_has_no_anchor() -> None:
    finder = Finder([Delimiter(b"x")])
    assert finder.mark(bytes(4096), 2048, [0, 1]) == {}
    assert not finder.uses_edges


# --- the choice --------------------------------------------------------------------------------------------------


def sampled(data: bytes, size: int = 1024) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data) - size, 2 * size)]


@pytest.mark.parametrize(
    "data",
    [
        NOISE,
        TEXT,
        bytes(b & 1 for b in NOISE),
        bytes(b & 1 and b for b in NOISE),
        NOISE.hex().encode(),
    ],
    ids=["noise", "text", "two symbols", "half zeros", "hex"],
)
def test_most_samples_have_an_anchor_by_the_delimiters_chosen(data: bytes) -> None:
    samples = sampled(data)
    delimiters = choose(samples, 4096)
    assert 1 <= len(delimiters) <= MAX_DELIMITERS
    assert all(1 <= len(needle) <= MAX_NEEDLE and low <= high for needle, low, high in delimiters)
    finder = Finder(delimiters)
    assert sum(bool(finder.mark(sample, len(sample), [0])) for sample in samples) > len(samples) * 2 // 3


@pytest.mark.parametrize(
    "samples",
    [[], [b""], [b"", b""], [b"x"], [bytes(1024)] * 40, [b"ab" * 512] * 40, [bytes([b]) for b in range(40)]],
)
def test_where_nothing_tells_blocks_apart_none_is_chosen(samples: list[bytes]) -> None:
    assert choose(samples, 1024) == ()


def test_the_choice_depends_on_the_samples_alone() -> None:
    program = (
        "import sys; from codesync.delta.anchors import choose; data = sys.stdin.buffer.read();"
        "print(choose([data[at:at + 1024] for at in range(0, len(data), 2048)], 4096))"
    )
    for data in (NOISE, TEXT):
        told = {
            subprocess.run(
                [sys.executable, "-c", program],
                input=data,
                capture_output=True,
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
            for seed in ("0", "1")
        }
        assert len(told) == 1
