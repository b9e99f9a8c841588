"""
Tests for ``kiroworkers mcp``, with real servers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.mcp import main, make_target
from tests.programs import environment
from tests.servers import ServerTestCase, start_python

_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test"}}


class Bridge(ProcessProtocol):
    """
    Run the command as a desktop agent does.

    Attributes:
        messages: What it has written to standard output, one decoded message a line.
        error_output: What it has written to standard error.
        ended: Fires with the exit status.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, **env: str) -> None:
        self.messages: list[Any] = []
        self.error_output = ""
        self.ended: Deferred[int] = Deferred()
        self._output = b""
        self._awaited: list[tuple[int, Deferred[None]]] = []
        command = ["-m", "kiroworkers", "mcp", *arguments]
        start_python(self, command, environment(**env), folder)

    def send(self, *messages: Any, size: int = 10**6) -> None:
        """
        Write messages, in pieces of `size` bytes; bytes as they are.
        """
        for message in messages:
            data = message
            if isinstance(message, dict):
                data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
            for start in range(0, len(data), size):
                self._transport.write(data[start : start + size])

    def has_written(self, count: int) -> Deferred[None]:
        """
        Return a Deferred that fires when there are so many messages.
        """
        written: Deferred[None] = Deferred()
        self._awaited.append((count, written))
        self._check()
        return written

    async def finish(self) -> int:
        """
        Close standard input, and return the exit status.
        """
        self._transport.closeStdin()
        return await self.ended

    def signal(self, name: str) -> None:
        """
        Send a signal, named without SIG.
        """
        self._transport.signalProcess(name)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == 2:
            self.error_output += data.decode()
            return
        *lines, self._output = (self._output + data).split(b"\n")
        self.messages += [json.loads(line) for line in lines]
        self._check()

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        awaited, self._awaited = self._awaited, []
        for _, written in awaited:
            written.errback(RuntimeError(f"ended: {self.messages} {self.error_output}"))
        self.ended.callback(value.exitCode)

    @property
    def _transport(self) -> Any:
        return self.transport

    def _check(self) -> None:
        for count, written in list(self._awaited):
            if len(self.messages) >= count:
                self._awaited.remove((count, written))
                written.callback(None)


def request(id: int, method: str, **params: Any) -> dict[str, Any]:
    """
    Return a request.
    """
    return {"id": id, "method": method, "params": params}


def call(id: int, idea: str, **others: Any) -> dict[str, Any]:
    """
    Return a call of the task that makes stories.
    """
    return request(id, "tools/call", name="generate-story", arguments={"idea": idea}, **others)


HANDSHAKE = (request(0, "initialize", **_HELLO), {"method": "notifications/initialized"})


class CommandTests(ServerTestCase):
    """
    Tests for the command.
    """

    def bridge(self, *arguments: str, **env: str) -> Bridge:
        """
        Start the command for the server.
        """
        bridge = Bridge(["--url", self.base, *arguments], self.folder, **env)
        self.addCleanup(self._end, bridge)
        return bridge

    async def _end(self, bridge: Bridge) -> None:
        if not bridge.ended.called:
            bridge.signal("KILL")
            await bridge.ended

    async def test_messages(self) -> None:
        """
        Messages may come in any pieces, and end with standard input; what is none gets an error,
        and the others their answers.  There is nothing else on standard output, and nothing on
        standard error.
        """
        await self.start(workers=1)
        bridge = self.bridge("--priority", "9", "--timeout", "60")
        bridge.send(*HANDSHAKE, call(1, "Öffner \u2028"), size=7)
        await bridge.has_written(2)
        huge = json.dumps(call(2, "x" * 9 * 1024**2)).encode() + b"\n"
        bridge.send(huge, b"hello\n\n\xff\n", request(3, "tools/list"))
        await bridge.has_written(6)
        # The last line has no end.
        bridge.send(b'{"jsonrpc": "2.0", "id": 4, "method": "ping"}')
        self.assertEqual((await bridge.finish(), bridge.error_output), (0, ""))
        hello, story, *errors = bridge.messages[:5]
        self.assertEqual(hello["result"]["protocolVersion"], "2025-11-25")
        self.assertEqual(story["result"]["structuredContent"]["title"], "Öffner \u2028")
        self.assertEqual([error["error"]["code"] for error in errors], [-32600, -32700, -32700])
        tools, pong = bridge.messages[5:]
        self.assertEqual((tools["id"], pong["id"], pong["result"]), (3, 4, {}))

    async def test_end_of_input(self) -> None:
        """
        At the end of standard input, a call that lasts is cancelled: the worker is free again.
        """
        await self.start(workers=1)
        bridge = self.bridge()
        bridge.send(*HANDSHAKE, call(1, "to give up [[silent]]"))
        await self.typed.wait_for("to give up")
        self.assertEqual((await bridge.finish(), bridge.error_output), (0, ""))
        self.assertEqual([message["id"] for message in bridge.messages], [0])
        _, story = await self.story("the next")
        self.assertEqual(story["title"], "the next")

    async def test_terminated(self) -> None:
        """
        SIGTERM ends the command at once, and what it has forwarded.
        """
        await self.start(workers=1)
        bridge = self.bridge()
        bridge.send(*HANDSHAKE, call(1, "to give up [[silent]]"))
        await self.typed.wait_for("to give up")
        bridge.signal("TERM")
        self.assertEqual(await bridge.ended, 143)
        self.assertEqual([message["id"] for message in bridge.messages], [0])
        _, story = await self.story("the next")
        self.assertEqual(story["title"], "the next")

    async def test_restarted_server(self) -> None:
        """
        While the server is down, calls get an error that says so; after its restart they are
        answered in a new session.
        """
        await self.start(workers=1)
        bridge = self.bridge()
        bridge.send(*HANDSHAKE, call(1, "before"))
        await bridge.has_written(2)
        await self.stop()
        bridge.send(call(2, "meanwhile"))
        await bridge.has_written(3)
        self.assertIn(f"cannot reach {self.base}/mcp", bridge.messages[2]["error"]["message"])
        # The later option counts.
        await self.start("--port", self.base.rpartition(":")[2], workers=1)
        bridge.send(call(3, "after"))
        await bridge.has_written(4)
        self.assertEqual(bridge.messages[3]["result"]["structuredContent"]["title"], "after")
        self.assertEqual(await bridge.finish(), 0)
        self.assertIn("there is a new one", bridge.error_output)


class ArgumentTests(SynchronousTestCase):
    """
    Tests for the arguments.
    """

    def refused(self, *arguments: str) -> str:
        """
        Return the error of a command line that is invalid.
        """
        with redirect_stderr(StringIO()) as printed, self.assertRaises(SystemExit) as caught:
            main(arguments)
        self.assertEqual(caught.exception.code, 2)
        return printed.getvalue()

    def test_invalid(self) -> None:
        """
        Invalid arguments are refused before anything is sent.
        """
        for arguments, part in (
            (["--url", "127.0.0.1:8080"], "not an address"),
            (["--token-file", "/nonexistent"], "--token-file"),
            (["--timeout", "0"], "--timeout"),
            (["--priority", "10"], "--priority"),
            (["surplus"], "surplus"),
        ):
            self.assertIn(part, self.refused(*arguments))

    def test_no_streams(self) -> None:
        """
        Standard input and output are needed.
        """
        for name in ("stdin", "stdout"):
            with self.subTest(name):
                self.patch(sys, name, None)
                self.assertIn("no standard", self.refused())
                self.patch(sys, name, getattr(sys, f"__{name}__"))

    def test_target(self) -> None:
        """
        The address may be that of the server or of its MCP endpoint; the options of calls are
        headers, and time-outs leave the server time to report its own.
        """
        none = argparse.Namespace(agent=None, model=None, priority=None, timeout=None)
        for url in ("http://a:1", "http://a:1/", "http://a:1/mcp", "http://a:1/mcp/"):
            target = make_target(url, None, none)
            self.assertEqual((target.url, target.headers), ("http://a:1/mcp", {}))
            self.assertEqual((target.call_headers, target.call_timeout), ({}, None))
        given = argparse.Namespace(agent="kiro", model="auto", priority=0, timeout=1.5)
        target = make_target("https://a/b", "T", given)
        self.assertEqual(target.url, "https://a/b/mcp")
        self.assertEqual(target.headers, {"Authorization": "Bearer T"})
        self.assertEqual(
            target.call_headers,
            {
                "X-Agent": "kiro",
                "X-Model": "auto",
                "X-Priority": "0",
                "X-Request-Timeout": "1.500",
            },
        )
        self.assertEqual(target.call_timeout, 6.5)
