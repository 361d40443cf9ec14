"""What is said on the socket."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.launcher.messages import (
    MAX_DRIFT,
    MAX_LINE,
    Adopted,
    Apply,
    Greeting,
    Keep,
    MessageError,
    Try,
    Undo,
    drift_fields,
    line,
    parse,
)

TREE = "a" * 64


def said(**fields: Any) -> Any:
    return parse(json.dumps(fields).encode())


def test_every_message_of_the_sidecar_is_understood() -> None:
    assert said(type="hello", version=1, committed=None) == Greeting(None)
    committed = {"tree_id": TREE, "push_id": "p", "generation": 1}
    assert said(type="hello", version=1, committed=committed, new_field=1) == Greeting("p")
    assert said(type="adopted", tree_id=TREE) == Adopted(TREE)
    assert said(type="try", push_id="p", deadline_s=2) == Try("p", 2.0)
    assert said(type="keep", push_id="p") == Keep("p")
    assert said(type="undo", push_id="p") == Undo("p")
    assert said(type="apply") == Apply()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": "hello"},
        {"type": "hello", "version": 2},
        {"type": "hello", "version": 1, "committed": 5},
        {"type": "adopted", "tree_id": "../x"},
        {"type": "try", "push_id": "p"},
        {"type": "try", "push_id": "p", "deadline_s": 0},
        {"type": "try", "push_id": "p", "deadline_s": True},
        {"type": "try", "push_id": "p", "deadline_s": 1e9},
        {"type": "try", "push_id": "", "deadline_s": 1},
        {"type": "keep", "push_id": "a\nb"},
        {"type": "keep", "push_id": "x" * 201},
        {"type": "undo", "push_id": 7},
        {"type": "dance"},
    ],
)
def test_what_is_malformed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        parse(json.dumps(fields).encode())
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=30)
    | st.dictionaries(
        st.sampled_from(["type", "version", "committed", "push_id", "deadline_s", "tree_id"]),
        st.none()
        | st.floats()
        | st.integers()
        | st.lists(st.integers(), max_size=2)
        | st.sampled_from(["hello", "try", "keep", "p"]),
    ).map(lambda fields: json.dumps(fields).encode())
)
def test_only_message_errors_escape(data: bytes) -> None:
    with suppress(MessageError):
        parse(data)


def test_a_message_is_one_line() -> None:
    data = line("error", message="a\nb")
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data) == {"type": "error", "message": "a\nb"}


def test_a_verdict_fits_into_a_line_whatever_it_has_to_tell() -> None:
    few = drift_fields([b"a", b"\xff"])
    assert few == {"drift": [base64.b64encode(path).decode() for path in (b"a", b"\xff")], "drift_more": 0}
    many = drift_fields([b"x" * 4000] * 1000)
    assert sum(map(len, many["drift"])) <= MAX_DRIFT
    assert len(many["drift"]) + many["drift_more"] == 1000
    worst_tail = ["\0" * (65536 // 200)] * 200
    assert len(line("verdict", log_tail=worst_tail, **many)) < MAX_LINE
