"""
End-to-end tests for malicious and careless clients.
"""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.web.http_headers import Headers

from tests.fuzz_http import OPTIONS, HostileClient, fuzz
from tests.servers import SOON, ServerTestCase, real

#: A token and text that must not appear in the log.
_SECRET = "hush-hush-hush-hush"


class RawHttpTestCase(ServerTestCase):
    """
    Send raw bytes to servers.
    """

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    async def connect(self, *pieces: bytes) -> HostileClient:
        client = HostileClient([*pieces])
        await connectProtocol(TCP4ClientEndpoint(real, "127.0.0.1", self.port), client)
        return client

    async def send(self, *pieces: bytes) -> tuple[int, Any]:
        """
        Send `pieces`; return the status of the response and its decoded body.
        """
        client = await self.connect(*pieces)
        await client.ended
        answer = client.answer()
        assert answer is not None, client.received
        return answer[0], json.loads(answer[2])


class HostileTests(RawHttpTestCase):
    """
    Tests for requests that are malformed, slow or too large.
    """

    async def test_fuzz(self) -> None:
        """
        Whatever bytes a client sends, the response is JSON, is no server error, and is in
        time, and the server serves on with the same sessions.
        """
        # No session is replaced because of the number of its answers.
        await self.start(*OPTIONS, "--agent", "offline", "--max-requests", "1000000")
        pids = await self.pids()
        statuses, problems = await fuzz(self.port, cases=2000, seed=6)
        self.assertEqual(problems[:5], [])
        # The cases reach every check, and harmless ones are answered.
        self.assertLessEqual({200, 400, 403, 404, 405, 408, 413, 414, 415, 431}, set(statuses))
        response, body = await self.story("Export the list")
        self.assertEqual(response.code, 200, body)
        self.assertEqual(await self.pids(), pids)
        self.assertNotIn("Traceback", self.server.output)

    async def test_slow(self) -> None:
        """
        Requests that are never completed occupy no worker, and get 408.
        """
        await self.start("--receive-timeout", "2", "--backlog", "0", workers=1)
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        slow = [
            await self.connect(beginning)
            for beginning in (
                head,
                head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
                head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            )
        ]
        response, body = await self.story("x")
        self.assertEqual((response.code, body["title"]), (200, "x"))
        await gatherResults([client.ended for client in slow])
        for client in slow:
            answer = client.answer()
            assert answer is not None
            self.assertEqual((answer[0], json.loads(answer[2])["code"]), (408, "too_slow"))

    async def test_too_large(self) -> None:
        """
        A body that is too large is refused while it arrives, and a client that only
        sends still gets the response.
        """
        await self.start("--max-body", "1000", workers=1)
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        big = b"x" * 5_000_000
        for pieces in (
            [head + b"Content-Length: 5000000\r\n\r\n", big],
            [head + b"Transfer-Encoding: chunked\r\n\r\n4c4b40\r\n", big],
        ):
            status, body = await self.send(*pieces)
            self.assertEqual((status, body["code"]), (413, "too_large"))
        status, body = await self.send(head + b"X: " + b"y" * 20_000)
        self.assertEqual((status, body["code"]), (431, "headers_too_large"))

    async def test_too_many(self) -> None:
        """
        A connection above --max-connections gets 503; when others end, new ones are
        accepted again.
        """
        await self.start("--max-connections", "2", workers=1)
        clients = [await self.connect(b"GET /health HTTP/1.1\r\n") for _ in range(2)]
        status, body = await self.send()
        self.assertEqual((status, body["code"]), (503, "too_many_connections"))
        for client in clients:
            assert client.transport is not None
            client.transport.write(b"Host: localhost\r\nConnection: close\r\n\r\n")
            await client.ended
            await client.closed
        self.assertEqual((await self.health())["status"], "running")


class HostAndOriginTests(RawHttpTestCase):
    """
    Tests for the headers Host and Origin.
    """

    async def test_hosts(self) -> None:
        """
        Every path accepts only the server's own host names and those of --allow-host,
        with a token or without; a server with tokens and without --allow-host accepts any.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"me ask,watch {_SECRET}\n")
        authorization = {"Authorization": f"Bearer {_SECRET}"}
        for options, allowed, other in [
            (["--allow-host", "kiro.example,10.0.0.5:80"], 200, 403),
            (["--token-file", str(tokens)], 200, 200),
            (["--token-file", str(tokens), "--allow-host", "kiro.example,10.0.0.5"], 200, 403),
        ]:
            await self.start(*options, workers=1)
            for host in ("kiro.example", "KIRO.example:443", "10.0.0.5", "localhost"):
                for path in ("/health", "/kiro"):
                    headers = {"Host": host, **authorization}
                    response, _ = await self.fetch("GET", path, headers=headers)
                    self.assertEqual(response.code, allowed, (options, host))
            for path in ("/health", "/kiro", "/ready"):
                headers = {"Host": "evil.example", **authorization}
                response, body = await self.fetch("GET", path, headers=headers)
                self.assertEqual(response.code, other, (options, body))
            await self.stop()

    async def test_origins(self) -> None:
        """
        Pages of another origin may not ask, unless the origin is allowed.
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


class RateTests(RawHttpTestCase):
    """
    Tests for clients that send too many requests.
    """

    async def test_address(self) -> None:
        """
        A client that sends too many requests gets 429, which says when to retry; requests
        for health do not count.
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
        Each token has its own rate, and so has an address that sends wrong tokens.
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
            codes = [(await self.story("x", headers=headers))[0].code for _ in range(3)]
            self.assertEqual(codes, expected)
        response, _ = await self.fetch(
            "GET", "/health", headers={"Authorization": f"Bearer {'a' * 20}"}
        )
        self.assertEqual(response.code, 200)


class LogTests(RawHttpTestCase):
    """
    Tests for what the log must not contain.
    """

    async def test_secrets(self) -> None:
        """
        Neither a token nor anything that a client sent appears in the server's output or in the
        logs of its workers, whatever goes wrong.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"me ask,watch,operate {_SECRET}\n")
        options = ("--token-file", str(tokens), "--max-body", "2000", "--receive-timeout", "2")
        limits = ("--cancel-timeout", "1", "--restart-delay", "0.1")
        state = self.folder / "state"
        await self.start(*options, *limits, "--max-output", "100k", "--state-dir", str(state))
        authorization = {"Authorization": f"Bearer {_SECRET}"}
        codes = set()
        for fault in ("", "silent", "prose", "die", "flood=2000000", "hang", "approve",
                      "trouble=context_full"):  # fmt: skip
            deadline = SOON if fault in ("silent", "hang") else {}
            response, _ = await self.story(
                f"{_SECRET} [[{fault}]]", headers={**authorization, **deadline}
            )
            codes.add(response.code)
        self.assertLessEqual({200, 502, 504}, codes)
        invalid: list[tuple[str, str, dict[str, Any]]] = [
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
        for method, path, kwargs in invalid:
            headers = Headers({"Content-Type": ["application/json"]})
            for name, value in {**authorization, **kwargs.pop("headers", {})}.items():
                headers.setRawHeaders(name, [value])
            response = await treq.request(
                method, self.base + path, headers=headers, persistent=False, **kwargs
            )
            await response.content()
        secret = _SECRET.encode()
        head = b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        for incomplete in (
            head + secret,
            head + secret + b"\r\nContent-Length: 50\r\n\r\n" + secret,
            head + secret + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + secret,
            secret + b"\r\n\r\n",
            head + secret + b"\r\n" + secret + b"\r\n\r\n",
        ):
            status, _ = await self.send(incomplete)
            self.assertIn(status, (400, 408))
        await self.stop()
        self.assertIn("rejected an incomplete request: too_slow", self.server.output)
        self.assertNotIn(_SECRET, self.server.output)
        logs = sorted((state / "logs").iterdir())
        self.assertEqual([file.name for file in logs], ["worker1.log", "worker2.log"])
        for file in logs:
            self.assertNotIn(_SECRET, file.read_text())
