"""
Tests for `kiroworkers.conversations.terminal.screen`, on screens drawn row by row.
"""

from __future__ import annotations

from functools import partial

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsEmptying,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    Submitted,
    load_dialect,
    new_conversation,
)

TUI = evolve(load_dialect("kiro-tui"), window=(30, 80))

RULE = "─" * 40
IDLE = (RULE, "Kiro · auto", "", " ask a question or describe a task ↵", "  /copy to clipboard")
BUSY = (RULE, "Kiro · auto", "", " Kiro is working · type to queue a message")
TYPED = (RULE, "Kiro · auto", "", " 12 lines ▸")
SPINNER = ("⠙ Thinking... (esc to cancel)", "")
ECHO = (RULE, '  Request: {"title": "mine"}', "")


def drawn(*rows: str) -> bytes:
    """
    A synchronized update that draws `rows` from the top, erasing nothing else.
    """
    lines = "".join(f"\x1b[{n};1H\x1b[2K{row}" for n, row in enumerate((*rows, *[""] * 12), 1))
    return f"\x1b[?2026h{lines}\x1b[?2026l".encode()


class Following:
    """
    A conversation that is idle, and what was seen of it since.
    """

    def __init__(self, max_output: int = 100_000) -> None:
        self.conversation = new_conversation(TUI, max_output)
        self.conversation.feed(drawn(*IDLE))
        assert self.conversation.on_quiet() == [Ready()], "it is idle"

    def feed(self, *rows: str) -> list[Event]:
        return self.conversation.feed(drawn(*rows))

    def asked(self) -> Following:
        """
        With a prompt typed, taken, and a spinner turning.
        """
        self.conversation.ask("one\ntwo")
        assert self.feed(*TYPED) == [], "the composer holds it"
        assert self.feed(*ECHO, *SPINNER, *BUSY) == [Submitted()], "it was taken"
        return self

    def on_quiet(self) -> list[Event]:
        assert self.conversation.quiet_timeout is not None, "silence is awaited"
        return self.conversation.on_quiet()


class TurnTests(SynchronousTestCase):
    """
    Tests for asking and answering.
    """

    def test_start(self) -> None:
        """
        The idle sign is believed after a quiet moment, once.
        """
        conversation = new_conversation(TUI, 1000)
        self.assertEqual(conversation.feed(drawn("welcome")), [])
        self.assertIs(conversation.quiet_timeout, None)
        self.assertEqual(conversation.feed(drawn("welcome", *IDLE)), [])
        self.assertFalse(conversation.at_prompt)
        self.assertEqual(conversation.quiet_timeout, 0.2)
        self.assertEqual(conversation.on_quiet(), [Ready()])
        self.assertTrue(conversation.at_prompt)
        self.assertIs(conversation.quiet_timeout, None)
        self.assertEqual(conversation.on_quiet(), [])

    def test_turn(self) -> None:
        """
        A turn is answered when busy has become idle and quiet, with what stands
        below the echo.
        """
        following = Following().asked()
        self.assertEqual(following.feed(*ECHO, "  Hey! 2+2", "", *BUSY), [])
        self.assertIs(following.conversation.quiet_timeout, None)
        self.assertEqual(following.feed(*ECHO, "  Hey! 2+2 = 4.", "", *IDLE), [])
        [answered] = following.on_quiet()
        assert isinstance(answered, Answered)
        self.assertEqual((answered.completion, answered.wrapped), ("idle-sign", True))
        self.assertTrue(answered.text.startswith("  Hey! 2+2 = 4.\n"))
        self.assertNotIn("mine", answered.text)

    def test_enter_apart(self) -> None:
        """
        Where Enter is to come apart it is pressed once, when what was typed has
        been drawn and it is quiet; so it is for the clear.
        """
        apart = evolve(TUI, keys=evolve(TUI.keys, apart=True))
        conversation = new_conversation(apart, 100_000)
        conversation.feed(drawn(*IDLE))
        self.assertEqual(conversation.on_quiet(), [Ready()])
        said = ("  Conversation cleared", "")
        for type_it, drawn_then in (
            (partial(conversation.ask, "one"), ()),
            (conversation.clear, said),
        ):
            self.assertFalse(type_it().endswith(b"\r"))
            self.assertEqual(conversation.feed(drawn(*TYPED)), [])
            self.assertEqual(conversation.quiet_timeout, 0.2)
            self.assertEqual(conversation.data_to_send(), b"")
            self.assertEqual(conversation.on_quiet(), [])
            self.assertEqual(conversation.data_to_send(), b"\r")
            self.assertEqual(conversation.data_to_send(), b"")
            self.assertIs(conversation.quiet_timeout, None)
            conversation.feed(drawn(*ECHO, *SPINNER, *BUSY))
            conversation.feed(drawn(*ECHO, "  4", *drawn_then, *IDLE))
            [end] = conversation.on_quiet()
            self.assertIsInstance(end, Answered | Cleared)

    def test_late_frames(self) -> None:
        """
        What is drawn after the idle sign, before it is quiet, is of the answer.
        """
        following = Following().asked()
        following.feed(*ECHO, "  first", "", *IDLE)
        following.feed(*ECHO, "  first and last", "", *IDLE)
        [answered] = following.on_quiet()
        assert isinstance(answered, Answered)
        self.assertIn("first and last", answered.text)

    def test_old_idle_sign(self) -> None:
        """
        The idle sign that was there when the prompt was typed ends no turn.
        """
        following = Following()
        following.conversation.ask("hello")
        following.feed(*IDLE)
        self.assertIs(following.conversation.quiet_timeout, None)
        self.assertEqual(following.conversation.on_quiet(), [])

    def test_idle_before_busy(self) -> None:
        """
        An idle sign that comes back before the busy one ends no turn.
        """
        following = Following()
        following.conversation.ask("hello")
        following.feed(*TYPED)
        following.feed(*IDLE)
        self.assertIs(following.conversation.quiet_timeout, None)
        self.assertEqual(following.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])

    def test_echo_that_looks_like_output(self) -> None:
        """
        Text of a client's in the echo is never taken for the output's beginning.
        """
        echo = (RULE, '  Request: {"title": "x (esc to cancel)"}', "")
        following = Following()
        following.conversation.ask("hello")
        following.feed(*TYPED)
        following.feed(*echo, *BUSY)
        following.feed(*echo, *SPINNER, *BUSY)
        following.feed(*echo, "  I cannot", "", *IDLE)
        [answered] = following.on_quiet()
        assert isinstance(answered, Answered)
        self.assertNotIn("title", answered.text)

    def test_rows_with_new_numbers(self) -> None:
        """
        Nor is it when a part of the screen was scrolled back meanwhile, so that all
        rows have new numbers.
        """
        codex = evolve(load_dialect("codex"), window=(14, 90))
        composer = ("› Ask Codex to do anything", "", "  01234567-89ab-cdef-0123-456789abcdef")

        def says(state: str, title: str) -> bytes:
            return f"\x1b]7501;state={state}\x07\x1b]0;{title}\x07".encode()

        def at(first: int, *rows: str) -> bytes:
            lines = (f"\x1b[{n};1H\x1b[K{row}" for n, row in enumerate(rows, first))
            return "".join(lines).encode()

        for scrolled in (b"", b"\x1b[3;9r\x1b[3;1H\x1bM\x1b[r"):
            conversation = new_conversation(codex, 100_000)
            old = '• {"title":"of the request before"}'
            conversation.feed(says("idle", "Ready") + at(1, old, *[""] * 5) + at(7, *composer))
            self.assertEqual(conversation.on_quiet(), [Ready()])
            conversation.ask("new question")
            conversation.feed(at(7, "› new question") + scrolled)
            conversation.feed(says("working", "Working"))
            conversation.feed(at(3, "› new question", "", "• Working (0s)", "") + at(8, *composer))
            conversation.feed(at(5, "• I cannot do that.", "", ""))
            conversation.feed(at(8, *composer) + says("done", "Ready"))
            [answered] = conversation.on_quiet()
            assert isinstance(answered, Answered), answered
            self.assertNotIn("of the request before", answered.text)
            self.assertIn("I cannot do that.", answered.text)

    def test_output_of_another_turn(self) -> None:
        """
        A row that stands where it stood before something was typed is none of
        its output.
        """
        following = Following()
        following.feed("• an answer (esc to cancel)", "", *IDLE)
        following.conversation.ask("one")
        following.feed("• an answer (esc to cancel)", "", *TYPED)
        busy = ("• an answer (esc to cancel)", "", *ECHO)
        self.assertEqual(following.feed(*busy, *BUSY), [Submitted()])
        following.feed(*busy, *SPINNER, *BUSY)
        following.feed(*busy, "• 4", "", *IDLE)
        [answered] = following.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith("• 4\n"))

    def test_answer_beside_the_signs(self) -> None:
        """
        The row above the composer is none of the signs'.
        """
        following = Following().asked()
        following.feed(*ECHO, "  Kiro is working · I say", RULE, "Kiro · auto", "", IDLE[3])
        self.assertIsInstance(following.on_quiet()[0], Answered)

    def test_signs_in_an_answer(self) -> None:
        """
        An answer that shows the signs ends no turn, and holds none up.
        """
        following = Following().asked()
        fakes = [
            "  ask a question or describe a task ↵",
            "  shell requires approval",
            "  ❯ Yes, single permission",
            "  Kiro is working · type",
            "",
        ]
        self.assertEqual(following.feed(*ECHO, *fakes, *BUSY), [])
        self.assertIs(following.conversation.quiet_timeout, None)
        following.feed(*ECHO, *fakes, *IDLE)
        self.assertIsInstance(following.on_quiet()[0], Answered)

    def test_erased(self) -> None:
        """
        An answer of which a part was erased is unreadable, and nothing else is
        taken for it.
        """
        following = Following().asked()
        following.conversation.feed(b"\x1b[2J\x1b[H" + drawn('{"title": "old"}', "new", *IDLE))
        [failure] = following.on_quiet()
        assert isinstance(failure, AgentFailure)
        self.assertEqual(failure.kind, "unreadable")

    def test_longer_than_the_screen(self) -> None:
        """
        An answer that scrolls off the main screen is read whole.
        """
        following = Following().asked()
        lines = [f"line {number}" for number in range(100)]
        text = "\r\n".join(f"\x1b[2K{row}" for row in [*ECHO, *lines, "", *IDLE])
        following.conversation.feed(f"\x1b[?2026h\x1b[1;1H{text}\x1b[?2026l".encode())
        [answered] = following.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith("line 0\nline 1\n"))

    def test_overflow(self) -> None:
        """
        A turn that prints too much is given up, and its screen not followed.
        """
        following = Following(max_output=5000).asked()
        self.assertEqual(following.conversation.feed(b"x" * 5001), [Overflowed(5000)])
        self.assertTrue(following.conversation.lost)
        self.assertEqual(following.feed(*IDLE), [])
        self.assertIs(following.conversation.quiet_timeout, None)

    def test_strays(self) -> None:
        """
        A screen that is not idle any more, though nothing was typed, has strayed.
        """
        following = Following()
        self.assertEqual(following.feed(RULE, "Update now?"), [PromptLost()])
        self.assertFalse(following.conversation.at_prompt)
        following.feed(*IDLE)
        self.assertEqual(following.on_quiet(), [Ready()])


class CancelTests(SynchronousTestCase):
    """
    Tests for `interrupt` and `empty`.
    """

    def test_cancel(self) -> None:
        """
        A turn is interrupted by one key, and is over when it is idle and quiet.
        """
        following = Following().asked()
        self.assertEqual(following.conversation.interrupt(), b"\x1b")
        following.feed(*ECHO, "● Cancelled", "", *IDLE)
        self.assertEqual(following.on_quiet(), [Ready()])

    def test_too_early(self) -> None:
        """
        Before the prompt was taken there is nothing to interrupt.
        """
        following = Following()
        following.conversation.ask("hello")
        self.assertEqual(following.conversation.interrupt(), b"")
        following.feed(*TYPED)
        self.assertEqual(following.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])
        self.assertEqual(following.conversation.interrupt(), b"\x1b")

    def test_prompt_put_back(self) -> None:
        """
        A cancelled prompt that comes back into the composer is removed before
        the agent counts as ready.
        """
        following = Following().asked()
        following.conversation.interrupt()
        following.feed(*ECHO, "● Cancelled", "", *TYPED)
        self.assertEqual(following.on_quiet(), [NeedsEmptying()])
        self.assertFalse(following.conversation.at_prompt)
        self.assertEqual(following.conversation.empty(), b"\x15")
        self.assertIs(following.conversation.quiet_timeout, None)
        following.feed(*ECHO, "● Cancelled", "", *IDLE)
        self.assertEqual(following.on_quiet(), [Ready()])


class ClearTests(SynchronousTestCase):
    """
    Tests for `clear`.
    """

    def setUp(self) -> None:
        self.following = Following().asked()
        self.following.feed(*ECHO, "  Conversation cleared", "", *IDLE)
        self.following.on_quiet()

    def test_confirmed(self) -> None:
        """
        A clear is confirmed by words that were not there before, even where
        the idle sign never went.
        """
        self.assertEqual(self.following.conversation.clear(), b"/clear\r")
        self.following.feed(*ECHO, "  Conversation cleared", "Conversation cleared", *IDLE)
        self.assertEqual(self.following.on_quiet(), [Cleared()])

    def test_old_words(self) -> None:
        """
        What an answer said before confirms nothing.
        """
        self.following.conversation.clear()
        self.following.feed(*ECHO, "  Conversation cleared", "", *TYPED)
        self.following.feed(*ECHO, "  Conversation cleared", "", *IDLE)
        [event] = self.following.on_quiet()
        self.assertIsInstance(event, NotCleared)


class QuestionTests(SynchronousTestCase):
    """
    Tests for menus and troubles.
    """

    def approval(self, at: int) -> list[str]:
        choices = ("Yes, single permission", "Trust, always allow", "No (Tab to edit)")
        menu = [f" {'❯' if n == at else ' '} {each}" for n, each in enumerate(choices)]
        return [*ECHO, "↓ Shell rm -rf /", "", RULE, " shell requires approval", "", *menu, RULE]

    def test_deny(self) -> None:
        """
        The cursor goes down to No, a row for each frame that shows it, and only
        then Enter is pressed.
        """
        following = Following().asked()
        keys = []
        for at in (0, 0, 1, 2):
            for event in following.feed(*self.approval(at)):
                self.assertEqual(event, NeedsApproval("shell requires approval"))
                keys.append(following.conversation.deny())
        self.assertEqual(keys, [b"\x1b[B", b"\x1b[B", b"\r"])

    def test_allow(self) -> None:
        """
        An approval that the operator allows is given once, and for this once.
        """
        following = Following().asked()
        self.assertEqual(len(following.feed(*self.approval(0))), 1)
        self.assertEqual(following.conversation.allow(), b"\r")

    def test_asked_again(self) -> None:
        """
        A second question for a tool in the same turn is answered, too.
        """
        following = Following().asked()
        for _ in range(2):
            [event] = following.feed(*self.approval(0))
            self.assertEqual(event, NeedsApproval("shell requires approval"))
            self.assertEqual(following.conversation.allow(), b"\r")
            self.assertEqual(following.feed(*ECHO, *SPINNER, *BUSY), [])

    def test_one_key_for_a_screen(self) -> None:
        """
        When a read holds two screens, a key is pressed at the last, once.
        """
        following = Following().asked()
        data = drawn(*self.approval(1)) + drawn(*self.approval(2))
        events = following.conversation.feed(data)
        self.assertEqual([following.conversation.deny() for _ in events], [b"\r", b""])

    def test_half_drawn(self) -> None:
        """
        Where an agent draws in pieces, no key is pressed before it is quiet.
        """
        following = Following().asked()
        rows = "\r\n".join(self.approval(0))
        self.assertEqual(following.conversation.feed(f"\x1b[1;1H{rows}\x1b[J".encode()), [])
        self.assertEqual(following.on_quiet(), [NeedsApproval("shell requires approval")])

    def test_start_menu(self) -> None:
        """
        A menu at the start is answered by the keys for where its cursor is.
        """
        conversation = new_conversation(TUI, 1000)
        rows = ("Warning: trust all tools mode", " ❯ No, exit", "   Yes, I accept")
        [event] = conversation.feed(drawn(*rows))
        self.assertEqual(event, NeedsChoice("❯ No, exit", b"\x1b[B"))
        self.assertEqual(conversation.feed(drawn(*rows)), [])
        rows = ("Warning: trust all tools mode", "   No, exit", " ❯ Yes, I accept")
        self.assertEqual(conversation.feed(drawn(*rows)), [NeedsChoice("❯ Yes, I accept", b"\r")])

    def test_trouble(self) -> None:
        """
        A failure in the place of an answer has a name; an answer with an object
        that talks of one is an answer.
        """
        words = "Too many requests, please wait 30 seconds"
        following = Following().asked()
        following.feed(*ECHO, words, "", *IDLE)
        self.assertEqual(following.on_quiet(), [AgentFailure("throttled", words, 30)])
        for row in ('  {"a": 1}', "• Well"):
            following = Following().asked()
            following.feed(*ECHO, row, words, "", *IDLE)
            self.assertIsInstance(following.on_quiet()[0], Answered, row)

    def test_trouble_that_waits(self) -> None:
        """
        A failure that waits for a choice is told once.
        """
        following = Following().asked()
        words = "The model you've selected is temporarily unavailable"
        [failure] = following.feed(*ECHO, words, " ❯ the dearest one")
        assert isinstance(failure, AgentFailure)
        self.assertEqual(failure.kind, "model_gone")
        self.assertEqual(following.feed(*ECHO, words, " ❯ the dearest one", ""), [])
