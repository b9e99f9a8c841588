"""
The built-in offline agent: ``python -m kiroworkers.offline``.

An interactive program with the classic interface that answers by rules, without
a network and without a model.  Type an idea and get a user story; or paste the
prompt of one of the server's tasks (a line ``Task: NAME`` and a line
``Request: {…}``) and get what the task asks for.  It says what it is, and uses
no tools: a line ``Tool: NAME`` only shows how an approval is asked for.
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
    Answers by rules, after `delay` seconds of thought (to show waiting).
    """

    hint = "Type an idea, or /help"

    def __init__(self, terminal: int = 0, delay: float = 0.0) -> None:
        super().__init__(terminal)
        self._delay = delay

    def banner(self) -> str:
        return _BANNER

    def command(self, line: str) -> None:
        if line.strip() == "/help":
            self.write(_HELP)
        else:
            super().command(line)

    def turn(self, text: str) -> None:
        began = time.monotonic()
        self.write(classic.SUBMITTED)
        tool = _TOOL.search(text)
        said = self._ask_for(tool[1]) if tool is not None else reply(text)
        self.think(self._delay)
        self.write(classic.answer(said))
        self.write(classic.footer(time.monotonic() - began))

    def _ask_for(self, tool: str) -> str:
        self.write(classic.SPINNER_GONE)
        name = "".join(each for each in tool if each.isprintable())[:80]
        if self.allowed(name):
            return "You allowed it, but this agent has no tools: nothing was run."
        return "You denied it. Nothing was run."


def reply(text: str) -> str:
    """
    What the rules say to `text`: a task's prompt, or an idea in plain words.
    """
    task, request = _TASK.search(text), _REQUEST.search(text)
    if task is None:
        return _fenced(RULES["generate-story"]({"idea": text.strip()}))
    rule = RULES.get(task[1]) or CHAT.get(task[1])
    if rule is None:
        return f"I know no rules for the task {task[1]}; I know {', '.join(RULES)}."
    try:
        asked = json.loads(request[1]) if request is not None else None
    except ValueError:
        asked = None
    if asked is None:
        return f"The task {task[1]} needs a line that says Request: and a JSON object."
    return _fenced(rule(asked))


def _fenced(answer: dict[str, Any]) -> str:
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    # The interface decodes entities inside a fence, and backticks end it.
    text = text.replace("&", "\\u0026").replace("`", "\\u0060")
    return f"By rules, offline:\n\n```json\n{text}\n```"


def main() -> int:
    """
    Talk on standard input, which must be a terminal.
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
        return 1  # the terminal is gone


if __name__ == "__main__":
    sys.exit(main())
