"""Records on the volume: whatever is malformed is refused, and nothing else happens."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.launcher.records import (
    Applied,
    Committed,
    Entry,
    RecordError,
    State,
    decode,
    encode,
    is_of,
    read_listing,
    read_manifest,
    read_mark,
    read_plan,
    read_state,
    write_listing,
)
from codesync.transaction import FILE, Change

TREE = "a" * 64
HEX = "b" * 64
MARK = b"codesync instance 1\n" + b"c" * 32 + b"\n"


def test_entries_and_applied_come_back_as_they_went() -> None:
    for entry in (
        Entry(b"\xff\n", "f", 0o644, -5, 3, HEX),
        Entry(b"d", "d", 0o755),
        Entry(b"l", "l", 0o777, target=b"\xfe/x"),
    ):
        assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
    applied = Applied("i", "im", TREE, "p", "t")
    assert Applied.from_bytes(applied.to_bytes()) == applied
    assert json.loads(applied.to_bytes())["version"] == 1
    entries = [Entry(b"d", "d", 0o755)]
    assert read_listing(write_listing(applied, entries, [b"x"]), applied) == (entries, [b"x"])
    with pytest.raises(RecordError, match="another container"):
        read_listing(write_listing(applied, entries, []), applied._replace(instance="other"))


def test_the_state_is_read_for_what_matters_here() -> None:
    def state(**fields: object) -> State:
        return read_state(json.dumps({"version": 1, **fields}).encode())

    assert state() == State()
    assert state(image="x", gen0=TREE, committed=None, trial=None) == State(None, "x", TREE)
    committed = {"tree_id": TREE, "push_id": "p", "generation": 3, "more": 1}
    assert state(committed=committed) == State(Committed(TREE, "p"))


def plan(**changed: Any) -> bytes:
    change = Change(b"a", FILE, size=1, digest=HEX).to_json() | {"file": "files/0"}
    return json.dumps(
        {"version": 1, "push_id": "p", "base": TREE, "target": TREE, "changes": [change], **changed}
    ).encode()


def test_a_plan_names_a_content_for_every_file() -> None:
    (planned,) = read_plan(plan()).changes
    assert (planned.change.path, planned.file) == (b"a", "files/0")
    change = planned.change.to_json()
    for file in ("", "files/../../state", "/etc/passwd", "files/0\n", None, 7):
        with pytest.raises(RecordError):
            read_plan(plan(changes=[{**change, "file": file}]))
    with pytest.raises(RecordError, match="is the launcher's own"):
        read_plan(plan(changes=[{**change, "path": encode(b".codesync-instance"), "file": "files/0"}]))
    with pytest.raises(RecordError):
        read_plan(plan(changes=[{**change, "path": encode(b"../up"), "file": "files/0"}]))


def test_a_mark_is_a_line_and_32_hex_digits() -> None:
    assert read_mark(MARK) == "c" * 32
    for data in (
        b"",
        b"x",
        b"codesync instance 1\n",
        b"codesync instance 2\n" + b"c" * 32,
        MARK[:-3],
        MARK + b"d",
    ):
        assert read_mark(data) is None


def test_generation_0_is_complete_when_its_record_is_there_and_its_own() -> None:
    assert is_of(b'{"version": 1, "instance": "i"}', "i")
    for data in (None, b"", b'{"version": 1, "instance": "j"}', b'{"version": 2, "instance": "i"}'):
        assert not is_of(data, "i")


READERS: list[Callable[[bytes], object]] = [
    read_state,
    read_plan,
    lambda data: read_manifest(data, TREE),
    Applied.from_bytes,
    lambda data: read_listing(data, Applied("i", "im")),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(TREE),
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(
            st.sampled_from(
                [
                    "version",
                    "committed",
                    "tree_id",
                    "push_id",
                    "entries",
                    "changes",
                    "base",
                    "target",
                    "path",
                    "kind",
                    "file",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | JSON.map(lambda obj: json.dumps(obj).encode()), JSON)
def test_only_documented_errors_escape(data: bytes, value: Any) -> None:
    wrapped = json.dumps({"version": 1, "committed": value, "entries": value, "changes": value}).encode()
    for read in READERS:
        for text in (data, wrapped):
            with suppress(RecordError):
                read(text)


def test_base64_is_strict() -> None:
    assert decode(encode(b"\0\xff")) == b"\0\xff"
    for text in ("a", "a*==", 5, None):
        with pytest.raises(ValueError, match="base64"):
            decode(text)  # type: ignore[arg-type]
