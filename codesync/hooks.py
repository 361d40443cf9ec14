"""A project's hooks: what `.codesync.json` says of them, checked, and which of them a change calls for.

Pure: nothing is run here, and no disk is read. A pattern means what the same line would mean in a `.gitignore` at the
app root: without a slash at any depth, with one from the root, and of a directory all that is below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesync.delta.ignore.patterns import Pattern, compile_patterns, parse
from codesync.delta.ignore.wildmatch import NeverMatches, basename_regex, path_regex
from codesync.errors import UserError
from codesync.protocol import MAX_COMMAND, MAX_HOOK_SECONDS, MAX_HOOKS, MAX_TEXT, Hook

DEFAULT_SECONDS = 120.0
FIELDS = ("when", "run", "before", "after", "timeout")

_MOMENTS = {
    ("before", "stop"): "before_stop",
    ("before", "start"): "before_start",
    ("after", "healthy"): "after_healthy",
}
_MOMENT_WORDS = '"before": "stop", "before": "start" or "after": "healthy"'


class HookError(UserError):
    """A hook is malformed: one line that names it by its index, and the field."""


def matching(hooks: Sequence[Hook], changed: Iterable[bytes]) -> tuple[Hook, ...]:
    """Return the hooks that these changed paths call for, in their order; one without a pattern is called for always.

    Paths are relative to the app root. One that ends in a slash is a directory, any other counts as a file.
    """
    paths = set(changed)
    if not hooks or not paths:
        return ()
    directories = {path[:-1] for path in paths if path.endswith(b"/")}
    files = {path for path in paths if not path.endswith(b"/")}
    for path in list(paths):
        directories.update(_above(path.removesuffix(b"/"), directories))
    return tuple(hook for hook in hooks if not hook.when or _matches(hook.when, files, directories))


def _above(path: bytes, known: set[bytes]) -> Iterable[bytes]:
    while (cut := path.rfind(b"/")) > 0 and (path := path[:cut]) not in known:
        yield path


def _matches(when: str, files: set[bytes], directories: set[bytes]) -> bool:
    patterns = compile_patterns(when.encode("utf-8", "surrogateescape"))
    return any(patterns.verdict(_name(path), path, True) for path in directories) or any(
        patterns.verdict(_name(path), path, False) for path in files
    )


def _name(path: bytes) -> bytes:
    return path[path.rfind(b"/") + 1 :]


# --- what the project file says -----------------------------------------------------------------------------------


def read_hooks(found: Any) -> tuple[Hook, ...]:
    """Return the hooks that the decoded JSON `found` spells out. Raises HookError."""
    if not isinstance(found, list):
        raise HookError(f"hooks must be a list of objects with {', '.join(FIELDS)}")
    if len(found) > MAX_HOOKS:
        raise HookError(
            f"there are {len(found)} hooks, more than {MAX_HOOKS}; put some of them into one script"
        )
    return tuple(_hook(f"hooks[{index}]", record) for index, record in enumerate(found))


def _hook(place: str, record: Any) -> Hook:
    if not isinstance(record, dict):
        raise HookError(f"{place} must be an object with {', '.join(FIELDS)}, not {_shown(record)}")
    if unknown := [name for name in record if name not in FIELDS]:
        raise HookError(
            f"{place} has the unknown field {_shown(unknown[0])}; it may have {', '.join(FIELDS)}"
        )
    return Hook(
        when=_when(f"{place}.when", record),
        run=_run(f"{place}.run", record),
        moment=_moment(place, record),
        seconds=_seconds(f"{place}.timeout", record.get("timeout", DEFAULT_SECONDS)),
    )


def _moment(place: str, record: Mapping[str, Any]) -> str:
    said = [(name, record[name]) for name in ("before", "after") if name in record]
    if len(said) != 1:
        raise HookError(f"{place} must say exactly one of {_MOMENT_WORDS}")
    name, value = said[0]
    moment = _MOMENTS.get((name, value)) if isinstance(value, str) else None
    if moment is None:
        raise HookError(f"{place}.{name} cannot be {_shown(value)}; write {_MOMENT_WORDS}")
    return moment


def _seconds(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_HOOK_SECONDS:
        raise HookError(
            f"{place} must be a number of seconds from 1 to {MAX_HOOK_SECONDS}, not {_shown(value)}"
        )
    return float(value)


def _run(place: str, record: Mapping[str, Any]) -> str:
    run = _text(place, record, "a command for the shell")
    if not run.strip() or len(run) > MAX_COMMAND or "\0" in run:
        raise HookError(
            f"{place} must be a command of 1 to {MAX_COMMAND} characters; put a long one into a script"
        )
    return run


def _when(place: str, record: Mapping[str, Any]) -> str:
    """The pattern, as git would read it; one that git would skip, or that no path can match, is a mistake."""
    when = _text(place, record, 'a pattern as in .gitignore, "*" for every change')
    if len(when) > MAX_TEXT or any(c in when for c in "\n\r\0"):
        raise HookError(f"{place} must be one line")
    if when.startswith("!"):
        raise HookError(f"{place} {_shown(when)} is a negation; say what calls for the hook")
    patterns = parse(when.encode())
    if not patterns or not patterns[0].glob:
        raise HookError(f'{place} {_shown(when)} is no pattern to git; write "*" for every change')
    if not _can_match(patterns[0]):
        raise HookError(
            f"{place} {_shown(when)} matches no path; write it relative to the app root, as in .gitignore"
        )
    return when


def _can_match(pattern: Pattern) -> bool:
    if not {b"", b".", b".."}.isdisjoint(pattern.glob.split(b"/")):
        return False
    try:
        (path_regex if pattern.anchored else basename_regex)(pattern.glob, False)
    except NeverMatches:
        return False
    return True


def _text(place: str, record: Mapping[str, Any], what: str) -> str:
    value = record.get(place.rpartition(".")[2])
    if not isinstance(value, str):
        raise HookError(f"{place} must be {what}" + (f", not {_shown(value)}" if value is not None else ""))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise HookError(f"{place} holds half a character ({error.reason}); write it anew") from error
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]
