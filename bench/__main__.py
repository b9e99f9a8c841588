"""
Run benchmarks and print their figures.

The exit status is 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from bench.machine import conditions
from bench.report import Part, replaced, table, text

_NAMES = (
    "overhead",
    "turns",
    "parallel",
    "ingest",
    "crowd",
    "watch",
    "queue",
    "waits",
    "anonymous",
    "stall",
    "warm",
    "start",
    "turnaround",
)
#: Needs PostgreSQL and HAProxy, so it runs only when it is named.
_NAMED = ("cluster",)
_DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.rst"


def main() -> int:
    """
    Run the benchmarks that the arguments name and return the exit status.
    """
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    names = f"of {', '.join(_NAMES)} [all of these]; or {', '.join(_NAMED)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write the table into docs/{_DOCUMENT.name}; goes with all of them",
    )
    parser.add_argument(
        "--turns",
        type=int,
        metavar="N",
        help="with turnaround alone: count what N turns leave behind",
    )
    options = parser.parse_args()
    known = _NAMES + _NAMED
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(known)}")
    if options.names and options.write:
        parser.error("--write is for a run of all: figures of several runs do not go together")
    if options.turns is not None and options.names != ["turnaround"]:
        parser.error("--turns is for turnaround alone")
    began = time.monotonic()
    parts = []
    for name in options.names or _NAMES:
        module = import_module(f"bench.{name}")
        figures = module.measure() if options.turns is None else module.steady(options.turns)
        parts.append(Part(name, module.QUESTION, figures))
        print(text(parts[-1]), flush=True)
    took = time.monotonic() - began
    if options.write:
        details = conditions("python -m bench --write", took)
        _DOCUMENT.write_text(replaced(_DOCUMENT.read_text(), table(parts, details)))
    missed = [figure for part in parts for figure in part.figures if figure.verdict == "no"]
    print(f"in {took:.0f} s; {len(missed)} of the figures do not reach what they are to reach")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
