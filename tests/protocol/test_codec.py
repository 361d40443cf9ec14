"""Messages to bytes and back; whatever is no message is a ProtocolError and nothing else."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.protocol import (
    MAX_CHUNK,
    MAX_COMMAND,
    MAX_HOOK_SECONDS,
    MAX_HOOKS,
    MAX_LOG_LINES,
    MAX_MESSAGE,
    MAX_RANGES,
    Chunk,
    Code,
    Error,
    FileRanges,
    GetDetails,
    GetHistory,
    GetLogs,
    Hello,
    Hook,
    Keep,
    Kept,
    Message,
    Outcome,
    Progress,
    ProtocolError,
    Push,
    Rollback,
    Try,
    decode,
    encode,
    is_id,
    negotiate,
    size_of,
    wire_name,
)
from tests.protocol.examples import EXAMPLES, GOOD, REPORT

examples = st.sampled_from(sorted(EXAMPLES))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


HOOK = Hook(run="make", moment="before_start", seconds=5.0)


def rollback(*hooks: Hook) -> Rollback:
    return Rollback(push_id="p", to="", source="me", description="", hooks=hooks)


def details(*ranges: int, seed: int = 0, times: int = 1) -> GetDetails:
    files = (FileRanges(path=b"a", seed=seed, ranges=ranges, orphans=ranges),) * times
    return GetDetails(request=1, tree_id="ab", files=files)


def plain(message: Message) -> Any:
    return msgpack.unpackb(encode(message))


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a decoded message."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found = [here] if here else []
    return found + [path for key, item in inner for path in paths(item, (*here, key))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def message_or_error(data: bytes) -> Message | ProtocolError:
    """Nothing else may come out."""
    try:
        return decode(data)
    except ProtocolError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(examples, st.data())
def test_a_message_with_anything_in_any_place_is_a_message_or_an_error(
    name: str, data: st.DataObject
) -> None:
    record = plain(EXAMPLES[name])
    put(record, data.draw(st.sampled_from(paths(record))), data.draw(values))
    message = message_or_error(msgpack.packb(record))
    if isinstance(message, ProtocolError):
        assert message.code in {Code.BAD_MESSAGE, Code.TOO_LARGE}
        assert message.message.isprintable()
    else:
        assert decode(encode(message)) == message


@settings(max_examples=300, deadline=None)
@given(examples, st.integers(0, 2000), st.binary(max_size=8), st.integers(0, 4))
def test_damaged_bytes_are_a_message_or_an_error(name: str, at: int, new: bytes, less: int) -> None:
    data = encode(EXAMPLES[name])
    at %= len(data)
    message_or_error(data[:at] + new + data[at + less :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_required_field_may_be_missing(name: str) -> None:
    record = plain(EXAMPLES[name])
    for key in record:
        message = message_or_error(msgpack.packb({k: value for k, value in record.items() if k != key}))
        assert isinstance(message, ProtocolError) or key not in plain(message)


def test_unknown_fields_are_ignored() -> None:
    record = plain(EXAMPLES["tried"]) | {"color": "red"}
    record["report"]["mood"] = [1, {"2": 3}]
    assert decode(msgpack.packb(record)) == EXAMPLES["tried"]


def test_a_field_that_holds_its_default_is_not_written() -> None:
    assert plain(Chunk(push_id="p", data=b"", last=True, batch=0)) == {
        "type": "chunk",
        "push_id": "p",
        "data": b"",
        "last": True,
    }


def test_a_whole_number_is_a_number_of_seconds_too() -> None:
    record = {"type": "try", "push_id": "p", "deadline_s": 5}
    assert decode(msgpack.packb(record)) == Try(push_id="p", deadline_s=5.0)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("push_id", 7, "try.push_id is int, not str"),
        ("push_id", "a/b", "try.push_id is not an id"),
        ("push_id", "..", "try.push_id is not an id"),
        ("deadline_s", True, "try.deadline_s is bool, not float"),
        ("deadline_s", float("nan"), "try.deadline_s is not a finite number"),
        ("deadline_s", None, "try.deadline_s is NoneType, not float"),
    ],
)
def test_an_error_names_the_field(field: str, value: object, words: str) -> None:
    record = {"type": "try", "push_id": "p", "deadline_s": 5.0, field: value}
    with pytest.raises(ProtocolError, match=words):
        decode(msgpack.packb(record))


def test_an_error_inside_an_optional_part_names_its_field() -> None:
    record = plain(EXAMPLES["outcome-failed"])
    record["error"]["code"] = 5
    with pytest.raises(ProtocolError, match=r"outcome.error.code is int, not str"):
        decode(msgpack.packb(record))


@pytest.mark.parametrize("data", [msgpack.packb([]), msgpack.packb({}), msgpack.packb({"type": "nothing"})])
def test_what_has_no_known_type_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_what_is_too_large_is_neither_sent_nor_taken() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(bytes(MAX_MESSAGE + 1))
    assert caught.value.code == Code.TOO_LARGE
    with pytest.raises(ProtocolError, match="at most"):
        encode(Chunk(push_id="p", data=bytes(MAX_CHUNK + 1), last=True))
    full = Chunk(push_id="p", data=bytes(MAX_CHUNK), last=True)
    assert decode(encode(full)) == full
    many = replace(REPORT, log_tail=("x" * 60_000,) * 9)
    with pytest.raises(ProtocolError) as caught:
        encode(Outcome(push_id="p", status="failed", replicas=(many,)))
    assert caught.value.code == Code.TOO_LARGE


@pytest.mark.parametrize(
    "message",
    [
        Keep(push_id="a/b"),
        Keep(push_id=""),
        Push(push_id="p", batches=()),
        Try(push_id="p", deadline_s=float("inf")),
        Kept(push_id="p", report=REPORT),
        Progress(push_id="p", stage="x", done=-1, total=0),
        Hello(versions=(), software="x"),
        Error(code="x", message="lone \ud800 surrogate"),
        Outcome(push_id="p", status="splendid", replicas=()),
        GetLogs(request=1, replica="r", lines=MAX_LOG_LINES + 1),
        GetLogs(request=1, replica="r", lines=-1),
        GetHistory(request=1, replica=""),
        details(1),
        details(1, -1),
        details(1, 1, seed=1 << 32),
        details(*[0, 1] * (MAX_RANGES + 1)),
        details(*[0, 1] * (MAX_RANGES // 2), times=2),
        rollback(*[HOOK] * (MAX_HOOKS + 1)),
        rollback(replace(HOOK, run="")),
        rollback(replace(HOOK, run="x" * (MAX_COMMAND + 1))),
        rollback(replace(HOOK, moment="before_lunch")),
        rollback(replace(HOOK, seconds=0)),
        rollback(replace(HOOK, seconds=MAX_HOOK_SECONDS + 1)),
        rollback(replace(HOOK, seconds=float("nan"))),
    ],
)
def test_what_the_other_side_would_refuse_is_not_sent(message: Message) -> None:
    with pytest.raises(ProtocolError):
        encode(message)


def test_what_is_at_its_limit_is_sent() -> None:
    for message in (
        GetLogs(request=1, replica="r", lines=MAX_LOG_LINES),
        rollback(*[replace(HOOK, seconds=MAX_HOOK_SECONDS)] * MAX_HOOKS),
        details(*[1 << 53, 1 << 53] * (MAX_RANGES // 4), seed=(1 << 32) - 1, times=2),
        rollback(replace(HOOK, run="x" * MAX_COMMAND)),
    ):
        assert decode(encode(message)) == message


def test_codes_are_words_on_the_wire() -> None:
    assert decode(encode(Error(code=Code.BUSY, message="m"))) == Error(code="busy", message="m")


@pytest.mark.parametrize("name", ["a", "A-Z_0.9", "x" * 128, ".hidden", "a..b"])
def test_ids(name: str) -> None:
    assert is_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "...", "x" * 129, "a/b", "a\\b", "a b", "a\n", "é", "a\x00", "٣"]
)
def test_what_is_no_id(name: str) -> None:
    assert not is_id(name)


def test_the_highest_common_version_is_spoken() -> None:
    assert negotiate((1,)) == negotiate((9, 1)) == 1
    with pytest.raises(ProtocolError, match="update the older") as caught:
        negotiate((2, 3))
    assert caught.value.code == Code.VERSION


def test_names_on_the_wire() -> None:
    assert wire_name(type(EXAMPLES["get_manifest"])) == "get_manifest"
    assert all(name.partition("-")[0] == wire_name(type(message)) for name, message in EXAMPLES.items())


def test_a_size_is_what_encoding_takes() -> None:
    message = Kept(push_id="p", report=GOOD)
    assert size_of(message) + len(b"\xa4type\xa4kept") == len(encode(message))
