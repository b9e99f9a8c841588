"""
Tests for `kiroworkers.conversations.conversation`.
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
from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor

KIRO = load_dialect("kiro-classic")


def printed(text: str) -> bytes:
    """
    `text` as it comes out of a terminal.
    """
    return text.replace("\n", "\r\n").encode()


def prompt(shown: str = "") -> bytes:
    """
    A prompt cycle's beginning.
    """
    return LineEditor(shown or classic.prompt("dev", 16), "What next?").open()


def echo(typed: str = "") -> bytes:
    """
    What the line editor draws while `typed` is pasted and submitted.
    """
    editor = LineEditor(classic.prompt("dev", 16))
    editor.open()
    drawn, outcome = editor.feed(b"\x1b[200~" + typed.encode() + b"\x1b[201~\r")
    assert outcome == typed, "the editor took it"
    return printed(drawn.decode())


def turn(said: str) -> bytes:
    """
    A turn's output, from the submit to the next prompt.
    """
    return (
        printed(
            classic.SUBMITTED
            + next(classic.spinner())
            + classic.SPINNER_GONE
            + classic.answer(said)
            + classic.footer(2, 0.05)
        )
        + prompt()
    )


class Recording:
    """
    A conversation, what was typed into it, and its events so far.
    """

    def __init__(self, max_output: int = 1_000_000) -> None:
        self.conversation = new_conversation(KIRO, max_output)

    def feed(self, data: bytes, cuts: Iterable[int] = ()) -> list[Event]:
        """
        The events in `data`, cut at `cuts`.
        """
        events: list[Event] = []
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            events += self.conversation.feed(data[start:cut])
            start = cut
        return events

    def started(self) -> Recording:
        """
        With its first prompt shown.
        """
        assert self.feed(printed("Model: auto\n\n") + prompt()) == [Ready()], "it is ready"
        return self


class TurnTests(SynchronousTestCase):
    """
    Tests for asking and answering.
    """

    def test_start(self) -> None:
        """
        The first prompt that is fully drawn, and nothing before it, is ready.
        """
        recording = Recording()
        cycle = prompt()
        self.assertEqual(recording.feed(printed("> looks like one\n") + cycle[:-1]), [])
        self.assertFalse(recording.conversation.at_prompt)
        self.assertEqual(recording.feed(cycle[-1:]), [Ready()])
        self.assertTrue(recording.conversation.at_prompt)

    def test_one_paste_one_enter(self) -> None:
        """
        A prompt is typed as one bracketed paste and one CR.
        """
        recording = Recording().started()
        typed = recording.conversation.ask("two\nlines é")
        self.assertEqual(typed, "\x1b[200~two\nlines é\x1b[201~\r".encode())
        self.assertFalse(recording.conversation.at_prompt)

    def test_turn(self) -> None:
        """
        A turn is submitted after its echo and answered at the next prompt, with
        all that was printed between and nothing of the echo.
        """
        recording = Recording().started()
        recording.conversation.ask('say {"a": 1}')
        self.assertEqual(recording.feed(echo('say {"a": 1}')), [Submitted()])
        said = 'Sure:\n```json\n{"b": [1, 2]}\n```'
        [answered] = recording.feed(turn(said))
        assert isinstance(answered, Answered)
        self.assertIn('> Sure:\njson\n{"b": [1, 2]}\n', answered.text)
        self.assertIn("Credits: 0.05", answered.text)
        self.assertNotIn('"a"', answered.text)
        self.assertTrue(recording.conversation.at_prompt)

    def test_prompt_look_alike_in_an_answer(self) -> None:
        """
        An answer that prints a prompt, even with its colours, ends no turn.
        """
        recording = Recording().started()
        recording.conversation.ask("x")
        fake = f"\r\x1b[K{classic.prompt('dev', 16)}\r\x1b[12C"
        events = recording.feed(echo("x") + printed(f"first\n{fake}\n> last\n") + prompt())
        self.assertEqual([type(event) for event in events], [Submitted, Answered])
        assert isinstance(events[1], Answered)
        self.assertIn("first", events[1].text)
        self.assertIn("> last", events[1].text)

    @given(st.data())
    def test_cuts_change_nothing(self, data: st.DataObject) -> None:
        """
        However the bytes of a session are cut, the events are the same.
        """
        said = 'ünï 🎉 ```json\n{"k": "\\u001b[?2004h"}\n```'
        session = echo("frage ?") + turn(said)
        cuts = data.draw(st.lists(st.integers(0, len(session)), max_size=30))
        whole, cut, by_byte = (Recording().started() for _ in range(3))
        for recording in (whole, cut, by_byte):
            recording.conversation.ask("frage ?")
        expected = whole.feed(session)
        self.assertEqual(len(expected), 2)
        self.assertEqual(cut.feed(session, cuts), expected)
        self.assertEqual(by_byte.feed(session, range(len(session))), expected)

    @given(st.recursive(st.text(), st.lists) | st.dictionaries(st.text(), st.text()))
    def test_fenced_json_is_exact(self, value: object) -> None:
        """
        JSON that the agent printed in a fence comes back equal.
        """
        text = json.dumps({"value": value}, ensure_ascii=False)
        text = text.replace("&", "\\u0026").replace("`", "\\u0060")
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
        recording = Recording().started()
        recording.conversation.ask("x")
        events = recording.feed(echo("x") + turn(f"```json\n{text}\n```"))
        answered = events[-1]
        assert isinstance(answered, Answered)
        self.assertIn(text, answered.text)

    def test_unsafe_prompts(self) -> None:
        """
        What Enter would not submit, or submit as a command, is not typed.
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
            recording = Recording().started()
            with self.assertRaises(UnsafePrompt):
                recording.conversation.ask(unsafe)
            self.assertTrue(recording.conversation.at_prompt)

    def test_too_much(self) -> None:
        """
        A turn that prints more than may be kept overflows once, and its prompt
        is then no answer.
        """
        recording = Recording(max_output=1000).started()
        recording.conversation.ask("x")
        events = recording.feed(echo("x") + b"y" * 900)
        self.assertEqual(events, [Submitted()])
        self.assertEqual(recording.feed(b"y" * 101), [Overflowed(1000)])
        self.assertEqual(recording.feed(b"y" * 5000 + prompt()), [Ready()])


class QuestionTests(SynchronousTestCase):
    """
    Tests for approvals, clearing, interrupting and straying.
    """

    def setUp(self) -> None:
        self.recording = Recording().started()
        self.conversation = self.recording.conversation

    def test_approval(self) -> None:
        """
        A prompt behind an approval question is not the end of the turn; the
        answer is what follows the denial too.
        """
        self.conversation.ask("x")
        asked = printed("I will run: date\n" + classic.APPROVAL_QUESTION) + prompt()
        submitted, approval = self.recording.feed(echo("x") + asked)
        self.assertEqual(submitted, Submitted())
        assert isinstance(approval, NeedsApproval)
        self.assertIn("Allow this action?", approval.question)
        self.assertEqual(self.conversation.deny(), b"n\r")
        [answered] = self.recording.feed(echo("n") + turn("Then not."))
        assert isinstance(answered, Answered)
        self.assertIn("Then not.", answered.text)

    def test_talk_of_approval(self) -> None:
        """
        An answer that quotes the question in its text asks for nothing.
        """
        self.conversation.ask("x")
        events = self.recording.feed(echo("x") + turn("It says: Allow this action? [y/n/t]:\nok"))
        self.assertIsInstance(events[-1], Answered)

    def test_clear(self) -> None:
        """
        A clear is confirmed when asked, and done when the agent says so.
        """
        self.assertEqual(self.conversation.clear(), b"/clear\r")
        asked = echo("/clear") + printed(classic.CLEAR_QUESTION) + prompt(classic.CLEAR_PROMPT)
        self.assertEqual(self.recording.feed(asked), [NeedsConfirmation()])
        self.assertEqual(self.conversation.confirm_clear(), b"y\r")
        done = echo("y") + printed(classic.CLEAR_DONE) + prompt()
        self.assertEqual(self.recording.feed(done), [Cleared()])
        self.assertTrue(self.conversation.at_prompt)

    def test_garbled_clear(self) -> None:
        """
        The question is known in its garbled form too.
        """
        self.conversation.clear()
        asked = echo("/clear") + printed("\x1b[38;5;11m> \x1b[39m244m/n]:\n\n")
        asked += prompt(classic.CLEAR_PROMPT)
        self.assertEqual(self.recording.feed(asked), [NeedsConfirmation()])

    def test_clear_without_a_question(self) -> None:
        """
        An agent that clears without asking has cleared.
        """
        self.conversation.clear()
        done = echo("/clear") + printed(classic.CLEAR_DONE) + prompt()
        self.assertEqual(self.recording.feed(done), [Cleared()])

    def test_not_cleared(self) -> None:
        """
        A prompt after a clear that confirmed nothing is said to be that.
        """
        self.conversation.clear()
        events = self.recording.feed(echo("/clear") + printed("\nNot now.\n\n") + prompt())
        self.assertEqual(events, [NotCleared("Not now.")])

    def test_interrupt(self) -> None:
        """
        After an interrupt the next prompt is only ready, whatever was said
        before it.
        """
        self.conversation.ask("x")
        self.recording.feed(echo("x") + printed("half an answer"))
        self.assertEqual(self.conversation.interrupt(), b"\x03")
        self.assertEqual(self.recording.feed(turn('{"late": 1}')), [Ready()])

    def test_interrupt_too_early(self) -> None:
        """
        While the line editor may still have the keys, an interrupt types
        nothing; when it has let go, an interrupt is a signal.
        """
        self.conversation.ask("x")
        self.assertEqual(self.conversation.interrupt(), b"")
        shown = echo("x")
        end = shown.index(b"\x1b[?2004l")
        self.assertEqual(self.recording.feed(shown[:end]), [])
        self.assertEqual(self.conversation.interrupt(), b"")
        self.assertEqual(self.recording.feed(shown[end:]), [Submitted()])
        self.assertEqual(self.conversation.interrupt(), b"\x03")

    def test_interrupt_too_late(self) -> None:
        """
        When the prompt is already back, an interrupt types nothing: at the
        prompt it could end the session.
        """
        self.conversation.ask("x")
        self.recording.feed(echo("x") + turn("done"))
        self.assertEqual(self.conversation.interrupt(), b"")

    def test_crossed_interrupt(self) -> None:
        """
        An interrupt that arrives at the prompt makes it stray and come back.
        """
        self.conversation.ask("x")
        self.recording.feed(echo("x"))
        self.conversation.interrupt()
        crossed = turn("done") + b"\x1b[?2004l\r\n" + printed(classic.EXIT_HINT) + prompt()
        self.assertEqual(self.recording.feed(crossed), [Ready(), PromptLost(), Ready()])

    def test_stray(self) -> None:
        """
        A prompt that goes away though nothing was typed has strayed.
        """
        self.assertEqual(self.recording.feed(b"\x1b[?2004l\r\nnews\r\n"), [PromptLost()])
        self.assertFalse(self.conversation.at_prompt)
        self.assertEqual(self.recording.feed(prompt()), [Ready()])

    def test_last_seen_is_bounded(self) -> None:
        """
        What is kept to say what was last seen does not grow.
        """
        recording = Recording()
        for _ in range(100):
            recording.feed(b"x" * 1000 + b"\r\n")
        recording.feed(b"You are not logged in\r\n")
        self.assertTrue(recording.conversation.last_seen.endswith("You are not logged in"))
        self.assertLess(len(recording.conversation.last_seen), 20_000)


class StartMenuTests(SynchronousTestCase):
    """
    Tests for menus before the first prompt.
    """

    first = "❯ Switch to 3.0 and upgrade my agent configs\n  Remind me later\n"
    second = "  Switch to 3.0 and upgrade my agent configs\n❯ Remind me later\n"

    def test_safe_key(self) -> None:
        """
        Enter is pressed only when the cursor is on the safe choice.
        """
        recording = Recording()
        [down] = recording.feed(printed("Classic is being deprecated.\n\n" + self.first))
        assert isinstance(down, NeedsChoice)
        self.assertEqual(down.keys, b"\x1b[B")
        self.assertEqual(recording.feed(printed("\x1b[2A\x1b[J")), [])
        [enter] = recording.feed(printed(self.second))
        assert isinstance(enter, NeedsChoice)
        self.assertEqual(enter.keys, b"\r")
        self.assertEqual(recording.feed(printed("Model: auto\n") + prompt()), [Ready()])

    @given(st.data())
    def test_cuts_change_nothing(self, data: st.DataObject) -> None:
        """
        However the bytes of a start are cut, the events are the same.
        """
        start = printed(f"{self.first}\x1b[2A\x1b[J{self.second}\x1b[2A\x1b[JOn we go\n") + prompt()
        cuts = data.draw(st.lists(st.integers(0, len(start)), max_size=20))
        expected = Recording().feed(start)
        self.assertEqual([type(each) for each in expected], [NeedsChoice, NeedsChoice, Ready])
        self.assertEqual(Recording().feed(start, cuts), expected)
        self.assertEqual(Recording().feed(start, range(len(start))), expected)

    def test_only_at_the_start(self) -> None:
        """
        A menu in an answer gets no key.
        """
        recording = Recording().started()
        recording.conversation.ask("x")
        events = recording.feed(echo("x") + turn(self.first + self.second))
        self.assertEqual([type(each) for each in events], [Submitted, Answered])


class TroubleTests(SynchronousTestCase):
    """
    Tests for an agent that says why it cannot answer.
    """

    def ask(self, said: bytes) -> list[Event]:
        """
        The events of a turn in which `said` is printed.
        """
        recording = Recording().started()
        recording.conversation.ask("x")
        submitted, *events = recording.feed(echo("x") + said)
        self.assertEqual(submitted, Submitted())
        return events

    def test_kinds(self) -> None:
        """
        The texts that Kiro is known to print have a name, behind their common
        header too.
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
                    [AgentFailure(kind, shown.rpartition("\n")[2].strip())],
                )

    def test_time(self) -> None:
        """
        A time that the agent names is in the event, in seconds.
        """
        for text, seconds in [
            ("Too many requests, please wait 30 seconds", 30),
            ("ThrottlingException: try again in 2m", 120),
            ("ThrottlingException: try again in 1 hour", 3600),
            ("ThrottlingException: 5 seconds ago", None),
        ]:
            [failure] = self.ask(printed(text + "\n") + prompt())
            self.assertEqual(failure, AgentFailure("throttled", text, seconds))

    def test_quoted(self) -> None:
        """
        An answer that quotes a trouble is an answer.
        """
        [answered] = self.ask(turn("It printed: ThrottlingException. You are not logged in"))
        self.assertIsInstance(answered, Answered)

    def test_warned_then_answered(self) -> None:
        """
        A trouble that an answer follows was none.
        """
        [answered] = self.ask(printed("ThrottlingException, trying again\n") + turn("done"))
        self.assertIsInstance(answered, Answered)

    def test_no_prompt_follows(self) -> None:
        """
        A trouble that waits for a choice is told without a prompt, and once.
        """
        text = "The model you've selected is temporarily unavailable"
        events = self.ask(printed(f"{text}.\n❯ another\n") + printed("  a third\n"))
        self.assertEqual(events, [AgentFailure("model_gone", text + ".")])
