"""
Run the built-in offline agent: ``python -m kiroworkers.offline``.

The agent is an interactive program with Kiro's classic interface.  It answers by fixed
rules, without a network and without a model.  Type an idea to get a user story, or paste
the prompt of one of the server's tasks (a line ``Task: NAME`` and a line ``Request: {…}``)
to get the task's answer.  The agent has no tools: a line ``Tool: NAME`` only demonstrates
how it asks for approval.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any

from kiroworkers.offline import classic
from kiroworkers.offline.chat import CHAT
from kiroworkers.offline.console import Console
from kiroworkers.offline.rules import RULES

_TASK = re.compile(r"^Task: *([\w-]+)", re.MULTILINE)
_REQUEST = re.compile(r"^Request: *(\{.*\})$", re.MULTILINE)
_TOOL = re.compile(r"^Tool: *(.+)", re.MULTILINE)

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

        If `text` has a line ``Tool: NAME``, ask for approval of that tool instead.
        """
        started_at = time.monotonic()
        self.write(classic.SUBMITTED)
        tool = _TOOL.search(text)
        answer = self._ask_for(tool[1]) if tool is not None else reply(text)
        self.think(self._delay)
        self.write(classic.answer(answer))
        self.write(classic.footer(time.monotonic() - started_at))

    def _ask_for(self, tool: str) -> str:
        self.write(classic.SPINNER_GONE)
        name = "".join(character for character in tool if character.isprintable())[:80]
        if self.allowed(name):
            return "You allowed it, but this agent has no tools: nothing was run."
        return "You denied it. Nothing was run."


def reply(text: str) -> str:
    """
    Return the answer of the rules to `text`, as JSON in a code fence.

    Args:
        text: The prompt of a task, or an idea in plain words, which gets a user story.

    Returns:
        The answer, or a sentence that says why the task or its request is not understood.
    """
    task, request = _TASK.search(text), _REQUEST.search(text)
    if task is None:
        return _fenced(RULES["generate-story"]({"idea": text.strip()}))
    rule = RULES.get(task[1]) or CHAT.get(task[1])
    if rule is None:
        return f"I know no rules for the task {task[1]}; I know {', '.join(RULES)}."
    try:
        payload = json.loads(request[1]) if request is not None else None
    except ValueError:
        payload = None
    if payload is None:
        return f"The task {task[1]} needs a line that says Request: and a JSON object."
    return _fenced(rule(payload))


def _fenced(answer: dict[str, Any]) -> str:
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    # The interface decodes entities inside a fence, and backticks end it.
    text = text.replace("&", "\\u0026").replace("`", "\\u0060")
    return f"By rules, offline:\n\n```json\n{text}\n```"


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
