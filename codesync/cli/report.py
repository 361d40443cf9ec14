"""Results as lines for people, from the same records that --json prints."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from codesync.wording import size

_LABEL = 12  # columns


def push_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for a push or a rollback: `PushResult.to_dict()`."""
    lines = [
        _row(
            result["status"],
            f"{result['app_id']}/{result['deployment_id']}",
            f"generation {result['generation']}",
        ),
        _row("push", result["push_id"], f"goes back to {result['restores']}" if result["restores"] else ""),
        _row("files", _counts(result["files"])),
        _row("bytes", f"{size(result['bytes']['sent'])} sent", f"tree {size(result['bytes']['tree'])}"),
        _row(
            "time", ", ".join(f"{name} {spent} ms" for name, spent in result["timings_ms"].items() if spent)
        ),
        _row("git", result["diff"]),
    ]
    for name in ("skipped", "drift"):
        lines += [_row(name, path) for path in result["files"][name]]
    for replica in result["replicas"]:
        lines += _replica_result(replica)
    return [*filter(None, lines), result["next_step"]]


def _counts(files: Mapping[str, Any]) -> str:
    counts = [f"{files[what]} {what}" for what in ("added", "modified", "deleted", "renamed") if files[what]]
    return ", ".join(counts) or "none changed"


def _replica_result(replica: Mapping[str, Any]) -> Iterator[str]:
    ended = f"exit status {replica['exit_code']}" if replica["exit_code"] is not None else ""
    generation = f"generation {replica['generation']}"
    yield _row("replica", replica["id"], replica["status"], generation, ended, replica["reason"])
    if replica["status"] not in ("healthy", "running", "stored", "no_changes"):
        yield from (f"  | {line}" for line in replica["log_tail"])


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """Return the lines for a deployment: `StatusResult.to_dict()`."""
    name = f"{status['app_id']}/{status['deployment_id']}"
    lines = [
        _row("deployment", name, f"at {status['proxy_url']}", "ready" if status["ready"] else "not ready")
    ]
    if last := status["last_push"]:
        lines.append(
            _row("last push", last["push_id"], last["description"], f"by {last['source']}", _at(last["at"]))
        )
    if busy := status["busy"]:
        lines.append(_row("busy", busy["push_id"], f"by {busy['source']}", f"since {_at(busy['since'])}"))
    for replica in status["replicas"]:
        lines += _replica_status(replica)
    return [*filter(None, lines), status["next_step"]]


def _replica_status(replica: Mapping[str, Any]) -> Iterator[str]:
    app = {name: value for name, value in replica["app"].items() if value not in (None, "")}
    if "since" in app:
        app["since"] = _at(app["since"])
    tree = f"tree {replica['tree_id'][:12]}" if replica["tree_id"] else ""
    yield _row(
        "replica",
        replica["id"],
        f"generation {replica['generation']}",
        tree,
        f"launcher {replica['launcher']}",
    )
    yield _row("  app", *(f"{name} {value}" for name, value in app.items()))
    yield _row("  trial", replica["trial"])
    yield from (_row("  note", note) for note in replica["notes"])
    for past in reversed(replica["history"]):
        what = f"goes back to {past['restores']}" if past["restores"] else past["description"]
        yield _row(f"  {past['generation']}", past["push_id"], what, past["source"], _at(past["at"]))


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _row(label: str, *cells: str) -> str:
    """One line; "" where there is nothing to say."""
    text = "  ".join(cell for cell in cells if cell)
    return f"{label:<{_LABEL}}{text}" if text else ""
