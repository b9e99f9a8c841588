"""
The command that asks, as a real process against a real server.
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

from kiroworkers.cli.ask import InvalidArguments, input_of, plain
from tests.programs import _Reader, environment
from tests.servers import ServerTestCase, real

TOKEN = "a-token-of-the-tests"


class Command(ProcessProtocol):
    """
    The command, with its standard output and its standard error apart; the
    latter is a terminal where `terminal` says so.

    Attributes:
        ended: fires with the exit status.

    Args:
        closed: what it has not of the two, and standard input.
        full: is standard output a disk that is full?
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
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        for each in closed:
            del descriptors[each]
        if full:
            descriptors[1] = os.open("/dev/full", os.O_WRONLY)
        if terminal:
            self._master, descriptors[2] = os.openpty()
            self._reader = _Reader(real, self._master, self._read_terminal)
            env = {"TERM": "xterm", **env}
        real.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-m", "kiroworkers.ask", *arguments],
            env=environment(**env),
            path=str(folder),
            childFDs=descriptors,
        )
        for opened in descriptors.values():
            if isinstance(opened, int):
                os.close(opened)

    def shows(self, text: str) -> Deferred[None]:
        """
        Fires when standard error holds `text`.
        """
        shown: Deferred[None] = Deferred()
        self._awaited.append((text.encode(), shown))
        self._add(b"")
        return shown

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
        for each in list(self._awaited):
            if each[0] in self.err:
                self._awaited.remove(each)
                each[1].callback(None)

    def _read_terminal(self) -> Any:
        try:
            self._add(os.read(self._master, 65536))
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise
            self._reader.close()
            return CONNECTION_LOST
        return None


class CommandTests(ServerTestCase):
    """
    Tests for ``python -m kiroworkers.ask``.
    """

    def command(self, *arguments: str, **given: Any) -> Command:
        """
        The command, under way.
        """
        usual = {"KIROWORKERS_URL": self.base}
        return Command(list(arguments), self.folder, **{**usual, **given})

    async def run_command(self, *arguments: str, **kwargs: Any) -> tuple[int, str, str]:
        """
        Its exit status, its standard output and its standard error.
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
        Without a standard output, or a standard input that is wanted, nothing is
        asked: 2.  An answer that cannot be printed is told in a sentence, with 1;
        and where there is no standard error, nothing goes to the output instead.
        """
        await self.start(workers=1)
        ask = ("generate-story", "idea=An idea")
        for arguments, closed in ((ask, (1,)), (("generate-story", "--input", "-"), (0,))):
            status, out, err = await self.run_command(*arguments, closed=closed)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("there is no standard", err)
        status, out, err = await self.run_command(*ask, full=True)
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn("the answer cannot be printed: [Errno 28]", err)
        status, out, err = await self.run_command(*ask, "--raw", "-v", closed=(2,))
        self.assertEqual((status, out.count("\n"), err), (0, 1, ""))

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
        await self.typed.heard("the part")

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
        On a terminal a line shows what becomes of the request, and goes at its end.
        """
        await self.start(workers=1)
        first = self.story("the first [[silent]]")
        await self.typed.heard("the first")
        command = self.command("generate-story", "idea=second", terminal=True)
        await command.shows("number 1 in the queue")
        first.cancel()
        await self.assertFailure(first, Exception)
        self.assertEqual((await command.ended, json.loads(command.out)["title"]), (0, "second"))
        self.assertTrue(command.err.endswith(b"\x1b[1A\x1b[2K"), repr(command.err[-60:]))

    async def test_verbose(self) -> None:
        """
        Elsewhere -v tells it in lines.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story", "idea=An idea", "-v")
        self.assertEqual((status, json.loads(out)["title"]), (0, "An idea"))
        self.assertRegex(err, r"^worker1 is asked\n(worker1 answers: \d+ characters\n)+$")

    async def test_refused(self) -> None:
        """
        What the server refuses, or the agent fails at, ends with 1.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command("generate-story")
        self.assertEqual((status, out, err), (1, "", "Idea is required [invalid_input]\n"))
        status, out, err = await self.run_command("generate-story", "idea=[[lame]]", terminal=True)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("storyPoint must be at most 8 [answer_unfit]", re.sub(r"\s+", " ", err))

    async def test_usage(self) -> None:
        """
        A task that the server does not have ends with 2, and a hint; so does a
        command line that makes no sense.
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
        Where nobody can answer now, or nothing listens, the status is 3; with
        --patience it is tried again.
        """
        await self.start("--backlog", "0", workers=1)
        first = self.story("the first [[silent]]", headers={"X-Request-Timeout": "50"})
        await self.typed.heard("the first")
        status, out, err = await self.run_command("generate-story", "idea=An idea")
        self.assertEqual((status, out), (3, ""))
        self.assertRegex(err, r"^All workers busy, try again \[all_workers_busy\] \(in \d+ s\)\n$")
        command = self.command("generate-story", "idea=An idea", "--patience", "50", "-v")
        await command.shows("once more in")
        first.cancel()
        self.assertEqual((await command.ended, json.loads(command.out)["title"]), (0, "An idea"))
        await self.assertFailure(first, Exception)
        await self.stop()
        status, out, err = await self.run_command("generate-story", "idea=An idea")
        self.assertEqual((status, out), (3, ""))
        self.assertIn("[unreachable]", err)

    async def test_late(self) -> None:
        """
        No answer in time ends with 4.
        """
        await self.start(workers=1)
        status, out, err = await self.run_command(
            "generate-story", "idea=[[silent]]", "--timeout", "0.5"
        )
        self.assertEqual((status, out), (4, ""))
        self.assertRegex(err, r"^No answer within 0\.5 seconds \[timed_out\]\n$")

    async def test_interrupted(self) -> None:
        """
        Ctrl-C gives the request up, and so does SIGTERM: the session is interrupted,
        and answers the next.
        """
        await self.start(workers=1)
        pids = await self.pids()
        for name, expected, terminal in (("INT", 130, True), ("TERM", 143, False)):
            command = self.command("generate-story", f"idea={name} [[silent]]", terminal=terminal)
            await self.typed.heard(f"{name} [[silent]]")
            assert command.transport is not None
            command.transport.signalProcess(name)
            self.assertEqual((await command.ended, command.out), (expected, b""))
            _, story = await self.story("the next")
            self.assertEqual(story["title"], "the next")
        self.assertEqual(await self.pids(), pids)

    async def test_token(self) -> None:
        """
        The token comes from a file or from the environment; --agent names who is to
        answer.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"tests ask,watch {TOKEN}\n")
        (self.folder / "token").write_text(f"{TOKEN}\n")
        await self.start("--token-file", str(tokens), "--agent", "offline", workers=1)
        asked = ["generate-story", "idea=An idea", "--agent", "offline"]
        status, _, err = await self.run_command(*asked)
        self.assertEqual(status, 1, err)
        status, _, err = await self.run_command(*asked, KIROWORKERS_TOKEN=TOKEN)
        self.assertEqual(status, 0, err)
        status, _, err = await self.run_command(*asked, "--token-file", "token")
        self.assertEqual(status, 0, err)
        status, _, err = await self.run_command(*asked, "--token-file", str(tokens))
        self.assertEqual(status, 2, err)
        self.assertNotIn(TOKEN, err)


class ExtraTests(SynchronousTestCase):
    """
    Tests for a machine that lacks what the command needs.
    """

    def test_missing(self) -> None:
        """
        What is missing is named, and how to get it.
        """
        run = "import sys; sys.modules['treq'] = None; import kiroworkers.ask"
        command = [sys.executable, "-c", run]
        done = subprocess.run(command, env=environment(), capture_output=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"treq is missing: pip install 'kiroworkers[client]'\n")


class PlainTests(SynchronousTestCase):
    """
    Tests for `plain`.
    """

    def test_controls(self) -> None:
        """
        What is shown controls no terminal.
        """
        self.assertEqual(plain("a\x1b[2J\r\nb\x9b\x07é"), "a [2J b é")


class InputTests(SynchronousTestCase):
    """
    Tests for `input_of`.
    """

    def test_pairs(self) -> None:
        """
        Text is text, whatever is in it; JSON is JSON.
        """
        found = input_of(["a=1", "b:=1", "c=x=y:=z", "d:={}", "e="], None)
        self.assertEqual(found, {"a": "1", "b": 1, "c": "x=y:=z", "d": {}, "e": ""})

    def test_unusable(self) -> None:
        """
        What is no pair is named.
        """
        for pair in ("a", "=a", ":=1", "a:=", "a:={", "a=\udcff"):
            with self.assertRaises(InvalidArguments):
                input_of([pair], None)

    def test_files(self) -> None:
        """
        A file holds one JSON object.
        """
        path = Path(self.mktemp())
        with self.assertRaises(InvalidArguments):
            input_of([], str(path))
        for text in ("", "[]", "{"):
            path.write_text(text)
            with self.assertRaises(InvalidArguments):
                input_of([], str(path))
        path.write_text('{"a": 1, "b": 2}')
        self.assertEqual(input_of(["b=3"], str(path)), {"a": 1, "b": "3"})
