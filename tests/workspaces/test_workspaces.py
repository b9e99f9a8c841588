"""
Tests for `kiroworkers.workspaces.workspaces`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.dialects.dialect import StateDir
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces.workspaces import Workdir, Workspace, Workspaces

STORE = StateDir("TOOL_HOME", ".tool", copy=("config", "deep/er", "missing"), link=("auth",))


class RoomsTests(SynchronousTestCase):
    """
    Tests for `Workspaces`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.state = self.folder / "state-dir"
        self.home = self.folder / "home"
        for each in ("config", "deep/er", "auth"):
            file = self.home / ".tool" / each
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"my {each}")
            file.chmod(0o600 if each == "auth" else 0o640)
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
        workspace = workspaces.take(worker, self.command, state_dirs)
        workspace.prepare(self.started.append)
        return workspace

    def test_shared(self) -> None:
        """
        A session that needs nothing of its own runs the command as it is.
        """
        workspace = Workspaces(self.run_command, Workdir.SHARED).take("worker1", self.command, ())
        workspace.prepare(self.started.append)
        workspace.release()
        self.assertEqual(self.started, [self.command])

    def test_per_worker(self) -> None:
        """
        Sessions that live at the same time run in empty folders of their own, for
        the user's eyes only; a folder that was left is free, and empty, again.
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
        What a session leaves is removed by a program, so that nobody waits for it,
        and the server's end waits for that.
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
        An agent's variable points at a folder of the session's own, which begins
        with what is copied, modes and all, and what is linked; what the user does
        not have is not there.
        """
        self.prepare(self.open(), "worker1", STORE)
        [command] = self.started
        self.assertEqual(command.folder, self.command.folder)
        own = Path(command.environment["TOOL_HOME"])
        self.assertEqual(own, self.state / "state" / "worker1" / "TOOL_HOME")
        self.assertEqual({each.name for each in own.iterdir()}, {"config", "deep", "auth"})
        for each, mode in [("config", 0o640), ("deep/er", 0o640), ("auth", 0o600)]:
            self.assertEqual((own / each).read_text(), f"my {each}")
            self.assertEqual(stat.S_IMODE((own / each).stat().st_mode), mode)
        (own / "config").write_text("spoilt")
        (own / "auth").write_text("renewed")
        self.assertEqual((self.home / ".tool" / "config").read_text(), "my config")
        self.assertEqual((self.home / ".tool" / "auth").read_text(), "renewed")

    def test_each_its_own(self) -> None:
        """
        Two sessions of one worker share no state, and the next one inherits none.
        """
        workspaces = self.open()
        first = self.prepare(workspaces, "worker1", STORE)
        self.prepare(workspaces, "worker1", STORE)
        folders = [Path(each.environment["TOOL_HOME"]) for each in self.started]
        self.assertEqual(len(set(folders)), 2)
        (folders[0] / "history").touch()
        first.release()
        self.assertFalse(folders[0].exists())
        self.prepare(workspaces, "worker1", STORE)
        self.assertEqual(self.started[-1].environment["TOOL_HOME"], str(folders[0]))
        self.assertFalse((folders[0] / "history").exists())

    def test_where_the_users_is(self) -> None:
        """
        The user's own folder is where the variable says, if it is set; where
        nothing says where it is, the session's is empty.
        """
        other = self.folder / "other"
        other.mkdir()
        (other / "config").write_text("another")
        workspaces = self.open()
        for environment, found in [
            ({"HOME": str(self.home), "TOOL_HOME": str(other)}, ["config"]),
            ({}, []),
        ]:
            self.command = Command("/bin/agent", (), environment, self.home, (5, 80))
            self.prepare(workspaces, "worker1", STORE)
            own = Path(self.started[-1].environment["TOOL_HOME"])
            self.assertEqual([each.name for each in own.iterdir()], found)

    def test_no_file(self) -> None:
        """
        What is no file, or too large for a setting, is not copied: the session
        does not start, says why, and leaves no room behind.
        """
        os.mkfifo(self.home / ".tool" / "pipe")
        (self.home / ".tool" / "large").write_bytes(bytes(1024**2 + 1))
        workspaces = self.open()
        for name in ("pipe", "large", "deep"):
            with self.assertRaises(OSError) as raised:
                self.prepare(workspaces, "worker1", StateDir("TOOL_HOME", ".tool", copy=(name,)))
            self.assertIn(f".tool/{name}", str(raised.exception))
        self.assertEqual(self.started, [])
        self.prepare(workspaces, "worker1", STORE)
        self.assertIn("/state/worker1/", self.started[0].environment["TOOL_HOME"])

    def test_start_fails(self) -> None:
        """
        A session that cannot be started leaves its room.
        """
        workspaces = self.open(Workdir.PER_WORKER)

        def start(command: Command) -> None:
            raise OSError("no more processes")

        with self.assertRaises(OSError):
            workspaces.take("worker1", self.command, ()).prepare(start)
        self.prepare(workspaces)
        self.assertEqual(self.started[0].folder.name, "worker1")

    def test_names(self) -> None:
        """
        A name that is no safe name of a folder is refused.
        """
        workspaces = self.open(Workdir.PER_WORKER)
        for name in ("", "..", "a/b", "worker1.2", "-rf", "x" * 101):
            with self.assertRaises(ValueError):
                workspaces.take(name, self.command, ())

    def test_leftovers(self) -> None:
        """
        What an earlier server left in the state folder is gone when rooms open.
        """
        workspaces = self.open()
        left = self.state / "state" / "worker9"
        left.mkdir()
        self.successResultOf(Deferred.fromCoroutine(workspaces.close()))
        self.open()
        self.assertFalse(left.exists())
