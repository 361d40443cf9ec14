"""Trees as plain values: build one on disk, read one back, and the changes from one to another."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import pytest

from codesync.transaction import ATTRIBUTES, DELETE, DIRECTORY, FILE, SYMLINK, Change, Transaction

LONG_AGO = 1_000_000_000_000_000_000  # ns
NOBODY = 65534


class Node(NamedTuple):
    """One path: kind "f", "d" or "l", permission bits, mtime in ns, content or link target."""

    kind: str
    mode: int = 0
    mtime: int = LONG_AGO
    data: bytes = b""


Tree = dict[bytes, Node]


def file(data: bytes = b"", mode: int = 0o644, mtime: int = LONG_AGO) -> Node:
    return Node("f", mode, mtime, data)


def directory(mode: int = 0o755, mtime: int = LONG_AGO) -> Node:
    return Node("d", mode, mtime)


def link(target: bytes, mtime: int = LONG_AGO) -> Node:
    return Node("l", 0o777, mtime, target)


@contextlib.contextmanager
def place() -> Iterator[bytes]:
    """An empty directory that is open to every user, in memory where that is possible: it is built in very often."""
    memory = "/dev/shm"
    where = tempfile.mkdtemp(prefix="codesync-test-", dir=memory if os.access(memory, os.W_OK) else None)
    if os.getuid() == 0:
        os.chown(where, NOBODY, NOBODY)
    try:
        yield os.fsencode(where)
    finally:
        shutil.rmtree(where)


def build(root: bytes, tree: Tree) -> None:
    """Make `root` that tree; b"" in it is the root itself."""
    os.makedirs(root, exist_ok=True)
    for path in sorted(tree, key=lambda p: p.split(b"/")):
        node, where = tree[path], os.path.join(root, path)
        if node.kind == "d":
            os.makedirs(where, exist_ok=True)
        elif node.kind == "l":
            os.symlink(node.data, where)
        else:
            with open(where, "wb") as out:
                out.write(node.data)
    for path in sorted(tree, key=lambda p: p.split(b"/"), reverse=True):
        node, where = tree[path], os.path.join(root, path)
        if node.kind != "l":
            os.chmod(where, node.mode)
        os.utime(where, ns=(node.mtime, node.mtime), follow_symlinks=False)


def read(root: bytes) -> Tree:
    """The tree at `root`, however deep, with all mode bits."""
    tree: Tree = {}
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    status = os.fstat(fd)
    tree[b""] = Node("d", stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    _read(fd, b"", tree)
    return tree


def _read(fd: int, prefix: bytes, tree: Tree) -> None:
    for name in map(os.fsencode, os.listdir(fd)):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        mode, mtime, path = stat.S_IMODE(status.st_mode), status.st_mtime_ns, prefix + name
        if stat.S_ISDIR(status.st_mode):
            tree[path] = Node("d", mode, mtime)
            _read(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd), path + b"/", tree)
        elif stat.S_ISLNK(status.st_mode):
            tree[path] = Node("l", mode, mtime, os.readlink(name, dir_fd=fd))
        elif stat.S_ISREG(status.st_mode):
            tree[path] = Node("f", mode, mtime, _content(fd, name, mode))
        else:
            tree[path] = Node("special", mode, mtime)
    os.close(fd)


def _content(directory: int, name: bytes, mode: int) -> bytes:
    if not mode & 0o400:
        os.chmod(name, mode | 0o400, dir_fd=directory)
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as content:
        data = content.read()
    if not mode & 0o400:
        os.chmod(name, mode, dir_fd=directory)
    return data


def without_mtimes(tree: Tree) -> Tree:
    return {path: node._replace(mtime=0) for path, node in tree.items()}


def without_root(tree: Tree) -> Tree:
    return {path: node for path, node in tree.items() if path}


def put(path: bytes, node: Node) -> Change:
    """The change that puts a node at a path."""
    if node.kind == "d":
        return Change(path, DIRECTORY, node.mode, node.mtime)
    if node.kind == "l":
        return Change(path, SYMLINK, None, node.mtime, target=node.data)
    return Change(path, FILE, node.mode, node.mtime, len(node.data), hashlib.sha256(node.data).hexdigest())


def difference(old: Tree, new: Tree) -> list[tuple[Change, bytes]]:
    """The changes (and the content of files) that make `old` exactly `new`, directories' mtimes too."""
    changes = [(Change(path, DELETE), b"") for path in old if path not in new]
    for path, node in new.items():
        before = old.get(path)
        if before is None or (before.kind, before.data) != (node.kind, node.data):
            changes.append((put(path, node), node.data))
        elif before != node or node.kind == "d":
            changes.append((Change(path, ATTRIBUTES, node.mode, node.mtime), b""))
    return changes


def stage(transaction: Transaction, changes: list[tuple[Change, bytes]]) -> None:
    for change, data in changes:
        if change.kind == FILE:
            transaction.copy(change, io.BytesIO(data))
        else:
            transaction.add(change)


def staged(root: bytes, old: Tree, new: Tree, id: str = "t", durable: bool = False) -> Transaction:
    """A transaction that has everything to make `old` `new`."""
    transaction = Transaction.begin(root, id, durable)
    try:
        stage(transaction, difference(old, new))
    except BaseException:
        transaction.undo()
        raise
    return transaction


def stagings_in(root: bytes) -> list[bytes]:
    return [name for name in os.listdir(root) if name.startswith(b".codesync-")]


# ---- other processes

OPEN = os.open
WRITING: tuple[str, ...] = (
    "open",
    "mkdir",
    "rename",
    "link",
    "symlink",
    "unlink",
    "rmdir",
    "chmod",
    "fchmod",
    "chown",
    "utime",
)
WRITING += ("fsync", "write")
READING = ("fstat", "stat", "listdir")


class Counter:
    """Wraps the os module's functions: before each of `many` calls from number `at` on it does `act`."""

    def __init__(self, at: int, act: Callable[[], None], *, many: int = 1, reading: bool = False) -> None:
        self.calls = 0
        self._chosen = range(at, at + many)
        self._act, self._reading = act, reading

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in WRITING + READING if self._reading else WRITING:
                patch.setattr(os, name, self._wrap(getattr(os, name)))
            yield

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._reading or call is not OPEN or args[1] & os.O_CREAT:
                self.calls += 1
                if self.calls in self._chosen:
                    self._act()
            return call(*args, **kwargs)

        return counted


FOREVER = 1 << 60


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies just before its system call number `step`; False when it has fewer."""

    def run() -> None:
        with Counter(step, kill_oneself).installed():
            action()

    status = in_child(run)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed, see its traceback"
    return False


class Dead(BaseException):
    """A process that makes no system call any more."""


def dead_at(step: int, action: Callable[[], object]) -> bool:
    """`killed_at` without a process: from call number `step` on nothing is written any more. Much faster."""

    def die() -> None:
        raise Dead

    with Counter(step, die, many=FOREVER).installed(), contextlib.suppress(Dead):
        action()
        return False
    return True


def as_nobody(action: Callable[[], object]) -> None:
    """Run `action` without root's powers (as ourselves, if we have none)."""

    def run() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        action()

    assert os.WEXITSTATUS(in_child(run)) == 0, "the child failed, see its traceback"


def in_own_mounts(action: Callable[[], object]) -> None:
    """Run `action` where it may mount as it likes; the mounts end with it."""
    assert os.getuid() == 0, "run this test as root: it mounts filesystems"

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
        action()

    assert os.WEXITSTATUS(in_child(run)) == 0, "the child failed, see its traceback"


def mount(kind: str, where: bytes, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, "none", where], check=True)


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked process; its wait status."""
    return os.waitpid(fork(action), 0)[1]


def fork(action: Callable[[], object]) -> int:
    """Start `action` in a forked process; its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_child(action)
    return pid


def _be_child(action: Callable[[], object]) -> NoReturn:
    try:
        action()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
