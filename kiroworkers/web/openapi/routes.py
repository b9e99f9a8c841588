"""
The routes of a Klein application, with the documentation of their handlers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

from attrs import frozen
from klein import Klein

#: Methods that werkzeug and the site add to every route.
_IMPLIED_METHODS = {"HEAD", "OPTIONS"}

#: Suffix of the second endpoint that Klein registers for a route with ``branch=True``.
_BRANCH_SUFFIX = "_branch"

#: Start of the sections of a docstring that are for programmers.
_SECTION = re.compile(r"\n\n(?:Args|Returns|Raises):\n")


@frozen
class Route:
    """
    Hold one method of one path, and what its handler's docstring says.

    Attributes:
        path: The path, with its variable parts in braces: ``/jobs/{id}``.
        method: The HTTP method, in upper case.
        name: Name of the handler.
        summary: First sentence of the handler's docstring.
        description: The rest of the docstring on one line, without its sections and with code in
            single backticks; empty if there is no more.
    """

    path: str
    method: str
    name: str
    summary: str
    description: str


def routes_of(app: Klein, prefix: str = "") -> Iterator[Route]:
    """
    Yield the routes of `app`, except those that lead to another application.

    Args:
        app: The application.
        prefix: Path below which the application is served.
    """
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.removesuffix(_BRANCH_SUFFIX)
        if name + _BRANCH_SUFFIX in app.endpoints:
            continue
        docstring, *_ = _SECTION.split(cleandoc(app.endpoints[name].__doc__ or ""))
        text = re.sub(r"\s+", " ", docstring).replace("``", "`")
        summary, _, description = text.partition(". ")
        path = prefix + re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        for method in sorted(set(rule.methods or ()) - _IMPLIED_METHODS):
            yield Route(path, method, name, summary.rstrip(".") + ".", description.strip())
