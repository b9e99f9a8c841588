"""
Define the limits that every request must meet before it is routed.
"""

from __future__ import annotations

from attrs import frozen

from kiroworkers.web.proxies import NO_PROXIES, TrustedProxies


@frozen
class RequestLimits:
    """
    Hold the limits on a request's size, duration, Host header and origin.

    Attributes:
        max_body: The maximum size of a body, in bytes.
        receive_timeout: Seconds from a request's first byte to its last.
        cors_origins: Origins whose pages may call the API from a browser.  ``*`` allows
            all of them, and ``loopback`` those of this machine.
        hosts: Host names that are accepted in addition to the names of this machine and
            the address that the client connected to.
        any_host: Whether every host name is accepted.
        trusted_proxies: The proxies that are believed about the addresses of clients.
    """

    max_body: int
    receive_timeout: float
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    any_host: bool = False
    trusted_proxies: TrustedProxies = NO_PROXIES
