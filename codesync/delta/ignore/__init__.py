"""Which paths of a tree count; the rules are git's and, over them, those of .codesyncignore."""

from codesync.delta.ignore.rules import Level, Rules, Verdict

__all__ = ["Level", "Rules", "Verdict"]
