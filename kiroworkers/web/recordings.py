"""
Serve the recordings of sessions.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.telemetry.recording_folder import (
    RecordingInfo,
    RecordingInUse,
    UnknownRecording,
)
from kiroworkers.telemetry.recordings import Recordings
from kiroworkers.web.documents import RunInThread
from kiroworkers.web.errors import JSON_TYPE, HttpError
from kiroworkers.web.pieces import send_file_in_pieces, send_in_pieces
from kiroworkers.web.views import milliseconds

#: The media types by the end of a name.
ASCIICAST, JSON_LINES = "application/x-asciicast", "application/jsonl"

#: The number of requests that are listed with a recording: the last ones.
_MAX_LISTED = 100

#: The longest name that an error quotes, in characters.
_MAX_QUOTED = 100


class RecordingHandler:
    """
    Handle requests for recordings, which only operators may send.

    Args:
        clock: Measures how long clients read.
        recordings: Has the recordings.
        run_in_thread: Reads files.
    """

    def __init__(
        self, clock: IReactorTime, recordings: Recordings, run_in_thread: RunInThread
    ) -> None:
        self._clock = clock
        self._recordings = recordings
        self._run_in_thread = run_in_thread

    async def list_all(self, request: IRequest) -> bytes:
        """
        Respond with all recordings, newest first.
        """
        listed = await self._recordings.list(recording_json)
        content = b'{"recordings":%b}' % listed
        request.setHeader(b"content-type", JSON_TYPE)
        request.setHeader(b"content-length", b"%d" % len(content))
        await send_in_pieces(self._clock, request, content)
        return b""

    async def download(self, request: IRequest, name: str) -> bytes:
        """
        Respond with the recording `name`, as far as it is written.

        Raises:
            HttpError: There is no such recording.
        """
        try:
            opened = await self._recordings.open_recording(name)
        except UnknownRecording:
            opened = None
        if opened is None:
            raise _not_found(name)
        file, size = opened
        with file:
            media_type = ASCIICAST if name.endswith(".cast") else JSON_LINES
            request.setHeader(b"content-type", media_type.encode())
            # The name has only letters, digits and punctuation that needs no quoting.
            disposition = f'attachment; filename="{name}"'
            request.setHeader(b"content-disposition", disposition.encode())
            request.setHeader(b"content-length", b"%d" % size)
            request.setHeader(b"cache-control", b"no-store")
            if request.method != b"HEAD":
                await send_file_in_pieces(
                    self._clock,
                    request,
                    lambda count, position: self._run_in_thread(
                        partial(os.pread, file.fileno(), count, position)
                    ),
                    size,
                )
        return b""

    async def delete(self, request: IRequest, name: str) -> bytes:
        """
        Delete the recording `name`.

        Raises:
            HttpError: There is no such recording, or it is being written.
        """
        try:
            deleted = await self._recordings.delete(name)
        except UnknownRecording:
            deleted = False
        except RecordingInUse:
            raise HttpError(
                ErrorCode.RECORDING_IN_USE,
                f"Recording {name} is being written; it can be deleted when its session has ended",
            ) from None
        if not deleted:
            raise _not_found(name)
        request.setResponseCode(204)
        return b""


def recording_json(info: RecordingInfo) -> dict[str, Any]:
    """
    Return a recording as clients read it.
    """
    return {
        "name": info.name,
        "worker": info.worker,
        "agent": info.agent,
        "format": info.format,
        "started": milliseconds(info.started),
        "ended": None if info.ended is None else milliseconds(info.ended),
        "bytes": info.bytes,
        "requests": info.requests[-_MAX_LISTED:],
    }


def _not_found(name: str) -> HttpError:
    return HttpError(ErrorCode.UNKNOWN_RECORDING, f"Recording {name[:_MAX_QUOTED]!r} not found")
