"""What a look at the deployment answers: plain data, the fields of the MCP tool's result, and what is advised next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codesync.client.results import CrashedAfter, not_well
from codesync.protocol import GENERATION_0, Busy, DeploymentState, HistoryEntry, ReplicaState

STATUS_STEPS: dict[str, str] = {
    "no_replica": "No sidecar is connected: start it beside the application, or check app_id and deployment_id.",
    "busy": "Push {push_id} by {source} is under way.",
    "crashed": "After push {push_id} the application crashed {after_s:.1f} s after its start; read log_tail in crashed_after, mend the code and push again, or roll back.",
    "crashed_image": "The image's own code crashed {after_s:.1f} s after its start; read log_tail in crashed_after, mend the code and push.",
    "not_well": "The application is not healthy ({what}); where that lasts, read app_logs, mend the code and push again, or roll back.",
    "no_launcher": "Push changes; where no launcher is connected they are stored until the application's container starts.",
    "ready": "Push changes.",
}


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
    """One replica as it is now; `app` is the launcher's word on the application (state, pid, exit_code, …).

    `reload` is how the launcher brings in a push: restart, signal:HUP, none or blue-green.
    """

    id: str
    tree_id: str
    generation: int
    launcher: str
    health: bool
    app: dict[str, Any]
    trial: str
    notes: list[str]
    history: list[PastPush]
    reload: str = ""
    crashed_after: CrashedAfter | None = None

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
            reload=state.reload,
            crashed_after=CrashedAfter.of(state.id, state.crash) if state.crash else None,
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
            next_step=_status_advice(replicas, busy, not_well(deployment)),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def _status_advice(replicas: list[ReplicaStatus], busy: Busy | None, ill: str) -> str:
    if not replicas:
        return STATUS_STEPS["no_replica"]
    if busy:
        return STATUS_STEPS["busy"].format(push_id=busy.push_id, source=busy.source or "somebody")
    crash = next((replica.crashed_after for replica in replicas if replica.crashed_after), None)
    if crash is not None:
        return crash.told(STATUS_STEPS["crashed"], STATUS_STEPS["crashed_image"])
    if ill:
        return STATUS_STEPS["not_well"].format(what=ill)
    if any(replica.launcher == "absent" for replica in replicas):
        return STATUS_STEPS["no_launcher"]
    return STATUS_STEPS["ready"]
