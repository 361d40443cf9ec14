"""A container, a volume and somebody who speaks the sidecar's part of the socket, for tests of the launcher.

The launcher is a real process, the application too. The sidecar's files are written here by hand, from the layout in
docs/launcher-socket.md, so that the tests hold the launcher to the page and not to our other half.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 20.0  # seconds; what takes longer is broken
MARK = ".codesync-instance"

Files = Mapping[str, bytes | str | None]  # path -> content; str: a symlink's target; None: a directory
Message = dict[str, Any]


def b64(path: str | bytes) -> str:
    return base64.b64encode(os.fsencode(path)).decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def with_parents(files: Files) -> dict[str, bytes | str | None]:
    """The same with an entry for every directory on the way."""
    full = dict(files)
    for path in files:
        for parent in list(Path(path).parents)[:-1]:
            full.setdefault(str(parent), None)
    return full


def entries(files: Files, mtime_ns: int = 1_700_000_000_000_000_000) -> list[list[Any]]:
    """The manifest's entries of such a tree; scripts are executable."""
    rows: list[list[Any]] = []
    for path, content in sorted(with_parents(files).items(), key=lambda item: os.fsencode(item[0])):
        if content is None:
            rows.append([b64(path), "d", 0o755, 0, 0, ""])
        elif isinstance(content, str):
            rows.append([b64(path), "l", 0o777, 0, 0, b64(content)])
        else:
            mode = 0o755 if path.endswith(".sh") else 0o644
            rows.append([b64(path), "f", mode, mtime_ns, len(content), sha256(content)])
    return rows


def name_of(files: Files) -> str:
    """A name for a tree: the launcher repeats such names and never computes them."""
    return sha256(json.dumps([[row[0], row[1], row[5]] for row in entries(files)]).encode())


def write_tree(root: Path, files: Files) -> None:
    for path, content in sorted(with_parents(files).items()):
        target = root / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        elif isinstance(content, str):
            target.symlink_to(content)
        else:
            target.write_bytes(content)
            target.chmod(0o755 if path.endswith(".sh") else 0o644)
            os.utime(target, ns=(1_700_000_000_000_000_000,) * 2)


def read_tree(root: Path) -> dict[str, bytes | str | None]:
    """Everything below `root` but the mark."""
    found: dict[str, bytes | str | None] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = str(path.readlink())
            elif path.is_dir():
                found[key] = None
            elif key != MARK:
                found[key] = path.read_bytes()
    return found


def changes(old: Files, new: Files) -> list[tuple[Message, bytes | None]]:
    """Changes from one tree to another, as in a plan, each with its content if it is a file."""
    before, after = with_parents(old), with_parents(new)
    found: list[tuple[Message, bytes | None]] = [
        (_change(path, "delete"), None) for path in sorted(before, reverse=True) if path not in after
    ]
    for row in entries(after):
        path = os.fsdecode(base64.b64decode(row[0]))
        content = after[path]
        if path in before and before[path] == content:
            continue
        if isinstance(content, bytes):
            found.append(
                (
                    _change(path, "file", mode=row[2], mtime_ns=row[3], size=len(content), digest=row[5]),
                    content,
                )
            )
        elif isinstance(content, str):
            found.append((_change(path, "symlink", target=content), None))
        else:
            found.append((_change(path, "directory", mode=0o755), None))
    return found


def _change(
    path: str,
    kind: str,
    *,
    mode: int | None = None,
    mtime_ns: int | None = None,
    size: int = 0,
    digest: str = "",
    target: str = "",
) -> Message:
    return {
        "path": b64(path),
        "kind": kind,
        "mode": mode,
        "mtime_ns": mtime_ns,
        "size": size,
        "sha256": digest,
        "target": b64(target),
    }


class Volume:
    """The sidecar's files on the volume."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sidecar = root / ".sidecar"
        self.launcher = root / ".launcher"
        self.state: Message = {"version": 1, "committed": None, "trial": None, "image": "", "gen0": ""}
        root.mkdir(parents=True, exist_ok=True)

    def write_state(self, **changed: Any) -> None:
        self.state.update(changed)
        self._write(".sidecar/state", json.dumps(self.state).encode())

    def write_manifest(self, files: Files) -> str:
        tree_id = name_of(files)
        manifest = {"version": 1, "tree_id": tree_id, "entries": entries(files)}
        self._write(f".sidecar/manifest/{tree_id}.json", json.dumps(manifest).encode())
        return tree_id

    def commit(self, files: Files, push_id: str, generation: int = 1) -> str:
        """Make it the committed tree, as a sidecar does after a keep."""
        tree_id = self.write_manifest(files)
        current = self.root / "current"
        if current.exists():
            subprocess.run(["rm", "-rf", current], check=True)
        current.mkdir()
        write_tree(current, files)
        self.write_state(committed={"tree_id": tree_id, "push_id": push_id, "generation": generation})
        return tree_id

    def plan(
        self,
        push_id: str,
        old: Files,
        new: Files,
        base: str | None = None,
        *,
        hooks: Sequence[Message] = (),
        generation: int = 1,
    ) -> str:
        """Put a trial on the volume: its target."""
        target = self.write_manifest(new)
        rows = []
        for number, (row, content) in enumerate(changes(old, new)):
            if content is not None:
                self._write(f".sidecar/trial/files/{number}", content)
            rows.append(row if content is None else {**row, "file": f"files/{number}"})
        base = name_of(old) if base is None else base
        plan = {
            "version": 1,
            "push_id": push_id,
            "base": base,
            "target": target,
            "generation": generation,
            "hooks": list(hooks),
            "changes": rows,
        }
        self._write(".sidecar/trial/plan.json", json.dumps(plan).encode())
        return target

    def _write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        draft.write_bytes(data)
        draft.replace(path)

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_bytes())


class Peer:
    """The sidecar's end of the socket."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._socket = self._connect()
        self._socket.settimeout(PATIENCE)
        self._lines = self._socket.makefile("rb")
        self.heard: list[Message] = []

    def _connect(self) -> socket.socket:
        until = time.monotonic() + PATIENCE
        while True:
            peer = socket.socket(socket.AF_UNIX)
            try:
                with open_directory(self._volume.launcher) as directory:
                    peer.connect(f"/proc/self/fd/{directory}/launcher.sock")
                return peer
            except (FileNotFoundError, ConnectionRefusedError):
                peer.close()
                assert time.monotonic() < until, "no launcher listens"
                time.sleep(0.005)

    def say(self, kind: str, **fields: Any) -> None:
        self._socket.sendall(json.dumps({"type": kind, **fields}).encode() + b"\n")

    def say_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def greet(self) -> Message:
        """Exchange hellos; the launcher's."""
        committed = self._volume.state["committed"]
        self.say("hello", version=1, committed=committed)
        return self.hear("hello")

    def next(self) -> Message | None:
        """The next message, whatever it is; None at the end."""
        line = self._lines.readline()
        if not line:
            return None
        message: Message = json.loads(line)
        self.heard.append(message)
        return message

    def hear(self, kind: str, **fields: Any) -> Message:
        """Wait for a message of that type and with those fields; the others are passed over (`heard` has them)."""
        while message := self.next():
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message
        raise AssertionError(f"the launcher left without {kind} {fields}; it said {self.heard}")

    def hear_app(self, *states: str) -> Message:
        """Wait for the application to be in one of the states."""
        while True:
            app: Message = self.hear("app")["app"]
            if app["state"] in states:
                return app

    def push(self, push_id: str, old: Files, new: Files, deadline_s: float = 30) -> Message:
        """Have a push tried: the verdict."""
        self._volume.plan(push_id, old, new)
        self.say("try", push_id=push_id, deadline_s=deadline_s)
        return self.hear("verdict", push_id=push_id)

    def keep(self, push_id: str, new: Files) -> None:
        """Commit it and have it kept."""
        self._volume.commit(new, push_id)
        self.say("keep", push_id=push_id)
        self.hear("kept", push_id=push_id)

    def adopt(self) -> str:
        """Take generation 0 over, as a sidecar does: its tree_id."""
        record = self._volume.json(".launcher/gen0.json")
        files: dict[str, bytes | str | None] = {}
        for path, kind, *_, last, file in record["entries"]:
            name = os.fsdecode(base64.b64decode(path))
            if kind == "f":
                files[name] = (self._volume.launcher / "gen0" / file).read_bytes()
                assert sha256(files[name]) == last  # type: ignore[arg-type]
            else:
                files[name] = os.fsdecode(base64.b64decode(last)) if kind == "l" else None
        self._volume.write_state(image=record["image"], gen0=name_of(files))
        tree_id = self._volume.commit(files, "", 0)
        self.say("adopted", tree_id=tree_id)
        return tree_id

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


class Container:
    """A directory for the application and a launcher in front of it."""

    def __init__(self, directory: Path, image: Files, volume: Volume) -> None:
        self.root = directory / "app"
        self.volume = volume
        self.out = directory / "out"
        self.err = directory / "err"
        self.process: subprocess.Popen[bytes] | None = None
        self._peers: list[Peer] = []
        directory.mkdir(parents=True)
        self.root.mkdir()
        write_tree(self.root, image)

    def start(
        self,
        *command: str,
        health: str = "",
        settle: float = 0.05,
        options: tuple[str, ...] = (),
        launcher: tuple[str, ...] = (sys.executable, "-m", "codesync.launcher"),
        env: Mapping[str, str] = {},
    ) -> None:
        """Start the launcher; the command defaults to the tree's run.sh."""
        checks = ("--health", health) if health else ()
        arguments = [*launcher, "--settle", str(settle), *checks, *options, "--", *(command or ("./run.sh",))]
        names = {"CODESYNC_FILES_DIR": str(self.volume.root), "CODESYNC_APP_ROOT": str(self.root)}
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen(
                arguments,
                cwd=self.root,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **names, **env},
            )

    def peer(self) -> Peer:
        peer = Peer(self.volume)
        self._peers.append(peer)
        return peer

    def connect(self) -> tuple[Peer, Message]:
        """A sidecar that has said hello, and what the launcher said."""
        peer = self.peer()
        return peer, peer.greet()

    def connect_ready(self) -> Peer:
        """A sidecar that has taken generation 0 over."""
        peer, hello = self.connect()
        if hello["gen0"] == "copying":
            peer.hear("gen0", state="ready")
        if hello["gen0"] != "none":
            peer.adopt()
        return peer

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """The launcher's exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def crash(self) -> None:
        """Kill the launcher with all that runs in the container, as the end of a container does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)
        self.kill_application()

    def kill_application(self) -> None:
        """Kill whatever has this container's environment: the kernel does that when a container's first process ends."""
        mine = f"CODESYNC_APP_ROOT={self.root}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)

    def status(self) -> Message:
        status: Message = self.volume.json(".launcher/app.status")
        return status

    def applied(self) -> Message:
        applied: Message = self.volume.json(".launcher/applied")
        return applied

    def tree(self) -> dict[str, bytes | str | None]:
        return read_tree(self.root)

    def holds(self, files: Files) -> bool:
        """Whether the application's directory is exactly that, and nothing of a transaction is left."""
        return self.tree() == with_parents(files)

    def wait_for_output(self, text: bytes, *, err: bool = False) -> bytes:
        """Everything on stdout (or stderr), once `text` is in it."""
        until = time.monotonic() + PATIENCE
        path = self.err if err else self.out
        while text not in (found := path.read_bytes() if path.exists() else b""):
            assert time.monotonic() < until, (
                f"no {text!r} in {found[-2000:]!r}; stderr: {self.err.read_bytes()[-3000:]!r}"
            )
            time.sleep(0.005)
        return found

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.kill_application()


class World:
    """Containers that come and go, one volume that stays."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.volume = Volume(directory / "volume")
        self.containers: list[Container] = []

    def container(self, image: Files, volume: Volume | None = None) -> Container:
        made = Container(self._directory / f"c{len(self.containers)}", image, volume or self.volume)
        self.containers.append(made)
        return made

    def close(self) -> None:
        for container in self.containers:
            container.close()
