"""
Follow any program that prints a prompt and reads a line.

A turn ends when the last line looks like the prompt and no more output follows for a
moment; nothing else marks its end.  Unlike the other kinds, this kind of conversation can
therefore be deceived by an answer that prints the prompt alone on a line and pauses there.
Use it for programs that offer nothing better.  Every answer has ``quiet`` as its
completion.
"""

from __future__ import annotations

from attrs import evolve

from kiroworkers.conversations.dialects.dialect import Dialect, Keys, LinePrompt
from kiroworkers.conversations.events import Event, PromptLost
from kiroworkers.conversations.terminal.buffered import BufferedConversation
from kiroworkers.conversations.terminal.conversation import Expecting
from kiroworkers.conversations.terminal.prompt_encoding import to_one_line
from kiroworkers.conversations.transcript import plain_text

#: A line of more bytes is not a prompt.
_MAX_PROMPT_LENGTH = 4096

#: With these the program turns bracketed paste on and off.
_PASTE_ON = b"\x1b[?2004h"
_PASTE_OFF = b"\x1b[?2004l"


class LineConversation(BufferedConversation):
    """
    Wait for a last line that matches the prompt.

    Args:
        dialect: The agent's dialect.
        line: The pattern of the prompt, and how long to wait after it.
        max_output: The maximum output of a turn, in bytes.
    """

    completion = "quiet"

    def __init__(self, dialect: Dialect, line: LinePrompt, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._line = line
        self._typed_prompt = ""
        # Until the turn's first newline, the last line may be the previous prompt.
        self._newline_seen = True
        self._looks_ready = False
        self._at_prompt = False
        self._paste_is_on = False

    @property
    def at_prompt(self) -> bool:
        """
        Return whether the last line is the prompt and was followed by silence.
        """
        return self._at_prompt

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the dialect's `quiet` while the last line looks like a prompt, otherwise None.
        """
        return self._line.quiet if self._looks_ready and not self._at_prompt else None

    def ask(self, prompt: str) -> bytes:
        """
        Return the keys that submit `prompt`, as one line unless the program takes pastes.
        """
        keys = super().ask(prompt)
        self._typed_prompt = to_one_line(prompt)
        # A terminal in line mode has taken the line as soon as it is typed, and nothing
        # is printed that says so.
        self._unsubmitted = False
        self._newline_seen = False
        return keys

    def _prompt_keys(self) -> Keys:
        keys = self._dialect.keys
        if not keys.paste_start and self._paste_is_on:
            return evolve(keys, paste_start=b"\x1b[200~", paste_end=b"\x1b[201~")
        return keys

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in `data`, which may be cut at any byte.
        """
        events: list[Event] = []
        self._newline_seen = self._newline_seen or b"\n" in data
        self._append_output(data, events)
        new = self._output[-len(data) - len(_PASTE_ON) :]
        on, off = new.rfind(_PASTE_ON), new.rfind(_PASTE_OFF)
        if on != off:
            self._paste_is_on = on > off
        start = self._output.rfind(b"\n") + 1
        short = len(self._output) - start <= _MAX_PROMPT_LENGTH
        last_line = plain_text(bytes(self._output[start:])) if short and self._newline_seen else ""
        self._looks_ready = bool(last_line) and self._line.prompt.search(last_line) is not None
        if self._at_prompt and not self._looks_ready:
            self._at_prompt = False
            events.append(PromptLost())
        return events

    def on_quiet(self) -> list[Event]:
        """
        Return the meaning of a prompt that was followed by silence.
        """
        if self.quiet_timeout is None:
            return []
        self._at_prompt = True
        text = self._turn_text() if self._expecting is Expecting.ANSWER else ""
        return [self._handle_prompt(text)]

    def _turn_text(self) -> str:
        """
        Return what was printed since the prompt was typed, without the echo and the new prompt.
        """
        text = self._text_of_turn()
        text = text[_end_of_echo(text, self._typed_prompt) :]
        return text[: text.rfind("\n") + 1]

    def _invalidate_prompt(self) -> None:
        self._at_prompt = self._looks_ready = False

    def _text_since_input(self) -> str:
        return self.recent_output


def _end_of_echo(text: str, prompt: str) -> int:
    """
    Return the end, in `text`, of the last line of the echo of `prompt`; 0 without an echo.

    White space is ignored, because line editors break lines where they like.  They may also
    draw their own prompt before the echo.
    """
    letters = "".join(prompt.split())
    start = max(0, text.find(letters[0], 0, text.find("\n")))
    echoed = 0
    while (end := text.find("\n", start) + 1) > 0:
        line = "".join(text[start:end].split())
        rest = len(letters) - echoed
        if letters[echoed : echoed + len(line)] != line[:rest]:
            return 0
        if len(line) >= rest:
            return end
        echoed += len(line)
        start = end
    return 0
