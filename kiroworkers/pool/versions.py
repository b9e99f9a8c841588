"""
Define how the pool of an agent's workers learns which versions may serve.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from kiroworkers.conversations import AgentFailure

#: What is known about the version that is installed: it is still to be tried, is being tried,
#: may serve, or may not; or the trial failed for a reason that says nothing about the version.
VersionState: TypeAlias = Literal["new", "on_trial", "accepted", "refused", "inconclusive"]


@frozen
class VersionSnapshot:
    """
    Hold what is known about the version of an agent that is installed.

    Attributes:
        state: See `VersionState`.
        version: The line in which the program says its version; empty if it says none, or
            cannot be used.
        detail: Why it is in this state, in words for operators.
        retry_after: Seconds until it is tried again; None if that is not scheduled.
        turns: The turns that trials have cost since the server started.
    """

    state: VersionState
    version: str
    detail: str
    retry_after: int | None
    turns: int


class VersionOwner(Protocol):
    """
    Represent the pool whose sessions run the versions.
    """

    def version_decided(self) -> None:
        """
        Start the sessions that waited, or refuse the requests that did.
        """

    def canary_failed(self, failure: AgentFailure, at_start: bool, /) -> None:
        """
        React to a failure of the account in a trial.
        """

    def has_memory_for_canary(self) -> bool:
        """
        Return whether there is memory for the session of a trial.
        """


class VersionGate(Protocol):
    """
    Decide which versions may serve.
    """

    @property
    def problem(self) -> str | None:
        """
        Return why no session may be started, or None if one may be, or may be soon.
        """

    @property
    def next_attempt(self) -> float | None:
        """
        Return when a refused version is tried again, or None if that is not scheduled.
        """

    @property
    def gone(self) -> bool:
        """
        Return whether no session of a trial is running.
        """

    def own(self, owner: VersionOwner, /) -> None:
        """
        Report decisions to `owner` from now on.
        """

    def may_start(self) -> bool:
        """
        Return whether a new session may run the version that is installed.

        If that is not known, begin to find it out; `VersionOwner.version_decided` follows.
        """

    def retry(self) -> None:
        """
        Allow another trial at once, if the last one was inconclusive.
        """

    def stop(self) -> None:
        """
        End the session of a trial, and begin no other.
        """

    def snapshot(self) -> VersionSnapshot | None:
        """
        Return what is known about the installed version; None if every version may serve.
        """


class AnyVersion:
    """
    Let every version serve.
    """

    problem = next_attempt = None
    gone = True

    def own(self, owner: VersionOwner, /) -> None:
        """
        Ignore `owner`, because no decision is ever made.
        """

    def may_start(self) -> bool:
        """
        Return True.
        """
        return True

    def retry(self) -> None:
        """
        Return at once: no version is ever tried.
        """

    def stop(self) -> None:
        """
        Return at once: no trial is ever under way.
        """

    def snapshot(self) -> VersionSnapshot | None:
        """
        Return None.
        """
        return None
