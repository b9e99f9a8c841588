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
from tests.programs import environment, git, new_repository


class WorktreeTestCase(SynchronousTestCase):
    """
    A repository, and a state folder.
    """

    def setUp(self) -> None:
        if shutil.which("git") is None:
            raise SkipTest("git is not installed")
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.repository = new_repository(self.folder / "repository", {"sub/file": "first\n"})
        self.state = StateFolder(self.folder / "state")
        self.addCleanup(self.state.release)
        self.path = self.state.path / "work" / "worker1"
        self.path.parent.mkdir()
        self.worktrees = Worktrees(self.repository / "sub", environment())

    def listed(self) -> list[Path]:
        lines = git(self.repository, "worktree", "list", "--porcelain").splitlines()
        found = [Path(line[9:]) for line in lines if line.startswith("worktree ")]
        return [each for each in found if each != self.repository]


class CheckoutTests(WorktreeTestCase):
    """
    Tests for the program that makes a session's checkout and becomes its agent.
    """

    def command(self, *arguments: str, path: Path | None = None) -> list[str]:
        agent = Command("/bin/sh", arguments, {}, self.repository, (5, 80))
        command = self.worktrees.command(path or self.path, agent)
        return [command.executable, *command.arguments]

    def agent(self, script: str, **variables: str) -> str:
        """
        What an agent prints that is a shell's `script`.
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
        The agent runs in the same folder of a checkout of HEAD, of its own.
        """
        self.assertEqual(self.agent("pwd; cat file"), f"{self.path}/sub\nfirst")
        self.assertEqual(self.listed(), [self.path])

    def test_reset(self) -> None:
        """
        Whatever the one before did there, the next one finds HEAD as it now is,
        and nothing else.
        """
        for damage in [
            "echo other > file; touch new; mkdir -p ../deep/er; git add -A",
            "git checkout -q -b mine; echo other > file; git commit -qam mine",
            "rm -rf ../.git file",
            "echo gitdir: /nowhere > ../.git",
            "touch $(git rev-parse --git-dir)/index.lock",
        ]:
            self.agent(damage)
            found = self.agent("cat file; cd ..; find . -type f | sort")
            self.assertEqual(found, "first\n./.git\n./sub/file", damage)
        (self.repository / "sub" / "file").write_text("second")
        git(self.repository, "commit", "-qam", "more")
        self.assertEqual(self.agent("cat file"), "second")
        self.assertEqual(self.listed(), [self.path])

    def test_led_elsewhere(self) -> None:
        """
        A checkout that was made to belong to another repository does that one no
        harm.
        """
        other = new_repository(self.folder / "other", {"file": "committed"})
        (other / "file").write_text("precious")
        self.agent(f"echo gitdir: {other}/.git > ../.git")
        self.assertEqual(self.agent("cat file"), "first")
        self.assertEqual((other / "file").read_text(), "precious")

    def test_side_by_side(self) -> None:
        """
        Sessions that start at once each get their own.
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
        said = [program.communicate()[0] for program in programs]
        self.assertEqual(said, [b"first\n"] * len(paths))
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
        What the repository's configuration runs gets no secret of the session.
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
        At the start, those of servers that are gone are removed, and those that
        this one finds in its own folder; not one of a server that lives, and not
        the user's.
        """
        alive, dead = (StateFolder(self.folder / name) for name in ("alive", "dead"))
        self.addCleanup(alive.release)
        # It is not there; it may be where only its server can see it.
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
        The repository forgets a worktree whose files are gone.
        """
        self.add(self.path)
        shutil.rmtree(self.path)
        command = self.worktrees.removal(self.path)
        subprocess.run(
            [command.executable, *command.arguments],
            cwd=command.folder,
            env=dict(command.environment),
            check=True,
        )
        self.assertEqual(self.listed(), [])

    def test_not_to_be_had(self) -> None:
        """
        Without git, a repository or a commit, one line says so.
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
            said = str(raised.exception)
            self.assertTrue(said.startswith("kiroworkers: --workdir git-worktree: "), said)
            self.assertIn(reason, said)
            self.assertNotIn("\n", said)

    def test_variables_of_gits(self) -> None:
        """
        A variable that says where another repository is does not mislead.
        """
        variables = environment(GIT_DIR="/nowhere", GIT_WORK_TREE="/nowhere")
        worktrees = Worktrees(self.repository, variables)
        worktrees.remove_stale(self.state.path)
        self.assertEqual(self.listed(), [])
