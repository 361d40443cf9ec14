"""Cases that need a deployment which nobody has pushed to, a replica more, or a proxy of their own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from codesync import client
from codesync.client import ClientError
from codesync.protocol import Answer as ProtocolAnswer
from codesync.protocol import Begin, GetHistory, GetLogs, Granted
from tests.agents.agent import Agent, Answer, case
from tests.client.fake import Fake, Script, agree_to_cancel, fake_proxy, fill, tree_at
from tests.proxy.loopback import Peer

FRESH = "fresh"


@contextmanager
def sidecar(agent: Agent, name: str, deployment_id: str, proxy_url: str = "") -> Iterator[None]:
    """One more sidecar, without a launcher, until the end of the block."""
    chain = agent.chain
    if name not in chain.replicas:
        chain.add_replica(name)
    environ = chain.environ(
        CODESYNC_FILES_DIR=str(chain.replicas[name].files), CODESYNC_DEPLOYMENT_ID=deployment_id
    )
    if proxy_url:
        environ["CODESYNC_PROXY_URL"] = proxy_url
    chain._start(f"sidecar-{name}", ["sidecar"], environ)
    try:
        yield
    finally:
        chain.kill(f"sidecar-{name}")


def replicas(agent: Agent, **settings: str) -> int:
    try:
        return len(asyncio.run(client.status(agent.chain.settings(**settings))).replicas)
    except ClientError:
        return 0


@case("there were none")
def _(agent: Agent) -> Answer:
    with sidecar(agent, "fresh", FRESH):
        agent.chain.wait("it", lambda: replicas(agent, deployment_id=FRESH) == 1 or None)
        return agent.call("history", deployment_id=FRESH)


@case("nothing to roll back to")
def _(agent: Agent) -> Answer:
    with sidecar(agent, "fresh", FRESH):
        agent.chain.wait("it", lambda: replicas(agent, deployment_id=FRESH) == 1 or None)
        return agent.call("rollback", deployment_id=FRESH)


@case("one of several replicas has no launcher")
def _(agent: Agent) -> Answer:
    chain = agent.chain
    try:
        with sidecar(agent, "second", "test"):
            chain.wait("two replicas", lambda: replicas(agent) == 2 or None)
            return agent.call("app_logs")
    finally:
        chain.wait("one replica", lambda: replicas(agent) == 1 or None)


@case("somebody else pushes for too long")
def _(agent: Agent) -> Answer:
    async def collide() -> Answer:
        async with agent.proxy(lease_wait=0.2) as port:
            url = f"ws://127.0.0.1:{port}"
            with sidecar(agent, "third", "test", url):
                await asyncio.to_thread(
                    agent.chain.wait, "it", lambda: replicas(agent, proxy_url=url) == 1 or None
                )
                async with agent.somebody_pushes(proxy_url=url):
                    return await agent.call_async("push_changes", change_description="x")

    return asyncio.run(collide())


@case("the proxy is lost")
def _(agent: Agent) -> Answer:
    async def leaves(peer: Peer) -> None:
        await peer.hear(GetHistory)
        await peer.websocket.close(1001)

    return from_replica(agent, leaves, "history")


@case("there is none")
def _(agent: Agent) -> Answer:
    async def is_empty(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        await peer.say(ProtocolAnswer(request=asked.request, data=b"", last=True))
        await peer.websocket.wait_closed()

    return from_replica(agent, is_empty, "app_logs")


@case("nothing is remembered of the push")
def _(agent: Agent) -> Answer:
    async def forgets(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        line = b'{"at": 1, "stream": "stdout", "push_id": "p", "text": "a line"}\n'
        data = b'{"known": false}\n' + line
        await peer.say(ProtocolAnswer(request=asked.request, data=data, last=True))
        await peer.websocket.wait_closed()

    answer = from_replica(agent, forgets, "app_logs", since_push="p9")
    assert agent.last["replicas"][0]["lines"] == ["a line"]
    assert agent.last["replicas"][0]["reason"].startswith("replica one remembers nothing of push p9")
    return answer


@case("the files change all the time")
def _(agent: Agent) -> Answer:
    """What was scanned is another file as soon as the push has begun, each time."""
    source = agent.tmp_path / "source"
    fill(source, 2)
    tree = tree_at(source)
    (source / "0.txt").write_text("changed")

    async def begun(peer: Peer) -> None:
        begin = await peer.hear(Begin)
        with (source / "0.txt").open("a") as file:
            file.write("again")
        await peer.say(Granted(push_id=begin.push_id, deployment=fakes[0].deployment))
        if fakes[0].connections == 1:
            await fakes[0].describe(peer)
        await agree_to_cancel(peer, begin.push_id)

    fakes: list[Fake] = []

    async def push() -> Answer:
        async with fake_proxy(begun, tree=tree) as fake:
            fakes.append(fake)
            agent.elsewhere(proxy_url=f"http://127.0.0.1:{fake.port}")
            return await agent.call_async("push_changes", change_description="x", app_root=str(source))

    return asyncio.run(push())


def from_replica(agent: Agent, script: Script, tool: str, **arguments: str) -> Answer:
    """Ask a proxy and a replica that say what `script` does."""

    async def ask() -> Answer:
        async with fake_proxy(script, tree=tree_at(agent.chain.source)) as fake:
            agent.elsewhere(proxy_url=f"http://127.0.0.1:{fake.port}")
            return await agent.call_async(tool, **arguments)

    return asyncio.run(ask())
