"""The second round: what it finds beyond the first, and that nothing a remote says leads further than to a wrong copy."""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Copy, DeltaError, Literal, Op, SignatureError, delta, signature
from codesync.delta.checksum import strong
from codesync.delta.ops import MAX_LITERAL
from codesync.delta.refine import (
    Details,
    Gap,
    Gaps,
    Range,
    Refined,
    coarse_block_size,
    details,
    gaps,
    ranges,
)
from codesync.delta.signature import default_block_size
from tests.delta.edited import KINDS, edited
from tests.delta.material import dribble

NOISE = Random(10).randbytes(1 << 19)


def literal_bytes(ops: Iterable[Op]) -> int:
    return sum(len(op.data) for op in ops if isinstance(op, Literal))


def patched(basis: bytes, ops: Iterable[Op]) -> bytes:
    parts = []
    for op in ops:
        if isinstance(op, Copy):
            assert 0 <= op.offset < op.offset + op.length <= len(basis)
            parts.append(basis[op.offset : op.offset + op.length])
        else:
            assert isinstance(op, Literal)
            assert 1 <= len(op.data) <= MAX_LITERAL
            parts.append(op.data)
    return b"".join(parts)


def known_of(basis: bytes, target: bytes, size: int | None = None, seed: int = 0) -> Refined:
    sig = signature(basis, size or coarse_block_size(len(basis)))
    found = gaps(sig, target)
    return Refined(sig, found, details(basis, ranges(found), seed=seed))


# --- honest details ------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 1 << 32),
    st.sampled_from([None, 512, 700, 4096]),
    st.sampled_from([1000, 10_000, 1 << 20]),
)
def test_two_rounds_make_the_target_with_no_more_literals_than_one(
    kind: str, seed: int, size: int | None, read_size: int
) -> None:
    basis, target = edited(kind, seed, 1000, 100_000)
    known = known_of(basis, target, size)
    ops = list(delta(known, dribble(target, read_size)))
    assert patched(basis, ops) == target
    assert literal_bytes(ops) <= literal_bytes(delta(known.signature, target))
    assert list(delta(known, target)) == ops


def test_a_hundred_insertions_cost_little_more_than_themselves() -> None:
    random, target = Random(11), NOISE
    for at in sorted((random.randrange(len(NOISE)) for _ in range(100)), reverse=True):
        target = target[:at] + random.randbytes(10) + target[at:]
    known = known_of(NOISE, target)
    one, two = literal_bytes(delta(known.signature, target)), literal_bytes(delta(known, target))
    assert one > 100_000
    assert two < 100 * 300
    asked = len(known.signature.to_bytes()) + len(known.details.to_bytes())
    assert two + asked < (one + len(signature(NOISE).to_bytes())) // 2


def test_what_has_moved_and_changed_is_found_among_the_orphans() -> None:
    moved = NOISE[100_000:200_000]
    changed = b"edit".join(moved[at : at + 3000] for at in range(0, len(moved), 3000))
    basis, target = NOISE[:400_000], NOISE[:100_000] + NOISE[200_000:400_000] + changed
    known = known_of(basis, target, 4096)
    assert known.details.orphans is not None
    ops = list(delta(known, target))
    assert patched(basis, ops) == target
    assert literal_bytes(ops) < literal_bytes(delta(known.signature, target)) // 2


def test_nothing_is_asked_where_nothing_is_open_or_nothing_is_in_common() -> None:
    sig = signature(NOISE, 4096)
    for target in (NOISE, b"", Random(13).randbytes(100_000)):
        assert gaps(sig, target) == Gaps((), ())
    assert ranges(Gaps((), ())) == []
    assert gaps(signature(b""), NOISE) == Gaps((), ())


def test_a_gap_is_told_with_what_stands_in_its_place() -> None:
    target = NOISE[:10_000] + b"edit" + NOISE[10_004:]
    assert gaps(signature(NOISE, 4096), target) == Gaps((Gap(8192, 4096, Range(8192, 4096)),), ())


def test_blocks_of_a_first_round_are_larger() -> None:
    assert coarse_block_size(100_000_000) == 4 * default_block_size(100_000_000)


def test_another_seed_gives_other_sums() -> None:
    asked = [Range(0, 4096), Range(5000, 100_000, orphan=True)]
    one, other = details(NOISE, asked), details(NOISE, asked, seed=9)
    assert one.sums != other.sums
    assert one.orphans is not None
    assert other.orphans is not None
    assert one.orphans.strong != other.orphans.strong
    target = NOISE[:10_000] + b"edit" + NOISE[10_004:]
    assert patched(NOISE, delta(known_of(NOISE, target, 4096, seed=9), target)) == target


# --- the form of details -------------------------------------------------------------------------------------------

SOME = details(
    NOISE, [Range(0, 4096), Range(100, 0), Range(7, 700), Range(9000, 100_000, orphan=True)], seed=5
)


@pytest.mark.parametrize("some", [SOME, details(NOISE, []), details(NOISE, [Range(0, 4096)])])
def test_bytes_round_trip(some: Details) -> None:
    assert Details.from_bytes(some.to_bytes()) == some


def test_every_truncation_and_every_flip_is_refused() -> None:
    data = SOME.to_bytes()
    for end in range(len(data)):
        with pytest.raises(SignatureError):
            Details.from_bytes(data[:end])
    for at in range(len(data)):
        for mask in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(SignatureError):
                Details.from_bytes(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 30))
def test_only_signature_errors_escape_however_right_the_checksum_is(data: bytes, kept: int) -> None:
    body = SOME.to_bytes()[:kept] + data
    for form in (data, body + strong(body).to_bytes(8, "little")):
        try:
            Details.from_bytes(form)
        except SignatureError:
            pass


def test_another_version_is_named() -> None:
    data = bytearray(SOME.to_bytes())
    data[8] = 77
    with pytest.raises(SignatureError, match="77"):
        Details.from_bytes(bytes(data))


# --- lies ----------------------------------------------------------------------------------------------------------

TARGET = (
    b"".join(NOISE[at : at + 9000] + b"edit" for at in range(0, 90_000, 9000))
    + NOISE[200_000:240_000]
    + bytes(9000)
)
KNOWN = known_of(NOISE[:300_000], TARGET, 2048)


def with_sums(change: Callable[[bytes], bytes]) -> Details:
    return KNOWN.details._replace(sums=tuple(map(change, KNOWN.details.sums)))


LIES: dict[str, Details] = {
    "all sums alike": with_sums(lambda sums: sums[:3] * (len(sums) // 3)),
    "no sums": with_sums(lambda _: b""),
    "sums cut in the middle": with_sums(lambda sums: sums[:-1]),
    "a byte too many": with_sums(lambda sums: sums + b"\0"),
    "sums of other bytes": with_sums(lambda sums: NOISE[: len(sums)]),
    "many sums too many": with_sums(lambda sums: sums * 40),
    "fewer gaps": KNOWN.details._replace(sums=KNOWN.details.sums[1:]),
    "more gaps": KNOWN.details._replace(sums=(*KNOWN.details.sums, b"")),
    "another seed": KNOWN.details._replace(seed=99),
    "no orphans": KNOWN.details._replace(orphans=None),
    "orphans of nothing": KNOWN.details._replace(orphans=signature(b"")),
    "orphans of another length": KNOWN.details._replace(orphans=signature(NOISE[:5000])),
}


def test_there_is_something_to_lie_about() -> None:
    assert len(KNOWN.details.sums) > 5
    assert KNOWN.details.orphans is not None


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_or_leads_to_a_target_of_the_right_length(lie: str) -> None:
    try:
        ops = list(delta(KNOWN._replace(details=LIES[lie]), TARGET))
    except SignatureError:
        return
    lengths = [op.length if isinstance(op, Copy) else len(op.data) for op in ops if not hasattr(op, "size")]
    assert sum(lengths) == len(TARGET)


def test_orphans_that_nobody_asked_for_are_refused() -> None:
    target = NOISE[:10_000] + b"edit" + NOISE[10_004:]
    known = known_of(NOISE, target, 4096)
    assert known.gaps.orphans == ()
    for orphans in (signature(b""), signature(b"x")):
        with pytest.raises(SignatureError):
            list(delta(known._replace(details=known.details._replace(orphans=orphans)), target))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([b"", b"x", bytes(3000), NOISE[:100_000]]))
def test_a_target_that_has_changed_meanwhile_is_told_or_made_all_the_same(seed: int, other: bytes) -> None:
    random = Random(seed)
    at = random.randrange(len(TARGET))
    changed = (
        TARGET[:at] + random.choice([other, b""]) + TARGET[at + random.choice([0, len(other), 40_000]) :]
    )
    try:
        ops = list(delta(KNOWN, changed))
    except DeltaError:
        return
    assert patched(NOISE[:300_000], ops) == changed


@pytest.mark.parametrize("number", range(len(KNOWN.gaps.gaps)))
@pytest.mark.parametrize("left", [0, 1, 600])
def test_a_target_cut_short_in_a_gap_is_told_or_made_all_the_same(number: int, left: int) -> None:
    changed = TARGET[: KNOWN.gaps.gaps[number].start + left]
    try:
        ops = list(delta(KNOWN, changed))
    except DeltaError:
        return
    assert patched(NOISE[:300_000], ops) == changed


# --- hostile questions ---------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-2, 10_000),
    st.sampled_from([1 << 20, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(Range, NUMBERS, NUMBERS, st.booleans()), max_size=5), st.integers(0, 6000))
def test_any_question_is_answered_or_refused(asked: list[Range], length: int) -> None:
    try:
        answer = details(NOISE[:length], asked)
    except SignatureError:
        return
    assert len(answer.sums) == sum(not wanted.orphan for wanted in asked)
    assert sum(map(len, answer.sums)) <= len(asked) * 3 * length


@pytest.mark.parametrize("offset", [0, 3000, 1 << 20, (1 << 63) - 1, 1 << 63, 1 << 70])
@pytest.mark.parametrize("length", [1, 1 << 20, 1 << 63])
@pytest.mark.parametrize("orphan", [True, False])
def test_a_question_about_what_a_file_does_not_have_is_answered_or_refused(
    tmp_path: Path, offset: int, length: int, *, orphan: bool
) -> None:
    (tmp_path / "basis").write_bytes(NOISE[:3000])
    with open(tmp_path / "basis", "rb") as file:
        try:
            details(file, [Range(offset, length, orphan)])
        except SignatureError:
            pass


def test_a_short_question_does_not_make_a_long_answer() -> None:
    """Whoever asks for the same bytes again and again is to be refused before they have all been read."""
    basis = NOISE[:100_000]
    try:
        answer = details(basis, [Range(0, len(basis))] * 3000)
    except SignatureError:
        return
    assert len(answer.to_bytes()) < len(basis)
