"""
Tests for `bench.chaos`, and by it for whole servers.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from bench.chaos.http import Response
from bench.chaos.injector import Injector
from bench.chaos.ledger import Ledger, Sent
from bench.chaos.plan import Plan, draw
from bench.chaos.sender import Sender
from bench.chaos.world import World, read_log
from tests import LONG
from tests.programs import ROOT, environment
from tests.stepped_clock import SteppedClock


class ChaosTests(TestCase):
    """
    Tests for a short run.
    """

    timeout = 600

    async def test_nothing_forbidden(self) -> None:
        """
        While processes are killed, the disk is full, the clock is set and clients disconnect,
        every request gets its own answer, and nothing is lost or left behind.
        """
        arguments = ("-m", "bench.chaos", "--requests", "200" if LONG else "100", "--seed", "1")
        output, error, status = await getProcessOutputAndValue(
            sys.executable, arguments, environment(), str(ROOT)
        )
        # What must not happen is on standard error: it comes first, since logs are cut.
        self.assertEqual(status, 0, (error + output).decode(errors="replace"))


class PlanTests(SynchronousTestCase):
    """
    Tests for `draw`.
    """

    def test_repeatable(self) -> None:
        """
        The seed and the number of a request decide what it does.
        """
        first, second = (
            [(plan.kind, plan.agent, plan.idea()) for plan in map(partial(draw, 7), range(200))]
            for _ in range(2)
        )
        self.assertEqual(first, second)
        self.assertGreater(len({kind for kind, *_ in first}), 9)


class InjectorTests(SynchronousTestCase):
    """
    Tests for `Injector`.
    """

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        world = World(folder, (), SteppedClock(folder))
        self.injector = Injector(world, Ledger(folder), random.Random(1))

    def run_stopped(self, script: str) -> int:
        """
        Run a shell that stops itself before it runs `script`, and return its process id.
        """
        shell = subprocess.Popen(["/bin/sh", "-c", f"kill -STOP $$; {script}"])
        self.addCleanup(shell.wait)
        self.addCleanup(shell.kill)
        os.waitid(os.P_PID, shell.pid, os.WSTOPPED)
        return shell.pid

    def test_stopped_as_it_started(self) -> None:
        """
        A supervisor that was stopped and has no agent is excused if it ends when resumed.
        """
        pid = self.run_stopped("exit")
        self.assertFalse(self.injector.ends_when_resumed(pid))
        self.injector.stopped.add(pid)
        self.assertTrue(self.injector.ends_when_resumed(pid))

    def test_stopped_with_agent(self) -> None:
        """
        A supervisor that was stopped and still has an agent is not excused.
        """
        shell = ["/bin/sh", "-c", "exec 3<&0; cat <&3 & kill -STOP $$; wait"]
        with subprocess.Popen(shell, stdin=subprocess.PIPE) as process:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            self.injector.stopped.add(process.pid)
            self.assertFalse(self.injector.ends_when_resumed(process.pid))
            process.send_signal(signal.SIGCONT)


class SenderTests(SynchronousTestCase):
    """
    Tests for `Sender`, with a server that is a socket.
    """

    RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(30)
        port = self.listener.getsockname()[1]
        world = World(folder, (), SteppedClock(folder), port=port, generation=0)
        world.up.set()
        self.ledger = Ledger(folder)
        self.sender = Sender(world, self.ledger)

    def exchange(self, number: int) -> Response:
        return self.sender.exchange(draw(1, number), b"GET / HTTP/1.1\r\n\r\n", keep=True)

    def accept(self) -> socket.socket:
        connection = self.listener.accept()[0]
        self.addCleanup(connection.close)
        return connection

    def run_on_kept(self, last: bytes) -> Future[Response]:
        """
        Send a request on a connection that the server closes after it has sent `last`.
        """
        executor = ThreadPoolExecutor(1)
        self.addCleanup(executor.shutdown)
        first = executor.submit(self.exchange, 1)
        connection = self.accept()
        connection.sendall(self.RESPONSE)
        first.result()
        connection.sendall(last)
        connection.shutdown(socket.SHUT_WR)
        return executor.submit(self.exchange, 2)

    def test_closed_when_idle(self) -> None:
        """
        A request on a connection that the server closes meanwhile, as an idle one, is sent
        again on a new one.
        """
        second = self.run_on_kept(b"")
        self.accept().sendall(self.RESPONSE)
        self.assertEqual(second.result().status, 200)
        self.assertFalse(self.ledger.sent["2"].optional)

    def test_closed_in_response(self) -> None:
        """
        A request whose response has begun is not sent again when the connection ends.
        """
        second = self.run_on_kept(b"HTTP/1.1 200 OK\r\n")
        self.assertIsInstance(second.exception(), ConnectionError)
        self.assertTrue(self.ledger.sent["2"].optional)


class LedgerTests(SynchronousTestCase):
    """
    Tests for `Ledger`: what must not happen is noticed.
    """

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "turns-5").write_text("..")
        self.ledger = Ledger(folder)
        self.plan: Plan = draw(1, 5, steady=True)

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.ledger.counts.items() if count}

    def check(self, **changes: object) -> dict[str, int]:
        notes = ["0 earlier prompts remembered"]
        story = {"title": "idea 5", "iWant": "turn 2", "acceptanceCriteria": notes, **changes}
        self.ledger.check_story(self.plan, "idea 5", story)
        return self.counted()

    def test_right(self) -> None:
        """
        The answer of the latest turn, in a conversation of its own, is right.
        """
        self.assertEqual(self.check(), {})

    def test_wrong(self) -> None:
        """
        Another caller's answer is noticed.
        """
        self.assertEqual(self.check(title="idea 6"), {"wrong answers": 1})

    def test_earlier(self) -> None:
        """
        The answer of an earlier turn is noticed.
        """
        self.assertEqual(self.check(iWant="turn 1"), {"answers of an earlier turn": 1})

    def test_not_cleared(self) -> None:
        """
        An answer that remembers another prompt is noticed.
        """
        notes = ["1 earlier prompts remembered"]
        self.assertEqual(self.check(acceptanceCriteria=notes), {"conversations not cleared": 1})

    def test_log(self) -> None:
        """
        A request without a line in the log is noticed, and one with two lines or with that
        of another client.
        """
        line = '"127.0.0.1" - {} [x] "GET / HTTP/1.1" 200 5 "-" "chaos/{}" total=0.1\n'
        log = line.format("alpha", 1) + 2 * line.format("alpha", 2) + line.format("bravo", 3)
        for number in range(1, 5):
            self.ledger.note_sent(str(number), "alpha", 100.0, answered=True, optional=False)
        lines, clients, _ = read_log(log)
        self.ledger.check_log(lines, clients)
        missing = {"log lines missing": 1}
        others = {"log lines doubled": 1, "log lines of another client": 1}
        self.assertEqual(self.counted(), {**others, **missing})

    def test_json_log(self) -> None:
        """
        A log of JSON is read as one of text is.
        """
        lines = [
            '{"message":"POST /x: 200","address":"127.0.0.1","user":"alpha","userAgent":"chaos/7"}',
            '{"message":"event loop: 66 ms of CPU in a.b (70 ms, 0 ms of garbage collection)"}',
            '{"message":"GET /health: 200","userAgent":"curl/8"}',
            '{"cut off by',
        ]
        self.assertEqual(
            read_log("\n".join(lines)), (Counter({"7": 1}), {"7": "alpha"}, [(66, "a.b")])
        )

    def test_failures(self) -> None:
        """
        What clients saw of failures is kept: of responses, and of streams that end with one.
        """
        sender = Sender(World(self.ledger.turns, (), SteppedClock(self.ledger.turns)), self.ledger)
        headers = {"x-request-id": "id1"}
        for status, body in [
            (200, b"{}"),
            (503, b"{busy}"),
            (200, b'event: text\ndata: "x"\n\nevent: error\ndata: {lost}\n\n'),
        ]:
            sender.note_failure("7", "alpha", Response(status, headers, body))
        self.assertEqual(
            [(seen["id"], seen["status"], seen["body"].strip()) for seen in self.ledger.failures],
            [("id1", 503, "{busy}"), ("id1", 200, "data: {lost}")],
        )

    def missing(self, sent: dict[str, Sent], *logged: str) -> bool:
        self.ledger.sent = sent
        self.ledger.check_log(Counter(logged), dict.fromkeys(logged, "alpha"))
        return self.ledger.counts["log lines missing"] > 0

    def test_log_of_killed_server(self) -> None:
        """
        A request that was answered just before the server was killed needs no line, however
        long the server had had to write it.
        """
        self.ledger.kills.append(120.0)
        first, last = Sent("alpha", 100.0, 101.0, False), Sent("alpha", 102.0, 103.0, False)
        self.assertFalse(self.missing({"1": first, "2": last}, "1"))

    def test_log_with_gap(self) -> None:
        """
        It does need one if a request that began later has one.
        """
        self.ledger.kills.append(120.0)
        first, last = Sent("alpha", 100.0, 101.0, False), Sent("alpha", 102.0, 103.0, False)
        self.assertTrue(self.missing({"1": first, "2": last}, "2"))

    def test_log_of_next_server(self) -> None:
        """
        A line of the server that was started after the kill says nothing about earlier ones.
        """
        self.ledger.kills.append(120.0)
        first, last = Sent("alpha", 100.0, 101.0, False), Sent("alpha", 122.0, 123.0, False)
        self.assertFalse(self.missing({"1": first, "2": last}, "2"))
        self.assertTrue(self.missing({"1": first, "2": last}, "1"))

    def test_log_of_disconnected(self) -> None:
        """
        A client that disconnected has no line if the server was killed before it noticed, but
        has one otherwise.
        """
        sent = {"1": Sent("alpha", 100.0, None, False), "2": Sent("alpha", 102.0, 103.0, False)}
        self.ledger.kills.append(120.0)
        self.assertFalse(self.missing(sent, "2"))
        self.ledger.kills.clear()
        self.assertTrue(self.missing(sent, "2"))

    def test_offences(self) -> None:
        """
        The report has each event that must not happen with its evidence, and nothing else.
        """
        self.ledger.count("200", 7)
        self.assertEqual(self.ledger.offences(), [])
        self.ledger.forbid("zombies", "12")
        row, detail = self.ledger.offences()
        self.assertEqual(row.split(), ["1", "zombies"])
        self.assertTrue(detail.endswith(" zombies: 12"), detail)

    def test_callbacks(self) -> None:
        """
        A callback above the limit of CPU time is found in the log.
        """
        text = "event loop: 66 ms of CPU in a.b (70 ms, 0 ms of garbage collection)"
        self.assertEqual(read_log(text)[2], [(66, "a.b")])
