"""Five pushes to an application, and everything that is answered to each.

    good       runs
    raises     ends while it is imported
    unhealthy  starts, and fails its health check
    hangs      never gets as far as to listen
    repaired   runs

After each the application answers with the code that should run, and its directory holds that code.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance.apps.app import AppChain
from codesync import client
from codesync.client import PushResult
from codesync.client.results import NEXT_STEPS
from tests.chain.harness import APP_ID, DEPLOYMENT_ID

PUSH_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{10}")
TIMINGS = {"scan", "delta", "transfer", "apply", "restart", "health", "hooks"}
STEPS_HERE = {"scan", "delta", "transfer"}  # of these the client alone knows how long they took
NOTES = "Written down by the developer.\n" * 40
SENT_AT_MOST = 4096  # bytes of a batch for a change of a few lines

Tree = dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class Change:
    """A text that stands once in a file of the application, and what is to stand there."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Broken:
    """A change that must not stay.

    says: a line that the application writes, the last one of a traceback; "" where it has nothing to say.
    exit_code: None where it does not end.
    heard: what the health check hears, where it does not end.
    """

    change: Change
    says: str = ""
    exit_code: int | None = None
    heard: str = ""


@dataclass(frozen=True)
class Good:
    """A change that must come to run: its answer has `text` in it."""

    change: Change
    text: str


@dataclass(frozen=True)
class Five:
    """`image`: a text of the answer before the first push. What is broken is a change of what is good, taken back again."""

    image: str
    good: Good
    raises: Broken
    unhealthy: Broken
    hangs: Broken
    repaired: Good


def push_five(chain: AppChain, five: Five) -> None:
    """Push them, and look at everything."""
    pushes = Pushes(chain)
    assert five.image in chain.answer()
    chain.write("notes.txt", NOTES)
    pushes.good(five.good, "good", added=1)
    for name, broken in (("raises", five.raises), ("unhealthy", five.unhealthy), ("hangs", five.hangs)):
        pushes.broken(broken, name, five.good.text)
    (chain.source / "notes.txt").unlink()
    pushes.good(five.repaired, "repaired", deleted=1)
    pushes.check_history()


class Pushes:
    """One after the other. `served` is the tree that the application should run."""

    def __init__(self, chain: AppChain) -> None:
        self._chain = chain
        self._replica = chain.wait_ready().replicas[0].id
        self._generation = 0
        self._served = chain.tree(chain.source)
        self._pid = self._serving_pid()
        self._done: list[dict[str, Any]] = []  # what the history should tell of them, oldest first

    def good(self, good: Good, name: str, *, added: int = 0, deleted: int = 0) -> None:
        """A push that is kept."""
        self._change(good.change)
        self._generation += 1
        self._served = self._chain.tree(self._chain.source)
        result = self._chain.push(name)
        replica = self._check(result, "healthy", NEXT_STEPS["healthy"], added=added, deleted=deleted)
        healthy_ms, pid, log_tail = replica.pop("healthy_ms"), replica.pop("pid"), replica.pop("log_tail")
        assert replica == self._replica_result("healthy")
        assert healthy_ms > 0
        assert not any("Traceback" in line for line in log_tail)
        assert pid == self._serving_pid()
        assert (pid == self._pid) == self._chain.reload.startswith("signal:")
        self._pid = pid
        self._check_application(good.text)
        self._note(result, name, "healthy", "")

    def broken(self, broken: Broken, name: str, text: str) -> None:
        """A push that is not; the application answers `text` as before."""
        before = (self._chain.source / broken.change.path).read_text()
        self._change(broken.change)
        result = self._chain.push(name)
        reason = self._reason(broken, result.replicas[0].reason)
        replica = self._check(result, "rolled_back", f"{reason}. {NEXT_STEPS['rolled_back']}")
        log_tail, pid = replica.pop("log_tail"), replica.pop("pid")
        expected = self._replica_result("rolled_back", exit_code=broken.exit_code, reason=reason)
        assert replica == {**expected, "healthy_ms": None}
        assert not broken.says or broken.says in [line.strip() for line in log_tail], log_tail
        self._check_pids(pid, ended=broken.exit_code is not None)
        if broken.exit_code is None:
            assert result.timings_ms.health >= self._chain.health_seconds * 1000
        self._check_application(text)
        self._chain.write(broken.change.path, before)
        self._note(result, name, "rolled_back", reason)

    # --- the answer ------------------------------------------------------------------------------------------

    def _check(
        self, result: PushResult, status: str, next_step: str, *, added: int = 0, deleted: int = 0
    ) -> dict[str, Any]:
        """All but the replica's part, which is returned."""
        found, replica = without_measures(result)
        files = {"added": added, "modified": 1, "deleted": deleted, "renamed": 0, "skipped": [], "drift": []}
        assert found == {
            "app_id": APP_ID,
            "deployment_id": DEPLOYMENT_ID,
            "status": status,
            "generation": self._generation,
            "files": files,
            "bytes": {"tree": bytes_of(self._chain.tree(self._chain.source))},
            "crashed_after": [],
            "diff": "",
            "restores": "",
            "next_step": next_step,
        }
        return replica

    def _replica_result(self, status: str, exit_code: int | None = None, reason: str = "") -> dict[str, Any]:
        """What is expected of it, without pid and what differs otherwise."""
        return {
            "id": self._replica,
            "status": status,
            "generation": self._generation,
            "exit_code": exit_code,
            "reason": reason,
            "hooks": [],
            "back": True,
        }

    def _reason(self, broken: Broken, told: str) -> str:
        """What should be told. The port of an instance that runs beside another one is only known from what was told."""
        if broken.exit_code is not None:
            return f"the application ended with exit code {broken.exit_code} before it was healthy"
        check, seconds = self._chain.checked_at(), f"{self._chain.health_seconds:g} s"
        if self._chain.reload == "blue-green":
            assert not told.startswith(check)
            check = re.sub(r":\d+/", "".join(re.findall(r":\d+/", told)), check)
        return f"{check} did not pass within {seconds}: {broken.heard}"

    # --- the application -------------------------------------------------------------------------------------

    def _check_application(self, text: str) -> None:
        """It answers `text`, at once, and all that can be seen of it says that it is well."""
        chain = self._chain
        assert text in chain.answer()
        chain.wait(
            "its directory to hold its code",
            lambda: self._served == chain.tree(chain.replicas["one"].app) or None,
        )
        assert contents(chain.tree(chain.replicas["one"].current)) == contents(self._served)
        (replica,) = chain.status().replicas
        assert (replica.id, replica.generation, replica.launcher) == (
            self._replica,
            self._generation,
            "ready",
        )
        assert (replica.health, replica.reload, replica.trial) == (True, chain.reload, "")
        assert (replica.app["state"], replica.app["exit_code"], replica.notes) == ("healthy", None, [])
        assert replica.crashed_after is None

    def _check_pids(self, pid: int, *, ended: bool) -> None:
        """The process that was judged was the one that serves where it is only told; else it is gone by now."""
        serving, stays = self._serving_pid(), self._chain.reload != "restart"
        if self._chain.reload.startswith("signal:"):
            assert pid == self._pid
            stays = not ended
        else:
            assert pid not in (self._pid, serving)
            self._chain.wait("what was judged to be gone", lambda: None if is_alive(pid) else True)
        assert (serving == self._pid) == stays
        self._pid = serving

    def _serving_pid(self) -> int:
        return int(self._chain.status().replicas[0].app["pid"])

    def _change(self, change: Change) -> None:
        self._chain.edit(change.path, change.old, change.new)

    # --- the past --------------------------------------------------------------------------------------------

    def _note(self, result: PushResult, name: str, status: str, reason: str) -> None:
        self._done.append(
            {
                "push_id": result.push_id,
                "generation": self._generation,
                "status": status,
                "source": "dev@laptop:/src",
                "description": name,
                "restores": "",
                "bytes": result.bytes.sent,
                "replicas": int(status == "healthy"),
                "reason": reason,
            }
        )

    def check_history(self) -> None:
        """All of them are remembered, the newest first."""
        found = asyncio.run(client.history(self._chain.settings())).to_dict()["pushes"]
        times = [push.pop("at") for push in found]
        assert times == sorted(times, reverse=True)
        assert all(set(push.pop("timings_ms")) <= TIMINGS | {"stop", "start", "hook"} for push in found)
        assert found == self._done[::-1]


def without_measures(result: PushResult) -> tuple[dict[str, Any], dict[str, Any]]:
    """A result and its one replica, plain, without what differs each time; that has been looked at."""
    found = result.to_dict()
    assert PUSH_ID.fullmatch(found.pop("push_id"))
    timings = found.pop("timings_ms")
    assert set(timings) == TIMINGS
    assert all(isinstance(spent, int) and spent >= 0 for spent in timings.values())
    assert timings["hooks"] == 0
    assert 0 < found["bytes"].pop("sent") < SENT_AT_MOST
    (replica,) = found.pop("replicas")
    return found, replica


def bytes_of(tree: Tree) -> int:
    """The size of what is in its files."""
    return sum(len(data) for kind, data in tree.values() if kind != "link")


def contents(tree: Tree) -> Tree:
    """A tree without modes: in `current` the manifest has them."""
    return {path: ("file" if kind == "executable" else kind, data) for path, (kind, data) in tree.items()}


def is_alive(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()
