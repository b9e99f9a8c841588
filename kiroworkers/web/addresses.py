"""
Who a client is by its address, and what this machine is called.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from twisted.internet.address import UNIXAddress

#: Names of this machine.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

#: Bits of an IPv6 address that say whose it is; the rest is for its owner to choose.
_OWNED = 64

#: What is in a URL beside a name and a port.
_MORE = frozenset("/?#@\\")


def host_of(address: object) -> str:
    """
    The IP address in `address`; ``unix`` for whoever uses a socket in the file system.
    """
    return "unix" if isinstance(address, UNIXAddress) else str(getattr(address, "host", ""))


def rate_key(host: str) -> str:
    """
    What stands for everybody who can send from the IP address `host` at will: an
    IPv4 address, or a network of IPv6.
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
    bits = 128 - _OWNED
    return f"{IPv6Address(int(address) >> bits << bits)}/{_OWNED}"


def is_local(host: str) -> bool:
    """
    Is the client at `host` on this machine?
    """
    if host == "unix":
        return True
    try:
        return ip_address(rate_key(host)).is_loopback
    except ValueError:
        return False


def name_in(authority: str) -> str | None:
    """
    The name or the IP address in a Host header or behind the ``//`` of a URL, in
    lower case; None where there is none, or more.
    """
    if _MORE & set(authority):
        return None
    try:
        name = urlsplit(f"//{authority}").hostname
    except ValueError:
        return None
    return name.removesuffix(".") if name else None
