"""
End-to-end tests for ``kiroworkers ask``, run as ``python -m kiroworkers.ask``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.clean_text import clean_lines
from kiroworkers.cli.ask import InvalidArguments, ProgressReporter, build_input
from kiroworkers.client import Noticed, Queued, Retrying, Said, Started
from tests.programs import DescriptorReader, environment
from tests.servers import ServerTestCase, real, start_python

TOKEN = "a-token-of-the-tests"


class Command(ProcessProtocol):
    """
    Run the command and collect its standard output and its standard error.

    Args:
        arguments: Its arguments.
        folder: Its working directory.
        terminal: Whether its standard error is a terminal.
        closed: The standard descriptors that are closed.
        full: Whether standard output is a full disk.
        **env: Variables to add to its environment.

    Attributes:
        ended: Fires with the exit status.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        terminal: bool = False,
        closed: tuple[int, ...] = (),
        full: bool = False,
        **env: str,
    ) -> None:
        self.out, self.err = b"", b""
        self._awaited: list[tuple[bytes, Deferred[None]]] = []
        self.ended: Deferred[int] = Deferred()
        command = ["-m", "kiroworkers.ask", *arguments]
        if not (terminal or closed or full):
            start_python(self, command, environment(**env), folder)
            return
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        for descriptor in closed:
            del descriptors[descriptor]
        if full:
            descriptors[1] = os.open("/dev/full", os.O_WRONLY)
        if terminal:
            self._master, descriptors[2] = os.openpty()
            self._reader = DescriptorReader(real, self._master, self._read_terminal)
            env = {"TERM": "xterm", **env}
        real.spawnProcess(
            self,
            sys.executable,
            [sys.executable, *command],
            env=environment(**env),
            path=str(folder),
            childFDs=descriptors,
        )
        for opened in descriptors.values():
            if isinstance(opened, int):
                os.close(opened)

    def shows(self, text: str) -> Deferred[None]:
        """
        Return a Deferred that fires when standard error contains `text`.
        """
        printed: Deferred[None] = Deferred()
        self._awaited.append((text.encode(), printed))
        self._add(b"")
        return printed

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == 1:
            self.out += data
        else:
            self._add(data)

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.ended.callback(value.exitCode)

    def _add(self, data: bytes) -> None:
        self.err += data
        for expected in list(self._awaited):
            text, printed = expected
            if text in self.err:
                self._awaited.remove(expected)
                printed.callback(None)

    def _read_terminal(self) -> Any:
        try:
            self._add(os.read(self._master, 65536))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._reader.close()
            return CONNECTION_LOST
        return None


class CommandTests(ServerTestCase):
    """
    Tests for ``python -m kiroworkers.ask``.
    """

    def command(self, *arguments: str, **options: Any) -> Command:
        """
        Start the command.
        """
        usual = {"KIROWORKERS_URL": self.base}
        return Command(list(arguments), self.folder, **{**usual, **options})

    async def run_command(self, *arguments: str, **kwargs: Any) -> tuple[int, str, str]:
        """
        Run the command; return its exit status, standard output and standard error.
        """
        command = self.command(*arguments, **kwargs)
        return await command.ended, command.out.decode(), command.err.decode()

    async def test_answered(self) -> None:
        """
        The answer is printed, and nothing else; --raw prints it on one line.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story", "idea=Ein Öffner")
        self.assertEqual((status, err), (0, ""))
        self.assertIn('\n  "title": "Ein Öffner"', out)
        status, out, err = await self.run_command("generate-story", "idea=An idea", "--raw")
        self.assertEqual((status, out.count("\n"), err), (0, 1, ""))
        self.assertEqual(json.loads(out)["title"], "An idea")

    async def test_streams(self) -> None:
        """
        Without a standard output, or without a standard input that is needed, no
        request is sent and the status is 2.  If the answer cannot be printed, one
        line says so and the status is 1.  Without a standard error, progress does
        not go to standard output instead.
        """
        await self.start(workers=1)
        ask = ("generate-story", "idea=An idea")
        for arguments, closed in ((ask, (1,)), (("generate-story", "--input", "-"), (0,))):
            status, out, err = await self.run_command(*arguments, closed=closed)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("there is no standard", err)
        status, out, err = await self.run_command(*ask, full=True)
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn("cannot print the answer: [Errno 28]", err)
        status, out, err = await self.run_command(*ask, "--raw", "-v", closed=(2,))
        self.assertEqual((status, out.count("\n"), err), (0, 1, ""))

    async def test_controls(self) -> None:
        """
        An agent's answer cannot control the user's terminal, and stays the same as a value.
        """
        await self.start(workers=1)
        idea = "a\x9b2Jb\u202ec\x7f"
        status, out, _ = await self.run_command("generate-story", f"idea={idea}")
        self.assertEqual((status, json.loads(out)["title"]), (0, idea))
        self.assertEqual(out, clean_lines(out))

    async def test_input(self) -> None:
        """
        The input comes from a file and from arguments, of text and of JSON.
        """
        await self.start(workers=1)
        (self.folder / "input.json").write_text('{"idea": "from the file"}')
        status, out, _ = await self.run_command(
            "generate-story", "--input", "input.json", 'components:=["the part"]', "--priority", "9"
        )
        self.assertEqual((status, json.loads(out)["title"]), (0, "from the file"))
        await self.typed.wait_for("the part")

    async def test_standard_input(self) -> None:
        """
        The input may come from standard input.
        """
        await self.start(workers=1)
        command = self.command("generate-test", "--input", "-")
        assert command.transport is not None
        command.transport.write(b'{"story": {"title": "piped"}}')
        command.transport.closeStdin()
        self.assertEqual(await command.ended, 0)
        self.assertEqual(json.loads(command.out)["title"], "piped")

    async def test_terminal(self) -> None:
        """
        On a terminal, one line shows the progress, and is erased in the end.
        """
        await self.start(workers=1)
        first = self.story("the first [[silent]]")
        await self.typed.wait_for("the first")
        command = self.command("generate-story", "idea=second", terminal=True)
        await command.shows("number 1 in the queue")
        first.cancel()
        await self.assertFailure(first, Exception)
        self.assertEqual((await command.ended, json.loads(command.out)["title"]), (0, "second"))
        self.assertTrue(command.err.endswith(b"\x1b[1A\x1b[2K"), repr(command.err[-60:]))

    async def test_verbose(self) -> None:
        """
        Without a terminal, -v prints the progress in many lines.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story", "idea=An idea", "-v")
        self.assertEqual((status, json.loads(out)["title"]), (0, "An idea"))
        progress = r"^worker1 has the request\n(worker1 is answering: \d+ characters\n)+$"
        self.assertRegex(err, progress)

    async def test_refused(self) -> None:
        """
        If the server refuses a request, or the agent fails to answer it, the status is 1.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story")
        self.assertEqual((status, out, err), (1, "", "Idea is required [invalid_input]\n"))
        status, out, err = await self.run_command("generate-story", "idea=[[lame]]", terminal=True)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("storyPoint must be at most 8 [answer_unfit]", re.sub(r"\s+", " ", err))

    async def test_model(self) -> None:
        """
        The model that is chosen is sent to the server, which refuses it if clients may not.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story", "idea=x", "--model", "gpt-5")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("the model 'gpt-5' is not available from agent kiro [unknown_model]", err)

    async def test_usage(self) -> None:
        """
        For a task that the server does not have, the status is 2 and the error suggests
        another; for an invalid command line, the status is 2, too.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-stroy", "idea=An idea")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("did you mean generate-story?", err)
        for wrong in (["idea"], ["--priority", "10"], ["--timeout", "0"], ["--url", "here"]):
            status, out, err = await self.run_command("generate-story", *wrong)
            self.assertEqual((status, out), (2, ""), err)

    async def test_busy(self) -> None:
        """
        If no worker can answer now, or nothing listens, the status is 3; with
        --patience the request is sent again.
        """
        await self.start("--backlog", "0", workers=1)
        first = self.story("the first [[silent]]", headers={"X-Request-Timeout": "50"})
        await self.typed.wait_for("the first")
        status, out, err = await self.run_command("generate-story", "idea=An idea")
        self.assertEqual((status, out), (3, ""))
        reason = r"^All workers busy, try again \[all_workers_busy\] \(retry in \d+ s\)\n$"
        self.assertRegex(err, reason)
        command = self.command("generate-story", "idea=An idea", "--patience", "50", "-v")
        await command.shows("trying again in")
        first.cancel()
        self.assertEqual((await command.ended, json.loads(command.out)["title"]), (0, "An idea"))
        await self.assertFailure(first, Exception)
        await self.stop()
        status, out, err = await self.run_command("generate-story", "idea=An idea")
        self.assertEqual((status, out), (3, ""))
        self.assertIn("[unreachable]", err)

    async def test_late(self) -> None:
        """
        If there is no answer in time, the status is 4.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command(
            "generate-story", "idea=[[silent]]", "--timeout", "0.5"
        )
        self.assertEqual((status, out), (4, ""))
        self.assertRegex(err, r"^No answer within 0\.5 seconds \[timed_out\]\n$")

    async def test_interrupted(self) -> None:
        """
        Ctrl-C and SIGTERM cancel the request: its session is interrupted, and answers the
        next request.
        """
        await self.start(workers=1)
        pids = await self.pids()
        for name, expected, terminal in (("INT", 130, True), ("TERM", 143, False)):
            command = self.command("generate-story", f"idea={name} [[silent]]", terminal=terminal)
            await self.typed.wait_for(f"{name} [[silent]]")
            assert command.transport is not None
            command.transport.signalProcess(name)
            self.assertEqual((await command.ended, command.out), (expected, b""))
            _, story = await self.story("the next")
            self.assertEqual(story["title"], "the next")
        self.assertEqual(await self.pids(), pids)

    async def test_token(self) -> None:
        """
        The token comes from a file or from the environment; --agent names the agent
        that is to answer.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"tests ask,watch {TOKEN}\n")
        (self.folder / "token").write_text(f"{TOKEN}\n")
        await self.start("--token-file", str(tokens), "--agent", "offline", workers=1)
        request = ["generate-story", "idea=An idea", "--agent", "offline"]
        status, _, err = await self.run_command(*request)
        self.assertEqual(status, 1, err)
        status, _, err = await self.run_command(*request, KIROWORKERS_TOKEN=TOKEN)
        self.assertEqual(status, 0, err)
        status, _, err = await self.run_command(*request, "--token-file", "token")
        self.assertEqual(status, 0, err)
        status, _, err = await self.run_command(*request, "--token-file", str(tokens))
        self.assertEqual(status, 2, err)
        self.assertNotIn(TOKEN, err)


class ExtraTests(SynchronousTestCase):
    """
    Tests for the command without the packages that it needs.
    """

    def test_missing(self) -> None:
        """
        The error names the missing package and how to install it.
        """
        run = "import sys; sys.modules['treq'] = None; import kiroworkers.ask"
        command = [sys.executable, "-c", run]
        done = subprocess.run(command, env=environment(), capture_output=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"treq is missing: pip install 'kiroworkers[client]'\n")


class ReporterTests(SynchronousTestCase):
    """
    Tests for `ProgressReporter`.
    """

    def test_lines(self) -> None:
        """
        Each event is one line; text that is void no longer counts.
        """
        lines: list[str] = []
        reporter = ProgressReporter(lines.append)
        for event in (
            Queued(2, 3.4),
            Started("worker1", 1),
            Said("abc"),
            Noticed("stall", "the agent's service is silent"),
            Retrying("the service restarted its answer"),
            Said("de"),
        ):
            reporter.watch(event)
        self.assertEqual(
            lines,
            [
                "waiting: number 2 in the queue, about 3 s",
                "worker1 has the request",
                "worker1 is answering: 3 characters",
                "worker1: the agent's service is silent",
                "trying again: the service restarted its answer",
                "worker1 is answering: 2 characters",
            ],
        )


class InputTests(SynchronousTestCase):
    """
    Tests for `build_input`.
    """

    def test_pairs(self) -> None:
        """
        A member is the text after `=`, whatever it contains, or the JSON after `:=`.
        """
        members = build_input(["a=1", "b:=1", "c=x=y:=z", "d:={}", "e="], None)
        self.assertEqual(members, {"a": "1", "b": 1, "c": "x=y:=z", "d": {}, "e": ""})

    def test_invalid_argument(self) -> None:
        """
        An argument that is not a pair is refused.
        """
        for pair in ("a", "=a", ":=1", "a:=", "a:={", "a=\udcff"):
            with self.assertRaises(InvalidArguments):
                build_input([pair], None)

    def test_files(self) -> None:
        """
        An input file must hold one JSON object.
        """
        path = Path(self.mktemp())
        with self.assertRaises(InvalidArguments):
            build_input([], str(path))
        for text in ("", "[]", "{"):
            path.write_text(text)
            with self.assertRaises(InvalidArguments):
                build_input([], str(path))
        path.write_text('{"a": 1, "b": 2}')
        self.assertEqual(build_input(["b=3"], str(path)), {"a": 1, "b": "3"})
