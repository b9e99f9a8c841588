"""
Everything goes wrong at once, on real terminals: sessions are killed with -9 at
random, die, hang, flood and fall silent in the middle of turns, and clients hang
up.  What must not happen is counted: an answer that is another's, a request
without a response, a zombie, a descriptor or a process that is left.
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

#: What goes wrong in a turn, how often of a hundred, and the client's deadline.
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

#: Of a hundred clients, so many hang up.
_HANG_UPS = 3


def main() -> None:
    """
    Ask, and print what came of it; the exit status says whether all was well.
    """
    parser = argparse.ArgumentParser("python -m bench.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.requests} requests, {_CLIENTS} clients, {_WORKERS} workers, kill -9 at random")
    began = time.monotonic()
    outcomes: Counter[str] = Counter(dict.fromkeys(_MUST_NOT, 0))
    with agent() as stopwatch, serving(stopwatch, _WORKERS, *_OPTIONS) as server:
        _ask(server.port, 0, "x", "20")
        before = _descriptors(server.pid)
        over = Event()
        sessions: set[int] = set()
        killer = Thread(target=_kill, args=(server.port, over, sessions, options.seed, outcomes))
        killer.start()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            for outcome in clients.map(
                lambda n: _one(server.port, n, options.seed), range(options.requests)
            ):
                outcomes[outcome] += 1
        over.set()
        killer.join()
        _settle(server.port)
        outcomes["zombies"] = len(_zombies(server.pid))
        outcomes["descriptors left"] = max(0, _descriptors(server.pid) - before)
        sessions |= {each["pid"] for each in _workers(server.port)}
    outcomes["processes left"] = sum(_lives(pid) for pid in sessions)
    for name, count in sorted(outcomes.items(), key=lambda each: (each[0] in _MUST_NOT, each[0])):
        print(f"{name:>28} {count:>6}")
    print(f"in {time.monotonic() - began:.0f} s")
    sys.exit(any(outcomes[name] for name in _MUST_NOT))


#: What is counted and must be 0.
_MUST_NOT = ("wrong answers", "lost requests", "zombies", "descriptors left", "processes left")


def _one(port: int, number: int, seed: int) -> str:
    """
    One request, and what came of it.
    """
    chance = random.Random(f"{seed} {number}")
    fault, _, deadline = chance.choices(_FAULTS, [each[1] for each in _FAULTS])[0]
    fault = fault.format(n=number)
    idea = f"idea {number}" + (f" [[{fault}]]" if fault else "")
    if chance.random() * 100 < _HANG_UPS:
        _hang_up(port, idea, chance.uniform(0, 0.2))
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


def _hang_up(port: int, idea: str, patience: float) -> None:
    """
    Ask, and be gone before there is an answer.
    """
    body = json.dumps({"idea": idea}).encode()
    head = (
        "POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(patience)


def _workers(port: int) -> list[Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/health")
        found = json.loads(connection.getresponse().read())["workers"]
        return list(found.values())
    finally:
        connection.close()


def _kill(port: int, over: Event, sessions: set[int], seed: int, outcomes: Counter[str]) -> None:
    """
    Kill a session from time to time.
    """
    chance = random.Random(seed)
    while not over.wait(chance.uniform(0.1, 0.6)):
        pids = [each["pid"] for each in _workers(port) if each["pid"]]
        sessions.update(pids)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                outcomes["sessions killed"] += 1


def _settle(port: int) -> None:
    """
    Wait until every worker is idle, for a minute at most.
    """
    for _ in range(600):
        if all(each["status"] == "idle" for each in _workers(port)):
            return
        time.sleep(0.1)


def _processes() -> Iterator[tuple[int, int, str]]:
    """
    The id, the parent's id and the state of every process.
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(fields[1]), fields[0]


def _zombies(parent: int) -> list[int]:
    return [pid for pid, of, state in _processes() if of == parent and state == "Z"]


def _lives(pid: int) -> bool:
    return any(each == pid and state != "Z" for each, _, state in _processes())


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    main()
