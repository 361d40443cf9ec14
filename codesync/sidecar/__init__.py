"""The sidecar: beside the application, on the same volume; applies what the proxy relays.

state.py          the format of `.sidecar/state`
pushes.py         records of a push on its way through the store
volume.py         paths, modes, atomic writes
permissions.py    what either side may not do with the volume
history.py        displaced contents, for rollbacks
generation0.py    the image, as the launcher hands it over
trees.py          manifests and tracked paths, by id
launcher_plan.py  what the launcher is to do for a push
changes.py        the way from one tree to another
store.py          stage, commit, recover: blocking, crash-safe
launcher_words.py what the launcher says, checked once
launcher_link.py  the launcher's socket
at_launcher.py    what a push asks of the launcher
logs.py           the application's output, for whoever asks
answers.py        manifests, signatures and the history for clients
reports.py        what the proxy is told
incoming.py       a batch on its way in
run.py            what is known of the push under way
trial.py          that push: staged, tried, kept or undone
tasks.py          tasks and disk operations, bounded at the end
replica.py        the proxy on one side, the launcher on the other
service.py        the process: connects to the proxy, until stopped
"""

from codesync.sidecar.service import run
from codesync.sidecar.store import StoreError

__all__ = ["StoreError", "run"]
