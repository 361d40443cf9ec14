"""The bench: workloads that are what they say, rows of the promised shape, nothing left behind. No figure is judged here."""

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

import pytest
from xxhash import xxh3_64_hexdigest

from bench import chart, measure, ours, report
from bench.__main__ import main
from bench.groups import GROUPS, PROGRAMS
from bench.job import Job, rows
from bench.measure import Contender, Failed, Sample
from bench.references import TOOLS, References
from bench.row import Goal, Row, Unavailable
from bench.workloads import awkward, noise, trees
from bench.workloads.pair import Workload
from bench.workloads.store import Store
from codesync.delta import DeltaReader, patch, signature, write_delta
from codesync.delta.signature import default_block_size

ROOT = Path(__file__).parent.parent
SMALL = 70_000
MANY = "300 insertions of 10 bytes"
STANDARD = [name for name, group in GROUPS.items() if not group.full]
VERDICTS = {"met", "missed", "missing", "no goal", "not judged", "failed", "not measured"}
FIGURES = ({"cpu", "wall"}, {"bytes"}, {"peak"})
NONE = References(lambda name: None)
PRESENT = {name for name in TOOLS if shutil.which(name)}


def workloads(store: Store) -> dict[str, Workload]:
    found = [*noise.workloads(store, SMALL), *awkward.workloads(store, lambda _: SMALL)]
    found += noise.moves(store, SMALL, "small")
    found += [Workload(MANY, "edits", lambda: noise.insertions(store, SMALL, 300))]
    found += [*trees.tar_workloads(store, real=False), trees.source_workload(store, real=False)]
    return {workload.name: workload for workload in found}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("workloads"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run of everything that `make bench` measures has written, and where."""
    place = tmp_path_factory.mktemp("bench")
    files = ["--json", str(place / "rows.json"), "--svg", str(place / "chart.svg")]
    assert main(["--quick", "--cache", str(place / "cache"), *files]) == 0
    return {"place": place, **json.loads((place / "rows.json").read_text())}


@pytest.mark.parametrize("name", workloads(Store(Path("of-names-only"))))
def test_the_deltas_of_a_workload_restore_its_target(store: Store, name: str) -> None:
    pair = workloads(store)[name].pair()
    basis, target = pair.basis.read_bytes(), pair.target.read_bytes()
    assert basis
    for against in (signature(basis), basis):
        delta, out = io.BytesIO(), io.BytesIO()
        write_delta(delta, against, target)
        delta.seek(0)
        patch(basis, DeltaReader(delta), out)
        assert out.getvalue() == target


@pytest.mark.parametrize(
    ("name", "size"),
    [("unchanged", 0), ("one byte changed", 0), ("100 insertions of 10 bytes", 1000), (MANY, 3000)],
)
def test_a_workload_is_what_it_is_called(store: Store, name: str, size: int) -> None:
    pair = workloads(store)[name].pair()
    basis, target = pair.basis.read_bytes(), pair.target.read_bytes()
    assert len(target) - len(basis) == size
    if not size:
        assert sum(old != new for old, new in zip(basis, target, strict=True)) == (name != "unchanged")


def test_workloads_are_the_same_wherever_they_are_made(store: Store) -> None:
    """But for those that are made of what a machine has: its Python, its SQLite."""
    found = {
        name: [xxh3_64_hexdigest(path.read_bytes()) for path in workload.pair()]
        for name, workload in workloads(store).items()
        if not name.startswith(("ELF", "SQLite"))
    }
    assert xxh3_64_hexdigest(json.dumps(found, sort_keys=True).encode()) == "63f7e4d695b2b389"


def test_what_is_moved_is_all_there(store: Store) -> None:
    basis, target = (path.read_bytes() for path in workloads(store)["a tenth moved, small"].pair())
    assert basis != target
    assert sorted(basis) == sorted(target)


def test_records_share_all_but_192_bytes_with_each_other_and_nothing_with_another_file(store: Store) -> None:
    pair = workloads(store)["records, nothing in common"].pair()
    shares, owns = [], []
    for path in pair:
        data = path.read_bytes()
        records = [data[at : at + 8192] for at in range(0, len(data) - 8191, 8192)]
        owns += [record[:192] for record in records]
        (shared,) = {record[192:] for record in records}
        shares.append(shared)
    assert len(set(owns)) == len(owns) > 10
    assert shares[0] != shares[1]


def test_awkward_kinds_stand_on_both_sides_of_a_step_of_the_block_size() -> None:
    sizes = [*(kind.size for kind in awkward.KINDS.values()), awkward.DATABASE]
    blocks = [default_block_size(size) for size in sizes]
    assert sorted(blocks.count(size) for size in set(blocks)) == [7, 7]


def test_the_bench_imports_nothing_of_the_tests_to_make_a_workload() -> None:
    made = [path.read_text() for path in (ROOT / "bench" / "workloads").glob("*.py")]
    assert made
    assert not [text for text in made if "from tests" in text or "import tests" in text]


def test_python_that_may_write_no_bytecode_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for forbidden in (True, False):
        monkeypatch.setattr(sys, "dont_write_bytecode", forbidden)
        assert main(["signature", "--quick", "--cache", str(tmp_path)], NONE) == 0
        assert ("may write no bytecode" in capsys.readouterr().out) == forbidden


def test_a_kind_with_nothing_in_common_is_of_the_same_kind(store: Store) -> None:
    pair = workloads(store)["two-symbol noise, nothing in common"].pair()
    assert set(pair.basis.read_bytes()) == set(pair.target.read_bytes()) == set(b"ab")


def test_a_workload_is_made_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    made = []

    def make(file: BinaryIO) -> None:
        made.append(file.write(b"content"))

    path = Store(tmp_path).file("name", make)
    assert Store(tmp_path).file("name", make) == path
    assert made == [7]
    path.write_bytes(b"contenT")
    assert Store(tmp_path).file("name", make).read_bytes() == b"content"
    assert made == [7, 7]


def test_a_workload_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def make(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).file("name", make)
    assert list(tmp_path.iterdir()) == []


def test_every_row_has_the_promised_shape(measured: dict[str, Any]) -> None:
    assert {row["group"] for row in measured["rows"]} == set(STANDARD)
    for row in measured["rows"]:
        assert row["verdict"] in VERDICTS - {"met", "missed", "failed"}, row
        assert row["workload"]
        if row["verdict"] == "not measured":
            assert row["note"]
            continue
        assert row["what"]
        assert set(row["ours"]) in FIGURES
        assert not row["theirs"] or set(row["theirs"]) == set(row["ours"])
        assert bool(row["theirs"]) == (row["reference"].split(" ")[0] in PRESENT)
        assert set(row["ratios"]) <= set(row["ours"])


def test_the_machine_and_the_versions_are_told(measured: dict[str, Any]) -> None:
    assert set(measured["machine"]["references"]) == set(TOOLS)
    told = report.headline(measured["machine"])
    assert f"Python {measured['machine']['python']}" in told
    assert f"{os.cpu_count()} cores" in told


def test_a_run_leaves_nothing_but_workloads(measured: dict[str, Any]) -> None:
    cache = measured["place"] / "cache"
    assert sorted(path.name for path in cache.iterdir()) == ["lock", "workloads"]
    assert not [path for path in measured["place"].rglob("*") if path.suffix == ".part"]


def test_the_chart_is_well_formed_and_has_a_bar_for_each_ratio(measured: dict[str, Any]) -> None:
    drawn = ET.fromstring((measured["place"] / "chart.svg").read_text())
    bars = drawn.findall("{http://www.w3.org/2000/svg}rect")[1:]  # the first is the background
    assert len(bars) == sum(bool(row["theirs"]) for row in measured["rows"])


def test_the_chart_marks_goals_and_cuts_bars_that_are_too_long() -> None:
    figures = {"cpu": 0.1, "wall": 0.1}
    rows = [
        Row("a & b", "<one>", "what", figures, "rsync", {"cpu": 1.0, "wall": 1.0}, Goal(0.2)),
        Row("a & b", "two", "what", {"bytes": 500.0}, "xdelta3", {"bytes": 1.0}, Goal(1.0, ("bytes",))),
        Row("a & b", "alone", "what", figures),
        Row("a & b", "grown", "what", figures, "ours, 1 MB", figures),
    ]
    drawn = chart.draw(rows, "machine")
    svg = "{http://www.w3.org/2000/svg}"
    bars = ET.fromstring(drawn).findall(f"{svg}rect")[1:]
    assert [bar.get("class") for bar in bars] == ["met", "missed"]
    width = float(ET.fromstring(drawn).get("width", ""))
    assert all(float(bar.get("x", "")) + float(bar.get("width", "")) <= width for bar in bars)
    goals = [line for line in ET.fromstring(drawn).findall(f"{svg}line") if line.get("class") == "goal"]
    assert len(goals) == 2
    assert "prefers-color-scheme: dark" in drawn


def test_a_missing_reference_is_named_as_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["signature", "patch", "wire", "scan", "tree", "source"]
    options = ["--quick", "--cache", str(tmp_path), "--json", str(tmp_path / "rows.json")]
    assert main([*names, *options], NONE) == 0
    found = json.loads((tmp_path / "rows.json").read_text())
    assert set(found["machine"]["references"].values()) == {"missing"}
    beside = [row for row in found["rows"] if row["reference"]]
    assert {row["reference"].split()[0] for row in beside} >= {"rsync", "rdiff", "xdelta3", "git"}
    assert {row["verdict"] for row in beside} == {"missing"}
    told = capsys.readouterr().out
    assert "rsync missing, rdiff missing, xdelta3 missing, git missing" in told
    assert "rdiff patch missing" in told


FAST, SLOW = {"cpu": 1.0, "wall": 4.0}, {"cpu": 2.0, "wall": 4.0}


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("g", "w", "x", FAST, "rsync", SLOW, Goal(0.5, ("cpu",))), "met"),
        (Row("g", "w", "x", FAST, "rsync", SLOW, Goal(0.5)), "missed"),
        (Row("g", "w", "x", FAST, "rsync", SLOW, Goal(1.0)), "met"),
        (Row("g", "w", "x", FAST, "rsync", SLOW), "no goal"),
        (Row("g", "w", "x", FAST, "rsync", {}, Goal(1.0)), "missing"),
        (Row("g", "w", "x", FAST, "rsync", {}), "missing"),
        (Row("g", "w", "x", FAST, goal=Goal(4.0, absolute=True)), "met"),
        (Row("g", "w", "x", FAST, goal=Goal(3.9, absolute=True)), "missed"),
        (Row("g", "w", "x", FAST, "rsync", SLOW, Goal(0.1, absolute=True)), "missed"),
        (Row("g", "w", "x", FAST, "rsync", SLOW, Goal(1.0), judged=False), "not judged"),
        (Row("g", "w", "", state="failed"), "failed"),
    ],
)
def test_a_goal_is_met_or_missed_by_each_of_its_figures(row: Row, verdict: str) -> None:
    assert row.verdict == verdict
    assert row.to_json()["verdict"] == verdict
    assert verdict in report.line(row)


def test_a_job_that_fails_is_a_row_that_says_why() -> None:
    def unavailable() -> list[Row]:
        raise Unavailable("the package index is away")

    (failed,) = rows("group", Job("workload", lambda: [Row(1 / 0)]))  # type: ignore[call-arg, arg-type]
    assert (failed.verdict, failed.note) == ("failed", "ZeroDivisionError: division by zero")
    (absent,) = rows("group", Job("workload", unavailable))
    assert (absent.verdict, absent.note) == ("not measured", "the package index is away")


def test_a_delta_of_another_target_fails_the_check(tmp_path: Path) -> None:
    basis, target, delta = tmp_path / "basis", tmp_path / "target", tmp_path / "delta"
    basis.write_bytes(b"old " * 1000)
    target.write_bytes(b"old " * 999 + b"new ")
    with delta.open("wb") as file:
        write_delta(file, basis.read_bytes(), target.read_bytes())
    ours.check(basis, delta, target)
    with pytest.raises(Failed, match="does not restore"):
        ours.check(basis, delta, basis)


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    turns: list[str] = []

    def contender(name: str, seconds: Iterator[float]) -> Contender:
        def run() -> Sample:
            turns.append(name)
            spent = next(seconds)
            return Sample(spent, spent * 2)

        return Contender(run, lambda: turns.append(f"before {name}"))

    contenders = {
        "a": contender("a", iter([9.0, 1.0, 3.0, 2.0])),
        "b": contender("b", iter([9.0] * 4)),
        "c": None,
    }
    samples = measure.interleave(contenders, 3)
    assert turns == ["before a", "a", "before b", "b"] * 4
    assert measure.medians(samples["a"]) == {"cpu": 2.0, "wall": 4.0}
    assert measure.medians(samples["c"]) == {}


def test_cpu_time_is_that_of_all_processes_a_command_waits_for() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    assert measure.run([sys.executable, "-c", parent]).cpu >= 0.2


def test_a_command_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(Failed, match="ended with 3: the end"):
        measure.run(["sh", "-c", "echo begin; echo the end; exit 3"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_neither_children_nor_half_files(tmp_path: Path, number: int) -> None:
    options = ["--cache", str(tmp_path), "--json", str(tmp_path / "rows.json")]
    command = [sys.executable, "-m", "bench", "generation", "--quick", *options]
    bench = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with bench:
        assert bench.stdout is not None
        assert bench.stderr is not None
        while b"signature + delta" not in bench.stdout.readline():
            assert bench.poll() is None
        bench.send_signal(number)
        assert bench.stderr.read() == b"bench: interrupted\n"
    assert bench.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "workloads"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]
    assert [pid for pid in Path("/proc").glob("[0-9]*") if str(tmp_path).encode() in cmdline(pid)] == []


def cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="another one is running"):
            main(["import", "--quick", "--cache", str(tmp_path)])


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--runs", "0"], ["import", "push_latency"], ["--json", "/no/where/x"]]
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_the_list_and_the_readme_name_every_group_and_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert {*GROUPS, *PROGRAMS} <= set(listed)
    readme = (ROOT / "bench" / "README.md").read_text()
    assert [name for name in {*GROUPS, *PROGRAMS} if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_options_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main([name, "--help"])
    assert error.value.code == 0
    assert f"python -m bench {name}" in capsys.readouterr().out
