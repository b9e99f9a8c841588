"""
Define what can be run in another process.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Call(Protocol[T_co]):
    """
    Represent a computation without side effects.

    A call is sent to a helper process with `pickle`, and its outcome is sent back as JSON:
    the helper handles what clients and agents wrote, so the server does not unpickle what it
    sends.
    """

    def run(self) -> Any:
        """
        Compute the outcome, which is JSON; this is what may take long.
        """

    def result(self, outcome: Any) -> T_co:
        """
        Return the result of the call, or raise its exception.

        Args:
            outcome: What `run` returned.
        """

    def failure(self, reason: str) -> Exception:
        """
        Return the exception to raise if the call was stopped.

        Args:
            reason: Why, as the end of a sentence whose subject is the computation.
        """


class Runner(Protocol):
    """
    Represent a way to run calls, such as `ProcessPool.run`.
    """

    def __call__(self, call: Call[T], client: str, refusable: bool = False) -> Awaitable[T]:
        """
        Run `call`, and return its result.

        Args:
            call: What to compute.
            client: The client that it is for.  Each client has a fair share.
            refusable: Whether the call may be refused if too many others of the client wait.
                Those that may not be are run first.
        """


async def run_here(call: Call[T], client: str, refusable: bool = False) -> T:
    """
    Run `call` in this process and without limits; this is a `Runner` for tests.
    """
    return call.result(call.run())
