"""
End-to-end tests for `kiroworkers prove`: it catches each bad habit of `tests.badhabits`.

A test makes only the checks that its habit is about, because each run starts a server.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import mkdtemp

from twisted.trial.unittest import TestCase

from kiroworkers.cli.prove import new_parser, prove_all, split_names
from kiroworkers.proof.checks.catalogue import select
from kiroworkers.proof.report import CheckResult, Level, Outcome, Report, read_report
from tests import LONG
from tests.programs import ROOT, Program, environment, folder_outside
from tests.servers import real, start_python, start_similar_python

#: The dialect files of the stand-ins, without their beginning.
_DIALECTS: Mapping[str, str] = {
    "acp": """
extends = "acp"
""",
    # As wide as the terminals of most other agents, so that nothing needs to be wrapped.
    "tui": """
extends = "kiro-tui"

[environment]
set = { TERM = "xterm-256color" }

[screen]
rows = 100
columns = 9000
""",
    "line": r"""
extends = "generic"

[keys]
paste-start = "\u001b[200~"
paste-end = "\u001b[201~"
submit = "\r"
interrupt = "\u0003"

# Questions are looked for where a prompt appears.
[line]
prompt = '^> $|^Allow this tool\? \[y/n\] $'

[approval]
question = '(?m)^Allow this tool\? \[y/n\] $'
deny = "n\r"

[tools]
used = '^Used the tool (?P<title>.+)$'

# Only an answer that begins proves that an announced tool was used.
[answer]
prefix = 'Answer:\r?\n'
""",
}

_COMMON = """
[start]
program = {program!r}
arguments = []
version = ["--version"]

[model-server.environment]
BADHABITS_URL = "$url"
BADHABITS = {habits!r}
"""


class ProveTestCase(TestCase):
    """
    Run `kiroworkers prove` with a stand-in.
    """

    timeout = 600

    def setUp(self) -> None:
        self.folder = folder_outside(self)

    async def prove(self, kind: str, habits: str, checks: str, *options: str) -> Report:
        """
        Prove a stand-in and return the report, which the exit status must fit.

        Args:
            kind: The stand-in: ``acp``, ``tui`` or ``line``.
            habits: Its habits.
            checks: The checks to make.
            *options: More arguments.
        """
        program = self.folder / f"bad-{kind}"
        command = shlex.join([sys.executable, "-m", f"tests.badhabits_{kind}"])
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {command} "$@"\n')
        program.chmod(0o755)
        dialect = self.folder / f"bad-{kind}.toml"
        tables = _COMMON.format(program=str(program), habits=habits)
        dialect.write_text(f'name = "bad-{kind}"\n{_DIALECTS[kind]}{tables}')
        output = Path(mkdtemp(prefix="reports-", dir=self.folder))
        arguments = [str(dialect), "--output", str(output), "--checks", checks, *options]
        status = await self.run_command(arguments)
        [path] = output.iterdir()
        report = read_report(path)
        self.assertEqual(status, 0 if report.level in (None, Level.EXACT) else 1, self.output)
        return report

    async def run_command(self, arguments: list[str]) -> int:
        """
        Run the command in this process, and return its exit status.

        Its servers may start by a fork, unlike those of `CommandTests`.
        """
        options = new_parser().parse_args(arguments)
        checks = select(split_names(options.checks), split_names(options.skip))
        with redirect_stdout(io.StringIO()) as printed:
            try:
                return await prove_all(
                    real, options.agents, checks, options, environment(), start_similar_python
                )
            finally:
                self.output = printed.getvalue()

    def result(self, report: Report, name: str) -> CheckResult:
        """
        Return the result of the check of that name.
        """
        [result] = [check for check in report.checks if check.name == name]
        return result

    async def assert_caught(
        self, kind: str, habits: str, checks: str, level: Level, words: str = "", *options: str
    ) -> CheckResult:
        """
        Prove a stand-in; the last one of `checks` fails and gives it `level`.

        Args:
            kind: The stand-in.
            habits: Its habits.
            checks: The checks to make, of which all but the last pass.
            level: The level.
            words: What the evidence says.
            *options: More arguments of the command.
        """
        report = await self.prove(kind, habits, checks, *options)
        *before, last = (check for check in report.checks if check.outcome is not Outcome.SKIPPED)
        for check in before:
            self.assertEqual(check.outcome, Outcome.PASSED, self.output)
        self.assertEqual(last.outcome, Outcome.FAILED, self.output)
        self.assertEqual((last.level, report.level), (level, level), self.output)
        self.assertIn(words, last.evidence)
        return last

    async def assert_passes(self, kind: str, habits: str, checks: str) -> CheckResult:
        """
        Prove a stand-in that passes some checks, which do not prove everything.

        Return the result of the last of them.
        """
        report = await self.prove(kind, habits, checks)
        for check in report.checks:
            self.assertEqual(check.outcome, Outcome.PASSED, self.output)
        self.assertIsNone(report.level)
        return report.checks[-1]


class CommandTests(ProveTestCase):
    """
    Tests for the command in a process of its own.
    """

    async def run_command(self, arguments: list[str]) -> int:
        """
        Run the command, and return its exit status.
        """
        prove = Program()
        command = ["-m", "kiroworkers", "prove", *arguments]
        start_python(prove, command, environment(), self.folder)
        self.addCleanup(self._stop, prove)
        status = await prove.ended
        self.output = prove.output
        return status

    async def _stop(self, prove: Program) -> None:
        if not prove.ended.called:
            prove.signal("TERM")
            await prove.ended

    async def test_acp(self) -> None:
        """
        An agent without bad habits passes every check, over ACP.
        """
        report = await self.prove("acp", "", "", "--turns", "10")
        self.assertIs(report.level, Level.EXACT, self.output)
        others = [check.name for check in report.checks if check.outcome is not Outcome.PASSED]
        self.assertEqual(others, ["fresh: memory"])  # It has none.

    async def test_leak(self) -> None:
        """
        One that resumes an old session fails.
        """
        words = "the agent resumed session"
        await self.assert_caught("acp", "resumed", "ready", Level.LEAKS, words)


class GoodTests(ProveTestCase):
    """
    Tests for agents without bad habits.
    """

    async def test_screen(self) -> None:
        """
        A full-screen agent whose answers are in its journal passes, too.
        """
        checks = "exact,fresh: next request,clear,cancel,tools,long prompts: 8 KB"
        await self.assert_passes("tui", "journal", checks)

    async def test_line(self) -> None:
        """
        A program that answers line by line passes, too.
        """
        checks = "exact: careless model,clear,tools: command,long prompts: 8 KB"
        await self.assert_passes("line", "", checks)

    async def test_title(self) -> None:
        """
        Asking the model for titles in the background is no leak.
        """
        await self.assert_passes("acp", "title", "clear,fresh: whole proof")


class LeakTests(ProveTestCase):
    """
    Tests for agents that know other clients' conversations.
    """

    async def test_history(self) -> None:
        """
        One that gives them new identifiers is caught by what its model is sent.
        """
        words = "held texts of earlier cases"
        await self.assert_caught("acp", "history", "clear", Level.LEAKS, words)
        for kind in ("tui", "line")[: 2 if LONG else 1]:
            await self.assert_caught(kind, "history", "fresh: next request", Level.LEAKS, words)

    async def test_memory(self) -> None:
        """
        So is one that writes prompts to a file which it reads whenever it asks its model.
        """
        for kind in ("acp", "tui")[: 2 if LONG else 1]:
            await self.assert_caught(kind, "memory=ask", "fresh: next request", Level.LEAKS)

    async def test_memory_of_the_next_session(self) -> None:
        """
        A file that is read when a session begins is found, although the next session had begun
        before the file was written.
        """
        await self.assert_caught("acp", "memory=session", "fresh: next request", Level.LEAKS)

    async def test_summary(self) -> None:
        """
        One that has its model sum up the last conversation sends that client's text once more.
        """
        words = "once more, outside of any turn"
        await self.assert_caught("acp", "summary", "clear", Level.LEAKS, words)

    async def test_memory_of_the_next_process(self) -> None:
        """
        A file that only new processes read is found by starting one.
        """
        checks = "fresh: next request,fresh: next process"
        caught = await self.assert_caught("acp", "memory=start", checks, Level.LEAKS)
        self.assertEqual(caught.name, "fresh: next process")

    async def test_saved_memory(self) -> None:
        """
        A memory to which the model saves without a question is found by letting it.
        """
        checks = "fresh: next request,fresh: memory"
        caught = await self.assert_caught("acp", "saves", checks, Level.LEAKS)
        self.assertEqual(caught.name, "fresh: memory")

    async def test_stale_answer(self) -> None:
        """
        An agent that gives the last answer once more, behind the new one, leaks it.
        """
        words = "has the text of case-"
        for kind in ("acp", "tui")[: 2 if LONG else 1]:
            await self.assert_caught(kind, "stale", "clear", Level.LEAKS, words)


class ToolTests(ProveTestCase):
    """
    Tests for agents that run tools without a permission.
    """

    async def test_unasked(self) -> None:
        """
        A tool that ran is unsafe, though the agent told it and the server refused the answer.
        """
        for kind in ("acp", "line")[: 2 if LONG else 1]:
            await self.assert_caught(
                kind, "unasked", "tools: write", Level.UNSAFE, "the server noticed, and refused"
            )

    async def test_unnoticed(self) -> None:
        """
        A tool of which the agent tells nothing is found by its file.
        """
        for kind in ("acp", "tui")[: 2 if LONG else 1]:
            words = "the server noticed nothing"
            await self.assert_caught(kind, "unnoticed", "tools: write", Level.UNSAFE, words)

    async def test_code_blocks(self) -> None:
        """
        So is a code block of the answer that was run.
        """
        words = "a code block of the answer ran without asking"
        await self.assert_caught("line", "blocks", "tools: code block", Level.UNSAFE, words)

    async def test_denied(self) -> None:
        """
        A tool that ran although it was denied is unsafe.
        """
        for kind in ("acp", "tui")[: 2 if LONG else 1]:
            words = "although it was denied"
            await self.assert_caught(kind, "insist", "tools: command", Level.UNSAFE, words)


class LossTests(ProveTestCase):
    """
    Tests for agents that alter or lose text.
    """

    async def test_rendered(self) -> None:
        """
        A renderer of Markdown is found by the careless model, which writes without a fence.
        """
        for kind in ("acp", "line")[: 2 if LONG else 1]:
            caught = await self.assert_caught(
                kind, "rendered", "exact: careless model", Level.LOSSY, "**bold**"
            )
            self.assertIn("dunder", caught.details["classes"])

    async def test_lost_enter(self) -> None:
        """
        An agent that loses the first Enter gives no answer, or the server presses it again.
        """
        await self.assert_passes("tui", "lostenter", "fresh: next request")
        checks = "fresh: next request"
        limit = ("--timeout", "5")
        await self.assert_caught("line", "lostenter", checks, Level.LOSSY, "no answer", *limit)

    async def test_late_text(self) -> None:
        """
        Text that comes long after the end of a turn is lost, and answers nobody else.
        """
        for kind in ("acp", "line")[: 2 if LONG else 1]:
            await self.assert_caught(kind, "late=3", "fresh: next request", Level.LOSSY)

    async def test_slow_clear(self) -> None:
        """
        An agent that looks idle while it clears loses nothing, because the server waits.
        """
        await self.assert_passes("tui", "slowclear", "clear")

    async def test_width(self) -> None:
        """
        Text that an agent draws in other widths is refused, and an agent that wraps lines loses
        answers.
        """
        result = await self.assert_passes("tui", "units", "exact: careless model")
        self.assertEqual(result.details["refused"], ["emoji clusters"])
        await self.assert_caught("tui", "wrap=60", "fresh: next request", Level.LOSSY)


class GrowthTests(ProveTestCase):
    """
    Tests for agents that grow.
    """

    async def test_growing(self) -> None:
        """
        Memory and files that grow with each turn are reported, and change no level.
        """
        report = await self.prove("acp", "leaks=3", "clear,endurance", "--turns", "60")
        result = self.result(report, "endurance")
        self.assertEqual(result.outcome, Outcome.FAILED, self.output)
        self.assertGreater(result.details["memory"]["ratio"], 1.5)
        self.assertGreaterEqual(result.details["bytesPerTurn"], 3 * 1024**2)
        self.assertEqual(result.details["files"][0]["path"], "home/.badhabits/log.jsonl")
        self.assertIsNone(report.level)
