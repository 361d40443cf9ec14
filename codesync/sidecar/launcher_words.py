"""What the launcher says, made fit for use: fields of the right type and size, whatever was in the line. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

from codesync.protocol import HOOK_MOMENTS, MAX_COMMAND, MAX_HOOKS, MAX_TEXT, is_id

_NAME = 512
_NOTE = 4096
_NOTES = 32
_NUMBER = 1 << 53
_SCALARS = (str, int, float, bool, type(None))
_MOST = 4096  # entries of a list or an object


def checked(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the fields we know; `type`, `push_id` and what its type always has are there."""
    kind = _name(message.get("type"))
    wanted = _ALWAYS | _ALSO.get(kind, {})
    return {name: check(message.get(name)) for name, check in wanted.items()}


def _text(value: Any, size: int = MAX_TEXT) -> str:
    return value[:size].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _name(value: Any) -> str:
    return _text(value, _NAME)


def _name_or_none(value: Any) -> str | None:
    return _name(value) or None


def _number(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and abs(value) <= _NUMBER else None


def _count(value: Any) -> int:
    number = _number(value)
    return number if number is not None and number > 0 else 0


def _count_or_none(value: Any) -> int | None:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _seconds(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) <= _NUMBER and math.isfinite(value) else 0.0


def _push_id(value: Any) -> str:
    text = _name(value)
    return text if is_id(text) else ""


def _notes(value: Any) -> list[str]:
    return [_text(item, _NOTE) for item in _items(value) if isinstance(item, str)][:_NOTES]


def _crash(value: Any) -> dict[str, Any] | None:
    return (
        {name: check(value.get(name)) for name, check in _CRASH.items()} if isinstance(value, dict) else None
    )


def _hooks(value: Any) -> list[dict[str, Any]]:
    """Those that make a report: with a command, and one of the moments."""
    rows = [row for row in _items(value)[:MAX_HOOKS] if isinstance(row, dict)]
    hooks = [{name: check(row.get(name)) for name, check in _HOOK.items()} for row in rows]
    return [hook for hook in hooks if hook["run"] and hook["moment"] in HOOK_MOMENTS]


def _lines(value: Any) -> list[tuple[float, str, str, str]]:
    """Time, stream, push_id and text of each."""
    rows = value if isinstance(value, list) else []  # a line of the socket has a bound of its own
    return [
        (_seconds(row[0]), _text(row[1], 16), _push_id(row[2]), _text(row[3]))
        for row in rows
        if isinstance(row, list) and len(row) == 4
    ]


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in _items(value) if isinstance(item, str)]


def _paths(value: Any) -> list[bytes]:
    paths = []
    for item in _items(value):
        try:
            paths.append(base64.b64decode(item, validate=True))
        except (TypeError, ValueError, binascii.Error):
            continue
    return [path for path in paths if 0 < len(path) <= MAX_TEXT]


def _items(value: Any) -> list[Any]:
    return value[-_MOST:] if isinstance(value, list) else []


def _scalars(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in _pairs(value):
        if isinstance(item, str):
            found[name] = _name(item)
        elif isinstance(item, _SCALARS) and not (type(item) is int and _number(item) is None):
            found[name] = item
    return found


def _timings(value: Any) -> dict[str, int]:
    return {name: number for name, item in _pairs(value) if (number := _number(item)) is not None}


def _pairs(value: Any) -> list[tuple[str, Any]]:
    pairs = list(value.items())[:64] if isinstance(value, dict) else []
    return [(_name(name), item) for name, item in pairs]


_Check = Callable[[Any], Any]
_CRASH: dict[str, _Check] = {
    "push_id": _push_id,
    "at": _seconds,
    "after_ms": _count,
    "exit_code": _number,
    "signal": _number,
    "restarts": _count,
    "log_tail": _texts,
}
_HOOK: dict[str, _Check] = {
    "run": lambda value: _text(value, MAX_COMMAND),
    "moment": _name,
    "exit_code": _number,
    "signal": _number,
    "ms": _count,
    "output": _texts,
    "reason": _text,
}
_ALWAYS: dict[str, _Check] = {"type": _name, "push_id": _name}
_ALSO: dict[str, dict[str, _Check]] = {
    "hello": {
        "version": _number,
        "image": _name,
        "applied": _name_or_none,
        "gen0": lambda value: _name(value) or "none",
        "health": bool,
        "app": _scalars,
        "trial": _name_or_none,
        "reload": _name,
        "notes": _notes,
        "crash": _crash,
    },
    "crashed": _CRASH,
    "gen0": {"state": _name, "error": _text},
    "app": {"app": _scalars},
    "progress": {"stage": _name},
    "verdict": {
        "verdict": _name,
        "failed": lambda value: value is True,
        "back": lambda value: value is not False,
        "pid": _number,
        "healthy_ms": _count_or_none,
        "exit_code": _number,
        "signal": _number,
        "reason": _text,
        "log_tail": _texts,
        "drift": _paths,
        "timings_ms": _timings,
        "hooks": _hooks,
    },
    "log": {"request": _number, "lines": _lines, "last": bool, "known": lambda value: value is not False},
    "error": {"message": _text},
}
