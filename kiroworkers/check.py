"""
Run ``kiroworkers check`` under its earlier name, ``python -m kiroworkers.check``.
"""

import sys

from kiroworkers.cli.check import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
