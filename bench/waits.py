"""
Compare how long clients are told to wait with how long they wait.

A queued request gets an estimate, and a refused one gets Retry-After.  Both are compared with
the time until the request's turn began; a refused request is repeated twenty times a second
until then.  Turns take 1.5 seconds, and starts take 2 seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.figures import median
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Agent, Server, agent, client, serving

QUESTION = "do clients wait as long as they are told?"

_TURN = 1.5
_START = 2.0
_INTERVAL = 0.05
_BACKLOG = 6
_MOST_PROBES = 1000
_HEADERS = {"Content-Type": "application/json"}

#: The name of the phase in which every session fails.
_FAILED = "no session starts"

#: What a session that cannot start runs; its version is that of the stand-in.
_BROKEN = '#!/bin/sh\n[ "$1" = --version ] && exec echo kiro-cli 2.11.0\nexit 1\n'


@frozen
class Wait:
    """
    Hold one wait, in seconds: what the client was told, and what it was.
    """

    told: float
    actual: float


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    waits: dict[str, list[Wait]] = {}
    with (
        agent(FAKEKIRO=f"slow={_START}") as stopwatch,
        _warm(
            *(stopwatch, 2, "--backlog", str(_BACKLOG), "--restart-delay", "1"),
            *("--start-limit-burst", "2", "--restart-max-delay", "6"),
        ) as server,
    ):
        number = 2 + _BACKLOG
        with ThreadPoolExecutor(number + 3) as executor:
            queued = [executor.submit(_queued, server) for _ in range(number)]
            while _health(server)["queue"]["length"] < _BACKLOG:
                pass
            refused = [executor.submit(_repeated, server) for _ in range(3)]
            waits["in the queue"] = [wait for future in queued for wait in future.result()]
            waits["queue full"] = [wait for future in refused for wait in future.result()]
        _story(server, "x [[trouble=throttled_shortly]]")
        waits["throttled"] = _together(server, _repeated, 2)
        _kill_sessions(server)
        waits["sessions restart"] = _together(server, _queued, 3)
        waits[_FAILED] = _while_failed(stopwatch, server)
    with (
        agent(FAKEKIRO=f"slow={_START}") as stopwatch,
        _warm(stopwatch, 1, "--max-workers", "3", "--min-spare", "0") as server,
    ):
        waits["pool grows"] = _together(server, _queued, 4)
    return [figure for name, samples in waits.items() for figure in _figures(name, samples)]


def _figures(name: str, waits: Sequence[Wait]) -> Iterator[Figure]:
    """
    Yield how far what clients were told was from what they met.
    """
    errors = [wait.actual - wait.told for wait in waits]
    sizes = [abs(error) for error in errors]
    ratios = [wait.actual / wait.told for wait in waits if wait.told > 0]
    # A part of a second is rounded up in Retry-After.  While no session starts, it is the time
    # of the next attempt, whose length nobody knows.
    most = 1 + _START if name == _FAILED else 1
    yield Figure(f"{name}: median error", median(sizes), "s", Limit(most=most))
    yield Figure(f"{name}: worst, longer if positive", max(errors, key=abs), "s")
    yield Figure(f"{name}: median of actual to told", median(ratios), "x")


@contextmanager
def _warm(stopwatch: Agent, workers: int, *more: str) -> Iterator[Server]:
    """
    Run a server that knows how long turns take.
    """
    with serving(stopwatch, workers, *more, *UNRENEWED) as server:
        with ThreadPoolExecutor(workers) as executor:
            list(executor.map(lambda _: _story(server, _idea()), range(5)))
        _await(server, lambda workers: not any(worker["busy"] for worker in workers))
        yield server


def _idea() -> str:
    return f"an idea [[think={_TURN}]]"


def _together(server: Server, request: Callable[[Server], list[Wait]], number: int) -> list[Wait]:
    """
    Return the waits of `number` simultaneous requests.
    """
    with ThreadPoolExecutor(number) as executor:
        rows = executor.map(lambda _: request(server), range(number))
        return [wait for row in rows for wait in row]


def _story(server: Server, idea: str) -> tuple[int, Any]:
    """
    Request a story; return the status and the body of the response.
    """
    with client(server.port) as connection:
        connection.request("POST", "/kiro/generate-story", json.dumps({"idea": idea}), _HEADERS)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def _queued(server: Server) -> list[Wait]:
    """
    Return the wait of a request with a stream of events; none if it need not wait.
    """
    headers = {**_HEADERS, "Accept": "text/event-stream"}
    waits: list[Wait] = []
    told, since, event = 0.0, 0.0, ""
    with client(server.port) as connection:
        connection.request("POST", "/kiro/generate-story", json.dumps({"idea": _idea()}), headers)
        for line in connection.getresponse():
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                event = value
            elif field == "data" and event == "queued":
                told, since = json.loads(value)["estimate"], time.monotonic()
            elif field == "data" and event == "started" and since and not waits:
                waits.append(Wait(told, time.monotonic() - since))
            elif field == "data" and event == "error":
                raise RuntimeError(value)
    return waits


def _repeated(server: Server) -> list[Wait]:
    """
    Return the waits of a request that is repeated until it is answered.

    There is one for each time that the client was told, unless it follows from the one before.
    """
    refusals: list[tuple[float, int]] = []
    for _ in range(_MOST_PROBES):
        status, body = _story(server, _idea())
        now = time.monotonic()
        if status == 200:
            return [Wait(told, now - _TURN - since) for since, told in refusals]
        told = body["retryAfter"]
        expected = refusals[-1][1] - (now - refusals[-1][0]) if refusals else -1.0
        if not expected <= told <= expected + 1:
            refusals.append((now, told))
        time.sleep(_INTERVAL)
    raise RuntimeError(f"never answered: {body}")


def _while_failed(stopwatch: Agent, server: Server) -> list[Wait]:
    """
    Return the waits of a request whose agent cannot be started for a while.
    """
    program = Path(shutil.which("kiro-cli", path=stopwatch.environment["PATH"]) or "")
    original = program.read_text()
    program.write_text(_BROKEN)
    _kill_sessions(server)
    _await(server, lambda workers: all(worker["state"] == "failed" for worker in workers))
    program.write_text(original)
    return _repeated(server)


def _kill_sessions(server: Server) -> None:
    for worker in _health(server)["workers"].values():
        os.kill(worker["pid"], signal.SIGKILL)
    _await(server, lambda workers: not any(worker["healthy"] for worker in workers))


def _health(server: Server) -> Any:
    with client(server.port) as connection:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())


def _await(server: Server, is_so: Callable[[list[Any]], bool]) -> None:
    """
    Wait until what ``/health`` says of the workers `is_so`.
    """
    for _ in range(_MOST_PROBES):
        if is_so([*_health(server)["workers"].values()]):
            return
        time.sleep(_INTERVAL)
    raise RuntimeError(f"the server did not change: {_health(server)}")
