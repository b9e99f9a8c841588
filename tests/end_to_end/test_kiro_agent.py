"""
End-to-end tests for --kiro-agent, --model and --effort, with the stand-in for Kiro.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.programs import install_fake_kiro, variables_of
from tests.servers import ServerTestCase


class MinimalTests(ServerTestCase):
    """
    Tests for `--kiro-agent minimal`.
    """

    async def start_minimal(self, *options: str, **env: Any) -> Path:
        """
        Start a server with one worker, and return the configuration folder of its session.
        """
        await self.start("--kiro-agent", "minimal", *options, workers=1, **env)
        return await self.kiro_home()

    async def kiro_home(self) -> Path:
        [pid] = await self.pids()
        return Path(variables_of(pid)["KIRO_HOME"])

    def agents_in(self, home: Path) -> list[str]:
        """
        Return the files that describe agents and settings in a configuration folder.
        """
        files = [path.relative_to(home) for path in home.rglob("*.json")]
        return sorted(str(path) for path in files if path.parts[0] in ("agents", "settings"))

    async def test_acp(self) -> None:
        """
        Over ACP, a session has a configuration folder with the minimal agent and no other, and
        runs it; the folder goes with the session, and the login stays where it was.
        """
        user = self.folder / "user"
        (user / "agents").mkdir(parents=True)
        (user / "agents" / "mine.json").write_text("{}")
        home = await self.start_minimal(
            "--agent", "kiro-acp", FAKEKIRO_VERSION="2.28.0", KIRO_HOME=str(user)
        )
        self.assertNotEqual(home, user)
        self.assertEqual(self.agents_in(home), ["agents/kiroworkers-minimal.json"])
        response, story = await self.story("x")
        self.assertEqual((response.code, story["title"]), (200, "x"), story)
        await self.fetch("POST", "/operator/workers/worker1/restart")
        await self.server.says(r"worker1: ready[\s\S]*worker1: ready")
        successor = await self.kiro_home()
        self.assertEqual(self.agents_in(successor), ["agents/kiroworkers-minimal.json"])
        await self.stop()
        self.assertFalse(home.exists() or successor.exists())
        self.assertEqual(self.agents_in(user), ["agents/mine.json"])

    async def test_v3(self) -> None:
        """
        The engine v3 has an empty configuration folder, and runs the agent of the session.
        """
        home = await self.start_minimal("--agent", "kiro-acp-v3", FAKEKIRO_VERSION="2.28.0")
        self.assertEqual(self.agents_in(home), [])
        response, _ = await self.story("x")
        self.assertEqual(response.code, 200)

    async def test_classic(self) -> None:
        """
        On its classic interface Kiro is also told not to render its answers.
        """
        home = await self.start_minimal("--agent", "kiro", FAKEKIRO_VERSION="2.11.0")
        self.assertEqual(
            self.agents_in(home), ["agents/kiroworkers-minimal.json", "settings/cli.json"]
        )
        response, _ = await self.story("x")
        self.assertEqual(response.code, 200)

    async def test_missing(self) -> None:
        """
        A session in which Kiro runs another agent than the chosen one serves no request, and
        /health says why.
        """
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--agent", "kiro-acp", "--kiro-agent", "gone"),
            FAKEKIRO_VERSION="2.28.0",
        )
        self.addCleanup(self.stop)
        said = await self.server.says("worker1: .*: session ended: (.*)")
        self.assertIn("gone", said[1])


class OptionTests(ServerTestCase):
    """
    Tests for `--model` and `--effort`.
    """

    async def test_arguments(self) -> None:
        """
        Kiro is started with the model and the effort.
        """
        await self.start(
            *("--agent", "kiro-acp", "--model", "claude-sonnet-4.5", "--effort", "low"),
            workers=1,
            FAKEKIRO_VERSION="2.28.0",
        )
        [pid] = await self.pids()
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        for option, value in [("--model", "claude-sonnet-4.5"), ("--effort", "low")]:
            self.assertEqual(arguments[arguments.index(option) + 1], value)

    async def test_refused(self) -> None:
        """
        An option that the agent does not have is an invalid option, in one line.
        """
        self.server = self.run_twistd("--agent", "llm", "--model", "m")
        self.assertEqual(await self.server.ended, 64)
        self.assertIn("--model m: the agent llm does not support it", self.server.output)


class LoginTests(ServerTestCase):
    """
    Tests for what is run while nobody is logged in.
    """

    def install_logging_kiro(self) -> Path:
        """
        Install a stand-in for Kiro that logs the arguments of each start, and return the log.
        """
        log, real_path = self.folder / "starts", install_fake_kiro(self.folder / "real")
        program = Path(real_path.split(":")[0], "kiro-cli")
        folder = self.folder / "logging"
        folder.mkdir()
        script = folder / "kiro-cli"
        script.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {program} "$@"\n')
        script.chmod(0o755)
        self.path = f"{folder}:{real_path}"
        return log

    async def check_asked_first(self, agent: str) -> None:
        log, login = self.install_logging_kiro(), self.folder / "login"
        self.server = self.run_twistd(
            *("--port", "0", "--agent", agent, "--check-interval", "0.5"),
            FAKEKIRO_LOGIN=str(login),
            FAKEKIRO_VERSION="2.28.0",
        )
        self.addCleanup(self.stop)
        await self.server.says("session ended: login_required: You are not logged in")
        starts = set(log.read_text().splitlines())
        self.assertLessEqual(starts, {"--version", "acp --help", "whoami"})
        login.touch()
        await self.server.says("worker2: ready")

    async def test_acp(self) -> None:
        """
        Over ACP, no session is started while nobody is logged in, because Kiro may then open a
        browser; sessions start once somebody is.
        """
        await self.check_asked_first("kiro-acp")

    async def test_classic(self) -> None:
        """
        The same holds for Kiro's classic interface.
        """
        await self.check_asked_first("kiro-classic")
