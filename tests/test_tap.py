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
from kiroworkers.option_types import AgentCount
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.server import Server, check_tasks
from kiroworkers.settings import Settings
from kiroworkers.tap import Options
from kiroworkers.tasks import BadTask, builtin_tasks
from kiroworkers.tasks.task import TaskLimits
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.pool.test_agent_groups import group_in


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
        errors = StringIO()
        self.patch(sys, "stderr", errors)
        with self.assertRaises(SystemExit) as raised:
            options.parseOptions(arguments)
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
        Below twistd, an invalid option ends the process with the usage line and the
        reason, not with the whole help text.
        """
        for arguments, reason in [
            (["--workers", "0"], "--workers: '0': must be at least 1 and at most 512"),
            (["--wrokers", "2"], "option --wrokers not recognized"),
        ]:
            status, [usage, error] = self.exit(arguments)
            self.assertEqual(status, 64)
            self.assertEqual(usage, "Usage: twistd [options] kiroworkers [options] (see --help)")
            self.assertEqual(error, f"kiroworkers: {reason}")


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
        groups = AgentGroups([group_in("kiro"), group_in("offline")])
        story = evolve(builtin_tasks()["generate-story"], source="mine.toml")
        good = evolve(story, agent="offline", limits=TaskLimits(timeout=120))
        check_tasks({"a": story, "b": good}, groups, 120)
        for wrong, reason in [
            (evolve(story, agent="q"), "agent: this server does not run 'q', only kiro, offline;"),
            (evolve(story, limits=TaskLimits(timeout=121)), "limits.timeout: is above"),
        ]:
            with self.assertRaises(BadTask) as raised:
                check_tasks({"a": wrong}, groups, 120)
            self.assertIn(f"mine.toml: {reason}", str(raised.exception))
