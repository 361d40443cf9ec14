"""`python -m codesync.cli …` is `codesync …`."""

import sys

from codesync.cli import main

if __name__ == "__main__":
    sys.exit(main())
