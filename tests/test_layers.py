"""The house stands: imports point downwards, start-up stays light, an old Python can run what a container runs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "codesync"

# A room may import those of the lines above its own, and itself.
LAYERS = (
    ("codesync", "errors"),
    ("transaction", "supervise", "delta"),
    ("protocol", "plan"),
    ("hooks",),
    ("config",),
    ("connection",),
    ("launcher", "pyz", "proxy", "client", "sidecar"),
    ("wording",),
    ("mcp_server", "twin", "demo"),
    ("cli",),
)
SIDEWAYS = {("delta", "transaction"), ("sidecar", "pyz")}
OLD_PYTHON = ("transaction", "supervise", "launcher")  # standard library and each other, Python 3.8
READERS_OF_THE_ENVIRONMENT = {"config", "launcher"}
HEAVY = ("mcp", "pydantic", "websockets", "pathspec", "starlette", "uvicorn")


def sources() -> Iterator[tuple[str, Path]]:
    """Every source file with its room; the demo's application is data."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if "demo-app" not in parts:
            yield "codesync" if parts == ("__init__",) else parts[0], path


def imports(path: Path) -> Iterator[str]:
    """Every module a file names in an import, also inside functions and for types only."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = (
                f"{package_of(path, node.level)}.{node.module or ''}" if node.level else node.module or ""
            )
            yield from (f"{module.rstrip('.')}.{name.name}" for name in node.names)


def package_of(path: Path, level: int) -> str:
    """The package that so many leading dots mean."""
    return ".".join(path.relative_to(PACKAGE.parent).parts[:-level])


def room_of(module: str) -> str | None:
    """The room a module is in; None when it is not ours."""
    first, *rest = module.split(".")
    if first != "codesync":
        return None
    known = {room for layer in LAYERS for room in layer}
    return rest[0] if rest and rest[0] in known else "codesync"


def height(room: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if room in layer]
    assert found, f"{room} is in no layer: say in LAYERS where it stands"
    return found[0]


def test_imports_point_downwards() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room, path in sources()
        for module in imports(path)
        if (other := room_of(module)) is not None
        and other != room
        and (room, other) not in SIDEWAYS
        and height(other) >= height(room)
    ]
    assert wrong == []


def test_what_an_old_image_must_run_needs_nothing_but_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names}
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room, path in sources()
        if room in OLD_PYTHON
        for module in imports(path)
        if module.split(".")[0] not in allowed and room_of(module) not in (*OLD_PYTHON, "codesync")
    ]
    assert wrong == []


def test_what_an_old_image_must_run_is_python_3_8() -> None:
    paths = [str(path) for room, path in sources() if room in OLD_PYTHON]
    run = "import vermin; vermin.main()"
    command = [sys.executable, "-c", run, "--no-config-file", "--target=3.8-", "--violations", *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_engine_knows_no_socket_and_no_loop() -> None:
    found = {m.split(".")[0] for room, path in sources() if room == "delta" for m in imports(path)}
    assert found.isdisjoint({"asyncio", "socket", "selectors", "websockets", "mcp", "click", "rich"})


def test_the_environment_is_read_in_two_rooms_only() -> None:
    wrong = [
        str(path.relative_to(PACKAGE))
        for room, path in sources()
        if room not in READERS_OF_THE_ENVIRONMENT
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "start",
    [
        "import codesync",
        "import codesync.cli",
        "import codesync.config, codesync.errors, codesync.transaction, codesync.supervise",
        "import runpy; runpy.run_module('codesync.launcher', run_name='__main__', alter_sys=True)",
    ],
)
def test_starting_is_light(start: str) -> None:
    code = f"import sys; sys.argv = ['x', '--help']\ntry:\n    {start}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert sorted({name.partition(".")[0] for name in done.stderr.split()}.intersection(HEAVY)) == []
