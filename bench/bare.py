"""
Measure what Twisted alone costs.

A POST through twisted.web is typed into a terminal that spawnProcess made, and its
JSON is returned.  There is no real queue, no schema, no check that the agent is
ready, no logging and no error handling.

``python -m bench.bare SESSIONS`` prints its port.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import deque
from typing import IO, Any, cast

from twisted.internet import reactor as installed
from twisted.internet.protocol import ProcessProtocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from bench.exchange import CLEAR, CONFIRM, PROMPT, answer, payload


class Terminal(ProcessProtocol):
    """
    Serve one request at a time, and clear the conversation after each.
    """

    def __init__(self, resource: StoryResource) -> None:
        self._resource = resource
        self._read = b""
        self._next = [b""]
        self._request: Request | None = None

    def ask(self, request: Request, idea: str) -> None:
        """
        Answer `request`.
        """
        self._request = request
        self._next = [CLEAR, CONFIRM, b""]
        self._type(payload(idea))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Read until the prompt, then respond or continue the clear.
        """
        self._read += data
        if PROMPT not in self._read:
            return
        request, self._request = self._request, None
        if request is not None:
            request.setHeader(b"content-type", b"application/json")
            request.write(answer(self._read))
            request.finish()
        self._read = b""
        keys = self._next.pop(0)
        if keys:
            self._type(keys)
        else:
            self._resource.idle(self)

    def _type(self, keys: bytes) -> None:
        assert self.transport is not None
        self.transport.write(keys)


class StoryResource(Resource):
    """
    Serve requests in order of arrival.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._idle: deque[Terminal] = deque()
        self._waiting: deque[tuple[Request, str]] = deque()

    def render_POST(self, request: Request) -> int:
        """
        Respond with a story for the idea in the body.
        """
        self._waiting.append((request, json.load(cast("IO[bytes]", request.content))["idea"]))
        self._serve()
        return NOT_DONE_YET

    def idle(self, terminal: Terminal) -> None:
        """
        Take note that `terminal` can serve a request.
        """
        self._idle.append(terminal)
        self._serve()

    def _serve(self) -> None:
        if self._idle and self._waiting:
            self._idle.popleft().ask(*self._waiting.popleft())


def main() -> None:
    """
    Serve until killed.
    """
    reactor: Any = installed
    resource = StoryResource()
    program = shutil.which("kiro-cli")
    assert program is not None, "the agent is on PATH"
    for _ in range(int(sys.argv[1])):
        reactor.spawnProcess(
            Terminal(resource), program, ("kiro-cli", "chat"), env=dict(os.environ), usePTY=True
        )
    port = reactor.listenTCP(0, Site(resource), interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
