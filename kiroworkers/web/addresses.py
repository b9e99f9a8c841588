"""
Identify clients by their network address, and recognize the names of this machine.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from twisted.internet.address import UNIXAddress

#: Names of this machine.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

#: Bits of an IPv6 address that identify a network; its owner chooses the rest freely.
_NETWORK_BITS = 64

#: Characters that end or precede the host in a URL, so that no host contains them.
_DELIMITERS = frozenset("/?#@\\")


def host_of(address: object) -> str:
    """
    Return the IP address in `address`, or ``unix`` for a UNIX domain socket.
    """
    if isinstance(address, UNIXAddress):
        return "unix"
    return unmapped(str(getattr(address, "host", "")))


def unmapped(host: str) -> str:
    """
    Return `host`, or the IPv4 address if it is one that is written as an IPv6 address.
    """
    if not host.lower().startswith("::ffff:"):
        return host
    try:
        mapped = IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def rate_key(host: str) -> str:
    """
    Return the key under which requests from `host` are counted.

    The key covers every address that one client can send from: a single IPv4 address,
    or a whole /64 network of IPv6.  A `host` that is not an IP address is its own key.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return str(address)
    bits = 128 - _NETWORK_BITS
    return f"{IPv6Address(int(address) >> bits << bits)}/{_NETWORK_BITS}"


def is_local(host: str) -> bool:
    """
    Return whether the client at `host` is on this machine.
    """
    if host == "unix":
        return True
    try:
        return ip_address(rate_key(host)).is_loopback
    except ValueError:
        return False


def hostname_of(authority: str) -> str | None:
    """
    Return the host name or IP address in `authority`, in lower case and without a port.

    Args:
        authority: The value of a Host header, or what follows ``//`` in a URL.

    Returns:
        The name without a trailing dot, or None if `authority` has no host or has
        user information, a path, a query or a fragment.
    """
    if _DELIMITERS & set(authority):
        return None
    try:
        name = urlsplit(f"//{authority}").hostname
    except ValueError:
        return None
    return name.removesuffix(".") if name else None
