"""
Tests for `kiroworkers.workspaces.worktrees` and its program, with real git.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces.state_folder import StateFolder
from kiroworkers.workspaces.worktrees import Worktrees
from tests.programs import environment, folder_outside, git, new_repository


class WorktreeTestCase(SynchronousTestCase):
    """
    Create a repository and a state directory.
    """

    def setUp(self) -> None:
        if shutil.which("git") is None:
            raise SkipTest("git is not installed")
        self.folder = folder_outside(self)
        self.repository = new_repository(self.folder / "repository", {"sub/file": "first\n"})
        self.state = StateFolder(self.folder / "state")
        self.addCleanup(self.state.release)
        self.path = self.state.path / "work" / "worker1"
        self.path.parent.mkdir()
        self.worktrees = Worktrees(self.repository / "sub", environment())

    def listed(self) -> list[Path]:
        lines = git(self.repository, "worktree", "list", "--porcelain").splitlines()
        paths = [Path(line[9:]) for line in lines if line.startswith("worktree ")]
        return [path for path in paths if path != self.repository]


class CheckoutTests(WorktreeTestCase):
    """
    Tests for the program that makes a session's checkout and becomes its agent.
    """

    def command(self, *arguments: str, path: Path | None = None) -> list[str]:
        agent = Command("/bin/sh", arguments, {}, self.repository, (5, 80))
        command = self.worktrees.checkout_command(path or self.path, agent)
        return [command.executable, *command.arguments]

    def agent(self, script: str, **variables: str) -> str:
        """
        Run a shell's `script` as the agent, and return what it prints.
        """
        done = subprocess.run(
            self.command("-c", script),
            env=environment(**variables),
            capture_output=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().strip()

    def test_made(self) -> None:
        """
        The agent runs in the same directory of its own checkout of HEAD.
        """
        self.assertEqual(self.agent("pwd; cat file"), f"{self.path}/sub\nfirst")
        self.assertEqual(self.listed(), [self.path])

    def test_reset(self) -> None:
        """
        Whatever the last session did to the checkout, the next one finds the files of
        the current HEAD and no others.
        """
        for damage in [
            "echo other > file; touch new; mkdir -p ../deep/er; git add -A",
            "git checkout -q -b mine; echo other > file; git commit -qam mine",
            "rm -rf ../.git file",
            "echo gitdir: /nowhere > ../.git",
            "touch $(git rev-parse --git-dir)/index.lock",
        ]:
            self.agent(damage)
            output = self.agent("cat file; cd ..; find . -type f | sort")
            self.assertEqual(output, "first\n./.git\n./sub/file", damage)
        (self.repository / "sub" / "file").write_text("second")
        git(self.repository, "commit", "-qam", "more")
        self.assertEqual(self.agent("cat file"), "second")
        self.assertEqual(self.listed(), [self.path])

    def test_led_elsewhere(self) -> None:
        """
        A checkout that was changed to point to another repository does not harm that
        one.
        """
        other = new_repository(self.folder / "other", {"file": "committed"})
        (other / "file").write_text("precious")
        self.agent(f"echo gitdir: {other}/.git > ../.git")
        self.assertEqual(self.agent("cat file"), "first")
        self.assertEqual((other / "file").read_text(), "precious")

    def test_side_by_side(self) -> None:
        """
        Sessions that start at the same time each get a checkout of their own.
        """
        paths = [self.path.with_name(f"worker{number}") for number in range(6)]
        programs = [
            subprocess.Popen(
                self.command("-c", "cat file", path=path),
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for path in paths
        ]
        outputs = [program.communicate()[0] for program in programs]
        self.assertEqual(outputs, [b"first\n"] * len(paths))
        self.assertEqual(set(self.listed()), set(paths))

    def test_hooks(self) -> None:
        """
        No hook of the repository runs.
        """
        hook = self.repository / ".git" / "hooks" / "post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {self.folder}/ran\n")
        hook.chmod(0o755)
        self.agent("true")
        self.agent("true")
        self.assertFalse((self.folder / "ran").exists())

    def test_programs_of_the_configuration(self) -> None:
        """
        Programs of the repository's configuration do not see the session's secrets.
        """
        stolen = self.folder / "stolen"
        git(self.repository, "config", "core.fsmonitor", f"sh -c 'env >> {stolen}'")
        git(self.repository, "config", "filter.spy.smudge", f"sh -c 'env >> {stolen}; cat'")
        (self.repository / ".gitattributes").write_text("* filter=spy\n")
        git(self.repository, "add", ".")
        git(self.repository, "commit", "-qm", "spy")
        for _ in range(2):
            self.assertEqual(self.agent("echo $CODEX_KEY", CODEX_KEY="secret"), "secret")
        self.assertTrue(stolen.exists())
        self.assertNotIn("secret", stolen.read_text())

    def test_signals(self) -> None:
        """
        The agent ignores no signal that it would not have ignored.
        """
        ignored = int(self.agent("grep SigIgn /proc/self/status").split()[1], 16)
        checked = [signal.SIGPIPE, signal.SIGXFSZ]
        # Programs in the background may have been started without it.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            checked.append(signal.SIGINT)
        for number in checked:
            self.assertEqual(ignored & (1 << (number - 1)), 0, number)

    def test_says_why_not(self) -> None:
        """
        What git says of a failure is the last thing that the session shows.
        """
        shutil.rmtree(self.repository / ".git")
        done = subprocess.run(
            self.command("-c", "true"), env=environment(), capture_output=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        last = done.stderr.decode().splitlines()[-1]
        self.assertTrue(last.startswith("--workdir git-worktree: fatal: not a git repo"), last)


class WorktreesTests(WorktreeTestCase):
    """
    Tests for `Worktrees`.
    """

    def add(self, path: Path) -> None:
        git(self.repository, "worktree", "add", "-q", "--detach", str(path))

    def test_stale(self) -> None:
        """
        At the start, the worktrees of dead servers and those in this server's own
        directory are removed; those of living servers and of the user are kept.
        """
        alive, dead = (StateFolder(self.folder / name) for name in ("alive", "dead"))
        self.addCleanup(alive.release)
        # Its directory is missing here, but its server may see it.
        elsewhere = self.folder / "kiroworkers-abc" / "work" / "worker1"
        users = self.folder / "mine" / "work" / "tree"
        living = alive.path / "work" / "worker1"
        for path in (self.path, dead.path / "work" / "worker1", elsewhere, living, users):
            self.add(path)
        shutil.rmtree(elsewhere.parents[1])
        dead.release()
        self.worktrees.remove_stale(self.state.path)
        self.assertEqual(set(self.listed()), {living, users, elsewhere})
        self.assertFalse(self.path.exists())

    def test_removal(self) -> None:
        """
        The record of a worktree whose files are gone is removed.
        """
        self.add(self.path)
        shutil.rmtree(self.path)
        command = self.worktrees.removal_command(self.path)
        subprocess.run(
            [command.executable, *command.arguments],
            cwd=command.folder,
            env=dict(command.environment),
            check=True,
        )
        self.assertEqual(self.listed(), [])

    def test_unavailable(self) -> None:
        """
        Without git, a repository or a commit, the server does not start, and one line
        says why.
        """
        empty = self.folder / "empty"
        empty.mkdir()
        subprocess.run(["git", "init", "-q", str(empty)], check=True)
        for folder, variables, reason in [
            (self.repository, {"PATH": "/nowhere"}, "git is not on PATH"),
            (Path("/"), environment(), "not a git repository"),
            (empty, environment(), "fatal"),
        ]:
            with self.assertRaises(CannotStart) as raised:
                Worktrees(folder, variables)
            message = str(raised.exception)
            self.assertTrue(message.startswith("kiroworkers: --workdir git-worktree: "), message)
            self.assertIn(reason, message)
            self.assertNotIn("\n", message)

    def test_git_variables(self) -> None:
        """
        Variables that point to another repository are ignored.
        """
        variables = environment(GIT_DIR="/nowhere", GIT_WORK_TREE="/nowhere")
        worktrees = Worktrees(self.repository, variables)
        worktrees.remove_stale(self.state.path)
        self.assertEqual(self.listed(), [])
