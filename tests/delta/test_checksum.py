from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from codesync.delta.checksum import Rolling, strong, sums, weak


def by_definition(block: bytes) -> tuple[int, int]:
    """The two sums as the rsync algorithm's paper writes them."""
    return sum(block), sum((len(block) - i) * byte for i, byte in enumerate(block))


def test_the_weak_sum_starts_at_nothing() -> None:
    assert Rolling().digest == 0
    assert weak(b"") == 0


def test_golden_digests_after_every_step() -> None:
    rolling = Rolling()
    rolling.roll_in(0)
    assert (rolling.count, rolling.digest) == (1, 0x00000000)
    rolling.roll_in(1)
    rolling.roll_in(2)
    rolling.roll_in(3)
    assert (rolling.count, rolling.digest) == (4, 0x000A0006)
    rolling.rotate(0, 4)
    assert (rolling.count, rolling.digest) == (4, 0x0014000A)
    rolling.rotate(1, 5)
    rolling.rotate(2, 6)
    rolling.rotate(3, 7)
    assert (rolling.count, rolling.digest) == (4, 0x00320016)
    for byte in (4, 5, 6):
        rolling.roll_out(byte)
    assert (rolling.count, rolling.digest) == (1, 0x00070007)
    rolling.roll_out(7)
    assert (rolling.count, rolling.digest) == (0, 0)


def test_golden_digests_of_whole_blocks() -> None:
    assert weak(b"a") == 0x00610061
    assert weak(b"abc") == 0x024A0126
    assert weak(bytes(range(256))) == 0xAA807F80
    assert weak(b"\xff" * 1024) == 0xFE00FC00
    assert weak(bytes(range(256)) * 100) == 0x9A00CE00


def weak_reference(block: bytes) -> int:
    a, b = by_definition(block)
    return (b % 65536) * 65536 + a % 65536


def test_the_strong_sum_is_xxh3_with_64_bits() -> None:
    assert strong(b"") == 0x2D06800538D394C2  # the algorithm's own test value
    assert strong(b"block") == xxh3_64_intdigest(b"block")


@given(st.binary(max_size=2000))
def test_the_sums_are_what_the_definition_says(block: bytes) -> None:
    assert sums(block) == by_definition(block)
    assert weak(block) == weak_reference(block)


@given(st.sampled_from([0, 1, 127, 255]), st.sampled_from([255, 256, 257, 511, 512, 513, 70_000]))
def test_the_sums_are_exact_where_they_are_largest(byte: int, size: int) -> None:
    block = bytes([byte]) * size
    assert sums(block) == by_definition(block)


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=600), st.integers(1, 600))
def test_a_window_that_rolls_always_has_the_digest_of_its_bytes(data: bytes, size: int) -> None:
    size = min(size, len(data))
    rolling = Rolling(data[:size])
    for at in range(len(data) - size):
        assert rolling.digest == weak(data[at : at + size])
        rolling.rotate(data[at], data[at + size])
    assert rolling.digest == weak(data[len(data) - size :])


@given(st.binary(max_size=600), st.binary(max_size=600))
def test_a_window_can_take_in_whole_blocks(first: bytes, second: bytes) -> None:
    rolling = Rolling(first)
    rolling.update(second)
    assert (rolling.count, rolling.digest) == (len(first + second), weak(first + second))
