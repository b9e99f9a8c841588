"""
Write ``routes.rst``, the page about the routes, headers and events.

After a change of the routes::

    python docs/routes.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import starmap
from pathlib import Path

from kiroworkers.errors import CATALOGUE, FailureCode
from kiroworkers.web.app import Application
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.openapi.components import HEADERS, PARAMETERS, TAGS
from kiroworkers.web.openapi.schemas import Schema
from kiroworkers.web.openapi.stream_events import JOB_EVENTS, TASK_EVENTS, WATCH_EVENTS
from kiroworkers.web.routing import AGENT_FAILURES, Route, routes_of
from kiroworkers.web.tokens import GRANTED_BY

PAGE = Path(__file__).with_name("routes.rst")

_HEAD = """\
Routes, headers and events
==========================

Every server describes its own API: ``/openapi.json`` is an OpenAPI 3.1 document with the tasks,
agents and models that this server has, and ``/docs`` shows it and sends requests from the browser.
This page is about the routes that every server has. ``docs/routes.py`` makes it from the same
declarations.

Requests and answers are JSON. A failure is JSON, too: ``{"error": "one sentence", "code":
"one_word"}``, with more fields for some codes (`Failures <failures.rst>`_). Below ``/v1`` failures
have the format of `OpenAI <openai.rst>`_ or `Anthropic <anthropic.rst>`_. With ``--token-file`` a
request needs ``Authorization: Bearer TOKEN`` or ``x-api-key: TOKEN``, and the token one of the
scopes that the route names. Without it, routes for ``operate`` serve clients on the same machine
only, and all others need no token. ``GET`` includes ``HEAD``.

"""

_RESPONSE_HEADERS = """\
Response headers
----------------

"""

_EVENTS = """\
Server-sent events
------------------

A request to a task with ``Accept: text/event-stream`` gets server-sent events. The data of each is
one line of JSON. Lines that begin with a colon are comments: they keep a silent connection
open. A client that disconnects cancels its request, and one that does not read is disconnected. A
request that fails before the stream begins gets its status and JSON as usual. Below ``/v1`` streams
have the format of `OpenAI <openai.rst>`_ or `Anthropic <anthropic.rst>`_ instead.

"""

_WATCH_EVENTS = """\
The page at ``/`` follows ``GET /watch``, whose stream has these events (`The page <page.rst>`_):

"""

_JOB_EVENTS = """\
The events of a job, ``GET /jobs/{id}/events``, have an ``id`` each. A client that has lost its
connection sends the last one as ``Last-Event-ID``, and gets exactly what followed. One that
disconnects does not cancel the job.

"""

#: The headers that tables name together.
_ANSWER_HEADERS = {name.decode() for name in ANSWER_HEADERS} - {"X-Kiroworkers-Usage"}


def page() -> str:
    """
    Return the page.
    """
    routes = [route for route in routes_of(Application.app) if route.tag is not None]
    groups = _failure_groups(routes)
    parts = [_HEAD, *_overview(routes)]
    for tag, description in TAGS.items():
        parts += [_title(tag, "-"), f"{_text(description)}\n\n"]
        for route in routes:
            if route.tag == tag:
                parts += _route(route, groups)
    parts += [*_failures(groups), _RESPONSE_HEADERS, _headers()]
    parts += [_EVENTS, _events(TASK_EVENTS), _JOB_EVENTS, _events(JOB_EVENTS)]
    parts += [_WATCH_EVENTS, _events(WATCH_EVENTS)]
    return "".join(parts)


def _failure_groups(routes: Iterable[Route]) -> dict[str, frozenset[FailureCode]]:
    """
    Return the groups of failures that many routes have, by what has them.
    """
    every = reduce(frozenset.intersection, (route.failures for route in routes))
    authorized = (route.failures for route in routes if route.scope is not None)
    return {
        "an agent": frozenset(AGENT_FAILURES),
        "a token": reduce(frozenset.intersection, authorized) - every,
        "every request": every,
    }


def _overview(routes: Iterable[Route]) -> Iterator[str]:
    yield _table(
        ("Route", "Scope", "What it does"),
        (
            (f"``{route.method} {route.path}``", _scope(route), _text(route.summary))
            for tag in TAGS
            for route in routes
            if route.tag == tag
        ),
    )


def _route(route: Route, groups: Mapping[str, frozenset[FailureCode]]) -> Iterator[str]:
    """
    Yield the section about `route`.
    """
    yield _title(f"{route.method} {route.path}", "~")
    yield f"{_text(f'{route.summary} {route.description}'.strip())}\n\n"
    yield f"Scope: {_scope(route)}.\n\n"
    if route.parameters:
        yield _table(
            ("Parameter", "In", "Meaning"),
            (
                (f"``{parameter['name']}``", parameter["in"], _text(parameter["description"]))
                for parameter in map(PARAMETERS.__getitem__, route.parameters)
            ),
        )
    yield _table(
        ("Status", "Response", "Headers"),
        (
            (str(status), _text(response.description), _names(response.headers) or "none")
            for status, response in route.responses.items()
        ),
    )
    yield f"Failures: {_codes(route, groups)}.\n\n"


def _codes(route: Route, groups: Mapping[str, frozenset[FailureCode]]) -> str:
    """
    Return the failures of `route`; those of `groups` together.
    """
    rest, words = route.failures, []
    for name, group in groups.items():
        if group <= route.failures:
            rest -= group
            words.append(f"those of {name}")
    own = [_code(code) for code in CATALOGUE if code in rest]
    return ", ".join([*own, *words])


def _failures(groups: Mapping[str, frozenset[FailureCode]]) -> Iterator[str]:
    yield _title("Failures that many routes have", "-")
    yield f"Every request may fail with {_list(groups['every request'])}.\n\n"
    yield f"A request that needs a scope may fail with {_list(groups['a token'])}.\n\n"
    yield f"A request that an agent answers may fail with {_list(groups['an agent'])}.\n\n"
    yield "`Failures <failures.rst>`_ says what each means, and whether to ask again.\n\n"


def _list(codes: Iterable[FailureCode]) -> str:
    given = {*codes}
    *most, last = [_code(code) for code in CATALOGUE if code in given]
    return f"{', '.join(most)} or {last}"


def _code(code: FailureCode) -> str:
    return f"``{code}`` ({' or '.join(map(str, reversed(code.statuses)))})"


def _headers() -> str:
    return _table(
        ("Header", "Meaning"),
        ((f"``{name}``", _text(header["description"])) for name, header in HEADERS.items()),
    )


def _events(events: Mapping[str, Schema]) -> str:
    return _table(
        ("Event", "Meaning", "Data"),
        (
            (
                f"``{name}``",
                _text(schema["description"]),
                " ".join(starmap(_field, schema.get("properties", {}).items())) or "JSON",
            )
            for name, schema in events.items()
        ),
    )


def _field(name: str, schema: Schema) -> str:
    values = " or ".join(f"``{value}``" for value in schema.get("enum", ()))
    return f"``{name}``: {_text(schema['description'])}{f' It is {values}.' if values else ''}"


def _scope(route: Route) -> str:
    if route.scope is None:
        return "none"
    return " or ".join(f"``{scope}``" for scope in GRANTED_BY[route.scope])


def _names(names: Sequence[str]) -> str:
    """
    Return `names` of headers, with those of every answer as one pattern.
    """
    if {*names} >= _ANSWER_HEADERS:
        names = ["X-Kiroworkers-*", *(name for name in names if name not in _ANSWER_HEADERS)]
    return ", ".join(f"``{name}``" for name in names)


def _text(text: str) -> str:
    """
    Return text in Markdown as reStructuredText.
    """
    return re.sub("`([^`]+)`", r"``\1``", text)


def _title(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}\n\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table in reStructuredText.
    """
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in (head, *rows):
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
