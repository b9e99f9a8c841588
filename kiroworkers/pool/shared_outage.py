"""
Define how servers whose agents use the same account share its outages.

The circuit breaker of each server decides what an outage means for its own requests; it does no
I/O.  A `SharedOutage` tells the other servers what this one has learned, and tells the breaker
what the others have.  Without one, a server keeps its outages to itself.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.errors import FailureKind


@frozen
class Outage:
    """
    Hold an outage of an account at one moment.

    Attributes:
        kind: The kind of failure.
        detail: The agent's own words.
        at_start: Whether a session failed before it reached its prompt.
        openings: How often the circuit was opened since it was closed, to double the delay.
        delay: Seconds until the agent may be probed; 0 if that may be done now.
        named: Whether the agent named the delay.
        reported_by: The server that reported it; empty for this one.
    """

    kind: FailureKind
    detail: str
    at_start: bool
    openings: int
    delay: float
    named: bool = False
    reported_by: str = ""


class OutageFollower(Protocol):
    """
    Represent the circuit breaker that learns of outages.
    """

    def learn(self, outage: Outage | None, ended_by: str = "", /) -> None:
        """
        Use what all servers know: the outage that lasts, or None if none does.

        Args:
            outage: The outage.  While another server probes the agent, its delay is the time for
                which that server may do so.
            ended_by: The server that reported the end of the outage; empty for this one.
        """

    def may_probe(self) -> None:
        """
        Begin to probe the agent: this server alone may do so.
        """

    def current_outage(self) -> Outage | None:
        """
        Return the outage as this server knows it, or None.
        """


class SharedOutage(Protocol):
    """
    Share the outages of one agent's account with other servers.

    No method waits.  What the others know comes to the follower, at any time and perhaps within
    a call.
    """

    def follow(self, follower: OutageFollower, /) -> Deferred[None] | None:
        """
        Tell `follower` of outages from now on.

        Returns:
            None if nothing is to be learned before the first request, or else a Deferred that
            fires when `follower` knows of an outage that lasts.  It never fails.
        """

    def publish(self) -> None:
        """
        Tell the others what the follower has found out: an outage, or that one is over.
        """

    def claim_probe(self) -> None:
        """
        Ask to be the one server that probes the agent.

        `OutageFollower.may_probe` follows, or `OutageFollower.learn` if another server does.
        """

    def release_probe(self) -> None:
        """
        Let another server probe the agent: this one has found nothing out.
        """

    def stop(self) -> None:
        """
        Follow and tell no more; let another server probe the agent.
        """


class UnsharedOutage:
    """
    Share nothing: this server is the only one that knows of its outages, and probes at any time.
    """

    def __init__(self) -> None:
        self._follower: OutageFollower | None = None

    def follow(self, follower: OutageFollower, /) -> Deferred[None] | None:
        """
        Remember who asks for probes.
        """
        self._follower = follower
        return None

    def publish(self) -> None:
        """
        Tell nobody.
        """

    def claim_probe(self) -> None:
        """
        Allow the probe at once.
        """
        assert self._follower is not None, "its follower asks"
        self._follower.may_probe()

    def release_probe(self) -> None:
        """
        Do nothing: nobody else wants to probe.
        """

    def stop(self) -> None:
        """
        Do nothing.
        """
