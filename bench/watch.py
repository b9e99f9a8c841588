"""
Measure what it costs to see inside: viewers of terminals, and logs, metrics and history.

Sessions draw spinners while clients follow their terminals over WebSockets.  Requests to other
sessions are timed with the viewers and without them, in turn.

Then three kinds of server answer the same instant turns, in turn: as it is, with nobody watching;
one that only keeps what viewers would be shown; and one that nobody takes note of
(``bench/unobserved.py``).  Their CPU time is compared, since that depends least on what else the
machine does.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from threading import Event, Thread
from typing import Any

from bench.crowd import streams
from bench.figures import cpu, median
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Server, agent, client, post, serving

QUESTION = "what does it cost to see inside?"

_STREAMING, _VIEWERS = 50, 20
#: The sessions for the requests that are timed.
_ASKED = 2
_WATCHED_ROUNDS, _WATCHED_TURNS = 24, 25
#: Longer than the requests are timed.
_STREAMED_SECONDS = 240.0

#: Seconds until viewers have what came before, and between two reads of one.
_SETTLED_AFTER, _LOOK_EVERY = 0.5, 0.05

_HANDSHAKE = (
    b"GET /terminal?worker=%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
#: What each message has once.
_MESSAGE = b'"type"'

_UNOBSERVED = (sys.executable, "-m", "bench.unobserved")
#: Short rounds, so that whatever else the machine does meets all servers; and several servers of
#: each kind, since two processes of one program differ by some percent.
_ROUNDS, _TURNS, _COPIES = 31, 15, 3


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    return [*_watched(), *_unwatched()]


def _watched() -> list[Figure]:
    """
    Return what viewers cost those who ask.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    shown: list[float] = []
    with (
        agent() as stopwatch,
        serving(stopwatch, _STREAMING + _ASKED, *UNRENEWED) as server,
        streams(server, _STREAMING, _STREAMED_SECONDS),
        client(server.port) as connection,
    ):
        streaming = _busy_workers(server)
        for number in range(_WATCHED_ROUNDS):
            for watched in (True, False) if number % 2 else (False, True):
                with _watching(server, streaming[:_VIEWERS] if watched else ()) as viewers:
                    began = time.monotonic()
                    seconds[watched] += [
                        _timed(connection, f"idea {turn}") for turn in range(_WATCHED_TURNS)
                    ]
                    took = time.monotonic() - began
                    if watched:
                        shown.append(viewers.messages / took / _VIEWERS)
    label = f"{_STREAMING} sessions at 12 frames a second"
    with_viewers, without = median(seconds[True]), median(seconds[False])
    return [
        Figure(f"a request, {label}, p50", without * 1000, "ms"),
        Figure(f"a request, {label}, {_VIEWERS} viewers, p50", with_viewers * 1000, "ms"),
        Figure("messages to each viewer", median(shown), "a second"),
        Figure("a request with viewers to without", with_viewers / without, "x", Limit(most=1.1)),
    ]


def _busy_workers(server: Server) -> list[str]:
    """
    Return the names of the workers that stream.
    """
    with client(server.port) as connection:
        connection.request("GET", "/health")
        workers = json.load(connection.getresponse())["workers"]
    busy = [name for name, worker in workers.items() if worker["state"] == "busy"]
    if len(busy) != _STREAMING:
        raise RuntimeError(f"{len(busy)} sessions stream, not {_STREAMING}")
    return busy


def _timed(connection: HTTPConnection, idea: str) -> float:
    """
    Return the seconds that a request takes.
    """
    began = time.monotonic()
    post(connection, idea)
    return time.monotonic() - began


class _Viewers:
    """
    Follow one worker on each of many WebSockets, and count what arrives.

    Attributes:
        messages: The number of messages so far.

    Args:
        port: The server's port.
        workers: The names of the workers.
    """

    def __init__(self, port: int, workers: Sequence[str]) -> None:
        self.messages = 0
        self._over = Event()
        self._selector = selectors.DefaultSelector()
        for worker in workers:
            viewer = socket.create_connection(("127.0.0.1", port), timeout=10)
            viewer.sendall(_HANDSHAKE % worker.encode())
            if b" 101 " not in viewer.recv(32):
                raise RuntimeError("the server does not speak WebSocket")
            self._selector.register(viewer, selectors.EVENT_READ)

    def run(self) -> None:
        """
        Read until `stop` is called.

        Several times a second, as a browser does, so that the viewers use little of the machine.
        """
        while not self._over.wait(_LOOK_EVERY):
            for key, _ in self._selector.select(0):
                viewer = key.fileobj
                assert isinstance(viewer, socket.socket)
                self.messages += viewer.recv(1 << 20).count(_MESSAGE)

    def stop(self) -> None:
        """
        Leave.
        """
        self._over.set()
        for key in [*self._selector.get_map().values()]:
            viewer = key.fileobj
            assert isinstance(viewer, socket.socket)
            viewer.close()
        self._selector.close()


@contextmanager
def _watching(server: Server, workers: Sequence[str]) -> Iterator[_Viewers]:
    """
    Watch each of `workers`.
    """
    viewers = _Viewers(server.port, workers)
    reader = Thread(target=viewers.run)
    reader.start()
    try:
        time.sleep(_SETTLED_AFTER)
        viewers.messages = 0
        yield viewers
    finally:
        viewers.stop()
        reader.join()


def _unwatched() -> list[Figure]:
    """
    Return what it costs to keep what nobody looks at.
    """
    kinds: dict[str, Mapping[str, Any]] = {
        "nothing": {"twistd": (*_UNOBSERVED, "nothing")},
        "terminals": {"twistd": (*_UNOBSERVED, "terminals")},
        "everything": {},
    }
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        stopwatch = stack.enter_context(agent())
        clients: list[tuple[str, Server, HTTPConnection]] = []
        # Since the round before: some of what a server notes is done after its turns.
        counted: dict[int, float] = {}
        for kind, options in [*kinds.items()] * _COPIES:
            server = stack.enter_context(serving(stopwatch, 1, *UNRENEWED, **options))
            clients.append((kind, server, stack.enter_context(client(server.port))))
        for number in range(_ROUNDS):
            totals = dict.fromkeys(kinds, 0.0)
            for kind, server, connection in clients:
                before = counted.get(server.pid, 0.0)
                for turn in range(_TURNS):
                    post(connection, f"idea {turn}")
                counted[server.pid] = cpu(server.pid)
                totals[kind] += (counted[server.pid] - before) / (_TURNS * _COPIES)
            if number:  # the first round warms up
                for kind, total in totals.items():
                    samples[kind].append(total)
    used = {kind: median(values) for kind, values in samples.items()}
    return [
        Figure("CPU of a turn that nobody takes note of", used["nothing"] * 1000, "ms"),
        Figure("CPU of a turn of which terminals are kept", used["terminals"] * 1000, "ms"),
        Figure("CPU of a turn with logs, metrics and history", used["everything"] * 1000, "ms"),
        Figure(
            "terminals that nobody watches to none",
            _ratio(samples["terminals"], samples["nothing"]),
            "x",
            Limit(most=1.03),
        ),
        Figure(
            "logs, metrics and history to none",
            _ratio(samples["everything"], samples["terminals"]),
            "x",
            Limit(most=1.05),
        ),
    ]


def _ratio(samples: Sequence[float], others: Sequence[float]) -> float:
    """
    Return the median of the ratios of samples that were taken one after the other.
    """
    return median([sample / other for sample, other in zip(samples, others, strict=True)])
