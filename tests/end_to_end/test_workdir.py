"""
End-to-end tests for the environment and the folders of sessions.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from kiroworkers.process.supervisor import descendants
from tests.programs import (
    FAULTS,
    exits,
    git,
    install_fake_kiro,
    new_repository,
    variables_of,
)
from tests.servers import ServerTestCase, real

SECRETS = ("KIRO_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "DATABASE_URL")


class SecretTests(ServerTestCase):
    """
    Tests for secrets in the server's environment.
    """

    async def start_with_secrets(self, *options: str, **env: Any) -> dict[str, set[str]]:
        """
        Start a server; return the names of the secrets in each session's environment.
        """
        secrets = {name: f"secret-{name}" for name in SECRETS}
        await self.start(*options, **{**secrets, "KIROWORKERS_BACKLOG": "7", **env})
        known = {}
        for worker, status in (await self.health())["workers"].items():
            variables = variables_of(status["pid"])
            known[worker] = {
                name for name, value in variables.items() if value.startswith("secret-")
            }
            settings = {name for name in variables if name.startswith("KIROWORKERS_")}
            self.assertLessEqual(settings, {"KIROWORKERS_OFFLINE_DELAY"})
        return known

    async def test_own(self) -> None:
        """
        A session gets the secrets of its agent and no others, and neither the log nor
        /health shows any.
        """
        known = await self.start_with_secrets("--agent", "kiro")
        self.assertEqual(known, {"worker1": {"KIRO_API_KEY"}, "worker2": {"KIRO_API_KEY"}})
        response, story = await self.story("x")
        self.assertEqual((response.code, story["title"]), (200, "x"), story)
        self.assertNotIn("secret-", str(await self.health()))
        self.assertNotIn("secret-", self.server.output)

    async def test_offline(self) -> None:
        """
        The offline agent gets no secrets, but its own setting.
        """
        offline: Any = {"KIROWORKERS_OFFLINE_DELAY": "0.01"}
        known = await self.start_with_secrets("--agent", "offline", workers=1, **offline)
        self.assertEqual(known, {"worker1": set()})
        [pid] = await self.pids()
        self.assertEqual(variables_of(pid)["KIROWORKERS_OFFLINE_DELAY"], "0.01")

    async def test_any_program(self) -> None:
        """
        A program of --agent-command gets all variables except the server's own.
        """
        command = f"{sys.executable} -m tests.fakeline"
        known = await self.start_with_secrets("--agent-command", command, workers=1)
        self.assertEqual(known, {"worker1": set(SECRETS)})

    async def test_passed(self) -> None:
        """
        --pass-env adds variables, for all agents or for one; the log names an agent that
        the server does not run.
        """
        options = ("--pass-env", f"{FAULTS},GITHUB_TOKEN,kiro:DATABASE_*,llm:OPENAI_API_KEY")
        known = await self.start_with_secrets(*options, workers=1)
        self.assertEqual(known["worker1"], {"KIRO_API_KEY", "GITHUB_TOKEN", "DATABASE_URL"})
        await self.server.says("--pass-env names the agent llm, which this server does not run")


class WorkspaceTestCase(ServerTestCase):
    """
    Start servers whose temporary folders are in the test's folder.
    """

    def setUp(self) -> None:
        super().setUp()
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    async def start_in(self, *options: str, **env: Any) -> list[Path]:
        """
        Start a server, and return the working directories of its sessions.
        """
        await self.start(*options, **{"TMPDIR": str(self.temporary), **env})
        return await self.folders()

    async def folders(self) -> list[Path]:
        agents = [descendants(pid)[0] for pid in await self.pids()]
        return [Path(os.readlink(f"/proc/{agent}/cwd")) for agent in agents]

    async def kill(self, number: int) -> None:
        """
        Kill a worker's session, and wait until the next one is ready.
        """
        pid = (await self.pids())[number - 1]
        restarted = self.server.says(
            rf"worker{number}: started, pid {pid}[\s\S]*worker{number}: ready"
            rf"[\s\S]*worker{number}: ready"
        )
        os.killpg(pid, signal.SIGKILL)
        await restarted


class WorkdirTests(WorkspaceTestCase):
    """
    Tests for the working directories of sessions.
    """

    async def test_shared(self) -> None:
        """
        By default all sessions run in --repo-path, and no folder is made for them.
        """
        repository = self.folder / "repository"
        repository.mkdir()
        folders = await self.start_in("--repo-path", str(repository))
        self.assertEqual(folders, [repository] * 2)
        self.assertEqual(list(self.temporary.iterdir()), [])

    async def test_per_worker(self) -> None:
        """
        Each session runs in a folder of its own, which is emptied before the worker's
        next session; the folders are removed when the server stops.
        """
        options = ("--workdir", "per-worker", "--restart-delay", "0.1")
        folders = await self.start_in(*options)
        self.assertEqual(len(set(folders)), 2)
        for folder in folders:
            self.assertEqual(folder.parents[2], self.temporary)
            (folder / "left").touch()
        response, story = await self.story("x")
        self.assertEqual((response.code, story["title"]), (200, "x"), story)
        await self.kill(1)
        self.assertEqual(await self.folders(), folders)
        self.assertFalse((folders[0] / "left").exists())
        self.assertTrue((folders[1] / "left").exists())
        await self.stop()
        self.assertEqual(list(self.temporary.iterdir()), [])

    async def test_state_dir(self) -> None:
        """
        --state-dir names the folder for them; it is kept, and only one server at a time
        can use it.
        """
        state = self.folder / "state"
        options = ("--workdir", "per-worker", "--state-dir", str(state))
        folders = await self.start_in(*options, workers=1)
        self.assertEqual(folders, [state / "work" / "worker1"])
        other = self.run_twistd("--port", "0", *options)
        self.assertEqual(await other.ended, 78)
        self.assertIn("another server uses it", other.output)
        self.assertTrue(folders[0].exists())
        await self.stop()
        self.assertTrue(state.exists())
        self.assertFalse(folders[0].exists())
        self.assertEqual(list(self.temporary.iterdir()), [])


class WorktreeTests(WorkspaceTestCase):
    """
    Tests for sessions with a git worktree each.
    """

    def setUp(self) -> None:
        super().setUp()
        if shutil.which("git") is None:
            raise SkipTest("git is not installed")
        self.repository = new_repository(self.folder / "repository", {"file": "committed"})
        self.options = ("--workdir", "git-worktree", "--repo-path", str(self.repository))

    def worktrees(self) -> int:
        return git(self.repository, "worktree", "list").count("\n") - 1

    async def test_checkouts(self) -> None:
        """
        Each session runs in a worktree of its own, which is reset to HEAD before the
        worker's next session; the user's files are not changed.
        """
        (self.repository / "file").write_text("being edited")
        folders = await self.start_in(*self.options, "--restart-delay", "0.1")
        self.assertEqual(len({*folders, self.repository}), 3)
        for folder in folders:
            self.assertEqual((folder / "file").read_text(), "committed")
            (folder / "file").write_text("spoilt")
            (folder / "new").touch()
        response, story = await self.story("x")
        self.assertEqual((response.code, story["title"]), (200, "x"), story)
        await self.kill(1)
        self.assertEqual(await self.folders(), folders)
        self.assertEqual((folders[0] / "file").read_text(), "committed")
        self.assertFalse((folders[0] / "new").exists())
        self.assertEqual((folders[1] / "file").read_text(), "spoilt")
        self.assertEqual((self.repository / "file").read_text(), "being edited")
        await self.stop()
        self.assertEqual((self.worktrees(), list(self.temporary.iterdir())), (0, []))

    async def test_after_a_crash(self) -> None:
        """
        The next server removes the worktrees of a server that was killed.
        """
        await self.start_in(*self.options)
        pids = await self.pids()
        self.server.signal("KILL")
        await self.server.ended
        for pid in pids:
            await exits(real, pid)
        self.assertEqual(self.worktrees(), 2)
        [left] = self.temporary.iterdir()
        folders = await self.start_in(*self.options, workers=1)
        self.assertEqual(self.worktrees(), 1)
        self.assertEqual(list(self.temporary.iterdir()), [folders[0].parents[1]])
        self.assertFalse(left.exists())

    async def test_no_worktree(self) -> None:
        """
        If a session's worktree cannot be made, /health says why.
        """
        folders = await self.start_in(*self.options, "--restart-delay", "0.1", workers=1)
        [pid] = await self.pids()
        (self.repository / ".git" / "HEAD").write_text("nonsense")
        os.killpg(pid, signal.SIGKILL)
        await self.server.says("worker1: .*--workdir git-worktree: fatal")
        worker = (await self.health())["workers"]["worker1"]
        self.assertIn("--workdir git-worktree: fatal: ", worker["lastError"])
        self.assertTrue(folders[0].exists())

    async def test_no_repository(self) -> None:
        """
        Without a repository, or without git, the server does not start, and its error is
        one line.
        """
        plain = Path("/")
        for path, folder, reason in [
            (self.path, plain, "not a git repository"),
            (str(self.folder / "bin"), self.repository, "git is not on PATH"),
        ]:
            self.path = path
            server = self.run_twistd("--port", "0", *self.options[:2], "--repo-path", str(folder))
            self.assertEqual(await server.ended, 78)
            [line] = [line for line in server.output.splitlines() if "git-worktree" in line]
            self.assertIn(reason, line)
            self.assertNotIn("Traceback", server.output)


class StateTests(WorkspaceTestCase):
    """
    Tests for an agent whose sessions must not share their state folder.
    """

    def dialect(self, base: str, state: str) -> str:
        file = self.folder / "mine.toml"
        file.write_text(f'extends = "{base}"\nname = "mine"\n[[state]]\n{state}')
        return str(file)

    async def test_login_is_copied(self) -> None:
        """
        Each session gets a copy of the user's login in a folder of its own, which is
        removed with the session.
        """
        home = self.folder / "home"
        (home / ".tool").mkdir(parents=True)
        (home / ".tool" / "auth.json").write_text("my login")
        (home / ".tool" / "auth.json").chmod(0o600)
        state = 'variable = "TOOL_HOME"\ndefault = ".tool"\ncopy = ["auth.json", "missing"]'
        folders = await self.start_in(
            *("--agent", self.dialect("kiro-classic", state), "--restart-delay", "0.1"),
            HOME=str(home),
        )
        self.assertEqual(folders, [self.folder] * 2)
        own = [Path(variables_of(pid)["TOOL_HOME"]) for pid in await self.pids()]
        self.assertEqual(len({*own, home / ".tool"}), 3)
        for folder in own:
            self.assertEqual(os.listdir(folder), ["auth.json"])
            self.assertEqual((folder / "auth.json").read_text(), "my login")
            self.assertEqual((folder / "auth.json").stat().st_mode & 0o777, 0o600)
            (folder / "history").touch()
        await self.kill(1)
        self.assertEqual(os.listdir(own[0]), ["auth.json"])
        await self.stop()
        self.assertEqual(list(self.temporary.iterdir()), [])
        self.assertEqual(os.listdir(home / ".tool"), ["auth.json"])

    async def test_journal(self) -> None:
        """
        An agent's journal is read from the home folder of its session.
        """
        self.path = install_fake_kiro(self.folder / "bin", "tests.faketui")
        home = self.folder / "home"
        home.mkdir()
        agent = self.dialect("kiro-tui", 'variable = "HOME"\ndefault = "."')
        variables = {"HOME": str(home), "FAKEKIRO": "journal", "FAKEKIRO_VERSION": "3.0.1"}
        await self.start_in("--agent", agent, workers=1, **variables)
        response, story = await self.story("words " * 400)
        self.assertEqual((response.code, story["title"]), (200, "words " * 400), story)
        self.assertEqual(self.header(response, "x-kiroworkers-source"), "journal")
        self.assertEqual(list(home.iterdir()), [])

    async def test_cannot_be_copied(self) -> None:
        """
        If a file cannot be copied, the log says why the session did not start, with the
        file's path.
        """
        home = self.folder / "home"
        (home / ".tool" / "auth.json").mkdir(parents=True)
        state = 'variable = "TOOL_HOME"\ndefault = ".tool"\ncopy = ["auth.json"]'
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--agent", self.dialect("kiro-classic", state)),
            HOME=str(home),
            TMPDIR=str(self.temporary),
        )
        self.addCleanup(self.stop)
        await self.server.says(
            r"worker1: .*could not start: .*not a regular file: .*\.tool/auth\.json"
        )
