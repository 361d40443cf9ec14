"""The conversation with the sidecar: one JSON object a line (docs/launcher-socket.md). Pure: no socket, no state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from codesync.launcher.records import encode, tree_id

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
MAX_LINE = 1024 * 1024
MAX_DRIFT = 256 * 1024  # characters of a verdict's drift; what is more is only counted
MAX_NAME = 200
MAX_DEADLINE = 86400.0
MAX_COUNT = 1 << 53


class MessageError(Exception):
    """What came is no message of this version; one line, which the sidecar is told."""


class Greeting(NamedTuple):
    """The sidecar's hello: the push it has committed last."""

    committed: str | None


class Adopted(NamedTuple):
    """The sidecar has taken generation 0 over as this tree."""

    tree_id: str


class Try(NamedTuple):
    """Run the plan in `.sidecar/trial`; undo it when nobody has decided within `deadline_s` seconds."""

    push_id: str
    deadline_s: float


class Keep(NamedTuple):
    """The trial is committed."""

    push_id: str


class Undo(NamedTuple):
    """The trial is not to be."""

    push_id: str


class Apply(NamedTuple):
    """Bring in the committed tree, and restart."""


class GetLogs(NamedTuple):
    """Say the last lines of the application's output, and with `follow` those that come, until EndLogs."""

    request: int
    lines: int
    since_push: str
    follow: bool


class EndLogs(NamedTuple):
    """Say no more of them."""

    request: int


Message = (Greeting, Adopted, Try, Keep, Undo, Apply, GetLogs, EndLogs)


def parse(line: bytes) -> Any:
    """One of the messages above. Raises MessageError."""
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise MessageError(f"no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MessageError("a message is a JSON object")
    try:
        return _parse(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a malformed {fields.get('type')!r:.40} message: {error!r:.200}") from error


def _parse(fields: dict[str, Any]) -> Any:
    kind = fields["type"]
    if kind == "hello":
        return _greeting(fields)
    if kind == "adopted":
        return Adopted(tree_id(fields["tree_id"]))
    if kind == "try":
        return Try(_name(fields["push_id"]), _seconds(fields["deadline_s"]))
    if kind == "keep":
        return Keep(_name(fields["push_id"]))
    if kind == "undo":
        return Undo(_name(fields["push_id"]))
    if kind == "apply":
        return Apply()
    if kind == "logs":
        since = fields.get("since_push") or ""
        return GetLogs(
            _count(fields["request"]),
            _count(fields["lines"]),
            _name(since) if since else "",
            bool(fields.get("follow")),
        )
    if kind == "logs_end":
        return EndLogs(_count(fields["request"]))
    raise MessageError(f"messages of type {kind!r:.40} are unknown here")


def _greeting(fields: dict[str, Any]) -> Greeting:
    if fields["version"] != VERSION:
        raise MessageError(f"this launcher speaks version {VERSION}, not {fields['version']!r:.20}")
    committed = fields.get("committed")
    return Greeting(str(committed["push_id"]) if committed else None)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ValueError("a push_id is 1 to 200 printable characters")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError("a number of lines or of a request is a whole number from 0 on")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_DEADLINE:
        raise ValueError("deadline_s is a number of seconds, more than 0 and at most a day")
    return float(value)


def line(kind: str, **fields: Any) -> bytes:
    """A message to the sidecar: at most MAX_LINE bytes, whatever an application and its hooks have written."""
    data = _dumped(kind, fields)
    while len(data) > MAX_LINE and (shorter := _shortened(fields)) != fields:
        fields = shorter
        data = _dumped(kind, fields)
    return data


def _dumped(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps(dict(type=kind, **fields), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _shortened(fields: dict[str, Any]) -> dict[str, Any]:
    """With the newer half of what there is most of: lines of output, and the first paths of the drift."""
    shorter = dict(fields)
    for name in {"log_tail", "output"} & fields.keys():
        shorter[name] = fields[name][(len(fields[name]) + 1) // 2 :]
    if "drift" in shorter:
        half = len(shorter["drift"]) // 2
        shorter["drift_more"] = shorter.get("drift_more", 0) + len(shorter["drift"]) - half
        shorter["drift"] = shorter["drift"][:half]
    if "hooks" in shorter:
        shorter["hooks"] = [_shortened(hook) for hook in shorter["hooks"]]
    return shorter


def drift_fields(drift: Sequence[bytes]) -> dict[str, Any]:
    """`drift`, as many paths as fit into a line, and `drift_more`, how many there are beside them."""
    shown: list[str] = []
    room = MAX_DRIFT
    for path in drift:
        text = encode(path)
        room -= len(text)
        if room < 0:
            break
        shown.append(text)
    return {"drift": shown, "drift_more": len(drift) - len(shown)}
