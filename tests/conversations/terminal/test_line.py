"""
Tests for `kiroworkers.conversations.terminal.line`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    Answered,
    Conversation,
    Event,
    LineTooLong,
    Overflowed,
    PromptLost,
    Ready,
    load_dialect,
    new_conversation,
)

GENERIC = load_dialect("generic")


def started(max_output: int = 100_000) -> Conversation:
    """
    Return a conversation that shows its first prompt.
    """
    conversation = new_conversation(GENERIC, max_output)
    assert conversation.feed(b"Chatting with a model\r\n> ") == [], "nothing is certain yet"
    assert conversation.on_quiet() == [Ready()], "it is ready"
    return conversation


class LineTests(SynchronousTestCase):
    """
    Tests for `LineConversation`.
    """

    def test_ready(self) -> None:
        """
        A last line that matches the pattern is the prompt after a moment of silence.
        """
        conversation = new_conversation(GENERIC, 1000)
        conversation.feed(b"Hello\r\n> not yet")
        self.assertIs(conversation.quiet_timeout, None)
        self.assertEqual(conversation.on_quiet(), [])
        conversation.feed(b"\r\n\x1b[?2004h> ")
        self.assertEqual(conversation.quiet_timeout, 0.5)
        self.assertEqual(conversation.on_quiet(), [Ready()])
        self.assertTrue(conversation.at_prompt)

    @given(st.lists(st.integers(0, 60)))
    def test_turn(self, cuts: Iterable[int]) -> None:
        """
        The answer is what was printed between the echo and the next prompt, wherever the
        bytes were cut.
        """
        conversation = started()
        self.assertEqual(conversation.ask("two\nlines"), b"two lines\r")
        data = b'two lines\r\n> {"a": 1}\r\nand more\r\n> '
        events: list[Event] = []
        for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
            events += conversation.feed(data[start:end])
        events += conversation.on_quiet()
        text = '> {"a": 1}\nand more\n'
        self.assertEqual(events, [Answered(text, "quiet")])

    def test_echo_of_many_lines(self) -> None:
        """
        The echo is not part of the answer, wherever the program breaks its lines.
        """
        conversation = started()
        conversation.ask('Request: {"a": 1}\nEnd')
        conversation.feed(b'> Request:\r\n {"a": 1}\r\nEnd\r\n{"b": 2}\r\n> ')
        self.assertEqual(conversation.on_quiet(), [Answered('{"b": 2}\n', "quiet")])

    def test_without_echo(self) -> None:
        """
        A program without an echo is read in the same way.
        """
        conversation = started()
        conversation.ask("hello")
        self.assertEqual(conversation.feed(b"world\r\n> "), [])
        self.assertEqual(conversation.on_quiet(), [Answered("world\n", "quiet")])

    def test_old_prompt(self) -> None:
        """
        The prompt that was there before the question does not end the turn.
        """
        conversation = started()
        conversation.ask("hello")
        conversation.feed(b"")
        self.assertIs(conversation.quiet_timeout, None)

    def test_pause_in_an_answer(self) -> None:
        """
        A pause that does not follow a prompt does not end the turn.
        """
        conversation = started()
        conversation.ask("hello")
        conversation.feed(b"hello\r\nwell\r\n> quoted")
        self.assertIs(conversation.quiet_timeout, None)

    def test_one_line(self) -> None:
        """
        A prompt is typed as one line, or refused if a terminal would cut that line.
        """
        conversation = started()
        with self.assertRaises(LineTooLong) as raised:
            conversation.ask("é" * 2048)
        self.assertEqual((raised.exception.length, raised.exception.limit), (4096, 4094))
        self.assertTrue(conversation.at_prompt)
        self.assertEqual(len(conversation.ask("x" * 4094)), 4095)

    def test_paste_where_it_is_wanted(self) -> None:
        """
        A program that turns on bracketed paste gets the prompt with its newlines.
        """
        conversation = new_conversation(GENERIC, 1000)
        conversation.feed(b"\x1b[?2004h> ")
        conversation.on_quiet()
        self.assertEqual(conversation.ask("two\nlines"), b"\x1b[200~two\nlines\x1b[201~\r")

    def test_overflow(self) -> None:
        """
        A turn that prints too much is reported.
        """
        conversation = started(max_output=1000)
        conversation.ask("hello")
        self.assertEqual(conversation.feed(b"\n" + b"x" * 1000), [Overflowed(1000)])

    def test_prompt_lost(self) -> None:
        """
        A prompt that goes away although nothing was typed is reported as lost.
        """
        self.assertEqual(started().feed(b"\r\nBye.\r\n"), [PromptLost()])

    def test_cannot_forget(self) -> None:
        """
        The conversation cannot be cleared.
        """
        self.assertFalse(started().can_clear)
