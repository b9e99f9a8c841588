"""
Serve Swagger UI, which shows the OpenAPI document to people.

It was chosen because it works under a policy that forbids inline styles: Scalar and RapiDoc need
``unsafe-inline``.

Its files come from the package ``flask-swagger-ui``, which publishes each release of Swagger UI.
They are read from its folder: the code in it is for Flask, and is not imported.  Nothing is
loaded from other hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from kiroworkers.web.representation import Representation

#: The package that has the files of Swagger UI in the folder ``dist``.
_PACKAGE = "flask_swagger_ui"

#: The headers of the page: it loads its own files and sends requests to this server, and
#: nothing else.  The style sheet has its images as ``data:`` URLs.
_PAGE_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

_JAVASCRIPT = b"text/javascript; charset=utf-8"
_CSS = b"text/css; charset=utf-8"

#: The content types of the files that the page loads from the package.
_PACKAGED = {
    "swagger-ui-bundle.js": _JAVASCRIPT,
    "swagger-ui.css": _CSS,
    "index.css": _CSS,
    "favicon-32x32.png": b"image/png",
}

#: The page's address of a file.
_ADDRESS = re.compile(r'(?<=")docs/([\w.-]+)(?=")')


class ViewerMissing(Exception):
    """
    Raised when the package with the files, or one of them, is not installed.
    """

    def __str__(self) -> str:
        return "flask-swagger-ui is not installed, or not completely; install kiroworkers again"


@cache
def load_viewer() -> Mapping[str, Representation]:
    """
    Return the files of the viewer by name; the empty name is that of the page.

    The page names each file with its entity tag as the query, so that browsers keep the file
    until it changes.  It takes about 10 ms, once.

    Raises:
        ViewerMissing: The package with the files, or one of them, is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ViewerMissing
    packaged = Path(spec.origin).parent / "dist"
    own = files(__name__)
    try:
        viewer = {
            name: Representation(content_type, (packaged / name).read_bytes())
            for name, content_type in _PACKAGED.items()
        }
    except OSError:
        raise ViewerMissing from None
    for name, content_type in (("start.js", _JAVASCRIPT), ("style.css", _CSS)):
        viewer[name] = Representation(content_type, (own / name).read_bytes())
    page = _ADDRESS.sub(
        lambda match: f"{match[0]}?{viewer[match[1]].version}",
        (own / "index.html").read_text("utf-8"),
    )
    viewer[""] = Representation(b"text/html; charset=utf-8", page.encode(), _PAGE_HEADERS)
    return MappingProxyType(viewer)
