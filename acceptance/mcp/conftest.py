"""What the MCP tests share: npm's programs, and one chain with an MCP server on HTTP before it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from acceptance import npm
from tests.chain.harness import Chain, free_port, running_chain

CODESYNC = [sys.executable, "-m", "codesync.cli"]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Npm:
    """Runs npm's programs; `home` is where they may leave what they like."""

    home: Path

    def run(self, *command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env=npm.environ(HOME=str(self.home), NO_COLOR="1"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Npm:
    """Programs of npm, installed."""
    npm.install()
    return Npm(tmp_path_factory.mktemp("node-home"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A running chain."""
    with running_chain(tmp_path_factory.mktemp("chain")) as chain:
        chain.start()
        yield chain
        print(chain.processes.tails())


@pytest.fixture(scope="module")
def mcp_url(chain: Chain) -> str:
    """Where `codesync mcp --http` serves, started in the chain's source."""
    port = free_port()
    command = [*CODESYNC, "mcp", "--http", f"127.0.0.1:{port}"]
    chain.processes.start("mcp", command, chain.environ(), chain.source)
    url = f"http://127.0.0.1:{port}/mcp"
    chain.wait("the MCP server", lambda: True if listening(port) else None)
    return url
