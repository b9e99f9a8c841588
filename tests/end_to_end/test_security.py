"""
End to end: a server against clients that mean no good.
"""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.web.http_headers import Headers

from tests.fuzz_http import OPTIONS, Hostile, fuzz
from tests.servers import ServerTestCase, real

#: Where the log must not have it.
_SECRET = "hush-hush-hush-hush"


class DoorTestCase(ServerTestCase):
    """
    A server that is sent raw bytes.
    """

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    async def connect(self, *pieces: bytes) -> Hostile:
        client = Hostile([*pieces])
        await connectProtocol(TCP4ClientEndpoint(real, "127.0.0.1", self.port), client)
        return client

    async def send(self, *pieces: bytes) -> tuple[int, Any]:
        """
        The status of the response to what is sent, and its body.
        """
        client = await self.connect(*pieces)
        await client.ended
        answer = client.answer()
        assert answer is not None, client.got
        return answer[0], json.loads(answer[2])


class HostileTests(DoorTestCase):
    """
    Requests that are none.
    """

    timeout = 180

    async def test_fuzz(self) -> None:
        """
        Whatever bytes come, the answer is JSON and no fault, within the time that a
        request may take, and the server serves on with the same sessions.
        """
        # Sessions are not renewed for the number of their answers.
        await self.start(*OPTIONS, "--agent", "offline", "--max-requests", "1000000")
        pids = await self.pids()
        found, wrong = await fuzz(self.port, cases=2000, seed=6)
        self.assertEqual(wrong[:5], [])
        # What is sent reaches every wall, and gets through where it is harmless.
        self.assertLessEqual({200, 400, 403, 404, 405, 408, 413, 414, 415, 431}, set(found))
        response, body = await self.story("Export the list")
        self.assertEqual(response.code, 200, body)
        self.assertEqual(await self.pids(), pids)
        self.assertNotIn("Traceback", self.server.output)

    async def test_slow(self) -> None:
        """
        Requests that never end hold no worker, and are ended.
        """
        await self.start("--receive-timeout", "2", "--backlog", "0", workers=1)
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        slow = [
            await self.connect(begun)
            for begun in (
                head,
                head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
                head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            )
        ]
        response, body = await self.story("x")
        self.assertEqual((response.code, body["title"]), (200, "x"))
        await gatherResults([each.ended for each in slow])
        for each in slow:
            answer = each.answer()
            assert answer is not None
            self.assertEqual((answer[0], json.loads(answer[2])["code"]), (408, "too_slow"))

    async def test_too_large(self) -> None:
        """
        A body that is too large is refused while it comes, and a client that only
        sends hears it.
        """
        await self.start("--max-body", "1000", workers=1)
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        big = b"x" * 5_000_000
        for sent in (
            [head + b"Content-Length: 5000000\r\n\r\n", big],
            [head + b"Transfer-Encoding: chunked\r\n\r\n4c4b40\r\n", big],
        ):
            status, body = await self.send(*sent)
            self.assertEqual((status, body["code"]), (413, "too_large"))
        status, body = await self.send(head + b"X: " + b"y" * 20_000)
        self.assertEqual((status, body["code"]), (431, "headers_too_large"))

    async def test_too_many(self) -> None:
        """
        One connection too many is told so; when another one ends there is room.
        """
        await self.start("--max-connections", "2", workers=1)
        held = [await self.connect(b"GET /health HTTP/1.1\r\n") for _ in range(2)]
        status, body = await self.send()
        self.assertEqual((status, body["code"]), (503, "too_many_connections"))
        for each in held:
            assert each.transport is not None
            each.transport.write(b"Host: localhost\r\nConnection: close\r\n\r\n")
            await each.ended
            await each.closed
        self.assertEqual((await self.health())["status"], "running")


class NamesTests(DoorTestCase):
    """
    What the server is called, and who calls.
    """

    async def test_hosts(self) -> None:
        """
        Every path is for the server's own names and those it was given, with a token
        or without; a proxy of a server with tokens may use any until then.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"me ask,watch {_SECRET}\n")
        bearing = {"Authorization": f"Bearer {_SECRET}"}
        for options, own, other in [
            (["--allow-host", "kiro.example,10.0.0.5:80"], 200, 403),
            (["--token-file", str(tokens)], 200, 200),
            (["--token-file", str(tokens), "--allow-host", "kiro.example,10.0.0.5"], 200, 403),
        ]:
            await self.start(*options, workers=1)
            for host in ("kiro.example", "KIRO.example:443", "10.0.0.5", "localhost"):
                for path in ("/health", "/kiro"):
                    headers = {"Host": host, **bearing}
                    response, _ = await self.fetch("GET", path, headers=headers)
                    self.assertEqual(response.code, own, (options, host))
            for path in ("/health", "/kiro", "/ready"):
                headers = {"Host": "evil.example", **bearing}
                response, body = await self.fetch("GET", path, headers=headers)
                self.assertEqual(response.code, other, (options, body))
            await self.stop()

    async def test_origins(self) -> None:
        """
        No page of another origin may ask anything, unless it is allowed.
        """
        await self.start(workers=1)
        for origin in ("http://localhost:3000", "null", "https://evil.example"):
            response, body = await self.story("x", headers={"Origin": origin})
            self.assertEqual((response.code, body["code"]), (403, "wrong_origin"))
            response, _ = await self.fetch("GET", "/health", headers={"Origin": origin})
            self.assertEqual(response.code, 200)
            self.assertFalse(response.headers.hasHeader("access-control-allow-origin"))
        await self.stop()
        self.assertEqual(self.typed.lines, ["/quit"])


class RateTests(DoorTestCase):
    """
    Clients that ask too often.
    """

    async def test_address(self) -> None:
        """
        Who asks too often is told when to come again, and health is not counted.
        """
        await self.start("--rate", "1", "--rate-burst", "2", workers=1)
        codes = [(await self.story("x"))[0].code for _ in range(2)]
        self.assertEqual(codes, [200, 200])
        response, body = await self.story("x")
        self.assertEqual((response.code, body["code"]), (429, "rate_limited"))
        self.assertEqual(response.phrase, b"Too Many Requests")
        self.assertIn(body["retryAfter"], range(1, 61))
        self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))
        for path in ("/health", "/ready", "/kiro"):
            response, _ = await self.fetch("GET", path)
            self.assertEqual(response.code, 200)

    async def test_tokens(self) -> None:
        """
        Each token has its own rate, and so has an address that tries wrong ones.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"a ask,watch {'a' * 20}\nb ask {'b' * 20}\n")
        limits = ("--rate", "1", "--rate-burst", "2")
        await self.start("--token-file", str(tokens), *limits, workers=1)
        for token, expected in [
            ("w" * 20, [401, 401, 429]),
            ("a" * 20, [200, 200, 429]),
            ("b" * 20, [200, 200, 429]),
        ]:
            headers = {"Authorization": f"Bearer {token}"}
            found = [(await self.story("x", headers=headers))[0].code for _ in range(3)]
            self.assertEqual(found, expected)
        response, _ = await self.fetch(
            "GET", "/health", headers={"Authorization": f"Bearer {'a' * 20}"}
        )
        self.assertEqual(response.code, 200)


class SecretTests(DoorTestCase):
    """
    What the log says.
    """

    async def test_nothing_is_logged(self) -> None:
        """
        No token and nothing that a client asked or sent is in the server's output,
        whatever goes wrong.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"me ask,watch,operate {_SECRET}\n")
        options = ("--token-file", str(tokens), "--max-body", "2000", "--receive-timeout", "2")
        limits = ("--request-timeout", "3", "--cancel-timeout", "1", "--restart-delay", "0.1")
        await self.start(*options, *limits, "--max-output", "100k")
        bearing = {"Authorization": f"Bearer {_SECRET}"}
        found = set()
        for fault in ("", "silent", "prose", "die", "flood=2000000", "hang", "approve",
                      "trouble=context_full"):  # fmt: skip
            response, _ = await self.story(f"{_SECRET} [[{fault}]]", headers=bearing)
            found.add(response.code)
        self.assertLessEqual({200, 502, 504}, found)
        wrong: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/kiro/generate-story", {"json": {"idea": {_SECRET: 1}}}),
            ("POST", "/kiro/generate-story", {"json": {"idea": _SECRET * 200}}),
            ("POST", "/kiro/generate-story", {"data": f"{{{_SECRET}".encode()}),
            ("PUT", "/operator/workers", {"json": {"workers": _SECRET}}),
            ("PUT", "/operator/workers", {"json": {"workers": 1, "agent": _SECRET}}),
            ("GET", f"/health?token={_SECRET}", {"headers": {"Referer": f"http://a/?{_SECRET}"}}),
            ("POST", "/kiro/generate-story", {"headers": {"Authorization": f"Basic {_SECRET}"}}),
            ("POST", "/kiro/generate-story", {"headers": {"Authorization": f"Bearer {_SECRET}x"}}),
            ("POST", "/kiro/generate-story", {"headers": {"X-Agent": _SECRET}}),
            ("POST", "/kiro/generate-story", {"headers": {"Cookie": f"a={_SECRET}"}}),
        ]
        for method, path, kwargs in wrong:
            headers = Headers({"Content-Type": ["application/json"]})
            for name, value in {**bearing, **kwargs.pop("headers", {})}.items():
                headers.setRawHeaders(name, [value])
            response = await treq.request(
                method, self.base + path, headers=headers, persistent=False, **kwargs
            )
            await response.content()
        marked = _SECRET.encode()
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        for sent in (
            head + marked,
            head + marked + b"\r\nContent-Length: 50\r\n\r\n" + marked,
            head + marked + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + marked,
            marked + b"\r\n\r\n",
            head + marked + b"\r\n" + marked + b"\r\n\r\n",
        ):
            status, _ = await self.send(sent)
            self.assertIn(status, (400, 408))
        await self.stop()
        self.assertIn("rejected an incomplete request: too_slow", self.server.output)
        self.assertNotIn(_SECRET, self.server.output)
