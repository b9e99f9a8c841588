"""
The route table, read back from Klein.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

from attrs import frozen
from klein import Klein

#: What each path answers unasked, beside what its routes say.
_IMPLIED = {"HEAD", "OPTIONS"}

#: How Klein names the rest of a path that another application has.
_BRANCH = "_branch"


@frozen
class Route:
    """
    One method of one path; what is variable in the path stands in braces.

    Attributes:
        name: of the function that answers.
        summary: the first sentence of what its docstring says.
        description: what more it says.
    """

    path: str
    method: str
    name: str
    summary: str
    description: str


def routes_of(app: Klein, prefix: str = "") -> Iterator[Route]:
    """
    The routes of `app`, whose paths stand below `prefix`, without those that lead to
    another application.
    """
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.removesuffix(_BRANCH)
        if name + _BRANCH in app.endpoints:
            continue
        said = re.sub(r"\s+", " ", cleandoc(app.endpoints[name].__doc__ or ""))
        summary, _, description = said.partition(". ")
        path = prefix + re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        for method in sorted(set(rule.methods or ()) - _IMPLIED):
            yield Route(
                path, method, name, summary.rstrip(".") + ".", description.replace("`", "").strip()
            )
