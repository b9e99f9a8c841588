"""
Tests for `kiroworkers.workspaces.workspaces`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.dialects.dialect import MinimalAgent, StateDir
from kiroworkers.process.agent_process import Command
from kiroworkers.testing import MemoryReactor
from kiroworkers.workspaces.workspaces import Workdir, Workspace, Workspaces, runner

STATE_DIR = StateDir("TOOL_HOME", ".tool", copy=("config", "deep/er", "missing"), link=("auth",))


class WorkspacesTests(SynchronousTestCase):
    """
    Tests for `Workspaces`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.state = self.folder / "state-dir"
        self.home = self.folder / "home"
        for name in ("config", "deep/er", "auth"):
            file = self.home / ".tool" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"my {name}")
            file.chmod(0o600 if name == "auth" else 0o640)
        self.command = Command(
            "/bin/agent", ("chat",), {"HOME": str(self.home)}, self.home, (5, 80)
        )
        self.ran: list[Command] = []
        self.started: list[Command] = []
        self.results: list[Deferred[tuple[bytes, bytes, int]]] = []

    def open(self, workdir: Workdir = Workdir.SHARED) -> Workspaces:
        workspaces = Workspaces(self.run_command, workdir)
        workspaces.open(self.state)
        self.addCleanup(lambda: Deferred.fromCoroutine(workspaces.close()))
        return workspaces

    def run_command(self, command: Command) -> Deferred[tuple[bytes, bytes, int]]:
        self.ran.append(command)
        return self.results.pop() if self.results else succeed((b"", b"", 0))

    def prepare(
        self, workspaces: Workspaces, worker: str = "worker1", *state_dirs: StateDir
    ) -> Workspace:
        workspace = workspaces.allocate(worker, self.command, state_dirs)
        workspace.prepare(self.started.append)
        return workspace

    def test_shared(self) -> None:
        """
        A session that needs nothing of its own runs the command as it is.
        """
        workspace = Workspaces(self.run_command, Workdir.SHARED).allocate(
            "worker1", self.command, ()
        )
        workspace.prepare(self.started.append)
        workspace.release()
        self.assertEqual(self.started, [self.command])

    def test_per_worker(self) -> None:
        """
        Sessions that live at the same time run in empty directories of their own,
        accessible to the user only; a released one is used again, empty.
        """
        workspaces = self.open(Workdir.PER_WORKER)
        first = self.prepare(workspaces)
        self.prepare(workspaces)
        self.prepare(workspaces, "gemini-acp-worker1")
        folders = [command.folder for command in self.started]
        work = self.state / "work"
        names = ("worker1", "worker1.2", "gemini-acp-worker1")
        self.assertEqual(folders, [work / name for name in names])
        self.assertEqual(stat.S_IMODE(folders[0].stat().st_mode), 0o700)
        (folders[0] / "left").touch()
        first.release()
        self.prepare(workspaces)
        self.assertEqual(self.started[-1].folder, folders[0])
        self.assertEqual(list(folders[0].iterdir()), [])

    def test_removed(self) -> None:
        """
        A program removes what a session leaves, so that nothing waits for it but the
        server when it stops.
        """
        workspaces = self.open(Workdir.PER_WORKER)
        removed: Deferred[tuple[bytes, bytes, int]] = Deferred()
        self.results.append(removed)
        self.prepare(workspaces).release()
        [gone] = (self.state / "gone").iterdir()
        self.assertEqual(
            (self.ran[0].executable, self.ran[0].arguments[-1]), ("/bin/sh", str(gone))
        )
        closed = Deferred.fromCoroutine(workspaces.close())
        self.assertNoResult(closed)
        removed.callback((b"", b"", 0))
        self.successResultOf(closed)
        self.assertTrue(self.state.exists())

    def test_state(self) -> None:
        """
        An agent's variable points to a directory of the session's own.  It starts with
        the copied files, modes included, and the linked ones; those that the user
        does not have are missing.
        """
        self.prepare(self.open(), "worker1", STATE_DIR)
        [command] = self.started
        self.assertEqual(command.folder, self.command.folder)
        own = Path(command.environment["TOOL_HOME"])
        self.assertEqual(own, self.state / "state" / "worker1" / "TOOL_HOME")
        self.assertEqual({path.name for path in own.iterdir()}, {"config", "deep", "auth"})
        for name, mode in [("config", 0o640), ("deep/er", 0o640), ("auth", 0o600)]:
            self.assertEqual((own / name).read_text(), f"my {name}")
            self.assertEqual(stat.S_IMODE((own / name).stat().st_mode), mode)
        (own / "config").write_text("spoilt")
        (own / "auth").write_text("renewed")
        self.assertEqual((self.home / ".tool" / "config").read_text(), "my config")
        self.assertEqual((self.home / ".tool" / "auth").read_text(), "renewed")

    def test_state_is_not_shared(self) -> None:
        """
        Two sessions of one worker share no state, and the next one inherits none.
        """
        workspaces = self.open()
        first = self.prepare(workspaces, "worker1", STATE_DIR)
        self.prepare(workspaces, "worker1", STATE_DIR)
        folders = [Path(command.environment["TOOL_HOME"]) for command in self.started]
        self.assertEqual(len(set(folders)), 2)
        (folders[0] / "history").touch()
        first.release()
        self.assertFalse(folders[0].exists())
        self.prepare(workspaces, "worker1", STATE_DIR)
        self.assertEqual(self.started[-1].environment["TOOL_HOME"], str(folders[0]))
        self.assertFalse((folders[0] / "history").exists())

    def test_minimal(self) -> None:
        """
        With a minimal agent, the session's configuration folder has the files of that agent
        and none of the user's, for the user only; it is removed with the session.
        """
        minimal = MinimalAgent("none", "TOOL_HOME", ".tool", {"agents/none.json": "{}"})
        workspaces = self.open()
        for state_dirs in [(), (STATE_DIR,)]:
            workspace = workspaces.allocate("worker1", self.command, state_dirs, minimal)
            workspace.prepare(self.started.append)
            own = Path(self.started[-1].environment["TOOL_HOME"])
            self.assertEqual(own, self.state / "state" / "worker1" / "TOOL_HOME")
            files = [path for path in own.rglob("*") if not path.is_dir()]
            self.assertEqual(files, [own / "agents" / "none.json"])
            self.assertEqual(files[0].read_text(), "{}")
            self.assertEqual(stat.S_IMODE(files[0].stat().st_mode), 0o600)
            self.assertEqual(self.started[-1].environment["HOME"], str(self.home))
            workspace.release()
            self.assertFalse(own.exists())

    def test_minimal_beside_state(self) -> None:
        """
        The folder of a minimal agent does not replace another directory of the agent's state.
        """
        minimal = MinimalAgent("none", "OTHER_HOME", ".other")
        workspace = self.open().allocate("worker1", self.command, (STATE_DIR,), minimal)
        workspace.prepare(self.started.append)
        environment = self.started[0].environment
        self.assertEqual((Path(environment["TOOL_HOME"]) / "config").read_text(), "my config")
        self.assertEqual(list(Path(environment["OTHER_HOME"]).iterdir()), [])

    def test_source_of_state(self) -> None:
        """
        The user's own directory is where the variable points, if it is set; without the
        variable and a home, the session's directory is empty.
        """
        other = self.folder / "other"
        other.mkdir()
        (other / "config").write_text("another")
        workspaces = self.open()
        for environment, names in [
            ({"HOME": str(self.home), "TOOL_HOME": str(other)}, ["config"]),
            ({}, []),
        ]:
            self.command = Command("/bin/agent", (), environment, self.home, (5, 80))
            self.prepare(workspaces, "worker1", STATE_DIR)
            own = Path(self.started[-1].environment["TOOL_HOME"])
            self.assertEqual([path.name for path in own.iterdir()], names)

    def test_unusable_file(self) -> None:
        """
        A file that is not regular or is too large is not copied: the session does not
        start, the error names the file, and the workspace is released.
        """
        os.mkfifo(self.home / ".tool" / "pipe")
        (self.home / ".tool" / "large").write_bytes(bytes(1024**2 + 1))
        workspaces = self.open()
        for name in ("pipe", "large", "deep"):
            with self.assertRaises(OSError) as raised:
                self.prepare(workspaces, "worker1", StateDir("TOOL_HOME", ".tool", copy=(name,)))
            self.assertIn(f".tool/{name}", str(raised.exception))
        self.assertEqual(self.started, [])
        self.prepare(workspaces, "worker1", STATE_DIR)
        self.assertIn("/state/worker1/", self.started[0].environment["TOOL_HOME"])

    def test_start_fails(self) -> None:
        """
        A session that cannot be started releases its workspace.
        """
        workspaces = self.open(Workdir.PER_WORKER)

        def start(command: Command) -> None:
            raise OSError("no more processes")

        with self.assertRaises(OSError):
            workspaces.allocate("worker1", self.command, ()).prepare(start)
        self.prepare(workspaces)
        self.assertEqual(self.started[0].folder.name, "worker1")

    def test_names(self) -> None:
        """
        A worker's name that cannot safely name a directory is refused.
        """
        workspaces = self.open(Workdir.PER_WORKER)
        for name in ("", "..", "a/b", "worker1.2", "-rf", "x" * 101):
            with self.assertRaises(ValueError):
                workspaces.allocate(name, self.command, ())

    def test_leftovers(self) -> None:
        """
        What an earlier server left in the state directory is removed at the start.
        """
        workspaces = self.open()
        left = self.state / "state" / "worker9"
        left.mkdir()
        self.successResultOf(Deferred.fromCoroutine(workspaces.close()))
        self.open()
        self.assertFalse(left.exists())


class RunnerTests(SynchronousTestCase):
    """
    Tests for `runner`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.reactor.refuse = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def test_tries_again(self) -> None:
        """
        A program that cannot be started is started a little later; the log says so in one line.
        """
        with capturedLogs() as events:
            result = runner(self.reactor)(Command("/bin/rm", (), {}, Path("/"), None))
            self.reactor.refuse = None
            self.reactor.advance(0.1)
        self.assertEqual(len(self.reactor.programs), 1)
        self.assertNoResult(result)
        [event] = events
        self.assertEqual(
            formatEvent(event),
            "cannot start /bin/rm, trying again in 0.1 s: "
            "[Errno 11] Resource temporarily unavailable",
        )

    def test_gives_up(self) -> None:
        """
        After four attempts, it fails.
        """
        result = runner(self.reactor)(Command("/bin/rm", (), {}, Path("/"), None))
        self.reactor.pump([0.1, 1])
        self.assertNoResult(result)
        self.reactor.advance(5)
        self.failureResultOf(result, BlockingIOError)
