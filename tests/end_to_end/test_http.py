"""
End-to-end tests for HTTP as its RFCs define it, over raw connections.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.end_to_end.test_security import RawHttpTestCase

_GET = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n"
_STORY = (
    b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)


def story(idea: str) -> bytes:
    """
    Return a request for a story.
    """
    body = json.dumps({"idea": idea}).encode()
    return _STORY + b"Content-Length: %d\r\n\r\n" % len(body) + body


#: What a client sends, the section of the RFC that says what it gets, and the status and the
#: code of the error, if it is one.
_CASES: list[tuple[bytes, str, int, str | None]] = [
    (b"GET /ready HTTP/1.0\r\n\r\n", "9112, 3.2", 200, None),
    (b"GET /health HTTP/1.1\r\n\r\n", "9112, 3.2", 400, "bad_host"),
    # For load balancers, whose probes may have no Host.
    (b"GET /ready HTTP/1.1\r\n\r\n", "9112, 3.2", 200, None),
    (b"OPTIONS / HTTP/1.0\r\n\r\n", "9112, 3.2", 204, None),
    (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "9112, 3.2.4", 204, None),
    (b"GET http://localhost:8080/ready HTTP/1.1\r\nHost: x\r\n\r\n", "9112, 3.2.2", 200, None),
    (b"GET http://evil.example/ready HTTP/1.1\r\nHost: localhost\r\n\r\n", "9112, 3.2.2", 403,
     "wrong_host"),
    (_STORY + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", "9110, 15.5.16", 415,
     "unsupported_encoding"),
    (_STORY + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "9112, 6.1", 400,
     "bad_request"),
    (_STORY + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
     "9112, 6.1", 400, "bad_request"),
    (_STORY + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "9112, 6.1", 400,
     "bad_request"),
    (_STORY + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "9112, 6.3", 400,
     "bad_request"),
    (_STORY + b"Content-Length: +5\r\n\r\nhello", "9112, 6.3", 400, "bad_request"),
    (b"GET /ready HTTP/1.1\nHost: localhost\n\n", "9112, 2.2", 400, "bad_request"),
    (_GET + b"X: y\r\n z\r\n\r\n", "9112, 5.2", 400, "bad_request"),
    (_GET + b"X : y\r\n\r\n", "9112, 5.1", 400, "bad_request"),
    (_GET + b"Expect: 200-ok\r\n\r\n", "9110, 10.1.1", 417, "expectation_failed"),
    (b"get" + _GET[3:] + b"\r\n", "9110, 9.1", 405, "wrong_method"),
    (b"GET /operator//queue HTTP/1.1\r\nHost: localhost\r\n\r\n", "3986, 3.3", 404, "not_found"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "9113, 3.4", 400, "bad_request"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "9112, 3", 400, "bad_request"),
    (_GET, "9112, 8", 400, "bad_request"),
    (b"HEAD" + _GET[3:] + b"\r\n", "9110, 9.3.2", 200, None),
]  # fmt: skip


class HttpTests(RawHttpTestCase):
    """
    Tests for requests as the RFCs allow and forbid them.
    """

    async def half_closed(self, data: bytes) -> tuple[int, bytes, bytes]:
        """
        Send `data` and close the client's side of the connection; return the status, the
        head and the body of the response, once the server has closed the connection.
        """
        client = await self.connect(data)
        transport: Any = client.transport
        transport.loseWriteConnection()
        await client.closed
        answer = client.answer()
        assert answer is not None, (data, client.received)
        return answer

    async def test_rules(self) -> None:
        """
        Each request is answered as the section of the RFC says, also if the client sends
        nothing more (RFC 9112, section 9.6).
        """
        await self.start(workers=1)
        for data, section, status, code in _CASES:
            answer = await self.half_closed(data)
            self.assertEqual(answer[0], status, (section, data, answer))
            if code is not None:
                self.assertEqual(json.loads(answer[2])["code"], code, (section, data))
            elif data.startswith(b"HEAD"):
                self.assertEqual(answer[2], b"")

    async def test_half_close(self) -> None:
        """
        A client that closes its side gets the answer of a turn, and one that has closed the
        connection ends its turn (RFC 9112, section 9.6): the next request is answered.
        """
        await self.start(workers=1)
        status, _, body = await self.half_closed(story("An idea [[think=1.5]]"))
        self.assertEqual((status, json.loads(body)["title"]), (200, "An idea [[think=1.5]]"))
        client = await self.connect(story("gone [[silent]]"))
        await self.typed.wait_for("gone [[silent]]")
        transport: Any = client.transport
        transport.loseConnection()
        response, answer = await self.story("the next")
        self.assertEqual((response.code, answer["title"]), (200, "the next"))

    async def test_unread(self) -> None:
        """
        A client that sends thousands of requests and reads no response costs a bounded
        amount of memory, and keeps nobody waiting (RFC 9112, section 9.3.2).
        """
        await self.start(workers=1)
        await self.fetch("GET", "/openapi.json")
        before = self.memory()
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(3):
            client = await self.connect(request * 1300)
            transport: Any = client.transport
            transport.pauseProducing()
            self.addCleanup(transport.abortConnection)
        for _ in range(50):
            response, _ = await self.fetch("GET", "/ready")
            self.assertEqual(response.code, 200)
        self.assertLess(self.memory() - before, 50_000)

    def memory(self) -> int:
        """
        Return the memory that the server uses, in KiB.
        """
        status = Path(f"/proc/{self.server.pid}/status").read_text(encoding="ascii")
        match = re.search(r"VmRSS:\s*(\d+) kB", status)
        assert match is not None, "Linux says how much"
        return int(match[1])
