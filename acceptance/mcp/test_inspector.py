"""The inspector's command line calls each tool of a running chain, over stdio and over HTTP in both eras."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from acceptance.mcp.conftest import CODESYNC, Npm
from tests.chain.harness import APP_ID, Chain, content

OK, TOOL_ERROR = 0, 5  # the inspector's exit statuses
TOOLS = ["push_changes", "status", "app_logs", "history", "rollback"]

Inspect = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(params=["stdio-legacy", "stdio-modern", "http-legacy", "http-modern"])
def inspect(request: pytest.FixtureRequest, node: Npm, chain: Chain, mcp_url: str) -> Inspect:
    """Run the inspector with that transport and era; its exit status and result."""
    transport, era = request.param.split("-")
    if transport == "stdio":
        variables = [word for name, value in chain.environ().items() for word in ("-e", f"{name}={value}")]
        server = [*CODESYNC, "mcp", *variables, "--cwd", str(chain.source)]
    else:
        server = [mcp_url, "--transport", "http"]

    def run(method: str, *options: str) -> tuple[int, dict[str, Any]]:
        choices = ["--protocol-era", era, "--format", "json", "--method", method, *options]
        done = node.run("inspector", "--cli", *server, *choices, cwd=chain.source)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["result"]

    return run


def call(inspect: Inspect, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool that succeeds; its structured result."""
    given = ["--tool-args-json", json.dumps(arguments)] if arguments else []
    status, result = inspect("tools/call", "--tool-name", tool, *given)
    assert status == OK, result
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    found: dict[str, Any] = result["structuredContent"]
    return found


def test_the_tools_are_listed_and_their_schemas_are_portable(inspect: Inspect) -> None:
    status, result = inspect("tools/list", "--strict")
    assert status == OK
    assert [tool["name"] for tool in result["tools"]] == TOOLS


def test_each_tool_is_called_with_success(
    inspect: Inspect, chain: Chain, request: pytest.FixtureRequest
) -> None:
    text = f"seen by the inspector over {request.node.callspec.id}"
    chain.write("content.py", content(text))
    pushed = call(inspect, "push_changes", change_description=text)
    assert (pushed["status"], pushed["files"]["modified"]) == ("healthy", 1)
    assert chain.replicas["one"].ask() == text

    status = call(inspect, "status")
    assert status["app_id"] == APP_ID
    assert status["last_push"]["push_id"] == pushed["push_id"]
    assert [replica["launcher"] for replica in status["replicas"]] == ["ready"]

    (logs,) = call(inspect, "app_logs", lines=5)["replicas"]
    assert logs["id"] == status["replicas"][0]["id"]
    assert len(logs["lines"]) <= 5

    newest = call(inspect, "history")["pushes"][0]
    assert (newest["push_id"], newest["description"]) == (pushed["push_id"], text)

    back = call(inspect, "rollback", reason="enough seen")
    assert back["status"] == "healthy"
    assert chain.replicas["one"].ask() != text


def test_a_tool_error_is_one(inspect: Inspect) -> None:
    status, result = inspect("tools/call", "--tool-name", "rollback", "--tool-arg", "push_id=never-pushed")
    assert status == TOOL_ERROR
    assert result["isError"] is True
    assert "never-pushed" in result["content"][0]["text"]
