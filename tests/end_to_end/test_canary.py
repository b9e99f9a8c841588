"""
Tests of servers whose agent's program is replaced: --canary, and what was proven.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from kiroworkers.proof.report import (
    ESSENTIAL,
    MEMORY_CHECK,
    TOOL_CHECKS,
    CheckResult,
    Level,
    Outcome,
    Report,
    write_report,
)
from tests.servers import ServerTestCase, real

#: Shows its version, and then never a prompt.
_MUTE = '#!/bin/sh\n[ "$1" = --version ] && echo kiro-cli {version} && exit\nexec sleep 1000\n'


class VersionTestCase(ServerTestCase):
    """
    A test that installs versions of a stand-in.
    """

    def setUp(self) -> None:
        super().setUp()
        self.program = self.folder / "bin" / "kiro-cli"
        self.state = self.folder / "state"
        self.install("2.11.0")

    def install(self, version: str, behaviour: str = "exact") -> None:
        """
        Replace the program by another version.
        """
        if behaviour == "mute":
            script = _MUTE.format(version=version)
        else:
            command = shlex.join([sys.executable, "-m", "tests.fakeversion"])
            script = (
                f"#!/bin/sh\nexport FAKEKIRO_VERSION={version} FAKEKIRO_CANARY={behaviour}\n"
                f'exec {command} "$@"\n'
            )
        new = self.folder / "new"
        new.write_text(script)
        new.chmod(0o755)
        new.rename(self.program)

    async def start_with_canary(self, *options: str, workers: int = 2) -> None:
        usual = ("--canary", "--state-dir", str(self.state), "--check-interval", "0.2")
        await self.start(*usual, *options, workers=workers)

    async def canary(self) -> Any:
        return (await self.health())["agents"]["kiro"]["canary"]

    async def fails_everywhere(self) -> Any:
        """
        Return the response to a request; it must be 503, and ``/ready`` as well.
        """
        response, body = await self.story("refused")
        self.assertEqual(response.code, 503)
        ready, _ = await self.fetch("GET", "/ready")
        self.assertEqual(ready.code, 503)
        return body


class CanaryTests(VersionTestCase):
    """
    Tests for --canary.
    """

    timeout = 120

    async def load(self, client: int) -> list[int]:
        """
        Send one request after the other until the test ends; return the statuses.
        """
        statuses = []
        while not self.enough:
            response, _ = await self.story(f"load {client}")
            statuses.append(response.code)
            self.answers += 1
            waiting = [pair for pair in self.waiting if pair[0] <= self.answers]
            for pair in waiting:
                self.waiting.remove(pair)
                pair[1].callback(None)
        return statuses

    def more_answers(self, number: int) -> Deferred[None]:
        """
        Return a Deferred that fires after `number` more answers to the load.
        """
        waiting: Deferred[None] = Deferred()
        self.waiting.append((self.answers + number, waiting))
        return waiting

    async def test_under_load(self) -> None:
        """
        Broken versions are kept out and no request fails; a good one takes over.
        """
        self.enough, self.answers = False, 0
        self.waiting: list[tuple[int, Deferred[None]]] = []
        await self.start_with_canary("--max-requests", "3", "--startup-timeout", "3")
        self.assertIn("may serve: its canary has passed", self.server.output)
        self.assertEqual((await self.canary())["turns"], 1)
        load = gatherResults([Deferred.fromCoroutine(self.load(client)) for client in range(3)])
        await self.more_answers(5)

        self.install("2.12.0", "altered")
        await self.server.says(r"canary: kiro \(kiro-cli 2.12.0\) is refused: it altered the text")
        pids = await self.pids()
        await self.more_answers(20)
        await self.server.says(r"its restart \(gave \d answers\) waits until a new version")
        health = await self.health()
        self.assertEqual(await self.pids(), pids)
        self.assertIn("2.11.0", health["agentDetail"])
        self.assertEqual(health["canary"]["state"], "refused")
        self.assertIn("'**bold** _' became 'bold __ini'", health["canary"]["detail"])
        self.assertEqual(health["pool"]["state"], "serving")

        self.install("2.12.1", "wrong")
        await self.server.says(r"\(kiro-cli 2.12.1\) is refused: its answer cannot be used")
        self.install("2.12.2", "leaks")
        await self.server.says(r"\(kiro-cli 2.12.2\) is refused: it knows canary-0123456789abcdef")
        self.install("2.12.3", "mute")
        await self.server.says(r"\(kiro-cli 2.12.3\) is refused: its session ended: no prompt")
        self.assertEqual((await self.canary())["turns"], 4)

        os.kill(pids[0], signal.SIGTERM)
        await self.server.says("worker1: .*: session ended")
        await self.more_answers(10)
        workers = (await self.health())["workers"]
        self.assertEqual((workers["worker1"]["pid"], workers["worker2"]["pid"]), (None, pids[1]))
        # What was in a turn was sent to the other worker.
        self.assertEqual((await self.health())["pool"]["state"], "serving")

        # Its requests may have restarted it before there was a new version.
        times = self.server.output.count("worker2: ready") + 1
        self.install("2.13.0")
        await self.server.says(r"\(kiro-cli 2.13.0\) may serve: its canary has passed")
        await self.server.says("kiro has changed: answers come from .*2.13.0")
        await self.server.says("(worker2: ready[\\s\\S]*){" + f"{times}" + "}")
        await self.more_answers(10)
        self.enough = True
        statuses = [status for statuses in await load for status in statuses]
        self.assertEqual({*statuses}, {200})
        self.assertNotIn(pids[1], await self.pids())
        health = await self.health()
        self.assertIn("2.13.0", health["agentDetail"])
        self.assertEqual((health["canary"]["state"], health["canary"]["turns"]), ("accepted", 5))
        prompts = [line for line in self.typed.lines if line.startswith("Task: canary")]
        self.assertEqual(len(prompts), 5)

    async def test_first_version(self) -> None:
        """
        Without a session of an earlier version, requests fail with the reason, until a version
        passes.
        """
        self.install("2.11.0", "altered")
        self.server = self.run_twistd(
            *("--port", "0", "--canary", "--state-dir", str(self.state), "--check-interval", "0.2")
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says("is refused: it altered the text")
        body = await self.fails_everywhere()
        self.assertEqual(body["code"], "no_session")
        self.assertIn("kiro (kiro-cli 2.11.0) is not accepted (--canary)", body["error"])
        self.assertGreater(body["retryAfter"], 200)
        health = await self.health()
        self.assertEqual(health["pool"]["state"], "failed")
        self.assertEqual(health["workers"]["worker1"]["state"], "held")
        self.install("2.11.0")
        await self.server.says("worker2: ready")
        self.assertEqual((await self.story("served"))[0].code, 200)

    async def test_remembered(self) -> None:
        """
        The next server knows which version has passed; the same number in another file does not
        pass for it.
        """
        await self.start_with_canary(workers=1)
        await self.stop()
        await self.start_with_canary(workers=1)
        self.assertIn("may serve: it has passed before", self.server.output)
        self.assertEqual((await self.canary())["turns"], 0)
        await self.stop()
        self.program.write_text(self.program.read_text() + "# Another build\n")
        await self.start_with_canary(workers=1)
        self.assertEqual((await self.canary())["turns"], 1)

    async def test_throttled(self) -> None:
        """
        A failure of the account says nothing about the version: it is tried again.
        """
        await self.start_with_canary("--idle-timeout", "0.1", workers=1)
        [pid] = await self.pids()
        self.install("2.12.0", "throttled")
        await self.server.says("cannot be tried: throttled: .*no session starts")
        self.assertEqual((await self.canary())["state"], "inconclusive")
        # The circuit stays closed: the session of the earlier version may have another account.
        self.assertEqual((await self.health())["pool"]["state"], "serving")
        self.assertEqual((await self.story("served"))[0].code, 200)
        self.assertEqual(await self.pids(), [pid])

    async def test_throttled_at_first(self) -> None:
        """
        Without sessions it opens the circuit, and the next probe is another canary.
        """
        self.install("2.11.0", "throttled")
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--canary", "--state-dir", str(self.state))
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says("circuit open: throttled")
        self.assertEqual((await self.fails_everywhere())["code"], "throttled")
        self.install("2.11.0")
        await self.server.says("worker1: ready")
        self.assertEqual((await self.story("served"))[0].code, 200)

    async def test_single_use(self) -> None:
        """
        Sessions that end after each request cannot be kept: then requests get 503.
        """
        await self.start_with_canary("--reset", "recycle")
        self.assertEqual((await self.story("served"))[0].code, 200)
        self.install("2.12.0", "altered")
        await self.server.says("is refused: it altered the text")
        codes = [(await self.story("served or not"))[0].code for _ in range(5)]
        self.assertEqual(codes[-1], 503)
        self.assertIn("is not accepted", (await self.fails_everywhere())["error"])
        self.install("2.13.0")
        await self.server.says("(worker[12]: ready[\\s\\S]*){4}")
        self.assertEqual((await self.story("served"))[0].code, 200)


class UnknownVersionTests(VersionTestCase):
    """
    Tests for a program that does not say its version in time.
    """

    async def test_unchanged(self) -> None:
        """
        A running server goes on with the version that it knows.
        """
        silent, broken = self.folder / "silent", self.folder / "broken"
        script = self.program.read_text().replace(
            "export",
            f'[ "$1" = --version ] && [ -e {silent} ] && exit\n[ -e {broken} ] && exit 1\nexport',
            1,
        )
        self.program.write_text(script)
        await self.start("--restart-delay", "0.2", workers=1)
        silent.touch()
        broken.touch()
        os.kill((await self.pids())[0], signal.SIGTERM)
        await self.server.says("does not say its version; its file has not changed")
        broken.unlink()
        await self.server.says("(worker1: ready[\\s\\S]*){2}")
        self.assertEqual((await self.story("served"))[0].code, 200)
        self.assertIn("2.11.0", (await self.health())["agentDetail"])

    async def test_stop(self) -> None:
        """
        A server that stops does not wait until the program has said its version.
        """
        hangs, asked = self.folder / "hangs", self.folder / "asked"
        os.mkfifo(asked)
        script = self.program.read_text().replace(
            "export",
            f'[ -e {hangs} ] && [ "$1" = --version ] && echo > {asked} && exec sleep 1000\n'
            f"[ -e {hangs} ] && exit 1\nexport",
            1,
        )
        self.program.write_text(script)
        await self.start("--restart-delay", "0.2", workers=1)
        hangs.touch()
        os.kill((await self.pids())[0], signal.SIGTERM)
        await deferToThread(asked.read_text)
        began = real.seconds()
        await self.stop()
        # The program would have 30 seconds.
        self.assertLess(real.seconds() - began, 20)


class ProofTests(VersionTestCase):
    """
    Tests for what a server says about the version of its agent.
    """

    def write_report(self, level: Level | None) -> None:
        """
        Write a report about version 2.11.0, which fails a check with `level`.
        """
        checks = [
            CheckResult(name, Outcome.PASSED, "It was seen.", Level.LOSSY)
            for name in (*ESSENTIAL, *TOOL_CHECKS, MEMORY_CHECK)
        ]
        if level is not None:
            checks.append(CheckResult("emoji", Outcome.FAILED, "It lost one.", level))
        report = Report(
            "kiro",
            "kiro",
            "kiro-cli 2.11.0",
            "1.0",
            "loopback",
            "2026-11-29",
            "Linux",
            tuple(checks),
        )
        folder = self.state / "proofs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state.chmod(0o700)
        (folder / "kiro-2.11.0.json").write_text(write_report(report))

    async def proof(self) -> Any:
        return (await self.health())["agents"]["kiro"]["proof"]

    async def test_bad(self) -> None:
        """
        A bad version is a warning, once, and /health says what failed; another version is not
        proven.
        """
        self.write_report(Level.LOSSY)
        Path(self.state, "proofs", "broken.json").write_text("{")
        await self.start("--state-dir", str(self.state), workers=1)
        warning = "kiro: version 2.11.0 has the level lossy; failed: emoji"
        self.assertEqual(self.server.output.count(warning), 1)
        self.assertEqual(self.server.output.count("broken.json"), 1)
        expected = {
            "level": "lossy",
            "date": "2026-11-29",
            "source": "state-dir",
            "failed": ["emoji"],
        }
        self.assertEqual(await self.proof(), expected)
        self.install("2.12.0")
        os.kill((await self.pids())[0], signal.SIGTERM)
        await self.server.says("kiro: version 2.12.0 is not proven")
        self.assertEqual((await self.proof())["level"], "unproven")
        self.assertEqual((await self.health())["canary"], None)

    async def test_exact(self) -> None:
        """
        A version that its report proves exact needs no canary.
        """
        self.write_report(None)
        await self.start_with_canary(workers=1)
        self.assertIn("may serve: its report proves it exact", self.server.output)
        self.assertEqual((await self.canary())["turns"], 0)
        self.assertEqual((await self.proof())["level"], "exact")

    async def test_report_later(self) -> None:
        """
        A report that is added while a version is refused counts at the next attempt, which is at
        once if the file is touched.
        """
        self.install("2.11.0", "mute")
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--canary", "--state-dir", str(self.state)),
            *("--check-interval", "0.2", "--startup-timeout", "1"),
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says("is refused: its session ended: no prompt")
        self.assertEqual((await self.proof())["level"], "unproven")
        self.write_report(None)
        self.program.touch()
        await self.server.says("may serve: its report proves it exact")
        await self.server.says("worker1: .*: session ended: no prompt")
        self.assertEqual((await self.proof())["level"], "exact")

    async def test_offline(self) -> None:
        """
        The offline agent is part of the server: it needs neither a report nor a canary.
        """
        self.server = await self.start("--canary", "--agent", "offline", workers=1)
        agent = (await self.health())["agents"]["offline"]
        self.assertEqual((agent["proof"]["level"], agent["proof"]["source"]), ("exact", "built-in"))
        self.assertEqual((agent["canary"]["state"], agent["canary"]["turns"]), ("accepted", 0))
