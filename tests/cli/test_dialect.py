"""
Tests for `kiroworkers.cli.dialect`.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor
from kiroworkers.cli.dialect import main
from tests.programs import ROOT, Program, environment

real: Any = reactor


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run the command; return its exit status, standard output and standard error.
    """
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
        status = main(arguments)
    return status, printed.getvalue(), errors.getvalue()


class CheckTests(SynchronousTestCase):
    """
    Tests for `check`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_dialect(self) -> None:
        """
        A valid dialect is shown with the command that it starts.
        """
        status, printed, _ = run("check", "kiro-classic")
        self.assertEqual(status, 0)
        self.assertIn("kiro: Kiro CLI, classic interface", printed)
        self.assertIn("kiro-cli chat --legacy-ui", printed)

    def test_tools(self) -> None:
        """
        A dialect whose words for tools have no effect is shown with a remark that says why.
        """
        mine = self.folder / "mine.toml"
        used = "[tools]\nused = 'Ran (?P<title>.*)'\n"
        for name, more, has_effect in (
            ("codex", used, False),
            ("q", used + "[answer]\n", False),
            ("q", used + "done = 'Done'\n[answer]\n", True),
            ("q", used, True),
            ("llm", used + "done = 'Done'\n[answer]\n", False),
            ("llm", used + "[answer]\nprefix = '> '\n", True),
        ):
            mine.write_text(f'extends = "{name}"\n{more}')
            status, printed, _ = run("check", str(mine))
            self.assertEqual(status, 0)
            self.assertEqual("[tools] used has no effect" not in printed, has_effect, (name, more))

    def test_wrong(self) -> None:
        """
        The error for an invalid dialect or recording says what is wrong.
        """
        mine = self.folder / "mine.toml"
        mine.write_text('extends = "q"\n[answer]\nprefix = "("')
        cast = self.folder / "mine.cast"
        cast.write_text("{}\n")
        for arguments, reason in [
            ([str(mine)], "answer.prefix must be a regular expression"),
            (["kirro"], "neither a built-in dialect nor a .toml file"),
            (["q", "/nowhere/x.bin"], "/nowhere/x.bin"),
            (["q", str(cast)], "line 1: not an asciicast"),
        ]:
            status, _, errors = run("check", *arguments)
            self.assertEqual(status, 1)
            self.assertIn(reason, errors)

    def test_raw_bytes(self) -> None:
        """
        Raw output gives the events that need no request.
        """
        raw = self.folder / "raw.bin"
        raw.write_bytes(LineEditor(classic.prompt()).open())
        status, printed, _ = run("check", "kiro-classic", str(raw))
        self.assertEqual(status, 0)
        self.assertIn("Ready()", printed)

    def test_requests(self) -> None:
        """
        The markers of a server's recording are shown at their places between the events.
        """
        cast = self.folder / "server.cast"
        header = {"version": 3, "term": {"cols": 80, "rows": 24}}
        events = [
            (1, "o", "> "),
            (1, "m", "asked request=r-1 task=story"),
            (0, "i", "first\r"),
            (1, "o", "\r\nanswer\r\n> "),
            (5, "m", "answered request=r-1"),
        ]
        cast.write_text("".join(json.dumps(line) + "\n" for line in [header, *events]))
        status, printed, _ = run("check", "generic", str(cast))
        self.assertEqual(status, 0)
        shown = [line.split(" s  ", 1)[1] for line in printed.splitlines()[2:]]
        self.assertEqual(shown[0], "Ready()")
        self.assertEqual(shown[1], "-- asked request=r-1 task=story")
        self.assertTrue(shown[-2].startswith(r"Answered(text='\nanswer"), shown)
        self.assertEqual(shown[-1], "-- answered request=r-1")

    def test_like_the_clear(self) -> None:
        """
        A request may begin like the command that clears the conversation.
        """
        cast = self.folder / "like.cast"
        pieces = [(1, "o", "> "), (2, "i", "first\r"), (2, "o", "\r\nanswer\r\n> ")]
        lines = [{"version": 2}, *pieces]
        cast.write_text("".join(json.dumps(line) + "\n" for line in lines))
        mine = self.folder / "mine.toml"
        mine.write_text('extends = "generic"\n[clear]\ntype = "forget\\r"\ndone = "forgot"')
        _, printed, _ = run("check", str(mine), str(cast))
        self.assertIn("Answered(", printed)

    def test_long(self) -> None:
        """
        A long answer is shortened.
        """
        cast = self.folder / "long.cast"
        cycle = LineEditor(classic.prompt()).open().decode()
        pieces = [("o", cycle), ("i", "x\r"), ("o", "\x1b[?2004l" + "y" * 9999 + cycle)]
        lines = [{"version": 2}, *([1, *piece] for piece in pieces)]
        cast.write_text("".join(json.dumps(line) + "\n" for line in lines))
        _, printed, _ = run("check", "kiro-classic", str(cast))
        self.assertIn("characters)", printed)
        self.assertLess(len(printed), 2000)


class NewTests(SynchronousTestCase):
    """
    Tests for `new`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.cast = self.folder / "mine.cast"

    def record(self, *pieces: tuple[str, str]) -> None:
        """
        Write a recording with 5 seconds between its pieces of output and input.
        """
        header = {"version": 2, "width": 80, "height": 24, "command": "mine --chat"}
        lines = [[5 * number, *piece] for number, piece in enumerate(pieces)]
        self.cast.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))

    def test_draft(self) -> None:
        """
        A draft is printed, or written to a new file, and `check` finds the answers with it.
        """
        turn = [("i", "first\r"), ("o", "\r\nanswer\r\n> ")]
        self.record(("o", "> "), *turn, *turn)
        status, printed, errors = run("new", str(self.cast))
        self.assertEqual(status, 0)
        self.assertIn("prompt = '^> $'", printed)
        self.assertIn("finds 2 of 2 answers", errors)
        drafted = self.folder / "mine.toml"
        for expected in (0, 1):
            status, _, errors = run("new", str(self.cast), "--output", str(drafted))
            self.assertEqual(status, expected)
        self.assertIn("exists", errors)
        self.assertEqual(drafted.read_text(), printed.removesuffix("\n"))
        _, printed, _ = run("check", str(drafted), str(self.cast))
        self.assertEqual(printed.count("Answered("), 2)
        self.assertIn("starts: mine --chat, on 80x24", printed)

    def test_unusable(self) -> None:
        """
        The error for a recording from which nothing can be drafted says why.
        """
        self.record(("o", "> "))
        raw = self.folder / "raw.bin"
        raw.write_bytes(b"> ")
        for file, reason in ((self.cast, "type at least two"), (raw, "how large the terminal was")):
            status, _, errors = run("new", str(file))
            self.assertEqual(status, 1)
            self.assertIn(reason, errors)


class AcpTests(SynchronousTestCase):
    """
    Tests for dialects without a terminal.
    """

    def test_check(self) -> None:
        """
        A dialect without a terminal can be checked, but not with a recording.
        """
        status, printed, _ = run("check", "gemini-acp")
        self.assertEqual(status, 0)
        self.assertIn("starts: gemini --acp, with pipes", printed)
        status, _, errors = run("check", "gemini-acp", __file__)
        self.assertEqual(status, 1)
        self.assertIn("gemini-acp has no terminal", errors)

    def test_messages(self) -> None:
        """
        A recording of messages shows its events; one that begins later, only its markers.
        """
        frames = Path(self.mktemp()).with_suffix(".jsonl")
        header = {"format": "kiroworkers-frames", "version": 1}
        mark = {"t": 3, "dir": "mark", "data": {"mark": "asked", "request": "r-1"}}
        start = [
            {"id": 1, "method": "initialize", "params": {}},
            {"id": 1, "result": {"protocolVersion": 1}},
            {"id": 2, "method": "session/new", "params": {"cwd": "/"}},
            {"id": 2, "result": {"sessionId": "s"}},
        ]
        lines: list[Any] = [
            {"t": 1, "dir": "out" if "method" in message else "in", "frame": message}
            for message in start
        ]
        for events, found in ((lines, "Ready()"), ([], "the events cannot be found")):
            text = "".join(json.dumps(line) + "\n" for line in [header, *events, mark])
            frames.write_text(text)
            status, printed, _ = run("check", "acp", str(frames))
            self.assertEqual(status, 0)
            self.assertIn(found, printed)
            self.assertIn("3.000 s  -- asked request=r-1", printed)
        status, _, errors = run("check", "q", str(frames))
        self.assertEqual(status, 1)
        self.assertIn("q speaks no protocol", errors)


class RecordTests(TestCase):
    """
    Tests for `record`, with the stand-ins of Kiro on a real terminal.
    """

    async def test_session(self) -> None:
        """
        A recorded session of a line interface shows its events again: the turns, the
        questions and the end.
        """
        cast = Path(self.mktemp()).absolute()
        cast = cast.with_suffix(".cast")
        program = Program()
        arguments = ["-m", "kiroworkers.dialect", "record", "--output", str(cast), "--"]
        arguments += [sys.executable, "-m", "tests.fakekiro", "chat"]
        program.start(real, arguments, environment(), ROOT)
        for typed in ("Größe?\r", "ask [[approve]]\r", "n\r", "/clear\r", "y\r", "/quit\r"):
            await program.says(r"\?2004h[^\n]*\[\d+C\Z")
            program.output = ""
            program.type(typed)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(cast.stat().st_mode & 0o777, 0o600)
        self.assertEqual(json.loads(cast.read_text().partition("\n")[0])["version"], 3)
        status, printed, _ = run("check", "kiro-classic", str(cast))
        self.assertEqual(status, 0)
        names = [line.split()[2].partition("(")[0] for line in printed.splitlines()[2:]]
        turns = "Ready Submitted Answered Submitted NeedsApproval Answered"
        self.assertEqual(" ".join(names), turns + " NeedsConfirmation Cleared PromptLost")
        status, _, errors = run("record", "--output", str(cast), "--", "true")
        self.assertEqual(status, 1)
        self.assertIn("exists", errors)

    async def test_replies(self) -> None:
        """
        The terminal's answers to the queries of a program with prompt_toolkit, cut anywhere, are
        not taken for typing; the draft from such a recording finds the same turns.
        """
        if find_spec("prompt_toolkit") is None:
            raise SkipTest("prompt_toolkit is not installed: pip install '.[agents]'")
        cast = Path(self.mktemp()).absolute().with_suffix(".cast")
        program = Program()
        arguments = ["-m", "kiroworkers.dialect", "record", "--output", str(cast), "--"]
        arguments += [sys.executable, "-m", "tests.lineeditors", "prompt_toolkit"]
        program.start(real, arguments, environment(), ROOT)
        await program.says(r"\x1b\[6n")
        program.type("\x1b[1;")
        await program.says("ask>")
        program.type("1Rfirst\r\x1b[1;")
        for typed in ("1Rsecond\r\x1b[9;1R", "\x03"):
            await program.says(r"nothing to say[\s\S]*ask>[^\n]*\x1b\[\?25h")
            program.output = ""
            program.type(typed)
        await program.ended
        mine = cast.with_suffix(".toml")
        mine.write_text('extends = "generic"\n[line]\nprompt = "^ask> $"\nquiet = 0.2')
        # A user types more slowly than this test.
        header, *lines = map(json.loads, cast.read_text().splitlines())
        slower = [[5 * number, *piece] for number, (_, *piece) in enumerate(lines)]
        cast.write_text("".join(json.dumps(line) + "\n" for line in [header, *slower]))
        _, printed, _ = run("check", str(mine), str(cast))
        self.assertEqual(printed.count("Answered("), 2, printed)
        drafted = cast.with_suffix(".draft.toml")
        _, _, errors = run("new", str(cast), "--output", str(drafted))
        self.assertIn("finds 2 of 2 answers", errors)

    async def test_screen(self) -> None:
        """
        A recorded session of a full-screen interface shows its events again, at its own
        screen size and with its pauses.
        """
        cast = Path(self.mktemp()).absolute().with_suffix(".cast")
        program = Program()
        arguments = ["-m", "kiroworkers.dialect", "record", "--output", str(cast)]
        arguments += ["--rows", "30", "--columns", "200", "--", sys.executable, "-m"]
        program.start(real, [*arguments, "tests.faketui", "chat"], environment(), ROOT)
        for typed in ("Größe?", "/clear", "/quit"):
            # Each letter is typed after the one before it is drawn.
            await program.says(r"ask a question[^\n]*\Z")
            for letter in typed:
                program.type(letter)
                await program.says(r"lines ▸[^\n]*\Z")
            program.output = ""
            program.type("\r")
        self.assertEqual(await program.ended, 0)
        header, *lines = map(json.loads, cast.read_text().splitlines())
        # A user types more slowly than this test.
        slower = [[1_000_000 * seconds, *piece] for seconds, *piece in lines]
        cast.write_text("".join(json.dumps(line) + "\n" for line in [header, *slower]))
        status, printed, _ = run("check", "kiro-tui", str(cast))
        self.assertEqual(status, 0)
        names = [line.split()[2].partition("(")[0] for line in printed.splitlines()[2:]]
        self.assertEqual(names[:4], ["Ready", "Submitted", "Answered", "Cleared"], printed)
