"""
Measure what pexpect costs for the same exchange, in a process of its own.

``python -m bench.expecting SESSIONS TURNS`` prints how many turns a second all
sessions have together, each of them TURNS times.  With ``patient`` as the third
argument pexpect waits before it types, as it does by default.  With ``http`` it
prints its port and has a turn for each idea that is posted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread
from typing import cast

import pexpect

from bench.exchange import CLEAR, CONFIRM, PROMPT, answer, payload


class Terminal:
    """
    Drive one session.
    """

    def __init__(self, patient: bool) -> None:
        self._child = pexpect.spawn("kiro-cli", ["chat"], timeout=60, echo=False)
        if not patient:
            # By default pexpect waits 50 ms before it types.
            self._child.delaybeforesend = None
        self._until_prompt()

    def ask(self, idea: str) -> bytes:
        """
        Return the story for `idea`.
        """
        return answer(self._type(payload(idea)))

    def clear(self) -> None:
        """
        Clear the conversation.
        """
        self._type(CLEAR)
        self._type(CONFIRM)

    def close(self) -> None:
        """
        End the session.
        """
        self._child.close(force=True)

    def _type(self, keys: bytes) -> bytes:
        self._child.send(keys)
        return self._until_prompt()

    def _until_prompt(self) -> bytes:
        self._child.expect_exact(PROMPT)
        # Without an encoding pexpect returns bytes.
        return cast("bytes", self._child.before)


def serve(terminals: Iterable[Terminal]) -> None:
    """
    Answer POST requests until killed, each in the thread of its connection.
    """
    idle: SimpleQueue[Terminal] = SimpleQueue()
    for terminal in terminals:
        idle.put(terminal)

    def clear(terminal: Terminal) -> None:
        terminal.clear()
        idle.put(terminal)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Buffer the response, so that one write sends its head and body.
        wbufsize = -1

        def do_POST(self) -> None:
            idea = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["idea"]
            terminal = idle.get()
            story = terminal.ask(idea)
            Thread(target=clear, args=(terminal,)).start()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(story)))
            self.end_headers()
            self.wfile.write(story)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def rate(terminals: list[Terminal], turns: int) -> float:
    """
    Return the turns a second of all `terminals` together, each asked `turns` times.
    """

    def ask(terminal: Terminal) -> None:
        for number in range(turns):
            terminal.ask(f"turn {number}")
            terminal.clear()

    with ThreadPoolExecutor(len(terminals)) as together:
        began = time.monotonic()
        list(together.map(ask, terminals))
        return turns * len(terminals) / (time.monotonic() - began)


def main() -> None:
    """
    Do what the arguments say.
    """
    sessions, turns, *mode = sys.argv[1:]
    terminals = [Terminal(mode == ["patient"]) for _ in range(int(sessions))]
    if mode == ["http"]:
        serve(terminals)
    print(rate(terminals, int(turns)), flush=True)
    for terminal in terminals:
        terminal.close()


if __name__ == "__main__":
    os.environ.setdefault("TERM", "xterm-256color")
    main()
