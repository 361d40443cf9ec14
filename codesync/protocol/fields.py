"""The rules a field of a message obeys, as types: `PushId` is a `str` for the type checker and a checked id on the wire.

Paths are bytes, digests and tree ids lower-case hex, times Unix seconds. Nothing here knows a message.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from codesync.protocol.limits import MAX_CHUNK, MAX_COMMAND, MAX_HOOK_SECONDS, MAX_ID, MAX_NAME, MAX_TEXT

_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_ID}}}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{0,64}", re.ASCII)


class Rule:
    """A predicate on a decoded value and the words for it: "is not …"."""

    __slots__ = ("holds", "words")

    def __init__(self, words: str, holds: Callable[[Any], bool]) -> None:
        self.words = words
        self.holds = holds


def is_id(text: str) -> bool:
    """1 to 128 characters of A-Z a-z 0-9 . _ - and not dots alone, so it is safe as a file name and in an address."""
    return _ID.fullmatch(text) is not None and text.strip(".") != ""


def one_of(*words: str) -> Rule:
    """Only these words."""
    return Rule("one of " + ", ".join(words), frozenset(words).__contains__)


# From best to worst. "unhealthy": kept although it failed, because the launcher was told to (--on-failure keep).
KEPT_STATUSES = ("no_changes", "healthy", "running", "stored", "unhealthy")
HOOK_MOMENTS = ("before_stop", "before_start", "after_healthy")
REPLICA_STATUSES = (*KEPT_STATUSES, "rolled_back", "failed")

Id = Annotated[str, Rule("an id: 1 to 128 of A-Z a-z 0-9 . _ -", is_id)]
OptionalId = Annotated[str, Rule("an id or empty", lambda text: not text or is_id(text))]
Hex = Annotated[
    str, Rule("lower-case hex of at most 64 digits", lambda text: _HEX.fullmatch(text) is not None)
]
Text = Annotated[str, Rule(f"a text of at most {MAX_TEXT} characters", lambda text: len(text) <= MAX_TEXT)]
Name = Annotated[str, Rule(f"a text of at most {MAX_NAME} characters", lambda text: len(text) <= MAX_NAME)]
Count = Annotated[int, Rule("a number from 0 to 2^53", lambda number: 0 <= number <= 1 << 53)]
Seconds = Annotated[float, Rule("a finite number", math.isfinite)]
Bytes = Annotated[bytes, Rule(f"at most {MAX_CHUNK} bytes", lambda data: len(data) <= MAX_CHUNK)]
Path = Annotated[bytes, Rule("a path of 1 to 65536 bytes", lambda path: 0 < len(path) <= 1 << 16)]
Versions = Annotated[tuple[int, ...], Rule("1 to 16 versions", lambda versions: 0 < len(versions) <= 16)]
ReplicaStatus = Annotated[str, one_of(*REPLICA_STATUSES)]
OutcomeStatus = Annotated[str, one_of(*REPLICA_STATUSES, "partial")]
Launcher = Annotated[str, one_of("ready", "starting", "absent")]
HookMoment = Annotated[str, one_of(*HOOK_MOMENTS)]
HookSeconds = Annotated[
    float,
    Rule(f"a time of more than 0 and at most {MAX_HOOK_SECONDS} s", lambda s: 0 < s <= MAX_HOOK_SECONDS),
]
Command = Annotated[
    str, Rule(f"a command of 1 to {MAX_COMMAND} characters", lambda text: 0 < len(text) <= MAX_COMMAND)
]
TrialPhase = Annotated[str, one_of("staged", "trying", "healthy")]
