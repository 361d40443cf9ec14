"""Rows as text, a line as soon as one is measured, and as JSON; what they were measured on."""

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bench.references import References
from bench.row import TIMES, Figures, Goal, Row
from codesync import __version__

_WIDTHS = {
    "workload": 38,
    "what": 52,
    "ours": 22,
    "beside": 18,
    "its": 22,
    "ratio": 14,
    "goal": 16,
    "verdict": 12,
}


def machine(references: References) -> dict[str, Any]:
    """What figures depend on; `references` has a version, or `missing`, for each tool.

    `bytecode`: whether Python may keep what it has compiled.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "bytecode": not sys.dont_write_bytecode,
        "codesync": __version__,
        "references": references.versions(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return (names or [platform.machine()])[0]


def headline(found: Mapping[str, Any]) -> str:
    """The machine in one line."""
    tools = ", ".join(f"{name} {version}" for name, version in found["references"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['system']}, Python {found['python']}, "
        f"codesync {found['codesync']}; {tools}"
    )


def warning(found: Mapping[str, Any]) -> str:
    """What makes the figures of this machine other than they should be; "" where nothing does."""
    if found["bytecode"]:
        return ""
    return (
        "Python may write no bytecode (PYTHONDONTWRITEBYTECODE or -B): where none is kept already, our processes\n"
        "compile what they import in each run, and rows about processes are about that too"
    )


def header() -> str:
    """The first two lines of the table."""
    names = " | ".join(name.ljust(width) for name, width in _WIDTHS.items())
    return f"| {names} |\n| {' | '.join('-' * width for width in _WIDTHS.values())} |"


def line(row: Row) -> str:
    """A row of the table. Times are CPU / wall."""
    theirs = figures(row.theirs) if row.theirs else f"{row.reference} missing" if row.reference else ""
    ratio = " / ".join(f"{value:.3g}" for value in row.ratios.values())
    cells = (
        row.workload,
        row.what or row.note,
        figures(row.ours),
        row.reference,
        theirs,
        ratio,
        goal(row.goal),
        row.verdict,
    )
    return (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS.values(), strict=True))
        + " |"
    )


def figures(found: Figures) -> str:
    """With their units; CPU and wall time as one cell."""
    if "cpu" in found:
        return f"{_seconds(found['cpu'])} / {_seconds(found['wall'])}"
    if "peak" in found:
        return f"{found['peak'] / 1e6:.1f} MB"
    return f"{found['bytes']:,.0f} B" if found else ""


def _seconds(count: float) -> str:
    if count >= 1:
        return f"{count:.2f} s"
    return f"{count * 1000:.0f} ms" if count >= 0.1 else f"{count * 1000:.3g} ms"


def goal(wanted: Goal | None) -> str:
    """The goal as a cell."""
    if wanted is None:
        return ""
    if not wanted.absolute:
        return f"≤ {wanted.limit:g} x" + (" CPU" if wanted.of == ("cpu",) else "")
    if wanted.of == TIMES:
        return f"≤ {_seconds(wanted.limit)}"
    return f"≤ {figures({wanted.of[0]: wanted.limit})}"


def summary(rows: Iterable[Row]) -> str:
    """How many are met, missed and so on."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def to_json(found: Mapping[str, Any], rows: Iterable[Row]) -> str:
    """The machine and all rows."""
    return json.dumps({"machine": dict(found), "rows": [row.to_json() for row in rows]}, indent=1) + "\n"
