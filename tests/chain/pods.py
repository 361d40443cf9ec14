"""Containers of a strict pod, for real: namespaces, users and mounts of their own, no capabilities.

Every container sees a root file system that is read-only and has no /tmp. Writable are the volume and, in the
application's container, its directory. What a container shares with others is the volume and the network.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chain.harness import Chain

REPOSITORY = Path(__file__).parents[2]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")
LAUNCHER = (sys.executable, "-m", "codesync.launcher")
DEVICES = ("null", "zero", "full", "random", "urandom")

# $1: where the root is built; $2: user; $3: group; $4: groups; $5: working directory; then paths that can be read, `--`,
# paths that can be written, `--`, the command.
CONTAINER = """\
set -eu
root=$1 user=$2 group=$3 groups=$4 directory=$5
shift 5
mount -t tmpfs -o mode=755 codesync-pod "$root"
put() {
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root$(dirname "$1")"; : > "$root$1"; fi
  mount --bind -o "$2" "$1" "$root$1"
}
while [ "$1" != -- ]; do
  if [ -L "$1" ]; then cp -d "$1" "$root$1"; elif [ -e "$1" ]; then put "$1" ro; fi
  shift
done
shift
mkdir "$root/proc"
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do put "$1" rw; shift; done
shift
mount -o remount,ro "$root"
exec "$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)" "$root" setpriv --reuid "$user" --regid "$group" --groups "$groups" --bounding-set -all --inh-caps -all \\
  --no-new-privs --pdeathsig KILL -- /bin/sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"""


@dataclass(frozen=True)
class User:
    """Whom a container runs as: user, group and supplementary groups, `fsGroup` among them."""

    uid: int
    groups: tuple[int, ...]

    @property
    def gid(self) -> int:
        return self.uid


PATIENCE = 20.0  # seconds; what takes longer is broken
SHARED = 20000
SIDECAR = User(10001, (10001, SHARED))
APPLICATION = User(10002, (10002, SHARED))


def require_root() -> None:
    """Users and namespaces can only be had as root, and a test that does not run shows nothing."""
    assert os.geteuid() == 0, "these tests imitate pods: run them as root, such as in a privileged container"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where chroot is, also for who does not look there
    tools = ("unshare", "setpriv", "mount", "chroot")
    lacking = [tool for tool in tools if shutil.which(tool, path=path) is None]
    assert not lacking, f"these tests imitate pods: install {', '.join(lacking)} (util-linux, coreutils)"


def container(
    root: Path, user: User, directory: Path, writable: Sequence[Path], command: Sequence[str]
) -> list[str]:
    """The command that runs `command` in a container of its own."""
    root.mkdir(exist_ok=True)
    readable = [str(directory)] if directory not in (Path("/"), *writable) else []
    readable += [*SYSTEM, sys.base_prefix, sys.prefix, str(REPOSITORY), *(f"/dev/{name}" for name in DEVICES)]
    groups = ",".join(map(str, user.groups))
    return [
        *("unshare", "--pid", "--fork", "--mount", "--ipc", "--kill-child"),
        *("sh", "-c", CONTAINER, "container"),
        *(str(root), str(user.uid), str(user.gid), groups, str(directory)),
        *(*dict.fromkeys(readable), "--", *map(str, writable), "--", *command),
    ]


def first_process(pid: int) -> int:
    """The first process of the container that `pid` has started, as it is numbered outside."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@dataclass
class Pod:
    """One replica of a chain as a pod: the launcher's container and the sidecar's, which may be of different users."""

    chain: Chain
    sidecar: User = SIDECAR
    application: User = APPLICATION

    def __post_init__(self) -> None:
        require_root()
        replica = self.chain.add_replica()
        self.files, self.app, self.port = replica.files, replica.app, replica.port
        self.give_volume(SHARED, 0o2770)
        self.give(self.app, self.application)

    def give_volume(self, group: int, mode: int) -> None:
        """Make the empty volume as a kubelet does: root's, of the pod's fsGroup (0: there is none)."""
        os.chown(self.files, 0, group)
        self.files.chmod(mode)

    def give(self, path: Path, user: User) -> None:
        """Make a user the owner of all below a directory, as `COPY --chown` does in an image."""
        subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", str(path)], check=True)

    def start_sidecar(self) -> None:
        environ = self.chain.environ(CODESYNC_FILES_DIR=str(self.files))
        command = [sys.executable, "-m", "codesync.cli", "sidecar"]
        arguments = container(self._root("sidecar"), self.sidecar, Path("/"), [self.files], command)
        self.chain.processes.start("sidecar-one", arguments, environ, self.chain.directory)

    def start_launcher(
        self, *options: str, launcher: Sequence[str] = LAUNCHER, read_only: bool = False
    ) -> None:
        """Start the application's container, its directory `read_only` if somebody has forgotten to mount one there."""
        settings = {"CODESYNC_FILES_DIR": str(self.files), "CODESYNC_APP_ROOT": str(self.app)}
        environ = self.chain.environ(PORT=str(self.port), **settings)
        health = () if "--health" in options else ("--health", f"http://127.0.0.1:{self.port}/health")
        command = [*launcher, *health, *options, "--", sys.executable, "main.py"]
        places = [self.files] if read_only else [self.files, self.app]
        arguments = container(self._root("launcher"), self.application, self.app, places, command)
        self.chain.processes.start("launcher-one", arguments, environ, self.chain.directory)

    def _root(self, name: str) -> Path:
        return self.chain.directory / f"root-{name}"

    def terminate(self, name: str) -> None:
        """End a container as a kubelet does: TERM to its first process. Waits until all of it is gone."""
        first = first_process(self.chain.processes.pid(name))
        os.kill(first, signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while Path(f"/proc/{first}").exists():
            assert time.monotonic() < until, f"{name} does not end"
            time.sleep(0.01)
        self.kill(name)

    def kill(self, name: str) -> None:
        """The first process dies, and with it whatever is in its namespace."""
        self.chain.processes.kill(name)

    def close(self) -> None:
        """Kill what runs, at once: what stands outside of a container passes no TERM on."""
        for name in ("launcher-one", "sidecar-one"):
            with suppress(KeyError):  # it does not run
                self.kill(name)

    def log(self, name: str) -> str:
        return self.chain.processes.log(name).read_text()

    def notes(self) -> list[str]:
        """What `status` says about this replica."""
        found = self.chain.status().replicas
        return [note for replica in found for note in replica.notes]

    def wait_note(self, text: str) -> str:
        """Wait for the note with that text: all of it."""

        def found() -> str | None:
            return next((note for note in self.notes() if text in note), None)

        return self.chain.wait(f"a note about {text!r}", found)


def without_group(user: User) -> User:
    """The same user outside the group that the pod shares."""
    return replace(user, groups=(user.gid,))
