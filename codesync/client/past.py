"""What a deployment's replicas remember of their pushes, as one list: each push once, whoever has kept it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from codesync.client.records import Record, malformed, read_array
from codesync.client.results import ClientError
from codesync.client.session import Session, asking, no_replica
from codesync.client.zstd import MALFORMED
from codesync.config import Settings
from codesync.protocol import KEPT_STATUSES, DeploymentState, is_id

MAX_ENTRIES = 1000  # of one replica's answer
AT_ONCE = 8  # questions that are open at a time
STATUSES = (*KEPT_STATUSES, "partial", "rolled_back", "failed")  # from best to worst

HISTORY_STEPS: dict[str, str] = {
    "some": "rollback with one of these push_id goes back to the tree that it left, as long as some replica keeps it.",
    "none": "Nothing has been pushed here yet: push changes.",
    "missing": "Replica {replica} could not be asked ({reason}); what only it remembers is missing here.",
}


@dataclass
class HistoryPush:
    """One push or rollback. `replicas`: how many have kept it; `status` is the worst of theirs, `partial` where they differ.

    `at` is in Unix seconds; `bytes` what was sent for it; `restores` the push that a rollback went back to.
    """

    push_id: str
    generation: int
    status: str
    at: float
    source: str = ""
    description: str = ""
    restores: str = ""
    bytes: int = 0
    timings_ms: dict[str, int] = field(default_factory=dict)
    replicas: int = 0
    reason: str = ""


@dataclass
class HistoryResult:
    """A deployment's pushes, newest first."""

    app_id: str
    deployment_id: str
    pushes: list[HistoryPush]
    next_step: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


async def history(settings: Settings) -> HistoryResult:
    """Ask every replica for what it remembers: the last pushes, kept or rolled back, newest first.

    Raises:
        UserError: no replica, or none that answers: one line that says what to do.
    """
    async with asking(settings) as session:
        deployment = session.deployment
        found, missing = await _ask_all(session, deployment)
    if missing and not found:
        raise next(iter(missing.values()))
    pushes = merged(found.values())
    steps = [HISTORY_STEPS["some" if pushes else "none"]]
    steps += [HISTORY_STEPS["missing"].format(replica=name, reason=error) for name, error in missing.items()]
    return HistoryResult(deployment.app_id, deployment.deployment_id, pushes, " ".join(steps))


async def _ask_all(
    session: Session, deployment: DeploymentState
) -> tuple[dict[str, list[HistoryPush]], dict[str, ClientError]]:
    """The answers, and why there is none, by replica."""
    if not deployment.replicas:
        raise no_replica(deployment)
    found: dict[str, list[HistoryPush]] = {}
    missing: dict[str, ClientError] = {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(replica: str) -> None:
        async with turns:
            try:
                found[replica] = read_history(await session.history(replica))
            except ClientError as error:
                missing[replica] = error

    await asyncio.gather(*(ask(state.id) for state in deployment.replicas))
    return found, missing


def read_history(data: bytes) -> list[HistoryPush]:
    """Read one replica's answer, oldest first as it is. Raises ClientError."""
    what = "a replica's history"
    records = read_array(data, MAX_ENTRIES, what)
    try:
        return [_push(record) for record in records]
    except MALFORMED as error:
        raise malformed(what, error) from error


def _push(record: Record) -> HistoryPush:
    status = record.one_of("status", STATUSES)
    push_id, restores = record.text("push_id"), record.text("restores")
    if not is_id(push_id) or (restores and not is_id(restores)):
        raise ValueError("a push without an id")
    return HistoryPush(
        push_id=push_id,
        generation=record.count("generation"),
        status=status,
        at=record.time("at"),
        source=record.text("source"),
        description=record.text("description"),
        restores=restores,
        bytes=record.count("bytes"),
        timings_ms=record.counts("timings_ms"),
        replicas=int(status in KEPT_STATUSES),
        reason=record.text("reason"),
    )


def merged(histories: Iterable[list[HistoryPush]]) -> list[HistoryPush]:
    """Each push once, newest first."""
    by_id: dict[str, HistoryPush] = {}
    for pushes in histories:
        for push in pushes:
            other = by_id.get(push.push_id)
            by_id[push.push_id] = push if other is None else _both(other, push)
    return sorted(by_id.values(), key=lambda push: (push.at, push.generation), reverse=True)


def _both(one: HistoryPush, other: HistoryPush) -> HistoryPush:
    """The same push on two replicas. The earlier time is when it was pushed: a late replica had it replayed."""
    timings = {
        name: max(one.timings_ms.get(name, 0), other.timings_ms.get(name, 0))
        for name in (*one.timings_ms, *other.timings_ms)
    }
    kept = {push.status in (*KEPT_STATUSES, "partial") for push in (one, other)}
    return HistoryPush(
        push_id=one.push_id,
        generation=max(one.generation, other.generation),
        status="partial" if len(kept) == 2 else max(one.status, other.status, key=STATUSES.index),
        at=min(filter(None, (one.at, other.at)), default=0.0),
        source=one.source or other.source,
        description=one.description or other.description,
        restores=one.restores or other.restores,
        bytes=max(one.bytes, other.bytes),
        timings_ms=timings,
        replicas=one.replicas + other.replicas,
        reason=one.reason or other.reason,
    )
