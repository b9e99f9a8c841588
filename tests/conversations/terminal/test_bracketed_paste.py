"""
Tests for `kiroworkers.conversations.terminal.bracketed_paste`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor
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
    TextChunk,
    TextDiscarded,
    ToolUsed,
    UnsafePrompt,
    Usage,
    load_dialect,
    new_conversation,
)
from kiroworkers.conversations.terminal.patience import CLEAR_UNCONFIRMED_AFTER, ENTER_LOST_AFTER
from kiroworkers.errors import FailureKind

KIRO = load_dialect("kiro-classic")
HEADER = "Kiro is having trouble responding right now"


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
        A prompt is typed as one bracketed paste and one CR, with a blank at its beginning, which
        keeps it out of the line editor's history file.
        """
        driver = Driver().started()
        typed = driver.conversation.ask("two\nlines é")
        self.assertEqual(typed, "\x1b[200~ two\nlines é\x1b[201~\r".encode())
        self.assertFalse(driver.conversation.at_prompt)

    def test_turn(self) -> None:
        """
        A turn is submitted after its echo and answered at the next prompt, with what the
        agent said and nothing of the echo and the footer, which says what the turn cost.
        """
        driver = Driver().started()
        driver.conversation.ask('say {"a": 1}')
        self.assertEqual(driver.feed(echo('say {"a": 1}')), [Submitted()])
        answer = 'Sure:\n```json\n{"b": [1, 2]}\n```'
        [answered] = driver.feed(turn(answer))
        assert isinstance(answered, Answered)
        self.assertEqual(answered.text, 'Sure:\njson\n{"b": [1, 2]}')
        self.assertEqual(answered.usage, Usage(credits=0.05, context_percent=16))
        self.assertTrue(driver.conversation.at_prompt)

    def test_prompt_look_alike_in_an_answer(self) -> None:
        """
        An answer that contains a prompt, even with its colours, does not end the turn.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        fake = f"\r\x1b[K{classic.prompt('dev', 16)}\r\x1b[12C"
        events = driver.feed(
            echo("x") + printed(f"{classic.ANSWER_PREFIX}first\n{fake}\n> last\n") + prompt()
        )
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


class QueryTests(SynchronousTestCase):
    """
    Tests for agents that ask their terminal.
    """

    def test_answered(self) -> None:
        """
        Queries before the first prompt are answered; later ones are not, as output may quote them.
        """
        driver = Driver()
        driver.feed(b"\x1b[5n\x1b[c\x1b[6n", cuts=(2, 6))
        self.assertEqual(driver.conversation.data_to_send(), b"\x1b[0n\x1b[?62;22c\x1b[1;1R")
        driver.started()
        driver.feed(b"\x1b[5n")
        driver.conversation.ask("hello")
        driver.feed(b"\x1b[5n")
        self.assertEqual(driver.conversation.data_to_send(), b"")


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
        A prompt after an unconfirmed clear is reported as not cleared, if no confirmation
        follows in a few seconds.
        """
        for late, expected in [(b"", []), (printed(classic.CLEAR_DONE), [Cleared()])]:
            driver = Driver().started()
            driver.conversation.clear()
            output = echo("/clear") + printed("\nNot now.\n\n") + prompt()
            self.assertEqual(driver.feed(output), [])
            self.assertFalse(driver.conversation.at_prompt)
            self.assertEqual(driver.feed(late), expected)
            if not late:
                self.assertEqual(driver.conversation.quiet_timeout, CLEAR_UNCONFIRMED_AFTER)
                self.assertEqual(driver.conversation.on_quiet(), [NotCleared("Not now.")])
            self.assertIs(driver.conversation.quiet_timeout, None)

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

    def test_unknown(self) -> None:
        """
        A failure of no known kind is recognized by the header, in its own style or in none.
        """
        for style in ("\x1b[1m\x1b[38;5;9m", "\x1b[31m● ", "\x1b[38;5;9m\x1b[1m● ", "● ", ""):
            [failure] = self.ask(printed(f"{style}{HEADER}: \n   0: new\n\x1b[0m") + prompt())
            assert isinstance(failure, AgentFailure)
            self.assertEqual(failure.kind, FailureKind.AGENT_ERROR)
            self.assertIn(HEADER, failure.detail)

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

    def test_header_after_a_draft(self) -> None:
        """
        A failure whose header follows an answer in the agent's own style is a failure, of a
        specific kind where its text says so, and the answer is none.
        """
        for text, kind in [
            ("dispatch failure (timeout)", FailureKind.NETWORK),
            ("service error\n   1: something else", FailureKind.AGENT_ERROR),
        ]:
            draft = printed(classic.answer('```json\n{"a": 1}\n```'))
            header = f"\x1b[1m\x1b[38;5;9m{HEADER}: \n   0: {text}\n\x1b[0m\x1b[0m"
            for data in (draft, draft + b"\r\n", b""):
                [failure] = self.ask(data + printed(header) + prompt())
                assert isinstance(failure, AgentFailure)
                self.assertEqual(failure.kind, kind)
                self.assertIn(text.rpartition(": ")[2], failure.detail)

    def test_quoted_header(self) -> None:
        """
        An answer that quotes the header, also in bold or as code, is an answer.
        """
        for quoted in (HEADER, f"\x1b[1m{HEADER}\x1b[22m", f"\x1b[38;5;10m{HEADER}\x1b[0m"):
            [answered] = self.ask(turn(f"It said:\n{quoted}:\n   0: service error"))
            assert isinstance(answered, Answered)
            self.assertIn(HEADER, answered.text)

    def test_answer_after_a_header(self) -> None:
        """
        An answer that begins after a failure is an answer, and what was streamed before it is
        taken back.
        """
        driver = Driver().started()
        driver.conversation.streaming = True
        driver.conversation.ask("x")
        header = f"\n\x1b[1m\x1b[38;5;9m{HEADER}: \n   0: service error\n\x1b[0m"
        events = driver.feed(
            echo("x") + printed(classic.answer("A draft\nin two lines") + header) + turn("done")
        )
        self.assertEqual(
            events[1:4], [TextChunk("A draft"), TextChunk("\nin two lines"), TextDiscarded()]
        )
        self.assertEqual([type(event) for event in events[4:]], [TextChunk, Answered])


class StyledTests(SynchronousTestCase):
    """
    Tests for answers that the agent has rendered.
    """

    def answered(self, printed_answer: str) -> Answered:
        driver = Driver().started()
        driver.conversation.ask("x")
        answer = classic.ANSWER_PREFIX + printed_answer + classic.footer(1, 0.05)
        [_, answered] = driver.feed(echo("x") + printed(answer) + prompt())
        assert isinstance(answered, Answered)
        return answered

    def test_offsets(self) -> None:
        """
        The offsets of styles are those in the answer's text, without the prefix.
        """
        answered = self.answered('é: {"a": "\x1b[1mbold\x1b[22m"}')
        self.assertEqual(answered.text, 'é: {"a": "bold"}')
        styled = [answered.text[offset:] for offset in answered.styled]
        self.assertEqual(styled, ['bold"}', '"}'])

    def test_fence(self) -> None:
        """
        An answer in a code fence, or on lines that the agent resets, is not styled inside.
        """
        for text in ('```json\n{"a":\n 1}\n```', '{"a":\n 1}', 'Well.\n{"a":\n 1} so.'):
            answered = self.answered(classic.answer(text, ""))
            start, end = answered.text.index("{"), answered.text.index("}")
            self.assertFalse([at for at in answered.styled if start < at <= end], text)


class StreamTests(SynchronousTestCase):
    """
    Tests for what is streamed of an answer.
    """

    @given(st.data())
    def test_equals_the_text(self, data: st.DataObject) -> None:
        """
        The streamed text is that of the answer, without the agent's footer, wherever the
        output is cut.
        """
        lines = st.sampled_from(["a", "", " ", " ▸ Time: 1s", "```json\n{}\n```", "end  "])
        answer = "\n".join(data.draw(st.lists(lines, min_size=1)))
        output = echo("x") + turn(answer)
        cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=20))
        driver = Driver().started()
        driver.conversation.streaming = True
        driver.conversation.ask("x")
        _, *chunks, answered = driver.feed(output, cuts)
        assert isinstance(answered, Answered)
        texts = [chunk.text for chunk in chunks if isinstance(chunk, TextChunk)]
        self.assertEqual(len(texts), len(chunks))
        self.assertEqual("".join(texts), answered.text)
        self.assertNotIn("Credits", answered.text)

    def test_long(self) -> None:
        """
        A long answer that is read at once is streamed as a whole, and a tool in it is seen.
        """
        answer = "\n".join(f"line {number}" for number in range(20_000))
        tool = printed("I will run: date (using tool: shell)\n")
        for before in (b"", printed(classic.answer(answer)) + b"\r\n" + tool):
            driver = Driver().started()
            driver.conversation.streaming = True
            driver.conversation.ask("x")
            _, *events, answered = driver.feed(echo("x") + before + turn(answer))
            assert isinstance(answered, Answered)
            self.assertEqual(answered.text, answer)
            if before:
                at = events.index(TextDiscarded())
                self.assertIsInstance(events[at - 1], ToolUsed)
                events = events[at + 1 :]
            texts = [event.text for event in events if isinstance(event, TextChunk)]
            self.assertEqual("".join(texts), answer)
            self.assertGreater(len(texts), 19_000)

    def test_early(self) -> None:
        """
        A line is streamed as soon as it is complete, and blank lines with the next one.
        """
        driver = Driver().started()
        driver.conversation.streaming = True
        driver.conversation.ask("x")
        driver.feed(echo("x") + printed(classic.ANSWER_PREFIX))
        for output, chunks in [
            ("one", []),
            ("\n\n", [TextChunk("one")]),
            ("two\n", [TextChunk("\n\ntwo")]),
        ]:
            self.assertEqual(driver.feed(printed(output)), chunks)

    def test_footers(self) -> None:
        """
        Each form of the footer is left out, and its credits are reported.
        """
        for footer, credits in [
            ("\n\x1b[38;5;8m\n ▸ Credits: 0.05 • Time: 1s\n\n\x1b[0m", 0.05),
            ("\n\x1b[38;5;8m\n ▸ Time: 2m 29s\n\n\x1b[0m", None),
            ("\n", None),
        ]:
            driver = Driver().started()
            driver.conversation.ask("x")
            output = printed(classic.answer("yes") + footer)
            [_, answered] = driver.feed(echo("x") + output + prompt())
            assert isinstance(answered, Answered)
            self.assertEqual((answered.text, answered.usage.credits), ("yes", credits))


class LostEnterTests(SynchronousTestCase):
    """
    Tests for an Enter that the agent has lost.
    """

    def setUp(self) -> None:
        self.driver = Driver().started()
        self.conversation = self.driver.conversation
        self.conversation.ask("two\nlines of text")
        self.echo, mark, _ = echo("two\nlines of text").partition(b"\x1b[?2004l")
        self.close = mark + b"\r\n"

    def test_pressed_once_more(self) -> None:
        """
        Enter is pressed once more, and only once, if all that was typed is drawn and the line
        editor reads on.
        """
        self.assertEqual(self.driver.feed(self.echo), [])
        self.assertEqual(self.conversation.quiet_timeout, ENTER_LOST_AFTER)
        self.assertEqual(self.conversation.on_quiet(), [])
        self.assertEqual(self.conversation.data_to_send(), b"\r")
        self.assertEqual(self.conversation.data_to_send(), b"")
        self.assertIs(self.conversation.quiet_timeout, None)
        self.assertEqual(self.driver.feed(self.close), [Submitted()])

    def test_not_yet(self) -> None:
        """
        Nothing is pressed while the echo is not complete, or is followed by something else.
        """
        self.assertIs(self.conversation.quiet_timeout, None)
        self.driver.feed(self.echo[: self.echo.index(b"text")])
        self.assertIs(self.conversation.quiet_timeout, None)
        self.driver.feed(self.echo[self.echo.index(b"text") :] + b"\r\n\r")
        self.assertEqual(self.conversation.quiet_timeout, ENTER_LOST_AFTER)
        self.driver.feed(b"more")
        self.assertIs(self.conversation.quiet_timeout, None)

    def test_never_in_a_turn(self) -> None:
        """
        Nothing is pressed in a turn, however long it is silent.
        """
        self.driver.feed(self.echo + self.close)
        self.assertIs(self.conversation.quiet_timeout, None)
        self.assertEqual(self.conversation.on_quiet(), [])
        self.assertEqual(self.conversation.data_to_send(), b"")

    def test_clear(self) -> None:
        """
        The Enter of a clear is pressed once more as well.
        """
        driver = Driver().started()
        driver.conversation.clear()
        driver.feed(echo("/clear").partition(b"\x1b[?2004l")[0])
        self.assertEqual(driver.conversation.quiet_timeout, ENTER_LOST_AFTER)


class RacingTests(SynchronousTestCase):
    """
    Tests for a program that prints from another thread than the one that draws the prompt.
    """

    mark = b"\x1b[?2004h"

    def race(self, text: bytes, drawn: bytes, random: Random) -> tuple[bytes, bytes]:
        """
        Return what is printed up to the prompt in `drawn`, and the rest of `text`.
        """
        resets, _, prompt = drawn.partition(self.mark)
        text += resets
        first, second = sorted(random.choices(range(len(text) + 1), k=2))
        return text[:first] + self.mark + text[first:second] + prompt, text[second:]

    def test_answer(self) -> None:
        """
        An answer whose end comes behind the mark, or behind the prompt, is put together.
        """
        expected = 'Sure, é:\njson\n{"b": [1, 2]}'
        text = turn('Sure, é:\n```json\n{"b": [1, 2]}\n```').partition(self.mark)[0]
        for seed in range(300):
            driver = Driver().started()
            driver.conversation.ask("x")
            driver.feed(echo("x"))
            before, behind = self.race(text, prompt().replace(b"\x1b[0m" * 2, b"", 1), Random(seed))
            events = driver.feed(before) + driver.feed(behind)
            if driver.conversation.quiet_timeout is not None:
                self.assertFalse(driver.conversation.at_prompt)
                events += driver.conversation.on_quiet()
            [answered] = events
            assert isinstance(answered, Answered), answered
            self.assertEqual((answered.text, answered.usage.credits), (expected, 0.05), seed)
            self.assertTrue(driver.conversation.at_prompt)

    def test_clear(self) -> None:
        """
        The question is recognized by its prompt, and the confirmation wherever it is printed.
        """
        for seed in range(300):
            random = Random(seed)
            driver = Driver().started()
            driver.conversation.clear()
            question = printed(classic.CLEAR_QUESTION)
            before, behind = self.race(question, prompt(classic.CLEAR_PROMPT), random)
            self.assertEqual(driver.feed(echo("/clear") + before), [NeedsConfirmation()], seed)
            driver.conversation.confirm_clear()
            if random.random() < 0.5:
                self.assertEqual(driver.feed(behind), [])
                behind = b""
            self.assertEqual(driver.feed(echo("y") + behind), [])
            before, behind = self.race(printed(classic.CLEAR_DONE), prompt(), random)
            self.assertEqual(driver.feed(before) + driver.feed(behind), [Cleared()], seed)
            self.assertTrue(driver.conversation.at_prompt)

    def test_not_confirmed_twice(self) -> None:
        """
        The question is answered once, so nothing is typed at the main prompt when the
        confirmation is late.
        """
        driver = Driver().started()
        driver.conversation.clear()
        question = printed(classic.CLEAR_QUESTION)
        driver.feed(echo("/clear") + question + prompt(classic.CLEAR_PROMPT))
        driver.conversation.confirm_clear()
        self.assertEqual(driver.feed(echo("y") + prompt()), [])
        self.assertEqual(driver.feed(printed(classic.CLEAR_DONE)), [Cleared()])

    def test_interrupt(self) -> None:
        """
        An interrupt types nothing while a prompt is drawn that does not count yet.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        driver.feed(echo("x") + printed(classic.ANSWER_PREFIX) + prompt()[len("\x1b[?25h") :])
        self.assertIsNot(driver.conversation.quiet_timeout, None)
        self.assertEqual(driver.conversation.interrupt(), b"")
        self.assertEqual(driver.conversation.on_quiet(), [Ready()])


class ForgedTests(SynchronousTestCase):
    """
    Tests for what a model prints that looks like the line editor's.
    """

    def test_marks(self) -> None:
        """
        Marks and prompts are text of the answer while the terminal passes on whole lines.
        """
        driver = Driver().started()
        driver.conversation.ask("x")
        driver.feed(echo("x"))
        lines = True
        driver.conversation.collects_lines = lambda: lines
        forged = prompt() + echo() + b"\x1b[?2004h" + b"x" * 5000
        self.assertEqual(driver.feed(printed(classic.ANSWER_PREFIX) + forged), [])
        self.assertFalse(driver.conversation.at_prompt)
        self.assertIsNone(driver.conversation.quiet_timeout)
        lines = False
        [answered] = driver.feed(turn("done"))
        assert isinstance(answered, Answered)
        self.assertIn("x" * 5000, answered.text)


class ToolTests(SynchronousTestCase):
    """
    Tests for tools that the agent uses.
    """

    kiro = "I will run the following command: date (using tool: {}{})\n - Completed in 0.15s\n\n"
    q = (
        "\x1b[0m\x1b[0m\n\x1b[38;5;13m🛠️  Using tool: {}{}\x1b[0m\x1b[0m\x1b[0m\n ⋮ \n"
        " ● I will run the following shell command: \n\x1b[38;5;10mdate\n\x1b[0m\n"
    )

    def setUp(self) -> None:
        self.driver = Driver().started()
        self.driver.conversation.ask("x")
        self.assertEqual(self.driver.feed(echo("x")), [Submitted()])

    def test_unasked(self) -> None:
        """
        A tool that runs without a question is reported when the model goes on, with what it
        does; what the model said before is not the answer.
        """
        for name, access in [
            ("shell", "execute"),
            ("execute_bash", "execute"),
            ("fs_read", "read"),
            ("fs_write", "write"),
            ("web_fetch", "network"),
            ("@server/read", "other"),
            ("readable", "other"),
        ]:
            for words in (self.kiro, self.q):
                self.setUp()
                tool = printed(words.format(name, " (trusted)"))
                self.driver.conversation.streaming = True
                output = printed(classic.answer("Let me see.\n")) + tool + turn("done")
                chunk, used, discarded, last, answered = self.driver.feed(output)
                assert isinstance(used, ToolUsed), used
                self.assertEqual((used.access, used.asked, used.inside), (access, False, False))
                self.assertIn(name, used.title)
                self.assertIn("date", used.title)
                self.assertEqual((chunk, discarded), (TextChunk("Let me see."), TextDiscarded()))
                self.assertEqual(last, TextChunk("done"))
                assert isinstance(answered, Answered)
                self.assertEqual(answered.text, "done")

    def test_quoted(self) -> None:
        """
        An answer that quotes what is printed about a tool has used none.
        """
        [answered] = self.driver.feed(turn(self.kiro.format("shell", "") + "is what it said"))
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.endswith("is what it said"))

    def test_last(self) -> None:
        """
        A tool that has finished at the end of a turn was used, although no answer follows.
        """
        for words, done in [(self.kiro, ""), (self.q, "\n ● Completed in 0.2s\n\n")]:
            self.setUp()
            tool = printed(words.format("fs_write", "") + done + classic.footer(1))
            output = printed(classic.answer("Let me see.\n")) + tool
            used, answered = self.driver.feed(output + prompt())
            assert isinstance(used, ToolUsed), used
            self.assertEqual((used.access, used.asked), ("write", False))
            self.assertIsInstance(answered, Answered)

    def test_asked(self) -> None:
        """
        Questions in equal words are told apart and name the tool, and a tool is reported as
        used if it was allowed.
        """
        announced = printed(self.q.format("execute_bash", "") + classic.APPROVAL_QUESTION)
        for number, decide in [
            ("1", self.driver.conversation.deny),
            ("2", self.driver.conversation.allow),
        ]:
            [approval] = self.driver.feed(announced + prompt())
            assert isinstance(approval, NeedsApproval)
            self.assertTrue(approval.question.startswith("execute_bash: date: Allow this action?"))
            self.assertEqual(approval.number, number)
            decide()
            self.driver.feed(echo(decide().decode().strip()))
        used, answered = self.driver.feed(turn("done"))
        self.assertEqual(used, ToolUsed("execute_bash: date", "execute", asked=True))
        self.assertIsInstance(answered, Answered)

    @given(st.data())
    def test_cuts_change_nothing(self, data: st.DataObject) -> None:
        """
        The events of a turn with a tool are the same wherever its bytes are cut.
        """
        self.setUp()
        self.driver.conversation.streaming = True
        tool = printed(self.q.format("execute_bash", " (trusted)"))
        output = printed(classic.answer("One.\nTwo.\n")) + tool + turn("done\nthen")
        cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=20))
        expected = self.driver.feed(output)
        self.setUp()
        self.driver.conversation.streaming = True
        self.assertEqual(self.driver.feed(output, cuts), expected)


class QTests(SynchronousTestCase):
    """
    Tests for the dialect of Amazon Q.
    """

    def test_flags(self) -> None:
        """
        Long lines are not wrapped by versions that can be told so.
        """
        q = load_dialect("q")
        self.assertEqual(q.command((1, 15, 0)), ("chat", "--trust-tools="))
        self.assertEqual(q.command((1, 16)), ("chat", "--wrap", "never", "--trust-tools="))
