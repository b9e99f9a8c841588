"""
Run a server on real terminals while everything goes wrong at once.

Sessions are killed with SIGKILL at random; they die, hang, flood and fall silent in
the middle of turns; clients hang up.  Counted is what must not happen: another
caller's answer, a request without a response, a zombie, and a descriptor or process
that is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bench.server import agent, serving

_WORKERS = 4
_CLIENTS = 12
_OPTIONS = (
    *("--backlog", "64", "--queue-timeout", "20", "--request-timeout", "20"),
    *("--cancel-timeout", "1", "--stop-timeout", "0.5", "--max-output", "64k"),
    *("--restart-delay", "0.1", "--restart-max-delay", "0.5", "--max-requests", "20"),
)

#: The fault of a turn, its frequency in percent, and the client's deadline.
_FAULTS = [
    ("", 70, "20"),
    ("think=0.05", 10, "20"),
    ("killed=once-{n}", 6, "20"),
    ("die", 2, "20"),
    ("flood=200000", 4, "20"),
    ("silent", 2, "0.5"),
    ("hang", 1, "0.5"),
    ("late", 2, "0.5"),
]

#: Percentage of the clients that hang up.
_HANG_UP_PERCENT = 3


def main() -> None:
    """
    Send the requests and print the outcomes; exit with 1 if one must not happen.
    """
    parser = argparse.ArgumentParser("python -m bench.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.requests} requests, {_CLIENTS} clients, {_WORKERS} workers, kill -9 at random")
    began = time.monotonic()
    outcomes: Counter[str] = Counter(dict.fromkeys(_FORBIDDEN, 0))
    with agent() as stopwatch, serving(stopwatch, _WORKERS, *_OPTIONS) as server:
        _ask(server.port, 0, "x", "20")
        before = _descriptors(server.pid)
        over = Event()
        sessions: set[int] = set()
        killer = Thread(target=_kill, args=(server.port, over, sessions, options.seed, outcomes))
        killer.start()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            for outcome in clients.map(
                lambda n: _send(server.port, n, options.seed), range(options.requests)
            ):
                outcomes[outcome] += 1
        over.set()
        killer.join()
        _settle(server.port)
        outcomes["zombies"] = len(_zombies(server.pid))
        outcomes["descriptors left"] = max(0, _descriptors(server.pid) - before)
        sessions |= {worker["pid"] for worker in _workers(server.port)}
    outcomes["processes left"] = sum(_is_running(pid) for pid in sessions)
    for name, count in sorted(outcomes.items(), key=lambda item: (item[0] in _FORBIDDEN, item[0])):
        print(f"{name:>28} {count:>6}")
    print(f"in {time.monotonic() - began:.0f} s")
    sys.exit(any(outcomes[name] for name in _FORBIDDEN))


#: Outcomes whose count must be 0.
_FORBIDDEN = ("wrong answers", "lost requests", "zombies", "descriptors left", "processes left")


def _send(port: int, number: int, seed: int) -> str:
    """
    Send one request and return its outcome.
    """
    rng = random.Random(f"{seed} {number}")
    fault, _, deadline = rng.choices(_FAULTS, [weight for _, weight, _ in _FAULTS])[0]
    fault = fault.format(n=number)
    idea = f"idea {number}" + (f" [[{fault}]]" if fault else "")
    if rng.random() * 100 < _HANG_UP_PERCENT:
        _hang_up(port, idea, rng.uniform(0, 0.2))
        return "hung up"
    try:
        status, body = _ask(port, number, idea, deadline)
    except (OSError, HTTPException, ValueError):
        return "lost requests"
    if status == 200:
        return "answered" if body["title"] == idea else "wrong answers"
    return f"{status} {body['code']}"


def _ask(port: int, number: int, idea: str, deadline: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "X-Request-Timeout": deadline}
        body = json.dumps({"idea": idea})
        connection.request("POST", "/kiro/generate-story", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _hang_up(port: int, idea: str, delay: float) -> None:
    """
    Send a request and disconnect before its answer.
    """
    body = json.dumps({"idea": idea}).encode()
    head = (
        "POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(delay)


def _workers(port: int) -> list[Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/health")
        workers = json.loads(connection.getresponse().read())["workers"]
        return list(workers.values())
    finally:
        connection.close()


def _kill(port: int, over: Event, sessions: set[int], seed: int, outcomes: Counter[str]) -> None:
    """
    Kill a random session from time to time.
    """
    rng = random.Random(seed)
    while not over.wait(rng.uniform(0.1, 0.6)):
        pids = [worker["pid"] for worker in _workers(port) if worker["pid"]]
        sessions.update(pids)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(pids), signal.SIGKILL)
                outcomes["sessions killed"] += 1


def _settle(port: int) -> None:
    """
    Wait until every worker is idle, for at most a minute.
    """
    for _ in range(600):
        if all(worker["status"] == "idle" for worker in _workers(port)):
            return
        time.sleep(0.1)


def _processes() -> Iterator[tuple[int, int, str]]:
    """
    Yield the id, the parent's id and the state of every process.
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(fields[1]), fields[0]


def _zombies(parent: int) -> list[int]:
    return [pid for pid, of, state in _processes() if of == parent and state == "Z"]


def _is_running(pid: int) -> bool:
    return any(process == pid and state != "Z" for process, _, state in _processes())


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    main()
