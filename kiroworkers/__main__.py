"""
Run the ``kiroworkers`` command as ``python -m kiroworkers``.
"""

import sys

from kiroworkers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
