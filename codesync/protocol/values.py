"""What messages are made of: trees, replicas, reports. Frozen, compared by value, free of behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from codesync.protocol.fields import (
    Command,
    Count,
    Hex,
    HookMoment,
    HookSeconds,
    Id,
    Launcher,
    Name,
    OptionalId,
    Path,
    ReplicaStatus,
    Rule,
    Seconds,
    Text,
    TrialPhase,
)
from codesync.protocol.limits import MAX_HOOKS, MAX_RANGES

Scalar = str | int | float | bool | None


class TreeRef(NamedTuple):
    """A tree together with which of its paths are tracked: what a batch starts at and leads to."""

    tree_id: Hex
    tracked_id: Hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The one push that a replica holds and has not committed."""

    push_id: Id
    phase: TrialPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command that a push runs in the container, once, in the application's directory.

    `when` is a pattern in git's syntax; only a rollback sends hooks that are not matched yet.
    """

    run: Command
    moment: HookMoment
    seconds: HookSeconds
    when: Text = ""


Hooks = Annotated[tuple[Hook, ...], Rule(f"at most {MAX_HOOKS} hooks", lambda hooks: len(hooks) <= MAX_HOOKS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReport:
    """How a hook ended: both `exit_code` and `signal` are None where it ran out of time, or could not be started."""

    run: Command
    moment: HookMoment
    exit_code: int | None = None
    signal: int | None = None
    ms: Count = 0
    output: tuple[Text, ...] = ()
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The application ended by itself soon after the kept push `push_id`; `restarts` times it was started since.

    `at` is in Unix seconds, `after_ms` how long it had been running, `log_tail` the last lines of that run.
    """

    push_id: OptionalId
    at: Seconds
    after_ms: Count = 0
    exit_code: int | None = None
    signal: int | None = None
    restarts: Count = 0
    log_tail: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One committed generation of a replica. Generation 0, when remembered, has the push_id `GENERATION_0`.

    `at` is in Unix seconds. `restores` is the push_id whose tree a rollback brought back, else empty.
    """

    push_id: Id
    generation: Count
    tree: TreeRef
    description: Text = ""
    source: Text = ""
    at: Seconds = 0.0
    restores: OptionalId = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a push ended on a replica, as long as it remembers; `tree` is the replica's tree afterwards."""

    push_id: Id
    source_tree_id: Hex
    status: ReplicaStatus
    tree: TreeRef | None = None
    generation: Count = 0
    exit_code: int | None = None
    signal: int | None = None
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """All that a sidecar tells about itself. `tree` is the committed tree; `results` are newest last, as `history`.

    `questions`: the later ones that it answers, by name; a proxy asks it no others.
    """

    id: Id
    tree: TreeRef
    generation: Count = 0
    image: Name = ""
    gen0: Name = "none"
    launcher: Launcher = "absent"
    health: bool = False
    reload: Name = ""  # how the launcher brings in a push: restart, signal:HUP, none, blue-green
    app: Mapping[str, Scalar] = field(default_factory=dict)
    crash: Crash | None = None
    trial: Trial | None = None
    notes: tuple[Text, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    results: tuple[Result, ...] = ()
    questions: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """What a push did on one replica. `drift` are paths, `timings_ms` whole milliseconds by step.

    `pid` is that of the process that was judged, `healthy_ms` how long after its start it was healthy. `back`: the code
    before the push serves again, or was never stopped.
    """

    id: Id
    status: ReplicaStatus
    generation: Count = 0
    pid: int | None = None
    healthy_ms: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    log_tail: tuple[Text, ...] = ()
    drift: tuple[Path, ...] = ()
    timings_ms: Mapping[str, int] = field(default_factory=dict)
    hooks: tuple[HookReport, ...] = ()
    back: bool = True
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPush:
    """The last push (or rollback) that a deployment kept."""

    push_id: Id
    source: Text
    description: Text
    at: Seconds
    tree: TreeRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Who holds the deployment, since when (Unix seconds)."""

    push_id: Id
    source: Text
    since: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentState:
    """All that the proxy knows of a deployment. The replicas' `results` are left out here."""

    app_id: Id
    deployment_id: Id
    replicas: tuple[ReplicaState, ...] = ()
    last_push: LastPush | None = None
    busy: Busy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRef:
    """One batch of a push: the replicas at `base` get it.

    Targets differ where replicas keep different files of their own, which the push does not know.
    """

    base: TreeRef
    target: TreeRef
    hooks: Hooks = ()


Ranges = Annotated[
    tuple[Count, ...],
    Rule(
        f"at most {MAX_RANGES} pairs of numbers",
        lambda numbers: len(numbers) % 2 == 0 and len(numbers) <= 2 * MAX_RANGES,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRanges:
    """What is asked about a file: each range is two numbers, an offset and a length. `seed` goes into all checksums.

    `ranges` are those whose place in the other side's file is known, `orphans` those that may stand anywhere in it.
    """

    path: Path
    seed: Annotated[Count, Rule("a number of 32 bits", lambda seed: seed < 1 << 32)]
    ranges: Ranges = ()
    orphans: Ranges = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an Outcome is `failed`: a `Code` and one line for people."""

    code: Name
    message: Text
