"""`python -m conv1x1`: the command of `conv1x1.command`."""

import sys

from .command.main import main

if __name__ == "__main__":
    sys.exit(main())
