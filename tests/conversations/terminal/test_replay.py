"""
Tests for `kiroworkers.conversations.terminal.replay`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import Dialect
from kiroworkers.conversations.dialects.dialect_file import parse_dialect
from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.replay import events_in

LINE = """
extends = "generic"
[line]
prompt = "^ask> $"
quiet = 0.2
[clear]
type = "\\u001b[200~forget\\u001b[201~\\r"
done = "Forgotten"
"""


def recorded(*pieces: tuple[str, str]) -> list[Chunk]:
    """
    Return a recording with 5 seconds between its pieces of output and input.
    """
    return [
        Chunk(5.0 * number, "i" if direction == "i" else "o", text.encode())
        for number, (direction, text) in enumerate(pieces)
    ]


def names(dialect: Dialect, chunks: list[Chunk]) -> list[str]:
    """
    Return the names of the events in a recording.
    """
    return [type(event).__name__ for _, event in events_in(dialect, chunks)]


class EventsTests(SynchronousTestCase):
    """
    Tests for `events_in`.
    """

    def test_replies(self) -> None:
        """
        A reply of the terminal at the prompt is not a request, and does not become part of one.
        """
        chunks = recorded(
            ("o", "\x1b[6nask> "),
            ("i", "\x1b[1;"),
            ("i", "1R"),
            ("i", "h"),
            ("o", "h"),
            ("i", "i\r"),
            ("o", "i\r\nanswer {}\r\n\x1b[6nask> "),
            ("i", "\x1b[3;1R"),
        )
        events = [event for _, event in events_in(parse_dialect(LINE), chunks)]
        self.assertEqual([type(event).__name__ for event in events], ["Ready", "Answered"])
        self.assertEqual(getattr(events[1], "text", None), "answer {}\n")

    def test_edited(self) -> None:
        """
        A request that was corrected while it was typed is one.
        """
        chunks = recorded(("o", "ask> "), ("i", "x\x7fhi\r"), ("o", "\r\nanswer {}\r\nask> "))
        self.assertEqual(names(parse_dialect(LINE), chunks), ["Ready", "Answered"])

    def test_cancelled(self) -> None:
        """
        A turn that was stopped has no answer, and the next one has its own.
        """
        chunks = recorded(
            ("o", "ask> "),
            ("i", "one\r"),
            ("o", "\r\nWorking"),
            ("i", "\x03"),
            ("o", "\r\nask> "),
            ("i", "two\r"),
            ("o", "\r\nanswer {}\r\nask> "),
        )
        expected = ["Ready", "Ready", "Answered"]
        self.assertEqual(
            [n for n in names(parse_dialect(LINE), chunks) if n != "PromptLost"], expected
        )

    def test_typed_clear(self) -> None:
        """
        A clear that was typed counts, although the dialect pastes it.
        """
        chunks = recorded(
            ("o", "ask> "),
            ("i", "for"),
            ("o", "for"),
            ("i", "get\r"),
            ("o", "\r\nForgotten\r\nask> "),
        )
        self.assertEqual(names(parse_dialect(LINE), chunks), ["Ready", "Cleared"])
