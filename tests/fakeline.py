"""
A stand-in for a program that prints a prompt and reads one line, with faults on demand.

Many command-line clients of models work like this: nothing marks the start of their
input, no command clears the conversation, and their line editor echoes.

It answers as `tests.fakekiro` does, and has its faults ``think``, ``silent``, ``die``
and ``prose``.  With ``bare`` in ``FAKEKIRO`` it reads without a line editor, and so
without an echo.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType

from tests.fakekiro import answer_text, faults_in

_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
#: Matches where the lines of a task's prompt began before they were joined.
_LINES = re.compile(r" (Request: |Answer with |An example |Give )")


def answer_line(line: str, faults: Mapping[str, str] = MappingProxyType({})) -> str:
    """
    Return the answer to a prompt whose lines were joined to one.
    """
    return answer_text(_LINES.sub(r"\n\1", line), faults)


def main() -> int:
    """
    Answer lines until the end of input, and return the exit status.
    """
    if "bare" not in faults_in(os.environ.get("FAKEKIRO", "")):
        import readline  # noqa: F401  # `input` edits with it from now on
    print("Chatting with nobody. Type 'exit' to leave.", flush=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            return 1
        match = _FAULTS.search(line)
        faults = faults_in(match[1]) if match is not None else {}
        if "silent" in faults:
            time.sleep(3600)
        time.sleep(float(faults.get("think", "0")))
        if "die" in faults:
            return 1
        print(answer_line(line, faults), flush=True)


if __name__ == "__main__":
    sys.exit(main())
