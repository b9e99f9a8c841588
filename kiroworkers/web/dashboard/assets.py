"""
Hold the files of the page.

Its own files are in the folder ``static``, and those of xterm.js in ``vendor`` (see `xterm`).
Nothing is loaded from other hosts, and no script or style stands in the page itself.

The addresses in the files are relative, so that the page works below a proxy's path.  The page
names a file as ``assets/NAME``; a script or a style sheet names another as ``./NAME``.  Each
address gets a version as its query, so that browsers keep the file until one of them changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

from twisted.web.iweb import IRequest

from kiroworkers.web.representation import Representation

#: The content types of the files by the ends of their names.
_TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "ico": b"image/x-icon",
    "js": b"text/javascript; charset=utf-8",
    "png": b"image/png",
    "svg": b"image/svg+xml",
    "webmanifest": b"application/manifest+json",
    "woff2": b"font/woff2",
}

#: The name of the page.
_PAGE = "index.html"

#: The headers of the page: it loads its own files and speaks with this server, and nothing else.
_PAGE_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'"
    ),
    b"cross-origin-opener-policy": b"same-origin",
}

#: A file's address in the page, and in a script or a style sheet.
_IN_PAGE = re.compile(r'(?<=")assets/([\w.-]+)(?=")')
_IN_FILE = re.compile(r"""(?<=["'(])\./([\w.-]+)(?=["')])""")

#: What /assets says about a file of xterm.js that is not there.
XTERM_MISSING = (
    "Terminals cannot be shown: xterm.js could not be fetched when kiroworkers was installed. "
    "Run python -m kiroworkers.web.dashboard.xterm where pip reaches a package index, and restart "
    "the server"
)

#: The files of xterm.js.
XTERM_FILES = ("xterm.js", "xterm.css")


def wants_page(request: IRequest) -> bool:
    """
    Return whether the client asks for HTML by name, as browsers do.
    """
    accepted = (request.getHeader(b"accept") or b"").lower().split(b",")
    return any(media_range.partition(b";")[0].strip() == b"text/html" for media_range in accepted)


@cache
def load_assets() -> Mapping[str, Representation]:
    """
    Return the files of the page by name; the empty name is that of the page.

    Those of xterm.js are left out if they are not there.
    """
    package = files("kiroworkers.web.dashboard")
    contents = {
        name: data
        for name, data in (*_read(package / "static"), *_read(package / "vendor"))
        if _type_of(name) is not None
    }
    return MappingProxyType(build_assets(contents))


def build_assets(contents: Mapping[str, bytes]) -> dict[str, Representation]:
    """
    Return the files with `contents` by name, with versions in the addresses in them.

    The files refer to each other in circles, so they have one version in common.
    """
    digest = sha256()
    for name in sorted(contents):
        digest.update(sha256(name.encode()).digest() + sha256(contents[name]).digest())
    version = digest.hexdigest()[:32]

    def with_versions(name: str, data: bytes) -> bytes:
        kind = name.rpartition(".")[2]
        if kind not in ("css", "html", "js") or name in XTERM_FILES:
            return data
        return (_IN_PAGE if kind == "html" else _IN_FILE).sub(
            lambda match: f"{match[0]}?{version}" if match[1] in contents else match[0],
            data.decode("utf-8"),
        ).encode()  # fmt: skip

    assets = {}
    for name, data in contents.items():
        content_type = _type_of(name)
        assert content_type is not None, "files of other types are not served"
        headers = _PAGE_HEADERS if name == _PAGE else {}
        key = "" if name == _PAGE else name
        data = with_versions(name, data)
        assets[key] = Representation(content_type, data, headers, common_version=version)
    return assets


def _type_of(name: str) -> bytes | None:
    return _TYPES.get(name.rpartition(".")[2])


def _read(folder: Traversable) -> list[tuple[str, bytes]]:
    if not folder.is_dir():
        return []
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [(entry.name, entry.read_bytes()) for entry in entries if entry.is_file()]
