"""
Follow a job's stream of events, and continue where it broke off.
"""

from __future__ import annotations

import json
import time
from threading import Event
from typing import Any

from attrs import define, field, frozen

from bench.chaos.http import Connection
from bench.chaos.world import authorization
from tests.cost_cases import request

#: Seconds until a stream that broke off is opened again.
_RETRY_DELAY = 0.3

#: The events that end a stream.
_LAST = ("answer", "error", "cancelled")


class Wrong(Exception):
    """
    Raised if a stream has what it must not have.
    """


@frozen
class StreamEvent:
    """
    Hold an event of a stream.
    """

    id: str
    name: str
    data: str


@define
class Follower:
    """
    Collect the events of a job.

    Attributes:
        over: Set to make it give up.
        last: The identifier of the last event; empty before the first one.
        gaps: How many gaps there were.
        reconnects: How often the stream was opened again.
    """

    over: Event = field(factory=Event)
    last: str = ""
    gaps: int = 0
    reconnects: int = 0
    _text: str = field(default="", init=False)

    def follow(self, port: int, client: str, id: str, until: float) -> StreamEvent:
        """
        Return the event that ends the stream of job `id`.

        Raises:
            Wrong: There is none, or an event came twice or late.
        """
        while time.monotonic() < until and not self.over.is_set():
            try:
                last = self._listen(port, client, id)
            except (OSError, ValueError):
                last = None
            if last is not None:
                return last
            self.reconnects += 1
            self.over.wait(_RETRY_DELAY)
        raise Wrong(f"the stream of job {id} did not end; last event {self.last!r}")

    def _listen(self, port: int, client: str, id: str) -> StreamEvent | None:
        headers = {**authorization(client), "Last-StreamEvent-ID": self.last}
        with Connection(port) as connection:
            connection.send(request("GET", f"/jobs/{id}/events", headers=headers))
            status, _ = connection.receive_head()
            if status != 200:
                return None
            self._text = ""
            for chunk in connection.receive_chunks():
                for event in self.feed(chunk.decode()):
                    if event.name in _LAST:
                        return event
        return None

    def feed(self, text: str) -> list[StreamEvent]:
        """
        Return the events that `text` completes.

        Raises:
            Wrong: One of them has come before.
        """
        *blocks, self._text = (self._text + text).split("\n\n")
        events = []
        for block in blocks:
            fields = dict(
                line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":"
            )
            if "event" not in fields:
                continue
            event = StreamEvent(fields.get("id", ""), fields["event"], fields.get("data", ""))
            if event.name == "gap":
                self.gaps += 1
            if event.id:
                if self.last and not _follows(event.id, self.last):
                    raise Wrong(f"event {event} came after {self.last}")
                self.last = event.id
            events.append(event)
        return events


def answer_of(event: StreamEvent) -> Any:
    """
    Return the data of an event.
    """
    return json.loads(event.data)


def _follows(id: str, earlier: str) -> bool:
    """
    Return whether an event's identifier is greater than an earlier one's.
    """
    if "end" in (id, earlier):
        return earlier != "end"
    return _number(id) > _number(earlier)


def _number(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split("-")))
