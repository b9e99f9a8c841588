"""
Serve the API page and the files that it needs.

Everything comes with the package; the page loads nothing from other servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.web.errors import HttpError
from kiroworkers.web.pages.reference import ApiReference

_FOLDER = files("kiroworkers.web.pages")

#: Content types of the page's files.
_ASSET_TYPES = {
    "style.css": b"text/css; charset=utf-8",
    "try.js": b"text/javascript; charset=utf-8",
}

#: Lets the page load its own files and send requests to this server, and nothing else.
_CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Pages:
    """
    Render the API page of a server.

    Args:
        groups: The server's agents.
    """

    def __init__(self, groups: AgentGroups) -> None:
        self._groups = groups
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters["prose"] = render_prose
        self._docs = environment.from_string(_read("docs.html").decode())
        self._assets = {name: _read(name) for name in _ASSET_TYPES}

    def docs(self, request: IRequest, document: Mapping[str, Any]) -> bytes:
        """
        Respond to `request` with the page that shows an OpenAPI `document`.
        """
        agents = {group.name: group.agent.dialect.label for group in self._groups}
        page = self._docs.render(reference=ApiReference(document), agents=agents)
        request.setHeader(b"content-security-policy", _CONTENT_SECURITY_POLICY)
        return _respond(request, b"text/html; charset=utf-8", page.encode())

    def asset(self, request: IRequest, name: str) -> bytes:
        """
        Respond to `request` with the page's file `name`.

        Raises:
            HttpError: There is no such file.
        """
        if name not in self._assets:
            raise HttpError(ErrorCode.NOT_FOUND, f"There is nothing at /docs/{name}")
        return _respond(request, _ASSET_TYPES[name], self._assets[name])


def render_prose(text: str) -> Markup:
    """
    Return `text` as HTML, with the parts in backticks as code.
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


def _respond(request: IRequest, content_type: bytes, content: bytes) -> bytes:
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(content))
    return content
