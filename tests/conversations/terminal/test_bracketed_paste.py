"""
Tests for `kiroworkers.conversations.terminal.bracketed_paste`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    Submitted,
    UnsafePrompt,
    load_dialect,
    new_conversation,
)
from kiroworkers.errors import FailureKind
from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor

KIRO = load_dialect("kiro-classic")


def printed(text: str) -> bytes:
    """
    Return `text` as a terminal prints it.
    """
    return text.replace("\n", "\r\n").encode()


def prompt(text: str = "") -> bytes:
    """
    Return what the line editor prints when it starts to read.
    """
    return LineEditor(text or classic.prompt("dev", 16), "What next?").open()


def echo(typed: str = "") -> bytes:
    """
    Return what the line editor draws while `typed` is pasted and submitted.
    """
    editor = LineEditor(classic.prompt("dev", 16))
    editor.open()
    drawn, outcome = editor.feed(b"\x1b[200~" + typed.encode() + b"\x1b[201~\r")
    assert outcome == typed, "the editor took it"
    return printed(drawn.decode())


def turn(answer: str) -> bytes:
    """
    Return the output of a turn, from the submit to the next prompt.
    """
    return (
        printed(
            classic.SUBMITTED
            + next(classic.spinner())
            + classic.SPINNER_GONE
            + classic.answer(answer)
            + classic.footer(2, 0.05)
        )
        + prompt()
    )


class Driver:
    """
    A conversation, with helpers to feed it.
    """

    def __init__(self, max_output: int = 1_000_000) -> None:
        self.conversation = new_conversation(KIRO, max_output)

    def feed(self, data: bytes, cuts: Iterable[int] = ()) -> list[Event]:
        """
        Feed `data`, cut at `cuts`, and return the events.
        """
        events: list[Event] = []
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            events += self.conversation.feed(data[start:cut])
            start = cut
        return events

    def started(self) -> Driver:
        """
        Show the first prompt.
        """
        assert self.feed(printed("Model: auto\n\n") + prompt()) == [Ready()], "it is ready"
        return self


class TurnTests(SynchronousTestCase):
    """
    Tests for asking and answering.
    """

    def test_start(self) -> None:
        """
        The conversation is ready when the first prompt is completely drawn, and not before.
        """
        driver = Driver()
        cycle = prompt()
        self.assertEqual(driver.feed(printed("> looks like one\n") + cycle[:-1]), [])
        self.assertFalse(driver.conversation.at_prompt)
        self.assertEqual(driver.feed(cycle[-1:]), [Ready()])
        self.assertTrue(driver.conversation.at_prompt)

    def test_one_paste_one_enter(self) -> None:
        """
        A prompt is typed as one bracketed paste and one CR.
        """
        driver = Driver().started()
        typed = driver.conversation.ask("two\nlines é")
        self.assertEqual(typed, "\x1b[200~two\nlines é\x1b[201~\r".encode())
        self.assertFalse(driver.conversation.at_prompt)

    def test_turn(self) -> None:
        """
        A turn is submitted after its echo and answered at the next prompt, with everything
        that was printed in between and nothing of the echo.
        """
        driver = Driver().started()
        driver.conversation.ask('say {"a": 1}')
        self.assertEqual(driver.feed(echo('say {"a": 1}')), [Submitted()])
        answer = 'Sure:\n```json\n{"b": [1, 2]}\n```'
        [answered] = driver.feed(turn(answer))
        assert isinstance(answered, Answered)
        self.assertIn('> Sure:\njson\n{"b": [1, 2]}\n', answered.text)
        self.assertIn("Credits: 0.05", answered.text)
        self.assertNotIn('"a"', answered.text)
        self.assertTrue(driver.conversation.at_prompt)

    def test_prompt_look_alike_in_an_answer(self) -> None:
        """
        An answer that contains a prompt, even with its colours, does not end the turn.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        fake = f"\r\x1b[K{classic.prompt('dev', 16)}\r\x1b[12C"
        events = driver.feed(echo("x") + printed(f"first\n{fake}\n> last\n") + prompt())
        self.assertEqual([type(event) for event in events], [Submitted, Answered])
        assert isinstance(events[1], Answered)
        self.assertIn("first", events[1].text)
        self.assertIn("> last", events[1].text)

    @given(st.data())
    def test_cuts_change_nothing(self, data: st.DataObject) -> None:
        """
        The events of a session are the same wherever its bytes are cut.
        """
        answer = 'ünï 🎉 ```json\n{"k": "\\u001b[?2004h"}\n```'
        session = echo("frage ?") + turn(answer)
        cuts = data.draw(st.lists(st.integers(0, len(session)), max_size=30))
        whole, cut, by_byte = (Driver().started() for _ in range(3))
        for driver in (whole, cut, by_byte):
            driver.conversation.ask("frage ?")
        expected = whole.feed(session)
        self.assertEqual(len(expected), 2)
        self.assertEqual(cut.feed(session, cuts), expected)
        self.assertEqual(by_byte.feed(session, range(len(session))), expected)

    @given(st.recursive(st.text(), st.lists) | st.dictionaries(st.text(), st.text()))
    def test_fenced_json_is_exact(self, value: object) -> None:
        """
        JSON that the agent printed in a code fence is read unchanged.
        """
        text = json.dumps({"value": value}, ensure_ascii=False)
        text = text.replace("&", "\\u0026").replace("`", "\\u0060")
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
        driver = Driver().started()
        driver.conversation.ask("x")
        events = driver.feed(echo("x") + turn(f"```json\n{text}\n```"))
        answered = events[-1]
        assert isinstance(answered, Answered)
        self.assertIn(text, answered.text)

    def test_unsafe_prompts(self) -> None:
        """
        A prompt that Enter would not submit, or would submit as a command, is not typed.
        """
        for unsafe in [
            "",
            " \n",
            "/quit",
            "a\n !ls",
            "@file",
            "\x1b[201~",
            "a\rb",
            "a\x00",
            "a\x9bb",
            "\ud800",
            "```json",
            "a\\",
            "a\\\n",
        ]:
            driver = Driver().started()
            with self.assertRaises(UnsafePrompt):
                driver.conversation.ask(unsafe)
            self.assertTrue(driver.conversation.at_prompt)

    def test_too_much(self) -> None:
        """
        A turn that prints too much is reported once, and its prompt is then only reported
        as ready.
        """
        driver = Driver(max_output=1000).started()
        driver.conversation.ask("x")
        events = driver.feed(echo("x") + b"y" * 900)
        self.assertEqual(events, [Submitted()])
        self.assertEqual(driver.feed(b"y" * 101), [Overflowed(1000)])
        self.assertEqual(driver.feed(b"y" * 5000 + prompt()), [Ready()])


class QuestionTests(SynchronousTestCase):
    """
    Tests for approvals, clearing, interrupting, and losing the prompt.
    """

    def setUp(self) -> None:
        self.driver = Driver().started()
        self.conversation = self.driver.conversation

    def test_approval(self) -> None:
        """
        The prompt after an approval question does not end the turn, and the text after the
        denial is part of the answer.
        """
        self.conversation.ask("x")
        output = printed("I will run: date\n" + classic.APPROVAL_QUESTION) + prompt()
        submitted, approval = self.driver.feed(echo("x") + output)
        self.assertEqual(submitted, Submitted())
        assert isinstance(approval, NeedsApproval)
        self.assertIn("Allow this action?", approval.question)
        self.assertEqual(self.conversation.deny(), b"n\r")
        [answered] = self.driver.feed(echo("n") + turn("Then not."))
        assert isinstance(answered, Answered)
        self.assertIn("Then not.", answered.text)

    def test_talk_of_approval(self) -> None:
        """
        An answer that quotes the approval question is an answer.
        """
        self.conversation.ask("x")
        events = self.driver.feed(echo("x") + turn("It says: Allow this action? [y/n/t]:\nok"))
        self.assertIsInstance(events[-1], Answered)

    def test_clear(self) -> None:
        """
        A clear is confirmed if the agent asks for that, and is done when the agent says so.
        """
        self.assertEqual(self.conversation.clear(), b"/clear\r")
        output = echo("/clear") + printed(classic.CLEAR_QUESTION) + prompt(classic.CLEAR_PROMPT)
        self.assertEqual(self.driver.feed(output), [NeedsConfirmation()])
        self.assertEqual(self.conversation.confirm_clear(), b"y\r")
        done = echo("y") + printed(classic.CLEAR_DONE) + prompt()
        self.assertEqual(self.driver.feed(done), [Cleared()])
        self.assertTrue(self.conversation.at_prompt)

    def test_garbled_clear(self) -> None:
        """
        The question is recognized in the garbled form of some versions, too.
        """
        self.conversation.clear()
        output = echo("/clear") + printed("\x1b[38;5;11m> \x1b[39m244m/n]:\n\n")
        output += prompt(classic.CLEAR_PROMPT)
        self.assertEqual(self.driver.feed(output), [NeedsConfirmation()])

    def test_clear_without_a_question(self) -> None:
        """
        An agent may clear without asking for confirmation.
        """
        self.conversation.clear()
        done = echo("/clear") + printed(classic.CLEAR_DONE) + prompt()
        self.assertEqual(self.driver.feed(done), [Cleared()])

    def test_not_cleared(self) -> None:
        """
        A prompt after an unconfirmed clear is reported as not cleared.
        """
        self.conversation.clear()
        events = self.driver.feed(echo("/clear") + printed("\nNot now.\n\n") + prompt())
        self.assertEqual(events, [NotCleared("Not now.")])

    def test_interrupt(self) -> None:
        """
        After an interrupt the next prompt is only reported as ready, whatever was printed
        before it.
        """
        self.conversation.ask("x")
        self.driver.feed(echo("x") + printed("half an answer"))
        self.assertEqual(self.conversation.interrupt(), b"\x03")
        self.assertEqual(self.driver.feed(turn('{"late": 1}')), [Ready()])

    def test_interrupt_too_early(self) -> None:
        """
        An interrupt types nothing while the line editor may still read keys; once it has
        stopped reading, an interrupt is a signal.
        """
        self.conversation.ask("x")
        self.assertEqual(self.conversation.interrupt(), b"")
        text = echo("x")
        end = text.index(b"\x1b[?2004l")
        self.assertEqual(self.driver.feed(text[:end]), [])
        self.assertEqual(self.conversation.interrupt(), b"")
        self.assertEqual(self.driver.feed(text[end:]), [Submitted()])
        self.assertEqual(self.conversation.interrupt(), b"\x03")

    def test_interrupt_too_late(self) -> None:
        """
        An interrupt types nothing when the prompt is already back, because it could end the
        session there.
        """
        self.conversation.ask("x")
        self.driver.feed(echo("x") + turn("done"))
        self.assertEqual(self.conversation.interrupt(), b"")

    def test_crossed_interrupt(self) -> None:
        """
        An interrupt that arrives at the prompt makes the prompt go away and come back.
        """
        self.conversation.ask("x")
        self.driver.feed(echo("x"))
        self.conversation.interrupt()
        crossed = turn("done") + b"\x1b[?2004l\r\n" + printed(classic.EXIT_HINT) + prompt()
        self.assertEqual(self.driver.feed(crossed), [Ready(), PromptLost(), Ready()])

    def test_prompt_lost(self) -> None:
        """
        A prompt that goes away although nothing was typed is reported as lost.
        """
        self.assertEqual(self.driver.feed(b"\x1b[?2004l\r\nnews\r\n"), [PromptLost()])
        self.assertFalse(self.conversation.at_prompt)
        self.assertEqual(self.driver.feed(prompt()), [Ready()])

    def test_last_seen_is_bounded(self) -> None:
        """
        What is kept to say what was last seen does not grow.
        """
        driver = Driver()
        for _ in range(100):
            driver.feed(b"x" * 1000 + b"\r\n")
        driver.feed(b"You are not logged in\r\n")
        self.assertTrue(driver.conversation.recent_output.endswith("You are not logged in"))
        self.assertLess(len(driver.conversation.recent_output), 20_000)


class StartMenuTests(SynchronousTestCase):
    """
    Tests for menus before the first prompt.
    """

    first = "❯ Switch to 3.0 and upgrade my agent configs\n  Remind me later\n"
    second = "  Switch to 3.0 and upgrade my agent configs\n❯ Remind me later\n"

    def test_safe_key(self) -> None:
        """
        Enter is pressed only when the menu's cursor is on the safe choice.
        """
        driver = Driver()
        [down] = driver.feed(printed("Classic is being deprecated.\n\n" + self.first))
        assert isinstance(down, NeedsChoice)
        self.assertEqual(down.keys, b"\x1b[B")
        self.assertEqual(driver.feed(printed("\x1b[2A\x1b[J")), [])
        [enter] = driver.feed(printed(self.second))
        assert isinstance(enter, NeedsChoice)
        self.assertEqual(enter.keys, b"\r")
        self.assertEqual(driver.feed(printed("Model: auto\n") + prompt()), [Ready()])

    @given(st.data())
    def test_cuts_change_nothing(self, data: st.DataObject) -> None:
        """
        The events of a start are the same wherever its bytes are cut.
        """
        start = printed(f"{self.first}\x1b[2A\x1b[J{self.second}\x1b[2A\x1b[JOn we go\n") + prompt()
        cuts = data.draw(st.lists(st.integers(0, len(start)), max_size=20))
        expected = Driver().feed(start)
        self.assertEqual([type(event) for event in expected], [NeedsChoice, NeedsChoice, Ready])
        self.assertEqual(Driver().feed(start, cuts), expected)
        self.assertEqual(Driver().feed(start, range(len(start))), expected)

    def test_only_at_the_start(self) -> None:
        """
        No key is pressed for a menu in an answer.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        events = driver.feed(echo("x") + turn(self.first + self.second))
        self.assertEqual([type(event) for event in events], [Submitted, Answered])


class FailureTests(SynchronousTestCase):
    """
    Tests for an agent that says why it cannot answer.
    """

    def ask(self, answer: bytes) -> list[Event]:
        """
        Return the events of a turn that prints `answer`.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        submitted, *events = driver.feed(echo("x") + answer)
        self.assertEqual(submitted, Submitted())
        return events

    def test_kinds(self) -> None:
        """
        The failures that Kiro is known to print are recognized, also below their common
        header.
        """
        header = "● Kiro is having trouble responding right now:\n   0: "
        for kind, text in [
            ("login_required", "dispatch failure (other): No token"),
            ("login_expired", "Authentication failed. Your session may have expired"),
            ("login_expired", "The bearer token included in the request is invalid"),
            ("throttled", "Request quota exceeded. Please wait a moment and try again"),
            ("throttled", "ThrottlingException: rate exceeded"),
            ("out_of_credits", "The monthly usage limit has been reached"),
            ("network", "error sending request for url (https://a.example/)"),
            ("context_full", "Your prompt is too long even after truncation"),
        ]:
            for shown in (text, header + text):
                self.assertEqual(
                    self.ask(printed(f"\x1b[31m{shown}\x1b[0m\n\n") + prompt()),
                    [AgentFailure(FailureKind[kind.upper()], shown.rpartition("\n")[2].strip())],
                )

    def test_time(self) -> None:
        """
        A waiting time that the agent names is reported in seconds.
        """
        for text, seconds in [
            ("Too many requests, please wait 30 seconds", 30),
            ("ThrottlingException: try again in 2m", 120),
            ("ThrottlingException: try again in 1 hour", 3600),
            ("ThrottlingException: 5 seconds ago", None),
        ]:
            [failure] = self.ask(printed(text + "\n") + prompt())
            self.assertEqual(failure, AgentFailure(FailureKind.THROTTLED, text, seconds))

    def test_quoted(self) -> None:
        """
        An answer that quotes a failure is an answer.
        """
        [answered] = self.ask(turn("It printed: ThrottlingException. You are not logged in"))
        self.assertIsInstance(answered, Answered)

    def test_warned_then_answered(self) -> None:
        """
        A failure that is followed by an answer is not reported.
        """
        [answered] = self.ask(printed("ThrottlingException, trying again\n") + turn("done"))
        self.assertIsInstance(answered, Answered)

    def test_no_prompt_follows(self) -> None:
        """
        A failure that waits for a choice is reported without a prompt, and once.
        """
        text = "The model you've selected is temporarily unavailable"
        events = self.ask(printed(f"{text}.\n❯ another\n") + printed("  a third\n"))
        self.assertEqual(events, [AgentFailure(FailureKind.MODEL_GONE, text + ".")])
