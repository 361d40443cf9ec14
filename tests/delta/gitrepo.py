"""Real git beside our own answer to the same question: which files and symlinks of this tree count?"""

import os
import subprocess
from pathlib import Path

from codesync.delta.ignore import Rules
from codesync.delta.manifest import Kind, scan


class Git:
    """git with a home of its own and no settings from the machine."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }

    def __call__(self, where: Path | bytes, *args: str | bytes, stdin: bytes = b"") -> bytes:
        command = ["git", "-C", where, *args]
        return subprocess.run(command, env=self.env, input=stdin, capture_output=True, check=True).stdout

    def init(self, root: Path, *args: str) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        self(root, "-c", "init.defaultBranch=main", "init", "-q", *args)
        return root

    def track(self, root: Path, *paths: bytes) -> None:
        """Put files into the index, whatever the rules say."""
        self(root, "update-index", "--add", "-z", "--stdin", stdin=b"".join(path + b"\0" for path in paths))

    def listed(self, root: Path | bytes) -> set[bytes]:
        """What git lists of what is on the disk; a nested repository is one name with a slash at its end."""
        names = self(root, "ls-files", "-z", "-co", "--exclude-standard").split(b"\0")
        return {name for name in names if name and os.path.lexists(os.path.join(os.fsencode(root), name))}

    def rules(self, root: Path | bytes) -> Rules:
        return Rules.for_root(os.fsencode(root), home=str(self.home))

    def counted(self, root: Path | bytes) -> set[bytes]:
        """What a scan finds; `Rules.ignored` has to say the same of every path, before a scan and after one."""
        fresh, used = self.rules(root), self.rules(root)
        found = {
            entry.path for entry in scan(os.fsencode(root), rules=used) if entry.kind is not Kind.DIRECTORY
        }
        on_disk = {path for path in files_below(os.fsencode(root)) if b".git" not in path.split(b"/")}
        for rules in (fresh, used):
            assert {path for path in on_disk if not rules.ignored(path, is_directory=False)} == found
        return found


def files_below(root: bytes) -> set[bytes]:
    """Every file and symlink below `root`."""
    found = set()
    for directory, names, others in os.walk(root):
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        paths = [os.path.join(directory, name) for name in (*links, *others)]
        found |= {
            os.path.relpath(full, root) for full in paths if os.path.islink(full) or os.path.isfile(full)
        }
    return found


def write(root: Path | bytes, files: dict[bytes, bytes]) -> None:
    """Make files, and the directories above them."""
    for path, content in files.items():
        full = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(content)
