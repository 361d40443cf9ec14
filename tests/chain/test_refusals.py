"""What is refused: a one-line error that says what to do next, exit status 1, an MCP tool error."""

import sys

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from codesync import client
from tests.chain.harness import Chain, content


def refused(chain: Chain, *arguments: str, **environ: str) -> str:
    """Run the command and return its last line on stderr; before that there is progress at most."""
    done = chain.command(*arguments, **environ)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("codesync: ")
    return line


def test_a_wrong_key_is_refused(chain: Chain) -> None:
    chain.start_proxy()
    assert "CODESYNC_API_KEY" in refused(chain, "push", "-m", "x", CODESYNC_API_KEY="wrong")
    assert "CODESYNC_API_KEY" in refused(chain, "status", CODESYNC_API_KEY="wrong")


def test_no_key_is_refused(chain: Chain) -> None:
    chain.start_proxy()
    assert "CODESYNC_API_KEY" in refused(chain, "push", "-m", "x", CODESYNC_API_KEY="")


def test_a_sidecar_with_a_wrong_key_ends_with_one_line(chain: Chain) -> None:
    chain.start_proxy()
    chain.add_replica()
    files = str(chain.replicas["one"].files)
    line = refused(chain, "sidecar", CODESYNC_API_KEY="wrong", CODESYNC_FILES_DIR=files)
    assert "CODESYNC_API_KEY" in line


def test_a_deployment_without_a_sidecar_is_named(chain: Chain) -> None:
    chain.start_proxy()
    line = refused(chain, "push", "-m", "x")
    assert "no sidecar" in line
    assert "shop" in line


def test_an_unknown_deployment_is_told_with_those_that_are_there(chain: Chain) -> None:
    chain.start()
    line = refused(chain, "push", "-m", "x", CODESYNC_DEPLOYMENT_ID="tset")
    assert "tset" in line
    assert "no sidecar" in line


def test_a_proxy_that_is_not_there_is_named(chain: Chain) -> None:
    assert "codesync proxy" in refused(chain, "status")


def test_a_conflict_names_the_other_source_and_take_over_replaces_it(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("mine"))
    assert chain.push().status == "healthy"
    chain.write("content.py", content("yours"))
    line = refused(chain, "push", "-m", "x", CODESYNC_SOURCE="eve@desk:/src")
    assert "dev@laptop:/src" in line
    assert "take" in line
    done = chain.command("push", "-m", "x", "--take-over", CODESYNC_SOURCE="eve@desk:/src")
    assert done.returncode == 0, done.stderr
    assert chain.replicas["one"].ask() == "yours"


def test_a_mass_delete_is_refused_until_it_is_meant(chain: Chain) -> None:
    chain.start()
    for number in range(40):
        chain.write(f"pages/{number}.html", f"page {number}")
    chain.push()
    for number in range(40):
        (chain.source / "pages" / f"{number}.html").unlink()
    (chain.source / "pages").rmdir()
    assert "deletes 41 of" in refused(chain, "push", "-m", "x", CODESYNC_SOURCE="dev@laptop:/src")
    assert chain.push(allow_mass_delete=True).status == "healthy"
    assert not (chain.replicas["one"].app / "pages").exists()


def test_two_pushes_at_once_take_turns(chain: Chain) -> None:
    import asyncio

    chain.start()
    chain.write("content.py", content("together"))

    async def both() -> list[str]:
        pushes = [client.push(chain.settings(), description="x") for _ in range(2)]
        return [result.status for result in await asyncio.gather(*pushes)]

    assert sorted(asyncio.run(both())) == ["healthy", "no_changes"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "expected"), [("wrong", "CODESYNC_API_KEY"), ("a-key-for-tests", "no sidecar")]
)
async def test_refusals_are_errors_of_the_tool(chain: Chain, key: str, expected: str) -> None:
    chain.start_proxy()
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "codesync.cli", "mcp"],
        env=chain.environ(CODESYNC_API_KEY=key),
        cwd=chain.source,
    )
    async with Client(server) as mcp:
        result = await mcp.call_tool("push_changes", {"change_description": "x"})
    assert result.is_error
    text = "".join(getattr(block, "text", "") for block in result.content)
    assert expected in text
    assert "\n" not in text.strip()
