"""
What a request costs the server while others wait: CPU time of the server for
each answer, with 10, 1,000 and 10,000 requests in the queue all the time.

The pool is paused until the queue is as long as it shall be; then answers are
counted, each followed by one more request.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.server import Server, agent, serving

_LENGTHS = (10, 1_000, 10_000)
_BODY = json.dumps({"idea": "x"}).encode()
_REQUEST = (
    b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser("python -m bench.queue", description=__doc__)
    parser.add_argument("--answers", type=int, default=1000, help="for each row [1000]")
    parser.add_argument("--rounds", type=int, default=3, help="of all rows, in turn [3]")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lengths = [length for length in _LENGTHS if length + 200 < most]
    found: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(options.rounds):
        for length in lengths:
            found[length].append(_cpu(length, options.answers))
    print(f"CPU of the server for an answer, {options.answers} answers, best of {options.rounds}")
    print(f"{'waiting':>9}{'ms':>9}{'ratio':>8}")
    first = min(found[lengths[0]])
    for length in lengths:
        best = min(found[length])
        print(f"{length:>9,}{best * 1000:>9.3f}{best / first:>8.2f}")


def _cpu(length: int, answers: int) -> float:
    """
    Seconds of CPU for an answer while `length` requests wait.
    """
    # Nothing but the queue: no timeouts, no refusals, no renewals.
    most = str(length + 100)
    more = ("--backlog", most, "--max-connections", most, "--max-requests", "1000000")
    patient = ("--queue-timeout", "3600", "--request-timeout", "3600")
    with (
        agent() as stopwatch,
        serving(stopwatch, 1, *more, *patient) as server,
        _queue(server, length) as connections,
    ):
        _answers(connections, 50)
        before = _used(server.pid)
        _answers(connections, answers)
        return (_used(server.pid) - before) / answers


@contextmanager
def _queue(server: Server, length: int) -> Iterator[selectors.BaseSelector]:
    """
    Connections that each wait for an answer.
    """
    _operate(server, "pause")
    with selectors.DefaultSelector() as selector:
        connections = []
        try:
            for _ in range(length):
                connection = socket.create_connection(("127.0.0.1", server.port))
                connection.sendall(_REQUEST)
                selector.register(connection, selectors.EVENT_READ)
                connections.append(connection)
            while _operate(server, "queue", "GET")["requests"] < length:
                pass
            _operate(server, "resume")
            yield selector
        finally:
            for connection in connections:
                connection.close()


def _answers(selector: selectors.BaseSelector, count: int) -> None:
    """
    Take so many answers, each followed by one more request on its connection.
    """
    while count > 0:
        for key, _ in selector.select():
            connection: Any = key.fileobj
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer)
            connection.sendall(_REQUEST)
            count -= 1


def _operate(server: Server, what: str, method: str = "POST") -> dict[str, int]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, f"/operator/{what}")
    body = json.loads(connection.getresponse().read())
    connection.close()
    return {"requests": len(body.get("requests", ()))}


def _used(pid: int) -> float:
    """
    Seconds of CPU that a process has used.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
