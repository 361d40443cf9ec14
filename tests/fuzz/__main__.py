"""python -m tests.fuzz [SECONDS] [TARGET ...]: each target in turn, all of them in about so many seconds.

What is found is made as small as can be and written to tests/fuzz/crashes, from where the tests try it again. The exit
status is 1 then.
"""

import sys
import traceback
from collections.abc import Callable
from hashlib import sha256
from time import monotonic

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.damage import damaged
from tests.fuzz.targets import TARGETS
from tests.fuzz.test_fuzz import CRASHES

_AT_ONCE = 1000  # examples


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 600
    names = arguments[1:] or list(TARGETS)
    found = [name for name in names if not fuzz(name, seconds / len(names))]
    return 1 if found else 0


def fuzz(name: str, seconds: float) -> bool:
    """Whether nothing is found in so many seconds."""
    target, end, count = TARGETS[name], monotonic() + seconds, 0
    last = b""

    def once(data: bytes) -> None:
        nonlocal count, last
        if monotonic() > end + 30:  # making it smaller has taken long enough
            return
        count, last = count + 1, data
        target.run(data)

    rounds = 0
    while monotonic() < end:
        rounds += 1
        try:
            _round(once, target.examples(), rounds)()
        except Exception:
            crash = CRASHES / f"{name}-{sha256(last).hexdigest()[:12]}.bin"
            crash.write_bytes(last)
            traceback.print_exc()
            print(f"{name}: {count} examples, and a crash: {crash}", flush=True)
            return False
    print(f"{name}: {count} examples, nothing found", flush=True)
    return True


def _round(once: Callable[[bytes], None], examples: list[bytes], number: int) -> Callable[[], None]:
    start = int(monotonic() * 1000)
    chosen = settings(
        max_examples=_AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return seed(start + number)(chosen(given(damaged(examples))(once)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
