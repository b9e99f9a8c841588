"""
End-to-end tests for what a server's log says about requests, and for clients behind proxies.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import treq
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from kiroworkers.clean_text import clean_lines
from tests.programs import Program
from tests.servers import ServerTestCase, real

_TOKEN = "0123456789abcdef"

#: Text that would clear the screen of a terminal, and turn around what follows.
_HOSTILE = "a\x9b2Jb\u202ec"

#: An agent that says such a text to standard error, and exits.
_FAILING_AGENT = f"import sys; sys.stderr.buffer.write({_HOSTILE!r}.encode()); sys.exit(1)"


class AuditTests(ServerTestCase):
    """
    Tests for the lines of requests.
    """

    async def start_with_token(self, *options: str) -> dict[Any, Any]:
        """
        Start a server that needs a token; return the headers that have it.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"backend ask,operate {_TOKEN}\n")
        tokens.chmod(0o600)
        await self.start("--token-file", str(tokens), *options, workers=1)
        return {"Authorization": f"Bearer {_TOKEN}"}

    async def test_answered(self) -> None:
        """
        The line of a request says whose token it had, who answered it, and what it took.
        """
        headers = await self.start_with_token()
        await self.story("An idea", headers=headers)
        line = await self.server.says(r'"POST /kiro/generate-story HTTP/1\.1" 200 .*\n')
        self.assertRegex(
            line.string[: line.end()].splitlines()[-1],
            r'"127\.0\.0\.1" - backend \[[^]]+\] "POST /kiro/generate-story HTTP/1\.1" 200 \d+ '
            r'"-" "[^"]*" id=[0-9a-f]{32} task=generate-story agent=kiro worker=worker1 attempts=1 '
            r"repairs=0 wait=\d\.\d{3} first=\d\.\d{3} turn=\d\.\d{3} credits=0\.050 "
            r"total=\d\.\d{3} outcome=answered$",
        )

    async def test_hung_up(self) -> None:
        """
        A client that hangs up within a turn leaves a line that says so.
        """
        headers = await self.start_with_token()
        endpoint = HostnameEndpoint(real, "127.0.0.1", int(self.base.rpartition(":")[2]))
        client = await connectProtocol(endpoint, Protocol())
        body = b'{"idea": "An idea [[hang]]"}'
        head = (
            "POST /kiro/generate-story HTTP/1.1",
            "Host: localhost",
            f"Authorization: {headers['Authorization']}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        client.transport.write("\r\n".join((*head, "", "")).encode() + body)
        await self.typed.wait_for("An idea")
        client.transport.loseConnection()
        await self.server.says(
            r'" - backend \[[^]]+\] "POST /kiro/generate-story HTTP/1\.1" 499 - .* worker=worker1 '
            r"attempts=1 repairs=0 wait=\S+ .*turn=\S+ total=\S+ aborted=yes outcome=cancelled"
        )

    async def test_streamed(self) -> None:
        """
        A request whose events are streamed leaves one line, and one that fails says why.
        """
        headers = {**await self.start_with_token(), "Accept": "text/event-stream"}
        for idea in ("An idea", "An idea [[prose]]"):
            response = await treq.post(
                f"{self.base}/kiro/generate-story",
                json={"idea": idea},
                headers=headers,
                persistent=False,
            )
            await response.content()
        await self.server.says(r'story HTTP/1\.1" 200 .* code=answer_unfit')
        self.assertEqual(self.server.output.count("POST /kiro/generate-story"), 2)

    async def test_job(self) -> None:
        """
        The request for a job has a line, and the job has another one at its end.
        """
        headers = {**await self.start_with_token(), "Prefer": "respond-async"}
        _, job = await self.story("An idea", headers=headers)
        id = re.escape(job["id"])
        await self.server.says(rf'- backend .* "JOB /jobs/{id} -" 200 .* worker=worker1 ')
        await self.server.says(rf'- backend .* "POST /kiro/generate-story [^"]*" 202 .* job={id}')

    async def test_hostile_client(self) -> None:
        """
        Text from a client reaches the log without control characters.
        """
        await self.start("--agent", "offline", workers=1)
        endpoint = HostnameEndpoint(real, "127.0.0.1", int(self.base.rpartition(":")[2]))
        client = await connectProtocol(endpoint, Protocol())
        client.transport.write(
            b"GET /\x9b2J\x1b[31m HTTP/1.1\r\nHost: \x9b\r\nUser-Agent: \x9b\xe2\x80\xae\x7f\r\n"
            b"Referer: \x1b]0;x\x07\r\nX-Agent: \x9b\r\nX-Forwarded-For: \x9b\r\n\r\n"
        )
        await self.server.says(r'" 4\d\d .*\n')
        self.check_output(self.server)

    async def test_hostile_agent(self) -> None:
        """
        Text from an agent reaches the log without control characters.
        """
        faults = f"title={_HOSTILE}"
        await self.start(workers=1, FAKEKIRO=faults, FAKEKIRO_VERSION="3.0.1")
        await self.story("An idea [[approve]]")
        await self.server.says(r"worker1: .*a\\x9b2Jb\\u202ec")
        self.check_output(self.server)

    async def test_hostile_standard_error(self) -> None:
        """
        An agent's standard error reaches the log without control characters.
        """
        agent = Path(self.folder / "agent.py")
        agent.write_text(_FAILING_AGENT)
        command = shlex.join([sys.executable, str(agent)])
        options = ("--port", "0", "--agent", "acp", "--agent-command", command)
        self.server = self.run_twistd(*options)
        self.addCleanup(self.stop)
        await self.server.says(r"session ended: .*2Jb")
        self.check_output(self.server)

    def check_output(self, server: Program) -> None:
        self.assertEqual(server.output, clean_lines(server.output))

    async def test_anonymous(self) -> None:
        """
        Requests without a token are limited, and those with one are not.
        """
        headers = await self.start_with_token("--anonymous-rate", "10")
        codes = []
        for path, sent in (("/kiro", {}), ("/kiro", {}), ("/ready", {}), ("/jobs", headers)):
            response, _ = await self.fetch("GET", path, headers=sent)
            codes.append(response.code)
        self.assertEqual(codes, [200, 429, 200, 200])


class ProxyTests(ServerTestCase):
    """
    Tests for clients behind a proxy.
    """

    async def test_trusted(self) -> None:
        """
        Clients behind a trusted proxy have shares, rates and log lines of their own.
        """
        rates = ("--rate", "1", "--rate-burst", "1")
        options = ("--trusted-proxy", "127.0.0.1", "--lame-duck", "0", *rates)
        await self.start("--agent", "offline", *options, workers=1)
        codes = []
        for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
            headers = {"X-Forwarded-For": f"192.0.2.99, {client}"}
            response, _ = await self.story("An idea", headers=headers)
            codes.append(response.code)
        self.assertEqual(codes, [200, 429, 200, 200, 429])
        await self.server.says(r'"2001:db8::2" - - \[[^]]+\] "POST /kiro/generate-story')

    async def test_untrusted(self) -> None:
        """
        Without the option, the headers of proxies are not read.
        """
        await self.start("--agent", "offline", "--rate", "1", "--rate-burst", "1", workers=1)
        codes = []
        for name, value in (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2")):
            response, _ = await self.story("An idea", headers={name: value})
            codes.append(response.code)
        self.assertEqual(codes, [200, 429])
