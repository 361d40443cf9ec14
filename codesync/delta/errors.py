"""Every error the engine raises on purpose; whatever else escapes from it is a defect or the operating system's word.

    DeltaError
     ├─ SignatureError       bytes that are no signature, or a block size that cannot be
     ├─ PatchError           bytes that are no delta, or a delta that does not fit its basis
     ├─ ManifestError        bytes that are no manifest, or entries that make no tree
     ├─ ScanError            a tree that cannot be read at all
     └─ BatchError           a batch that is damaged, hostile, or for another tree
         ├─ SourceChanged    a file is no longer what the manifest says: scan again
         └─ LimitExceeded    a batch asks for more than the reader's `Limits` allow

Messages are one line. `path`, where an error has one, is the path in the tree, in bytes.
"""


class DeltaError(Exception):
    """Base of the engine's errors. `path`: what it is about, relative to the tree's root, or None."""

    def __init__(self, message: str, path: bytes | None = None) -> None:
        super().__init__(message if path is None else f"{message}: {show(path)}")
        self.path = path


class SignatureError(DeltaError):
    """Not a signature of this version, or one that contradicts itself."""


class PatchError(DeltaError):
    """Not a delta of this version, or an operation that reaches outside its basis."""


class ManifestError(DeltaError):
    """Not a manifest of this version, or entries that cannot stand in one tree."""


class ScanError(DeltaError):
    """The tree cannot be read: its root is missing, is no directory, or may not be listed."""


class BatchError(DeltaError):
    """The batch is refused; nothing of the tree has changed."""


class SourceChanged(BatchError):
    """While a batch was written a file differed from its manifest entry. Scan again and write anew."""


class LimitExceeded(BatchError):
    """A batch declares or holds more than `Limits` allow. `limit` names the field of `Limits`."""

    def __init__(self, message: str, limit: str, path: bytes | None = None) -> None:
        super().__init__(message, path)
        self.limit = limit


def show(path: bytes, longest: int = 200) -> str:
    """A path for people: one line, printable, not endless."""
    text = path.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 :]}"
