"""Every field that a launcher may send, with what no launcher should put there."""

import json
from typing import Any

import pytest

from codesync.protocol import MAX_COMMAND, MAX_HOOKS, MAX_TEXT, Crash, HookReport
from codesync.sidecar.launcher_words import checked
from codesync.sidecar.reports import told_crash

NONSENSE: list[Any] = [
    None,
    True,
    -1,
    1 << 70,
    1e400,
    float("nan"),
    "x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"a": []},
]
HELLO = ("image", "reload", "notes", "crash", "app", "gen0", "trial", "applied", "health")
VERDICT = (
    "failed",
    "back",
    "pid",
    "healthy_ms",
    "hooks",
    "log_tail",
    "drift",
    "timings_ms",
    "exit_code",
    "reason",
)
CRASHED = ("at", "after_ms", "exit_code", "signal", "restarts", "log_tail", "push_id")
HOOK = ("run", "moment", "exit_code", "signal", "ms", "output", "reason")


def heard(kind: str, **fields: Any) -> dict[str, Any]:
    """What becomes of a line of the socket."""
    return checked(json.loads(json.dumps({"type": kind, "push_id": "p1", **fields})))


@pytest.mark.parametrize(
    ("kind", "names"),
    [("hello", HELLO), ("verdict", VERDICT), ("crashed", CRASHED), ("log", ("request", "lines", "known"))],
)
def test_nonsense_in_any_field_is_taken_for_nothing(kind: str, names: tuple[str, ...]) -> None:
    missing = heard(kind)
    for name in names:
        for value in NONSENSE:
            found = heard(kind, **{name: value})[name]
            known = missing[name]
            assert known is None or isinstance(found, type(known))
            json.dumps(found, default=repr).encode()  # no half characters


def test_a_missing_field_is_as_good_as_an_empty_one() -> None:
    hello = heard("hello")
    assert (hello["reload"], hello["notes"], hello["crash"]) == ("", [], None)
    verdict = heard("verdict", verdict="keep")
    assert verdict["back"]
    assert heard("log")["known"]
    assert (verdict["failed"], verdict["pid"], verdict["healthy_ms"], verdict["hooks"]) == (
        False,
        None,
        None,
        [],
    )


def test_only_true_is_a_failure() -> None:
    assert heard("verdict", failed=True)["failed"] is True
    assert heard("verdict", failed="no")["failed"] is False


def test_notes_are_few_and_short() -> None:
    notes = heard("hello", notes=["n" * 10_000, 3] * 100)["notes"]
    assert len(notes) <= 32
    assert {len(note) for note in notes} == {4096}


def test_a_crash_of_nonsense_still_makes_one() -> None:
    for value in NONSENSE:
        crash = told_crash(heard("crashed", **dict.fromkeys(CRASHED, value)))
        assert isinstance(crash, Crash)
        assert crash.after_ms >= 0
        assert crash.restarts >= 0
    assert heard("crashed", push_id="no id")["push_id"] == ""


def test_hooks_without_a_command_or_a_moment_are_left_out() -> None:
    good = {"run": "make", "moment": "before_stop", "exit_code": 0, "signal": None, "ms": 3, "output": ["a"]}
    bad = [good | {"run": ""}, good | {"moment": "sometime"}, good | {"run": 3}, "hook", None]
    assert [hook["run"] for hook in heard("verdict", hooks=[*bad, good])["hooks"]] == ["make"]
    for name in HOOK:
        for value in NONSENSE:
            for hook in heard("verdict", hooks=[good | {name: value}])["hooks"]:
                HookReport(**hook | {"output": tuple(hook["output"])})
                assert hook["ms"] >= 0
    assert len(heard("verdict", hooks=[good] * 100)["hooks"]) == MAX_HOOKS
    assert len(heard("verdict", hooks=[good | {"run": "x" * 9999}])["hooks"][0]["run"]) == MAX_COMMAND


def test_lines_of_a_log_have_four_fields() -> None:
    rows = [
        [1, "stdout", "p1", "good"],
        [1, "stdout", "p1"],
        "row",
        [None, None, None, None],
        [1e400, 1, "a b", "x" * 70_000],
    ]
    found = heard("log", request=3, lines=rows, last=True)
    assert (found["request"], found["last"]) == (3, True)
    assert found["lines"] == [
        (1.0, "stdout", "p1", "good"),
        (0.0, "", "", ""),
        (0.0, "", "", "x" * MAX_TEXT),
    ]
