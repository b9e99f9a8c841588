"""
A stand-in of a program that prints a prompt and reads a line, as many command
line clients of models are: no marks, no clear, an editor that echoes.

It answers as `tests.fakekiro` does, and knows of its faults ``think``,
``silent``, ``die`` and ``prose``.  ``FAKEKIRO`` may say ``bare``: read without an
editor, and so without an echo.
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
#: Where a line of a task's prompt began, before it was made one.
_LINES = re.compile(r" (Request: |Answer with |An example |Give )")


def answer_line(line: str, faults: Mapping[str, str] = MappingProxyType({})) -> str:
    """
    The answer to a prompt that was made one line.
    """
    return answer_text(_LINES.sub(r"\n\1", line), faults)


def main() -> int:
    """
    Talk until there is no more input.
    """
    if "bare" not in faults_in(os.environ.get("FAKEKIRO", "")):
        import readline  # noqa: F401  # `input` edits with it from now on
    print("Chatting with nobody. Type 'exit' to leave.", flush=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            return 1
        listed = _FAULTS.search(line)
        faults = faults_in(listed[1]) if listed is not None else {}
        if "silent" in faults:
            time.sleep(3600)
        time.sleep(float(faults.get("think", "0")))
        if "die" in faults:
            return 1
        print(answer_line(line, faults), flush=True)


if __name__ == "__main__":
    sys.exit(main())
