"""
Find the client of a request that came through proxies.

Each proxy adds the address that it was contacted from to the header ``X-Forwarded-For`` or
``Forwarded`` (RFC 7239).  What a client itself writes there stands to the left of that, so
the headers are read from the right, and only as long as the address that wrote the next
entry belongs to a proxy that the operator named.  No client can choose the address that it
is counted under.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from attrs import field, frozen

from kiroworkers.web.addresses import hostname_of, unmapped

_Network: TypeAlias = IPv4Network | IPv6Network

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
_PAIR = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")

#: What may stand between the pairs and the elements of a Forwarded header.
_SEPARATORS = re.compile(r"[ \t]*([;,]?)[ \t]*")

#: An address with the port of the client, which is ignored; RFC 7239, section 6.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")


@frozen
class TrustedProxies:
    """
    Hold the proxies that are believed about the addresses of clients.

    Attributes:
        names: Addresses and networks, and ``unix`` for those that connect to a UNIX domain
            socket.
    """

    names: tuple[str, ...] = ()
    _networks: tuple[_Network, ...] = field(init=False)

    @_networks.default
    def _parse(self) -> tuple[_Network, ...]:
        return tuple(ip_network(name) for name in self.names if name != "unix")

    def __contains__(self, host: str) -> bool:
        """
        Return whether `host`, an IP address or ``unix``, is one of the proxies.
        """
        if host == "unix":
            return "unix" in self.names
        if not self._networks:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str]) -> str:
        """
        Return the address of the client that sent a request.

        It is the nearest address that is not a proxy's.  If an entry before that is missing or
        malformed, or is no address, it is the last proxy that is known.  The same holds if
        the request has both headers: a proxy adds one and may pass on the other as the client
        wrote it.

        Args:
            peer: The address that the connection comes from, or ``unix``.
            forwarded_for: The values of all ``X-Forwarded-For`` headers, in order.
            forwarded: The values of all ``Forwarded`` headers, in order.
        """
        client = peer
        if client not in self or (forwarded_for and forwarded):
            return client
        hops = _forwarded_hops(forwarded) if forwarded else _listed_hops(forwarded_for)
        for hop in hops:
            if hop is None:
                break
            client = hop
            if client not in self:
                break
        return client


def forwarded_origin(
    protocols: Sequence[str], hosts: Sequence[str], forwarded: Sequence[str]
) -> tuple[str | None, str | None]:
    """
    Return the scheme and the host that the nearest proxy was asked for; None for what is not said.

    Both are unknown if the request has ``Forwarded`` and the older headers, for the reason that
    `TrustedProxies.client_of` gives.

    Args:
        protocols: The values of all ``X-Forwarded-Proto`` headers, in order.
        hosts: The values of all ``X-Forwarded-Host`` headers, in order.
        forwarded: The values of all ``Forwarded`` headers, in order.
    """
    if forwarded and (protocols or hosts):
        return None, None
    if forwarded:
        elements = _elements(forwarded[-1]) or [{}]
        scheme, host = elements[-1].get("proto", ""), elements[-1].get("host", "")
    else:
        scheme, host = (
            values[-1].rpartition(",")[2].strip(" \t") if values else ""
            for values in (protocols, hosts)
        )
    scheme = scheme.lower()
    return (
        scheme if scheme in ("http", "https") else None,
        host if host.isascii() and hostname_of(host) is not None else None,
    )


#: No proxy is believed.
NO_PROXIES = TrustedProxies()


def _listed_hops(values: Sequence[str]) -> Iterator[str | None]:
    """
    Yield the addresses in ``X-Forwarded-For`` headers, the nearest first.

    One that is malformed or hidden is None.
    """
    for value in reversed(values):
        for text in reversed(value.split(",")):
            yield _address(text.strip(" \t"))


def _forwarded_hops(values: Sequence[str]) -> Iterator[str | None]:
    """
    Yield the ``for`` parameters of ``Forwarded`` headers, the nearest first.

    One that is malformed or hidden is None, and so is a whole header that is malformed.
    """
    for value in reversed(values):
        elements = _elements(value)
        if elements is None:
            yield None
        else:
            for element in reversed(elements):
                node = element.get("for")
                yield None if node is None else _address(node, brackets=True)


def _elements(value: str) -> list[dict[str, str]] | None:
    """
    Return the parameters of each element of a ``Forwarded`` header, by their names in lower case.

    Returns:
        The parameters, without quotes; or None if the header does not match the grammar of
        RFC 7239, section 4, or has a parameter of an element twice.
    """
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    position = 0
    while True:
        pair = _PAIR.match(value, position)
        if pair is not None:
            position = pair.end()
            name = pair[1].lower()
            if name in element:
                return None
            element[name] = _unquoted(pair[2])
        separator = _SEPARATORS.match(value, position)
        assert separator is not None, "it matches the empty text"
        position = separator.end()
        if separator[1] != ";":
            elements.append(element)
            element = {}
        if not separator[1]:
            return elements if position == len(value) else None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _address(text: str, brackets: bool = False) -> str | None:
    """
    Return the IP address in `text`, with or without a port, or None.

    Args:
        text: What a proxy wrote.
        brackets: Whether an IPv6 address must be in brackets.
    """
    node = _NODE.fullmatch(text)
    host = (node[1] or node[2]) if node is not None else text
    # The zone of an address could be any text, and means nothing on another machine.
    if "%" in host or (brackets and ":" in host and not text.startswith("[")):
        return None
    try:
        return unmapped(str(ip_address(host)))
    except ValueError:
        return None
