r"""
Tests for `kiroworkers.conversations.drafts`.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.drafts.draft import CannotDraft, Draft, draft_dialect
from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.replay import events_in

WINDOW = (20, 100)


def recorded(*pieces: tuple[str, str]) -> list[Chunk]:
    """
    Return a recording with 5 seconds between its pieces of output and input.
    """
    return [
        Chunk(5.0 * number, "i" if direction == "i" else "o", text.encode())
        for number, (direction, text) in enumerate(pieces)
    ]


def asked(text: str, answer: str, prompt: str) -> list[tuple[str, str]]:
    """
    Return the pieces of a turn of a program that echoes lines.
    """
    return [("i", text), ("o", text), ("i", "\r"), ("o", f"\r\n{answer}\r\n{prompt}")]


def draft(*pieces: tuple[str, str], command: str = "agent chat") -> Draft:
    """
    Return the draft from a recording, in whose own recording it must find all answers.
    """
    found = draft_dialect(recorded(*pieces), WINDOW, command)
    assert found.answers == found.questions, found
    return found


class LineTests(SynchronousTestCase):
    """
    Tests for programs that only print a prompt.
    """

    def test_whole(self) -> None:
        """
        The command, the size, the prompt, the clear and the way out are drafted.
        """
        dialect = draft(
            ("o", "Welcome\r\nme> "),
            *asked("first", "one {}", "me> "),
            *asked("/new", "A new chat begins.", "me> "),
            *asked("second", "two {}", "me> "),
            ("i", "bye\r"),
            ("o", "\r\n"),
            command="/opt/My-Agent chat --fast",
        ).dialect
        self.assertEqual(dialect.name, "my-agent")
        self.assertEqual(dialect.start.program, "/opt/My-Agent")
        self.assertEqual(dialect.command(None), ("chat", "--fast"))
        self.assertEqual(dialect.window, WINDOW)
        assert dialect.line is not None and dialect.clear is not None
        self.assertEqual(dialect.line.prompt.pattern, "^me> $")
        self.assertEqual(dialect.clear.type, b"/new\r")
        self.assertEqual(dialect.clear.done.pattern, r"(?m)^A new chat begins\.$")
        self.assertEqual(dialect.keys.quit, b"bye\r")

    def test_numbers(self) -> None:
        """
        A prompt that counts is one prompt.
        """
        pieces = [("o", "In [1]: ")]
        for number in (2, 3, 10):
            pieces += asked("print", "text {}", f"In [{number}]: ")
        line = draft(*pieces).dialect.line
        assert line is not None
        self.assertEqual(line.prompt.pattern, r"^In \[\d+\]: $")

    def test_interpreter(self) -> None:
        """
        A script is named, not its interpreter; the variables of env are kept.
        """
        command = "env KEY=1 python3 -u tools/chat.py --fast"
        turns = [*asked("a", "{}", "> "), *asked("b", "{}", "> ")]
        dialect = draft(("o", "> "), *turns, command=command).dialect
        self.assertEqual(dialect.name, "chat")
        self.assertEqual(dialect.variables.set["KEY"], "1")
        self.assertEqual(dialect.start.program, "python3")

    def test_prefix(self) -> None:
        """
        The mark at the beginning of every answer is drafted.
        """
        turns = [*asked("a", "AI: x {}", "> "), *asked("b", "AI: y {}", "> ")]
        prefix = draft(("o", "> "), *turns).dialect.answer.prefix
        assert prefix is not None
        self.assertEqual(prefix.pattern, b"(?m)^AI: ")

    def test_evidence(self) -> None:
        """
        Comments quote the recording, without anything that controls a terminal, and mark guesses.
        """
        turns = [*asked("a", "{}", "\x1b]0;x\x07é> "), *asked("b", "{}", "é> ")]
        text = draft(("o", "é> "), *turns).text
        self.assertIn('typed: "é> ".', text)
        self.assertIn("# CHECK: ", text)
        self.assertNotIn("\x1b", text)

    def test_no_question(self) -> None:
        """
        The error for a recording without a question says what to do.
        """
        error = self.assertRaises(CannotDraft, draft_dialect, recorded(("o", "> ")), WINDOW, "x")
        self.assertIn("type at least two", str(error))

    def test_missed(self) -> None:
        """
        A draft with which answers are missed says so.
        """
        pieces = [Chunk(0, "o", b"> "), Chunk(0.1, "i", b"a\r"), Chunk(0.2, "o", b"\r\n> ")]
        found = draft_dialect(pieces, WINDOW, "x")
        self.assertEqual((found.questions, found.answers), (1, 0))


class EditorTests(SynchronousTestCase):
    """
    Tests for programs with a line editor that brackets what it reads.
    """

    ON, OFF = "\x1b[?2004h", "\x1b[?2004l"

    def turn(
        self, text: str, answer: str, prompt: str = "\x1b[1;35m>>> \x1b[0m"
    ) -> list[tuple[str, str]]:
        """
        Return the pieces of a turn.
        """
        return [
            ("i", text),
            ("o", text),
            ("i", "\r"),
            ("o", f"\r\n{self.OFF}{answer}\r\n{self.ON}{prompt}"),
        ]

    def test_prompt(self) -> None:
        """
        The marks and the prompt in its colour are drafted; prompts are pasted.
        """
        pieces = [
            ("o", f"{self.ON}\x1b[1;35m>>> \x1b[0m"),
            *self.turn("a", "x"),
            *self.turn("b", "y"),
        ]
        dialect = draft(*pieces).dialect
        assert dialect.prompt is not None
        self.assertEqual(dialect.prompt.ready.pattern, rb"\x1b\[1;35m>>>")
        self.assertEqual(dialect.keys.paste_start, b"\x1b[200~")

    def test_confirmation(self) -> None:
        """
        The question whether to clear is drafted, with the prompt at which it waits.
        """
        question = "Forget everything? [y/n]"
        clear = self.turn("/clear", f"{question}", "\x1b[33m>>> \x1b[0m")
        pieces = [
            ("o", f"{self.ON}\x1b[1;35m>>> \x1b[0m"),
            *self.turn("a", "x"),
            *clear,
            *self.turn("y", "History cleared"),
            *self.turn("b", "y"),
        ]
        clear_table = draft(*pieces).dialect.clear
        assert clear_table is not None and clear_table.question is not None
        self.assertEqual(clear_table.confirm, b"y\r")
        self.assertTrue(clear_table.question.search(question))
        self.assertTrue(clear_table.done.search("History cleared"))


class ScreenTests(SynchronousTestCase):
    """
    Tests for programs that draw on the screen.
    """

    @staticmethod
    def frame(rows: list[str]) -> str:
        """
        Return what draws `rows` from the top, with the cursor on the last one.
        """
        drawn = "\r\n".join(f"{row}\x1b[K" for row in rows)
        return f"\x1b[?2026h\x1b[H{drawn}\x1b[J\x1b[?2026l"

    def session(self, idle: str, busy: str) -> list[tuple[str, str]]:
        """
        Return the pieces of a session whose screens begin with these sequences.
        """
        rows = ["Welcome"]
        pieces = [("o", idle + self.frame([*rows, "", "ask me something"]))]
        for number, text in enumerate(("first question", "second question")):
            pieces += [("i", text), ("o", self.frame([*rows, "", text])), ("i", "\r")]
            rows = [*rows, f"  {text}"]
            working = [*rows, f"{'⠋⠙'[number]} Thinking", "", "I am working"]
            rows = [*rows, f"* answer {number} {{}}"]
            pieces += [
                ("o", busy + self.frame(working)),
                ("o", idle + self.frame([*rows, "", "ask me something"])),
            ]
        return pieces

    def test_rows(self) -> None:
        """
        Rows that are only there while the program waits, or works, are drafted as its signs.
        """
        signs = draft(*self.session("", "")).dialect.signs
        assert signs is not None and signs.idle.screen and signs.busy.screen
        self.assertTrue(signs.idle.screen.search("ask me something"))
        self.assertTrue(signs.busy.screen.search("I am working"))
        self.assertTrue(signs.output.search("⠹ Thinking"))

    def test_title(self) -> None:
        """
        A title that shows whether it works is preferred.
        """
        signs = draft(*self.session("\x1b]0;Ready\x07", "\x1b]0;Working\x07")).dialect.signs
        assert signs is not None and signs.idle.title and signs.busy.title
        self.assertEqual(signs.idle.title.pattern, "^Ready$")
        self.assertEqual(signs.busy.title.pattern, "^Working$")

    def test_menu(self) -> None:
        """
        The keys at a menu before the first prompt are drafted, each with the choice it was at.
        """
        menu = [("o", "Trust?\r\n> No\r\n  Yes\r\n"), ("i", "\x1b[B")]
        menu += [("o", "\x1b[H\x1b[JTrust?\r\n  No\r\n> Yes\r\n"), ("i", "\r")]
        turns = [*asked("a", "{}", "me> "), *asked("b", "{}", "me> ")]
        menus = draft(*menu, ("o", "\x1b[H\x1b[Jme> "), *turns).dialect.menus
        self.assertEqual([menu.keys for menu in menus], [b"\x1b[B", b"\r"])
        self.assertEqual([menu.question.pattern for menu in menus], ["> No", "> Yes"])


class AnyRecordingTests(SynchronousTestCase):
    """
    Tests for recordings of anything.
    """

    TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

    @settings(max_examples=60, deadline=None)
    @given(TEXT, TEXT, TEXT, TEXT, TEXT)
    @example(": ", "", "0", "", "/")
    @example(": ", "", "0", "", "''")
    def test_valid(self, prompt: str, title: str, text: str, answer: str, command: str) -> None:
        """
        A draft is a valid dialect, whatever was printed, typed and started.
        """
        title = f"\x1b]0;{title}\x07"
        pieces = [("o", prompt)]
        for _ in range(2):
            pieces += [("i", f"{text}\r"), ("o", title + answer), ("o", prompt)]
        pieces += [("i", "/clear\r"), ("o", answer + prompt), ("i", "\r")]
        try:
            found = draft_dialect(recorded(*pieces), WINDOW, command)
        except CannotDraft:
            return
        self.assertEqual(found.dialect.window, WINDOW)
        list(events_in(found.dialect, recorded(*pieces)))
