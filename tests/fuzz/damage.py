"""Damage: real bytes, changed as accidents and attackers change them. What hypothesis draws it can also make smaller."""

from hypothesis import strategies as st

NUMBERS = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    512,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
]
NUMBERS += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_LONGEST = 64


@st.composite
def damaged(draw: st.DrawFn, examples: list[bytes]) -> bytes:
    """One of the examples after up to eight changes."""
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 8))):
        data = _change(draw, data, examples)
    return data


def _change(draw: st.DrawFn, data: bytes, examples: list[bytes]) -> bytes:
    at = draw(st.integers(0, len(data)))
    if draw(st.booleans()):  # near the beginning, where headers are
        at = min(at, draw(st.integers(0, _LONGEST)))
    stop = min(len(data), at + draw(st.integers(1, _LONGEST)))
    match draw(
        st.sampled_from(["flip", "set", "number", "insert", "delete", "double", "cut", "splice", "zero"])
    ):
        case "flip" if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        case "set" if at < len(data):
            return data[:at] + bytes([draw(st.sampled_from([0, 1, 127, 128, 254, 255]))]) + data[at + 1 :]
        case "number":
            size = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(NUMBERS)) & (1 << 8 * size) - 1
            return (
                data[:at]
                + number.to_bytes(size, draw(st.sampled_from(["little", "big"])))
                + data[at + size :]
            )
        case "insert":
            return data[:at] + draw(st.binary(min_size=1, max_size=_LONGEST)) + data[at:]
        case "delete":
            return data[:at] + data[stop:]
        case "double":
            return data[:stop] + data[at:stop] * draw(st.integers(1, 20)) + data[stop:]
        case "cut":
            return data[:at]
        case "splice":
            other = draw(st.sampled_from(examples))
            return data[:at] + other[draw(st.integers(0, len(other))) :]
        case _:
            return data[:at] + bytes(stop - at) + data[stop:]
