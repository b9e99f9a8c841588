"""
Tests for `kiroworkers.doctor.files`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.files import check_secret, check_tasks, check_tokens
from kiroworkers.doctor.finding import Finding, Outcome
from kiroworkers.settings import Settings
from tests.programs import ROOT, folder_outside

_TOKEN = "correct-horse-battery-staple"


class FilesTests(SynchronousTestCase):
    """
    Tests for the checks of files that options name.
    """

    def setUp(self) -> None:
        self.folder = folder_outside(self)

    def write(self, text: str, mode: int = 0o600) -> Path:
        path = self.folder / "file"
        path.write_text(text)
        path.chmod(mode)
        return path

    def assert_outcome(self, outcome: Outcome, part: str, finding: Finding) -> None:
        self.assertIs(finding.outcome, outcome, finding)
        self.assertIn(part, f"{finding.detail} {finding.advice}")
        self.assertNotIn(_TOKEN, f"{finding.detail} {finding.advice}")

    def test_tokens(self) -> None:
        """
        The file must be valid, and should be private and have a token for operators; no token
        is ever shown.
        """
        for text, mode, outcome, part in [
            (f"admin ask,operate {_TOKEN}", 0o600, Outcome.OK, "admin"),
            (f"admin ask,operate {_TOKEN}", 0o640, Outcome.OK, "admin"),
            (f"admin ask,operate {_TOKEN}", 0o644, Outcome.WARNING, "chmod o-r"),
            (f"app ask {_TOKEN}", 0o600, Outcome.WARNING, "none with the scope operate"),
            (f"app ask,fly {_TOKEN}", 0o600, Outcome.FAILURE, "unknown scope 'fly'"),
            (f"app {_TOKEN}", 0o600, Outcome.FAILURE, "line 1"),
            ("", 0o600, Outcome.FAILURE, "contains no token"),
        ]:
            self.assert_outcome(outcome, part, check_tokens(self.write(text, mode), False))
        self.assert_outcome(
            Outcome.FAILURE, "No such file", check_tokens(self.folder / "none", False)
        )

    def test_no_tokens(self) -> None:
        """
        A server that other machines reach should have tokens.
        """
        self.assert_outcome(Outcome.OK, "every user of this machine", check_tokens(None, False))
        self.assert_outcome(Outcome.WARNING, "anybody", check_tokens(None, True))

    def test_secret(self) -> None:
        """
        The secret of callbacks must be long enough, and should be private.
        """
        for text, mode, outcome, part in [
            (_TOKEN, 0o600, Outcome.OK, "signed"),
            (_TOKEN, 0o604, Outcome.WARNING, "chmod o-r"),
            ("short", 0o600, Outcome.FAILURE, "at least 16"),
        ]:
            self.assert_outcome(outcome, part, check_secret(self.write(text, mode)))
        self.assert_outcome(Outcome.OK, "disabled", check_secret(None))

    def test_tasks(self) -> None:
        """
        Every task file must be valid, as must the defaults in the configuration file, and fit
        the server.
        """
        finding = check_tasks(Settings(), ["offline"])
        self.assert_outcome(Outcome.OK, "generate-story", finding)
        config, table = self.folder / "kiroworkers.toml", {"components": 3}
        wrong = Settings(config=config, task_defaults={"generate-story": table})
        finding = check_tasks(wrong, ["offline"])
        self.assert_outcome(Outcome.FAILURE, f"{config}: [tasks.generate-story]", finding)
        folder = self.folder / "tasks"
        folder.mkdir()
        text = (ROOT / "kiroworkers/tasks/generate-story.toml").read_text()
        for addition, agents, part in [
            ("", ["offline"], None),
            ("agent = 'q'\n", ["offline"], "does not run 'q'"),
            ("agent = 'q'\n", [], None),
            ("prompt = 1\n", [], "generate-story.toml"),
        ]:
            (folder / "generate-story.toml").write_text(addition + text)
            finding = check_tasks(Settings(tasks=folder), agents)
            outcome = Outcome.OK if part is None else Outcome.FAILURE
            self.assert_outcome(outcome, part or "generate-story", finding)
        self.assertIn("task check", finding.advice)
