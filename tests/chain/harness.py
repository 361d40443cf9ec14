"""A whole chain of real processes on loopback: proxy, sidecars, launchers with a small application, a client.

Nothing is imitated. Waits are for events, bounded; every process ends with the test.
"""

import asyncio
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from codesync import client
from codesync.client import PushResult, StatusResult
from codesync.config import Settings
from codesync.demo.processes import Processes, sweep

T = TypeVar("T")
KEY = "a-key-for-tests"
APP_ID, DEPLOYMENT_ID = "shop", "test"

MAIN = """\
import http.server, os
import content

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = content.HEALTHY if self.path == "/health" else True
        body = content.TEXT.encode()
        self.send_response(200 if found else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def content(text: str, *, healthy: bool = True) -> str:
    return f"TEXT = {text!r}\nHEALTHY = {healthy!r}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree_of(root: Path) -> dict[str, tuple[str, bytes]]:
    """What a tree holds, without what Python and codesync add where code runs."""
    found = {}
    for directory, names, files in os.walk(root):
        names[:] = [n for n in names if n != "__pycache__" and not n.startswith(".codesync-")]
        for name in [*names, *files]:
            path = Path(directory, name)
            relative = str(path.relative_to(root))
            if relative == ".codesync-instance":
                continue
            if path.is_symlink():
                found[relative] = ("link", os.fsencode(path.readlink()))
            elif path.is_dir():
                found[relative] = ("directory", b"")
            else:
                found[relative] = ("executable" if path.stat().st_mode & 0o100 else "file", path.read_bytes())
    return found


@dataclass
class ReplicaPaths:
    """One replica: its volume, its application's directory, its port."""

    name: str
    files: Path
    app: Path
    port: int

    @property
    def current(self) -> Path:
        return self.files / "current"

    def state(self) -> dict[str, object]:
        loaded: dict[str, object] = json.loads((self.files / ".sidecar" / "state").read_bytes())
        return loaded

    def ask(self, path: str = "/") -> str | None:
        """What the application answers; None while it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return None
        finally:
            connection.close()


@dataclass
class Chain:
    """`source` is the developer's tree; `image` what a fresh container holds."""

    directory: Path
    processes: Processes
    proxy_port: int = field(default_factory=free_port)
    replicas: dict[str, ReplicaPaths] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.directory / "source"

    @property
    def image(self) -> Path:
        return self.directory / "image"

    # --- processes -------------------------------------------------------------------------------------------

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "PYTHONUNBUFFERED": "1",
            "CODESYNC_API_KEY": KEY,
            "CODESYNC_PROXY_URL": f"ws://127.0.0.1:{self.proxy_port}",
            "CODESYNC_APP_ID": APP_ID,
            "CODESYNC_DEPLOYMENT_ID": DEPLOYMENT_ID,
            **more,
        }

    def start_proxy(self) -> None:
        port, data = str(self.proxy_port), str(self.directory / "proxy")
        self._start(
            "proxy", ["proxy", "--host", "127.0.0.1", "--port", port, "--data-dir", data], self.environ()
        )
        self.wait("the proxy's /health", lambda: self.get("/health") or None)

    def add_replica(self, name: str = "one") -> ReplicaPaths:
        base = self.directory / name
        replica = ReplicaPaths(name, base / "files", base / "app", free_port())
        replica.files.mkdir(parents=True)
        shutil.copytree(self.image, replica.app, symlinks=True)
        self.replicas[name] = replica
        return replica

    def start_sidecar(self, name: str = "one") -> None:
        environ = self.environ(CODESYNC_FILES_DIR=str(self.replicas[name].files))
        self._start(f"sidecar-{name}", ["sidecar"], environ)

    def start_launcher(self, name: str = "one", *options: str, health: bool = True) -> None:
        replica = self.replicas[name]
        environ = self.environ(
            CODESYNC_FILES_DIR=str(replica.files), CODESYNC_APP_ROOT=str(replica.app), PORT=str(replica.port)
        )
        checks = ["--health", f"http://127.0.0.1:{replica.port}/health"] if health else ["--settle", "0.3"]
        command = [
            sys.executable,
            "-m",
            "codesync.launcher",
            *checks,
            *options,
            "--",
            sys.executable,
            "main.py",
        ]
        self.processes.start(f"launcher-{name}", command, environ, replica.app)

    def start(self, *names: str, health: bool = True) -> None:
        """Start everything and wait until it is ready."""
        self.start_proxy()
        for name in names or ("one",):
            self.add_replica(name)
            self.start_sidecar(name)
            self.start_launcher(name, health=health)
        self.wait_ready(len(names) or 1)

    def _start(self, name: str, arguments: list[str], environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", "codesync.cli", *arguments]
        self.processes.start(name, command, environ, self.directory)

    def kill(self, name: str) -> None:
        """SIGKILL, and with a launcher everything in its container."""
        self.processes.kill(name)
        if name.startswith("launcher-"):
            sweep(("CODESYNC_APP_ROOT", str(self.replicas[name.removeprefix("launcher-")].app)))

    def replace_container(self, name: str = "one") -> None:
        """A fresh container from the same image on the same volume."""
        replica = self.replicas[name]
        shutil.rmtree(replica.app)
        shutil.copytree(self.image, replica.app, symlinks=True)

    # --- waiting ---------------------------------------------------------------------------------------------

    def wait(self, what: str, ready: Callable[[], T | None]) -> T:
        return self.processes.wait_for(what, ready, 30.0)

    def wait_ready(self, count: int = 1) -> StatusResult:
        """Wait until so many replicas with launchers are connected."""

        def ready() -> StatusResult | None:
            with suppress(client.ClientError):
                found = self.status()
                if len(found.replicas) == count and all(r.launcher == "ready" for r in found.replicas):
                    return found
            return None

        return self.wait(f"{count} ready replicas", ready)

    def wait_answer(self, text: str, name: str = "one") -> None:
        replica = self.replicas[name]
        self.wait(f"{name} to answer {text!r}", lambda: True if replica.ask() == text else None)

    # --- the client ------------------------------------------------------------------------------------------

    def settings(self, **changes: str) -> Settings:
        values: dict[str, Any] = {
            "api_key": KEY,
            "proxy_url": f"ws://127.0.0.1:{self.proxy_port}",
            "app_id": APP_ID,
            "deployment_id": DEPLOYMENT_ID,
            "app_root": str(self.source),
            "source": "dev@laptop:/src",
            "cache_dir": str(self.directory / "cache" / "codesync"),
        }
        return Settings(**(values | changes))

    def push(self, description: str = "a change", **options: object) -> PushResult:
        return asyncio.run(client.push(self.settings(), description=description, **options))  # type: ignore[arg-type]

    def rollback(self, push_id: str | None = None) -> PushResult:
        return asyncio.run(client.rollback(self.settings(), push_id=push_id))

    def status(self) -> StatusResult:
        return asyncio.run(client.status(self.settings()))

    def command(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run `codesync …` in the source, as a user would."""
        command = [sys.executable, "-m", "codesync.cli", *arguments]
        return subprocess.run(
            command,
            cwd=self.source,
            env=self.environ(**environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy_port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    def write(self, path: str, text: str) -> None:
        """Write a file of the developer's tree."""
        target = self.source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@contextmanager
def running_chain(directory: Path) -> Iterator[Chain]:
    """An image with the small application, the same as source, and no process yet."""
    mark = ("CODESYNC_TEST", secrets.token_hex(8))
    with Processes(directory / "logs", mark) as processes:
        chain = Chain(directory, processes)
        chain.image.mkdir()
        (chain.image / "main.py").write_text(MAIN)
        (chain.image / "content.py").write_text(content("the image"))
        (chain.image / "static").mkdir()
        for number in range(5):
            (chain.image / "static" / f"{number}.txt").write_text(f"file {number}\n" * 50)
        shutil.copytree(chain.image, chain.source)
        yield chain
