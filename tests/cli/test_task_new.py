"""
Tests for ``kiroworkers task new``.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.task import main
from kiroworkers.cli.task_new import program


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run the command; return its exit status, standard output and standard error.
    """
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
        status = main(arguments)
    return status, printed.getvalue(), errors.getvalue()


class NewTests(SynchronousTestCase):
    """
    Tests for the command.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def new(self, name: str) -> tuple[int, str, str]:
        return run("new", name, "--output", str(self.folder))

    def test_next_commands(self) -> None:
        """
        The folder and the file are created, and the commands that are printed name them; the
        one that checks the file succeeds.
        """
        self.folder /= "my tasks"
        status, printed, errors = self.new("release-note")
        self.assertEqual((status, errors), (0, ""))
        commands = [shlex.split(line) for line in printed.splitlines() if line.startswith("  ")]
        file, task = str(self.folder / "release-note.toml"), ["task", "check"]
        width = len(shlex.split(program(sys.argv[0])))
        self.assertEqual(
            [command[width:] for command in commands],
            [
                [*task, file],
                ["serve", "--agent", "offline", "--tasks", str(self.folder)],
                [*task, file, "--ask", "http://127.0.0.1:8080"],
            ],
        )
        status, printed, errors = run(*commands[0][width + 1 :])
        self.assertEqual((status, errors), (0, ""))
        self.assertTrue(printed.startswith("release-note: Release note\n"), printed)

    def test_existing_file(self) -> None:
        """
        An existing file is not changed.
        """
        self.folder.mkdir()
        file = self.folder / "release-note.toml"
        file.write_text("mine")
        status, printed, errors = self.new("release-note")
        self.assertEqual((status, printed), (1, ""))
        self.assertEqual(errors, f"{file} exists already; it was left as it is\n")
        self.assertEqual(file.read_text(), "mine")

    def test_invalid(self) -> None:
        """
        A name that a server would refuse is refused, and nothing is created.
        """
        for name in ("Release", "a/b", "..", "", "x" * 65, "ä", "a\n"):
            status, printed, errors = self.new(name)
            self.assertEqual((status, printed), (1, ""))
            self.assertIn("must be 1 to 64 of the characters a-z, 0-9 and -", errors)
        self.assertFalse(self.folder.exists())

    def test_no_folder(self) -> None:
        """
        A folder that cannot be made is reported with the reason.
        """
        self.folder.write_text("a file")
        for folder, reason in (
            (self.folder, "File exists"),
            (self.folder / "more", "Not a directory"),
        ):
            expected = f"{folder / 'release-note.toml'} cannot be created: {reason}\n"
            self.assertEqual(run("new", "release-note", "--output", str(folder)), (1, "", expected))

    def test_builtin(self) -> None:
        """
        The author of a task that will replace a built-in one is told so.
        """
        status, printed, _ = self.new("generate-story")
        self.assertEqual(status, 0)
        self.assertIn("generate-story is also a built-in task", printed)

    def test_program(self) -> None:
        """
        The commands begin as the user's own command did.
        """
        self.assertEqual(program(".venv/bin/kiroworkers"), ".venv/bin/kiroworkers")
        module = f"{shlex.quote(sys.executable)} -m kiroworkers"
        self.assertEqual(program("/x/kiroworkers/__main__.py"), module)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = str(folder / "kiroworkers")
        shutil.copy("/bin/sh", path)
        self.assertEqual(program(path), path)
        self.patch(os, "environ", {**os.environ, "PATH": str(folder)})
        self.assertEqual(program(path), "kiroworkers")
