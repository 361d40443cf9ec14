"""The numbers both ends of a connection agree on, in one place; this file imports only the standard library."""

from dataclasses import dataclass

VERSIONS = (1,)
MAX_MESSAGE = 512 * 1024  # bytes of one encoded message
MAX_CHUNK = 256 * 1024  # bytes of `data` in one Chunk or Answer
MAX_ID = 128  # characters of an app_id, deployment_id, replica id, push_id
MAX_NAME = 512  # characters of a short text: an image, a step, a code
MAX_TEXT = 64 * 1024  # characters of any one text
MAX_HOOKS = 32  # commands of a project that run in the container
MAX_COMMAND = 4096  # characters of one of them
MAX_HOOK_SECONDS = 600  # how long one may run
MAX_RANGES = 1 << 14  # ranges of files that one question asks about
MAX_LOG_LINES = 10_000  # lines of an application's output that can be asked for
MAX_REPLICAS = 64  # sidecars of one deployment
MAX_BATCHES = 64  # batches of one push
HISTORY = 21  # entries of ReplicaState.history: the committed tree, and the 20 before it
RESULTS = 64  # entries of ReplicaState.results, and outcomes the proxy remembers
GENERATION_0 = (
    "generation-0"  # the push_id of what the image brought: in `history`, `restores` and `Rollback.to`
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Every wait of the proxy, in seconds. An error that comes from one names it by its name here."""

    hello: float = 10.0  # from the connection to its Hello
    lease_wait: float = 30.0  # a Begin waits behind another push
    launcher_wait: float = 30.0  # a granted push waits while a replica's launcher is starting
    plan_idle: float = 60.0  # from Granted to Push; requests and their answers start it anew
    chunk_idle: float = 60.0  # between two Chunks of the client
    stage_idle: float = 120.0  # a replica takes a chunk, reports progress or is staged
    reconnect: float = 20.0  # a replica lost before its trial comes back
    deadline: float = 120.0  # how long a replica may hold a trial without hearing keep (Try.deadline_s)
    try_margin: float = 15.0  # beyond the deadline, for the verdict's way back
    keep: float = 30.0  # from Keep to Kept
    undo: float = 45.0  # from Undo to Undone: stop and start of the old code are in it
    answer: float = 60.0  # a replica answers a request, and between two pieces of an answer
    slow_reader: float = 15.0  # a connection takes nothing from us
