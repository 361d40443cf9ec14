"""What the launcher says, made fit for use: fields of the right type and size, whatever was in the line. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from codesync.protocol import MAX_TEXT

_NAME = 512
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
_ALWAYS: dict[str, _Check] = {"type": _name, "push_id": _name}
_ALSO: dict[str, dict[str, _Check]] = {
    "hello": {
        "version": _number,
        "applied": _name_or_none,
        "gen0": lambda value: _name(value) or "none",
        "health": bool,
        "app": _scalars,
        "trial": _name_or_none,
    },
    "gen0": {"state": _name, "error": _text},
    "app": {"app": _scalars},
    "progress": {"stage": _name},
    "verdict": {
        "verdict": _name,
        "exit_code": _number,
        "signal": _number,
        "reason": _text,
        "log_tail": _texts,
        "drift": _paths,
        "timings_ms": _timings,
    },
    "error": {"message": _text},
}
