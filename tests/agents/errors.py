"""What prevents an answer."""

import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.agents.agent import Agent, Answer, case

# --- guards --------------------------------------------------------------------------------------------------------


@case("another source pushed")
def _(agent: Agent) -> Answer:
    agent.elsewhere(source="eve@desk:/src")
    agent.edit()
    return agent.push()


@case("most of the tree would go")
def _(agent: Agent) -> Answer:
    for number in range(40):
        agent.chain.write(f"pages/{number}.html", f"page {number}")
    assert agent.push().word == "healthy"
    shutil.rmtree(agent.chain.source / "pages")
    try:
        return agent.push()
    finally:
        assert agent.push(allow_mass_delete=True).word == "healthy"


@case("the directory is empty")
def _(agent: Agent) -> Answer:
    return agent.push(app_root=str(agent.tmp_path))


@case("much to send")
def _(agent: Agent) -> Answer:
    large = agent.chain.source / "large.bin"
    large.write_bytes(os.urandom(65 * 2**20))
    try:
        return agent.push()
    finally:
        large.unlink()


@case("installed dependencies")
def _(agent: Agent) -> Answer:
    agent.chain.write("node_modules/left-pad/index.js", "")
    try:
        return agent.push()
    finally:
        shutil.rmtree(agent.chain.source / "node_modules")


@case("a file in a directory's place")
def _(agent: Agent) -> Answer:
    """The directory came with the image, so that its other files were never pushed."""
    directory = agent.chain.source / "static"
    aside = agent.tmp_path / "static"
    agent.chain.write(".gitignore", "static/0.txt\n")
    shutil.move(directory, aside)
    agent.chain.write("static", "a file")
    try:
        return agent.push()
    finally:
        directory.unlink()
        shutil.move(aside, directory)
        (agent.chain.source / ".gitignore").unlink()


# --- the deployment ------------------------------------------------------------------------------------------------


@case("no sidecar")
def _(agent: Agent) -> Answer:
    return agent.push(deployment_id="tset")


@case("rollback to a push that is not remembered")
def _(agent: Agent) -> Answer:
    return agent.call("rollback", push_id="never-pushed")


@case("rollback to no push_id")
def _(agent: Agent) -> Answer:
    return agent.call("rollback", push_id="the one before")


@case("logs of a replica without a launcher")
def _(agent: Agent) -> Answer:
    (replica,) = agent.chain.status().replicas
    with agent.launcher(running=False):
        return agent.call("app_logs", replica=replica.id)


@case("nobody to look at")
def _(agent: Agent) -> Answer:
    return agent.call("history", deployment_id="tset")


@case("logs since no push_id")
def _(agent: Agent) -> Answer:
    return agent.call("app_logs", since_push="the last one")


@case("logs of an unknown replica")
def _(agent: Agent) -> Answer:
    return agent.call("app_logs", replica="three")


# --- the proxy and the settings ------------------------------------------------------------------------------------


@case("no proxy")
def _(agent: Agent) -> Answer:
    agent.elsewhere(proxy_url="ws://127.0.0.1:9")
    return agent.call("status")


@case("not a codesync proxy")
def _(agent: Agent) -> Answer:
    class Other(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever).start()
        agent.elsewhere(proxy_url=f"http://127.0.0.1:{server.server_port}")
        try:
            return agent.call("status")
        finally:
            server.shutdown()


@case("the key is wrong")
def _(agent: Agent) -> Answer:
    agent.elsewhere(api_key="wrong")
    return agent.push()


@case("the key is missing")
def _(agent: Agent) -> Answer:
    agent.elsewhere(api_key="")
    return agent.push()


@case("the key is missing, and the proxy is elsewhere")
def _(agent: Agent) -> Answer:
    agent.elsewhere(api_key="", proxy_url="https://proxy.example.com")
    return agent.push()


@case("no settings")
def _(agent: Agent) -> Answer:
    agent.elsewhere(app_id="", deployment_id="", proxy_url="")
    return agent.push()


@case("no project, and a directory that is none")
def _(agent: Agent) -> Answer:
    agent.monkeypatch.chdir("/")
    return agent.push()


@case("app_root is wrong")
def _(agent: Agent) -> Answer:
    return agent.push(app_root="/nowhere")


@case("an id is malformed")
def _(agent: Agent) -> Answer:
    return agent.push(app_id="my shop")


@case("the URL is malformed")
def _(agent: Agent) -> Answer:
    agent.elsewhere(proxy_url="proxy")
    return agent.push()


@case("the project file is no JSON")
def _(agent: Agent) -> Answer:
    agent.chain.write(".codesync.json", "{")
    return agent.push()


@case("a key in the project file")
def _(agent: Agent) -> Answer:
    agent.chain.write(".codesync.json", '{"api_key": "secret"}')
    return agent.push()


@case("a hook is malformed")
def _(agent: Agent) -> Answer:
    agent.hooks('[{"when": "*", "run": "true"}]')
    return agent.push()


# --- the call ------------------------------------------------------------------------------------------------------


@case("an argument that the tool does not have")
def _(agent: Agent) -> Answer:
    return agent.push(dryrun=True)


@case("an argument is missing or of the wrong kind")
def _(agent: Agent) -> Answer:
    return agent.call("push_changes")


@case("a description without end")
def _(agent: Agent) -> Answer:
    return agent.push(change_description="a change " * 10_000)


@case("a tool that is none")
def _(agent: Agent) -> Answer:
    return agent.call("deploy")


@case("a defect of codesync")
def _(agent: Agent) -> Answer:
    def broken() -> str:
        raise RuntimeError

    with agent.monkeypatch.context() as patch:
        patch.setattr(os, "getcwd", broken)
        return agent.call("status")
