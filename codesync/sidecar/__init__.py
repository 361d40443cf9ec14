"""The sidecar: beside the application, on the same volume; applies what the proxy relays.

state.py          the format of `.sidecar/state`
volume.py         paths, permissions, atomic writes
history.py        displaced contents, for rollbacks
store.py          stage, commit, recover: blocking, crash-safe
launcher_link.py  the launcher's socket
answers.py        manifests and signatures for clients
replica.py        one replica's part in a push
service.py        the process: connects to the proxy, until stopped
"""

from codesync.sidecar.service import run
from codesync.sidecar.store import StoreError

__all__ = ["StoreError", "run"]
