"""
Tests for `kiroworkers.doctor.examine`: what is found on broken set-ups, with real programs.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from kiroworkers.doctor import machine
from kiroworkers.doctor.examine import Examination
from kiroworkers.doctor.finding import Finding, Outcome
from kiroworkers.doctor.options import CheckedOptions
from kiroworkers.workspaces.state_folder import StateFolder
from tests.programs import (
    DescriptorReader,
    alive,
    environment,
    folder_outside,
    install_fake_kiro,
)

real: Any = reactor


class BrokenSetUpTests(TestCase):
    """
    Tests for `Examination`.
    """

    def setUp(self) -> None:
        self.folder = folder_outside(self)
        self.environ = environment(
            PATH=install_fake_kiro(self.folder / "bin"),
            KIROWORKERS_PASS_ENV="FAKEKIRO*",
            XDG_STATE_HOME=str(self.folder),
        )
        self.flags = ["--port", "0", "--repo-path", str(self.folder)]

    async def examine(self, *flags: str, start: bool = False) -> dict[str, Finding]:
        """
        Return the findings for a server with `flags`, by the names of the checks.
        """
        # The agents' sessions are started with the environment of this process.
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environ)
        try:
            options = CheckedOptions()
            options.parseOptions([*self.flags, *flags])
            settings = options.settings if options.has_settings else None
            examination = Examination(real, settings, options.problem, start, self.environ)
            return {finding.check: finding async for finding in examination.findings()}
        finally:
            os.environ.clear()
            os.environ.update(before)

    def assert_failure(
        self, findings: dict[str, Finding], check: str, detail: str, advice: str
    ) -> None:
        """
        Check that `check` is the only one that failed, with these parts of its texts.
        """
        failed = [name for name, found in findings.items() if found.outcome is Outcome.FAILURE]
        self.assertEqual(failed, [check], findings[check])
        self.assertIn(detail, findings[check].detail)
        self.assertIn(advice, findings[check].advice)

    async def test_sound(self) -> None:
        """
        With an agent that starts, no check fails, and the session that was started is gone
        and was asked nothing.
        """
        log = self.folder / "typed"
        self.environ["FAKEKIRO_LOG"] = str(log)
        findings = await self.examine("--agent", "kiro", start=True)
        failed = [found for found in findings.values() if found.outcome is Outcome.FAILURE]
        self.assertEqual(failed, [])
        self.assertIn("showed its prompt", findings["session kiro"].detail)
        self.assertIs(findings["login kiro"].outcome, Outcome.OK)
        self.assertIs(findings["proof kiro"].outcome, Outcome.WARNING)
        typed = log.read_text() if log.exists() else ""
        self.assertNotIn("Task:", typed)

    async def test_missing_agent(self) -> None:
        """
        An agent that is not on PATH is a failure, which shows PATH.
        """
        self.environ["PATH"] = "/nowhere"
        findings = await self.examine("--agent", "claude")
        self.assert_failure(findings, "agent claude", "is not on PATH", "/nowhere")

    async def test_offline_by_chance(self) -> None:
        """
        Without Kiro, the offline agent answers, which is a warning.
        """
        self.environ["PATH"] = "/nowhere"
        finding = (await self.examine())["agent"]
        self.assertIs(finding.outcome, Outcome.WARNING)
        self.assertIn("--agent offline", finding.advice)

    async def test_logged_out(self) -> None:
        """
        An agent that nobody is logged in to fails both to tell a user and to start.
        """
        self.environ["FAKEKIRO_LOGIN"] = str(self.folder / "login")
        findings = await self.examine("--agent", "kiro", start=True)
        for check in ("login kiro", "session kiro"):
            self.assertIs(findings[check].outcome, Outcome.FAILURE)
            self.assertIn("logged in", findings[check].detail)
        self.assertIn("Log in to kiro-cli as the user", findings["login kiro"].advice)

    async def test_no_prompt(self) -> None:
        """
        An agent that never shows a prompt is ended, and can be started by hand as advised.
        """
        self.environ["FAKEKIRO"] = "mute"
        findings = await self.examine("--agent", "kiro", "--startup-timeout", "1", start=True)
        advice = f"{self.folder}/bin/kiro-cli chat"
        self.assert_failure(findings, "session kiro", "the session ended: no prompt", advice)
        self.assertIn("raise --startup-timeout", findings["session kiro"].advice)

    async def test_cancelled(self) -> None:
        """
        If the command is cancelled, the session that is starting is ended first.
        """
        script, started = self.folder / "agent.sh", self.pid_of_agent()
        script.write_text(f"{self.says_pid}; exec sleep 60")
        flags = ("--agent-command", f"sh {script}", "--stop-timeout", "1")
        running = Deferred.fromCoroutine(self.examine(*flags, start=True))
        pid = await started
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        self.assertFalse(alive(pid))

    async def test_cancelled_early(self) -> None:
        """
        If the command is cancelled while an agent is asked for its version, the agent is ended.
        """
        started = self.pid_of_agent()
        program = self.folder / "bin" / "kiro-cli"
        program.unlink()
        program.write_text(f"#!/bin/sh\n{self.says_pid}; exec sleep 60")
        program.chmod(0o755)
        running = Deferred.fromCoroutine(self.examine("--agent", "kiro"))
        ended = os.pidfd_open(await started)
        self.addCleanup(os.close, ended)
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        self.assertEqual(select.select([ended], [], [], 30)[0], [ended])

    def pid_of_agent(self) -> Deferred[int]:
        """
        Return a Deferred that fires when a shell has run `says_pid`, with its process id.
        """
        fifo, started = self.folder / "fifo", Deferred[int]()
        os.mkfifo(fifo)
        self.says_pid = f"echo $$ > {fifo}"
        descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        reader = DescriptorReader(
            real, descriptor, lambda: started.callback(int(os.read(descriptor, 64)))
        )
        self.addCleanup(reader.close)
        return started

    async def test_port_in_use(self) -> None:
        """
        A port that another program has is a failure.
        """
        # It does not listen, so that nobody waits for its answer.
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            port = str(holder.getsockname()[1])
            findings = await self.examine("--agent", "offline", "--port", port)
        self.assert_failure(findings, "address", f"127.0.0.1:{port}", "another --port")

    async def test_state_folder(self) -> None:
        """
        A state folder that another server holds is a warning; one that anybody may write to
        is a failure.
        """
        state = self.folder / "state"
        held = StateFolder(state)
        flags = ("--agent", "offline", "--state-dir", str(state))
        finding = (await self.examine(*flags))["state folder"]
        held.release()
        self.assertIs(finding.outcome, Outcome.WARNING)
        self.assertIn("in use by a running server", finding.detail)
        state.chmod(0o777)
        findings = await self.examine(*flags)
        self.assert_failure(findings, "state folder", "any user may write to it", "--state-dir")

    async def test_files(self) -> None:
        """
        A file of tokens, a dialect file, a task file or a pattern that is not valid is the only
        failure.
        """
        tasks = self.folder / "tasks"
        tasks.mkdir()
        tokens, dialect, task = (
            self.folder / "tokens",
            self.folder / "mine.toml",
            tasks / "mine.toml",
        )
        for file in (tokens, dialect, task):
            file.write_text("nonsense = 1\n")
        for check, detail, advice, flags in [
            ("tokens", "line 1: unknown scope", "scopes", ("--token-file", str(tokens))),
            ("tasks", "mine.toml", "task check", ("--tasks", str(tasks))),
            ("agent", "mine.toml", "option", ("--agent", str(dialect))),
            (
                "agent",
                "--prompt-pattern (",
                "option",
                ("--agent-command", "cat", "--prompt-pattern", "("),
            ),
        ]:
            findings = await self.examine(*flags)
            self.assert_failure(findings, check, detail, advice)

    async def test_configuration(self) -> None:
        """
        Without valid options the machine is checked all the same, and the rest is skipped.
        """
        file = self.folder / "kiroworkers.toml"
        file.write_text("[server]\nprot = 1\n")
        findings = await self.examine("--config", str(file))
        self.assert_failure(findings, "options", "prot", "Correct the option")
        self.assertIs(findings["address"].outcome, Outcome.SKIPPED)
        self.assertIs(findings["python"].outcome, Outcome.OK)

    async def test_variable(self) -> None:
        """
        A variable that is misspelt is a warning with the name that was meant.
        """
        self.environ["KIROWORKERS_PRT"] = "1"
        finding = (await self.examine("--agent", "offline"))["options"]
        self.assertIs(finding.outcome, Outcome.WARNING)
        self.assertIn("did you mean KIROWORKERS_PORT?", finding.detail)

    async def test_crash(self) -> None:
        """
        A check that crashes is a finding, and the others are made.
        """

        def crash(environ: object) -> Finding:
            raise RuntimeError("no such luck")

        self.patch(machine, "check_proxies", crash)
        findings = await self.examine("--agent", "offline")
        self.assert_failure(findings, "proxy", "cannot be checked: no such luck", "bug")
        self.assertIs(findings["terminals"].outcome, Outcome.OK)
