"""Results as lines for people: nothing that matters is missing, and nothing that is empty is shown."""

import time

import pytest

from codesync.cli.remote import exit_status
from codesync.cli.report import history_lines, push_lines, status_lines
from codesync.client import CrashedAfter, HistoryPush, HistoryResult, HookResult, StatusResult
from codesync.client.results import ByteCounts, FileCounts, PushResult, ReplicaResult, Timings
from codesync.client.status import PastPush, ReplicaStatus


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def result(**changes: object) -> PushResult:
    values = {
        "push_id": "p1",
        "app_id": "shop",
        "deployment_id": "dev",
        "status": "rolled_back",
        "generation": 3,
        "files": FileCounts(added=1, renamed=2, drift=["cache.db"]),
        "bytes": ByteCounts(tree=1_234_567, sent=999),
        "timings_ms": Timings(scan=5, health=120),
        "replicas": [ReplicaResult("pod-1", "rolled_back", 3, 1, ["Traceback", "ValueError: x"], "it ended")],
        "next_step": "Mend it.",
    }
    return PushResult(**(values | changes))  # type: ignore[arg-type]


def test_a_push_is_told_in_lines() -> None:
    assert push_lines(result().to_dict()) == [
        "rolled_back shop/dev  generation 3",
        "push        p1",
        "files       1 added, 2 renamed",
        "bytes       999 B sent  tree 1.2 MB",
        "time        scan 5 ms, health 120 ms",
        "drift       cache.db",
        "replica     pod-1  rolled_back  generation 3  exit status 1  it ended",
        "  | Traceback",
        "  | ValueError: x",
        "Mend it.",
    ]


def test_a_push_that_is_well_shows_hooks_and_no_log() -> None:
    hooks = [
        HookResult("pip install x", "before_start", 0, 900, ["Collecting x"], ""),
        HookResult("./warm-up", "after_healthy", -15, 80, ["half"], ""),
        HookResult("sleep 9", "after_healthy", None, 5000, [], "it ran out of its 5 s"),
    ]
    replica = ReplicaResult("pod-1", "healthy", 4, log_tail=["up"], pid=77, healthy_ms=210, hooks=hooks)
    found = result(status="healthy", generation=4, replicas=[replica], files=FileCounts())
    assert push_lines(found.to_dict()) == [
        "healthy     shop/dev  generation 4",
        "push        p1",
        "files       none changed",
        "bytes       999 B sent  tree 1.2 MB",
        "time        scan 5 ms, health 120 ms",
        "replica     pod-1  healthy  generation 4  pid 77  healthy after 210 ms",
        "  hook      before start  pip install x  900 ms  exit status 0",
        "  hook      after healthy  ./warm-up  80 ms  signal 15",
        "  | half",
        "  hook      after healthy  sleep 9  5000 ms  it ran out of its 5 s",
        "Mend it.",
    ]


def test_a_rollback_names_what_it_went_back_to_and_counts_only_what_is_known() -> None:
    known = result(restores="p0", files=FileCounts(), replicas=[], timings_ms=Timings(apply=3))
    lines = push_lines(known.to_dict())
    assert lines[1:4] == [
        "push        p1  goes back to p0",
        "files       none changed",
        "bytes       999 B sent  tree 1.2 MB",
    ]
    for restores in ("", "p0"):
        known.restores, known.bytes = restores, ByteCounts()
        lines = push_lines(known.to_dict())
        assert lines[2] == "bytes       0 B sent"
        assert not [line for line in lines if line.startswith("files")]


def test_a_replica_whose_old_code_is_not_well_either_is_told() -> None:
    replica = ReplicaResult("pod-1", "rolled_back", 3, 1, reason="it ended", back=False)
    lines = push_lines(result(replicas=[replica]).to_dict())
    assert lines[-2] == (
        "replica     pod-1  rolled_back  generation 3  exit status 1  it ended  the code before it is not well either"
    )


CRASH = CrashedAfter("pod-1", "p0", 3.21, -9, 2, ["Killed"])


def test_a_crash_since_the_push_before_is_shown_with_its_log() -> None:
    lines = push_lines(result(crashed_after=[CRASH], replicas=[]).to_dict())
    assert lines[-3:-1] == [
        "crashed     pod-1  3.2 s after its start  signal 9  after push p0  started again 2 times",
        "  | Killed",
    ]


def test_a_crash_of_what_the_image_brought_is_called_that() -> None:
    crash = CrashedAfter("pod-1", "", 1.0, 1, 0, [])
    lines = push_lines(result(crashed_after=[crash], replicas=[]).to_dict())
    assert lines[-2] == "crashed     pod-1  1.0 s after its start  exit status 1  the image's own code"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("no_changes", 0),
        ("planned", 0),
        ("healthy", 0),
        ("running", 0),
        ("stored", 0),
        ("rolled_back", 1),
        ("partial", 1),
        ("failed", 1),
    ],
)
def test_the_exit_status_of_a_push_is_its_outcome(status: str, expected: int) -> None:
    assert exit_status(result(status=status)) == expected


def test_a_deployment_is_told_in_lines() -> None:
    past = [PastPush("", 0, "the image", "", 0.0, ""), PastPush("p1", 1, "a change", "me@here:/a", 0.0, "")]
    app = {"state": "exited", "pid": 7, "exit_code": None, "since": 1e9, "next_start": 1e9 + 2.05}
    replica = ReplicaStatus(
        "pod-1", "ab" * 32, 1, "ready", True, app, "", ["a note"], past, "signal:HUP", CRASH
    )
    status = StatusResult("shop", "dev", "ws://h", True, [replica], None, None, "Push changes.")
    assert status_lines(status.to_dict()) == [
        "deployment  shop/dev  at ws://h  ready",
        "replica     pod-1  generation 1  tree abababababab  launcher ready  reload signal:HUP",
        "  app       state exited  pid 7  since 2001-09-09 01:46:40  next_start 2001-09-09 01:46:42",
        "  crashed   pod-1  3.2 s after its start  signal 9  after push p0  started again 2 times",
        "  | Killed",
        "  note      a note",
        "  1         p1  a change  me@here:/a",
        "  0         the image",
        "Push changes.",
    ]


def test_a_history_is_a_table() -> None:
    pushes = [
        HistoryPush("p12", 3, "healthy", 1e9, "me@here:/a", "", "p10", 0, {"apply": 5, "health": 90}, 2),
        HistoryPush(
            "p11", 2, "rolled_back", 9e8, "me@here:/a", "a\ttry", "", 12_345, {"scan": 7}, 0, "it ended"
        ),
        HistoryPush("p10", 2, "running", 0.0, "ci", "first", "", 999, {}, 1),
    ]
    lines = history_lines(HistoryResult("shop", "dev", pushes, "Go back.").to_dict())
    assert lines == [
        "generation  when                 status       push  who         bytes    time                      what",
        "3           2001-09-09 01:46:40  healthy      p12   me@here:/a           apply 5 ms, health 90 ms  goes back to p10",
        "            1998-07-09 16:00:00  rolled_back  p11   me@here:/a  12.3 kB  scan 7 ms                 a       try; it ended",
        "2                                running      p10   ci          999 B                              first",
        "Go back.",
    ]


def test_an_empty_history_is_only_its_advice() -> None:
    assert history_lines(HistoryResult("shop", "dev", [], "Push.").to_dict()) == ["Push."]
