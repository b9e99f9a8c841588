"""
Tests for `kiroworkers.conversations.terminal.line`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    Answered,
    Cleared,
    Conversation,
    Event,
    LineTooLong,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    load_dialect,
    new_conversation,
)
from kiroworkers.conversations.dialects.dialect import Clear, LinePrompt

GENERIC = load_dialect("generic")
ASK = evolve(GENERIC, line=LinePrompt(re.compile("^ask> $")))
FORGETFUL = evolve(GENERIC, clear=Clear(b"forget\r", re.compile("(?m)^Forgotten\\.$")))

#: The prompts of prompt_toolkit: without and with empty rows below, and with a toolbar.
TOOLKIT_PROMPTS = (
    b"\x1b[?2004h\x1b[?25l\x1b[0m\x1b[?7l\x1b[0m\x1b[J\x1b[0mask>\x1b[4D\x1b[5C\x1b[?7h\x1b[?25h",
    b"\x1b[?2004h\x1b[J\x1b[0mask>\x1b[0m\r\r\n\r\r\n\r\r\n\x1b[0m \x08\x1b[3A\x1b[5C\x1b[?25h",
    b"\x1b[?2004h\x1b[J\x1b[0mask>\x1b[0m\r\r\n\r\r\ntoolbar\r\x1b[2A\x1b[5C\x1b[?25h",
)


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

    def test_forged(self) -> None:
        """
        If the program has a line editor, what looks like its prompt is none while the terminal
        passes on whole lines.
        """
        conversation = started()
        conversation.ask("hello")
        conversation.collects_lines = lambda: True
        self.assertEqual(conversation.feed(b"hello\r\n{}\r\n> "), [])
        self.assertEqual((conversation.on_quiet(), conversation.on_quiet()), ([], []))
        self.assertFalse(conversation.at_prompt)
        conversation.collects_lines = lambda: False
        conversation.feed(b"\r\n{}\r\n> ")
        [answered] = [*conversation.on_quiet(), *conversation.on_quiet()]
        self.assertEqual(answered, Answered("{}\n> \n{}\n", "quiet"))

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
        self.assertEqual(conversation.feed(b'{"a": 1}\r\n> '), [])
        self.assertEqual(conversation.on_quiet(), [Answered('{"a": 1}\n', "quiet")])

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
        self.assertEqual(conversation.on_quiet(), [])
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


class PromptTests(SynchronousTestCase):
    """
    Tests for the prompts of line editors.
    """

    def test_blanks(self) -> None:
        """
        Blanks at the end of a prompt do not decide, whichever way round.
        """
        for pattern, prompt in (("^ask> $", b"ask>"), ("^ask>$", b"ask>  "), ("^ask> $", b"ask> ")):
            dialect = evolve(ASK, line=LinePrompt(re.compile(pattern)))
            conversation = new_conversation(dialect, 1000)
            conversation.feed(prompt)
            self.assertEqual(conversation.on_quiet(), [Ready()], (pattern, prompt))

    def test_prompt_toolkit(self) -> None:
        """
        A prompt that is drawn piece by piece, with rows below it, is recognized, and an answer
        that ends with it is read without it and without the echo.
        """
        for prompt in TOOLKIT_PROMPTS:
            conversation = new_conversation(ASK, 1000)
            conversation.feed(b"Hello\r\n" + prompt)
            self.assertEqual(conversation.on_quiet(), [Ready()], prompt)
            conversation.ask('Request: {"a": 1}')
            conversation.feed(
                b'\x1b[5D\x1b[J\x1b[0mask> Request: {"a": 1}\r\r\n\r\r\n\x1b[2A\x1b[22C'
            )
            self.assertEqual(conversation.on_quiet(), [], prompt)
            conversation.feed(b'\r\x1b[Jask> Request: {"a": 1}\r\r\n\x1b[J\x1b[?2004l')
            conversation.feed(b'{"b": 2}\r\n' + prompt)
            self.assertEqual(conversation.on_quiet(), [Answered('{"b": 2}\n', "quiet")], prompt)

    def test_drawn_anew_for_each_key(self) -> None:
        """
        An echo that is drawn anew for each key, on rows of its own, is no part of the answer.
        """
        conversation = new_conversation(ASK, 10_000_000)
        conversation.feed(b"ask> ")
        conversation.on_quiet()
        typed = '{"a": "' + "a letter and " * 80 + '"}'
        conversation.ask(typed)
        for end in range(1, len(typed) + 1):
            conversation.feed(b"\r\n\x1b[A\x1b[Kask> " + typed[:end].encode())
        conversation.feed(b'\r\n{"b": 2}\r\n\r\n\x1b[A\x1b[Kask> ')
        self.assertEqual(conversation.on_quiet(), [Answered('{"b": 2}\n\n', "quiet")])

    def test_answer_that_repeats_the_prompt(self) -> None:
        """
        An answer that repeats what was typed is an answer, if the program does not echo.
        """
        conversation = started()
        conversation.ask('{"a": 1}')
        conversation.feed(b'you said {"a": 1}\r\n> ')
        self.assertEqual(conversation.on_quiet(), [Answered('you said {"a": 1}\n', "quiet")])

    def test_incomplete_object(self) -> None:
        """
        An answer whose object has not ended is given more time, and what comes then is part
        of it.
        """
        conversation = started()
        conversation.ask("hello")
        conversation.feed(b'hello\r\n{"a": \r\n> ')
        self.assertEqual(conversation.on_quiet(), [])
        self.assertEqual(conversation.quiet_timeout, 1.0)
        conversation.feed(b"\r\x1b[K1}\r\n> ")
        [answered] = conversation.on_quiet()
        assert isinstance(answered, Answered), answered
        self.assertEqual(answered.text, '{"a": \n1}\n')

    def test_styled(self) -> None:
        """
        An answer says where it was styled, without its echo and the prompt.
        """
        conversation = started()
        conversation.ask("hello")
        conversation.feed(b'hello\r\n{"a": \x1b[1mb\x1b[0m}\r\n\x1b[1m> \x1b[0m')
        [answered] = conversation.on_quiet()
        assert isinstance(answered, Answered), answered
        self.assertEqual(answered.styled, (6, 7))


class QueryTests(SynchronousTestCase):
    """
    Tests for programs that ask their terminal.
    """

    def test_start(self) -> None:
        """
        A query before the first prompt is answered at once, with the cursor in the last row.
        """
        conversation = new_conversation(ASK, 1000)
        conversation.feed(b"Hello\r\nwho? \x1b[6")
        self.assertEqual(conversation.data_to_send(), b"")
        conversation.feed(b"n\x1b[5n")
        self.assertEqual(conversation.data_to_send(), b"\x1b[50;6R\x1b[0n")
        self.assertEqual(conversation.data_to_send(), b"")

    def turn(self, first: bytes, answer: bytes) -> tuple[Conversation, list[Event]]:
        """
        Return a conversation that has answered, and the events of its first silence.
        """
        conversation = new_conversation(ASK, 1000)
        conversation.feed(first + b"ask> ")
        conversation.on_quiet()
        conversation.data_to_send()
        conversation.ask("hello")
        self.assertEqual(conversation.feed(b"hello\r\n" + answer), [])
        self.assertEqual(conversation.data_to_send(), b"")
        return conversation, conversation.on_quiet()

    def test_before_the_next_prompt(self) -> None:
        """
        A program that asks before each prompt gets its answer when it is silent, and its turn
        ends when it is silent after that.
        """
        for prompt in (b"", b"ask> "):
            conversation, events = self.turn(b"\x1b[6n", b'{"b": 2}\r\n\x1b[6n' + prompt)
            self.assertEqual(events, [])
            self.assertEqual(conversation.data_to_send(), b"\x1b[50;1R")
            conversation.feed(b"\rask> ")
            self.assertEqual(conversation.on_quiet(), [Answered('{"b": 2}\n', "quiet")])
            self.assertEqual(conversation.data_to_send(), b"")

    def test_quoted(self) -> None:
        """
        A query in an answer is never answered, neither in the turn nor after it.
        """
        for first in (b"\x1b[6n", b""):
            conversation, events = self.turn(first, b'{"b": "\x1b[6n"}\x1b[6n\r\nask> ')
            [answered] = events
            assert isinstance(answered, Answered), answered
            self.assertEqual(answered.text, '{"b": ""}\n')
            self.assertEqual(conversation.data_to_send(), b"")
        conversation, _ = self.turn(b"", b'{"b": 2}\r\n\x1b[6nask> ')
        self.assertEqual(conversation.data_to_send(), b"")


class LostEnterTests(SynchronousTestCase):
    """
    Tests for an Enter that the line editor did not get.
    """

    def typed(self, echo: bytes) -> Conversation:
        """
        Return a conversation in which a prompt was typed, and `echo` is all that followed.
        """
        conversation = new_conversation(ASK, 1000)
        conversation.feed(b"\x1b[?2004hask> ")
        conversation.on_quiet()
        conversation.ask("Tell me about herons")
        conversation.feed(echo)
        self.assertEqual(conversation.on_quiet(), [])
        return conversation

    def test_pressed_again(self) -> None:
        """
        Enter is pressed again, once, when the line editor has held the prompt for 2 seconds.
        """
        conversation = self.typed(b"Tell me about herons")
        self.assertEqual(conversation.data_to_send(), b"")
        self.assertEqual(conversation.quiet_timeout, 2.0)
        self.assertEqual(conversation.on_quiet(), [])
        self.assertEqual(conversation.data_to_send(), b"\r")
        self.assertIs(conversation.quiet_timeout, None)
        self.assertEqual(conversation.on_quiet(), [])
        self.assertEqual(conversation.data_to_send(), b"")
        conversation.feed(b'\r\n\x1b[?2004l{"a": 1}\r\n\x1b[?2004hask> ')
        self.assertEqual(conversation.on_quiet(), [Answered('{"a": 1}\n', "quiet")])

    def test_submitted(self) -> None:
        """
        It is not pressed once the prompt may have been submitted.
        """
        for echo in (
            b"Tell me about herons\r\n",
            b"Tell me about herons\x1b[?2004l",
            b"Tell me about",
            b"",
        ):
            conversation = self.typed(echo)
            self.assertIs(conversation.quiet_timeout, None, echo)
            self.assertEqual(conversation.on_quiet(), [])
            self.assertEqual(conversation.data_to_send(), b"")


class ClearTests(SynchronousTestCase):
    """
    Tests for clearing the conversation.
    """

    def clearing(self, output: bytes) -> Conversation:
        conversation = new_conversation(FORGETFUL, 1000)
        conversation.feed(b"> ")
        conversation.on_quiet()
        self.assertEqual(conversation.clear(), b"forget\r")
        conversation.feed(output)
        return conversation

    def test_prompt_before_the_confirmation(self) -> None:
        """
        A prompt that returns before the clear is confirmed is not believed for 3 seconds.
        """
        conversation = self.clearing(b"forget\r\n> ")
        self.assertEqual(conversation.quiet_timeout, 3.0)
        conversation.feed(b"\r\nForgotten.\r\n> ")
        self.assertEqual(conversation.quiet_timeout, 0.5)
        self.assertEqual(conversation.on_quiet(), [Cleared()])

    def test_unconfirmed(self) -> None:
        """
        After that, the clear was not confirmed.
        """
        [event] = self.clearing(b"forget\r\n> ").on_quiet()
        self.assertIsInstance(event, NotCleared)

    def test_toolbar(self) -> None:
        """
        The confirmation counts although the program fills rows below its prompt with blanks.
        """
        conversation = self.clearing(b"forget\r\nForgotten.\r\n>")
        conversation.feed(3 * (b"\r\r\na toolbar" + b" " * 8991) + b"\x1b[3A\r\x1b[2C")
        self.assertEqual(conversation.on_quiet(), [Cleared()])
