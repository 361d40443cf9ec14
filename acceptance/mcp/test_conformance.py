"""The official conformance suite against `codesync mcp --http`: docs/mcp-conformance.md says which scenarios apply."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from acceptance.mcp.conftest import Npm

DOC = Path(__file__).parent.parent.parent / "docs" / "mcp-conformance.md"
VERSIONS = ("2025-11-25", "2026-07-28")
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| ([a-z -]+|—) \| ([a-z -]+|—) \|$", re.MULTILINE)
LEFT_OUT = re.compile(r"^- `([a-z0-9-]+)`: `([a-z0-9-]+)`", re.MULTILINE)


def documented() -> dict[tuple[str, str], str]:
    """What the document says of each scenario in each version: "passes", or why it does not apply."""
    rows = ROW.findall(DOC.read_text())
    return {
        (version, name): word
        for name, *words in rows
        for version, word in zip(VERSIONS, words, strict=True)
        if word != "—"
    }


def left_out() -> set[tuple[str, str]]:
    """Checks inside applicable scenarios that need a fixture."""
    return set(LEFT_OUT.findall(DOC.read_text()))


APPLICABLE = sorted(key for key, word in documented().items() if word == "passes")


@pytest.mark.parametrize(("version", "scenario"), APPLICABLE, ids="/".join)
def test_a_scenario_that_applies_passes(
    node: Npm, mcp_url: str, tmp_path: Path, version: str, scenario: str
) -> None:
    options = ["--scenario", scenario, "--spec-version", version, "--output-dir", str(tmp_path)]
    done = node.run("conformance", "server", "--url", mcp_url, *options)
    checks = checks_below(tmp_path)
    assert any(check["status"] == "SUCCESS" for check in checks), done.stdout + done.stderr
    wrong = [
        f"{check['id']}: {check.get('errorMessage')}"
        for check in checks
        if check["status"] in ("FAILURE", "WARNING") and (scenario, check["id"]) not in left_out()
    ]
    assert wrong == []


def checks_below(directory: Path) -> list[dict[str, Any]]:
    (found,) = directory.glob("*/checks.json")
    loaded: list[dict[str, Any]] = json.loads(found.read_text())
    return loaded


def test_every_scenario_of_the_suite_is_accounted_for(node: Npm) -> None:
    offered = {
        (version, name)
        for version in VERSIONS
        for name in names(node.run("conformance", "list", "--server", "--spec-version", version).stdout)
    }
    assert set(documented()) == offered


def names(listing: str) -> list[str]:
    return re.findall(r"^ +- ([a-z0-9-]+) \[", listing, re.MULTILINE)
