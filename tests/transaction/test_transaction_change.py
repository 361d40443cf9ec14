"""Changes travel as JSON and are believed only as far as they make sense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    FILE,
    SYMLINK,
    Change,
    TransactionError,
    UnsafePath,
    check_path,
)

DIGEST = "0123456789abcdef" * 4
NAMES = st.binary(min_size=1, max_size=20).filter(lambda n: n not in (b".", b"..") and not {0, 47} & set(n))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    return Change(
        draw(PATHS),
        draw(st.sampled_from([FILE, DIRECTORY, SYMLINK, ATTRIBUTES, DELETE])),
        draw(st.none() | st.integers(0, 0o777)),
        draw(st.none() | st.integers(-(1 << 63), (1 << 63) - 1)),
        draw(st.integers(0, 1 << 40)),
        DIGEST,
        draw(NAMES),
    )


@given(changes())
def test_a_change_survives_json(change: Change) -> None:
    assert Change.from_json(json.loads(json.dumps(change.to_json()))) == change


def test_the_json_form_is_fixed() -> None:
    change = Change(b"a\xff", FILE, 0o644, 5, 3, DIGEST)
    assert change.to_json() == {
        "path": "Yf8=",
        "kind": "file",
        "mode": 0o644,
        "mtime_ns": 5,
        "size": 3,
        "sha256": DIGEST,
        "target": "",
    }


def test_the_root_itself_may_have_attributes() -> None:
    change = Change(b"", ATTRIBUTES, 0o755, 7)
    assert Change.from_json(change.to_json()) == change


GOOD = Change(b"a", FILE, 0o644, 5, 3, DIGEST).to_json()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", None),
        ("path", 5),
        ("path", "!"),
        ("path", "YQ"),
        ("path", "\u00e9"),
        ("kind", "fifo"),
        ("kind", None),
        ("kind", ["file"]),
        ("mode", -1),
        ("mode", 0o1000),
        ("mode", "644"),
        ("mode", True),
        ("mode", 1.0),
        ("mtime_ns", 1 << 63),
        ("mtime_ns", 0.5),
        ("size", -1),
        ("size", None),
        ("size", True),
        ("size", 1 << 63),
        ("sha256", ""),
        ("sha256", DIGEST.upper()),
        ("sha256", DIGEST + "\n"),
        ("sha256", 7),
        ("target", None),
        ("target", "AA=="),
    ],
)
def test_a_malformed_field_is_refused(key: str, value: Any) -> None:
    with pytest.raises(TransactionError, match="malformed"):
        Change.from_json({**GOOD, key: value})


@pytest.mark.parametrize("value", [None, 5, "x", [], [GOOD]])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(TransactionError, match="JSON object"):
        Change.from_json(value)


def test_a_symlink_has_a_target() -> None:
    with pytest.raises(TransactionError, match="target"):
        Change(b"l", SYMLINK).check()


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"a/./b", b"..", b"a/..", b"a\0b", "text", None]
)
def test_an_unsafe_path_is_refused(path: Any) -> None:
    with pytest.raises(UnsafePath):
        check_path(path)


@given(PATHS)
def test_any_other_path_is_fine(path: bytes) -> None:
    check_path(path)


@given(st.binary(max_size=400))
def test_a_message_is_one_line_whatever_the_path(path: bytes) -> None:
    with pytest.raises(TransactionError) as caught:
        Change(path, "nonsense").check()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2000
    assert caught.value.path == path
