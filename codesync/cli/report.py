"""Results as lines for people, from the same records that --json prints."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codesync.cli.output import printable
from codesync.wording import size

_LABEL = 12  # columns


def push_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for a push or a rollback: `PushResult.to_dict()`."""
    # of a rollback that was not kept, or looked at too late, no tree is known
    known = bool(result["bytes"]["tree"] or result["timings_ms"]["scan"])
    lines = [
        _row(
            result["status"],
            f"{result['app_id']}/{result['deployment_id']}",
            f"generation {result['generation']}",
        ),
        _row("push", result["push_id"], f"goes back to {result['restores']}" if result["restores"] else ""),
        _row("files", _counts(result["files"], known=known)),
        _row(
            "bytes",
            f"{size(result['bytes']['sent'])} sent",
            f"tree {size(result['bytes']['tree'])}" if known else "",
        ),
        _row("time", _spent(result["timings_ms"])),
        _row("git", result["diff"]),
    ]
    for name in ("skipped", "drift"):
        lines += [_row(name, path) for path in result["files"][name]]
    for replica in result["replicas"]:
        lines += _replica_result(replica)
    for crash in result["crashed_after"]:
        lines += _crash(crash, "crashed")
    return [*filter(None, lines), result["next_step"]]


def _counts(files: Mapping[str, Any], *, known: bool) -> str:
    """`known`: no numbers mean that there was no change."""
    counts = [f"{files[what]} {what}" for what in ("added", "modified", "deleted", "renamed") if files[what]]
    return ", ".join(counts) or ("none changed" if known else "")


def _replica_result(replica: Mapping[str, Any]) -> Iterator[str]:
    pid = f"pid {replica['pid']}" if replica["pid"] is not None else ""
    within = f"healthy after {replica['healthy_ms']} ms" if replica["healthy_ms"] is not None else ""
    ended, generation = _ended(replica["exit_code"]), f"generation {replica['generation']}"
    back = "" if replica["back"] else "the code before it is not well either"
    yield _row(
        "replica", replica["id"], replica["status"], generation, pid, within, ended, replica["reason"], back
    )
    for hook in replica["hooks"]:
        yield from _hook(hook)
    if replica["status"] not in ("healthy", "running", "stored", "no_changes"):
        yield from _quoted(replica["log_tail"])


def _hook(hook: Mapping[str, Any]) -> Iterator[str]:
    how = hook["reason"] or _ended(hook["exit_code"])
    yield _row("  hook", hook["moment"].replace("_", " "), hook["run"], f"{hook['ms']} ms", how)
    if hook["exit_code"] != 0:
        yield from _quoted(hook["output"])


def _crash(crash: Mapping[str, Any], label: str) -> Iterator[str]:
    after = f"{crash['after_s']:.1f} s after its start"
    again = f"started again {crash['restarts']} times" if crash["restarts"] else ""
    push = f"after push {crash['push_id']}" if crash["push_id"] else "the image's own code"
    yield _row(label, crash["replica"], after, _ended(crash["exit_code"]), push, again)
    yield from _quoted(crash["log_tail"])


def _ended(exit_code: int | None) -> str:
    if exit_code is None:
        return ""
    return f"exit status {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"


def _quoted(lines: Iterable[str]) -> Iterator[str]:
    return (f"  | {line}" for line in lines)


_COLUMNS = ("generation", "when", "status", "push", "who", "bytes", "time", "what")


def history_lines(history: Mapping[str, Any]) -> list[str]:
    """Return the lines for a deployment's past: `HistoryResult.to_dict()`, a table under its heading."""
    rows = [_COLUMNS, *(_past(push) for push in history["pushes"])] if history["pushes"] else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [*(line.rstrip() for line in table), history["next_step"]]


def _past(push: Mapping[str, Any]) -> tuple[str, ...]:
    what = [
        f"goes back to {push['restores']}" if push["restores"] else "",
        push["description"],
        push["reason"],
    ]
    return (
        str(push["generation"]) if push["replicas"] else "",
        _at(push["at"]),
        push["status"],
        push["push_id"],
        printable(push["source"]),  # here, because the columns count what will be shown
        size(push["bytes"]) if push["bytes"] else "",
        _spent(push["timings_ms"]),
        printable("; ".join(filter(None, what))),
    )


def _spent(timings: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {spent} ms" for name, spent in timings.items() if spent)


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
    app |= {name: _at(app[name]) for name in ("since", "next_start") if name in app}
    tree = f"tree {replica['tree_id'][:12]}" if replica["tree_id"] else ""
    yield _row(
        "replica",
        replica["id"],
        f"generation {replica['generation']}",
        tree,
        f"launcher {replica['launcher']}",
        f"reload {replica['reload']}" if replica["reload"] else "",
    )
    yield _row("  app", *(f"{name} {value}" for name, value in app.items()))
    if replica["crashed_after"]:
        yield from _crash(replica["crashed_after"], "  crashed")
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
