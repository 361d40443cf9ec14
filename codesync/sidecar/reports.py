"""What a replica tells of its past and of a trial, in protocol's words. Pure."""

from __future__ import annotations

from typing import Any

from codesync.protocol import (
    GENERATION_0,
    Crash,
    Failed,
    HistoryEntry,
    HookReport,
    ReplicaReport,
    Result,
    TreeRef,
    Trial,
    fit_report,
)
from codesync.sidecar import state as own
from codesync.sidecar.pushes import MAX_WORDS

_LINE = 4096  # characters of a sentence that is only shown


def told_commit(commit: own.Commit) -> HistoryEntry:
    """An entry of the history."""
    return HistoryEntry(
        push_id=commit.push_id or GENERATION_0,
        generation=commit.generation,
        tree=TreeRef(commit.tree_id, commit.tracked_id),
        description=commit.description,
        source=commit.source,
        at=commit.at,
        restores=commit.restores,
    )


def told_result(result: own.Result) -> Result:
    """What became of a push."""
    return Result(
        push_id=result.push_id,
        source_tree_id=result.source_tree_id,
        status=result.status,
        tree=TreeRef(result.tree_id, result.tracked_id),
        generation=result.generation,
    )


def told_pushes(state: own.State) -> list[dict[str, Any]]:
    """The pushes that are remembered, kept or not, oldest first, as a client's history shows them."""
    commits = {commit.push_id: commit for commit in state.history}
    return [_told_push(result, commits.get(result.push_id)) for result in state.results]


def _told_push(result: own.Result, commit: own.Commit | None) -> dict[str, Any]:
    """What results of earlier versions do not have, the commit may."""
    known = commit or own.Commit("", 0, "", "")
    return {
        "push_id": result.push_id,
        "generation": result.generation,
        "status": result.status,
        "at": result.at or known.at,
        "source": result.source or known.source[:MAX_WORDS],
        "description": result.description or known.description[:MAX_WORDS],
        "restores": result.restores or known.restores,
        "bytes": result.bytes,
        "timings_ms": dict(result.timings_ms),
        "reason": result.reason,
    }


def present_crash(crash: Crash | None, state: own.State) -> Crash | None:
    """The crash, if it was of the code that is committed now: a newer push makes it forgotten."""
    committed = state.committed
    if crash is None or committed is None:
        return None
    same = {commit.push_id for commit in state.history if commit.generation == committed.generation}
    return crash if crash.push_id in same else None


def present_trial(trial: Trial | None, state: own.State) -> Trial | None:
    """The trial, unless it is committed already: then it is none any more, whoever may still have to be told."""
    committed = state.committed
    return None if trial and committed and trial.push_id == committed.push_id else trial


def verdict_status(verdict: dict[str, Any], *, has_check: bool) -> str:
    """What a trial's verdict, as the link has checked it, makes of the replica."""
    if verdict["verdict"] != "keep":
        return "rolled_back"
    if verdict["failed"]:
        return "unhealthy"
    return "healthy" if has_check else "running"


def make_report(state: own.State, status: str, verdict: dict[str, Any]) -> ReplicaReport:
    """A replica's report, from the launcher's verdict, as the link has checked it, where there is one."""
    report = ReplicaReport(
        id=state.replica,
        status=status,
        generation=state.committed.generation if state.committed else 0,
        pid=verdict.get("pid"),
        healthy_ms=verdict.get("healthy_ms"),
        exit_code=verdict.get("exit_code"),
        signal=verdict.get("signal"),
        log_tail=tuple(verdict.get("log_tail", ())),
        drift=tuple(verdict.get("drift", ())),
        timings_ms=verdict.get("timings_ms", {}),
        hooks=tuple(_told_hook(hook) for hook in verdict.get("hooks", ())),
        back=verdict.get("back", True),
        reason=verdict.get("reason", ""),
    )
    return fit_report(report)


def _told_hook(hook: dict[str, Any]) -> HookReport:
    return HookReport(**hook | {"output": tuple(hook["output"])})


def told_crash(crash: dict[str, Any] | None) -> Crash | None:
    """A crash, as the link has checked it."""
    if crash is None:
        return None
    told = {name: crash[name] for name in ("push_id", "at", "after_ms", "exit_code", "signal", "restarts")}
    return Crash(**told, log_tail=tuple(crash["log_tail"]))


def was_undone(report: ReplicaReport | None) -> bool:
    """Whether the launcher has put the old code back already."""
    return report is not None and report.status == "rolled_back"


def failed(push_id: str, phase: str, code: str, text: str) -> Failed:
    """The replica could not do it; the message is fit to be sent, whatever an error's text was."""
    return Failed(push_id=push_id, phase=phase, code=code, message=one_line(text))


def one_line(text: str) -> str:
    """The text with nothing in it that cannot be printed or sent, not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LINE])
