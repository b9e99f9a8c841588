"""
What pexpect takes: the same exchange, in a process that does nothing else.

``python -m bench.expecting SESSIONS TURNS`` prints how many turns a second all
sessions together have had, each so many; with ``patient`` as the third argument
pexpect waits before it types, as it does without being told; with ``http`` it
prints its port, and has turns for whoever posts an idea.
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
    One session.
    """

    def __init__(self, patient: bool) -> None:
        self._child = pexpect.spawn("kiro-cli", ["chat"], timeout=60, echo=False)
        if not patient:
            # Otherwise it waits 50 ms before everything it types.
            self._child.delaybeforesend = None
        self._until_prompt()

    def ask(self, idea: str) -> bytes:
        """
        The story for `idea`.
        """
        return answer(self._type(payload(idea)))

    def clear(self) -> None:
        """
        Make it forget.
        """
        self._type(CLEAR)
        self._type(CONFIRM)

    def close(self) -> None:
        """
        End it.
        """
        self._child.close(force=True)

    def _type(self, keys: bytes) -> bytes:
        self._child.send(keys)
        return self._until_prompt()

    def _until_prompt(self) -> bytes:
        self._child.expect_exact(PROMPT)
        # It was given no encoding.
        return cast("bytes", self._child.before)


def serve(terminals: Iterable[Terminal]) -> None:
    """
    Answer POSTs until killed, each in a thread of its connection.
    """
    idle: SimpleQueue[Terminal] = SimpleQueue()
    for each in terminals:
        idle.put(each)

    def clear(terminal: Terminal) -> None:
        terminal.clear()
        idle.put(terminal)

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One write for the head and the body.
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def rate(terminals: list[Terminal], turns: int) -> float:
    """
    Turns a second of all `terminals` together, each asked `turns` times.
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
    Do as the arguments say.
    """
    sessions, turns, *how = sys.argv[1:]
    terminals = [Terminal(how == ["patient"]) for _ in range(int(sessions))]
    if how == ["http"]:
        serve(terminals)
    print(rate(terminals, int(turns)), flush=True)
    for each in terminals:
        each.close()


if __name__ == "__main__":
    os.environ.setdefault("TERM", "xterm-256color")
    main()
