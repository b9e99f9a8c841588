"""
Read an answer that arrives as server-sent events.
"""

from __future__ import annotations

import json
from typing import Any

from kiroworkers.client.event_stream import Event, EventReader
from kiroworkers.client.events import Noticed, Queued, Retrying, Said, Started, Watch


class AnswerStream:
    """
    Read the events of one request, and report all but the last to `watch`.

    Args:
        watch: Called with each event that reports progress.
        limit: The maximum size of an event, in bytes.

    Attributes:
        answer: The answer, once it has arrived.
        error: The server's error object, if that has arrived instead.
        headers: The headers that describe the answer, if the server has sent them.
        worker: The worker that was given the request last.
        attempts: The number of its attempt.
    """

    def __init__(self, watch: Watch, limit: int) -> None:
        self._watch = watch
        self._reader = EventReader(limit)
        self.answer: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.headers: dict[str, Any] = {}
        self.worker: str | None = None
        self.attempts = 1

    def feed(self, data: bytes) -> bool:
        """
        Take bytes, cut anywhere, and return whether the request has ended.

        Raises:
            EventTooLong: If an event is longer than the limit.
        """
        for event in self._reader.feed(data):
            self._handle_event(event)
        return self.answer is not None or self.error is not None

    def _handle_event(self, event: Event) -> None:
        try:
            payload = json.loads(event.data)
        except (ValueError, RecursionError):
            payload = None
        # A later server may send other events, or other members: they are ignored.
        match event.name, payload:
            case "answer", dict():
                self.answer = payload
            case "error", dict():
                self.error = payload
            case "headers", dict():
                self.headers = payload
            case "queued", {"position": int(position), "estimate": int() | float() as seconds}:
                self._watch(Queued(position, seconds))
            case "started", {"worker": str(worker), "attempt": int(attempt)}:
                self.worker, self.attempts = worker, attempt
                self._watch(Started(worker, attempt))
            case "text", {"text": str(text)}:
                self._watch(Said(text))
            case "retry", {"reason": str(reason)}:
                self._watch(Retrying(reason))
            case "notice", {"kind": str(kind), "detail": str(detail)}:
                self._watch(Noticed(kind, detail))
