"""
Describe the faults of a cluster, and what each of them explains.

This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from attrs import frozen

from bench.cluster.turns import Turn


class Kind(StrEnum):
    """
    Name the kinds of faults, as the table prints them.
    """

    KILLED = "server killed (kill -9)"
    STOPPED = "server stopped (SIGSTOP)"
    CUT_OFF = "server cut off from PostgreSQL"
    REPLACED = "server replaced (SIGTERM)"
    RESTARTED = "PostgreSQL restarted"
    READ_ONLY = "PostgreSQL read-only"
    GONE = "PostgreSQL crashed and gone"
    RELOADED = "HAProxy reloaded"


#: After these another server may ask a prompt again, if the server had begun it.
EXPLAINING = (Kind.KILLED, Kind.STOPPED, Kind.CUT_OFF)

#: Claims do not wait for the disk: a crash of PostgreSQL forgets those of this many seconds.
_FORGOTTEN = 1.0

#: During these no server can claim a job or store a result.
OUTAGES = (Kind.RESTARTED, Kind.READ_ONLY, Kind.GONE)

#: Seconds in which a server stores or sends an answer that its agent has given.
_DELIVERY = 2.0


@frozen
class Fault:
    """
    Describe a fault; times are seconds on the monotonic clock.

    Attributes:
        kind: What happened.
        began: When it began.
        ended: When everything was as before.
        server: The name of the server that it concerned; empty if it was none.
    """

    kind: Kind
    began: float
    ended: float
    server: str = ""


def explanation(turn: Turn, again: float, faults: Iterable[Fault]) -> Fault | None:
    """
    Return the fault because of which `turn` was asked again; None if there is none.

    Args:
        turn: The earlier turn.
        again: When its prompt was asked again.
        faults: All faults.
    """
    delivered = again if turn.answered is None else min(again, turn.answered + _DELIVERY)
    for fault in faults:
        concerned = fault.kind in EXPLAINING and fault.server == turn.server
        if concerned and fault.began <= delivered and fault.ended >= turn.asked:
            return fault
        if fault.kind is Kind.GONE and 0 <= fault.began - turn.asked <= _FORGOTTEN:
            return fault
    return None


def breaking(began: float, ended: float, faults: Iterable[Fault]) -> Fault | None:
    """
    Return the fault because of which a request without a key may have lost its response.

    Args:
        began: When the request was sent.
        ended: When its client knew that there is no response.
        faults: All faults.
    """
    for fault in faults:
        breaks = fault.kind in (Kind.KILLED, Kind.STOPPED)
        if breaks and fault.began <= ended and fault.ended >= began:
            return fault
    return None


def time_without_database(
    began: float, ended: float, faults: Sequence[Fault], recovery: float
) -> float:
    """
    Return the seconds between two moments in which there was no database.

    Args:
        began: The first moment.
        ended: The second moment.
        faults: All faults, none of which overlap.
        recovery: Seconds after which every server has noticed that the database is back.
    """
    return sum(
        max(0.0, min(ended, fault.ended + recovery) - max(began, fault.began))
        for fault in faults
        if fault.kind in OUTAGES
    )
