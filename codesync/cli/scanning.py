"""What the commands on local trees share: the rules of a tree, what of it is left out, its manifest as a file."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from codesync.cli.output import named, say, shown

if TYPE_CHECKING:
    from codesync.delta import Manifest, Rules, Skipped


def rules_of(root: str, *, no_ignore: bool) -> "Rules | None":
    """The rules that say which paths below `root` count; None: all."""
    from codesync.config import config_home
    from codesync.delta import Rules

    return (
        None
        if no_ignore or not os.path.isdir(root)
        else Rules.for_root(root, config_home=config_home() or None)
    )


def scanned(root: str, *, no_ignore: bool) -> "tuple[Manifest, Rules | None]":
    """A tree and its rules; what cannot be carried is named on stderr."""
    from codesync.delta import scan

    rules = rules_of(root, no_ignore=no_ignore)
    manifest = scan(root, rules=rules)
    say_skipped(manifest.skipped)
    return manifest, rules


def say_skipped(skipped: "Iterable[Skipped]") -> None:
    """Name on stderr what cannot be carried."""
    for path, reason in skipped:
        say(f"left out ({reason}): {shown(path)}")


def skipped_record(skipped: "Iterable[Skipped]") -> list[dict[str, Any]]:
    """The same for JSON."""
    return [named(path) | {"reason": reason} for path, reason in skipped]
