"""
Run the built-in offline agent: ``python -m kiroworkers.offline``.

The agent is an interactive program with Kiro's classic interface.  It answers by a few
rules, without a network and without a model.  Type an idea to get a user story, or paste
the prompt of one of the server's tasks (a line ``Task: NAME`` and a line ``Request: {…}``).
Tasks that it has no rules for get a sample that fits their schema.
"""

from __future__ import annotations

import os
import sys
import time

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.console import Console
from kiroworkers.offline.replies import reply

_BANNER = """\
\x1b[1mkiroworkers offline agent\x1b[0m
I answer by rules on this machine. I am not Kiro, and no model is asked.
Type an idea to get a user story, /help for more, /quit to leave.

Model: none (rules)

"""
_HELP = """
An idea in plain words gives a user story.
A task of the server, pasted whole (Task: …, Request: {…}), gives its answer:
  generate-story   an idea as a user story
  generate-test    a story's acceptance test
  analyze-invest   a story reviewed by the INVEST criteria
  any other        a sample that fits the task's schema
/clear forgets the conversation, /quit leaves, Ctrl-C cancels a turn.

"""


class OfflineAgent(Console):
    """
    Answer by fixed rules on a terminal.

    Args:
        terminal: The file descriptor of the terminal.
        delay: Seconds to show the spinner before each answer.
    """

    hint = "Type an idea, or /help"

    def __init__(self, terminal: int = 0, delay: float = 0.0) -> None:
        super().__init__(terminal)
        self._delay = delay

    def banner(self) -> str:
        """
        Return the text that introduces the agent.
        """
        return _BANNER

    def command(self, line: str) -> None:
        """
        Run a slash command: ``/help``, or one that `Console` knows.
        """
        if line.strip() == "/help":
            self.write(_HELP)
        else:
            super().command(line)

    def turn(self, text: str) -> None:
        """
        Print the answer to `text`.
        """
        started_at = time.monotonic()
        self.write(classic.SUBMITTED)
        answer = reply(text)
        self.think(self._delay)
        self.write(classic.answer(answer))
        self.write(classic.footer(time.monotonic() - started_at))


def main() -> int:
    """
    Run the agent on standard input, which must be a terminal.

    Returns:
        The exit status: 0 after a normal end, 1 when the terminal closed, 2 when standard
        input is not a terminal or ``KIROWORKERS_OFFLINE_DELAY`` is not a number.
    """
    if not os.isatty(0):
        print("kiroworkers.offline is interactive: run it in a terminal.", file=sys.stderr)
        return 2
    try:
        delay = max(0.0, float(os.environ.get("KIROWORKERS_OFFLINE_DELAY", "0")))
    except ValueError:
        print("KIROWORKERS_OFFLINE_DELAY must be a number of seconds.", file=sys.stderr)
        return 2
    try:
        return OfflineAgent(delay=delay).run()
    except OSError:
        return 1  # the terminal was closed


if __name__ == "__main__":
    sys.exit(main())
