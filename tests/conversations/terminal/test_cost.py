"""
Tests for what it costs to read a terminal on which a model prints whatever it likes.
"""

from __future__ import annotations

from time import thread_time

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor
from kiroworkers.conversations import Conversation, load_dialect, new_conversation
from tests.servers import COVERAGE_FACTOR

#: The most bytes that one read of a PTY returns on Linux, nearly.
READ = 8192

KIRO = load_dialect("kiro-classic")
TUI = load_dialect("kiro-tui")
GEMINI = load_dialect("gemini")


def editor() -> Conversation:
    """
    Return a conversation with a line editor whose answer has begun.
    """
    conversation = new_conversation(KIRO, 8 << 20)
    conversation.feed(LineEditor(classic.prompt()).open())
    conversation.ask("x")
    conversation.feed(b"\x1b[?2004l\r\n" + classic.ANSWER_PREFIX.encode())
    return conversation


def tui() -> Conversation:
    """
    Return a conversation with Kiro's full-screen interface, which is busy.
    """
    conversation = new_conversation(TUI, 8 << 20)
    conversation.feed(b"\r\n\r\n ask a question or describe a task\r\n x")
    conversation.on_quiet()
    conversation.ask("say it")
    rows = "⠙ Thinking... (esc to cancel)\r\n\r\n Kiro is working · type to queue a message\r\n x"
    conversation.feed(f"\x1b[?2026h\x1b[2A\r\x1b[J{rows}\x1b[?2026l".encode())
    return conversation


def gemini() -> Conversation:
    """
    Return a conversation with Gemini, which is busy and has printed nothing yet.
    """
    conversation = new_conversation(GEMINI, 8 << 20)
    conversation.feed("\x1b]0;◇  Ready\x07\r\n>    Type your message".encode())
    conversation.on_quiet()
    conversation.ask("say it")
    conversation.feed("\x1b]0;✦  Working\x07".encode())
    return conversation


class CostTests(SynchronousTestCase):
    """
    Tests for `Conversation.feed`.  The limits are some times what it takes.
    """

    def assertTakes(
        self, limit: float, conversation: Conversation, piece: bytes, size: int
    ) -> None:
        """
        Assert that reading `size` bytes of `piece`, repeated, takes less than `limit` seconds.
        """
        self.assertTrue(not conversation.at_prompt, "a turn is running")
        data = piece * (size // len(piece))
        began = thread_time()
        for start in range(0, len(data), READ):
            conversation.feed(data[start : start + READ])
        self.assertLess(thread_time() - began, limit * COVERAGE_FACTOR, piece[:20])

    def test_prompts(self) -> None:
        """
        Output with many possible beginnings of a prompt is searched once.
        """
        for piece in (b"\x1b[K> ", b"\x1b[Km1% > ", b"m1% "):
            self.assertTakes(0.3, editor(), b"\x1b[?2004h" + piece * 500 + b"\x1b[?2004l", READ)

    def test_headers(self) -> None:
        """
        Output with many possible beginnings of a failure is searched once.
        """
        self.assertTakes(0.3, editor(), b"\x1b[31m", 4 * READ)

    def test_blank_lines(self) -> None:
        """
        Blank lines that may be part of an answer cost the same each, however many there are.
        """
        conversation = editor()
        conversation.streaming = True
        self.assertTakes(8, conversation, b"\r\n", 2 << 20)

    def test_frames(self) -> None:
        """
        The cost of drawing a frame does not grow with the turn.
        """
        conversation = tui()
        conversation.feed(b"a line\r\n" * 20_000)
        self.assertTakes(1.2, conversation, b"\x1b[?2026hx\x1b[?2026l", READ)

    def test_emoji(self) -> None:
        """
        The cost of moving behind an emoji does not grow with the width of the screen.
        """
        self.assertTakes(5, gemini(), "👍🏽\x1b[D".encode(), 8 * READ)

    def test_rows(self) -> None:
        """
        A row that scrolls away costs less than looking at all rows.
        """
        self.assertTakes(3.5, gemini(), b"a\r\n", 8 * READ)
