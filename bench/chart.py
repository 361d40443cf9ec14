"""The ratios as a chart: a bar a row, grouped, the goal marked, in SVG. It is read on a light page and on a dark one."""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

from bench.references import TOOLS
from bench.row import Row

_WIDTH, _LEFT, _RIGHT, _LINE, _HEADING = 980, 550, 60, 18, 30
_NUMBER = 40  # so wide is a bar's number; it makes way for the goal's mark
_END = 2.1  # where the scale ends; a longer bar is cut there, and its number says how long it is
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.back { fill: #ffffff } .group { font-weight: 600 } .small { fill: #59636e }
.met { fill: #2da44e } .missed { fill: #cf222e } .none { fill: #8c959f }
.one { stroke: #59636e; stroke-dasharray: 3 3 } .goal { stroke: #1f2328; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .back { fill: #0d1117 } .small { fill: #9198a1 }
  .met { fill: #3fb950 } .missed { fill: #f85149 } .none { fill: #6e7681 }
  .one { stroke: #9198a1 } .goal { stroke: #e6edf3 }
}
"""


def draw(rows: Iterable[Row], headline: str) -> str:
    """The chart of those rows that stand beside a tool; `headline` says on which machine."""
    shown = [row for row in rows if row.decisive and row.reference.split()[0] in TOOLS]
    parts, y = [], 2 * _HEADING
    for group, members in groupby(shown, key=lambda row: row.group):
        parts.append(_text(10, y + 20, group, "group"))
        y += _HEADING
        for row in members:
            parts += _bar(row, y)
            y += _LINE
    one = _x(1.0)
    top = [
        _text(10, 20, "Ours as a share of the tool's: shorter is better, a tick is the goal", "group"),
        _text(10, 38, headline, "small"),
        _text(one, 56, "the tool", "small", "middle"),
        f'<line class="one" x1="{one}" x2="{one}" y1="{2 * _HEADING}" y2="{y}"/>',
    ]
    height = y + 12
    size = f'width="{_WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>codesync beside rsync, rdiff, xdelta3 and git</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="back" width="{_WIDTH}" height="{height}"/>',
            *top,
            *parts,
            "</svg>\n",
        ]
    )


def _bar(row: Row, y: int) -> Iterator[str]:
    ratio = row.ratios[row.decisive]
    label = f"{row.workload}: {row.what} ({row.decisive}, {row.reference})"
    kind = row.verdict if row.verdict in {"met", "missed"} else "none"
    yield _text(_LEFT - 8, y + 13, label, "", "end")
    end = max(_LEFT + 1.0, _x(ratio))
    yield f'<rect class="{kind}" x="{_LEFT}" y="{y + 3}" width="{end - _LEFT:.1f}" height="{_LINE - 6}" rx="2"/>'
    number = end
    if row.goal is not None and not row.goal.absolute:
        x = _x(row.goal.limit)
        number = x if end < x < end + _NUMBER else end
        yield f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + _LINE - 1}"/>'
    text = f"{ratio:.2g}" if 0.001 <= ratio < 100 else f"{ratio:.0f}" if ratio >= 100 else "< 0.001"
    yield _text(round(number) + 6, y + 13, text, "small")


def _x(ratio: float) -> float:
    return _LEFT + min(ratio, _END) / _END * (_WIDTH - _LEFT - _RIGHT)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
