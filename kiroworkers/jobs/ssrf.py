"""
Decide which hosts webhooks may be sent to (protection against SSRF).

Clients choose the URLs of webhooks, so a client could make the server call what only the
server can reach: its own machine, its network or its cloud's metadata service.
Therefore webhooks are only sent to addresses of the public internet, and only to the exact
address that was checked.  If the operator lists hosts, those are called wherever they are,
and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

#: Addresses whose last 32 bits are an IPv4 address (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")

#: All addresses that are assigned for public use (RFC 4291, IANA).  Outside it there are
#: more notations of IPv4 addresses than Python recognizes.
_PUBLIC = IPv6Network("2000::/3")

#: The maximum length of a webhook's URL, in characters.
_MAX_URL_LENGTH = 2000


class CallbackHosts:
    """
    Decide which hosts and addresses may be called.

    Args:
        allowed: Host names, addresses or shell patterns of them.  If there are any, all
            other hosts are rejected; if there are none, all public addresses are allowed.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(pattern.lower() for pattern in allowed)

    def url_problem(self, url: str) -> str | None:
        """
        Return why `url` must not be called, or None if it may be.

        A host name is not resolved here; `allowed_addresses` checks what it resolves to.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https") or len(url) > _MAX_URL_LENGTH:
            return f"must be an http or https URL of at most {_MAX_URL_LENGTH} characters"
        if not (url.isascii() and url.isprintable()) or set(" \\#") & set(url):
            return "must be printable ASCII without spaces, backslashes or a fragment"
        if parts.username is not None or parts.password is not None:
            return "must not contain credentials"
        if self._allowed:
            return None if self._is_listed(host) else f"{host} is not in --callback-hosts"
        try:
            literal = ip_address(host)
        except ValueError:
            return None
        return None if _is_public(literal) else f"{host} is not a public address"

    def allowed_addresses(self, host: str, addresses: Sequence[str]) -> Sequence[str]:
        """
        Return the `addresses` of `host` if they may be called, or an empty sequence.

        If one address is private, none may be called, because such a host cannot be
        trusted.
        """
        if self._is_listed(host) or all(_is_public(ip_address(address)) for address in addresses):
            return addresses
        return ()

    def _is_listed(self, host: str) -> bool:
        return any(fnmatchcase(host.lower(), pattern) for pattern in self._allowed)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return _is_public(embedded)
        if address.teredo is not None or address not in _PUBLIC:
            return False
    return address.is_global and not address.is_multicast
