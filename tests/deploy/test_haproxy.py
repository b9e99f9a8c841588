"""
Tests for several servers behind HAProxy, with the configuration in ``deploy/``.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import treq
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.errors import CATALOGUE
from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY
from kiroworkers.settings import Settings
from tests import haproxy
from tests.haproxy import HAProxy
from tests.programs import Program
from tests.servers import ServerTestCase, real
from tests.websockets import open_websocket

#: The number of requests at once, and what each stand-in does with one.
_REQUESTS, _WORK = 40, "[[think=0.2]]"

_TOKEN = "0123456789abcdef-admin"
_OPERATOR = {"Authorization": f"Bearer {_TOKEN}"}


class ConfigurationTests(SynchronousTestCase):
    """
    Tests for the configuration, compared with the server.
    """

    def setUp(self) -> None:
        self.text = haproxy.CONFIGURATION.read_text(encoding="utf-8")

    def seconds(self, name: str) -> float:
        """
        Return a time of the configuration.
        """
        [(number, unit)] = re.findall(rf"\b{name} (\d+)(s|ms)\b", self.text)
        return float(number) * {"s": 1, "ms": 0.001}[unit]

    def test_times(self) -> None:
        """
        HAProxy waits longer for an answer than the server, closes idle connections before it, and
        its checks see within --lame-duck that a server stops.
        """
        settings = Settings(trusted_proxy=("127.0.0.1",))
        for name in ("timeout server", "timeout client"):
            self.assertGreater(self.seconds(name), settings.request_timeout)
        self.assertLess(self.seconds("timeout http-keep-alive"), 60)
        [fall] = re.findall(r"\bfall (\d+)", self.text)
        noticed = self.seconds("inter") + (int(fall) - 1) * self.seconds("fastinter")
        self.assertLess(2 * noticed, settings.lame_duck_time)

    def test_priority(self) -> None:
        """
        A request with the default priority waits as one without any, and none waits for ever.
        """
        [(step, base)] = re.findall(r"mul\(-(\d+)\),add\((\d+)\)", self.text)
        self.assertEqual(int(base), DEFAULT_PRIORITY * int(step))
        self.assertLess(9 * int(step) / 1000, self.seconds("timeout queue"))

    def test_traps(self) -> None:
        """
        Nothing ends requests that are being answered, or sends one again that may have been
        answered.
        """
        settings = re.sub(r"^ *#.*", "", self.text, flags=re.M)
        self.assertNotIn("shutdown-sessions", settings)
        self.assertEqual(re.findall(r"retry-on (.*)", settings), ["conn-failure 503"])
        for line in re.findall(r"http-error .*", settings):
            status, _, text = line.removeprefix("http-error status ").partition(" ")
            self.assertEqual("Retry-After" in line, status == "503")
            body = json.loads(re.findall("string '(.*)'", text)[0])
            self.assertEqual("retryAfter" in body, status == "503")
            code = {str(code): code for code in CATALOGUE}.get(body["code"])
            self.assertIn(status, [str(code.status)] if code is not None else ["502"])


class StoryStream(Protocol):
    """
    Request a story as a stream of events.

    Attributes:
        started: Fires when an agent has begun with it.

    Args:
        idea: The idea.
        headers: Headers to send.
    """

    def __init__(self, idea: str, headers: Mapping[str, str]) -> None:
        self.started: Deferred[None] = Deferred()
        self._received = b""
        body = json.dumps({"idea": idea})
        lines = {
            "Host": "localhost",
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = f"POST /kiro/generate-story HTTP/1.1\r\n{head}\r\n{body}".encode()

    def connectionMade(self) -> None:
        """
        Send the request.
        """
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """
        Note the first event of a turn.
        """
        self._received += data
        if b"event: started" in self._received and not self.started.called:
            self.started.callback(None)


class ProxyTestCase(ServerTestCase):
    """
    Start three servers with two sessions each behind HAProxy.

    Attributes:
        servers: The servers.
        direct: Their own URLs.
        proxy: HAProxy; `base` is its URL.
    """

    async def start_all(self, *options: str) -> None:
        """
        Start the servers with `options`, and HAProxy.
        """
        if haproxy.SKIP is not None:
            raise SkipTest(haproxy.SKIP)
        usual = ("--port", "0", "--workers", "2", "--trusted-proxy", "127.0.0.1")
        self.servers = [
            self.run_twistd(*usual, "--graceful-timeout", "20", *options) for _ in haproxy.NAMES
        ]
        for server in self.servers:
            self.addCleanup(self.end, server)
        ports = []
        for server in self.servers:
            ports.append(int((await server.says(r"listening on .*port=(\d+)"))[1]))
            await server.says("(?:worker[12]: ready[\\s\\S]*){2}")
        self.direct = [f"http://127.0.0.1:{port}" for port in ports]
        proxy = self.proxy = HAProxy(self.folder / "haproxy.cfg", ports)
        self.folder.chmod(0o755)
        self.addCleanup(lambda: proxy.ended if proxy.ended.called else proxy.signal("TERM"))
        await proxy.run(real)
        self.base = f"http://127.0.0.1:{self.proxy.port}"

    async def end(self, server: Program) -> None:
        """
        Stop a server at once, unless it has ended.
        """
        # The same signal twice could arrive as one.
        for name in ("INT", "TERM"):
            if not server.ended.called:
                with contextlib.suppress(ProcessExitedAlready):
                    server.signal(name)
        await server.ended

    def stories(self, *ideas: str, **kwargs: Any) -> list[Deferred[tuple[Any, Any]]]:
        """
        Request a story for each idea at once.
        """
        return [self.story(idea, **kwargs) for idea in ideas]

    def asked(self, ideas: list[str]) -> list[int]:
        """
        Return how often each of `ideas` was sent to an agent.
        """
        counts = Counter(
            idea for line in self.typed.lines for idea in re.findall(r'"idea": ?"(\w+)', line)
        )
        return [counts[idea.split()[0]] for idea in ideas]

    def occupy(self, base: str, name: str) -> Deferred[None]:
        """
        Occupy both sessions of a server, past HAProxy.
        """
        for number in "12":
            asking = treq.post(
                f"{base}/kiro/generate-story",
                json={"idea": f"{name}{number} [[silent]]"},
                persistent=False,
            )
            # It fails when the server is stopped.
            asking.addBoth(lambda _: None)
        return gatherResults(
            [self.typed.wait_for(f"{name}{number} ") for number in "12"]
        ).addCallback(lambda _: None)


class LossTests(ProxyTestCase):
    """
    Tests for a server or an HAProxy that ends while it has requests.
    """

    async def test_replaced(self) -> None:
        """
        HAProxy is reloaded and a server is stopped under load: every request is answered, and no
        agent is asked twice.
        """
        await self.start_all()
        ideas = [f"idea{number} {_WORK}" for number in range(_REQUESTS)]
        first = self.stories(*ideas[:20])
        await gatherResults(first[:3])
        await self.proxy.reload()
        rest = self.stories(*ideas[20:])
        await gatherResults(rest[:3])
        self.servers[0].signal("TERM")
        # Some come before the server is known to stop, and it answers them.
        late = [f"late{number} {_WORK}" for number in range(12)]
        answers = await gatherResults([*first, *rest, *self.stories(*late)])
        self.assertEqual(Counter(response.code for response, _ in answers), {200: len(answers)})
        self.assertEqual([body["title"] for _, body in answers], ideas + late)
        self.assertEqual(self.asked(ideas + late), [1] * len(answers))
        self.assertEqual(await self.servers[0].ended, 0, self.servers[0].output)

    async def test_killed(self) -> None:
        """
        A server is killed under load: only the requests that it was answering fail, with 502 and
        without ``Retry-After``, and no agent is asked twice; the others find room elsewhere.
        """
        await self.start_all()
        ideas = [f"held{number} [[think=2]]" for number in range(6)]
        asking = self.stories(*ideas)
        await gatherResults([self.typed.wait_for(f"held{number} ") for number in range(6)])
        ideas += [f"idea{number} {_WORK}" for number in range(_REQUESTS)]
        asking += self.stories(*ideas[6:])
        self.servers[0].signal("KILL")
        await self.servers[0].ended
        answers = await gatherResults(asking)
        failed = [idea for idea, (response, _) in zip(ideas, answers, strict=True)
                  if response.code != 200]  # fmt: skip
        # Both sessions were busy; two more requests may have been on their way.
        self.assertLessEqual(2, len(failed))
        self.assertLessEqual(len(failed), 4)
        for idea, (response, body) in zip(ideas, answers, strict=True):
            if response.code == 200:
                self.assertEqual(body["title"], idea)
            else:
                self.assertEqual((response.code, body["code"]), (502, "unknown"))
                self.assertFalse(response.headers.hasHeader("retry-after"))
        self.assertLessEqual({*self.asked(ideas)}, {0, 1})
        again = await gatherResults(self.stories(*failed))
        self.assertEqual([response.code for response, _ in again], [200] * len(failed))


class QueueTests(ProxyTestCase):
    """
    Tests for requests that find no session that is idle at once.
    """

    async def test_full(self) -> None:
        """
        A request that a server refuses is answered by another; if all refuse it, the client gets
        the response of a server.
        """
        await self.start_all("--backlog", "0")
        await self.occupy(self.direct[0], "a")
        ideas = [f"idea{number} {_WORK}" for number in range(4)]
        answers = [await asking for asking in self.stories(*ideas)]
        self.assertEqual([body.get("title") for _, body in answers], ideas)
        await self.occupy(self.direct[1], "b")
        await self.occupy(self.direct[2], "c")
        response, body = await self.story("nobody")
        self.assertEqual((response.code, body["code"]), (503, "all_workers_busy"))
        self.assertIn("requestId", body)
        self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))
        self.assertEqual(self.asked([*ideas, "nobody"]), [1, 1, 1, 1, 0])

    async def test_queue(self) -> None:
        """
        Requests wait in HAProxy by priority, and none of a client that has left is sent; jobs and
        everything else pass by.  Streams and WebSockets pass through, and operators do not.
        Sessions stay on one server.
        """
        (self.folder / "tokens").write_text(f"admin operate,ask {_TOKEN}\n", encoding="utf-8")
        await self.start_all("--token-file", "tokens")
        await self.check_sessions()
        # In a stream, the headers and the first event come long before the answer.
        stream = StoryStream("streamed [[silent]]", {**_OPERATOR, "X-Request-ID": "stream"})
        endpoint = TCP4ClientEndpoint(real, "127.0.0.1", self.proxy.port)
        await connectProtocol(endpoint, stream)
        await stream.started
        # One session becomes idle before the others, so it takes both requests that wait.
        ideas = [f"busy{number} [[think={5 if number else 3}]]" for number in range(5)]
        busy = self.stories(*ideas, headers=_OPERATOR)
        for number in range(5):
            await self.typed.wait_for(f"busy{number} ")
        waiting = [
            self.story(f"{name} {_WORK}", headers={**_OPERATOR, "X-Priority": priority})
            for name, priority in (("low", "0"), ("gone", "5"), ("high", "9"))
        ]
        response, _ = await self.fetch("GET", "/ready")
        self.assertEqual(response.code, 200)
        response, _ = await self.story("job", headers={**_OPERATOR, "Prefer": "respond-async"})
        self.assertEqual(response.code, 202)
        forged = {**_OPERATOR, "X-Forwarded-For": "192.0.2.9", "Forwarded": "for=192.0.2.9"}
        response, _ = await self.fetch("GET", "/jobs", headers=forged)
        self.assertEqual(response.code, 200)
        response, body = await self.fetch("GET", "/operator/queue", headers=_OPERATOR)
        self.assertEqual((response.code, body["code"]), (403, "operators_only"))
        viewer = await open_websocket(real, self.base, "/terminal?worker=worker1", _OPERATOR)
        self.assertEqual(await viewer.opened, (101, None))
        self.assertEqual((await viewer.messages.get())["type"], "screen")
        assert viewer.transport is not None, "it is connected"
        viewer.transport.loseConnection()
        waiting[1].addErrback(lambda _: None)
        waiting[1].cancel()
        self.assertFalse(any(asking.called for asking in busy))
        answers = await gatherResults([*busy, waiting[0], waiting[2]])
        self.assertEqual({response.code for response, _ in answers}, {200})
        self.assertEqual(self.asked(["gone", "low", "high"]), [0, 1, 1])
        typed = "\n".join(self.typed.lines)
        self.assertLess(typed.index('"high '), typed.index('"low '))
        self.assertFalse(any("192.0.2.9" in server.output for server in self.servers))
        # The client of the stream leaves, and another one in its turn; the servers hear of it.
        assert stream.transport is not None, "it is connected"
        stream.transport.loseConnection()
        await self.any_says("id=stream .*outcome=cancelled")
        alone = self.story("alone [[silent]]", headers={**_OPERATOR, "X-Request-ID": "alone"})
        await self.typed.wait_for("alone ")
        alone.addErrback(lambda _: None)
        alone.cancel()
        await self.any_says("id=alone .*outcome=cancelled")

    def any_says(self, pattern: str) -> Deferred[Any]:
        """
        Return a Deferred that fires when one of the servers has printed `pattern`.
        """
        printed = [server.says(pattern) for server in self.servers]
        return DeferredList(printed, fireOnOneCallback=True, consumeErrors=True)

    async def check_sessions(self) -> None:
        """
        Check that sessions of MCP and of the page stay on the server that began them.
        """
        setup = {"capabilities": {}, "protocolVersion": "2025-06-18"}
        client = {"clientInfo": {"name": "test", "version": "1"}}
        begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {**setup, **client}}
        accept = {**_OPERATOR, "Accept": "application/json"}
        response, _ = await self.fetch("POST", "/mcp", json=begin, headers=accept)
        version = {"MCP-Protocol-Version": "2025-06-18"}
        session = {"Mcp-Session-Id": self.header(response, "mcp-session-id"), **version}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        response, _ = await self.fetch("POST", "/session", json={"token": _TOKEN})
        cookie = self.header(response, "set-cookie").partition(";")[0]
        for _ in range(6):
            response, body = await self.fetch(
                "POST", "/mcp", json=ping, headers={**accept, **session}
            )
            self.assertEqual(response.code, 200, body)
            _, rights = await self.fetch("GET", "/session", headers={"Cookie": cookie})
            self.assertEqual(rights["scopes"], ["ask", "operate"], rights)

    async def test_unready(self) -> None:
        """
        If no server is ready, the client gets the reason from one of them.
        """
        await self.start_all()
        for base in self.direct:
            response = await treq.post(
                f"{base}/kiro/generate-story",
                json={"idea": "x [[trouble=throttled]]"},
                persistent=False,
            )
            self.assertEqual(response.code, 502)
            await response.content()
        await self.proxy.says("backend 'turns' has no server available")
        response, body = await self.story("refused")
        self.assertEqual((response.code, body["code"]), (503, "throttled"))
        self.assertEqual(self.asked(["refused"]), [0])
