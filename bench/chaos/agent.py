"""
Run the stand-ins for Kiro so that each answer says in which turn it was given.

They are those of `tests.costly_agent`.  A story's ``iWant`` is ``turn N``: its idea has been
answered N times so far, by whichever process.  The folder ``CHAOS_FOLDER`` has a file for each
idea, with a byte for each turn.  One more fault::

    litter      leave helpers that ignore the usual signals: one in the agent's group, and
                others that have left their group, their session or their parent
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests import costly_agent, fakekiro

_NONE: Mapping[str, str] = MappingProxyType({})
_IDEA = re.compile(r"idea (\S+)")

_answer_text = costly_agent.answer_text
_answer_to: Callable[[str, Mapping[str, Any], int], dict[str, Any]] = vars(fakekiro)["_answer_to"]


def answer_text(text: str, faults: Mapping[str, str] = _NONE, known: int = 0) -> str:
    """
    Return the answer to the prompt `text`; leave helpers behind if it asks for that.
    """
    if "litter" in faults:
        for leave in (lambda: None, lambda: os.setpgid(0, 0), os.setsid, _daemonize):
            _start_helper(leave)
    return _answer_text(text, faults, known)


def answer_to(task: str, request: Mapping[str, Any], remembered: int) -> dict[str, Any]:
    """
    Return the answer to a request, with the number of the turn if it is a story.
    """
    answer = _answer_to(task, request, remembered)
    match = _IDEA.match(request.get("idea", ""))
    if match is not None:
        answer["iWant"] = f"turn {_count(match[1])}"
    return answer


def _count(idea: str) -> int:
    """
    Count a turn, and return how many the idea has had.
    """
    path = Path(os.environ["CHAOS_FOLDER"], f"turns-{idea}")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b".")
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _start_helper(leave: Callable[[], object]) -> None:
    """
    Fork a process that calls `leave` and then does nothing, for ever.

    A file that is named after it has the id of the session's supervisor.
    """
    supervisor = os.getppid()
    if os.fork() == 0:
        try:
            leave()
            fakekiro.ignore(signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
            path = Path(os.environ["CHAOS_FOLDER"], f"helper-{os.getpid()}")
            path.write_text(str(supervisor))
            while True:
                signal.pause()
        finally:
            os._exit(0)


def _daemonize() -> None:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)


if __name__ == "__main__":
    vars(costly_agent)["answer_text"] = answer_text
    vars(fakekiro)["_answer_to"] = answer_to
    sys.exit(costly_agent.main(sys.argv[1:]))
