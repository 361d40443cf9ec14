"""One full example of every message, and the plainest one where fields may be left out."""

from codesync.protocol import (
    Answer,
    AnswerError,
    BatchRef,
    Begin,
    Busy,
    Cancel,
    Chunk,
    Crash,
    DeploymentState,
    EndRequest,
    Error,
    Failed,
    Failure,
    FileRanges,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Granted,
    Hello,
    HistoryEntry,
    Hook,
    HookReport,
    Keep,
    Kept,
    LastPush,
    Message,
    Outcome,
    Progress,
    Push,
    ReplicaReport,
    ReplicaState,
    Result,
    Rollback,
    Stage,
    Staged,
    StageTree,
    State,
    TreeRef,
    Trial,
    Tried,
    Try,
    Undo,
    Undone,
    Welcome,
)

OLD = TreeRef("0a" * 32, "0b" * 32)
NEW = TreeRef("1a" * 32, "1b" * 32)
WHO = "dev@laptop:/src/shop"

REPORT = ReplicaReport(
    id="shop-1",
    status="rolled_back",
    generation=7,
    exit_code=1,
    signal=None,
    log_tail=("Traceback (most recent call last):", "ModuleNotFoundError: No module named 'flask'"),
    drift=(b"settings.py", b"caf\xe9.txt"),
    timings_ms={"apply": 12, "stop": 105, "start": 31, "health": 420},
    reason="the application ended with status 1",
)
GOOD = ReplicaReport(id="shop-1", status="healthy", generation=8)
REPLICA = ReplicaState(
    id="shop-1",
    tree=OLD,
    generation=7,
    image="5e" * 32,
    gen0="ready",
    launcher="ready",
    health=True,
    app={"state": "running", "pid": 4711, "exit_code": None, "since": 1700000000.25},
    trial=Trial(push_id="20260102-101112-0a1b2c3d4e", phase="healthy"),
    notes=("the image has changed; earlier pushes were dropped",),
    history=(
        HistoryEntry(push_id="generation-0", generation=0, tree=NEW),
        HistoryEntry(
            push_id="p7",
            generation=7,
            tree=OLD,
            description="a change",
            source=WHO,
            at=1700000000.5,
            restores="p3",
        ),
    ),
    results=(
        Result(
            push_id="p6",
            source_tree_id="6f" * 32,
            status="rolled_back",
            tree=OLD,
            exit_code=1,
            reason="crash",
        ),
        Result(push_id="p7", source_tree_id="7f" * 32, status="healthy", tree=OLD, generation=7),
    ),
)
INSTALL = Hook(run="pip install -r requirements.txt", moment="before_start", seconds=120.0)
MIGRATE = Hook(run="./migrate", moment="after_healthy", seconds=2.5, when="/migrations/")
CRASH = Crash(
    push_id="p7",
    at=1700000002.5,
    after_ms=3210,
    exit_code=1,
    signal=None,
    restarts=2,
    log_tail=("Traceback (most recent call last):", "KeyError: 'shop'"),
)
PLAIN_REPLICA = ReplicaState(id="shop-2", tree=OLD)
ASKED_REPLICA = ReplicaState(id="shop-4", tree=OLD, questions=("get_details",))
CRASHING_REPLICA = ReplicaState(
    id="shop-3", tree=OLD, launcher="ready", reload="signal:HUP", app={"state": "backoff"}, crash=CRASH
)
UNHEALTHY = ReplicaReport(
    id="shop-1",
    status="unhealthy",
    generation=8,
    pid=4712,
    healthy_ms=None,
    log_tail=("listening",),
    reason="the health check failed",
)
HOOKED = ReplicaReport(
    id="shop-1",
    status="healthy",
    generation=8,
    pid=4712,
    healthy_ms=412,
    hooks=(
        HookReport(
            run=INSTALL.run, moment=INSTALL.moment, exit_code=0, ms=1500, output=("Collecting flask", "done")
        ),
        HookReport(
            run=MIGRATE.run, moment=MIGRATE.moment, signal=9, ms=2500, reason="it took more than 2.5 s"
        ),
    ),
)
NOT_BACK = ReplicaReport(
    id="shop-1", status="rolled_back", generation=7, pid=4713, exit_code=1, back=False, reason="it ended"
)
DEPLOYMENT = DeploymentState(
    app_id="shop",
    deployment_id="dev",
    replicas=(REPLICA, PLAIN_REPLICA),
    last_push=LastPush(push_id="p7", source=WHO, description="a change", at=1700000000.5, tree=OLD),
    busy=Busy(push_id="p8", source=WHO, since=1700000001.0),
)

EXAMPLES: dict[str, Message] = {
    "hello-sidecar": Hello(versions=(1,), software="codesync/0.1.0", replica=REPLICA),
    "hello-ide": Hello(versions=(1, 2), software="codesync/0.1.0", source=WHO),
    "welcome-sidecar": Welcome(version=1, software="codesync/0.1.0"),
    "welcome-ide": Welcome(version=1, software="codesync/0.1.0", deployment=DEPLOYMENT),
    "begin": Begin(push_id="p8", source=WHO, description="Add a route", source_tree_id=NEW.tree_id),
    "push": Push(push_id="p8", batches=(BatchRef(base=OLD, target=NEW), BatchRef(base=NEW, target=NEW))),
    "rollback": Rollback(push_id="p9", to="p7", source=WHO, description="Back"),
    "push-hooks": Push(
        push_id="p8",
        batches=(BatchRef(base=OLD, target=NEW, hooks=(INSTALL, MIGRATE)),),
        timings_ms={"scan": 12, "delta": 34},
    ),
    "rollback-hooks": Rollback(push_id="p9", to="", source=WHO, description="Back", hooks=(MIGRATE,)),
    "cancel": Cancel(push_id="p8"),
    "cancel-no_changes": Cancel(push_id="p8", no_changes=True),
    "granted": Granted(push_id="p8", deployment=DeploymentState(app_id="shop", deployment_id="dev")),
    "outcome": Outcome(push_id="p8", status="healthy", replicas=(GOOD,), tree=NEW),
    "outcome-failed": Outcome(
        push_id="p8", status="failed", replicas=(REPORT,), error=Failure(code="timeout", message="too late")
    ),
    "error": Error(code="busy", message="taken", push_id="p8"),
    "error-connection": Error(code="version", message="update the older of the two"),
    "stage": Stage(
        push_id="p8", base=OLD, target=NEW, source=WHO, description="d", source_tree_id=NEW.tree_id
    ),
    "stage-hooks": Stage(
        push_id="p8",
        base=OLD,
        target=NEW,
        source=WHO,
        description="d",
        source_tree_id=NEW.tree_id,
        hooks=(INSTALL,),
        timings_ms={"scan": 12, "delta": 34},
    ),
    "stage_tree-hooks": StageTree(
        push_id="p9", tree=OLD, restores="p7", source=WHO, description="Back", hooks=(MIGRATE,)
    ),
    "stage_tree": StageTree(push_id="p9", tree=OLD, restores="p7", source=WHO, description="Back"),
    "try": Try(push_id="p8", deadline_s=120.0),
    "keep": Keep(push_id="p8"),
    "undo": Undo(push_id="p8", reason="replica shop-2 was not healthy"),
    "state": State(replica=PLAIN_REPLICA),
    "state-questions": State(replica=ASKED_REPLICA),
    "state-crash": State(replica=CRASHING_REPLICA),
    "staged": Staged(push_id="p8"),
    "tried": Tried(push_id="p8", healthy=False, report=REPORT),
    "kept": Kept(push_id="p8", report=GOOD),
    "tried-hooks": Tried(push_id="p8", healthy=True, report=HOOKED),
    "kept-unhealthy": Kept(push_id="p8", report=UNHEALTHY),
    "outcome-unhealthy": Outcome(push_id="p8", status="unhealthy", replicas=(UNHEALTHY,), tree=NEW),
    "undone": Undone(push_id="p8", report=REPORT),
    "undone-not_back": Undone(push_id="p8", report=NOT_BACK),
    "failed": Failed(push_id="p8", phase="stage", code="stage_failed", message="no space left on device"),
    "chunk": Chunk(push_id="p8", data=bytes(range(256)), last=False),
    "chunk-ide": Chunk(push_id="p8", data=b"", last=True, batch=1),
    "progress": Progress(push_id="p8", stage="apply", done=3, total=10),
    "progress-wait": Progress(push_id="p8", stage="wait", done=0, total=0),
    "progress-ide": Progress(push_id="p8", stage="health", done=0, total=0, replica="shop-1"),
    "get_manifest": GetManifest(request=1, tree=OLD),
    "get_signatures": GetSignatures(request=2, tree_id=OLD.tree_id, paths=(b"app.py", b"caf\xe9.txt")),
    "get_signatures-coarse": GetSignatures(
        request=6, tree_id=OLD.tree_id, paths=(b"large.bin",), coarse_from=1 << 18
    ),
    "get_details": GetDetails(
        request=7,
        tree_id=OLD.tree_id,
        files=(
            FileRanges(path=b"large.bin", seed=0xFFFFFFFF, ranges=(0, 4096, 1 << 32, 1), orphans=(8192, 512)),
            FileRanges(path=b"caf\xe9.txt", seed=0, orphans=(0, 600)),
        ),
    ),
    "get_history": GetHistory(request=3, replica="shop-1"),
    "get_logs": GetLogs(request=4, replica="shop-1", lines=200),
    "get_logs-follow": GetLogs(request=5, replica="shop-1", lines=0, since_push="p7", follow=True),
    "end_request": EndRequest(request=5),
    "answer": Answer(request=1, data=b"\x28\xb5\x2f\xfd", last=True),
    "answer_error": AnswerError(request=2, code="no_replica", message="no connected replica has that tree"),
}
