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
    ComposerNotEmpty,
    Event,
    NeedsApproval,
    NeedsChoice,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    Submitted,
    load_dialect,
    new_conversation,
)
from kiroworkers.conversations.dialects.dialect import Screen
from kiroworkers.errors import FailureKind

TUI = evolve(load_dialect("kiro-tui"), screen=Screen(30, 80))

RULE = "─" * 40
IDLE = (RULE, "Kiro · auto", "", " ask a question or describe a task ↵", "  /copy to clipboard")
BUSY = (RULE, "Kiro · auto", "", " Kiro is working · type to queue a message")
TYPED = (RULE, "Kiro · auto", "", " 12 lines ▸")
SPINNER = ("⠙ Thinking... (esc to cancel)", "")
ECHO = (RULE, '  Request: {"title": "mine"}', "")


def drawn(*rows: str) -> bytes:
    """
    Return a synchronized update that draws `rows` from the top and erases nothing else.
    """
    lines = "".join(f"\x1b[{n};1H\x1b[2K{row}" for n, row in enumerate((*rows, *[""] * 12), 1))
    return f"\x1b[?2026h{lines}\x1b[?2026l".encode()


def drawn_once(*rows: str) -> bytes:
    """
    Return a synchronized update that prints `rows` from the top, which may scroll.
    """
    return ("\x1b[?2026h\x1b[H" + "\r\n".join(rows) + "\x1b[?2026l").encode()


def insert(*rows: str) -> bytes:
    """
    Return a synchronized update that prints `rows` above the idle composer.
    """
    up = f"\x1b[{len(IDLE) - 1}A\r\x1b[J"
    return ("\x1b[?2026h" + up + "\r\n".join((*rows, *IDLE)) + "\x1b[?2026l").encode()


class Driver:
    """
    An idle conversation, with helpers to feed it.
    """

    def __init__(self, max_output: int = 100_000) -> None:
        self.conversation = new_conversation(TUI, max_output)
        self.conversation.feed(drawn(*IDLE))
        assert self.conversation.on_quiet() == [Ready()], "it is idle"

    def feed(self, *rows: str) -> list[Event]:
        return self.conversation.feed(drawn(*rows))

    def start_turn(self) -> Driver:
        """
        Type a prompt, and show that the agent has taken it and is busy.
        """
        self.conversation.ask("one\ntwo")
        assert self.feed(*TYPED) == [], "the prompt is in the composer"
        assert self.feed(*ECHO, *SPINNER, *BUSY) == [Submitted()], "the agent took the prompt"
        return self

    def on_quiet(self) -> list[Event]:
        assert self.conversation.quiet_timeout is not None, "the conversation waits for silence"
        return self.conversation.on_quiet()


class TurnTests(SynchronousTestCase):
    """
    Tests for asking and answering.
    """

    def test_start(self) -> None:
        """
        The idle marker is believed after a moment of silence, once.
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
        A turn is answered when the agent is idle again and silent, with the text below the
        echo.
        """
        driver = Driver().start_turn()
        self.assertEqual(driver.feed(*ECHO, "  Hey! 2+2", "", *BUSY), [])
        self.assertIs(driver.conversation.quiet_timeout, None)
        self.assertEqual(driver.feed(*ECHO, "  Hey! 2+2 = 4.", "", *IDLE), [])
        [answered] = driver.on_quiet()
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
        cleared = ("  Conversation cleared", "")
        for type_it, more_rows in (
            (partial(conversation.ask, "one"), ()),
            (conversation.clear, cleared),
        ):
            typed = type_it()
            self.assertFalse(typed.endswith(b"\r"))
            # The agent may be busy with something else.
            self.assertEqual(conversation.feed(drawn(*IDLE)), [])
            self.assertEqual(conversation.quiet_timeout, 1.0)
            shown = "/clear" if b"clear" in typed else "one"
            self.assertEqual(conversation.feed(drawn(*TYPED[:3], f" {shown}")), [])
            self.assertEqual(conversation.quiet_timeout, 0.2)
            self.assertEqual(conversation.data_to_send(), b"")
            self.assertEqual(conversation.on_quiet(), [])
            self.assertEqual(conversation.data_to_send(), b"\r")
            self.assertEqual(conversation.data_to_send(), b"")
            conversation.feed(drawn(*ECHO, *SPINNER, *BUSY))
            self.assertIs(conversation.quiet_timeout, None)
            conversation.feed(drawn(*ECHO, "  4", *more_rows, *IDLE))
            [end] = conversation.on_quiet()
            self.assertIsInstance(end, Answered | Cleared)

    def test_late_frames(self) -> None:
        """
        What is drawn between the idle marker and the silence is part of the answer.
        """
        driver = Driver().start_turn()
        driver.feed(*ECHO, "  first", "", *IDLE)
        driver.feed(*ECHO, "  first and last", "", *IDLE)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertIn("first and last", answered.text)

    def test_old_idle_marker(self) -> None:
        """
        The idle marker that was there when the prompt was typed does not end the turn.
        """
        driver = Driver()
        driver.conversation.ask("hello")
        driver.feed(*IDLE)
        self.assertIs(driver.conversation.quiet_timeout, None)
        self.assertEqual(driver.conversation.on_quiet(), [])

    def test_idle_before_busy(self) -> None:
        """
        An idle marker that returns before the busy marker does not end the turn.
        """
        driver = Driver()
        driver.conversation.ask("hello")
        driver.feed(*TYPED)
        driver.feed(*IDLE)
        self.assertIs(driver.conversation.quiet_timeout, None)
        self.assertEqual(driver.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])

    def test_echo_that_looks_like_output(self) -> None:
        """
        A client's text in the echo is never taken for the beginning of the output.
        """
        echo = (RULE, '  Request: {"title": "x (esc to cancel)"}', "")
        driver = Driver()
        driver.conversation.ask("hello")
        driver.feed(*TYPED)
        driver.feed(*echo, *BUSY)
        driver.feed(*echo, *SPINNER, *BUSY)
        driver.feed(*echo, "  I cannot", "", *IDLE)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertNotIn("title", answered.text)

    def test_rows_with_new_numbers(self) -> None:
        """
        Nor is it when part of the screen was scrolled back meanwhile, so that all rows have
        new numbers.
        """
        codex = evolve(load_dialect("codex"), screen=Screen(14, 90))
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
            conversation.feed(at(5, "• I cannot do {that}.", "", ""))
            conversation.feed(at(8, *composer) + says("done", "Ready"))
            [answered] = conversation.on_quiet()
            assert isinstance(answered, Answered), answered
            self.assertNotIn("of the request before", answered.text)
            self.assertIn("I cannot do {that}.", answered.text)

    def test_output_of_another_turn(self) -> None:
        """
        A row that stands where it stood before the prompt was typed is not output of the
        turn.
        """
        driver = Driver()
        driver.feed("• an answer (esc to cancel)", "", *IDLE)
        driver.conversation.ask("one")
        driver.feed("• an answer (esc to cancel)", "", *TYPED)
        busy = ("• an answer (esc to cancel)", "", *ECHO)
        self.assertEqual(driver.feed(*busy, *BUSY), [Submitted()])
        driver.feed(*busy, *SPINNER, *BUSY)
        driver.feed(*busy, "• 4", "", *IDLE)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith("• 4\n"))

    def test_answer_above_the_markers(self) -> None:
        """
        A marker is not recognized in the row above the composer.
        """
        driver = Driver().start_turn()
        driver.feed(*ECHO, "  Kiro is working · I say", RULE, "Kiro · auto", "", IDLE[3])
        self.assertIsInstance(driver.on_quiet()[0], Answered)

    def test_markers_in_an_answer(self) -> None:
        """
        An answer that contains the markers neither ends nor prolongs the turn.
        """
        driver = Driver().start_turn()
        fakes = [
            "  ask a question or describe a task ↵",
            "  shell requires approval",
            "  ❯ Yes, single permission",
            "  Kiro is working · type",
            "",
        ]
        self.assertEqual(driver.feed(*ECHO, *fakes, *BUSY), [])
        self.assertIs(driver.conversation.quiet_timeout, None)
        driver.feed(*ECHO, *fakes, *IDLE)
        self.assertIsInstance(driver.on_quiet()[0], Answered)

    def test_erased(self) -> None:
        """
        An answer of which a part was erased is unreadable, and no other text is taken for
        it.
        """
        driver = Driver().start_turn()
        driver.conversation.feed(b"\x1b[2J\x1b[H" + drawn('{"title": "old"}', "new", *IDLE))
        [failure] = driver.on_quiet()
        assert isinstance(failure, AgentFailure)
        self.assertEqual(failure.kind, "unreadable")

    def test_longer_than_the_screen(self) -> None:
        """
        An answer that scrolls off the main screen is read completely.
        """
        driver = Driver().start_turn()
        lines = [f"line {number}" for number in range(100)]
        text = "\r\n".join(f"\x1b[2K{row}" for row in [*ECHO, *lines, "", *IDLE])
        driver.conversation.feed(f"\x1b[?2026h\x1b[1;1H{text}\x1b[?2026l".encode())
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith("line 0\nline 1\n"))

    def test_overflow(self) -> None:
        """
        A turn that prints too much is reported, and its screen is no longer drawn.
        """
        driver = Driver(max_output=5000).start_turn()
        self.assertEqual(driver.conversation.feed(b"x" * 5001), [Overflowed(5000)])
        self.assertTrue(driver.conversation.desynchronized)
        self.assertEqual(driver.feed(*IDLE), [])
        self.assertIs(driver.conversation.quiet_timeout, None)

    def test_incomplete_object(self) -> None:
        """
        An answer whose object has not ended is given more time, and what is drawn then is part
        of it.
        """
        driver = Driver().start_turn()
        self.assertEqual(driver.feed(*ECHO, '  {"a":', "", *IDLE), [])
        self.assertEqual(driver.conversation.quiet_timeout, 1.0)
        self.assertEqual(driver.feed(*ECHO, '  {"a": 1}', "", *IDLE), [])
        self.assertEqual(driver.conversation.quiet_timeout, 0.2)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith('  {"a": 1}\n'))

    def test_stale_spinner(self) -> None:
        """
        A spinner that an earlier turn has left above the echo, and that has moved, is not the
        beginning of the output.
        """
        stale = (SPINNER[0], '  {"title": "of the request before"}', "")
        driver = Driver()
        driver.feed(*stale, *IDLE)
        driver.conversation.ask('Request: {"title": "mine"}')
        driver.feed("", *stale, *ECHO, *BUSY)
        driver.feed("", *stale, *ECHO, "⠹ Thinking... (esc to cancel)", "", *BUSY)
        driver.feed("", *stale, *ECHO, '  {"title": "yours"}', "", *IDLE)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertIn("yours", answered.text)
        self.assertNotIn("of the request before", answered.text)

    def test_clusters(self) -> None:
        """
        An answer with emoji of several characters is read exactly, and is unreadable if the
        agent has placed text behind them without showing how wide it takes them for.
        """
        answer = '  {"a": "👩\u200d👩\u200d👧 and 👍🏽"}'
        driver = Driver().start_turn()
        driver.feed(*ECHO, answer, "", *IDLE)
        [answered] = driver.on_quiet()
        assert isinstance(answered, Answered)
        self.assertTrue(answered.text.startswith(answer))
        driver = Driver().start_turn()
        driver.feed(*ECHO, f"{answer}\x1b[20Gx", "", *IDLE)
        [failure] = driver.on_quiet()
        assert isinstance(failure, AgentFailure)
        self.assertEqual(failure.kind, "unreadable")
        self.assertIn("emoji", failure.detail)

    def test_query(self) -> None:
        """
        A query is answered at once before the first prompt, and never in a turn.
        """
        conversation = new_conversation(TUI, 1000)
        conversation.feed(b"\x1b[3;5H\x1b[6n")
        self.assertEqual(conversation.data_to_send(), b"\x1b[3;5R")
        driver = Driver().start_turn()
        driver.conversation.feed(b"\x1b[6n\x1b[5n")
        driver.feed(*ECHO, "  {}", "", *IDLE)
        driver.on_quiet()
        self.assertEqual(driver.conversation.data_to_send(), b"")

    def test_prompt_lost(self) -> None:
        """
        A screen that is no longer idle although nothing was typed is reported as a lost
        prompt.
        """
        driver = Driver()
        self.assertEqual(driver.feed(RULE, "Update now?"), [PromptLost()])
        self.assertFalse(driver.conversation.at_prompt)
        driver.feed(*IDLE)
        self.assertEqual(driver.on_quiet(), [Ready()])

    def test_redrawn(self) -> None:
        """
        The prompt is not lost while an agent without synchronized updates draws its rows again,
        and is lost if it does not draw its marker.
        """
        driver = Driver()
        erased = "\x1b[2K\x1b[1A" * 3 + "\x1b[2K\x1b[G"
        rows = "\r\n".join(IDLE[-4:])
        self.assertEqual(driver.conversation.feed(f"\x1b[5;1H{erased}".encode()), [])
        self.assertEqual(driver.conversation.feed(rows.encode()), [])
        self.assertEqual(driver.on_quiet(), [])
        self.assertTrue(driver.conversation.at_prompt)
        self.assertEqual(driver.conversation.feed(f"{erased}Update now?".encode()), [])
        self.assertEqual(driver.on_quiet(), [PromptLost()])


class RenderedTests(SynchronousTestCase):
    """
    Tests for `Answered.styled`, with rows drawn as the real programs draw them.
    """

    PUNCTUATION, KEY, STRING, ESCAPE = (
        f"\x1b[38;2;{colour};49m"
        for colour in ("147;153;178", "137;180;250", "166;227;161", "245;194;231")
    )
    #: What Codex makes of ``**bold**``, ``[b](c)`` and a code span.
    BOLD = "\x1b[1m\x1b[38;5;211;49mbold\x1b[22m\x1b[39;49m"
    LINK = "b (\x1b[4m\x1b[38;5;111;49m\x1b]8;;c\x07c\x1b]8;;\x07\x1b[24m\x1b[39;49m)"
    CODE = "\x1b[38;2;166;227;161;49mls -l\x1b[39;49m"

    def answered(self, *rows: str) -> tuple[str, bool]:
        """
        Return the object in an answer, and whether it was rendered.
        """
        driver = Driver().start_turn()
        driver.conversation.feed(drawn(*ECHO, *rows, "\x1b[0m", *IDLE))
        [event] = driver.on_quiet()
        assert isinstance(event, Answered)
        start, end = event.text.index("{"), event.text.index("}") + 1
        return event.text[start:end], any(start < offset < end for offset in event.styled)

    def test_markdown(self) -> None:
        """
        A change of style inside an object that is not in a code block is reported.
        """
        for piece, shown in ((self.BOLD, "bold"), (self.LINK, "b (c)"), (self.CODE, "ls -l")):
            for row in (f'{{"a": "x {piece} y"}}', f'{{"a": "{piece}"}}'):
                answer = row.replace(piece, shown)
                self.assertEqual(self.answered(f"\x1b[2m• \x1b[22m{row}"), (answer, True))

    def test_highlighted(self) -> None:
        """
        The colours of an object in a code block are not, also if it takes several rows.
        """
        key = f'{self.PUNCTUATION}"{self.KEY}a{self.PUNCTUATION}":\x1b[39m '
        value = f'{self.STRING}"**b**{self.ESCAPE}\\n{self.STRING}x"{self.PUNCTUATION}'
        self.assertEqual(
            self.answered(f"\x1b[2m• \x1b[22m{self.PUNCTUATION}{{{key}{value}}}"),
            (r'{"a": "**b**\nx"}', False),
        )
        rows = (f"\x1b[2m• \x1b[22m{self.PUNCTUATION}{{", f"    {key}{value}", "  }")
        self.assertEqual(self.answered(*rows), ('{\n    "a": "**b**\\nx"\n  }', False))

    def test_plain(self) -> None:
        """
        Style before and after an object, and one that is set again, are none of its own.
        """
        white = "\x1b[38;2;255;255;255m"
        row = f'{white}{{"a": "\x1b[39m{white}__\x1b[39m{white}init"}}\x1b[39m'
        self.assertEqual(self.answered(f"Model:  {row} {self.BOLD}"), ('{"a": "__init"}', False))

    def test_scrolled_off(self) -> None:
        """
        A change of style is also reported if its row has scrolled off the screen.
        """
        driver = Driver().start_turn()
        rows = [f'{{"a": "{self.BOLD}"}}', *[f"line {number}" for number in range(100)]]
        text = "\r\n".join(f"\x1b[2K{row}" for row in [*ECHO, *rows, "", *IDLE])
        driver.conversation.feed(f"\x1b[?2026h\x1b[1;1H{text}\x1b[?2026l".encode())
        [event] = driver.on_quiet()
        assert isinstance(event, Answered)
        self.assertEqual(event.styled[:3], (0, 7, 11))


class GeminiTests(SynchronousTestCase):
    """
    Tests for Gemini, whose output is inserted above the lower rows of its screen.
    """

    NOTICE = 'You are currently in screen reader-friendly view. To switch out, open "x".'
    BLOCK = ("workspace (/directory)", "/folder", "/model", ">    Type your message")

    def test_notice(self) -> None:
        """
        The answer is complete with and without the notice of a first start, in each turn.
        """
        for block in (self.BLOCK, (self.NOTICE, *self.BLOCK)):
            conversation = new_conversation(load_dialect("gemini"), 100_000)
            up = f"\x1b[2K{chr(27)}[1A" * (len(block) - 1) + "\x1b[2K\x1b[G"
            rows = "\r\n".join(block)
            conversation.feed(f"{rows}\x1b]0;◇  Ready\x07".encode())
            self.assertEqual(conversation.on_quiet(), [Ready()])
            for number in range(2):
                conversation.ask(f"this is question {number}")
                conversation.feed(f"{up}User:  this is question {number}\r\n{rows}".encode())
                conversation.on_quiet()
                conversation.feed("\x1b]0;✦  Working\x07".encode())
                conversation.feed(f'{up}Model:  {{"a": {number}}}\r\n{rows}'.encode())
                conversation.feed("\x1b]0;◇  Ready\x07".encode())
                [event] = conversation.on_quiet()
                assert isinstance(event, Answered)
                self.assertTrue(event.text.startswith(f'Model:  {{"a": {number}}}\n'))


class CancelTests(SynchronousTestCase):
    """
    Tests for `interrupt` and `empty_composer`.
    """

    def test_cancel(self) -> None:
        """
        One key interrupts a turn, which is over when the agent is idle and silent.
        """
        driver = Driver().start_turn()
        self.assertEqual(driver.conversation.interrupt(), b"\x1b")
        driver.feed(*ECHO, "● Cancelled", "", *IDLE)
        self.assertEqual(driver.on_quiet(), [Ready()])

    def test_too_early(self) -> None:
        """
        An interrupt types nothing before the agent has taken the prompt.
        """
        driver = Driver()
        driver.conversation.ask("hello")
        self.assertEqual(driver.conversation.interrupt(), b"")
        driver.feed(*TYPED)
        self.assertEqual(driver.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])
        self.assertEqual(driver.conversation.interrupt(), b"\x1b")

    def test_too_early_and_idle(self) -> None:
        """
        An agent that looks idle after a prompt was typed, and cancelled before it was taken,
        is not believed for 2 seconds: it may be about to take it.
        """
        for submitted in (True, False):
            driver = Driver()
            driver.conversation.ask("hello")
            driver.feed(*TYPED)
            self.assertEqual(driver.conversation.interrupt(), b"")
            driver.feed(*IDLE)
            self.assertEqual(driver.conversation.quiet_timeout, 2.0)
            if submitted:
                self.assertEqual(driver.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])
                self.assertEqual(driver.conversation.interrupt(), b"\x1b")
                driver.feed(*ECHO, "● Cancelled", "", *IDLE)
                self.assertEqual(driver.conversation.quiet_timeout, 0.2)
            self.assertEqual(driver.on_quiet(), [Ready()])

    def test_prompt_put_back(self) -> None:
        """
        A cancelled prompt that returns to the composer is erased before the agent counts as
        ready.
        """
        driver = Driver().start_turn()
        driver.conversation.interrupt()
        driver.feed(*ECHO, "● Cancelled", "", *TYPED)
        self.assertEqual(driver.on_quiet(), [ComposerNotEmpty()])
        self.assertFalse(driver.conversation.at_prompt)
        self.assertEqual(driver.conversation.empty_composer(), b"\x15")
        self.assertIs(driver.conversation.quiet_timeout, None)
        driver.feed(*ECHO, "● Cancelled", "", *IDLE)
        self.assertEqual(driver.on_quiet(), [Ready()])


class ClearTests(SynchronousTestCase):
    """
    Tests for `clear`.
    """

    def setUp(self) -> None:
        self.driver = Driver().start_turn()
        self.driver.feed(*ECHO, "  Conversation cleared", "", *IDLE)
        self.driver.on_quiet()

    def test_confirmed(self) -> None:
        """
        A clear is confirmed by text that was not there before, even if the idle marker
        never went away.
        """
        self.assertEqual(self.driver.conversation.clear(), b"/clear\r")
        self.driver.feed(*ECHO, "  Conversation cleared", "Conversation cleared", *IDLE)
        self.assertEqual(self.driver.on_quiet(), [Cleared()])

    def test_old_text(self) -> None:
        """
        Text of an earlier answer does not confirm a clear.
        """
        self.driver.conversation.clear()
        self.driver.feed(*ECHO, "  Conversation cleared", "", *TYPED)
        self.driver.feed(*ECHO, "  Conversation cleared", "", *IDLE)
        [event] = self.driver.on_quiet()
        self.assertIsInstance(event, NotCleared)

    def test_same_words_again(self) -> None:
        """
        The same words confirm a second clear if they are printed once more, even if those of
        the first one scroll off the screen.
        """
        driver = Driver()
        driver.conversation.feed(b"\x1b[H\x1b[J" + drawn_once("Conversation cleared", *IDLE))
        for _ in range(3):
            driver.conversation.clear()
            driver.conversation.feed(insert(*["."] * 20, "Conversation cleared"))
            self.assertEqual(driver.on_quiet(), [Cleared()])

    def test_old_words_that_return(self) -> None:
        """
        Words that had scrolled off the screen and are drawn again do not confirm a clear.
        """
        log = [f"line {number}" for number in range(28)]
        driver = Driver()
        driver.conversation.feed(b"\x1b[2J" + drawn_once("Conversation cleared", *log, *IDLE))
        driver.conversation.clear()
        frame = drawn_once("Conversation cleared", *log[:20], *IDLE)
        driver.conversation.feed(b"\x1b[2J\x1b[3J" + frame)
        self.assertEqual(driver.conversation.quiet_timeout, 3.0)
        self.assertIsInstance(driver.on_quiet()[0], NotCleared)

    def test_same_words_on_an_erased_screen(self) -> None:
        """
        The same words on the same row confirm a clear if everything was erased and the answer
        is gone; if it is still shown they do not.
        """
        for answer, events in (((), [Cleared()]), (("  An answer {}",), [])):
            driver = Driver()
            driver.conversation.feed(drawn("Conversation cleared", *IDLE))
            driver.conversation.ask("one")
            driver.feed("Conversation cleared", *ECHO, *SPINNER, *BUSY)
            driver.feed("Conversation cleared", *ECHO, "  An answer {}", *IDLE)
            self.assertIsInstance(driver.on_quiet()[0], Answered)
            driver.conversation.clear()
            driver.feed("Conversation cleared", *ECHO, "  An answer {}", *TYPED)
            frame = drawn("Conversation cleared", *answer, *IDLE)
            driver.conversation.feed(b"\x1b[2J\x1b[3J\x1b[H" + frame)
            if events:
                self.assertEqual(driver.conversation.quiet_timeout, 0.2)
                self.assertEqual(driver.on_quiet(), events)
            else:
                self.assertEqual(driver.conversation.quiet_timeout, 3.0)
                self.assertIsInstance(driver.on_quiet()[0], NotCleared)

    def test_idle_before_the_confirmation(self) -> None:
        """
        An idle marker that appears before the clear is confirmed is not believed for 3 seconds.
        """
        self.driver.conversation.clear()
        self.driver.feed(*ECHO, "  Conversation cleared", "", *TYPED)
        self.driver.feed(*ECHO, "  Conversation cleared", "", *IDLE)
        self.assertEqual(self.driver.conversation.quiet_timeout, 3.0)
        self.driver.feed("Conversation cleared", *ECHO, "  Conversation cleared", *IDLE)
        self.assertEqual(self.driver.conversation.quiet_timeout, 0.2)
        self.assertEqual(self.driver.on_quiet(), [Cleared()])


class LostEnterTests(SynchronousTestCase):
    """
    Tests for an Enter that the agent did not get.
    """

    def assert_pressed(self, driver: Driver) -> None:
        self.assertEqual(driver.conversation.quiet_timeout, 2.0)
        self.assertEqual(driver.on_quiet(), [])
        self.assertEqual(driver.conversation.data_to_send(), b"\r")
        self.assertEqual(driver.conversation.data_to_send(), b"")
        # Once, and not again.
        driver.feed(*TYPED[:3], " Give the object.")
        self.assertIs(driver.conversation.quiet_timeout, None)
        self.assertEqual(driver.conversation.on_quiet(), [])
        self.assertEqual(driver.conversation.data_to_send(), b"")

    def test_pressed_again(self) -> None:
        """
        Enter is pressed again, once, if the composer has held the prompt for 2 seconds, shown
        by its end or by its size.
        """
        for prompt, shown in (("One.\nGive the object.", "Give the object."), ("one\n" * 12, "")):
            driver = Driver()
            driver.conversation.ask(prompt)
            driver.feed(*TYPED[:3], f" {shown}" if shown else TYPED[3])
            self.assert_pressed(driver)
            self.assertEqual(driver.feed(*ECHO, *SPINNER, *BUSY), [Submitted()])
            driver.feed(*ECHO, "  {}", *IDLE)
            self.assertIsInstance(driver.on_quiet()[0], Answered)

    def test_clear(self) -> None:
        """
        So it is if the composer holds the command that clears.
        """
        driver = Driver()
        driver.conversation.clear()
        driver.feed(*TYPED[:3], " /clear")
        self.assert_pressed(driver)

    def test_not_pressed(self) -> None:
        """
        It is not pressed while the agent works, at an empty composer, or at anything
        else than the prompt.
        """
        for rows in ((*ECHO, *SPINNER, *BUSY), IDLE, (RULE, "Update now?"), (*TYPED[:3], " yours")):
            driver = Driver()
            driver.conversation.ask("one\ntwo\nGive the object.")
            driver.feed(*rows)
            self.assertIs(driver.conversation.quiet_timeout, None, rows)
            self.assertEqual(driver.conversation.on_quiet(), [])
            self.assertEqual(driver.conversation.data_to_send(), b"")

    def test_after_a_cancel(self) -> None:
        """
        It is pressed as well if the prompt was cancelled before it was submitted: the turn can
        only be interrupted when it has begun.
        """
        driver = Driver()
        driver.conversation.ask("one\ntwo\nGive the object.")
        driver.feed(*TYPED[:3], " Give the object.")
        self.assertEqual(driver.conversation.interrupt(), b"")
        self.assert_pressed(driver)


class QuestionTests(SynchronousTestCase):
    """
    Tests for menus and failures.
    """

    def approval(self, at: int) -> list[str]:
        choices = ("Yes, single permission", "Trust, always allow", "No (Tab to edit)")
        menu = [f" {'❯' if n == at else ' '} {choice}" for n, choice in enumerate(choices)]
        return [*ECHO, "↓ Shell rm -rf /", "", RULE, " shell requires approval", "", *menu, RULE]

    def test_deny(self) -> None:
        """
        The menu's cursor is moved down to No, one row for each frame, and only then Enter
        is pressed.
        """
        driver = Driver().start_turn()
        keys = []
        for at in (0, 0, 1, 2):
            for event in driver.feed(*self.approval(at)):
                self.assertEqual(event, NeedsApproval("shell requires approval"))
                keys.append(driver.conversation.deny())
        self.assertEqual(keys, [b"\x1b[B", b"\x1b[B", b"\r"])

    def test_allow(self) -> None:
        """
        A tool that the operator allows is allowed once.
        """
        driver = Driver().start_turn()
        self.assertEqual(len(driver.feed(*self.approval(0))), 1)
        self.assertEqual(driver.conversation.allow(), b"\r")

    def test_second_approval(self) -> None:
        """
        A second question for a tool in the same turn is answered, too.
        """
        driver = Driver().start_turn()
        for _ in range(2):
            [event] = driver.feed(*self.approval(0))
            self.assertEqual(event, NeedsApproval("shell requires approval"))
            self.assertEqual(driver.conversation.allow(), b"\r")
            self.assertEqual(driver.feed(*ECHO, *SPINNER, *BUSY), [])

    def test_one_key_for_a_screen(self) -> None:
        """
        If two screens are read at once, only the last one is reported, and a key is pressed once.
        """
        driver = Driver().start_turn()
        data = drawn(*self.approval(1)) + drawn(*self.approval(2))
        events = driver.conversation.feed(data)
        self.assertEqual(events, [NeedsApproval("shell requires approval")])
        self.assertEqual([driver.conversation.deny() for _ in range(2)], [b"\r", b""])

    def test_half_drawn(self) -> None:
        """
        If an agent makes no synchronized updates, no key is pressed before it is silent.
        """
        driver = Driver().start_turn()
        rows = "\r\n".join(self.approval(0))
        self.assertEqual(driver.conversation.feed(f"\x1b[1;1H{rows}\x1b[J".encode()), [])
        self.assertEqual(driver.on_quiet(), [NeedsApproval("shell requires approval")])

    def test_start_menu(self) -> None:
        """
        A menu at the start is answered with the keys that fit its cursor.
        """
        conversation = new_conversation(TUI, 1000)
        rows = ("Warning: trust all tools mode", " ❯ No, exit", "   Yes, I accept")
        [event] = conversation.feed(drawn(*rows))
        self.assertEqual(event, NeedsChoice("❯ No, exit", b"\x1b[B"))
        self.assertEqual(conversation.feed(drawn(*rows)), [])
        rows = ("Warning: trust all tools mode", "   No, exit", " ❯ Yes, I accept")
        self.assertEqual(conversation.feed(drawn(*rows)), [NeedsChoice("❯ Yes, I accept", b"\r")])

    def test_failure(self) -> None:
        """
        A failure in place of an answer is recognized; an answer that mentions a failure is
        an answer.
        """
        words = "Too many requests, please wait 30 seconds"
        driver = Driver().start_turn()
        driver.feed(*ECHO, words, "", *IDLE)
        self.assertEqual(driver.on_quiet(), [AgentFailure(FailureKind.THROTTLED, words, 30)])
        for row in ('  {"a": 1}', "• Well"):
            driver = Driver().start_turn()
            driver.feed(*ECHO, row, words, "", *IDLE)
            self.assertIsInstance(driver.on_quiet()[0], Answered, row)

    def test_failure_that_blocks(self) -> None:
        """
        A failure that waits for a choice is reported once.
        """
        driver = Driver().start_turn()
        words = "The model you've selected is temporarily unavailable"
        [failure] = driver.feed(*ECHO, words, " ❯ the dearest one")
        assert isinstance(failure, AgentFailure)
        self.assertEqual(failure.kind, "model_gone")
        self.assertEqual(driver.feed(*ECHO, words, " ❯ the dearest one", ""), [])
