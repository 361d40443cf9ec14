"""Every message, once. A field with a default may be missing on the wire and is not written while it holds its default.

The name on the wire is the class's name in snake case. Where two connections use the same word (Hello, Welcome,
Chunk, Progress) the fields that only one of them needs have defaults. Field by field: docs/protocol.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from codesync.protocol.fields import (
    KEPT_STATUSES,
    Bytes,
    Count,
    Hex,
    Id,
    Name,
    OptionalId,
    OutcomeStatus,
    Path,
    Rule,
    Seconds,
    Text,
    Versions,
)
from codesync.protocol.limits import MAX_BATCHES, MAX_LOG_LINES, MAX_RANGES
from codesync.protocol.values import (
    BatchRef,
    DeploymentState,
    Failure,
    FileRanges,
    Hooks,
    ReplicaReport,
    ReplicaState,
    TreeRef,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The root of all messages."""


# -- greeting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """Opens a connection. A sidecar gives `replica`, an ide gives `source` (`user@host:app root`)."""

    versions: Versions
    software: Name
    replica: ReplicaState | None = None
    source: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """The proxy's answer to Hello; only an ide is given `deployment`."""

    version: Count
    software: Name
    deployment: DeploymentState | None = None


# -- ide to proxy ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Message):
    """Asks for the deployment's lease. Ends with exactly one Error or Outcome of this push_id."""

    push_id: Id
    source: Text
    description: Text
    source_tree_id: Hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Message):
    """What will be sent. The Chunks of batch 0 follow, then those of batch 1, …

    `timings_ms`: what the push has cost so far (scan, delta), for the history.
    """

    push_id: Id
    batches: Annotated[
        tuple[BatchRef, ...],
        Rule(f"1 to {MAX_BATCHES} batches", lambda batches: 0 < len(batches) <= MAX_BATCHES),
    ]
    timings_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Message):
    """Asks for the tree that the push `to` left; empty: the one before the present one. Ends as a Begin does."""

    push_id: Id
    to: OptionalId
    source: Text
    description: Text
    hooks: Hooks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Message):
    """The client gives up. Until the first replica is told to keep it, the push is undone and ends with Error `cancelled`.

    Later it goes on, and ends with its Outcome. `no_changes`: there is nothing to push; only the proxy's log tells it apart.
    """

    push_id: Id
    no_changes: bool = False


# -- proxy to ide ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted(Message):
    """The lease is yours; the replicas in `deployment` stay as they are until this push ends."""

    push_id: Id
    deployment: DeploymentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Message):
    """The end of a push that reached the replicas. `tree`: the deployment's tree when something was kept."""

    push_id: Id
    status: OutcomeStatus
    replicas: tuple[ReplicaReport, ...]
    tree: TreeRef | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """A refusal. With a `push_id`: the end of that push, nothing on any replica has changed.

    Without one it is about the connection, which is closed next; a sidecar may be told so too.
    """

    code: Name
    message: Text
    push_id: OptionalId = ""


# -- proxy to sidecar ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Message):
    """A batch follows in Chunks. What an earlier Stage of the same push_id left is dropped."""

    push_id: Id
    base: TreeRef
    target: TreeRef
    source: Text
    description: Text
    source_tree_id: Hex
    hooks: Hooks = ()
    timings_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTree(Message):
    """A tree of the replica's own history is staged; no Chunks follow. `restores`: the push_id that left that tree."""

    push_id: Id
    tree: TreeRef
    restores: OptionalId
    source: Text
    description: Text
    hooks: Hooks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Try(Message):
    """Run the staged tree. Without Keep after `deadline_s` seconds from now the replica undoes it by itself."""

    push_id: Id
    deadline_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Message):
    """Commit the healthy trial."""

    push_id: Id


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(Message):
    """Back to the committed tree, from any state, also when the push_id is unknown. Always answered by Undone."""

    push_id: Id
    reason: Text


# -- sidecar to proxy ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Message):
    """Something of the replica changed."""

    replica: ReplicaState


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged(Message):
    """Received, patched, verified, on disk."""

    push_id: Id


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried(Message):
    """The verdict. `healthy`: keep is possible. Not healthy: the old code runs again already; Undo follows all the same.

    A sidecar that connects again and has its verdict says it again after Welcome: the first may have been lost.
    """

    push_id: Id
    healthy: bool
    report: ReplicaReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept(Message):
    """Committed. A State with the new tree follows."""

    push_id: Id
    report: Annotated[
        ReplicaReport, Rule("a report of something kept", lambda report: report.status in KEPT_STATUSES)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone(Message):
    """The trial is gone: the answer to Undo, or said unasked when the deadline has passed."""

    push_id: Id
    report: ReplicaReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Message):
    """The replica could not do it (`phase`: stage, try, keep). Undo follows, unless the committed tree is decided."""

    push_id: Id
    phase: Name
    code: Name
    message: Text


# -- on both connections ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(Message):
    """A piece of a batch, in order. From an ide `batch` is the index in Push.batches."""

    push_id: Id
    data: Bytes
    last: bool
    batch: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Message):
    """How far a step is; `total` 0: unknown. The proxy adds `replica` on the way to the ide."""

    push_id: Id
    stage: Name
    done: Count
    total: Count
    replica: OptionalId = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetManifest(Message):
    """The manifest of a tree and its tracked paths. `request` is the asker's number, unused so far on the connection."""

    request: Count
    tree: TreeRef


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSignatures(Message):
    """The signatures of these files of a tree. Many paths are asked for in several requests.

    `coarse_from`: files of so many bytes and more get the larger blocks that are made up for by GetDetails; 0: none.
    """

    request: Count
    tree_id: Hex
    paths: tuple[Path, ...]
    coarse_from: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDetails(Message):
    """Checksums of pieces of these files of a tree, where a signature has left gaps.

    Said only to a replica whose `questions` name it: it is younger than the protocol's version 1.
    """

    request: Count
    tree_id: Hex
    files: Annotated[
        tuple[FileRanges, ...],
        Rule(
            f"files with at most {MAX_RANGES} ranges together",
            lambda files: sum(len(file.ranges) + len(file.orphans) for file in files) <= 2 * MAX_RANGES,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetHistory(Message):
    """What the replica remembers of its pushes, kept or not."""

    request: Count
    replica: Id


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLogs(Message):
    """The last lines of the application's output; `since_push`: only what it wrote while that push, or a later one, ran.

    With `follow` the answer does not end by itself: pieces come as lines come, an empty one now and then; EndRequest ends it.
    """

    request: Count
    replica: Id
    lines: Annotated[Count, Rule(f"at most {MAX_LOG_LINES} lines", lambda lines: lines <= MAX_LOG_LINES)]
    since_push: OptionalId = ""
    follow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRequest(Message):
    """The asker wants no more of this answer; what is on its way still comes, an end may not.

    The proxy says it for an asker that is lost, too. One that crosses the end of the answer is no harm.
    """

    request: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Message):
    """A piece of the answer, in order; opaque to the proxy."""

    request: Count
    data: Bytes
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerError(Message):
    """The end of a request that was not answered wholly."""

    request: Count
    code: Name
    message: Text
