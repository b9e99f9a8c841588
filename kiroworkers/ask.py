"""
Run ``kiroworkers ask`` under its earlier name, ``python -m kiroworkers.ask``.
"""

from kiroworkers.cli.ask import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
