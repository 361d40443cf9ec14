"""What every row is given: where workloads are kept, where copies may be made, how often to measure, beside what."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Contender, Sample, interleave
from bench.references import References
from bench.workloads.store import Store

_SETTLING_SECONDS = 3.0  # a scan trusts no file that was written less than that before it


@dataclass(frozen=True)
class Setting:
    """`divisor` makes workloads smaller: 1, or 100 to see that everything runs, which is when nothing is warmed up."""

    store: Store
    scratch: Path
    references: References
    runs: int = 5
    divisor: int = 1

    @property
    def quick(self) -> bool:
        return self.divisor > 1

    def size(self, count: int) -> int:
        """So many bytes, files or entries, or what is left of them."""
        return count // self.divisor

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A fresh directory, which is gone afterwards; on the same filesystem as the workloads."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def compare(self, contenders: Mapping[str, Contender | None], times: int = 1) -> dict[str, list[Sample]]:
        """All of them in turns, `runs` times; what takes little, `times` as often."""
        if self.quick:
            return interleave(contenders, 1, warm_up=0)
        return interleave(contenders, self.runs * times)

    def settle(self) -> None:
        """Wait until files written just now can be told from those that are written again."""
        if not self.quick:
            time.sleep(_SETTLING_SECONDS)
