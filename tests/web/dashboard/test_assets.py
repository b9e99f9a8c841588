"""
Tests for `kiroworkers.web.dashboard.assets`, and for the routes that serve the files.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web import app as _app
from kiroworkers.web.dashboard import assets
from kiroworkers.web.dashboard.assets import build_assets, load_assets
from kiroworkers.web.representation import Representation
from tests.web.test_errors import MemoryServer

_PAGE = b'<script src="assets/a.js"></script><a href="docs">assets/a.js</a><img src="assets/no">'


class BuildTests(SynchronousTestCase):
    """
    Tests for `build_assets`.
    """

    def setUp(self) -> None:
        self.contents = {
            "index.html": _PAGE,
            "a.js": b'import {b} from "./b.js"; import("./no.js"); new URL(\'./c.css\', here)',
            "b.js": b'import "./a.js"',
            "c.css": b"@font-face {src: url(./d.woff2)}",
            "d.woff2": b"./a.js",
            "xterm.js": b'"./a.js"',
        }
        self.files = build_assets(self.contents)

    def test_addresses(self) -> None:
        """
        Each address of a file gets the version, also in circles; other texts stay.
        """
        version = self.files[""].version.encode()
        for name, expected in {
            "": _PAGE.replace(b'"assets/a.js"', b'"assets/a.js?%s"' % version),
            "a.js": b'import {b} from "./b.js?%s"; import("./no.js"); new URL(\'./c.css?%s\', here)'
            % (version, version),
            "b.js": b'import "./a.js?%s"' % version,
            "c.css": b"@font-face {src: url(./d.woff2?%s)}" % version,
            "d.woff2": b"./a.js",
            "xterm.js": b'"./a.js"',
        }.items():
            self.assertEqual(self.files[name].content, expected)
            self.assertEqual(self.files[name].version.encode(), version)

    def test_version(self) -> None:
        """
        The version is another one if any file has changed, is new or has another name.
        """
        without = {name: data for name, data in self.contents.items() if name != "d.woff2"}
        versions = {
            build_assets(contents)[""].version
            for contents in (
                self.contents,
                {**self.contents, "a.js": b"new"},
                {**self.contents, "e.js": b""},
                {**without, "e.woff2": b"./a.js"},
            )
        }
        self.assertEqual(len(versions), 4)

    def test_policy(self) -> None:
        """
        The policy of the page allows nothing inline and nothing from elsewhere.
        """
        policy = self.files[""].headers[b"content-security-policy"].decode()
        self.assertTrue(policy.startswith("default-src 'none'; "))
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("http", policy)
        sources = dict(part.split(" ", 1) for part in policy.split("; "))
        for name in ("script-src", "style-src", "connect-src"):
            self.assertEqual(sources[name], "'self'")
        for name in ("frame-ancestors", "base-uri", "form-action"):
            self.assertEqual(sources[name], "'none'")


class FilesTests(SynchronousTestCase):
    """
    Tests for the files that the package has.
    """

    def setUp(self) -> None:
        self.files = load_assets()

    def test_page(self) -> None:
        """
        The page has no script, style or handler of its own, and its files are there.
        """
        page = self.files[""].content.decode()
        for tag in re.findall(r"<(?:script|style|link)\b[^>]*>", page):
            self.assertRegex(tag, r'(?:src|href)="assets/[\w.-]+\?\w{32}"')
        self.assertIsNone(re.search(r"<style|<script[^>]*>[^<]|\son\w+\s*=|\sstyle\s*=", page))

    def test_addresses(self) -> None:
        """
        Every address in a script or a style sheet of ours is that of a file that is there.
        """
        for name, file in self.files.items():
            if name.endswith((".js", ".css")) and name not in assets.XTERM_FILES:
                content = file.content.decode()
                for address in re.findall(r"""["'(]\./([\w.-]+)(?:\?(\w+))?["')]""", content):
                    self.assertEqual(address, (address[0], file.version), f"in {name}")

    def test_elsewhere(self) -> None:
        """
        No file of ours loads anything from another host.
        """
        for name, file in self.files.items():
            if name.endswith((".js", ".css")) and name not in assets.XTERM_FILES:
                found = re.search(
                    rb"""(?:from|import|url\(|src\s*=)\s*["'(]*https?:""", file.content
                )
                self.assertIsNone(found, name)


class RoutesTests(SynchronousTestCase):
    """
    Tests for ``/`` and ``/assets``.
    """

    def setUp(self) -> None:
        self.server = MemoryServer(scopes="watch")
        self.page = build_assets({"index.html": _PAGE, "a.js": b"a" * 200_000})
        self.use(self.page)

    def use(self, files: dict[str, Representation]) -> None:
        self.patch(_app, "load_assets", lambda: files)

    def test_browser(self) -> None:
        """
        Browsers get the page, without a token.
        """
        for accept in ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "TEXT/HTML;q=0.1"):
            response = self.server.request("GET", "/", Accept=accept)
            self.assertEqual(response.status, 200)
            self.assertEqual(response.content, self.page[""].content)
            self.assertEqual(response.headers["content-type"], "text/html; charset=utf-8")
            self.assertIn("script-src 'self'", response.headers["content-security-policy"])
            self.assertEqual(response.headers["cache-control"], "no-cache")

    def test_others(self) -> None:
        """
        Other clients are sent to the documentation, and caches know that they differ.
        """
        for accept in ("*/*", "application/json", ""):
            response = self.server.request("GET", "/", Accept=accept)
            self.assertEqual((response.status, response.headers["location"]), (302, "docs"))
            self.assertIn("accept", response.headers["vary"])

    def test_asset(self) -> None:
        """
        A file is kept for good by its version, and checked each time without.
        """
        path, version = "/assets/a.js", self.page[""].version
        response = self.server.request("GET", f"{path}?{version}")
        self.assertEqual((response.status, response.content), (200, b"a" * 200_000))
        self.assertIn("immutable", response.headers["cache-control"])
        response = self.server.request("GET", path)
        self.assertEqual(response.headers["cache-control"], "no-cache")
        etag = response.headers["etag"]
        response = self.server.request("GET", path, If_None_Match=etag)
        self.assertEqual((response.status, response.content), (304, b""))

    def test_missing(self) -> None:
        """
        For a file that is not there, the error says so; for those of xterm.js, what to do.
        """
        for name in ("no.js", "index.html", ".", "%2e%2e"):
            response = self.server.request("GET", f"/assets/{name}")
            self.assertEqual((response.status, response.error["code"]), (404, "not_found"), name)
        for name in ("xterm.js", "xterm.css"):
            response = self.server.request("GET", f"/assets/{name}")
            self.assertEqual(response.status, 404)
            self.assertIn("python -m kiroworkers.web.dashboard.xterm", response.error["error"])
