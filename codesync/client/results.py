"""What a push or a rollback answers: plain data, the fields of the MCP tools' results. And what is advised next.

Every sentence of advice on a push stands here, once. `next_step` is the reason, where there is one, then one of
NEXT_STEPS or what stands below them, then what hooks and crashes add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from codesync.delta import Difference, Kind, Manifest
from codesync.errors import UserError
from codesync.plan import Plan, show
from codesync.protocol import (
    GENERATION_0,
    MAX_TEXT,
    Crash,
    DeploymentState,
    Hook,
    HookReport,
    Outcome,
    ReplicaReport,
    is_id,
)

PushStatus = Literal[
    "no_changes", "planned", "healthy", "running", "stored", "rolled_back", "partial", "failed"
]
DONE = frozenset({"no_changes", "planned", "healthy", "running", "stored"})
_NOT_WELL = frozenset({"rolled_back", "failed", "unhealthy"})
_APP_IS_WELL = frozenset({"healthy", "running"})  # what a launcher calls its application then

NEXT_STEPS: dict[str, str] = {
    "no_changes": "Nothing to do: the deployment already has this tree.",
    "planned": "Nothing was sent; push without dry_run to apply this.",
    "healthy": "The application runs the pushed code and passes its health check.",
    "running": "The application runs the pushed code and has stayed up; start the launcher with --health to know that it answers.",
    "stored": "The code is stored; no launcher is connected, so the application runs it from its container's next start.",
    "rolled_back": "The application is back on its last good code; read log_tail, mend the code and push again.",
    "partial": "Replicas differ: push again to bring all of them to one tree, and look at those that are not healthy.",
    "failed": "Nothing was applied; mend what the replica's reason says and push again.",
}
# in place of the one above, where more is known
NOT_JUDGED = "Nothing of this push was kept, and its code was not at fault; push again."
NOT_RUN = "The application is on its last good code, and this push's never ran; put right what the reason says and push again."
HOOK_FAILED = "The application is back on its last good code; read output in the replica's hooks, mend it and push again."
NOT_BACK = "The code before it is back, and is not well either; read app_logs, put right what the reason says and push again."
UNHEALTHY = "The new code stays in place although it is not healthy (--on-failure keep); read log_tail, mend the code and push again, or roll back."
NOT_KNOWN = "What became of the push is not known: see status, then push again."
NO_CHANGES_CRASHED = "The deployment already has this tree; mend the code and push again, or roll back."
NO_CHANGES_NOT_WELL = "The deployment already has this tree, but its application is not healthy ({what}); where that lasts, read app_logs, mend the code and push again, or roll back."
# after it
LATE_HOOK_FAILED = (
    "After it was healthy the hook {run!r} failed: {how}; its output is in the replica's hooks."
)
HOOKS_LATER = "Hooks before the start that it calls for run with that start; others do not run."
CRASHED = "After push {push_id} the application crashed {after_s:.1f} s after its start; its log is in crashed_after."
CRASHED_IMAGE = "The image's own code crashed {after_s:.1f} s after its start; its log is in crashed_after."


class ClientError(UserError):
    """A push was refused or did not reach its end. `code` is one of protocol's, or "unreachable"."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Progress(NamedTuple):
    """How far a push is. `replica` is "" for what is done on this machine; `total` 0 means unknown.

    After a cancellation: `cancelling`, then `cancelled` (it is undone) or `kept` (too late; `done` is the generation);
    neither where that could not be learnt.
    """

    stage: str  # scan, wait, delta, transfer, apply, stop, start, health, hook, commit
    replica: str
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


@dataclass
class FileCounts:
    """Paths by what happened to them; `skipped` and `drift` are named."""

    added: int = 0
    modified: int = 0
    deleted: int = 0
    renamed: int = 0
    skipped: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plans: Iterable[Plan]) -> FileCounts:
        """Count the largest of the plans: replicas on one tree have the same one."""
        plan = max(plans, key=lambda plan: sum(map(len, plan.difference)))
        return cls.between(plan.base, plan.target, plan.difference)

    @classmethod
    def between(cls, base: Manifest, target: Manifest, found: Difference) -> FileCounts:
        """Count what leads from one tree to the other. Directories do not count."""
        gone = _files(base, (*found.deleted, *found.modified))
        come = _files(target, (*found.added, *found.modified))
        modified = _files(target, found.attributes)
        return cls(len(come - gone), len(come & gone | modified), len(gone - come), len(found.renamed))


def _files(tree: Manifest, paths: Iterable[bytes]) -> set[bytes]:
    return {path for path in paths if tree[path].kind != Kind.DIRECTORY}


@dataclass
class ByteCounts:
    """`tree`: the content of the source, of a rollback's tree. `sent`: batches on the wire, before copying to several replicas."""

    tree: int = 0
    sent: int = 0


@dataclass
class Timings:
    """Milliseconds. On the replicas' side the slowest one counts; `restart` is stop and start."""

    scan: int = 0
    delta: int = 0
    transfer: int = 0
    apply: int = 0
    restart: int = 0
    health: int = 0
    hooks: int = 0


@dataclass
class HookResult:
    """How a hook ended. `exit_code` is negative for a signal; None: `reason` says why it did not end by itself."""

    run: str
    moment: str
    exit_code: int | None
    ms: int
    output: list[str]
    reason: str

    @classmethod
    def of(cls, report: HookReport) -> HookResult:
        """Take over a replica's report."""
        code = _exit_code(report.exit_code, report.signal)
        return cls(report.run, report.moment, code, report.ms, list(report.output), report.reason)

    @property
    def failed(self) -> bool:
        """Whether it did not end with status 0."""
        return self.exit_code != 0

    @property
    def how(self) -> str:
        """Why it failed, in a few words."""
        return self.reason or f"exit status {self.exit_code}"


@dataclass
class CrashedAfter:
    """The application ended by itself soon after push `push_id` was kept, `after_s` seconds after its start.

    `push_id` is "" for the image's own code. `exit_code` is negative for a signal; `restarts`: how often it was started
    since.
    """

    replica: str
    push_id: str
    after_s: float
    exit_code: int | None
    restarts: int
    log_tail: list[str]

    @classmethod
    def of(cls, replica: str, crash: Crash) -> CrashedAfter:
        """Take over what a replica tells."""
        code = _exit_code(crash.exit_code, crash.signal)
        seconds = round(crash.after_ms / 1000, 3)
        push_id = "" if crash.push_id == GENERATION_0 else crash.push_id
        return cls(replica, push_id, seconds, code, crash.restarts, list(crash.log_tail))

    def told(self, after_push: str, of_image: str) -> str:
        """Return the sentence of the two that fits, filled in."""
        return (after_push if self.push_id else of_image).format(push_id=self.push_id, after_s=self.after_s)


def crashes(deployment: DeploymentState) -> list[CrashedAfter]:
    """Return what the replicas tell of an application that crashed after the last push."""
    return [CrashedAfter.of(state.id, state.crash) for state in deployment.replicas if state.crash]


def not_well(deployment: DeploymentState) -> str:
    """Return which replica's application is not healthy although no push is on trial there, "" where there is none.

    It may be starting. Where there is no launcher nothing is known.
    """
    for state in deployment.replicas:
        app = state.app.get("state")
        if state.launcher == "ready" and state.trial is None and app and app not in _APP_IS_WELL:
            return f"replica {state.id}: {app}"
    return ""


def checked_push_id(push_id: str) -> str:
    """Return a push_id that a caller names, as it is. Raises ClientError."""
    if not is_id(push_id):
        raise ClientError(f"{push_id[:140]!r} is no push_id; history lists them", code="unknown_push")
    return push_id


def checked_description(description: str) -> str:
    """Return what a caller says of a push, fit to be sent. Raises ClientError."""
    if len(description) > MAX_TEXT:
        message = (
            f"the description has {len(description)} characters, more than {MAX_TEXT}; say it in a sentence"
        )
        raise ClientError(message, code="too_large")
    return description.encode("utf-8", "replace").decode()  # an argument that was no UTF-8


def _exit_code(code: int | None, signal: int | None) -> int | None:
    return -signal if signal else code


@dataclass
class ReplicaResult:
    """What the push did on one replica. `exit_code` is negative for a signal, None while the application runs.

    `pid` is that of the process that was judged; `healthy_ms` from its start until it was healthy. `back` is False where the
    code before the push has been put back and is not well either.
    """

    id: str
    status: str
    generation: int
    exit_code: int | None = None
    log_tail: list[str] = field(default_factory=list)
    reason: str = ""
    pid: int | None = None
    healthy_ms: int | None = None
    hooks: list[HookResult] = field(default_factory=list)
    back: bool = True

    @classmethod
    def of(cls, report: ReplicaReport) -> ReplicaResult:
        """Take over a replica's report."""
        return cls(
            id=report.id,
            status=report.status,
            generation=report.generation,
            exit_code=_exit_code(report.exit_code, report.signal),
            log_tail=list(report.log_tail),
            reason=report.reason,
            pid=report.pid,
            healthy_ms=report.healthy_ms,
            hooks=[HookResult.of(hook) for hook in report.hooks],
            back=report.back,
        )


@dataclass
class PushResult:
    """The one answer to a push or a rollback; the fields are those of the MCP tools' output schema."""

    push_id: str
    app_id: str
    deployment_id: str
    status: PushStatus
    generation: int = 0
    files: FileCounts = field(default_factory=FileCounts)
    bytes: ByteCounts = field(default_factory=ByteCounts)
    timings_ms: Timings = field(default_factory=Timings)
    replicas: list[ReplicaResult] = field(default_factory=list)
    crashed_after: list[CrashedAfter] = field(default_factory=list)  # of the push before this one
    diff: str = ""  # git's summary of the uncommitted changes, in a work tree
    restores: str = ""  # the push a rollback went back to
    next_step: str = ""

    @property
    def ok(self) -> bool:
        """Whether the deployment is, or in a dry run would be, as asked."""
        return self.status in DONE

    def finish(self, outcome: Outcome, hooks: Sequence[Hook] = ()) -> PushResult:
        """Fill in what the replicas say; `hooks` are those that were sent."""
        unhealthy = outcome.status == "unhealthy"  # kept, but not what was asked for
        self.status = "failed" if unhealthy else outcome.status  # type: ignore[assignment]
        self.replicas = [ReplicaResult.of(report) for report in outcome.replicas]
        self.generation = max(self.generation, *(report.generation for report in outcome.replicas), 0)
        self.files.drift = sorted({show(path) for report in outcome.replicas for path in report.drift})
        self._time([report.timings_ms for report in outcome.replicas])
        advice = UNHEALTHY if unhealthy else self._advice(tried=any(r.timings_ms for r in outcome.replicas))
        if self.status == "stored" and hooks:
            advice = f"{advice} {HOOKS_LATER}"
        reasons = [replica.reason for replica in self.replicas if replica.status in _NOT_WELL]
        return self.advise(
            outcome.error.message if outcome.error else next(filter(None, reasons), ""), advice
        )

    def _time(self, steps: list[Mapping[str, int]]) -> None:
        timings = self.timings_ms
        timings.apply = max((step.get("apply", 0) for step in steps), default=0)
        timings.restart = max((step.get("stop", 0) + step.get("start", 0) for step in steps), default=0)
        timings.health = max((step.get("health", 0) for step in steps), default=0)
        timings.hooks = max((step.get("hook", 0) for step in steps), default=0)

    def _advice(self, *, tried: bool) -> str:
        """`tried`: some launcher had the push; else its code is not at fault."""
        if self.status == "failed" and tried:
            return NOT_KNOWN
        if self.status != "rolled_back":
            return NEXT_STEPS[self.status]
        if not all(replica.back for replica in self.replicas if replica.status == "rolled_back"):
            return NOT_BACK
        if any(hook.failed and hook.moment != "after_healthy" for hook in self._hooks):
            return HOOK_FAILED
        if any(replica.pid is not None for replica in self.replicas):
            return NEXT_STEPS["rolled_back"]
        return NOT_RUN if tried else NOT_JUDGED

    @property
    def _hooks(self) -> list[HookResult]:
        return [hook for replica in self.replicas for hook in replica.hooks]

    def advise(self, reason: str = "", advice: str = "") -> PushResult:
        """Set `next_step`: the reason where there is one, `advice` or what the status calls for, and what hooks and crashes add."""
        crash = self.crashed_after[0] if self.crashed_after else None
        if not advice:
            crashed = crash is not None and self.status == "no_changes"
            advice = NO_CHANGES_CRASHED if crashed else NEXT_STEPS[self.status]
        late = [hook for hook in self._hooks if hook.failed and hook.moment == "after_healthy"]
        more = [LATE_HOOK_FAILED.format(run=hook.run, how=hook.how) for hook in late[:1]]
        if crash is not None:
            more.append(crash.told(CRASHED, CRASHED_IMAGE))
        end = "" if not reason or reason.endswith((".", "?", "!")) else "."
        self.next_step = " ".join(filter(None, [reason + end, advice, *more]))
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)
