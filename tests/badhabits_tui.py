"""
A stand-in with a full-screen interface that asks a model server, with bad habits.

It draws as `tests.faketui`.  See `tests.badhabits` for the habits.
"""

from __future__ import annotations

import os
import random
import re
import select
import sys
from collections.abc import Mapping
from typing import Any

from tests.badhabits import Agent, ModelError, agent_from, cut
from tests.fakekiro import faults_in
from tests.faketui import Cancelled, FakeTui, run_in_raw_mode

_FRAMES = "⠁⠉⠙⠹⢹⣹⣽⣿"
_FRAME = 0.08
_APPROVAL = ("Yes, single permission", "Trust, always allow in this session", "No (Tab to edit)")

#: The habits of `tests.faketui` that are listed under another name.
_DRAWN = {"slowclear": ("clear", "late"), "units": ("counts", "units"), "journal": ("journal", "")}


class BadTui(FakeTui):
    """
    Act as an agent that asks a model server.
    """

    def __init__(self, agent: Agent) -> None:
        habits = agent.habits
        drawn = dict(_DRAWN[name] for name in habits if name in _DRAWN)
        late = {"early": habits["late"]} if "late" in habits else {}
        super().__init__({**drawn, **late})
        if "wrap" in habits:
            self._columns = int(habits["wrap"])
        self._agent = agent
        self._chance = random.Random(1)
        self._conversation = agent.begin(os.getcwd())
        self._loses_enter = "lostenter" in habits

    def _write(self, text: str) -> None:
        for piece in cut(text.encode("utf-8", "replace"), self._chance):
            while piece:
                piece = piece[os.write(1, piece) :]

    def _placed(self, match: re.Match[str]) -> str:
        drawn, column = "", 1
        for character in match["row"]:
            column += len(character.encode("utf-16-le", "replace")) // 2
            drawn += character if character.isascii() else f"{character}\x1b[{column}G"
        return drawn

    def _submit(self, text: str) -> None:
        if self._loses_enter:
            self._loses_enter = False
            self._composer = text
            return
        super()._submit(text)
        if not text.startswith("/"):
            self.draw()
            self._agent.title(text)

    def _command(self, line: str) -> None:
        super()._command(line)
        if line == "/clear":
            self._conversation = self._agent.begin(os.getcwd())

    def _turn(self, text: str, faults: Mapping[str, str]) -> None:
        stale = self._agent.last_answer if "stale" in self._agent.habits else ""
        self._conversation.messages.append({"role": "user", "content": text})
        try:
            answer = self._converse()
        except ModelError as error:
            self._log += [f"Error: {error}", ""]
            return
        self._spinning = None
        self._print_answer("\n".join(filter(None, (self._agent.shown(answer), stale))))
        self._agent.end_turn(self._conversation, text, answer)

    def _converse(self) -> str:
        while True:
            request = self._agent.ask(self._conversation)
            sources: list[Any] = [0, request]
            text, frame = "", 0
            try:
                while not request.ended:
                    self._spinning = f"{_FRAMES[frame % 8]} Thinking... (esc to cancel)"
                    frame += 1
                    self.draw()
                    ready, _, _ = select.select(sources, [], [], _FRAME)
                    if 0 in ready and any(key["key"] in ("\x1b", "\x03") for key in self._keys(0)):
                        raise Cancelled
                    if request in ready:
                        text += request.read()
            finally:
                request.close()
            said = {"role": "assistant", "content": text}
            if request.call is None:
                self._conversation.messages.append(said)
                self._agent.run_blocks(text)
                return text
            result = self._agent.use_tool(request.call, self._permit, self._announce)
            self._conversation.messages += [said, {"role": "tool", "content": result}]

    def _permit(self, title: str) -> bool:
        self._spinning = None
        self._log += [f"↓ {title}", ""]
        allowed = self.choose("shell requires approval", _APPROVAL) != len(_APPROVAL) - 1
        if not allowed and "insist" not in self._agent.habits:
            self._log += ["Tool denied.", ""]
        return allowed

    def _announce(self, title: str) -> None:
        self._spinning = None
        self._log += [f"↓ {title}", "  done", ""]
        self.draw()


def main() -> int:
    """
    Act as the agent, and return the exit status.
    """
    if sys.argv[1:] == ["--version"]:
        print("badhabits-tui 2.0")
        return 0
    habits = faults_in(os.environ.get("BADHABITS", ""))
    agent = agent_from(os.environ, habits)
    try:
        return run_in_raw_mode(BadTui(agent).run)
    except OSError:
        return 1  # the terminal is gone


if __name__ == "__main__":
    sys.exit(main())
