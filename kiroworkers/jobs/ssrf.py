"""
Whom the server calls back, on the word of a client.

A client could have it call what only the server can reach: its own machine, its
network, the metadata of its cloud.  So no address is called but of the public
internet, and only the very address that was looked at; what the operator lists
is called wherever it is, and then nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

#: An IPv4 address in these stands behind its last 32 bits (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")

#: All that is handed out to the public (RFC 4291, IANA).  Outside of it are more ways
#: to write an IPv4 address than Python knows.
_PUBLIC = IPv6Network("2000::/3")

#: Longer ones are no address of anybody's.
_LONGEST = 2000


class CallbackHosts:
    """
    Args:
        listed: names, addresses or shell patterns; where there are any, all
            others are refused.
    """

    def __init__(self, listed: Sequence[str]) -> None:
        self._listed = tuple(each.lower() for each in listed)

    def refuses(self, url: str) -> str | None:
        """
        Why `url` is not called, as far as it tells; None when it may be.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https") or len(url) > _LONGEST:
            return f"must be an http or https URL of at most {_LONGEST} characters"
        if not (url.isascii() and url.isprintable()) or set(" \\#") & set(url):
            return "must be printable ASCII without spaces, backslashes and fragment"
        if parts.username is not None or parts.password is not None:
            return "must not hold credentials"
        if self._listed:
            return None if self._lists(host) else f"{host} is not among --callback-hosts"
        try:
            literal = ip_address(host)
        except ValueError:
            return None
        return None if _is_public(literal) else f"{host} is no public address"

    def chosen(self, host: str, addresses: Sequence[str]) -> Sequence[str]:
        """
        Those of the `addresses` of `host` that may be called: all or none, since a
        name that has a private one as well is not to be trusted.
        """
        if self._lists(host) or all(_is_public(ip_address(each)) for each in addresses):
            return addresses
        return ()

    def _lists(self, host: str) -> bool:
        return any(fnmatchcase(host.lower(), each) for each in self._listed)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None or address not in _PUBLIC:
            return False
    return address.is_global and not address.is_multicast
