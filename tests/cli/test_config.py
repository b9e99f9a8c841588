"""
Tests for `kiroworkers.cli.config`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.test_main import run


class ConfigTests(SynchronousTestCase):
    """
    Tests for ``kiroworkers config show``.
    """

    def setUp(self) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith("KIROWORK")}
        self.patch(os, "environ", own)
        self.config = Path(self.mktemp()).absolute()

    def show(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run the command; return its exit status, standard output and standard error.
        """
        return run("config", "show", *arguments)

    def test_show(self) -> None:
        """
        The output has the values of flags, of variables and of the file, and is the same if it
        is used as the file.
        """
        self.patch(os, "environ", {**os.environ, "KIROWORKERS_BACKLOG": "5"})
        self.config.write_text('[sessions]\nidle-timeout = "5m"\n')
        arguments = ("--changed", "--port", "9000", "--canary")
        status, output, errors = self.show("--config", str(self.config), *arguments)
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(
            output.partition("\n\n")[2],
            "# Server\n[server]\nport = 9000  # flag --port\n\n"
            "# Requests\n[requests]\nbacklog = 5  # environment variable KIROWORKERS_BACKLOG\n\n"
            "# Sessions\n[sessions]\ncanary = true        # flag --canary\n"
            f'idle-timeout = "5m"  # {self.config} line 2\n',
        )
        del os.environ["KIROWORKERS_BACKLOG"]
        saved = Path(self.mktemp()).absolute()
        saved.write_text(output)
        _, again, _ = self.show("--config", str(saved), "--changed")
        settings = [line.partition("  #")[0] for line in output.splitlines()[1:]]
        self.assertEqual([line.partition("  #")[0] for line in again.splitlines()[1:]], settings)

    def test_json(self) -> None:
        """
        The output may be JSON.
        """
        self.config.write_text("[tasks.story]\nday = 1979-05-27\n")
        status, output, _ = self.show("--format", "json", "--config", str(self.config))
        shown = json.loads(output)
        self.assertEqual(status, 0)
        self.assertEqual(shown["server"]["port"], {"value": 8080, "origin": "default"})
        self.assertEqual(shown["taskDefaults"], {"story": {"day": "1979-05-27"}})

    def test_errors(self) -> None:
        """
        An invalid setting is one line on standard error, and the status is the server's.
        """
        self.config.write_text("[pool]\nwrokers = 3\n")
        reason = f"--config {self.config}: line 2: [pool] wrokers: unknown key; "
        for arguments, error in [
            (("--config", str(self.config)), f"{reason}did you mean workers?"),
            (("--prot", "1"), "--prot: unknown option; did you mean --port?"),
            (("--port", "x"), "--port x: must be a whole number"),
        ]:
            self.assertEqual(
                self.show(*arguments),
                (64, "", f"kiroworkers: {error} (see kiroworkers serve --help)\n"),
            )

    def test_unknown_variables(self) -> None:
        """
        An unknown variable is a warning on standard error.
        """
        self.patch(os, "environ", {**os.environ, "KIROWORKERS_WROKERS": "5"})
        status, output, errors = self.show()
        self.assertEqual((status, "workers = 2 " in output), (0, True))
        self.assertEqual(
            errors,
            "kiroworkers: the variable KIROWORKERS_WROKERS is unknown; did you mean "
            "KIROWORKERS_WORKERS?\n",
        )
