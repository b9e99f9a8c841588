"""
Build the response headers: those that describe an answer, and those for browsers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from twisted.web.iweb import IRequest

from kiroworkers.execution import Result
from kiroworkers.tasks import UnknownField
from kiroworkers.web.addresses import LOOPBACK, hostname_of
from kiroworkers.web.recorded_request import REQUEST_ID

#: Headers of every response.  They forbid browsers from guessing another content type,
#: storing the response, loading anything from it and showing it in a frame, and they reveal
#: no version.
SECURITY_HEADERS = {
    b"Server": b"kiroworkers",
    b"X-Content-Type-Options": b"nosniff",
    b"Cache-Control": b"no-store",
    b"Referrer-Policy": b"no-referrer",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
}

#: Headers that pages of other origins may read besides `ANSWER_HEADERS`.
_EXPOSED_HEADERS = (
    b"Idempotency-Replayed",
    b"Location",
    b"Mcp-Session-Id",
    b"Preference-Applied",
    b"Retry-After",
    b"X-Kiroworkers-Ignored",
    REQUEST_ID,
    b"Request-ID",
    b"X-Should-Retry",
)

#: The maximum number of fields that one header names, and of characters of a client's field.
_MAX_FIELDS = 20
_MAX_FIELD_LENGTH = 100

#: The names of all headers that describe an answer.
ANSWER_HEADERS = tuple(
    b"X-Kiroworkers-" + name
    for name in (
        b"Agent",
        b"Worker",
        b"Attempts",
        b"Repairs",
        b"Completion",
        b"Source",
        b"Sample",
        b"Rejoined",
        b"Normalised",
        b"Tools-Denied",
        b"Tools-Allowed",
        b"Tools-Unasked",
        b"Model",
        b"Credits",
        b"Context",
        b"Usage",
    )
)


def allows_origin(origin: str, allowed: Sequence[str]) -> bool:
    """
    Return whether pages of `origin` may call the API.

    Args:
        origin: The value of the Origin header, such as ``https://app.example``.
        allowed: The values of --cors-origin: origins, ``loopback`` or ``*``.
    """
    if "*" in allowed or origin in allowed:
        return True
    return "loopback" in allowed and hostname_of(origin.partition("://")[2]) in LOOPBACK


def cors_headers(origin: str, allowed: Sequence[str]) -> dict[bytes, bytes]:
    """
    Return the CORS headers of the response to a page of `origin`.

    Args:
        origin: The value of the Origin header; empty if the request has none.
        allowed: The values of --cors-origin: origins, ``loopback`` or ``*``.
    """
    headers = {} if tuple(allowed) == ("*",) else {b"Vary": b"Origin"}
    if not (origin and allows_origin(origin, allowed)):
        return headers
    return headers | {
        b"Access-Control-Allow-Origin": b"*" if "*" in allowed else origin.encode("latin-1"),
        b"Access-Control-Expose-Headers": b", ".join((*_EXPOSED_HEADERS, *ANSWER_HEADERS)),
        b"Access-Control-Allow-Methods": b"GET, POST, PUT, DELETE, OPTIONS",
        # OpenAI's client sends many of its own.  The star does not cover Authorization.
        b"Access-Control-Allow-Headers": b"Authorization, *",
        b"Access-Control-Max-Age": b"600",
    }


def set_agent_header(request: IRequest, name: str) -> None:
    """
    Set the response header that names the agent.
    """
    set_headers(request, {"Agent": name})


def answer_headers(result: Result, model: str = "") -> dict[str, str]:
    """
    Return the headers that describe an answer, by their names without ``X-Kiroworkers-``.

    They name the worker, the number of attempts, how the end of the turn was detected
    and where the text was read.  If there were any, they also give the number of
    repairs, of tool requests that were denied or allowed and of tools that were used without
    asking, whether the answer is only a sample, whether lines that the terminal had cut were
    joined again, and the fields that were normalized.  Where the agent reports them, they give
    the credits that the request used and the share of the context that is filled.

    Args:
        result: The answer, and how it was obtained.
        model: The model that was chosen for the request; empty if none was.
    """
    reply = result.reply
    headers = {
        "Worker": result.worker,
        "Attempts": str(result.attempts),
        "Completion": reply.completion,
        "Source": reply.source,
    }
    if result.sample:
        headers["Sample"] = "1"
    if result.repairs:
        headers["Repairs"] = str(result.repairs)
    for name, tools in (
        ("Tools-Denied", reply.denied),
        ("Tools-Allowed", reply.allowed),
        ("Tools-Unasked", reply.unasked),
    ):
        if tools:
            headers[name] = str(len(tools))
    if model:
        headers["Model"] = model
    for name, number in (("Credits", result.credits), ("Context", reply.usage.context_percent)):
        if number is not None:
            headers[name] = decimal(number)
    if result.answer.rejoined:
        headers["Rejoined"] = "1"
    fields = [*dict.fromkeys(change.field for change in result.answer.normalized)]
    if fields:
        # A task file may give a field any name, with characters that no header can hold.
        headers["Normalised"] = ", ".join(map(quote, fields[:_MAX_FIELDS]))
    return headers


def ignored_header(unknown: Sequence[UnknownField]) -> dict[str, str]:
    """
    Return the header that names the `unknown` fields of a request; empty if there are none.
    """
    value = ", ".join(_encode_field(field.path) for field in unknown)
    return {"Ignored": value} if value else {}


def _encode_field(path: str) -> str:
    """
    Return the start of a field's `path`, to which a client may have given any name.
    """
    text = ""
    for character in path[:_MAX_FIELD_LENGTH]:
        text += quote(character, "[]", errors="replace")
        if len(text) > _MAX_FIELD_LENGTH:
            break
    return text or '""'


def decimal(number: float) -> str:
    """
    Return `number` in decimal notation, with up to six digits after the point.
    """
    return f"{number:.6f}".rstrip("0").rstrip(".")


def prefixed(headers: Mapping[str, str]) -> dict[str, str]:
    """
    Return `headers`, whose names lack ``X-Kiroworkers-``, with complete names.
    """
    return {f"X-Kiroworkers-{name}": value for name, value in headers.items()}


def set_headers(request: IRequest, headers: Mapping[str, str]) -> None:
    """
    Set `headers`, named without ``X-Kiroworkers-``, on the response to `request`.
    """
    for name, value in prefixed(headers).items():
        request.setHeader(name.encode(), value.encode())


def set_usage_headers(request: IRequest) -> None:
    """
    Set the response header which says that the token counts are estimates.
    """
    set_headers(request, {"Usage": "estimated"})
