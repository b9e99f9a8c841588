"""
Run ``kiroworkers task`` under its earlier name, ``python -m kiroworkers.task``.
"""

import sys

from kiroworkers.cli.task import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
