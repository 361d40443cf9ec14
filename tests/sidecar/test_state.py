"""The state on disk: what results remember, and that those of before are still read."""

from pathlib import Path

from codesync.protocol import TreeRef
from codesync.sidecar.pushes import Ending, Push, make_result
from codesync.sidecar.reports import told_pushes
from codesync.sidecar.state import Commit, Result, StartHook, State

GOLDEN = Path(__file__).parents[1] / "golden"
STATE = State(
    replica="host-abc123",
    history=(
        Commit("", 0, "0" * 64, "9" * 64, description="the image", at=1.5),
        Commit("r1", 2, "0" * 64, "9" * 64, "back", "me@here:/src", 4.5, "generation-0", ("d" * 64,)),
    ),
    results=(
        Result("p0", "1" * 64, "healthy", "1" * 64, "8" * 64, 1),
        Result(
            "p1",
            "2" * 64,
            "rolled_back",
            "1" * 64,
            "8" * 64,
            1,
            at=3.5,
            source="me@here:/src",
            description="é",
            bytes=1234,
            timings_ms={"scan": 3, "apply": 0},
            reason="it ended with 1",
        ),
        Result("r1", "", "unhealthy", "0" * 64, "9" * 64, 2, at=4.5, restores="generation-0"),
    ),
)

WITH_HOOKS = State(
    replica="host-abc123",
    image="i" * 64,
    gen0="0" * 64,
    history=(Commit("p2", 1, "1" * 64, "9" * 64, at=1.5),),
    hooks=(
        StartHook("p1", "npm ci", "before_start", 90.0),
        StartHook("p2", "pip install -r 'é.txt'", "before_start", 600.0),
    ),
)


def test_hooks_stay_readable_and_are_written_alike() -> None:
    golden = (GOLDEN / "state-1-hooks.json").read_bytes()
    assert State.from_bytes(golden) == WITH_HOOKS
    assert WITH_HOOKS.to_bytes() == golden


def test_what_results_remember_stays_readable_and_is_written_alike() -> None:
    golden = (GOLDEN / "state-1-results.json").read_bytes()
    assert State.from_bytes(golden) == STATE
    assert STATE.to_bytes() == golden


def test_results_of_before_are_told_with_what_the_commits_know() -> None:
    state = State.from_bytes((GOLDEN / "state-1.json").read_bytes())
    assert told_pushes(state) == [
        {
            "push_id": "p1",
            "generation": 1,
            "status": "healthy",
            "at": 2.25,
            "source": "me@here:/src",
            "description": "é",
            "restores": "p0",
            "bytes": 0,
            "timings_ms": {},
            "reason": "",
        }
    ]


def test_what_a_result_remembers_is_bounded() -> None:
    push = Push("p", "s" * 900, "d" * 900, timings_ms={"x" * 100: 1, **{f"step {n}": n for n in range(100)}})
    result = make_result(push, Ending("rolled_back", {}, "r" * 900), TreeRef("0", "0"), 1, 2.5)
    assert (len(result.source), len(result.description), len(result.reason)) == (500, 500, 500)
    assert len(result.timings_ms) < 40
    assert "x" * 100 not in result.timings_ms
