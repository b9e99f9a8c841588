"""
Declare routes: what each needs, takes and returns.

A route is declared where its handler is defined.  The declaration authorizes each request
before the handler runs, and the OpenAPI document describes the route from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from inspect import cleandoc
from types import MappingProxyType
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, unquote

from attrs import Factory, evolve, frozen
from klein import Klein
from twisted.web.iweb import IRequest

from kiroworkers.errors import CATALOGUE, ErrorCode, FailureCode, FailureKind
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.openapi.schemas import Schema
from kiroworkers.web.tokens import Scope

#: Failures of any request.
_ANY_REQUEST = (
    ErrorCode.BAD_REQUEST,
    ErrorCode.BAD_HOST,
    ErrorCode.BAD_PATH,
    ErrorCode.WRONG_HOST,
    ErrorCode.WRONG_ORIGIN,
    ErrorCode.RATE_LIMITED,
    ErrorCode.TOO_SLOW,
    ErrorCode.TOO_LARGE,
    ErrorCode.PATH_TOO_LONG,
    ErrorCode.HEADERS_TOO_LARGE,
    ErrorCode.EXPECTATION_FAILED,
    ErrorCode.TOO_MANY_CONNECTIONS,
)

#: Failures of a request that is authorized.
_AUTHORIZED_REQUEST = (
    ErrorCode.NO_TOKEN,
    ErrorCode.WRONG_TOKEN,
    ErrorCode.WRONG_SCOPE,
    ErrorCode.OPERATORS_ONLY,
)

#: Failures of a request with a body.
_BODY = (
    ErrorCode.NOT_JSON,
    ErrorCode.UNSUPPORTED_ENCODING,
    ErrorCode.INVALID_JSON,
    ErrorCode.INVALID_INPUT,
)

#: Failures of a request that an agent answers, to be declared by its route.
AGENT_FAILURES: tuple[FailureCode, ...] = (
    ErrorCode.PROMPT_TOO_LONG,
    ErrorCode.ALL_WORKERS_BUSY,
    ErrorCode.NO_SESSION,
    ErrorCode.NO_TIME_LEFT,
    ErrorCode.SHUTTING_DOWN,
    ErrorCode.SESSION_LOST,
    ErrorCode.OUTPUT_TOO_LONG,
    ErrorCode.ANSWER_UNFIT,
    ErrorCode.TIMED_OUT,
    *(code for code in CATALOGUE if isinstance(code, FailureKind)),
)

#: Name of the attribute of a handler that holds its declaration.
_DECLARATION = "declaration"

#: Name of the variable in the second rule that Klein makes for a branch.
_REST = "__rest__"

#: Start of the sections of a docstring that are for programmers.
_SECTION = re.compile(r"\n\n(?:Args|Returns|Raises):\n")

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Authorizing(Protocol):
    """
    Describe an object that has routes.

    Attributes:
        authorizer: Authorizes the requests for the routes.
    """

    authorizer: Authorizer


@frozen
class RequestBody:
    """
    Describe the JSON body of a request.

    Attributes:
        schema: The schema of the body.
        example: An example of the body; None for the example of a task.
    """

    schema: Schema
    example: Mapping[str, Any] | None = None


@frozen
class ResponseDoc:
    """
    Describe a response other than a failure in the usual format.

    Attributes:
        description: A sentence about the response.
        content: The schema of the body by media type.
        headers: Names of header components.
        links: OpenAPI links by name.
    """

    description: str
    content: Mapping[str, Schema] = Factory(dict)
    headers: tuple[str, ...] = ()
    links: Mapping[str, Any] = Factory(dict)


@frozen
class Route:
    """
    Hold the declaration of one method of one path.

    Attributes:
        method: The HTTP method, in upper case.
        path: The path, with its variable parts in braces: ``/jobs/{id}``.
        name: Name of the handler.
        summary: First sentence of the handler's docstring.
        description: The rest of the docstring on one line, without its sections and with code in
            single backticks; empty if there is no more.
        scope: The scope that a request needs; None if anybody may send it.
        tag: The group that the API page shows the route in, a key of `TAGS`; None for a
            route that the page leaves out.
        parameters: Names of parameter components.
        body: The body of a request; None if the route takes none.
        responses: Responses by status, except failures in the usual format.
        failures: All failures that a request may meet, except those of a bug.
        takes_slashes: Whether the variable part at the end of the path may contain slashes.
    """

    method: str
    path: str
    name: str
    summary: str
    description: str
    scope: Scope | None
    tag: str | None
    parameters: tuple[str, ...]
    body: RequestBody | None
    responses: Mapping[int, ResponseDoc]
    failures: frozenset[FailureCode]
    takes_slashes: bool = False

    def matches(self, path: str) -> bool:
        """
        Return whether the route has `path`.
        """
        mine = self.path.split("/")
        theirs = path.split("/", len(mine) - 1 if self.takes_slashes else -1)
        return len(mine) == len(theirs) and all(
            part == segment or part.startswith("{")
            for part, segment in zip(mine, theirs, strict=True)
        )


@frozen
class _Branch:
    """
    Hold the declaration of a path below which another application has its routes.
    """

    path: str
    app: Klein


def route(
    app: Klein,
    method: str,
    path: str,
    *,
    scope: Scope | None,
    tag: str | None = None,
    parameters: tuple[str, ...] = (),
    body: RequestBody | None = None,
    responses: Mapping[int, ResponseDoc] = MappingProxyType({}),
    failures: tuple[FailureCode, ...] = (),
    counted: bool = True,
) -> Callable[[_Handler], _Handler]:
    """
    Return a decorator that adds a handler to the routes of `app`.

    If the route has a scope, each request is authorized before the handler is called, and
    the handler gets the client that sent the request as its second argument.

    Args:
        app: The application.
        method: The HTTP method, in upper case.
        path: The path, with its variable parts in angle brackets: ``/jobs/<id>``.  The last
            one may contain slashes if it is ``<path:id>``.
        scope: As in `Route`.
        tag: As in `Route`.
        parameters: As in `Route`.
        body: As in `Route`.
        responses: As in `Route`.
        failures: The failures that do not follow from the other arguments.
        counted: Whether each request that is not a GET counts towards the client's rate; otherwise
            the handler counts those that do.
    """

    def declare(handler: _Handler) -> _Handler:
        @wraps(handler)
        def authorized_handler(self: Authorizing, request: IRequest, **variables: str) -> Any:
            if scope is None:
                return handler(self, request, **variables)
            client = self.authorizer.authorize(request, scope, counted=counted)
            return handler(self, request, client, **variables)

        docstring, *_ = _SECTION.split(cleandoc(handler.__doc__ or ""))
        text = re.sub(r"\s+", " ", docstring).replace("``", "`")
        summary, _, description = text.partition(". ")
        vars(authorized_handler)[_DECLARATION] = Route(
            method,
            re.sub(r"<(?:path:)?(\w+)>", r"{\1}", path),
            handler.__name__,
            summary.rstrip(".") + ".",
            description.strip(),
            scope,
            tag,
            parameters,
            body,
            responses,
            frozenset(
                (
                    *_ANY_REQUEST,
                    *(_AUTHORIZED_REQUEST if scope is not None else ()),
                    *(_BODY if body is not None else ()),
                    *((ErrorCode.INVALID_INPUT,) if parameters else ()),
                    *failures,
                )
            ),
            "<path:" in path,
        )
        # Klein copies the attributes of what it is given to what it calls.
        app.route(path, methods=[method])(authorized_handler)
        return handler

    return declare


def branch(app: Klein, path: str, branch_app: Klein) -> Callable[[_Handler], _Handler]:
    """
    Return a decorator for a handler that returns the resource of another application.

    Args:
        app: The application.
        path: The path below which the other application has its routes.
        branch_app: The other application.
    """

    def declare(handler: _Handler) -> _Handler:
        vars(handler)[_DECLARATION] = _Branch(path, branch_app)
        return app.route(path, branch=True)(handler)

    return declare


def plain_path(path: str, routes: Iterable[Route] = ()) -> str | None:
    """
    Return `path` without empty and dot segments and encoded slashes, or None if it has none.

    RFC 3986, sections 3.3 and 6.2.2: no route has such segments, and clients and proxies
    differ in what they make of them.  Encoded slashes are only allowed in a variable part that may
    contain slashes.

    Args:
        path: The path of a request target, as it was sent.
        routes: All routes.
    """
    for declared in routes:
        prefix = declared.path.partition("{")[0]
        if declared.takes_slashes and path.startswith(prefix):
            path = re.sub("%2f", "/", path, flags=re.IGNORECASE)
    segments = [unquote(segment) for segment in path.split("/")[1:]]
    if path == "/" or not any(segment in ("", ".", "..") or "/" in segment for segment in segments):
        return None
    plain: list[str] = []
    for segment in "/".join(segments).split("/"):
        if segment == "..":
            del plain[-1:]
        elif segment not in ("", "."):
            plain.append(quote(segment))
    return "/" + "/".join(plain)


def routes_of(app: Klein, prefix: str = "") -> Iterator[Route]:
    """
    Yield the routes of `app` and of its branches.

    Args:
        app: The application.
        prefix: Path below which the application is served.

    Raises:
        TypeError: A handler was not declared with `route` or `branch`.
    """
    for rule in app.url_map.iter_rules():
        if _REST in rule.arguments:
            continue
        match vars(app.endpoints[rule.endpoint]).get(_DECLARATION):
            case Route(path=path) as declared:
                yield evolve(declared, path=prefix + path)
            case _Branch(path=path, app=branch_app):
                yield from routes_of(branch_app, prefix + path)
            case _:
                raise TypeError(f"{prefix}{rule.rule} is not declared with `route` or `branch`")
