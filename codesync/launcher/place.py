"""Where one instance of the application runs, and what that makes of its command, its check and its environment.

Pure. With one way to reload only, blue-green, an instance has a root and a port of its own, and `{root}` and `{port}`
stand for them; with any other everything stays as it is written.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from codesync.supervise import HealthError

if TYPE_CHECKING:
    from codesync.launcher.options import Options


class Place(NamedTuple):
    """The tree an instance runs in, and the port it is to listen on; None where that is its own affair."""

    root: str
    port: int | None = None

    def command(self, options: Options) -> list[str]:
        """What to run."""
        return [self._filled(word) for word in options.command]

    def cwd(self, options: Options, here: str) -> str:
        """Where to run it: `here`, the launcher's own directory, or its like in this root."""
        if self.port is None:
            return here
        below = os.path.relpath(here, options.app_root)
        inside = below == os.curdir or not below.startswith(os.pardir)
        return os.path.normpath(os.path.join(self.root, below)) if inside else here

    def check(self, options: Options) -> str | None:
        """The health check of this instance: a URL that names the common port asks this instance, too.

        Raises HealthError for one that would ask whichever instance serves.
        """
        text = options.health
        if text is None or self.port is None or options.listen is None:
            return text
        common = options.listen[1]
        if not text.startswith("cmd:"):
            text = _with_port(text, common)
        if "{port}" not in text and (not text.startswith("cmd:") or _names_port(text, common)):
            raise HealthError(
                f"the health check {text!r} does not ask the instance it is about; "
                f"with --reload blue-green write {{port}} in it"
            )
        return self._filled(text)

    def environment(self, push_id: str) -> dict[str, str]:
        """The variables it gets beside the launcher's own."""
        env = {"CODESYNC_PUSH_ID": push_id, "BIFROST_PUSH_ID": push_id}
        if self.port is not None:
            env["PORT"] = str(self.port)
        return env

    def _filled(self, text: str) -> str:
        if self.port is None:
            return text
        return text.replace("{root}", self.root).replace("{port}", str(self.port))


def _with_port(url: str, common: int) -> str:
    """`{port}` in place of the port that clients use; also where that is http's own, and not written."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url  # `{port}` itself, or whoever parses it says what is wrong
    if (port or 80) != common or not parts.hostname:
        return url
    bare = parts.netloc[: -len(str(port)) - 1] if port else parts.netloc
    return parts._replace(netloc=bare + ":{port}").geturl()


def _names_port(command: str, port: int) -> bool:
    return (
        "$PORT" not in command and "${PORT" not in command and re.search(rf":{port}\b", command) is not None
    )
