"""
What a response says in its headers: of the answer in it, who gave it and how that
is known; and to browsers, what they may do with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from twisted.web.iweb import IRequest

from kiroworkers.execution import ExecutionResult
from kiroworkers.web.addresses import LOOPBACK, name_in

#: What every response says: it is what its type says it is, nobody keeps a copy
#: of it, it is no page and in no page's frame, and names no version of what runs.
SECURITY_HEADERS = {
    b"Server": b"kiroworkers",
    b"X-Content-Type-Options": b"nosniff",
    b"Cache-Control": b"no-store",
    b"Referrer-Policy": b"no-referrer",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
}

#: What pages of other origins may read besides `ANSWER_HEADERS`.
_EXPOSED = (
    b"Idempotency-Replayed",
    b"Location",
    b"Preference-Applied",
    b"Retry-After",
    b"X-Should-Retry",
)

#: So many fields are named in a header.
_MOST_FIELDS = 20

#: Every header, as pages of other origins may read it.
ANSWER_HEADERS = tuple(
    b"X-Kiroworkers-" + name
    for name in (
        b"Agent",
        b"Worker",
        b"Attempts",
        b"Repairs",
        b"Completion",
        b"Source",
        b"Rejoined",
        b"Normalised",
        b"Tools-Denied",
        b"Tools-Allowed",
        b"Usage",
    )
)


def allows_origin(origin: str, allowed: Sequence[str]) -> bool:
    """
    May pages of `origin` call, by what --cors-origin allows?
    """
    if "*" in allowed or origin in allowed:
        return True
    return "loopback" in allowed and name_in(origin.partition("://")[2]) in LOOPBACK


def cors_headers(origin: str, allowed: Sequence[str]) -> dict[bytes, bytes]:
    """
    What a browser is told for a page of `origin` (empty: there is none).
    """
    headers = {} if tuple(allowed) == ("*",) else {b"Vary": b"Origin"}
    if not (origin and allows_origin(origin, allowed)):
        return headers
    return headers | {
        b"Access-Control-Allow-Origin": b"*" if "*" in allowed else origin.encode("latin-1"),
        b"Access-Control-Expose-Headers": b", ".join((*_EXPOSED, *ANSWER_HEADERS)),
        b"Access-Control-Allow-Methods": b"GET, POST, PUT, DELETE, OPTIONS",
        # OpenAI's client sends many of its own.  The star is for all but the first.
        b"Access-Control-Allow-Headers": b"Authorization, *",
        b"Access-Control-Max-Age": b"600",
    }


def set_agent_header(request: IRequest, name: str) -> None:
    """
    Which agent answers.
    """
    set_headers(request, {"Agent": name})


def answer_headers(outcome: ExecutionResult) -> dict[str, str]:
    """
    Which worker answered, in how many attempts; how the end of its turn was
    known, and where the text was read; how many questions of tools there were; was
    it joined across lines that were cut, and which fields were brought into form?
    """
    answer = outcome.answer
    reply = answer.reply
    told = {
        "Worker": answer.worker,
        "Attempts": str(answer.attempts),
        "Completion": reply.completion,
        "Source": reply.source,
    }
    if reply.repairs:
        told["Repairs"] = str(reply.repairs)
    for name, questions in (("Tools-Denied", reply.denied), ("Tools-Allowed", reply.allowed)):
        if questions:
            told[name] = str(len(questions))
    if outcome.found.rejoined:
        told["Rejoined"] = "1"
    fields = [*dict.fromkeys(each.field for each in outcome.found.normalized)]
    if fields:
        # A file of the user's may name a field as it likes.
        told["Normalised"] = ", ".join(map(quote, fields[:_MOST_FIELDS]))
    return told


def set_headers(request: IRequest, told: Mapping[str, str]) -> None:
    """
    Say it in the headers of the response.
    """
    for name, value in told.items():
        request.setHeader(f"X-Kiroworkers-{name}".encode(), value.encode())


def set_usage_headers(request: IRequest) -> None:
    """
    The numbers of tokens are estimates.
    """
    set_headers(request, {"Usage": "estimated"})
