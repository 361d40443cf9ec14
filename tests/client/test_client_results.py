"""What an outcome becomes for the caller: every field from the replicas' reports, and one advice for each case."""

from dataclasses import asdict

import pytest

from codesync.client import NEXT_STEPS, STATUS_STEPS, CrashedAfter, PushResult, StatusResult
from codesync.client.results import (
    CRASHED,
    CRASHED_IMAGE,
    DONE,
    HOOK_FAILED,
    HOOKS_LATER,
    LATE_HOOK_FAILED,
    NO_CHANGES_CRASHED,
    NOT_BACK,
    NOT_JUDGED,
    NOT_KNOWN,
    NOT_RUN,
    UNHEALTHY,
    Timings,
)
from codesync.protocol import (
    Busy,
    Crash,
    DeploymentState,
    Failure,
    Hook,
    HookReport,
    Outcome,
    ReplicaReport,
    ReplicaState,
    TreeRef,
    Trial,
)

TREE = TreeRef("0" * 64, "1" * 64)
TRIED = {"apply": 3, "stop": 10, "hook": 40, "start": 20, "health": 300}


def finished(status: str, *reports: ReplicaReport, error: Failure | None = None) -> PushResult:
    result = PushResult("p1", "shop", "dev", "failed")
    return result.finish(Outcome(push_id="p1", status=status, replicas=reports, error=error))


def report(status: str, **fields: object) -> ReplicaReport:
    return ReplicaReport(id="one", status=status, **({"timings_ms": TRIED} | fields))  # type: ignore[arg-type]


def test_a_replicas_report_is_taken_over_whole() -> None:
    hook = HookReport(run="make", moment="before_start", exit_code=0, ms=40, output=("done",))
    result = finished(
        "healthy",
        report(
            "healthy",
            generation=4,
            pid=77,
            healthy_ms=280,
            log_tail=("up",),
            drift=(b"a\xff",),
            hooks=(hook,),
        ),
    )
    assert result.to_dict() == {
        **asdict(PushResult("p1", "shop", "dev", "healthy", generation=4)),
        "files": {"added": 0, "modified": 0, "deleted": 0, "renamed": 0, "skipped": [], "drift": ["a\\xff"]},
        "timings_ms": asdict(Timings(apply=3, restart=30, health=300, hooks=40)),
        "replicas": [
            {
                "id": "one",
                "status": "healthy",
                "generation": 4,
                "exit_code": None,
                "log_tail": ["up"],
                "reason": "",
                "pid": 77,
                "healthy_ms": 280,
                "hooks": [
                    {
                        "run": "make",
                        "moment": "before_start",
                        "exit_code": 0,
                        "ms": 40,
                        "output": ["done"],
                        "reason": "",
                    }
                ],
                "back": True,
            }
        ],
        "next_step": NEXT_STEPS["healthy"],
    }


@pytest.mark.parametrize("status", ["no_changes", "healthy", "running", "stored"])
def test_what_was_kept_is_advised_by_its_status(status: str) -> None:
    result = finished(status, report(status))
    assert (result.status, result.ok, result.next_step) == (status, True, NEXT_STEPS[status])


FAILING = HookReport(run="pip", moment="before_start", exit_code=1)
LATE = HookReport(run="warm up", moment="after_healthy", signal=15)
OUT_OF_TIME = HookReport(run="warm up", moment="after_healthy", reason="it ran out of its 5 s")


@pytest.mark.parametrize(
    ("outcome", "status", "next_step"),
    [
        (
            finished("rolled_back", report("rolled_back", pid=7, reason="it ended with exit status 1")),
            "rolled_back",
            f"it ended with exit status 1. {NEXT_STEPS['rolled_back']}",
        ),
        (
            finished("rolled_back", report("rolled_back", reason="something is in the way")),
            "rolled_back",
            f"something is in the way. {NOT_RUN}",
        ),
        (
            finished("rolled_back", report("rolled_back", timings_ms={}, reason="cannot stage.")),
            "rolled_back",
            f"cannot stage. {NOT_JUDGED}",
        ),
        (
            finished("rolled_back", report("rolled_back", reason="the hook pip failed", hooks=(FAILING,))),
            "rolled_back",
            f"the hook pip failed. {HOOK_FAILED}",
        ),
        (
            finished("rolled_back", report("rolled_back", pid=7, back=False, reason="it ended")),
            "rolled_back",
            f"it ended. {NOT_BACK}",
        ),
        (
            finished("rolled_back", report("rolled_back", reason="pip failed", hooks=(FAILING,), back=False)),
            "rolled_back",
            f"pip failed. {NOT_BACK}",
        ),
        (
            finished("rolled_back", report("rolled_back"), report("rolled_back", reason="no", back=False)),
            "rolled_back",
            f"no. {NOT_BACK}",
        ),
        (
            finished("unhealthy", report("unhealthy", reason="no health within 30 s")),
            "failed",
            f"no health within 30 s. {UNHEALTHY}",
        ),
        (
            finished("failed", report("failed", timings_ms={}, reason="no room on the disk")),
            "failed",
            f"no room on the disk. {NEXT_STEPS['failed']}",
        ),
        (
            finished(
                "failed", report("failed"), error=Failure(code="timeout", message="one did not keep it")
            ),
            "failed",
            f"one did not keep it. {NOT_KNOWN}",
        ),
        (
            finished("partial", report("healthy"), report("failed", reason="gone")),
            "partial",
            f"gone. {NEXT_STEPS['partial']}",
        ),
        (
            finished("healthy", report("healthy", hooks=(LATE,))),
            "healthy",
            f"{NEXT_STEPS['healthy']} {LATE_HOOK_FAILED.format(run='warm up', how='exit status -15')}",
        ),
        (
            finished("running", report("running", hooks=(OUT_OF_TIME,))),
            "running",
            f"{NEXT_STEPS['running']} {LATE_HOOK_FAILED.format(run='warm up', how='it ran out of its 5 s')}",
        ),
    ],
    ids=[
        "crash",
        "not run",
        "not judged",
        "hook",
        "crash, and the old code is not well",
        "hook, and the old code is not well",
        "one of several is not well",
        "kept unhealthy",
        "failed",
        "not known",
        "partial",
        "late hook",
        "slow hook",
    ],
)
def test_what_was_not_well_is_advised_by_its_cause(outcome: PushResult, status: str, next_step: str) -> None:
    assert (outcome.status, outcome.next_step) == (status, next_step)
    assert outcome.ok == (status in DONE)


@pytest.mark.parametrize(
    ("status", "advice"), [("no_changes", NO_CHANGES_CRASHED), ("healthy", NEXT_STEPS["healthy"])]
)
def test_a_crash_after_the_push_before_is_added(status: str, advice: str) -> None:
    result = PushResult("p2", "shop", "dev", status)  # type: ignore[arg-type]
    result.crashed_after = [CrashedAfter("one", "p1", 3.25, 1, 2, ["Traceback"])]
    assert result.advise().next_step == f"{advice} {CRASHED.format(push_id='p1', after_s=3.25)}"
    assert "push p1 the application crashed 3.2 s after its start" in result.next_step


def test_a_crash_of_the_images_own_code_is_called_that() -> None:
    result = PushResult("p2", "shop", "dev", "healthy")
    for push_id in ("", "generation-0"):
        crash = Crash(push_id=push_id, at=9.0, after_ms=1000)
        result.crashed_after = [CrashedAfter.of("one", crash)]
        assert result.advise().next_step == f"{NEXT_STEPS['healthy']} {CRASHED_IMAGE.format(after_s=1.0)}"


@pytest.mark.parametrize("status", ["stored", "healthy"])
def test_hooks_of_a_stored_push_are_still_to_run(status: str) -> None:
    hook = Hook(run="make", moment="before_start", seconds=1.0)
    outcome = Outcome(push_id="p1", status=status, replicas=(report(status),))
    result = PushResult("p1", "shop", "dev", "failed").finish(outcome, (hook,))
    assert result.next_step == NEXT_STEPS[status] + (f" {HOOKS_LATER}" if status == "stored" else "")


def state(**fields: object) -> ReplicaState:
    return ReplicaState(id="one", tree=TREE, **({"launcher": "ready"} | fields))  # type: ignore[arg-type]


CRASH = Crash(push_id="p1", at=9.0, after_ms=1500, exit_code=3, restarts=4, log_tail=("Traceback",))
STARTING = {"state": "starting", "pid": 7}
NOT_WELL = STATUS_STEPS["not_well"].format(what="replica one: starting")
TRYING = Trial(push_id="p2", phase="trying")


@pytest.mark.parametrize(
    ("states", "busy", "next_step"),
    [
        ((), None, STATUS_STEPS["no_replica"]),
        ((state(),), None, STATUS_STEPS["ready"]),
        ((state(launcher="absent"),), None, STATUS_STEPS["no_launcher"]),
        ((state(crash=CRASH),), None, STATUS_STEPS["crashed"].format(push_id="p1", after_s=1.5)),
        (
            (state(crash=Crash(push_id="", at=9.0, after_ms=1500)),),
            None,
            STATUS_STEPS["crashed_image"].format(after_s=1.5),
        ),
        ((state(app={"state": "healthy"}), state(app=STARTING)), None, NOT_WELL),
        ((state(app=STARTING, launcher="absent"),), None, STATUS_STEPS["no_launcher"]),
        ((state(app=STARTING, trial=TRYING),), None, STATUS_STEPS["ready"]),
        (
            (state(crash=CRASH),),
            Busy(push_id="p2", source="", since=1.0),
            STATUS_STEPS["busy"].format(push_id="p2", source="somebody"),
        ),
    ],
    ids=[
        "nobody",
        "ready",
        "no launcher",
        "crashed",
        "the image crashed",
        "not well",
        "nobody knows",
        "trial",
        "busy",
    ],
)
def test_a_status_says_what_to_do(
    states: tuple[ReplicaState, ...], busy: Busy | None, next_step: str
) -> None:
    deployment = DeploymentState(app_id="shop", deployment_id="dev", replicas=states, busy=busy)
    assert StatusResult.of(deployment, "ws://h").next_step == next_step


def test_a_status_tells_how_a_replica_reloads_and_how_its_application_crashed() -> None:
    found = state(reload="signal:HUP", crash=CRASH)
    deployment = DeploymentState(app_id="shop", deployment_id="dev", replicas=(found,))
    (replica,) = StatusResult.of(deployment, "ws://h").replicas
    assert replica.reload == "signal:HUP"
    assert replica.crashed_after == CrashedAfter("one", "p1", 1.5, 3, 4, ["Traceback"])
