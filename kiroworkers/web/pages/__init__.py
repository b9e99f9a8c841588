"""
What people read in a browser: pages, and the files that they need.

All of it comes with the package; a page loads nothing from anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from twisted.web.iweb import IRequest

from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.web.errors import HttpError
from kiroworkers.web.pages.reference import ApiReference

_FOLDER = files("kiroworkers.web.pages")

_TYPES = {"style.css": b"text/css; charset=utf-8", "try.js": b"text/javascript; charset=utf-8"}

#: A page may use our own files, and ask this server.
_POLICY = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Pages:
    """
    Makes the pages of a server whose agents are those of the `groups`.
    """

    def __init__(self, groups: AgentGroups) -> None:
        self._groups = groups
        templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        self._docs = templates.from_string(_read("docs.html").decode())
        self._assets = {name: _read(name) for name in _TYPES}

    def docs(self, request: IRequest, description: Mapping[str, Any]) -> bytes:
        """
        The page that shows the `description` of the API.
        """
        agents = {each.name: each.agent.dialect.label for each in self._groups}
        page = self._docs.render(reading=ApiReference(description), agents=agents)
        request.setHeader(b"content-security-policy", _POLICY)
        return _send(request, b"text/html; charset=utf-8", page.encode())

    def asset(self, request: IRequest, name: str) -> bytes:
        """
        The file `name`.

        Raises:
            HttpError: when there is none.
        """
        if name not in self._assets:
            raise HttpError(404, "not_found", f"There is nothing at /docs/{name}")
        return _send(request, _TYPES[name], self._assets[name])


def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


def _send(request: IRequest, kind: bytes, content: bytes) -> bytes:
    request.setHeader(b"content-type", kind)
    request.setHeader(b"content-length", b"%d" % len(content))
    return content
