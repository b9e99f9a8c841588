"""
Tests for what `kiroworkers.tap` and `kiroworkers.server` check before anything runs.
"""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path

from attrs import evolve
from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.server import Server, check_tasks
from kiroworkers.settings import Settings
from kiroworkers.settings.option_types import AgentCount
from kiroworkers.tap import Options
from kiroworkers.tasks import BadTask, builtin_tasks
from kiroworkers.tasks.task import TaskLimits
from kiroworkers.testing import MemoryKiro, MemoryReactor


class OptionsTests(SynchronousTestCase):
    """
    Tests for `Options`.
    """

    def test_trusted_proxies(self) -> None:
        """
        --trusted-proxy may be repeated.
        """
        options = Options()
        options.parseOptions(["--trusted-proxy", "127.0.0.1,unix", "--trusted-proxy=::1"])
        expected = ("127.0.0.1/32", "unix", "::1/128")
        self.assertEqual(options.settings.trusted_proxy, expected)

    def test_agents(self) -> None:
        """
        --agent may be repeated, and adds an agent each time.
        """
        options = Options()
        options.parseOptions(["--agent", "kiro=2", "--agent=offline,q"])
        expected = (AgentCount("kiro", 2), AgentCount("offline"), AgentCount("q"))
        self.assertEqual(options.settings.agent, expected)

    def test_not_twice(self) -> None:
        """
        --agent may not name the same agent twice.
        """
        with self.assertRaises(UsageError) as raised:
            Options().parseOptions(["--agent", "q=2", "--agent", "q=1"])
        self.assertIn("another agent named q", str(raised.exception))

    def exit(self, arguments: list[str], **twistd: str) -> tuple[int, list[str]]:
        """
        Parse a command line that cannot be used, below twistd.

        Returns:
            The exit status, and the lines on standard error.
        """
        options = Options()
        options.parent = ServerOptions()
        options.parent.subCommand = "kiroworkers"
        options.parent.update(twistd)
        errors, output = StringIO(), StringIO()
        self.patch(sys, "stderr", errors)
        self.patch(sys, "stdout", output)
        with self.assertRaises(SystemExit) as raised:
            options.parseOptions(arguments)
        self.assertEqual(output.getvalue(), "")
        assert isinstance(raised.exception.code, int)
        return raised.exception.code, errors.getvalue().splitlines()

    def test_no_folder(self) -> None:
        """
        A current folder that was deleted is an error of one line.
        """
        here, gone = os.getcwd(), Path(self.mktemp())
        gone.mkdir()
        self.addCleanup(os.chdir, here)
        os.chdir(gone)
        os.rmdir(os.getcwd())
        self.assertEqual(
            self.exit([]),
            (78, ["kiroworkers: cannot use the current folder: No such file or directory"]),
        )

    def test_pidfile(self) -> None:
        """
        A pid file that cannot be written is an error of one line.
        """
        status, [line] = self.exit([], pidfile="/proc/nowhere/pid")
        self.assertEqual(status, 78)
        self.assertIn("--pidfile /proc/nowhere/pid", line)

    def test_usage_errors(self) -> None:
        """
        Below twistd, an invalid option ends the process with one line on standard error, which
        names the option that was probably meant.
        """
        for arguments, reason in [
            (["--workers", "0"], "--workers 0: must be at least 1 and at most 512"),
            (["--wrokers", "2"], "--wrokers: unknown option; did you mean --workers?"),
            (["--max_age=2"], "--max_age: unknown option; did you mean --max-age?"),
            (["--\x1b[0m"], r"'--\x1b[0m': unknown option"),
            (["-x"], "-x: unknown option"),
            (["-n"], "-n: is an option of twistd; those come first, as in twistd -n kiroworkers"),
            (
                ["--logfile", "x"],
                "--logfile: is an option of twistd; those come first, as in twistd -n kiroworkers",
            ),
            (["--wor", "2"], "--wor: ambiguous option, can be --workdir or --workers"),
            (["--port"], "--port: needs a value"),
            (["--canary=no"], "--canary: takes no value"),
            (["--canary", "--no-canary"], "--canary: contradicts --no-canary"),
            (["start"], "start: unexpected argument"),
            (["--config", "/nowhere"], "--config /nowhere: does not exist"),
        ]:
            status, errors = self.exit(arguments)
            self.assertEqual(status, 64)
            self.assertEqual(errors, [f"kiroworkers: {reason} (see twistd kiroworkers --help)"])

    def test_origin_of_errors(self) -> None:
        """
        An error that depends on more than one option says where the value is set.
        """
        config = Path(self.mktemp()).absolute()
        config.write_text('[agents]\nagent = ["q", "q=1"]\n')
        with self.assertRaises(UsageError) as raised:
            Options().parseOptions(["--config", str(config)])
        self.assertEqual(
            str(raised.exception),
            f"--agent q: there is another agent named q (--agent is set by {config} line 2)",
        )

    def test_negation(self) -> None:
        """
        Each flag without a value has an opposite.
        """
        options = Options()
        options.parseOptions(["--no-canary", "--strict-input"])
        self.assertFalse(options.settings.canary)
        self.assertTrue(options.settings.strict_input)
        self.assertEqual({*options.effective.given}, {"canary", "strict_input"})

    def test_help(self) -> None:
        """
        --help prints the usage line and the options by group.
        """
        for flag in ("--help", "-h"):
            output = StringIO()
            self.patch(sys, "stdout", output)
            with self.assertRaises(SystemExit) as raised:
                Options().parseOptions([flag])
            self.assertEqual(raised.exception.code, 0)
            self.assertIn("[options]\n\nKeep sessions", output.getvalue())
            self.assertIn("\nServer [server]:\n  --config FILE ", output.getvalue())


class ServerTests(SynchronousTestCase):
    """
    Tests for `Server`, before anything of it runs.
    """

    def server(self, **flags: str) -> Server:
        settings = Settings.read({"port": "0", "agent": "offline", **flags}, {})
        return Server(MemoryReactor(lambda: MemoryKiro(lambda prompt: None)), settings)

    def test_never_started(self) -> None:
        """
        A server that was never started can be stopped.
        """
        self.successResultOf(self.server().stopService())

    def test_cannot_start(self) -> None:
        """
        A server that cannot start says why, and has nothing left to stop.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "poem.toml").write_text("not TOML")
        server = self.server(tasks=str(folder))
        errors = StringIO()
        self.patch(sys, "__stderr__", errors)
        with self.assertRaises(CannotStart) as raised:
            server.privilegedStartService()
        self.assertIn("poem.toml", str(raised.exception))
        self.assertEqual(errors.getvalue(), f"{raised.exception}\n")
        self.assertEqual(raised.exception.code, 78)
        self.assertEqual([*server], [])
        self.successResultOf(server.stopService())


class TaskTests(SynchronousTestCase):
    """
    Tests for `check_tasks`.
    """

    def test_wrong(self) -> None:
        """
        A task for an agent that the server does not run, or with more time than any
        request has, is refused by its file.
        """
        agents = ("kiro", "offline")
        story = evolve(builtin_tasks()["generate-story"], source="mine.toml")
        good = evolve(story, agent="offline", limits=TaskLimits(timeout=120))
        check_tasks({"a": story, "b": good}, agents, 120)
        for wrong, reason in [
            (evolve(story, agent="q"), "agent: this server does not run 'q', only kiro, offline;"),
            (evolve(story, limits=TaskLimits(timeout=121)), "limits.timeout: is above"),
        ]:
            with self.assertRaises(BadTask) as raised:
                check_tasks({"a": wrong}, agents, 120)
            self.assertIn(f"mine.toml: {reason}", str(raised.exception))
