"""What a replica tells of its past and of a trial, in protocol's words. Pure."""

from __future__ import annotations

from typing import Any

from codesync.protocol import GENERATION_0, Failed, HistoryEntry, ReplicaReport, Result, TreeRef, fit_report
from codesync.sidecar import state as own

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


def make_report(state: own.State, status: str, verdict: dict[str, Any]) -> ReplicaReport:
    """A replica's report, from the launcher's verdict, as the link has checked it, where there is one."""
    report = ReplicaReport(
        id=state.replica,
        status=status,
        generation=state.committed.generation if state.committed else 0,
        exit_code=verdict.get("exit_code"),
        signal=verdict.get("signal"),
        log_tail=tuple(verdict.get("log_tail", ())),
        drift=tuple(verdict.get("drift", ())),
        timings_ms=verdict.get("timings_ms", {}),
        reason=verdict.get("reason", ""),
    )
    return fit_report(report)


def was_undone(report: ReplicaReport | None) -> bool:
    """Whether the launcher has put the old code back already."""
    return report is not None and report.status == "rolled_back"


def failed(push_id: str, phase: str, code: str, text: str) -> Failed:
    """The replica could not do it; the message is fit to be sent, whatever an error's text was."""
    return Failed(push_id=push_id, phase=phase, code=code, message=one_line(text))


def one_line(text: str) -> str:
    """The text with nothing in it that cannot be printed or sent, not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LINE])
