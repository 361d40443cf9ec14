"""What a look at the deployment ends with."""

import asyncio

from codesync.client import StatusResult
from codesync.protocol import Crash, DeploymentState, ReplicaState, TreeRef
from tests.agents.agent import Agent, Answer, case


@case("all is ready")
def _(agent: Agent) -> Answer:
    return agent.call("status")


@case("no launcher is connected")
def _(agent: Agent) -> Answer:
    with agent.launcher(running=False):
        return agent.call("status")


@case("somebody pushes")
def _(agent: Agent) -> Answer:
    async def look() -> Answer:
        async with agent.somebody_pushes():
            return await agent.call_async("status")

    return asyncio.run(look())


@case("it crashed after it was kept")
def _(agent: Agent) -> Answer:
    with agent.crashing():
        answer = agent.call("status")
        assert agent.last["replicas"][0]["crashed_after"]["exit_code"] == 7
        return answer


@case("the image's own code crashed, and nobody has pushed since")
def _(agent: Agent) -> Answer:
    crash = Crash(push_id="", at=1.0, after_ms=1500, exit_code=3)
    state = ReplicaState(id="one", tree=TreeRef("0" * 64, "0" * 64), launcher="ready", crash=crash)
    deployment = DeploymentState(app_id="shop", deployment_id="test", replicas=(state,))
    return Answer("status", StatusResult.of(deployment, "ws://h").next_step)


@case("it is kept, and not healthy")
def _(agent: Agent) -> Answer:
    with agent.kept_unhealthy():
        return agent.call("status")


@case("nobody serves it")
def _(agent: Agent) -> Answer:
    return agent.call("status", deployment_id="tset")


@case("there were pushes")
def _(agent: Agent) -> Answer:
    answer = agent.call("history")
    assert agent.last["pushes"][0]["description"] == "begin"
    return answer


@case("there is output")
def _(agent: Agent) -> Answer:
    agent.edit(code="print('hello from the application')\n")
    assert agent.push().word == "healthy"
    answer = agent.call("app_logs")
    assert "hello from the application" in agent.last["replicas"][0]["lines"]
    return answer


@case("no launcher keeps a log")
def _(agent: Agent) -> Answer:
    with agent.launcher(running=False):
        answer = agent.call("app_logs")
        assert "no launcher is connected" in agent.last["replicas"][0]["reason"]
        return answer
