"""
Send HTTP requests to the address of a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import treq
from hyperlink import URL, EncodedURL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

_ADDRESS = re.compile(r"https?://[^/?#\s@]+(/[^?#\s]*)?")


class _Address(EncodedURL):
    """
    Represent a URL whose host may be an IPv6 address.

    Hyperlink's own `to_uri` takes such a host for a name and fails to encode it.
    """

    def to_uri(self) -> URL:
        return self if ":" in self.host else super().to_uri()


@implementer(IBodyProducer)
class WholeBody:
    """
    Write a body that is in memory at once.

    That of treq writes it in turns, which a global scheduler gives it.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write the body to `consumer`.
        """
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Do nothing, because the whole body has been written.
        """

    def resumeProducing(self) -> None:
        """
        Do nothing, because the whole body has been written.
        """

    def stopProducing(self) -> None:
        """
        Do nothing, because the whole body has been written.
        """


def base_address(text: str) -> str:
    """
    Return the address of a server without a slash at its end.

    Raises:
        ValueError: If `text` is not such an address.
    """
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text} is not an address such as http://127.0.0.1:8080")
    base = text.rstrip("/")
    # Raises ValueError now, not with the first request, if the port is not a number.
    _Address.from_text(base)
    return base


def send_request(
    reactor: Any, method: str, url: str, headers: Mapping[str, str], **body: Any
) -> Deferred[IResponse]:
    """
    Send a request on a connection of its own.

    Args:
        reactor: The reactor.
        method: The method of the request.
        url: The address, which begins with a `base_address`.
        headers: The headers.
        **body: The body, as `treq.request` takes it; none without it.

    Returns:
        Fires with the response, whose body was not read yet.  Cancelling it closes the
        connection.
    """
    return _cancellable(
        treq.request(
            method,
            _Address.from_text(url),
            headers=Headers({name: [value] for name, value in headers.items()}),
            persistent=False,
            allow_redirects=False,
            unbuffered=True,
            reactor=reactor,
            **body,
        )
    )


def _cancellable(request: Deferred[Any]) -> Deferred[Any]:
    """
    Return the result of `request`, in a Deferred that fails with `CancelledError` when cancelled.

    A connection that is cancelled may fail with errors of many kinds.
    """
    cancelled = False

    def cancel(_: Deferred[Any]) -> None:
        nonlocal cancelled
        cancelled = True
        request.cancel()

    def deliver(outcome: Any) -> None:
        if not cancelled:
            result.callback(outcome)

    result: Deferred[Any] = Deferred(cancel)
    request.addBoth(deliver)
    return result
