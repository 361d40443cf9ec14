"""Reading the JSON of another machine: every value is of the kind that is expected and within bounds, or a ValueError."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from codesync.client.results import ClientError
from codesync.client.zstd import MALFORMED
from codesync.protocol import MAX_TEXT

MAX_NUMBER = 1 << 53
MAX_NAME = 512  # characters of a word
MAX_STEPS = 64  # of `timings_ms`


class Record:
    """One JSON object. A field that is missing has its default; one of another kind is a ValueError."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError("not an object")
        self._value: dict[str, Any] = value

    def text(self, name: str, limit: int = MAX_TEXT) -> str:
        """A text of at most `limit` characters, "" where it is missing."""
        value = self._value.get(name, "")
        if not isinstance(value, str) or len(value) > limit:
            raise ValueError(f"{name} is no text of at most {limit} characters")
        return value

    def one_of(self, name: str, words: Iterable[str]) -> str:
        """One of these words."""
        value = self.text(name, MAX_NAME)
        if value not in words:
            raise ValueError(f"{name} is {value[:40]!r}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._value.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")
        return value

    def count(self, name: str) -> int:
        """A whole number from 0 to 2^53, 0 where it is missing."""
        return _count(name, self._value.get(name, 0))

    def time(self, name: str) -> float:
        """Unix seconds, 0 where it is missing."""
        value = self._value.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is no time")
        if abs(value) > MAX_NUMBER:
            raise ValueError(f"{name} is no time")
        return float(value)

    def counts(self, name: str) -> dict[str, int]:
        """Names with whole numbers."""
        value = self._value.get(name, {})
        if not isinstance(value, dict) or len(value) > MAX_STEPS or any(len(key) > MAX_NAME for key in value):
            raise ValueError(f"{name} is no table of numbers")
        return {key: _count(key, number) for key, number in value.items()}


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{name} is no number from 0 to 2^53")
    return value


def read_array(data: bytes, limit: int, what: str) -> list[Record]:
    """Read a JSON array of at most `limit` objects. Raises ClientError `bad_message`, which names the answer as `what`."""
    try:
        found = json.loads(data)
        if not isinstance(found, list) or len(found) > limit:
            raise ValueError(f"not a list of at most {limit} objects")
        return [Record(value) for value in found]
    except MALFORMED as error:
        raise malformed(what, error) from error


def read_lines(data: bytes, what: str) -> list[Record]:
    """Read one JSON object from each line. Raises ClientError `bad_message`."""
    try:
        return [Record(json.loads(line)) for line in data.split(b"\n") if line]
    except MALFORMED as error:
        raise malformed(what, error) from error


def malformed(what: str, error: BaseException) -> ClientError:
    """Return the error for an answer that is none."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ClientError(
        f"{what} cannot be read ({reason}); update the older of the two codesyncs", code="bad_message"
    )
