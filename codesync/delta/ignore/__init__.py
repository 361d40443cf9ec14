"""Which paths of a tree count; the rules are git's and, over them, those of .codesyncignore."""

from typing import TYPE_CHECKING, Any

from codesync.delta.ignore.verdict import Verdict

if TYPE_CHECKING:
    from codesync.delta.ignore.rules import Level, Rules

__all__ = ["Level", "Rules", "Verdict"]


def __getattr__(name: str) -> Any:
    """A tree that is scanned without rules needs none of them."""
    if name not in {"Level", "Rules"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from codesync.delta.ignore import rules

    globals().update(Level=rules.Level, Rules=rules.Rules)
    return globals()[name]
