"""
Decide whether and when a failed request is sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kiroworkers_client.base_errors import (
    CutOffError,
    KiroError,
    Unavailable,
    UnknownError,
    UnreachableError,
)

#: Shortest wait before a request is sent again, in seconds.
_MIN_DELAY = 0.5

#: The share of a delay that is added at random, so that clients do not come back together.
_JITTER = 0.25

#: The statuses with which a proxy reports that it has no connection to the server.
_PROXY_STATUSES = (502, 503)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """
    Say how often and how late a failed request may be sent again.

    A request is sent again if the server asks for that (with ``Retry-After``), or if there was
    no connection to the server.  If the connection was lost or a proxy has lost the
    server, the request may have been answered, so it is sent again only with an idempotency key.
    No request is sent again after its deadline, or earlier than the server asks for.

    Attributes:
        max_retries: How often one request is sent again.
        max_delay: The longest wait in seconds.  If the server asks for a longer one, the
            request fails at once, and the error's `retry_after` has the time.
        first_delay: The wait before the first retry if the server did not name one.  It doubles
            with each retry.
    """

    max_retries: int = 3
    max_delay: float = 60.0
    first_delay: float = 0.5

    def delay(
        self,
        failure: KiroError,
        *,
        retries: int,
        repeatable: bool,
        left: float | None,
        random: Callable[[], float],
    ) -> float | None:
        """
        Return after how many seconds to send the request again; None not to.

        Args:
            failure: Why the request failed.
            retries: How often it was sent again already.
            repeatable: Whether it has no further effect if the server has run it before.
            left: The seconds until its deadline; None without one.
            random: Returns a random number from 0 to 1.
        """
        if retries >= self.max_retries or not _may_repeat(failure, repeatable):
            return None
        base = failure.retry_after
        if base is None:
            base = min(self.first_delay * 2.0**retries, self.max_delay)
        if base > self.max_delay:
            return None
        delay = max(base, _MIN_DELAY) * (1 + _JITTER * random())
        return None if left is not None and delay >= left else delay


def may_have_run(failure: KiroError) -> bool:
    """
    Return whether the server may have run a request that failed with `failure`.
    """
    return not isinstance(failure, Unavailable) or isinstance(failure, UnknownError)


def _may_repeat(failure: KiroError, repeatable: bool) -> bool:
    """
    Return whether a request that failed with `failure` may be sent again.
    """
    if isinstance(failure, UnreachableError):
        return True
    if isinstance(failure, Unavailable) and failure.retry_after is not None:
        return True
    lost_by_proxy = (
        isinstance(failure, UnknownError)
        and failure.code == UnknownError.code
        and failure.status in _PROXY_STATUSES
    )
    return repeatable and (lost_by_proxy or isinstance(failure, CutOffError))
