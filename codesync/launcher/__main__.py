"""`python -m codesync.launcher`, and `python3 launcher.pyz`."""

import os
import sys

from codesync.launcher import main

status = main(sys.argv[1:])
if sys.stderr is not None:
    sys.stderr.flush()
os._exit(status)  # threads may still be reading what a daemon of the application holds open
