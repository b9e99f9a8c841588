"""
Tests for `kiroworkers.cli.main`.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import NoReturn

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers import __version__
from kiroworkers.cli import config
from kiroworkers.cli.main import _SUBCOMMANDS, main
from tests.programs import environment


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run the command; return its exit status, standard output and standard error.
    """
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = int(str(exit.code or 0))
    return status, out.getvalue(), err.getvalue()


class MainTests(SynchronousTestCase):
    """
    Tests for `main`.
    """

    def test_version(self) -> None:
        """
        --version prints the version.
        """
        self.assertEqual(run("--version"), (0, f"kiroworkers {__version__}\n", ""))

    def test_help(self) -> None:
        """
        --help lists every subcommand.
        """
        status, out, err = run("--help")
        self.assertEqual((status, err), (0, ""))
        for name, summary in _SUBCOMMANDS.items():
            self.assertRegex(out, rf"\n  {name} +{summary}\n")

    def test_usage_errors(self) -> None:
        """
        A missing or unknown subcommand, or an unknown option, is an error on standard
        error with status 2.
        """
        for arguments, reason in [
            ((), "missing command: serve, ask"),
            (("srve",), "unknown command 'srve'; did you mean serve?"),
            (("zzz",), "unknown command 'zzz'; commands are serve, ask"),
            (("--verbose", "serve"), "unknown option '--verbose'"),
        ]:
            status, out, err = run(*arguments)
            self.assertEqual((status, out), (2, ""))
            usage, error = err.splitlines()
            self.assertEqual(usage, "usage: kiroworkers COMMAND [arguments]")
            self.assertIn(f"kiroworkers: error: {reason}", error)

    def test_subcommands(self) -> None:
        """
        Each subcommand has a module, and names itself in its usage line.
        """
        for name in _SUBCOMMANDS:
            self.assertIsNotNone(find_spec(f"kiroworkers.cli.{name}"))
            status, out, _ = run(name, "--help")
            self.assertEqual(status, 0)
            self.assertTrue(out.lower().startswith(f"usage: kiroworkers {name} "), out)

    def test_arguments(self) -> None:
        """
        A subcommand gets the arguments after its name, and its status is returned.
        """
        self.assertEqual(run("dialect", "check", "kiro-classic")[0], 0)
        status, out, err = run("dialect", "check", "kirro")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("kirro is neither a built-in dialect", err)
        self.assertEqual(run("check", "nowhere")[0], 2)

    def test_interrupted(self) -> None:
        """
        Ctrl-C before a command handles it itself ends the process without a traceback.
        """

        def interrupt(arguments: Sequence[str]) -> NoReturn:
            raise KeyboardInterrupt

        self.patch(config, "main", interrupt)
        self.assertEqual(run("config", "show"), (130, "", ""))

    def test_light_import(self) -> None:
        """
        --version imports none of the subcommands, and `serve` neither treq nor rich.
        """
        script = (
            "import sys; from kiroworkers.cli.main import main; main(['--version']); "
            "print(*{'argparse', 'attrs', 'twisted', 'treq', 'rich'} & {*sys.modules})"
        )
        self.assertEqual(self.output_of(script), f"kiroworkers {__version__}\n\n")
        script = (
            "import sys, kiroworkers.cli.serve, kiroworkers.tap; "
            "print(*{'treq', 'rich'} & {*sys.modules})"
        )
        self.assertEqual(self.output_of(script), "\n")

    def output_of(self, script: str) -> str:
        """
        Run a Python script in a process of its own and return what it prints.
        """
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, env=environment(), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
