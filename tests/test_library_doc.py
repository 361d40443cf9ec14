"""docs/library.md is run: each program prints what the page says it prints."""

import re
import subprocess
import sys
from pathlib import Path

import codesync.delta

DOC = (Path(__file__).parent.parent / "docs" / "library.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", DOC, re.DOTALL)
VARIES = "…"
END = "-- end of a program --"


def test_every_program_is_followed_by_what_it_prints() -> None:
    assert len(EXAMPLES) == DOC.count("```python") >= 7


def test_the_programs_print_what_the_page_says(tmp_path: Path) -> None:
    """In a process of their own: one of them forks."""
    programs = f"\nprint({END!r})\n".join(program for program, _ in EXAMPLES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", programs],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for (program, printed), told in zip(EXAMPLES, done.stdout.split(f"{END}\n"), strict=True):
        pattern = ".*".join(re.escape(part) for part in printed.split(VARIES))
        assert re.fullmatch(pattern, told), f"{program}\nprints\n{told}"


def test_the_names_in_it_are_there() -> None:
    prose = re.sub(r"```.*?```", "", DOC, flags=re.DOTALL)
    named = re.findall(r"`(?:codesync\.delta\.)?([A-Za-z_]+)\(", prose) + re.findall(
        r"`([A-Z][a-z]+[A-Z]?\w*)`", prose
    )
    known = {*codesync.delta.__all__, *dir(codesync.delta.Rules), "OSError", "Window", "str"}
    assert set(named) <= known, set(named) - known


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", DOC):
        assert (Path(__file__).parent.parent / "docs" / target).exists(), target
