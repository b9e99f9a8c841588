"""
Render the API page, and serve the files that it needs.

Everything comes with the package; the page loads nothing from other servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup, escape
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.web.errors import HttpError
from kiroworkers.web.pages.reference import ApiReference
from kiroworkers.web.representation import Representation

#: The content type of the page.
HTML_TYPE = b"text/html; charset=utf-8"

#: The headers of the page: it loads its own files and sends requests to this server, and
#: nothing else.
DOCS_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

_FOLDER = files("kiroworkers.web.pages")

_ASSETS = {
    name: Representation(content_type, (_FOLDER / name).read_bytes())
    for name, content_type in (
        ("style.css", b"text/css; charset=utf-8"),
        ("try.js", b"text/javascript; charset=utf-8"),
    )
}


def render_docs(document: Mapping[str, Any], agents: Mapping[str, str]) -> bytes:
    """
    Return the page that shows an OpenAPI `document`.

    Args:
        document: The document, as `build_document` makes it.
        agents: The label of each agent by its name.
    """
    return _template().render(reference=ApiReference(document), agents=agents).encode()


def respond_asset(request: IRequest, name: str) -> bytes:
    """
    Respond to `request` with the page's file `name`.

    Raises:
        HttpError: There is no such file.
    """
    if name not in _ASSETS:
        raise HttpError(ErrorCode.NOT_FOUND, f"There is nothing at /docs/{name}")
    return _ASSETS[name].respond(request)


def render_prose(text: str) -> Markup:
    """
    Return `text` as HTML, with the parts in backticks as code.
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@cache
def _template() -> Template:
    """
    Return the template of the page.

    It is compiled when the page is first rendered, in a thread, because most servers are never
    asked for the page.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["prose"] = render_prose
    return environment.from_string((_FOLDER / "docs.html").read_text("utf-8"))
