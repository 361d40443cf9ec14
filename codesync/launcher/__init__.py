"""The container's entrypoint: runs the application, and applies what the sidecar has put on the volume.

    options.py     command line and environment
    place.py       where an instance of the application runs
    supervisor.py  the application, its instances and its signals: a plain init
    relay/         with blue-green: clients' connections to whichever instance serves
    service.py     the same with a volume and a sidecar
    crashes.py     when an application that ended by itself is started again
    logs.py        its output, for whoever asks
    permissions.py what this user may not do
    trial.py       one push, from `try` to kept or undone
    reload.py      how its code is brought to run
    bluegreen.py   the same beside the code that serves
    roots.py       the trees for that
    mirror/        one directory made like another
    ports.py       ports for that
    hooks.py       commands that a push brings along
    tree.py        the application's directory, from one tree to another; recovery
    changes.py     the difference of two trees, drift, staging
    image.py       generation 0: listed, copied
    volume.py      files on the volume
    records.py     their formats
    link.py        the socket to the sidecar
    messages.py    what is said there

Standard library only, Python 3.8 and later: it has to run in whatever image the application brings.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codesync.launcher.service import Service
    from codesync.launcher.supervisor import Supervisor

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run until the application ends: its exit status, 128 and the signal when one killed it, 2 for bad usage."""
    from codesync.launcher.options import parse_options, shown
    from codesync.launcher.supervisor import Supervisor
    from codesync.supervise import HealthError, become_subreaper

    _open_standard_streams()
    options = parse_options(arguments, os.environ)
    try:
        supervisor = Supervisor(options)
    except HealthError as error:
        sys.stderr.write(f"codesync.launcher: {error}\n")
        return 2
    except OSError as error:  # nothing else is opened there
        sys.stderr.write(f"codesync.launcher: cannot listen on {shown(options)}: {error.strerror or error}\n")
        return 2
    supervisor.install_signals()
    become_subreaper()
    return _serve(supervisor)


def _serve(supervisor: Supervisor) -> int:
    """With the volume where there is one that can be used, else without: the application runs in any case."""
    from codesync.launcher.permissions import report
    from codesync.launcher.supervisor import note

    try:
        service = _prepare(supervisor)
    except (
        Exception
    ) as error:  # whatever is wrong with the volume, or with us: that is no reason not to start
        lacking = report(supervisor.options.files_dir, supervisor.options.app_root)
        reason = lacking[0] if lacking else str(error) or type(error).__name__
        note(f"{reason}; the application runs, but nothing can be pushed")
        return supervisor.serve()
    return service.serve()


def _prepare(supervisor: Supervisor) -> Service:
    """Open the volume and bring in the committed tree. Raises VolumeError, TreeError, OSError."""
    from codesync.launcher.link import Link
    from codesync.launcher.service import Service
    from codesync.launcher.supervisor import note
    from codesync.launcher.tree import Tree
    from codesync.launcher.volume import Volume

    volume = Volume(supervisor.options.files_dir)
    tree = Tree(supervisor.options.app_root, volume, note)
    link = Link(volume.launcher, supervisor.loop)
    try:
        service = Service(supervisor, volume, tree, link)
        service.prepare()
    except BaseException:  # nobody will answer there
        link.close()
        raise
    return service


def _open_standard_streams() -> None:
    """Whoever starts us without one of them must not find a pipe of ours there."""
    while True:
        stream = os.open(os.devnull, os.O_RDWR)
        if stream > 2:
            os.close(stream)
            return
        os.set_inheritable(stream, True)
