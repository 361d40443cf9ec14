"""codesync: push code changes into a running remote application and learn what became of it."""

__version__ = "0.1.0"
