"""
Define the steps between the logic of this client, which does no I/O, and its drivers.

A request is a generator, a `Script`: it yields the steps that it needs, and is sent their
results.  A driver performs each step with httpx, for asyncio or for synchronous code.  Events
that a script yields are for the caller.  A response stays open until the script opens another
one, sleeps or ends.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from kiroworkers_client.events import Event

T = TypeVar("T")


@dataclass(frozen=True)
class Open:
    """
    Send a request, and return the `Head` of the response.

    Attributes:
        method: The method of the request.
        path: Its path and query.
        headers: Its headers, one of which may be secret.
        body: Its body; empty for none.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for each piece of the response; None for no limit.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    connect_timeout: float
    read_timeout: float | None


@dataclass(frozen=True)
class Read:
    """
    Return the next bytes of the response; none at its end.
    """


@dataclass(frozen=True)
class Sleep:
    """
    Wait.

    Attributes:
        seconds: How long.
    """

    seconds: float


@dataclass(frozen=True)
class Head:
    """
    Hold the beginning of a response.

    Attributes:
        status: The status.
        headers: The headers, with names in lower case.
    """

    status: int
    headers: Mapping[str, str]


class NotSent(Exception):
    """
    Raised when the server cannot have seen the request.
    """


class Lost(Exception):
    """
    Raised when the connection ended before the response did.
    """


class Silent(Exception):
    """
    Raised when the server sent nothing for too long.
    """


class Undecodable(Exception):
    """
    Raised when the response's encoding is invalid.
    """


Step: TypeAlias = Open | Read | Sleep
Failure: TypeAlias = NotSent | Lost | Silent | Undecodable
#: Returns a `T` in the end.
Script: TypeAlias = Generator[Step | Event, Any, T]


class Run(Generic[T]):
    """
    Advance a script: the part of a driver that does no I/O.

    A driver calls `advance`, performs the step that it gets, and calls it again with the result or
    the failure.
    """

    def __init__(self, script: Script[T]) -> None:
        self._script = script
        self._value: T | None = None

    def advance(self, result: Any = None, failure: Failure | None = None) -> Step | Event | None:
        """
        Return the next step or event; None at the end of the script.

        Args:
            result: The result of the step before.
            failure: Why that step failed.

        Raises:
            KiroError: The request failed.
        """
        try:
            if failure is not None:
                return self._script.throw(failure)
            return self._script.send(result)
        except StopIteration as end:
            self._value = end.value
            return None

    @property
    def value(self) -> T:
        """
        Return what the script returned, after its end.
        """
        return self._value  # type: ignore[return-value]

    def close(self) -> None:
        """
        End the script early.
        """
        self._script.close()
