"""Twenty pushes beside the code that serves, broken ones among them, under load: not one request fails."""

from contextlib import ExitStack
from pathlib import Path

from acceptance.apps.app import App, AppChain, running_app
from acceptance.apps.load import load
from acceptance.apps.test_app_django import FIVE, URLS

PUSHES = 20
HEALTH_SECONDS = 5.0  # the machine is busy
BROKEN = {4: FIVE.raises, 8: FIVE.unhealthy, 11: FIVE.raises, 14: FIVE.hangs, 18: FIVE.raises}  # by number
LOADS = ((2, 0), (6, 50))  # connections, and the milliseconds that each is idle after an answer


def test_no_request_fails_while_code_is_pushed(python: Path, django_image: Path, tmp_path: Path) -> None:
    uvicorn = (str(python), "-m", "uvicorn", "--port", "{port}", "--no-access-log", "mysite.asgi:application")
    app = App(uvicorn, health="/")
    with running_app(tmp_path, django_image, app, "blue-green", HEALTH_SECONDS) as chain:
        first = FIVE.good.change
        chain.edit(first.path, first.old, first.new)
        assert chain.push().status == "healthy"
        url = f"http://127.0.0.1:{chain.replicas['one'].port}/"
        with ExitStack() as stack:
            loads = [
                stack.enter_context(load(url, tmp_path, connections=connections, pause_ms=pause))
                for connections, pause in LOADS
            ]
            push_many(chain)
    for found in loads:
        print(found.report)
        requests, slowest = found.report.pop("requests"), found.report.pop("slowest_ms")
        assert requests > 10 * PUSHES, "that was no load"
        assert slowest > 0
        assert found.report == {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def test_the_load_notices_an_application_that_is_stopped_and_started(
    python: Path, django_image: Path, tmp_path: Path
) -> None:
    app = App((str(python), "-m", "uvicorn", "--port", "{port}", "mysite.asgi:application"), health="/")
    with running_app(tmp_path, django_image, app, "restart", HEALTH_SECONDS) as chain:
        url = f"http://127.0.0.1:{chain.replicas['one'].port}/"
        with load(url, tmp_path, connections=2, pause_ms=0) as found:
            chain.edit(FIVE.good.change.path, FIVE.good.change.old, FIVE.good.change.new)
            assert chain.push().status == "healthy"
    assert found.report["connect"] + found.report["read"] > 0


def push_many(chain: AppChain) -> None:
    """What is good counts up; what is broken is taken back, and the answer stays."""
    for number in range(1, PUSHES + 1):
        before = chain.answer()
        broken = BROKEN.get(number)
        if broken is None:
            chain.edit(URLS, before, f"front page {number}")
            assert chain.push(f"good {number}").status == "healthy"
            assert chain.answer() == f"front page {number}"
            continue
        change = broken.change
        old = change.old.replace(FIVE.good.text, before)
        chain.edit(change.path, old, change.new)
        assert chain.push(f"broken {number}").status == "rolled_back"
        chain.edit(change.path, change.new, old)
        assert chain.answer() == before
