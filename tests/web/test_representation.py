"""
Tests for `kiroworkers.web.representation`.
"""

from __future__ import annotations

from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from kiroworkers.web.representation import Representation


class Content(Resource):
    """
    Serve one representation.
    """

    isLeaf = True

    def __init__(self, representation: Representation) -> None:
        super().__init__()
        self._representation = representation

    def render(self, request: Any) -> bytes:
        return self._representation.respond(request)


class RepresentationTests(SynchronousTestCase):
    """
    Tests for `Representation`.
    """

    def setUp(self) -> None:
        self.content = Representation(b"text/plain", b"some text", {b"x-more": b"1"})

    def fetch(self, *tags: str, method: str = "GET", query: str = "") -> tuple[Any, bytes]:
        """
        Return the response to a request with `tags` in ``If-None-Match``, and its body.
        """
        client: Any = StubTreq(Content(self.content))
        headers = {"If-None-Match": [*tags]} if tags else {}
        response = self.successResultOf(
            client.request(method, f"http://localhost/{query}", headers=headers)
        )
        return response, self.successResultOf(response.content())

    def header(self, response: Any, name: str) -> str | None:
        values = response.headers.getRawHeaders(name)
        return values[0] if values else None

    def test_content(self) -> None:
        """
        The response has the content, its length and type, and a strong entity tag (RFC 9110,
        section 8.8.3).
        """
        response, body = self.fetch()
        self.assertEqual((response.code, body), (200, b"some text"))
        self.assertEqual(response.length, 9)
        self.assertEqual(self.header(response, "content-type"), "text/plain")
        self.assertEqual(self.header(response, "x-more"), "1")
        self.assertRegex(self.header(response, "etag") or "", r'^"[0-9a-f]{32}"$')
        # A client may store it, but has to ask (RFC 9111, section 5.2.2.4).
        self.assertEqual(self.header(response, "cache-control"), "no-cache")

    def test_version(self) -> None:
        """
        A client that asks for the present version may keep it, and no other.
        """
        for query, keep in ((f"?{self.content.version}", True), ("?other", False), ("?", False)):
            control = self.header(self.fetch(query=query)[0], "cache-control") or ""
            self.assertEqual("immutable" in control, keep, query)

    def test_head(self) -> None:
        """
        HEAD gets the headers of GET and no content (RFC 9110, section 9.3.2).
        """
        response, body = self.fetch(method="HEAD")
        self.assertEqual((response.code, body), (200, b""))
        self.assertEqual(self.header(response, "content-length"), "9")
        self.assertEqual(self.header(response, "etag"), self.content.etag.decode())

    def test_unchanged(self) -> None:
        """
        A client that names the tag gets 304 without content and with the tag (RFC 9110,
        sections 13.1.2 and 15.4.5).
        """
        etag = self.content.etag.decode()
        for tags in ([etag], ["*"], [f"W/{etag}"], [f'"a,b" , {etag}'], ['"a"', etag]):
            for method in ("GET", "HEAD"):
                response, body = self.fetch(*tags, method=method)
                self.assertEqual((response.code, body), (304, b""), tags)
                self.assertEqual(self.header(response, "etag"), etag)
                self.assertEqual(self.header(response, "cache-control"), "no-cache")
                self.assertIsNone(self.header(response, "content-type"))

    def test_changed(self) -> None:
        """
        A client that names other tags gets the content, and other content has another tag.
        """
        for tag in ('"a"', "", self.content.etag.decode().strip('"'), '"*"'):
            self.assertEqual(self.fetch(tag)[0].code, 200, tag)
        self.assertNotEqual(Representation(b"text/plain", b"other").etag, self.content.etag)
