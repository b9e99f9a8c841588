"""
Tests for `kiroworkers.cli.dialect`.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.cli.dialect import main
from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor
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


class RecordTests(TestCase):
    """
    Tests for `record`, with the stand-ins of Kiro on a real terminal.
    """

    timeout = 60

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
        status, printed, _ = run("check", "kiro-classic", str(cast))
        self.assertEqual(status, 0)
        names = [line.split()[2].partition("(")[0] for line in printed.splitlines()[2:]]
        turns = "Ready Submitted Answered Submitted NeedsApproval Answered"
        self.assertEqual(" ".join(names), turns + " NeedsConfirmation Cleared PromptLost")
        status, _, errors = run("record", "--output", str(cast), "--", "true")
        self.assertEqual(status, 1)
        self.assertIn("exists", errors)

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
