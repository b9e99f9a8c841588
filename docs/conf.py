"""
Configure Sphinx, and let links between pages work in Sphinx as they do on GitHub.

The source folder is the root of the checkout, so that ``README.rst`` and its siblings are pages as
well.  From there::

    sphinx-build -W -c docs . build/html

Pages link to each other by relative paths, as in ```jobs <jobs.rst>`_`` or
```keys <jobs.rst#idempotency-keys>`_``.  GitHub follows these by itself; here `resolve_links` does.
A link to a page, a section or a file that does not exist is a warning.
"""

from __future__ import annotations

from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[1]

project = "kiroworkers"
copyright = "the kiroworkers developers"
root_doc = "docs/index"
include_patterns = ["*.rst", "docs/**.rst"]
exclude_patterns = [".*", "build", "**/node_modules", "**/__pycache__"]
# Literal blocks without a language are output, not Python.
highlight_language = "text"
html_theme = "furo"
html_title = "kiroworkers"
html_copy_source = False

_logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """
    Register the resolver of links.
    """
    app.connect("doctree-resolved", resolve_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def resolve_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """
    Let the relative links of `page` point to what Sphinx writes, and warn of dangling ones.
    """
    for link in doctree.findall(nodes.reference):
        target = link.get("refuri", "")
        if ":" in target or target.startswith("#") or link.get("internal"):
            continue
        path, _, section = target.partition("#")
        path = normpath(join(dirname(page), path))
        name = path.removesuffix(".rst")
        if path == name or name not in app.env.all_docs:
            if not (ROOT / path).exists():
                _logger.warning("dangling link: %s", target, location=link)
            # The site has no such page: show the path only.
            link.replace_self(nodes.inline("", "", *link.children))
        elif section and section not in _sections(app, name):
            _logger.warning("no such section: %s", target, location=link)
        else:
            uri = app.builder.get_relative_uri(page, name)
            link["refuri"] = uri + (f"#{section}" if section else "")
            link["internal"] = True


def _sections(app: Sphinx, page: str) -> set[str]:
    """
    Return the identifiers of the sections of a page.
    """
    links = app.env.tocs[page].findall(nodes.reference)
    return {link["anchorname"].removeprefix("#") for link in links}
