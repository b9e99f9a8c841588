"""
Tests for the parts of `kiroworkers.cli.prove` that need no agent.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.prove import (
    has_succeeded,
    installed_agents,
    main,
    report_name,
    result_line,
    summary,
)
from kiroworkers.proof.checks.catalogue import ALL_CHECKS, UnknownCheck, select
from kiroworkers.proof.report import (
    ESSENTIAL,
    MEMORY_CHECK,
    TOOL_CHECKS,
    CheckResult,
    Level,
    Outcome,
    Report,
)

REPORT = Report(
    agent="gemini-acp",
    dialect="gemini-acp",
    agent_version="gemini 0.61.0-preview.1",
    server_version="1.0",
    model="loopback",
    date="2026-11-29",
    platform="Linux",
    checks=tuple(
        CheckResult(name, Outcome.PASSED, "It was seen", Level.LOSSY)
        for name in (*ESSENTIAL, *TOOL_CHECKS, MEMORY_CHECK)
    ),
)


class OutputTests(SynchronousTestCase):
    """
    Tests for what is printed and written.
    """

    def test_report_name(self) -> None:
        """
        A report is named after the agent and the whole number of its version.
        """
        self.assertEqual(report_name(REPORT), "gemini-acp-0.61.0-preview.1.json")
        self.assertEqual(report_name(evolve(REPORT, agent_version="")), "gemini-acp-unknown.json")

    def test_partial_report_name(self) -> None:
        """
        A report that proves nothing does not replace one that does.
        """
        partial = evolve(REPORT, checks=REPORT.checks[:3])
        self.assertEqual(report_name(partial), "gemini-acp-0.61.0-preview.1-partial.json")

    def test_result_line(self) -> None:
        """
        A failure is printed with its level, and no evidence controls the user's terminal.
        """
        line = result_line(CheckResult("clear", Outcome.FAILED, "a\x1b[2J\nb", Level.LEAKS))
        self.assertEqual(line, "  clear                   FAILED   a\\x1b[2J\\nb (leaks)")
        line = result_line(CheckResult("clear", Outcome.PASSED, "fresh", Level.LEAKS))
        self.assertNotIn("leaks", line)

    def test_summary(self) -> None:
        """
        The table has a row for each agent, also for one that could not be proven.
        """
        failed = CheckResult("exact", Outcome.FAILED, "", Level.LOSSY)
        unready = CheckResult("ready", Outcome.FAILED, "")
        lines = summary(
            [
                REPORT,
                evolve(REPORT, checks=(failed,)),
                evolve(REPORT, checks=(unready,)),
                evolve(REPORT, checks=REPORT.checks[:-3]),
                ("q", "q is not on PATH"),
            ]
        )
        self.assertEqual(
            [line.split("  ")[-1].strip() for line in lines[1:]],
            [
                "exact",
                "lossy",
                "not proven",
                "not proven: nothing failed, but not everything was checked (tools, fresh)",
                "not proven: q is not on PATH",
            ],
        )

    def test_succeeded(self) -> None:
        """
        A proof succeeds if the agent is exact, or if only some checks were chosen and they
        succeeded; one that was chosen and skipped has not.
        """
        partial = evolve(REPORT, checks=REPORT.checks[:3])
        skipped = CheckResult("clear", Outcome.SKIPPED, "", Level.LEAKS)
        failed = CheckResult("exact", Outcome.FAILED, "", Level.LOSSY)
        some = select(["exact"], [])
        self.assertTrue(has_succeeded(REPORT, ALL_CHECKS))
        self.assertTrue(has_succeeded(partial, some))
        self.assertFalse(has_succeeded(partial, ALL_CHECKS))
        self.assertFalse(has_succeeded(evolve(REPORT, checks=(*REPORT.checks, failed)), some))
        both = evolve(REPORT, checks=(*partial.checks, skipped))
        self.assertFalse(has_succeeded(both, select(["exact", "clear"], [])))


class SelectTests(SynchronousTestCase):
    """
    Tests for `select`, which reads --checks and --skip.
    """

    def names(self, only: list[str], skip: list[str]) -> list[str]:
        return [check.name for check in select(only, skip)]

    def test_all(self) -> None:
        """
        By default all checks are made; their names are different.
        """
        self.assertEqual(select([], []), ALL_CHECKS)
        self.assertEqual(len({check.name for check in ALL_CHECKS}), len(ALL_CHECKS))

    def test_some(self) -> None:
        """
        Checks are selected by name or group, in their own order, after the one that starts the
        server.
        """
        self.assertEqual(
            self.names(["fresh: next request", "exact"], []),
            ["ready", "exact", "exact: careless model", "fresh: next request"],
        )
        names = self.names([], ["fresh", "ready"])
        self.assertEqual(names[0], "ready")
        self.assertFalse([name for name in names if name.startswith("fresh")])

    def test_unknown(self) -> None:
        """
        An unknown name is an error that lists the groups.
        """
        error = self.assertRaises(UnknownCheck, select, [], ["quick"])
        self.assertIn("'quick'; the checks are ready, exact, fresh", str(error))


class CommandLineTests(SynchronousTestCase):
    """
    Tests for `main` and `installed_agents`.
    """

    def test_invalid(self) -> None:
        """
        An unknown agent, an unknown check, a number that is none and a folder that cannot be
        made are errors of the command line.
        """
        file = Path(self.mktemp())
        file.write_text("")
        for arguments, reason in (
            (["nobody"], "error: nobody is neither a dialect file (.toml) nor one of kiro"),
            (["auto"], "auto is neither"),
            (["no.toml"], "error: no.toml: No such file or directory"),
            (["llm", "--checks", "quick"], "no check 'quick'"),
            (["llm", "--turns", "0"], "--turns"),
            (["llm", "--spend", "3"], "--spend"),
            (["llm", "--timeout", "soon"], "--timeout"),
            (["llm", "--output", str(file / "reports")], "--output"),
            (["--from-recording", str(file)], "takes one AGENT"),
            (["llm", "--from-recording", str(file.with_suffix(".cast"))], "No such file"),
            (["gemini-acp", "--from-recording", str(file)], "gemini-acp has no terminal"),
        ):
            errors = io.StringIO()
            with redirect_stderr(errors):
                ended = self.assertRaises(SystemExit, main, arguments)
            self.assertEqual(ended.code, 2)
            self.assertIn(reason, errors.getvalue())

    def test_recording(self) -> None:
        """
        A recording shows whether a dialect finds the answers that the server found.
        """
        cast = Path(self.mktemp()).with_suffix(".cast")
        header = {"version": 3, "term": {"cols": 80, "rows": 24}}
        for text, status, outcome in (("answer", 0, "ok"), ("another", 1, "FAILED")):
            digest = sha256(f"\n{text}\n".encode()).hexdigest()[:16]
            events = [
                (1, "o", "> "),
                (1, "m", "asked request=r-1"),
                (0, "i", "first\r"),
                (1, "o", "\r\nanswer\r\n> "),
                (5, "m", f"answered request=r-1 characters=8 sha256={digest}"),
            ]
            cast.write_text("".join(json.dumps(line) + "\n" for line in [header, *events]))
            with redirect_stdout(io.StringIO()) as printed:
                ended = self.assertRaises(
                    SystemExit, main, ["generic", "--from-recording", str(cast)]
                )
            self.assertEqual(ended.code, status)
            self.assertRegex(printed.getvalue(), rf"r-1 +{outcome}")

    def test_installed(self) -> None:
        """
        An agent is installed if its program is on PATH.  The interfaces among which its version
        decides are not agents of their own.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("llm", "kiro-cli"):
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        self.assertEqual(installed_agents({"PATH": str(folder)}), ["kiro", "kiro-tui", "llm"])
        self.assertEqual(installed_agents({"PATH": ""}), [])
