"""
Tell requests of this server's own pages from those of other pages.

Browsers say where a page's request comes from: in ``Origin``, with all requests but the simplest,
and in ``Sec-Fetch-Site``, with requests over TLS and to the same machine.  Pages can forge neither.
"""

from __future__ import annotations

from twisted.web.iweb import IRequest

from kiroworkers.web.addresses import host_of
from kiroworkers.web.proxies import TrustedProxies, forwarded_origin

#: The ports that browsers leave out.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def own_origin(request: IRequest, proxies: TrustedProxies) -> str:
    """
    Return the origin that the client of `request` knows this server by, in lower case.

    Args:
        request: The request.
        proxies: The proxies that are believed about the scheme and the host.
    """
    scheme = "https" if request.isSecure() else "http"
    host = _values(request, b"host")[-1:] or [""]
    name = host[0]
    # `IRequest` does not have the peer.
    if host_of(getattr(request, "client", None)) in proxies:
        headers = (b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
        said = forwarded_origin(*(_values(request, header) for header in headers))
        scheme, name = said[0] or scheme, said[1] or name
    return f"{scheme}://{name.lower().removesuffix(_DEFAULT_PORTS[scheme])}"


def comes_from_own_page(request: IRequest, proxies: TrustedProxies) -> bool:
    """
    Return whether a browser says that `request` comes from one of this server's own pages.

    It does not if the browser says nothing.
    """
    sites = _values(request, b"sec-fetch-site")
    if sites:
        return sites == ["same-origin"]
    return _values(request, b"origin") == [own_origin(request, proxies)]


def _values(request: IRequest, name: bytes) -> list[str]:
    values = request.requestHeaders.getRawHeaders(name, [])
    return [value.decode("latin-1") for value in values]
