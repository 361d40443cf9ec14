"""Log lines: one event is one line, whatever a peer has put into its words. Keys are never among the facts."""

import logging
import traceback
from collections.abc import Mapping


def line(what: str, facts: Mapping[str, object]) -> str:
    """`what key=value key=value`, printable and short."""
    words = " ".join(f"{key}={_word(value)}" for key, value in facts.items())
    return f"{what} {words}".rstrip()


def _word(value: object) -> str:
    text = "".join(char if char.isprintable() else "?" for char in str(value)[:300])
    return f'"{text}"' if " " in text or not text else text


def where(error: BaseException) -> str:
    """Where it was raised: a traceback in a word."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"


def websocket_logger() -> logging.Logger:
    """For the websockets library: warnings only (its lower levels show headers, and so keys), tracebacks cut."""
    logger = logging.getLogger("codesync.proxy.websocket")
    logger.setLevel(logging.WARNING)
    if not logger.filters:
        logger.addFilter(_one_line)
    return logger


def _one_line(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {_word(error)}", ()
    record.exc_info = record.exc_text = None
    return True
