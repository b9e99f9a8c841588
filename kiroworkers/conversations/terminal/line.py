"""
Any program that prints a prompt and reads a line.

Nothing marks the end of a turn but a last line that looks like the prompt, and
a moment without more.  So this can be deceived as no other kind can: by an
answer that prints the prompt alone on a line and pauses there.  It is for
programs that offer nothing better, and says `quiet` with each answer.
"""

from __future__ import annotations

from attrs import evolve

from kiroworkers.conversations.dialects.dialect import Dialect, Keys, LinePrompt
from kiroworkers.conversations.events import Event, PromptLost
from kiroworkers.conversations.terminal.keyboard import Expecting
from kiroworkers.conversations.terminal.printed import PrintedConversation
from kiroworkers.conversations.terminal.typing import one_line
from kiroworkers.conversations.transcript import plain

#: A line that is longer is no prompt.
_LONGEST_PROMPT = 4096

#: The program asks for bracketed paste.
_PASTE_WANTED = b"\x1b[?2004h"
_PASTE_UNWANTED = b"\x1b[?2004l"


class LineConversation(PrintedConversation):
    """
    Waits for a last line that matches the prompt.
    """

    completion = "quiet"

    def __init__(self, dialect: Dialect, line: LinePrompt, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._line = line
        self._asked = ""
        # Before its first newline it may be the prompt that was there before.
        self._answering = True
        self._looks_ready = False
        self._at_prompt = False

    @property
    def at_prompt(self) -> bool:
        return self._at_prompt

    @property
    def quiet_timeout(self) -> float | None:
        return self._line.quiet if self._looks_ready and not self._at_prompt else None

    def ask(self, prompt: str) -> bytes:
        keys = super().ask(prompt)
        self._asked = one_line(prompt)
        # A terminal in line mode has taken the line when it is typed; nothing
        # says so.
        self._unsubmitted = False
        self._answering = False
        return keys

    def _keys(self) -> Keys:
        keys = self._dialect.keys
        wanted = self._output.rfind(_PASTE_WANTED) > self._output.rfind(_PASTE_UNWANTED)
        if not keys.paste_start and wanted:
            return evolve(keys, paste_start=b"\x1b[200~", paste_end=b"\x1b[201~")
        return keys

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        self._answering = self._answering or b"\n" in data
        self._keep(data, events)
        start = self._output.rfind(b"\n") + 1
        short = len(self._output) - start <= _LONGEST_PROMPT
        last = plain(bytes(self._output[start:])) if short and self._answering else ""
        self._looks_ready = bool(last) and self._line.prompt.search(last) is not None
        if self._at_prompt and not self._looks_ready:
            self._at_prompt = False
            events.append(PromptLost())
        return events

    def on_quiet(self) -> list[Event]:
        if self.quiet_timeout is None:
            return []
        self._at_prompt = True
        said = self._said() if self._expecting is Expecting.ANSWER else ""
        return [self._prompted(said)]

    def _said(self) -> str:
        """
        What was printed since the question, without its echo and the prompt.
        """
        text = plain(self._output)
        text = text[_end_of_echo(text, self._asked) :]
        return text[: text.rfind("\n") + 1]

    def _touch(self) -> None:
        self._at_prompt = self._looks_ready = False

    def _shown(self) -> str:
        return self.last_seen


def _end_of_echo(text: str, asked: str) -> int:
    """
    Where in `text` the echo of `asked` ends, with its line; 0 when there is none.
    Line editors break lines as they like, and may draw the prompt before.
    """
    letters = "".join(asked.split())
    start = text.find(letters[0], 0, text.find("\n"))
    at = 0
    for position in range(max(start, 0), len(text)):
        if at == len(letters):
            return text.find("\n", position) + 1
        if not text[position].isspace():
            if text[position] != letters[at]:
                return 0
            at += 1
    return 0
