"""
Stream the events of a job, from its acceptance to its end.

A client that has lost its connection sends the identifier of the last event that it has
seen, and gets exactly those that followed; see `JobEventSource`.  Disconnecting does not
cancel the job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput, StorageUnavailable
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.jobs.job_events import END, EVENT_ID_PATTERN, JobEvent, JobEventSource
from kiroworkers.jobs.store import JobStore
from kiroworkers.web.errors import job_error_json
from kiroworkers.web.events import EventWriter, event, json_event
from kiroworkers.web.request_options import header

#: The header with the identifier of the last event that a client has seen.
LAST_EVENT_ID = "Last-Event-ID"


class JobStream:
    """
    Send the events of jobs to clients.

    Args:
        clock: Times the comments that keep a silent connection open.
        store: Holds the jobs.
        events: Passes on the events of jobs.
    """

    def __init__(self, clock: IReactorTime, store: JobStore, events: JobEventSource) -> None:
        self._clock = clock
        self._store = store
        self._events = events

    async def respond(self, request: IRequest, job: Job) -> bytes:
        """
        Send the events of `job`, which the client may see, until it has ended.

        Without an event to send, because the client has seen the last one, respond with 204.

        Raises:
            InvalidInput: The identifier of the last event is invalid.
        """
        after = _last_event_id(request)
        if after == END and not job.unfinished:
            request.setResponseCode(204)
            return b""
        writer = EventWriter(self._clock, request, event)
        try:
            # The response begins at once.
            writer.write_comment("kiroworkers")
            if request.method != b"HEAD":
                ended = await self._send_events(writer, job, after)
                if ended is not None:
                    name, data = _last_event(ended)
                    writer.write(_encoded(END, name, data))
            await writer.drained()
        finally:
            writer.close()
        return b""

    async def _send_events(self, writer: EventWriter, job: Job, after: str | None) -> Job | None:
        """
        Send all events of `job` but the last one.

        Returns:
            The job when it has ended; None if the server stops before, or the job was deleted.
        """
        # It is not known yet whether the job has ended before anybody listened.
        early: list[JobEvent] | None = []

        def on_event(event: JobEvent) -> None:
            if early is None:
                writer.write(_encoded(str(event.id), event.name, event.data))
            else:
                early.append(event)

        if job.unfinished:
            listening = self._events.listen(job, after, on_event)
            try:
                current = await self._store.get(job.id)
            except StorageUnavailable:
                current = job
            except BaseException:
                _stop_listening(listening)
                raise
            if current is not None and (listening.called or current.unfinished):
                events, early = early or [], None
                for job_event in events:
                    on_event(job_event)
                # A client that disconnects cancels this.
                return await listening
            _stop_listening(listening)
            if current is None:
                return None
            job = current
        early = None
        await self._events.replay(job, after, on_event)
        return job


def _stop_listening(listening: Deferred[Job | None]) -> None:
    listening.addErrback(lambda failure: failure.trap(CancelledError))
    listening.cancel()


def _last_event(job: Job) -> tuple[str, Mapping[str, Any]]:
    """
    Return the name and the data of the last event of a job that has ended.
    """
    match job.result:
        case JobAnswer(value=value):
            return "answer", value
        case JobFailure() as failure:
            return "error", job_error_json(job, failure)
    return "cancelled", {}


def _encoded(id: str, name: str, data: Mapping[str, Any]) -> bytes:
    return f"id: {id}\n".encode() + json_event(data, name)


def _last_event_id(request: IRequest) -> str | None:
    """
    Return the identifier of the last event that the client has seen, or None.

    Raises:
        InvalidInput: It cannot be one.
    """
    # Tools cannot always set a header.
    values = {
        LAST_EVENT_ID: header(request, LAST_EVENT_ID) or "",
        "after": request.args.get(b"after", [b""])[0].decode("utf-8", "replace"),
    }
    for name, text in values.items():
        if not re.fullmatch(EVENT_ID_PATTERN, text):
            raise InvalidInput(name, f"{name} must be the id of an event of the job")
    return next(filter(None, values.values()), None)
