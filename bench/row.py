"""One row of the bench: what was measured, beside what, and whether the goal is met. This file measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Figures = Mapping[str, float]  # "cpu" and "wall" in seconds, "bytes" sent, "peak" in bytes of memory
TIMES = ("cpu", "wall")


class Unavailable(Exception):
    """A row that cannot be measured here, and why in one line."""


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `limit`, for each of the figures `of`: times the reference's, or `absolute`, by itself."""

    limit: float
    of: tuple[str, ...] = TIMES
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`ours` and `theirs` have the same keys; `theirs` is empty where the reference is missing, or there is none.

    `state` stands where no figure does: `failed` or `not measured`, and `note` says why.
    """

    group: str
    workload: str
    what: str
    ours: Figures = field(default_factory=dict)
    reference: str = ""
    theirs: Figures = field(default_factory=dict)
    goal: Goal | None = None
    note: str = ""
    state: str = ""
    judged: bool = True

    @property
    def ratios(self) -> dict[str, float]:
        """Ours over theirs, for each figure that both have."""
        return {name: self.ours[name] / self.theirs[name] for name in self.ours if self.theirs.get(name)}

    @property
    def verdict(self) -> str:
        """One of: met, missed, missing (the reference), no goal, not judged, failed, not measured."""
        if self.state:
            return self.state
        if self.reference and not self.theirs:
            return "missing"
        if self.goal is None or not self.judged:
            return "not judged" if self.goal else "no goal"
        reached = self.ours if self.goal.absolute else self.ratios
        return "met" if all(reached[name] <= self.goal.limit for name in self.goal.of) else "missed"

    @property
    def decisive(self) -> str:
        """The figure that a chart shows: of those the goal is about the worst; "" where nothing can be compared."""
        wanted = self.goal.of if self.goal else TIMES[:1]
        names = [name for name in self.ratios if name in wanted] or list(self.ratios)
        return max(names, key=self.ratios.__getitem__, default="")

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, strings and numbers."""
        goal = self.goal and {
            "limit": self.goal.limit,
            "of": list(self.goal.of),
            "absolute": self.goal.absolute,
        }
        return {
            "group": self.group,
            "workload": self.workload,
            "what": self.what,
            "ours": dict(self.ours),
            "reference": self.reference,
            "theirs": dict(self.theirs),
            "ratios": self.ratios,
            "goal": goal,
            "verdict": self.verdict,
            "note": self.note,
        }
