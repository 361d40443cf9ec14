"""Counters of the proxy in Prometheus' text format. No label comes from a peer's words."""

from collections import defaultdict

from codesync.proxy.events import Note

_HELP = {
    "codesync_connections": ("gauge", "Open connections by side."),
    "codesync_deployments": ("gauge", "Deployments with a replica connected."),
    "codesync_replicas": ("gauge", "Replicas connected."),
    "codesync_connections_total": ("counter", "Connections accepted by side."),
    "codesync_http_total": ("counter", "HTTP answers by status, connections accepted as 101."),
    "codesync_turns_total": ("counter", "Pushes, rollbacks and replays ended, by status."),
    "codesync_turn_seconds_total": ("counter", "Time spent in them."),
    "codesync_refused_total": ("counter", "Pushes and rollbacks refused, by code."),
    "codesync_faults_total": ("counter", "Connections closed for a fault of the peer, by code."),
    "codesync_received_bytes_total": ("counter", "Batch bytes received from clients."),
    "codesync_relayed_bytes_total": ("counter", "Batch bytes sent to replicas."),
}

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Count by name and labels; `text` shows all."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, _Labels], float] = defaultdict(float)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter, or to a gauge."""
        self._values[name, tuple(sorted(labels.items()))] += amount

    def note(self, note: Note) -> None:
        """Count what the coordinator reports."""
        if note.kind == "fault":
            self.add("codesync_faults_total", code=str(note.facts["code"]))
        elif note.kind == "refused":
            self.add("codesync_refused_total", code=str(note.facts["code"]))
        elif "status" in note.facts:
            self.add("codesync_turns_total", kind=note.kind, status=str(note.facts["status"]))
            seconds = note.facts.get("seconds", 0.0)
            assert isinstance(seconds, float)
            self.add("codesync_turn_seconds_total", seconds, kind=note.kind)

    def text(self, **gauges: int) -> str:
        """The page. `gauges` are shown besides."""
        values: dict[tuple[str, _Labels], float] = dict(self._values)
        values.update({(f"codesync_{name}", ()): value for name, value in gauges.items()})
        lines: list[str] = []
        for name, (kind, words) in _HELP.items():
            lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
            lines += [
                f"{name}{_labels(labels)} {value:g}"
                for (key, labels), value in sorted(values.items())
                if key == name
            ]
        return "\n".join(lines) + "\n"


def _labels(labels: _Labels) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else ""
