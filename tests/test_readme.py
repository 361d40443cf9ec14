"""The README says what is so: its commands, options, variables, tools and snippets."""

import json
import re
from pathlib import Path

import click
import pytest

from codesync.cli import codesync
from codesync.client.results import DONE
from codesync.config import PROJECT_FIELDS
from codesync.launcher.options import _parser, parse_options
from codesync.mcp_server import build

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def rows(heading: str) -> list[str]:
    """The first cells of the table below a heading of its first column."""
    table = README.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| (.*?) \|", table, re.MULTILINE)


def test_every_command_is_there_and_no_other() -> None:
    listed = README.partition("## Commands")[2].partition("```\n")[2].partition("```")[0]
    named = {word for line in listed.splitlines() for word in re.findall(r"[a-z]+", line[9:33])}
    assert set(codesync.list_commands(click.Context(codesync))) <= named
    for line in listed.splitlines():
        assert line.startswith("codesync ")


def test_its_json_is_json_and_its_project_file_has_fields_that_are_read() -> None:
    client, *projects = map(json.loads, blocks("json"))
    assert client["mcpServers"]["codesync"]["args"] == ["mcp"]
    for project in projects:
        assert set(project) <= {*PROJECT_FIELDS, "hooks"}


def test_its_launcher_options_are_the_launchers() -> None:
    described = [cell.strip("`").split() for cell in rows("launcher option")]
    values = {
        "CHECK": "http://127.0.0.1:1/",
        "S": "1",
        "TEXT": "ok",
        "WAY": "blue-green",
        "HOST:PORT": "127.0.0.1:1",
        "WHAT": "rollback",
    }
    arguments = [part for name, *value in described for part in (name, *(values[word] for word in value))]
    assert parse_options([*arguments, "--", "true"], {}).health == "http://127.0.0.1:1/"
    known = {name for name in _parser({})._option_string_actions if name.startswith("--")}
    assert {name for name, *_ in described} == known - {"--help", "--files-dir", "--app-root"}
    (manifest,) = blocks("yaml")
    command = re.findall(r"^            - (\S+)$", manifest, re.MULTILINE)
    assert command[:2] == ["python3", "/app-files/.sidecar/launcher.pyz"]
    options = parse_options(command[2:], {})
    assert options.health == "http://127.0.0.1:8080/health"
    assert options.command == ["python3", "-m", "shop"]


def test_its_ways_to_reload_are_the_launchers() -> None:
    for cell in rows("`--reload`"):
        way = cell.strip("`").replace("NAME", "HUP")
        listen = ["--listen", "127.0.0.1:1"] if way == "blue-green" else []
        assert parse_options(["--reload", way, *listen, "--", "true"], {}).reload == way


@pytest.mark.anyio
async def test_its_tools_are_the_servers() -> None:
    described = {cell.strip("`").partition("(")[0]: cell for cell in rows("tool")}
    tools = {tool.name: tool for tool in await build().list_tools()}
    assert list(described) == list(tools)
    arguments = re.findall(r"\w+", described["push_changes"].partition("(")[2])
    assert arguments == list(tools["push_changes"].input_schema["properties"])


def test_its_outcomes_are_those_there_are() -> None:
    assert {cell.strip("`") for cell in rows("status")} == {*DONE, "rolled_back", "partial", "failed"}


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", README):
        assert (ROOT / target).exists(), target
