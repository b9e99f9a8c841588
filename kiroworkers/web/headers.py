"""
What a response says of the answer in it: who gave it, and how that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from twisted.web.iweb import IRequest

from kiroworkers.sessions.pool import Answer
from kiroworkers.tasks.normalise import Change

#: So many fields are named in a header.
_MOST_FIELDS = 20

#: Every header, as pages of other origins may read it.
TOLD = tuple(
    b"X-Kiroworkers-" + name
    for name in (
        b"Agent",
        b"Worker",
        b"Attempts",
        b"Completion",
        b"Source",
        b"Rejoined",
        b"Normalised",
        b"Tools-Denied",
        b"Tools-Allowed",
    )
)


def tell_agent(request: IRequest, name: str) -> None:
    """
    Which agent answers.
    """
    _tell(request, "Agent", name)


def tell_answer(request: IRequest, answer: Answer) -> None:
    """
    Which worker answered, in how many attempts; how the end of its turn was
    known, and where the text was read; how many questions of tools there were.
    """
    reply = answer.reply
    _tell(request, "Worker", answer.worker)
    _tell(request, "Attempts", str(answer.attempts))
    _tell(request, "Completion", reply.completion)
    _tell(request, "Source", reply.source)
    for name, questions in (("Tools-Denied", reply.denied), ("Tools-Allowed", reply.allowed)):
        if questions:
            _tell(request, name, str(len(questions)))


def tell_rejoined(request: IRequest) -> None:
    """
    The answer was joined across lines that were cut.
    """
    _tell(request, "Rejoined", "1")


def tell_normalised(request: IRequest, changes: Iterable[Change]) -> None:
    """
    Which fields of the answer were brought into the form that was asked for.
    """
    fields = [*dict.fromkeys(each.field for each in changes)]
    if fields:
        # A file of the user's may name a field as it likes.
        _tell(request, "Normalised", ", ".join(map(quote, fields[:_MOST_FIELDS])))


def _tell(request: IRequest, name: str, value: str) -> None:
    request.setHeader(f"X-Kiroworkers-{name}".encode(), value.encode())
