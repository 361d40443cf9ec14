"""The proxy: lets ides and sidecars in, coordinates pushes over the replicas of a deployment, relays batches.

It understands envelopes, never file contents. `coordinator.py` decides, sans I/O; `server.py` and what it uses do it.
"""

from codesync.proxy.server import serve

__all__ = ["serve"]
