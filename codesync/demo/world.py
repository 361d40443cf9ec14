"""Everything the demo needs around the pushes: directories, keys, ports, the four parts as processes.

The layout is that of a real deployment. `image/` is the container's application directory, `source/` the developer's,
`volume/` what sidecar and launcher share.
"""

import json
import re
import secrets
import shutil
import socket
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from codesync.config import bare_environment, write_project
from codesync.demo.processes import Processes

APP_ID, DEPLOYMENT_ID = "shop", "demo"
_PYTHON = [sys.executable, "-P"]  # nothing is imported from where a process happens to start
_LISTENING = re.compile(rb"proxy listening on (http://\S+)")


class World:
    """The directories below `root`, and what runs on them after `start`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.processes = Processes(root / "logs", ("CODESYNC_DEMO", str(root)))
        self.key = secrets.token_urlsafe(24)
        self.proxy_url = ""
        self.app_url = ""

    def start(self) -> None:
        """Start proxy, sidecar and launcher, and wait until a push can be made. Raises DemoError."""
        self._lay_out()
        self._start_proxy()
        remote = {"CODESYNC_APP_ID": APP_ID, "CODESYNC_DEPLOYMENT_ID": DEPLOYMENT_ID}
        volume = {"CODESYNC_FILES_DIR": str(self.root / "volume")}
        sidecar = self.environment() | remote | volume
        self.processes.start("sidecar", [*_PYTHON, "-m", "codesync.cli", "sidecar"], sidecar, self.root)
        self._start_launcher(bare_environment() | volume)
        self.wait_for_application()
        self.processes.wait_for("a sidecar at the proxy", self._replica)

    def _lay_out(self) -> None:
        with as_file(files("codesync.demo").joinpath("demo-app")) as application:
            for name in ("image", "source"):
                shutil.copytree(application, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("volume", "proxy", "home"):
            (self.root / name).mkdir()
        write_project(str(self.source), {"app_id": APP_ID, "deployment_id": DEPLOYMENT_ID})

    def _start_proxy(self) -> None:
        command = [
            "codesync.cli",
            "proxy",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--data-dir",
            str(self.root / "proxy"),
        ]
        environment = bare_environment() | {"CODESYNC_API_KEY": self.key}
        self.processes.start("proxy", [*_PYTHON, "-m", *command], environment, self.root)
        log = self.processes.log("proxy")
        found = self.processes.wait_for("the proxy to listen", lambda: _LISTENING.search(log.read_bytes()))
        self.proxy_url = found[1].decode()

    def _start_launcher(self, environment: dict[str, str]) -> None:
        port = _free_port()
        self.app_url = f"http://127.0.0.1:{port}"
        launcher = ["codesync.launcher", "--health", f"{self.app_url}/health", "--stop-timeout", "3", "--"]
        serve = [sys.executable, "-m", "uvicorn", "--port", str(port), "--lifespan", "off", "--no-access-log"]
        image = self.root / "image"
        environment |= {"CODESYNC_APP_ROOT": str(image)}
        self.processes.start(
            "launcher", [*_PYTHON, "-m", *launcher, *serve, "shop.app:app"], environment, image
        )

    def environment(self) -> dict[str, str]:
        """What a developer sets: where the proxy is, and the key. HOME is the demo's, nothing is left in the user's."""
        home = {"HOME": str(self.root / "home"), "XDG_CACHE_HOME": str(self.root / "home/.cache")}
        return (
            bare_environment() | home | {"CODESYNC_API_KEY": self.key, "CODESYNC_PROXY_URL": self.proxy_url}
        )

    def mcp_command(self) -> list[str]:
        """The MCP server, as an MCP client's configuration would start it."""
        return [*_PYTHON, "-m", "codesync.cli", "mcp"]

    def wait_for_application(self) -> None:
        """Wait until it answers. Raises DemoError."""
        self.processes.wait_for("the application to answer", lambda: self.get("/health"))

    def get(self, path: str) -> Any:
        """Ask the application: its answer, an HTTP status that is not 200, or None where nothing answers."""
        return _get(f"{self.app_url}{path}")

    def _replica(self) -> Any:
        ready = _get(f"{self.proxy_url}/api/v1/push/ide/{APP_ID}/{DEPLOYMENT_ID}/ready", key=self.key)
        return ready if isinstance(ready, dict) and ready["ready"] else None


def _get(url: str, *, key: str = "") -> Any:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", parts.path, headers={"X-Api-Key": key} if key else {})
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == HTTPStatus.OK else answer.status
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
