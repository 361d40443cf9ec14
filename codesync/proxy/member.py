"""One replica's place in an attempt: what it is to stage, where it stands, how long that may last, its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from codesync.protocol import KEPT_STATUSES, Code, Hook, ReplicaReport, Stage, StageTree, TreeRef
from codesync.proxy.events import Spooled, Stored


class At(StrEnum):
    """Where one replica stands."""

    UNTOLD = "untold"
    STAGING = "staging"
    STAGED = "staged"
    TRYING = "trying"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"  # it said so; it will be told to undo
    KEEPING = "keeping"
    UNDOING = "undoing"
    KEPT = "kept"
    UNDONE = "undone"
    LOST = "lost"  # nobody knows; it undoes by itself


FINAL = frozenset({At.UNTOLD, At.KEPT, At.UNDONE, At.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one replica is to stage: content to be relayed, or (None) the tree `restores` of its own history.

    `hooks` are run with it. Those of a tree of its own history are matched by the replica, to what changes there.
    """

    base: TreeRef
    target: TreeRef
    content: Spooled | Stored | None = None
    restores: str = ""
    hooks: tuple[Hook, ...] = ()

    @property
    def hook_seconds(self) -> float:
        """How long its hooks may take together."""
        return sum(hook.seconds for hook in self.hooks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What all replicas are told alike. `timings_ms`: what it cost the client before it was sent."""

    push_id: str
    source: str
    description: str
    source_tree_id: str
    timings_ms: Mapping[str, int] = field(default_factory=dict)

    def order(self, order: Order) -> Stage | StageTree:
        """The message that gives the order."""
        if order.content is not None:
            return Stage(
                push_id=self.push_id,
                base=order.base,
                target=order.target,
                source=self.source,
                description=self.description,
                source_tree_id=self.source_tree_id,
                hooks=order.hooks,
                timings_ms=self.timings_ms,
            )
        return StageTree(
            push_id=self.push_id,
            tree=order.target,
            restores=order.restores,
            source=self.source,
            description=self.description,
            hooks=order.hooks,
        )


@dataclass(frozen=True, slots=True)
class Cause:
    """Why it is undone; `verdict`: because the application was not healthy, which is no error of ours."""

    code: Code
    message: str
    verdict: bool = False


@dataclass(slots=True)
class Member:
    """One replica of the attempt. `due` bounds the present wait, `wait` names it. A `lost` one cannot be spoken to."""

    id: str
    order: Order
    at: At = At.UNTOLD
    due: float | None = None
    wait: str = ""
    lost: bool = False
    report: ReplicaReport | None = None

    def expect(self, at: At, due: float, wait: str) -> None:
        """Wait for the next word of the replica."""
        self.at, self.due, self.wait = at, due, wait

    def settle(self, at: At, report: ReplicaReport | None = None) -> None:
        """Wait for nothing more."""
        self.at, self.due, self.wait = at, None, ""
        self.report = report or self.report

    def end_lost(self, reason: str) -> None:
        """Give it up."""
        self.settle(At.LOST, failed(self.id, reason, self.report))

    def final_report(self, cause: Cause | None) -> ReplicaReport:
        """What became of the attempt here. A good verdict that was not kept has become `rolled_back`."""
        report = self.report or ReplicaReport(id=self.id, status="rolled_back")
        if self.at is not At.KEPT and report.status in KEPT_STATUSES:
            report = replace(report, status="rolled_back")
        reason = report.reason or (cause.message if cause else "")
        return replace(report, id=self.id, reason=reason[:4096])


def failed(replica_id: str, reason: str, known: ReplicaReport | None = None) -> ReplicaReport:
    """The report of a failure, with the evidence there is."""
    return replace(
        known or ReplicaReport(id=replica_id, status="failed"), status="failed", reason=reason[:4096]
    )


def merged(verdict: ReplicaReport | None, undone: ReplicaReport) -> ReplicaReport:
    """The evidence of the verdict, unless that was a good one, or undoing failed too."""
    if verdict is None or (verdict.status in KEPT_STATUSES and verdict.status != "unhealthy"):
        return undone
    if undone.status == "failed":
        return replace(verdict, status="failed", reason=undone.reason, back=undone.back)
    if verdict.status == "unhealthy":  # it would have been kept all the same
        return replace(verdict, status=undone.status, generation=undone.generation, back=undone.back)
    return verdict
