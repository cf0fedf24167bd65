"""`python -m conv1x1`: the command of `conv1x1.cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
