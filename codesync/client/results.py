"""What a push, a rollback or a look at the deployment answers: plain data, the fields of the MCP tools' results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from codesync.delta import Kind, Manifest
from codesync.errors import UserError
from codesync.plan import Plan, show
from codesync.protocol import (
    GENERATION_0,
    Busy,
    DeploymentState,
    HistoryEntry,
    Outcome,
    ReplicaReport,
    ReplicaState,
)

PushStatus = Literal[
    "no_changes", "planned", "healthy", "running", "stored", "rolled_back", "partial", "failed"
]
DONE = frozenset({"no_changes", "planned", "healthy", "running", "stored"})

_NEXT_STEPS: dict[str, str] = {
    "no_changes": "Nothing to do: the deployment already has this tree.",
    "planned": "Nothing was sent; push without dry_run to apply this.",
    "healthy": "The application runs the pushed code and passes its health check.",
    "running": "The application runs the pushed code and has stayed up; start the launcher with --health to know that it answers.",
    "stored": "The code is stored; no launcher is connected, so the application runs it from its container's next start.",
    "rolled_back": "The application is back on its last good code; read log_tail, mend the code and push again.",
    "partial": "Replicas differ: push again to bring all of them to one tree, and look at those that are not healthy.",
    "failed": "Nothing was applied; mend what the replica's reason says and push again.",
}
_NOT_JUDGED = "Nothing of this push was kept, and its code was not at fault; push again."


class ClientError(UserError):
    """A push was refused or did not reach its end. `code` is one of protocol's, or "unreachable"."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Progress(NamedTuple):
    """How far a push is. `replica` is "" for what is done on this machine; `total` 0 means unknown."""

    stage: str  # scan, delta, transfer, apply, stop, start, health, commit
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
        """Count the largest of the plans: replicas on one tree have the same one. Directories do not count."""
        plan = max(plans, key=lambda plan: sum(map(len, plan.difference)))
        found = plan.difference
        gone = _files(plan.base, (*found.deleted, *found.modified))
        come = _files(plan.target, (*found.added, *found.modified))
        modified = _files(plan.target, found.attributes)
        return cls(len(come - gone), len(come & gone | modified), len(gone - come), len(found.renamed))


def _files(tree: Manifest, paths: Iterable[bytes]) -> set[bytes]:
    return {path for path in paths if tree[path].kind != Kind.DIRECTORY}


@dataclass
class ByteCounts:
    """`tree`: the source's content. `sent`: batches on the wire, before any copying to several replicas."""

    tree: int = 0
    sent: int = 0


@dataclass
class Timings:
    """Milliseconds. On the replicas' side the slowest one counts."""

    scan: int = 0
    delta: int = 0
    transfer: int = 0
    apply: int = 0
    restart: int = 0
    health: int = 0


@dataclass
class ReplicaResult:
    """What the push did on one replica. `exit_code` is negative for a signal, None while the application runs."""

    id: str
    status: str
    generation: int
    exit_code: int | None = None
    log_tail: list[str] = field(default_factory=list)
    reason: str = ""

    @classmethod
    def of(cls, report: ReplicaReport) -> ReplicaResult:
        """Take over a replica's report."""
        exit_code = -report.signal if report.signal else report.exit_code
        return cls(
            report.id, report.status, report.generation, exit_code, list(report.log_tail), report.reason
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
    diff: str = ""  # git's summary of the uncommitted changes, in a work tree
    restores: str = ""  # the push a rollback went back to
    next_step: str = ""

    @property
    def ok(self) -> bool:
        """Whether the deployment is, or in a dry run would be, as asked."""
        return self.status in DONE

    def finish(self, outcome: Outcome) -> PushResult:
        """Fill in what the replicas say."""
        self.status = outcome.status  # type: ignore[assignment]
        self.replicas = [ReplicaResult.of(report) for report in outcome.replicas]
        self.generation = max(self.generation, *(report.generation for report in outcome.replicas), 0)
        self.files.drift = sorted({show(path) for report in outcome.replicas for path in report.drift})
        steps = [report.timings_ms for report in outcome.replicas]
        self.timings_ms.apply = max((step.get("apply", 0) for step in steps), default=0)
        self.timings_ms.restart = max(
            (step.get("stop", 0) + step.get("start", 0) for step in steps), default=0
        )
        self.timings_ms.health = max((step.get("health", 0) for step in steps), default=0)
        reasons = [replica.reason for replica in self.replicas if replica.status in ("rolled_back", "failed")]
        reason = outcome.error.message if outcome.error else next(filter(None, reasons), "")
        return self.advise(reason, judged=any(steps))

    def advise(self, reason: str = "", *, judged: bool = True) -> PushResult:
        """Set `next_step` by the status, after the reason where there is one.

        `judged`: some replica's application ran the code, or tried to; else the code is not at fault.
        """
        advice = _NEXT_STEPS[self.status] if judged or self.status != "rolled_back" else _NOT_JUDGED
        end = "" if reason.endswith((".", "?", "!")) else "."
        self.next_step = f"{reason}{end} {advice}" if reason else advice
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass
class PastPush:
    """One entry of a replica's history; generation 0 is what the image brought."""

    push_id: str
    generation: int
    description: str
    source: str
    at: float
    restores: str

    @classmethod
    def of(cls, entry: HistoryEntry) -> PastPush:
        """Take over an entry."""
        push_id = "" if entry.push_id == GENERATION_0 else entry.push_id
        return cls(push_id, entry.generation, entry.description, entry.source, entry.at, entry.restores)


@dataclass
class ReplicaStatus:
    """One replica as it is now; `app` is the launcher's word on the application (state, pid, exit_code, …)."""

    id: str
    tree_id: str
    generation: int
    launcher: str
    health: bool
    app: dict[str, Any]
    trial: str
    notes: list[str]
    history: list[PastPush]

    @classmethod
    def of(cls, state: ReplicaState) -> ReplicaStatus:
        """Take over what a sidecar tells."""
        return cls(
            id=state.id,
            tree_id=state.tree.tree_id,
            generation=state.generation,
            launcher=state.launcher,
            health=state.health,
            app=dict(state.app),
            trial=f"{state.trial.push_id} ({state.trial.phase})" if state.trial else "",
            notes=list(state.notes),
            history=[PastPush.of(entry) for entry in state.history],
        )


@dataclass
class StatusResult:
    """A deployment as the proxy sees it now."""

    app_id: str
    deployment_id: str
    proxy_url: str
    ready: bool
    replicas: list[ReplicaStatus]
    last_push: dict[str, Any] | None
    busy: dict[str, Any] | None
    next_step: str

    @classmethod
    def of(cls, deployment: DeploymentState, proxy_url: str) -> StatusResult:
        """Take over what the proxy tells, with what to do about it."""
        replicas = [ReplicaStatus.of(state) for state in deployment.replicas]
        last, busy = deployment.last_push, deployment.busy
        return cls(
            app_id=deployment.app_id,
            deployment_id=deployment.deployment_id,
            proxy_url=proxy_url,
            ready=bool(replicas) and all(replica.launcher != "starting" for replica in replicas),
            replicas=replicas,
            last_push={
                "push_id": last.push_id,
                "source": last.source,
                "description": last.description,
                "at": last.at,
            }
            if last
            else None,
            busy={"push_id": busy.push_id, "source": busy.source, "since": busy.since} if busy else None,
            next_step=_status_advice(replicas, busy),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def _status_advice(replicas: list[ReplicaStatus], busy: Busy | None) -> str:
    if not replicas:
        return "No sidecar is connected: start it beside the application, or check app_id and deployment_id."
    if busy:
        return f"Push {busy.push_id} by {busy.source} is under way."
    if any(replica.launcher == "absent" for replica in replicas):
        return "Push changes; where no launcher is connected they are stored until the application's container starts."
    return "Push changes."
