"""Settings: what arguments, environment and project file say, read once, checked and frozen.

Beside the launcher this is the only reader of the environment. The first of these that says something wins:

    an argument > CODESYNC_* > the project file > BIFROST_* (names of earlier deployments) > the default

In `.codesync.json` a field whose name is nearly one of ours is refused, all others are left alone. Hooks are in that file
only. An empty variable says nothing. `CODESYNC_APP_ROOT` is the launcher's alone: it names the directory in the
container, never the developer's. The key comes from the environment alone, and no `repr` shows it.
"""

import getpass
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, urlsplit

from codesync.errors import UserError

if TYPE_CHECKING:
    from codesync.protocol import Hook

PROJECT_FILES = (".codesync.json", ".bifrost.json")
PROJECT_FIELDS = (
    "app_id",
    "deployment_id",
    "app_root",
    "proxy_url",
)  # texts; `hooks` is a list, see hooks.py
DEFAULT_FILES_DIR = "/app-files"

_KEY = re.compile(r"[\x21-\x7e]+")
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_INIT = "run `codesync init` in the application's directory"


class ConfigError(UserError):
    """A setting is missing or malformed. `setting` names it as `Settings` does, "" where it is the project file."""

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True)
class Settings:
    """Everything a part needs to know. A part that has no use for a field finds "" in it."""

    api_key: str = field(repr=False)  # "": none, as a proxy on loopback may allow
    proxy_url: str  # ws or wss, with its path prefix, without a slash at the end
    app_id: str
    deployment_id: str
    app_root: str = ""  # absolute, symlinks resolved
    source: str = ""  # who pushes, one line: user@host:app root
    files_dir: str = ""
    cache_dir: str = ""
    config_home: str = (
        ""  # where git's own settings of the user are, "": the usual place below the home directory
    )
    hooks: "tuple[Hook, ...]" = ()  # what a push runs in the container, in this order

    def endpoint(self, role: Literal["ide", "sidecar"]) -> str:
        """Name the websocket of this deployment on that side of the proxy."""
        return f"{self.proxy_url}/api/v1/push/{role}/{self.app_id}/{self.deployment_id}"


@dataclass(frozen=True)
class Project:
    """A project file: its path, the directory it is in, what it says of PROJECT_FIELDS, and its hooks."""

    path: str
    directory: str
    values: Mapping[str, str]
    hooks: "tuple[Hook, ...]" = ()

    @property
    def app_root(self) -> str:
        """The directory to push: `app_root` relative to the file, else where the file is."""
        return os.path.realpath(os.path.join(self.directory, self.values.get("app_root", "")))


def load(
    *,
    app_root: str | None = None,
    app_id: str | None = None,
    deployment_id: str | None = None,
    proxy_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
    cwd: str | None = None,
) -> Settings:
    """Return the settings of a push from the developer's machine.

    The project file is looked for in `app_root`, or from `cwd` upwards; without one `cwd` itself is pushed.

    Raises:
        ConfigError: what is missing or malformed, and where it can be set.
    """
    project = _project_for(app_root, cwd or os.getcwd())
    root = _app_root(app_root, project, cwd or os.getcwd(), environ)
    arguments = {"app_id": app_id, "deployment_id": deployment_id, "proxy_url": proxy_url}
    settings = _Reader(environ, arguments, project.values if project else {})
    source = _source(settings, root)
    places = {"cache_dir": _cache_dir(environ), "config_home": config_home(environ)}
    hooks = project.hooks if project else ()
    return _remote(settings, hooks, app_root=root, source=source, **places)


def load_sidecar(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a sidecar: from the environment alone, no project file. Raises ConfigError."""
    settings = _Reader(environ, {}, {})
    return _remote(settings, files_dir=os.path.abspath(settings.get("files_dir") or DEFAULT_FILES_DIR))


def accepted_keys(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the keys a server accepts: CODESYNC_API_KEY, several (old and new) parted by blanks. Raises ConfigError."""
    keys = (_Reader(environ, {}, {}).get("api_key") or "").split()
    return tuple(_checked_key(key) for key in keys)


def bare_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without any setting of ours: what a process starts from that gets its own."""
    return {name: value for name, value in environ.items() if not name.startswith(("CODESYNC_", "BIFROST_"))}


def find_project(start: str) -> Project | None:
    """Return the nearest project file, from `start` upwards.

    Raises:
        ConfigError: it is malformed, or above `start` and another user's: its proxy would be given our key.
    """
    directory = start = os.path.abspath(start)
    while True:
        if project := read_project(directory):
            if directory != start and os.lstat(project.path).st_uid not in (0, os.geteuid()):
                message = f"{project.path} belongs to another user; to use it, pass app_root {directory}"
                raise ConfigError(message)
            return project
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def read_project(directory: str) -> Project | None:
    """Return the project file of that very directory, `.codesync.json` before `.bifrost.json`. Raises ConfigError."""
    for name in PROJECT_FILES:
        path = os.path.join(directory, name)
        try:
            with open(path, "rb") as file:
                return _project(path, directory, file.read())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}; mend its permissions") from error
    return None


def write_project(directory: str, values: Mapping[str, str], *, force: bool = False) -> str:
    """Write `.codesync.json` and return its path. Raises ConfigError: a value is malformed, or a file is there.

    With `force` one that is there is replaced, but for hooks and fields that are not ours.
    """
    path = os.path.join(directory, PROJECT_FILES[0])
    for name, value in values.items():
        _CHECKS.get(name, str)(value)
    text = json.dumps(dict(values) | (_other_fields(path) if force else {}), indent=2) + "\n"
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; pass --force to replace it") from error
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; name a directory with --app-root"
        ) from error
    return path


def _other_fields(path: str) -> dict[str, Any]:
    """What a project file says beside PROJECT_FIELDS; nothing where it cannot be read."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name not in PROJECT_FIELDS}


class _Reader:
    """One setting by name, from the sources in their order."""

    def __init__(
        self, environ: Mapping[str, str], arguments: Mapping[str, str | None], project: Mapping[str, str]
    ) -> None:
        self._environ = environ
        self._arguments = arguments
        self._project = project

    def get(self, name: str) -> str:
        """Return the value, "" where nobody says one."""
        variable = name.upper()
        return (
            self._arguments.get(name)
            or self._environ.get(f"CODESYNC_{variable}", "").strip()
            or self._project.get(name)
            or self._environ.get(f"BIFROST_{variable}", "").strip()
        )


def _remote(settings: _Reader, hooks: "tuple[Hook, ...]" = (), **local: str) -> Settings:
    """Build the settings of whoever talks to a proxy; `local` are the fields that need no proxy."""
    names = ("app_id", "deployment_id", "proxy_url")
    values = {name: settings.get(name) for name in names}
    if missing := [name for name in names if not values[name]]:
        variables = ", ".join(f"CODESYNC_{name.upper()}" for name in missing)
        where = f"set {variables}" if "files_dir" in local else f"{_INIT}, or set {variables}"
        raise ConfigError(f"no {', '.join(missing)}: {where}", missing[0])
    url = _checked_url(values["proxy_url"])
    key = settings.get("api_key")
    if not key and not is_loopback(urlsplit(url).hostname or ""):
        message = "no API key: set CODESYNC_API_KEY to a key that the proxy was started with"
        raise ConfigError(message, "api_key")
    return Settings(
        api_key=_checked_key(key) if key else "",
        proxy_url=url,
        app_id=_checked_id("app_id", values["app_id"]),
        deployment_id=_checked_id("deployment_id", values["deployment_id"]),
        hooks=hooks,
        **local,
    )


def is_loopback(host: str) -> bool:
    """Whether a name or address, IPv6 with or without brackets, can only mean this machine."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _project_for(app_root: str | None, cwd: str) -> Project | None:
    """The project file that speaks of what is pushed; one further up counts if it names this `app_root`."""
    if app_root is None:
        return find_project(cwd)
    root = os.path.realpath(os.path.join(cwd, app_root))
    project = find_project(root)
    return project if project and root in (project.directory, project.app_root) else None


def _app_root(argument: str | None, project: Project | None, cwd: str, environ: Mapping[str, str]) -> str:
    if argument is not None:
        root = os.path.realpath(os.path.join(cwd, argument))
    elif project is not None:
        root = project.app_root
    else:
        root = os.path.realpath(cwd)
        if root in ("/", os.path.realpath(environ.get("HOME") or "/")):
            raise ConfigError(
                f"no project file, and {root} is no application: {_INIT}, or pass app_root", "app_root"
            )
    if not os.path.isdir(root):
        origin = f" (named by {project.path})" if project and argument is None else ""
        raise ConfigError(
            f"app_root {root}{origin} is not a directory; name the one that holds the code", "app_root"
        )
    return root


def _source(settings: _Reader, root: str) -> str:
    if named := settings.get("source"):
        return " ".join(named.split())
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}:{root}"


def config_home(environ: Mapping[str, str] = os.environ) -> str:
    """Return what XDG_CONFIG_HOME names, where git looks for ignore rules of the user; "" where it is not set."""
    return environ.get("XDG_CONFIG_HOME", "")


def _cache_dir(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_CACHE_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return os.path.join(base, "codesync")


def _project(path: str, directory: str, data: bytes) -> Project:
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not JSON ({error}); mend it, or write it anew: codesync init --force"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold one JSON object with {', '.join(PROJECT_FIELDS)}")
    ours = path.endswith(PROJECT_FILES[0])
    if ours:
        _refuse_misspelt(path, found)
    return Project(path, directory, _project_values(path, found), _hooks(path, found) if ours else ())


def _refuse_misspelt(path: str, found: Mapping[str, Any]) -> None:
    """A field that is nearly one of ours is a mistake; all others are left to whoever put them there."""
    from difflib import get_close_matches

    known = (*PROJECT_FIELDS, "hooks")
    for name in found:
        near = get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.85)
        if near and name not in known:
            raise ConfigError(
                f"{path}: there is no field {json.dumps(name)}; did you mean {near[0]}?", near[0]
            )


def _project_values(path: str, found: Mapping[str, Any]) -> dict[str, str]:
    if "api_key" in found and path.endswith(PROJECT_FILES[0]):
        raise ConfigError(f"{path} holds api_key: take it out, and set CODESYNC_API_KEY in the environment")
    values = {name: found[name] for name in PROJECT_FIELDS if found.get(name) is not None}
    for name, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {name} must be a string, not {json.dumps(value)[:60]}", name)
    return values


def _hooks(path: str, found: Mapping[str, Any]) -> "tuple[Hook, ...]":
    if found.get("hooks") is None:
        return ()
    from codesync.hooks import HookError, read_hooks

    try:
        return read_hooks(found["hooks"])
    except HookError as error:
        raise ConfigError(f"{path}: {error}", "hooks") from error


def _checked_id(name: str, value: str) -> str:
    from codesync.protocol import is_id

    if not is_id(value):
        message = f"{name} {value[:140]!r} is malformed: use 1 to 128 of letters, digits, '.', '_' and '-'"
        raise ConfigError(message, name)
    return value


def _checked_key(value: str) -> str:
    if not _KEY.fullmatch(value):
        message = "CODESYNC_API_KEY is malformed: a key is printable ASCII without blanks"
        raise ConfigError(message, "api_key")
    return value


def _checked_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        if _is_proxy_url(parts):
            return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"
    except ValueError:  # a port that is no number, a broken IPv6 address
        pass
    message = f"proxy_url {value[:200]!r} is malformed: write it as https://proxy.example.com or ws://host:8000/prefix"
    raise ConfigError(message, "proxy_url")


def _is_proxy_url(parts: SplitResult) -> bool:
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    return (
        plain and parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    )


_CHECKS = {
    "app_id": lambda value: _checked_id("app_id", value),
    "deployment_id": lambda value: _checked_id("deployment_id", value),
    "proxy_url": _checked_url,
}
