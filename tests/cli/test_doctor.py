"""
Tests for ``kiroworkers doctor``; what it finds is tested in `tests.doctor`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.doctor import main


class DoctorTests(SynchronousTestCase):
    """
    Tests for the command line.
    """

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """
        Return the exit status, the output and the errors of the command.
        """
        output, errors = StringIO(), StringIO()
        self.patch(sys, "stdout", output)
        self.patch(sys, "stderr", errors)
        exited = self.assertRaises(SystemExit, main, list(arguments))
        return int(exited.code or 0), output.getvalue(), errors.getvalue()

    def test_usage_error(self) -> None:
        """
        An unknown option ends the command with status 2 and one line that names the nearest.
        """
        status, output, errors = self.run_main("--prot", "1")
        self.assertEqual((status, output), (2, ""))
        [line] = errors.splitlines()
        self.assertIn("did you mean --port?", line)

    def test_help(self) -> None:
        """
        The help names the command's own options and the exit statuses.
        """
        status, output, _ = self.run_main("--help")
        self.assertEqual(status, 0)
        for text in ("--json", "--no-start", "exit status:"):
            self.assertIn(text, output)

    def test_missing_package(self) -> None:
        """
        A package that is not installed is a failed check.
        """
        name = "kiroworkers.doctor.options"
        modules: dict[str, Any] = sys.modules
        self.addCleanup(modules.update, {name: import_module(name)})
        # Python raises ImportError for a module that is None.
        modules[name] = None
        status, output, _ = self.run_main()
        self.assertEqual(status, 1)
        self.assertTrue(output.startswith("FAILED   python  "), output)
