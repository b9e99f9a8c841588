"""
Respond with content that is the same for every client until it is built anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from attrs import Factory, field, frozen
from twisted.web.http import NOT_MODIFIED
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest

#: Tells browsers and proxies to keep a response for a year.
_KEEP = b"public, max-age=31536000, immutable"

_ENTITY_TAG = re.compile(rb'"[^"]*"')


@frozen
class Representation:
    """
    Hold content that clients may store.

    They must ask each time whether it has changed, unless they ask for one version of it.

    Attributes:
        content_type: Its media type.
        content: Its bytes.
        headers: Further headers of a response with it.
        common_version: The version of the files that it belongs to, if they have one in common.
        etag: Its strong entity tag (RFC 9110, section 8.8.3).
    """

    content_type: bytes
    content: bytes = field(repr=False)
    headers: Mapping[bytes, bytes] = Factory(dict)
    common_version: str | None = None
    etag: bytes = field(init=False)

    @etag.default
    def _etag(self) -> bytes:
        return b'"%s"' % sha256(self.content).hexdigest()[:32].encode()

    @property
    def version(self) -> str:
        """
        Return what to put into the query of an address.

        It is the entity tag without its quotes, unless several files have a version in common.
        """
        return self.common_version or self.etag[1:-1].decode()

    def respond(self, request: IRequest) -> bytes:
        """
        Set the headers of the response to a GET or HEAD `request`, and return its body.

        A client that already has the content gets 304 without it.  If the query of the request
        is the `version`, the client may keep the content for good.
        """
        request.setHeader(b"etag", self.etag)
        named = request.uri.partition(b"?")[2] == self.version.encode()
        request.setHeader(b"cache-control", _KEEP if named else b"no-cache")
        for name, value in self.headers.items():
            request.setHeader(name, value)
        if has_etag(request.requestHeaders, self.etag):
            request.setResponseCode(NOT_MODIFIED)
            return b""
        request.setHeader(b"content-type", self.content_type)
        request.setHeader(b"content-length", b"%d" % len(self.content))
        return self.content


def has_etag(headers: Headers, etag: bytes) -> bool:
    """
    Return whether ``If-None-Match`` names `etag` (RFC 9110, section 13.1.2).

    Args:
        headers: The headers of a request.
        etag: A strong entity tag, with its quotes.
    """
    lines = headers.getRawHeaders(b"if-none-match", [])
    # The comparison is weak, so that "W/" before a tag makes no difference.
    return any(line.strip() == b"*" or etag in _ENTITY_TAG.findall(line) for line in lines)
