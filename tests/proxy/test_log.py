"""One event is one line, whatever a peer says."""

import logging

import pytest

from codesync.proxy.events import Note
from codesync.proxy.log import line, websocket_logger, where
from codesync.proxy.metrics import Metrics


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("a\nb\x1b[0m", "a?b?[0m"),
        ("", '""'),
        (7, "7"),
        ("x" * 999, "x" * 300),
    ],
)
def test_a_fact_is_one_word(value: object, word: str) -> None:
    assert line("what", {"fact": value}) == f"what fact={word}"


def test_the_library_logs_no_headers_and_no_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logger = websocket_logger()
    logger.debug("< X-Api-Key: secret")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it failed")
    (record,) = caplog.records
    assert record.getMessage() == "it failed: ValueError: two?lines"
    assert record.exc_info is None


def test_where_an_error_was_raised() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    assert where(caught.value).startswith(f"{__file__}:")
    assert where(ValueError()) == "?"


def test_counters_are_shown_with_their_labels() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.note(Note("push", {"push_id": "p", "status": "healthy", "seconds": 1.5}))
    metrics.note(Note("push", {"push_id": "p", "status": "cancelled"}))
    metrics.note(Note("refused", {"push_id": "p", "code": "busy"}))
    metrics.note(Note("fault", {"connection": 1, "code": "bad_message", "reason": "r"}))
    metrics.note(Note("replica", {"replica": "r1"}))
    text = metrics.text(replicas=3)
    for sample in (
        'codesync_turns_total{kind="push",status="healthy"} 2',
        'codesync_turns_total{kind="push",status="cancelled"} 1',
        'codesync_turn_seconds_total{kind="push"} 3',
        'codesync_refused_total{code="busy"} 1',
        'codesync_faults_total{code="bad_message"} 1',
        "codesync_replicas 3",
    ):
        assert f"\n{sample}\n" in text
    assert "r1" not in text
