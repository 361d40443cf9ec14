"""What a push or a rollback ends with."""

import asyncio
import shutil

from codesync.client import ClientError, CrashedAfter, Progress, ProgressCallback, PushResult
from codesync.protocol import Crash, Failure, Outcome, ReplicaReport
from tests.agents.agent import Agent, Answer, case
from tests.test_mcp_calls import Bench, Push, Work, given_up, next_step, undone


@case("nothing differs")
def _(agent: Agent) -> Answer:
    return agent.push()


@case("nothing differs, and it is not healthy")
def _(agent: Agent) -> Answer:
    with agent.kept_unhealthy():
        return agent.push()


@case("dry run")
def _(agent: Agent) -> Answer:
    agent.edit()
    return agent.push(dry_run=True)


@case("it is well")
def _(agent: Agent) -> Answer:
    agent.edit()
    return agent.push()


@case("it is up, and there is no health check")
def _(agent: Agent) -> Answer:
    agent.edit()
    with agent.launcher(health=False):
        return agent.push()


@case("no launcher")
def _(agent: Agent) -> Answer:
    agent.edit()
    with agent.launcher(running=False):
        return agent.push()


@case("no launcher, and there are hooks")
def _(agent: Agent) -> Answer:
    agent.hooks('[{"when": "content.py", "run": "true", "before": "start"}]')
    agent.edit()
    with agent.launcher(running=False):
        return agent.push()


@case("it crashed")
def _(agent: Agent) -> Answer:
    agent.breaks()
    answer = agent.push()
    assert agent.last["replicas"][0]["exit_code"] == 1
    assert agent.last["replicas"][0]["log_tail"][-1] == "RuntimeError: no such thing"
    return answer


@case("it is not healthy in time")
def _(agent: Agent) -> Answer:
    agent.edit(healthy=False)
    with agent.launcher("--health-timeout", "1"):
        return agent.push()


@case("a hook failed")
def _(agent: Agent) -> Answer:
    agent.hooks('[{"when": "*", "run": "echo not today; exit 3", "before": "start"}]')
    answer = agent.push()
    (hook,) = agent.last["replicas"][0]["hooks"]
    assert (hook["exit_code"], hook["output"]) == (3, ["not today"])
    return answer


@case("a hook failed after it was healthy")
def _(agent: Agent) -> Answer:
    agent.hooks('[{"when": "*", "run": "exit 3", "after": "healthy"}]')
    return agent.push()


@case("it is not well, and the launcher keeps it")
def _(agent: Agent) -> Answer:
    agent.breaks()
    with agent.launcher("--on-failure", "keep"):
        return agent.push()


@case("the push before this one crashed later")
def _(agent: Agent) -> Answer:
    with agent.crashing():
        agent.edit()
        return agent.push()


@case("it crashed later, and nothing differs")
def _(agent: Agent) -> Answer:
    with agent.crashing():
        return agent.push()


@case("rolled back by hand")
def _(agent: Agent) -> Answer:
    agent.edit()
    pushed = agent.push()
    assert pushed.word == "healthy"
    return agent.call("rollback")


@case("something is in the way")
def _(agent: Agent) -> Answer:
    """What nobody has pushed stands in the application's directory where a new file has to go."""
    agent.chain.write("in the way", "a file")
    (agent.chain.replicas["one"].app / "in the way" / "kept").mkdir(parents=True)
    try:
        return agent.push()
    finally:
        shutil.rmtree(agent.chain.replicas["one"].app / "in the way")
        (agent.chain.source / "in the way").unlink()


# What no chain on one machine brings about in a moment: the replicas' words are given, the client's are its own.


def _ended(outcome: Outcome) -> Answer:
    result = PushResult("p", "shop", "test", "failed").finish(outcome)
    return Answer(result.status, result.next_step)


@case("it never ran")
def _(agent: Agent) -> Answer:
    error = Failure(code="replica_lost", message="replica two came back without its trial")
    report = ReplicaReport(id="one", status="rolled_back")
    return _ended(Outcome(push_id="p", status="rolled_back", replicas=(report,), error=error))


@case("a replica could not take it")
def _(agent: Agent) -> Answer:
    error = Failure(code="stage_failed", message="replica one could not stage: no space left on the volume")
    report = ReplicaReport(id="one", status="failed", reason="no space left on the volume")
    return _ended(Outcome(push_id="p", status="failed", replicas=(report,), error=error))


@case("the code before it is not well either")
def _(agent: Agent) -> Answer:
    reason = "the application ended with exit status 1 before it was healthy"
    report = ReplicaReport(id="one", status="rolled_back", pid=7, back=False, reason=reason)
    return _ended(Outcome(push_id="p", status="rolled_back", replicas=(report,)))


@case("the image's own code crashed")
def _(agent: Agent) -> Answer:
    result = PushResult("p", "shop", "test", "failed")
    result.crashed_after = [CrashedAfter.of("one", Crash(push_id="", at=1.0, after_ms=1500))]
    result.finish(
        Outcome(push_id="p", status="healthy", replicas=(ReplicaReport(id="one", status="healthy"),))
    )
    return Answer(result.status, result.next_step)


@case("replicas differ")
def _(agent: Agent) -> Answer:
    error = Failure(code="timeout", message="all replicas were healthy, but two did not keep it: it was lost")
    reports = (ReplicaReport(id="one", status="healthy"), ReplicaReport(id="two", status="failed"))
    return _ended(Outcome(push_id="p", status="partial", replicas=reports, error=error))


@case("nobody knows")
def _(agent: Agent) -> Answer:
    error = Failure(code="timeout", message="replica one did not say that it has undone it (undo)")
    report = ReplicaReport(id="one", status="failed", timings_ms={"apply": 3})
    return _ended(Outcome(push_id="p", status="failed", replicas=(report,), error=error))


# --- cancelled calls: what the next result says --------------------------------------------------------------------


def _told(push: Push, work: Work | None = None) -> Answer:
    async def run() -> str:
        bench = Bench(work or push, what='The push "a change"')
        async with bench.client("legacy") as client:
            await given_up(client, push)
            if work is None:
                await undone(bench, push)
            await bench.calls.finish()
            return await next_step(client)

    return Answer("told", asyncio.run(run()))


@case("cancelled in time")
def _(agent: Agent) -> Answer:
    return _told(Push(ends_as="cancelled"))


@case("cancelled too late")
def _(agent: Agent) -> Answer:
    return _told(Push(ends_as="kept"))


@case("cancelled at its end")
def _(agent: Agent) -> Answer:
    push = Push()

    async def ends(report: ProgressCallback) -> None:
        push.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            report(Progress("commit", "", 0, 0))

    return _told(push, ends)


@case("cancelled, and nobody knows")
def _(agent: Agent) -> Answer:
    push = Push()

    async def lost(report: ProgressCallback) -> None:
        push.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ClientError("the connection was lost", code="lost") from None

    return _told(push, lost)


@case("the server is stopped")
def _(agent: Agent) -> Answer:
    return _stopped('The push "a change"')


@case("the server is stopped during a look")
def _(agent: Agent) -> Answer:
    return _stopped("")


def _stopped(what: str) -> Answer:
    async def run() -> str:
        push = Push()
        bench = Bench(push, what=what)
        async with bench.client("legacy") as client:
            call = asyncio.create_task(client.call_tool("push", {}))
            await asyncio.wait_for(push.started.wait(), 5)
            await bench.calls.stop()
            (block,) = (await call).content
            return str(getattr(block, "text", "")).partition("push: ")[2]

    return Answer("error", asyncio.run(run()))
