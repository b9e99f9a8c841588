"""
Read which media types a client accepts.
"""

from __future__ import annotations

from attrs import frozen
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.web.errors import HttpError


@frozen
class AcceptedTypes:
    """
    Hold which of the two media types of responses a client accepts.
    """

    json: bool
    events: bool


def accepted_types(request: IRequest) -> AcceptedTypes:
    """
    Return which media types the client of `request` accepts.

    The specification has clients accept both.  One that accepts one of them is served, too, and so
    is one that does not say.

    Raises:
        HttpError: It accepts neither.
    """
    lines = request.requestHeaders.getRawHeaders(b"accept", [])
    ranges = [*filter(None, map(_accepted_range, b",".join(lines).split(b",")))]
    if not lines or b"*/*" in ranges:
        return AcceptedTypes(json=True, events=True)
    accepted = AcceptedTypes(
        json=not {b"application/json", b"application/*"}.isdisjoint(ranges),
        events=not {b"text/event-stream", b"text/*"}.isdisjoint(ranges),
    )
    if not (accepted.json or accepted.events):
        raise HttpError(
            ErrorCode.NOT_ACCEPTABLE, "Accept application/json, text/event-stream, or both"
        )
    return accepted


def _accepted_range(text: bytes) -> bytes:
    """
    Return the media range in `text`; empty if its weight is zero.
    """
    name, *parameters = text.lower().replace(b" ", b"").split(b";")
    weights = [value[2:] for value in parameters if value.startswith(b"q=")]
    return b"" if weights and not weights[0].strip(b"0.") else name
