"""
Run ``kiroworkers dialect`` under its earlier name, ``python -m kiroworkers.dialect``.
"""

import sys

from kiroworkers.cli.dialect import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
