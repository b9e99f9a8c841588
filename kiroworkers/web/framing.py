"""
Check the headers that say where a request ends and what becomes of its connection.

A request whose end two parsers may see in different places lets a client smuggle a second
request past a proxy (RFC 9112, section 11.2), so whatever is ambiguous is rejected.
"""

from __future__ import annotations

from twisted.web.http_headers import Headers


def framing_problem(version: bytes, headers: Headers) -> str | None:
    """
    Return why it is unclear where a request's body ends, or None if it is clear.

    RFC 9112, sections 6.1 and 6.3.

    Args:
        version: The request's version of HTTP, such as ``HTTP/1.1``.
        headers: The request's headers.
    """
    codings = headers.getRawHeaders(b"transfer-encoding")
    lengths = headers.getRawHeaders(b"content-length")
    if codings and version != b"HTTP/1.1":
        return "An HTTP/1.0 request cannot have a Transfer-Encoding"
    if codings and lengths:
        return "Send Content-Length or Transfer-Encoding, not both"
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return "The only supported Transfer-Encoding is chunked"
    if lengths and not (len(lengths) == 1 and lengths[0].isdigit()):
        return "Content-Length must be one whole number"
    return None


def header_list(headers: Headers, name: bytes) -> list[bytes]:
    """
    Return the members of a header that is a list, in lower case (RFC 9110, section 5.6.1).
    """
    lines = headers.getRawHeaders(name)
    if lines is None:
        return []
    members = (member.strip(b" \t").lower() for line in lines for member in line.split(b","))
    return [member for member in members if member]
