"""The engine beside rsync, rdiff, xdelta3 and git, measured in one run.

    python -m bench                          what `make bench` measures, at most 15 minutes
    python -m bench --full                   1 GB, awkward inputs and growth too
    python -m bench NAME …                   groups of rows, or one program with its options; --list names them
    python -m bench --json FILE --svg FILE   the rows and a chart of the ratios, beside the text

CPU and wall time are medians, ours and the references' runs in turns. Workloads are made once into --cache; copies are
made beside them. An interrupt leaves neither children nor half files.
"""

import argparse
import fcntl
import importlib
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import chart, report
from bench.groups import GROUPS, PROGRAMS
from bench.job import rows
from bench.references import References
from bench.row import Row
from bench.setting import Setting
from bench.workloads.store import Store, write_whole

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
_QUICK = 100


def main(arguments: Sequence[str] | None = None, references: References | None = None) -> int:
    """Exit status: 0 done, whatever the figures; 1 a row failed; 2 usage; 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in PROGRAMS:
        importlib.import_module(f"bench.{given[0]}").main(given[1:])
        return 0
    options = _options(given)
    if options.list:
        print(_listing())
        return 0
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _alone(options.cache):
            return _measure(options, references or References())
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _options(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="see --list")
    parser.add_argument("--list", action="store_true", help="name the groups, and the disk space they need")
    parser.add_argument("--full", action="store_true", help="all groups")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the sizes, once, nothing judged")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="DIRECTORY", help="default: .cache/bench"
    )
    options = parser.parse_args(given)
    unknown = [name for name in options.names if name not in GROUPS]
    if unknown:
        parser.error(f"{unknown[0]} is no group; --list names them")
    for file in (options.json, options.svg):
        if file is not None and not file.parent.is_dir():
            parser.error(f"{file.parent} is no directory")
    if options.runs < 1:
        parser.error("--runs must be 1 or more")
    return options


def _listing() -> str:
    lines = [
        f"{name:13} {group.about}{'; only with --full' if group.full else ''} ({group.gigabytes:g} GB)"
        for name, group in GROUPS.items()
    ]
    programs = [f"{name:13} {about}" for name, about in PROGRAMS.items()]
    return "\n".join([*lines, "", "Programs of their own, see their --help:", *programs])


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Two at once would measure each other. What one that was killed has left is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"bench: another one is running with {cache}; wait for it, or give another --cache")
        scratch = cache / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _measure(options: argparse.Namespace, references: References) -> int:
    names = options.names or [name for name, group in GROUPS.items() if options.full or not group.full]
    divisor = _QUICK if options.quick else 1
    _ask_for_space(options.cache, names, divisor)
    store = Store(options.cache / "workloads")
    setting = Setting(store, options.cache / "scratch", references, options.runs, divisor)
    found = report.machine(references)
    headline = report.headline(found)
    quick = "quick: small sizes, measured once; the figures say nothing" if options.quick else ""
    notes = "\n".join(filter(None, (headline, report.warning(found), quick)))
    print(f"{notes}\n\n{report.header()}", flush=True)
    measured = []
    for row in _rows(setting, names):
        measured.append(row)
        print(report.line(row), flush=True)
    print(f"\n{report.summary(measured)}")
    if options.json:
        write_whole(options.json, report.to_json(found, measured))
    if options.svg:
        write_whole(options.svg, chart.draw(measured, headline))
    return 1 if any(row.verdict == "failed" for row in measured) else 0


def _ask_for_space(cache: Path, names: Sequence[str], divisor: int) -> None:
    """Groups share workloads, so that the sum is more than it takes."""
    needed = sum(GROUPS[name].gigabytes for name in names) / divisor
    free = shutil.disk_usage(cache).free / 1e9
    if free < needed:
        sys.exit(
            f"bench: {cache} has {free:.1f} GB left, and up to {needed:.1f} are needed; give another --cache"
        )


def _rows(setting: Setting, names: Sequence[str]) -> Iterator[Row]:
    for name in names:
        for job in GROUPS[name].jobs(setting):
            for row in rows(name, job):
                yield replace(row, judged=not setting.quick)


if __name__ == "__main__":
    sys.exit(main())
