"""
Tests for `kiroworkers.doctor.machine`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.finding import Outcome
from kiroworkers.doctor.machine import (
    check_clock,
    check_folder,
    check_locale,
    check_proxies,
    check_python,
    check_temporary_folder,
    check_user,
)
from tests.programs import folder_outside


def _free(space: int, path: Path) -> int:
    """
    Return `space`, the number of free bytes at any path.
    """
    return space


class MachineTests(SynchronousTestCase):
    """
    Tests for the checks of the machine.
    """

    def test_python(self) -> None:
        """
        Python must be new enough and run on Linux, and the packages must be installed.
        """

        def without_klein(package: str) -> str:
            if package == "klein":
                raise PackageNotFoundError(package)
            return "1.0"

        self.assertIs(check_python().outcome, Outcome.OK)
        self.assertIn("3.11", check_python((3, 10, 4)).advice)
        self.assertIs(check_python((3, 10, 4)).outcome, Outcome.FAILURE)
        self.assertIs(check_python((3, 13, 0), "darwin").outcome, Outcome.FAILURE)
        finding = check_python((3, 13, 0), "linux", without_klein)
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn("missing: klein", finding.detail)

    def test_user(self) -> None:
        """
        A server should not run as root.
        """
        self.assertIs(check_user(0, "root").outcome, Outcome.WARNING)
        self.assertEqual(check_user(1000, "kiro").detail, "kiro (uid 1000)")

    def test_clock(self) -> None:
        """
        A clock that shows a time before this version, or long after it, is wrong.
        """
        for year, outcome in [
            (1970, Outcome.FAILURE),
            (2027, Outcome.OK),
            (2099, Outcome.FAILURE),
        ]:
            finding = check_clock(datetime(year, 1, 1, tzinfo=UTC).timestamp())
            self.assertIs(finding.outcome, outcome)
            self.assertIn(str(year), finding.detail)

    def test_locale(self) -> None:
        """
        The variable that counts must name UTF-8, and Python must use it.
        """
        for environ, outcome in [
            ({"LANG": "C.UTF-8"}, Outcome.OK),
            ({"LANG": "de_DE.utf8@euro"}, Outcome.OK),
            ({"LANG": "C.UTF-8", "LC_ALL": "C"}, Outcome.WARNING),
            ({"LANG": "de_DE.ISO-8859-1"}, Outcome.WARNING),
            ({}, Outcome.WARNING),
        ]:
            self.assertIs(check_locale(environ, "utf-8").outcome, outcome, environ)
        self.assertIs(check_locale({"LANG": "C"}, "ascii").outcome, Outcome.FAILURE)

    def test_temporary_files(self) -> None:
        """
        There must be a folder for temporary files that can be written, and space in it.
        """
        folder = folder_outside(self)

        def none() -> str:
            raise FileNotFoundError("No usable temporary directory found")

        for find, free, outcome in [
            (lambda: str(folder), 10**9, Outcome.OK),
            (lambda: str(folder), 10**6, Outcome.WARNING),
            (lambda: str(folder / "none"), 10**9, Outcome.FAILURE),
            (none, 10**9, Outcome.FAILURE),
        ]:
            finding = check_temporary_folder(partial(_free, free), find)
            self.assertIs(finding.outcome, outcome, finding)

    def test_proxies(self) -> None:
        """
        A proxy is shown without its password; what is not a URL, or contradicts itself, is a
        warning.
        """
        secret = "http://user:hunter2@proxy.example:3128"
        finding = check_proxies({"HTTPS_PROXY": secret, "https_proxy": secret})
        self.assertIs(finding.outcome, Outcome.OK)
        self.assertEqual(finding.detail, "HTTPS_PROXY names proxy.example:3128: agents use it")
        for environ in [
            {"HTTP_PROXY": "http://hunter2@"},
            {"ALL_PROXY": "http://proxy:hunter2/"},
            {"HTTPS_PROXY": secret, "https_proxy": "http://other"},
        ]:
            finding = check_proxies(environ)
            self.assertIs(finding.outcome, Outcome.WARNING, environ)
            self.assertNotIn("hunter2", finding.detail)
        self.assertEqual(check_proxies({}).detail, "no proxy is set")

    def test_folder(self) -> None:
        """
        Checkouts need git and a repository; other sessions need a folder that can be entered.
        """
        folder = folder_outside(self)
        self.assertIs(check_folder(folder, "shared", None).outcome, Outcome.OK)
        self.assertIs(check_folder(Path("/none"), "shared", None).outcome, Outcome.FAILURE)
        self.assertIs(check_folder(folder, "git-worktree", None).outcome, Outcome.FAILURE)
        finding = check_folder(folder, "git-worktree", "/usr/bin/git")
        self.assertIn("not in a git repository", finding.detail)
        (folder / ".git").mkdir()
        (folder / "below").mkdir()
        finding = check_folder(folder / "below", "git-worktree", "/usr/bin/git")
        self.assertIs(finding.outcome, Outcome.OK)
