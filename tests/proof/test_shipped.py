"""
Tests for `kiroworkers.proof.shipped`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.report import (
    ESSENTIAL,
    MEMORY_CHECK,
    TOOL_CHECKS,
    CheckResult,
    Level,
    Outcome,
    Report,
    read_report,
    write_report,
)
from kiroworkers.proof.shipped import SHIPPED, UNPROVEN, Proof, find_proof, version_number

_CHECKS = tuple(
    CheckResult(name, Outcome.PASSED, "It was seen.", Level.LOSSY)
    for name in (*ESSENTIAL, *TOOL_CHECKS, MEMORY_CHECK)
)
_EMOJI = CheckResult("emoji", Outcome.FAILED, "It lost one.", Level.LOSSY)
_MEMORY = CheckResult("memory", Outcome.FAILED, "It grew.")

_REPORT = Report(
    "llm", "llm", "llm, version 0.36", "1.0", "loopback", "2026-11-29", "Linux", _CHECKS
)


class VersionNumberTests(SynchronousTestCase):
    """
    Tests for `version_number`.
    """

    def test_lines(self) -> None:
        """
        The number is found in the lines of all agents, with everything that belongs to it.
        """
        lines = {
            "kiro-cli 2.11.0": "2.11.0",
            "llm, version 0.36": "0.36",
            "2.1.39 (Claude Code)": "2.1.39",
            "v0.61.0": "0.61.0",
            "0.62.0-preview.1": "0.62.0-preview.1",
            "codex-cli 0.169.0-beta.1": "0.169.0-beta.1",
            "GitHub Copilot CLI 1.0.102.": "1.0.102",
            "agent 1.2.3~rc1": "1.2.3~rc1",
            "agent 1.2.3+build.5.": "1.2.3+build.5",
            "python 3": "",
            "": "",
        }
        self.assertEqual({line: version_number(line) for line in lines}, lines)


class FindProofTests(SynchronousTestCase):
    """
    Tests for `find_proof`.
    """

    def setUp(self) -> None:
        self.shipped, self.own = Path(self.mktemp()), Path(self.mktemp())
        self.shipped.mkdir()
        self.own.mkdir()

    def write(self, folder: Path, name: str, report: Report) -> None:
        (folder / f"{name}.json").write_text(write_report(report), encoding="utf-8")

    def find(
        self, line: str = "llm, version 0.36", agent: str = "llm", dialect: str = "llm"
    ) -> Proof:
        proof, problems = find_proof(agent, dialect, line, self.own, self.shipped)
        self.assertEqual(problems, ())
        return proof

    def test_shipped(self) -> None:
        """
        A report of the package is found by the agent's name, its dialect and its number.
        """
        self.write(self.shipped, "llm-0.36", _REPORT)
        self.assertEqual(self.find(), Proof(Level.EXACT, "2026-11-29", "package"))
        self.assertEqual(self.find("llm 0.36"), self.find())
        self.assertEqual(self.find(agent="mine"), UNPROVEN)
        self.assertEqual(self.find(dialect="mine"), UNPROVEN)

    def test_other_versions(self) -> None:
        """
        A report says nothing about another version, however near it is.
        """
        self.write(self.shipped, "llm-0.36", _REPORT)
        for line in ("llm, version 0.36.1", "llm, version 0.36-rc1", "llm, version 0.360", "llm"):
            self.assertEqual(self.find(line), UNPROVEN, line)

    def test_without_number(self) -> None:
        """
        A program that says no number is never proven, not even by a report without one.
        """
        self.write(self.shipped, "a", evolve(_REPORT, agent_version=""))
        self.assertEqual(self.find(""), UNPROVEN)

    def test_failed(self) -> None:
        """
        The failed checks that make up the level are named; those that only measure are not.
        """
        self.write(self.own, "a", evolve(_REPORT, checks=(*_CHECKS, _EMOJI, _MEMORY)))
        proof = self.find()
        self.assertEqual(proof, Proof(Level.LOSSY, "2026-11-29", "state-dir", ("emoji",)))
        self.assertTrue(proof.is_bad)

    def test_newest(self) -> None:
        """
        The newest report counts; of the same day, the operator's.
        """
        bad = evolve(_REPORT, checks=(_EMOJI,))
        self.write(self.shipped, "a", _REPORT)
        self.write(self.own, "b", evolve(bad, date="2026-11-28"))
        self.assertEqual(self.find().level, Level.EXACT)
        self.write(self.own, "c", bad)
        self.assertEqual(self.find().level, Level.LOSSY)
        self.write(self.shipped, "d", evolve(_REPORT, date="2026-11-30"))
        self.assertEqual(self.find().source, "package")

    def test_without_result(self) -> None:
        """
        A report of a proof in which not everything was checked proves nothing.
        """
        self.write(self.own, "a", evolve(_REPORT, checks=_CHECKS[:3]))
        self.assertEqual(self.find(), UNPROVEN)

    def test_broken(self) -> None:
        """
        A file that is not a report leaves one line, and the others count.
        """
        self.write(self.shipped, "b", _REPORT)
        (self.own / "a.json").write_text('{"form": 1}')
        (self.own / "b.json").mkdir()
        (self.own / "notes.txt").write_text("Not a report")
        proof, problems = find_proof("llm", "llm", "llm 0.36", self.own, self.shipped)
        self.assertEqual(proof.level, Level.EXACT)
        self.assertEqual(len(problems), 2)
        for name, problem in zip(("a.json", "b.json"), problems, strict=True):
            self.assertTrue(problem.startswith(f"{self.own / name}: "), problem)
            self.assertEqual(len(problem.splitlines()), 1)

    def test_no_folders(self) -> None:
        """
        Folders that do not exist have no reports; one that cannot be read leaves a line.
        """
        missing = Path(self.mktemp())
        self.assertEqual(find_proof("llm", "llm", "llm 0.36", missing, missing), (UNPROVEN, ()))
        self.assertEqual(find_proof("llm", "llm", "llm 0.36", None, missing), (UNPROVEN, ()))
        missing.write_text("")
        _, problems = find_proof("llm", "llm", "llm 0.36", missing, self.shipped)
        self.assertEqual(problems, (f"{missing}: Not a directory",))

    def test_package(self) -> None:
        """
        Every report of the package can be read, proves something, and its file is named after the
        version.
        """
        _, problems = find_proof("", "", "", None)
        self.assertEqual(problems, ())
        for path in SHIPPED.glob("*"):
            self.assertIsNotNone(read_report(path).level, path.name)
            self.assertRegex(path.name, r"^[a-z0-9-]+-\d[\w.+-]*\.json$")


class BadFileTests(SynchronousTestCase):
    """
    Tests for files in the operator's folder that are not what ``kiroworkers prove`` writes.
    """

    def setUp(self) -> None:
        self.own = Path(self.mktemp())
        self.own.mkdir()
        self.file = self.own / "a.json"
        self.data: dict[str, Any] = json.loads(write_report(_REPORT))

    def find(self) -> tuple[Proof, str]:
        """
        Return what was proven, and what is wrong with the file.
        """
        proof, problems = find_proof("llm", "llm", "llm 0.36", self.own, None)
        return proof, "".join(problems).removeprefix(f"{self.file}: ")

    def find_changed(self, **changes: Any) -> tuple[Proof, str]:
        self.file.write_text(json.dumps({**self.data, **changes}))
        return self.find()

    def test_good(self) -> None:
        """
        A report counts, also behind a link, and with more than a server knows.
        """
        proof = Proof(Level.EXACT, "2026-11-29", "state-dir")
        self.assertEqual(self.find_changed(later=1), (proof, ""))
        self.file.rename(self.own / "b")
        self.file.symlink_to("b")
        self.assertEqual(self.find(), (proof, ""))

    def test_not_regular(self) -> None:
        """
        The server waits for no pipe, and reads no device.
        """
        os.mkfifo(self.file)
        self.assertEqual(self.find(), (UNPROVEN, "it is not a regular file"))
        self.file.unlink()
        self.file.symlink_to("/dev/zero")
        self.assertEqual(self.find(), (UNPROVEN, "it is not a regular file"))
        self.file.unlink()
        self.file.symlink_to(self.file.name)
        self.assertIn("symbolic links", self.find()[1])

    def test_large(self) -> None:
        """
        A file that no proof can have written is not read.
        """
        self.file.touch()
        os.truncate(self.file, 1024**3)
        self.assertEqual(self.find(), (UNPROVEN, "it has more than 4 MiB"))

    def test_contradiction(self) -> None:
        """
        A level that the checks do not show does not count.
        """
        self.assertEqual(
            self.find_changed(level="unsafe"),
            (UNPROVEN, "level is 'unsafe', but its checks show 'exact'"),
        )
        self.data["checks"][1]["outcome"] = "failed"
        self.assertEqual(
            self.find_changed(), (UNPROVEN, "level is 'exact', but its checks show 'lossy'")
        )
        del self.data["level"]
        self.assertIs(self.find_changed()[0].level, Level.LOSSY)

    def test_date(self) -> None:
        """
        A date that is none would make a report the newest for ever.
        """
        for date in ("", "z", "2026-11-29\n", "99999-01-01", "2026-11-29T10:00"):
            proof, problem = self.find_changed(date=date)
            self.assertIs(proof, UNPROVEN)
            self.assertEqual(problem, "date must be a day such as 2026-11-29")

    def test_long_texts(self) -> None:
        """
        The log and ``/health`` show only a short part of a file.
        """
        del self.data["level"]
        failed = {"outcome": "failed", "evidence": "", "level": "lossy"}
        checks = [{"name": f"{number} {'x' * 9999}", **failed} for number in range(99)]
        proof, _ = self.find_changed(checks=checks)
        self.assertLess(sum(map(len, proof.failed)), 2500)
        proof, problem = self.find_changed(form="x" * 9999, checks="y" * 9999)
        self.assertLess(len(problem), 500)
        proof, problem = self.find_changed(model="z" * 9999)
        self.assertIs(proof, UNPROVEN)
        self.assertLess(len(problem), 500)

    def test_damaged(self) -> None:
        """
        A damaged file leaves one line.
        """
        for text in (
            "[" * 100_000,
            "{",
            "NaN",
            '{"form": NaN}',
            "\ud800",
            '{"form": 1' + "0" * 5000,
        ):
            self.file.write_bytes(text.encode("utf-8", "surrogatepass"))
            proof, problem = self.find()
            self.assertIs(proof, UNPROVEN)
            self.assertTrue(0 < len(problem) < 500, problem)
            self.assertNotIn("\n", problem)
