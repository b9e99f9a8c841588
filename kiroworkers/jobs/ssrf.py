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
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

#: Addresses that are not for public use: those that IANA's registries of special-purpose
#: addresses (RFC 6890) do not call globally reachable, and multicast.  Of IPv6, only what
#: lies within `_GLOBAL_UNICAST`.  `ipaddress` has such a list too, but a different one in
#: each version of Python.
_SPECIAL = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host on this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols of the IETF; the public ones in it are not for HTTP
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocols of the IETF, such as Teredo and ORCHIDv2
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which contains IPv4 addresses
        "3fff::/20",  # documentation
    )
]

#: All IPv6 addresses that are assigned for public use (RFC 4291).  Outside it there are
#: many notations of IPv4 addresses.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

#: Addresses whose last 32 bits are an IPv4 address, which a gateway translates (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")

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
    if address in _NAT64:
        return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _SPECIAL)
