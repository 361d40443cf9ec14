"""A chain whose application is somebody else's: how that is run, what it is changed to, what it answers."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from codesync.demo.processes import Processes
from tests.chain.harness import Chain, tree_of

HEALTH_SECONDS = 3  # what hangs costs as much; every application here is up well before
STOP_SECONDS = 1  # what hangs does not hear TERM either


@dataclass(frozen=True)
class App:
    """One application. `{port}` stands for the port that it is to listen on.

    command: what the launcher runs.
    health: the path of its check, whose answer tells which code runs; "" is none.
    kept: names at the root of its tree that a push does not carry.
    options: more for the launcher.
    """

    command: tuple[str, ...]
    health: str = ""
    kept: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()


@dataclass
class AppChain(Chain):
    """Its launcher runs `app`, brought in by `reload`."""

    app: App = field(default_factory=lambda: App(()))
    reload: str = "restart"
    health_seconds: float = HEALTH_SECONDS

    def start_launcher(self, name: str = "one", *options: str, health: bool = True) -> None:
        """Start the container of a replica."""
        replica = self.replicas[name]
        port = str(replica.port)
        given = ["--reload", self.reload, "--stop-timeout", str(STOP_SECONDS), *self.app.options, *options]
        if self.reload == "blue-green":
            given += ["--listen", f"127.0.0.1:{port}"]
            port = "{port}"  # the launcher's to fill in
        if self.app.health:
            url = f"http://127.0.0.1:{port}{self.app.health}"
            given += ["--health", url, "--health-timeout", str(self.health_seconds)]
        command = [word.replace("{port}", port) for word in self.app.command]
        environ = self.environ(CODESYNC_FILES_DIR=str(replica.files), CODESYNC_APP_ROOT=str(replica.app))
        launcher = [sys.executable, "-P", "-m", "codesync.launcher", *given, "--", *command]
        self.processes.start(f"launcher-{name}", launcher, environ, replica.app)

    def checked_at(self, name: str = "one") -> str:
        """The check as results name it."""
        return f"http://127.0.0.1:{self.replicas[name].port}{self.app.health}"

    def answer(self, name: str = "one") -> str:
        """What the application answers; "" while it does not."""
        return self.replicas[name].ask(self.app.health) or ""

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands once in a file of the source."""
        text = (self.source / path).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def tree(self, root: Path) -> dict[str, tuple[str, bytes]]:
        """What `root` holds of what pushes carry."""
        return {path: what for path, what in tree_of(root).items() if path.split("/")[0] not in self.app.kept}


@contextmanager
def running_app(
    directory: Path, image: Path, app: App, reload: str = "restart", health_seconds: float = HEALTH_SECONDS
) -> Iterator[AppChain]:
    """A running chain with one replica of the image `image`; the developer has it too, without what pushes do not carry."""
    mark = ("CODESYNC_TEST", token_hex(8))
    with Processes(directory / "logs", mark) as processes:
        chain = AppChain(directory, processes, app=app, reload=reload, health_seconds=health_seconds)
        shutil.copytree(image, chain.image, symlinks=True)
        shutil.copytree(
            image, chain.source, symlinks=True, ignore=lambda at, _: app.kept if Path(at) == image else ()
        )
        try:
            chain.start()
            if app.health:
                chain.wait("the application's first answer", lambda: chain.answer() or None)
            yield chain
        except BaseException:  # whatever it is, the logs help
            print(processes.tails())
            raise
