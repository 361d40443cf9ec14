"""Running one application: its processes, its output, its health. Standard library only, Python 3.8 and later.

    loop.py         one queue of events, one consumer, every wait in one place
    signals.py      signals as events
    children.py     spawning and reaping, process groups, signals
    output.py       output passed on byte for byte; the tail of one run
    log.py          the output of all runs, line by line
    answer.py       an HTTP answer, judged
    health.py       health checks and the thread that asks them
    application.py  start, stop and watch one application

Nothing in here knows of pushes, volumes or sockets to a sidecar.
"""

from codesync.supervise.application import EXITED, STARTING, STOPPING, Application, Process
from codesync.supervise.children import Children, Exit, become_subreaper
from codesync.supervise.health import Check, HealthError, Never, parse_check
from codesync.supervise.log import Line, Log, Recent
from codesync.supervise.loop import Job, Loop
from codesync.supervise.output import Tail
from codesync.supervise.signals import Signals

__all__ = [
    "EXITED",
    "STARTING",
    "STOPPING",
    "Application",
    "Check",
    "Children",
    "Exit",
    "HealthError",
    "Job",
    "Line",
    "Log",
    "Loop",
    "Never",
    "Process",
    "Recent",
    "Signals",
    "Tail",
    "become_subreaper",
    "parse_check",
]
