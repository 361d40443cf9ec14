"""A shell script that loops, without a health check: it runs as long as it stays up, and a crash later on is told later."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from acceptance.apps.app import App, AppChain, running_app
from acceptance.apps.fivepushes import bytes_of, without_measures
from codesync import client
from codesync.client.results import CRASHED, NEXT_STEPS, CrashedAfter
from codesync.client.status import STATUS_STEPS
from tests.chain.harness import APP_ID, DEPLOYMENT_ID

SETTLE = "0.3"
LOOP = "#!/bin/sh\nwhile :; do echo 'tick {}'; sleep 0.05; done\n"
RAISES = '#!/bin/sh\necho "tick ${NOT_SET:?is not set}"\n'
FAILS_LATER = "#!/bin/sh\necho 'tick late'\nsleep 0.6\necho 'out of ticks' >&2\nexit 7\n"
HANGS = "#!/bin/sh\necho 'tick once'\nexec sleep 3600\n"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[AppChain]:
    """The script as the image has it runs."""
    image = tmp_path / "made"
    image.mkdir()
    (image / "run.sh").write_text(LOOP.format("image"))
    app = App(("/bin/sh", "run.sh"), options=("--settle", SETTLE))
    with running_app(tmp_path, image, app) as chain:
        yield chain


def push(
    chain: AppChain, script: str, *, generation: int, crashed: str = "", **replica: Any
) -> tuple[str, dict[str, Any]]:
    """Push a script; the push_id, and the replica's pid, healthy_ms and log_tail. All else is as it must be.

    `crashed`: the push before it, where the application crashed after that.
    """
    chain.write("run.sh", script)
    result = chain.push("a script")
    found, replica_found = without_measures(result)
    (state,) = chain.status().replicas
    rest = {name: replica_found.pop(name) for name in ("pid", "healthy_ms", "log_tail")}
    expected = {"status": "running", "exit_code": None, "reason": "", **replica}
    assert replica_found == {"id": state.id, "generation": generation, "hooks": [], "back": True, **expected}
    steps = [f"{expected['reason']}." if expected["reason"] else "", NEXT_STEPS[expected["status"]]]
    crashes = found.pop("crashed_after")
    assert len(crashes) == (1 if crashed else 0)
    for crash in crashes:
        steps.append(CRASHED.format(push_id=crashed, after_s=crash["after_s"]))
        check_crash(crash, state.id, crashed)
    assert found == {
        "app_id": APP_ID,
        "deployment_id": DEPLOYMENT_ID,
        "status": expected["status"],
        "generation": generation,
        "files": {"added": 0, "modified": 1, "deleted": 0, "renamed": 0, "skipped": [], "drift": []},
        "bytes": {"tree": bytes_of(chain.tree(chain.source))},
        "diff": "",
        "restores": "",
        "next_step": " ".join(filter(None, steps)),
    }
    return result.push_id, rest


def check_crash(crash: dict[str, Any], replica: str, push_id: str) -> None:
    """What is told of FAILS_LATER after it was started again."""
    assert set(crash) == {"replica", "push_id", "after_s", "exit_code", "restarts", "log_tail"}
    assert (crash["replica"], crash["push_id"], crash["exit_code"]) == (replica, push_id, 7)
    assert crash["after_s"] >= 0.6
    assert crash["restarts"] >= 1
    assert crash["log_tail"] == ["tick late", "out of ticks"]


def check_status(chain: AppChain, generation: int) -> None:
    """It runs, and nothing is told of a crash."""
    (state,) = chain.status().replicas
    assert (state.generation, state.launcher, state.health, state.reload) == (
        generation,
        "ready",
        False,
        "restart",
    )
    assert (state.app["state"], state.crashed_after, state.trial, state.notes) == ("running", None, "", [])


def wait_for_output(chain: AppChain, text: str) -> None:
    """Until this is the last line that the application has written."""

    def written() -> bool | None:
        (replica,) = asyncio.run(client.logs(chain.settings(), lines=1)).replicas
        return replica.lines == [text] or None

    chain.wait(f"the output {text!r}", written)


def wait_for_crash(chain: AppChain, restarts: int) -> dict[str, Any]:
    """What the status tells once the application has crashed and was started again so often."""

    def crashed() -> CrashedAfter | None:
        found = chain.status().replicas[0].crashed_after
        return found if found is not None and found.restarts >= restarts else None

    return asdict(chain.wait(f"{restarts} restarts", crashed))


def test_a_shell_script(chain: AppChain) -> None:
    replica_id = chain.status().replicas[0].id
    wait_for_output(chain, "tick image")

    _, replica = push(chain, LOOP.format("first"), generation=1)
    assert replica["pid"] == chain.status().replicas[0].app["pid"]
    assert replica["healthy_ms"] >= float(SETTLE) * 1000
    assert set(replica["log_tail"]) == {"tick first"}
    check_status(chain, 1)
    wait_for_output(chain, "tick first")

    reason = "the application ended with exit code 2 before it was settled"
    _, replica = push(chain, RAISES, generation=1, status="rolled_back", exit_code=2, reason=reason)
    assert replica["pid"] != chain.status().replicas[0].app["pid"]
    assert replica["healthy_ms"] is None
    assert replica["log_tail"] == ["run.sh: 2: NOT_SET: is not set"]
    check_status(chain, 1)
    wait_for_output(chain, "tick first")

    late, replica = push(chain, FAILS_LATER, generation=2)
    assert replica["healthy_ms"] >= float(SETTLE) * 1000
    assert replica["log_tail"] == ["tick late"]
    check_crash(wait_for_crash(chain, restarts=1), replica_id, late)
    status = chain.status()
    crash = status.replicas[0].crashed_after
    assert crash is not None
    assert status.next_step == STATUS_STEPS["crashed"].format(push_id=late, after_s=crash.after_s)

    _, replica = push(chain, HANGS, generation=3, crashed=late)
    assert replica["log_tail"] == ["tick once"]
    check_status(chain, 3)
    wait_for_output(chain, "tick once")

    _, replica = push(chain, LOOP.format("second"), generation=4)
    assert replica["pid"] == chain.status().replicas[0].app["pid"]
    check_status(chain, 4)
    wait_for_output(chain, "tick second")
