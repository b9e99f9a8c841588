"""
Measure how long one client can keep the others waiting.

Each case is the most that the limits allow.  Meanwhile another client requests ``/ready``, one
request after the other.  There are two figures for each case: the CPU time of the longest
callback of the server's event loop, which does not depend on what else the machine does, and
the longest wait of the other client, which does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread

from attrs import field, frozen

from bench.report import Figure, Limit
from bench.server import Agent, _running, client
from kiroworkers.chat.response_schema import MAX_LENGTH
from kiroworkers.telemetry.loop_monitor import CPU_LIMIT
from tests.cost_cases import (
    CHAT,
    JSON_KINDS,
    MAX_BODY,
    STORY,
    answer_request,
    longest_json,
    request,
    schema_of,
    schema_request,
)
from tests.programs import environment, install_fake_kiro

QUESTION = "how long does one client keep the others waiting?"

#: Callbacks that use less CPU time than this many seconds are not told apart.
_REPORT_LIMIT = 0.001

#: Seconds between two requests of the other client.
_PAUSE = 0.002

#: Seconds that a case may take.
_TIMEOUT = 180

_OPTIONS = (
    *("--agent", "kiro-classic=1,kiro-acp=1,kiro-tui=1", "--max-requests", "1000000"),
    *("--max-jobs", "300", "--backlog", "300", "--queue-timeout", "60"),
)
_SESSIONS = 3

_SLOW = re.compile(r"event loop: (\d+) ms of CPU")


@frozen
class _Server:
    """
    Describe the server that is measured.

    Attributes:
        port: Its port.
        pid: Its process.
        lines: The lines of its log so far.
    """

    port: int
    pid: int
    lines: list[str] = field(factory=list)


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    figures = []
    with _serving() as server:
        for name, act in _CASES.items():
            used, waited = _measure_case(server, act)
            figures += [
                Figure(f"{name}: CPU of one callback", used, "ms", Limit(most=1000 * CPU_LIMIT)),
                Figure(f"{name}: wait of another client", waited, "ms"),
            ]
    return figures


@contextmanager
def _serving() -> Iterator[_Server]:
    """
    Run a server that reports its callbacks; stop it afterwards.
    """
    run = (
        "from kiroworkers.telemetry import loop_monitor as monitor; "
        f"monitor.CPU_LIMIT = {_REPORT_LIMIT}; "
        "from twisted.scripts.twistd import run; run()"
    )
    command = [sys.executable, "-c", run, "-n", "--pidfile=", "kiroworkers", "--port", "0"]
    with tempfile.TemporaryDirectory() as name:
        path = install_fake_kiro(Path(name) / "bin", "tests.costly_agent")
        agent = Agent(Path(name), environment(PATH=path))
        with _running(agent, [*command, *_OPTIONS]) as process:
            assert process.stdout is not None
            output = ""
            while output.count(": ready") < _SESSIONS:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError(f"the server ended: {output}")
                output += line
            match = re.search(r"listening on .*port=(\d+)", output)
            assert match is not None, output
            server = _Server(int(match[1]), process.pid)
            reader = Thread(target=server.lines.extend, args=(process.stdout,))
            reader.start()
            try:
                yield server
            except BaseException:
                # It may be far from serving, or stopping, again.
                process.kill()
                raise
        reader.join()


def _measure_case(server: _Server, act: Callable[[_Server], None]) -> tuple[float, float]:
    """
    Return the CPU time of the longest callback and the longest wait, in milliseconds.
    """
    _settle(server)
    start, over = len(server.lines), Event()
    with ThreadPoolExecutor(1) as other:
        longest_wait = other.submit(_ask_on, server, over)
        try:
            act(server)
            _settle(server)
        finally:
            over.set()
        waited = longest_wait.result()
    callbacks = [int(match[1]) for line in server.lines[start:] if (match := _SLOW.search(line))]
    return max(callbacks, default=0), waited


def _ask_on(server: _Server, over: Event) -> float:
    """
    Ask for /ready until `over`, and return the milliseconds of the longest wait.
    """
    longest = 0.0
    with client(server.port) as connection:
        while not over.wait(_PAUSE):
            began = time.monotonic()
            connection.request("GET", "/ready")
            connection.getresponse().read()
            longest = max(longest, time.monotonic() - began)
    return 1000 * longest


def _settle(server: _Server) -> None:
    """
    Wait until every worker is idle, for at most a minute.
    """
    with client(server.port) as connection:
        for _ in range(600):
            connection.request("GET", "/health")
            workers = json.loads(connection.getresponse().read())["workers"].values()
            if all(worker["status"] == "idle" for worker in workers):
                return
            time.sleep(0.1)


def _exchange(data: bytes, server: _Server) -> None:
    """
    Send `data` and read until the server closes the connection.
    """
    with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
        connection.settimeout(_TIMEOUT)
        with suppress(ConnectionError):
            connection.sendall(data)
            while connection.recv(1 << 16):
                pass


def _gets(path: str, times: int) -> bytes:
    """
    Return requests for a page, the last of which closes the connection.
    """
    return request("GET", path, close=False) * (times - 1) + request("GET", path)


def _send_unread(data: bytes, connections: int, server: _Server) -> None:
    """
    Send `data` on several connections, and read nothing for some seconds.
    """
    opened = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(connections)]
    for connection in opened:
        connection.setblocking(False)
        with suppress(BlockingIOError, ConnectionError):
            connection.send(data)
    time.sleep(3)
    for connection in opened:
        connection.close()


def _reload(times: int, server: _Server) -> None:
    """
    Tell the server to reload many times within four seconds.
    """
    for _ in range(times):
        os.kill(server.pid, signal.SIGHUP)
        time.sleep(4 / times)


def _list_jobs(count: int, server: _Server) -> None:
    """
    Store jobs with long ideas and list them.
    """
    body = json.dumps({"idea": "a long idea " * 100}).encode()
    headers = {"Prefer": "respond-async", "X-Agent": "kiro-acp"}
    for _ in range(count):
        _exchange(request("POST", STORY, body, headers), server)
    _exchange(_gets("/jobs?limit=200", 20), server)


def _body(path: str, text: str, kind: str) -> Callable[[_Server], None]:
    """
    Return a case that sends a body of the largest size, with JSON of that kind.
    """
    body = (text % JSON_KINDS[kind](longest_json(kind))).encode()
    return partial(_exchange, request("POST", path, body, {"X-Agent": "kiro-acp"}))


def _schema(kind: str) -> Callable[[_Server], None]:
    """
    Return a case with a client's own schema of the largest size.
    """
    answer = f'{{"a": {JSON_KINDS["equal lists"](longest_json("equal lists"))}}}'
    return partial(_exchange, schema_request(schema_of(kind, MAX_LENGTH), answer))


def _answer(agent: str, kind: str, size: int, more: str = "") -> Callable[[_Server], None]:
    return partial(_exchange, answer_request(agent, kind, size, more))


_CHAT_BODY = '{"model": "kiro-acp", "messages": [{"role": "user", "content": "Hi"}], "stop": %s}'
_PIPELINE = request("GET", "/openapi.json", close=False)

_CASES: dict[str, Callable[[_Server], None]] = {
    "a plain turn": _answer("kiro-classic", "line", 1),
    "20,000 values, small objects": _body(STORY, '{"idea": %s}', "small objects"),
    "20,000 values, floats": _body(STORY, '{"idea": "x", "more": %s}', "floats"),
    "20,000 values, empty lists, chat": _body(CHAT, _CHAT_BODY, "empty lists"),
    "1 MiB of small objects": partial(
        _exchange, request("POST", STORY, JSON_KINDS["small objects"](MAX_BODY - 300).encode())
    ),
    "1 MiB of long integers": _body(STORY, '{"idea": "x", "more": %s}', "integers"),
    "1 MiB of text": _body(STORY, '{"idea": %s}', "text"),
    "own schema, false x references": _schema("false x ref"),
    "own schema, oneOf": _schema("oneOf {}"),
    "own schema, enum": _schema("enum of objects"),
    "own schema, doubling references": _schema("doubling anyOf"),
    "6 MiB of objects": _answer("kiro-classic", "objects", 6 << 20, "first"),
    "6 MiB of almost answers": _answer("kiro-classic", "unlike", 6 << 20, "first"),
    "6 MiB of braces": _answer("kiro-classic", "braces", 6 << 20),
    "6 MiB in one ACP message": _answer("kiro-acp", "backslashes", 6 << 20, "whole"),
    "20 KB over ACP, a character each": _answer("kiro-acp", "objects", 20_000, "cut"),
    "200 KB on a screen": _answer("kiro-tui", "objects", 200_000),
    "64 KiB of requests unread, 10 times": partial(
        _send_unread, _PIPELINE * (65_536 // len(_PIPELINE)), 10
    ),
    "100 x GET /docs": partial(_exchange, _gets("/docs", 100)),
    "100 x GET /openapi.json": partial(_exchange, _gets("/openapi.json", 100)),
    "200 jobs and their list": partial(_list_jobs, 200),
    "200 reloads in 4 seconds": partial(_reload, 200),
}
