"""
Run one session of an agent for one turn, to find out whether its version can be relied on.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from kiroworkers.conversations import AgentFailure
from kiroworkers.conversations.dialects.dialect import Layout
from kiroworkers.errors import AgentUnavailable, FailureKind, WorkError
from kiroworkers.pool.worker import SessionFactory
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import Session
from kiroworkers.session.turn import Reply

#: The failures, besides those of the account, that say nothing about the agent's version.
_OUTSIDE = (FailureKind.NETWORK, FailureKind.STREAM_TIMEOUT)


class Question(Protocol):
    """
    Represent a question that an agent of an unproven version is asked.
    """

    def prompt(self, layout: Layout, /) -> str:
        """
        Return the prompt; its JSON is to have `layout`.
        """

    def problem(self, text: str, wrapped: bool, styled: tuple[int, ...], /) -> str | None:
        """
        Return what is wrong with a reply, or None if it is as it must be.
        """


@frozen
class Passed:
    """
    Represent a turn that was exact and fresh, after which the session was ready again.
    """


@frozen
class Refused:
    """
    Represent a turn that was not exact or not fresh, or that could not be made.

    Attributes:
        reason: What went wrong, in words for operators.
    """

    reason: str


@frozen
class Inconclusive:
    """
    Represent a turn that failed for a reason that says nothing about the version.

    Attributes:
        reason: What went wrong, in words for operators.
        failure: What the agent reported; None if it is not about the agent.
        at_start: Whether the session never reached its prompt.
    """

    reason: str
    failure: AgentFailure | None = None
    at_start: bool = False


Outcome: TypeAlias = Passed | Refused | Inconclusive


class CanaryTurn:
    """
    Start a session, ask it one question, let it clear its conversation, and end it.

    Args:
        name: The session's name, for the log.
        clock: The reactor's clock.
        new_session: Makes the session.
        question: What it is asked.
        layout: The layout of the answer.
        timeout: The deadline of the turn, in seconds.

    Attributes:
        finished: Fires with the outcome when the session is gone.
    """

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        new_session: SessionFactory,
        question: Question,
        layout: Layout,
        timeout: float,
    ) -> None:
        self.finished: Deferred[Outcome] = Deferred()
        self._clock = clock
        self._question = question
        self._layout = layout
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._outcome: Outcome | None = None
        self._session: Session = new_session(name, self._on_idle, self._on_gone)

    @property
    def cost(self) -> int:
        """
        Return the number of turns that the session has had: 0 or 1.
        """
        return self._session.turns

    def start(self) -> None:
        """
        Start the session.
        """
        try:
            self._session.start()
        except OSError as error:
            self._on_gone(f"could not start: {error}")

    def stop(self) -> None:
        """
        End the session, because the server is stopping.
        """
        self._conclude(Inconclusive("the server is stopping"))

    def _on_idle(self) -> None:
        if self._session.turns:
            # It has cleared its conversation.
            self._outcome = self._outcome or Passed()
            self._session.quit(EndReason(EndCause.DISMISSED, "its canary has passed"))
        else:
            self._ask()

    def _ask(self) -> None:
        try:
            reply = self._session.ask(self._question.prompt(self._layout))
        except WorkError as error:
            self._conclude(Refused(f"it cannot be asked: {error}"))
            return
        self._timer = self._clock.callLater(
            self._timeout, self._conclude, Refused(f"no answer within {self._timeout:g} s")
        )
        reply.addCallbacks(self._on_reply, self._on_failure)

    def _on_reply(self, reply: Reply) -> None:
        problem = self._question.problem(reply.text, reply.wrapped, reply.styled)
        if problem is not None and reply.more_may_follow:
            self._session.read_on().addCallbacks(self._on_reply, self._on_failure)
            return
        self._cancel_timer()
        if problem is not None:
            self._conclude(Refused(problem))
            return
        if self._session.single_use:
            self._outcome = Passed()
        self._session.end_turn()

    def _on_failure(self, failure: Failure) -> None:
        error = failure.value
        self._cancel_timer()
        if self._session.failure is not None and self._session.failure.affects_all_sessions:
            self._conclude(self._account_failure(self._session.failure))
        elif isinstance(error, AgentUnavailable) and error.kind.affects_all_sessions:
            reported = AgentFailure(error.kind, error.detail, error.retry_after)
            self._conclude(self._account_failure(reported))
        elif isinstance(error, AgentUnavailable) and error.kind in _OUTSIDE:
            self._conclude(Inconclusive(str(error)))
        else:
            self._conclude(Refused(str(error)))

    def _account_failure(self, failure: AgentFailure) -> Inconclusive:
        reason = f"{failure.kind}: {failure.detail}"
        return Inconclusive(reason, failure, at_start=not self._session.was_ready)

    def _conclude(self, outcome: Outcome) -> None:
        """
        Keep the first outcome, and end the session.
        """
        self._outcome = self._outcome or outcome
        self._session.stop(EndReason(EndCause.DISMISSED, "its canary is over"))

    def _on_gone(self, reason: str) -> None:
        self._cancel_timer()
        session = self._session
        if self._outcome is None:
            failure = session.failure
            if failure is not None and failure.affects_all_sessions:
                self._outcome = self._account_failure(failure)
            elif failure is not None and failure.kind in _OUTSIDE:
                self._outcome = Inconclusive(f"{failure.kind}: {failure.detail}")
            elif session.exhausted and not session.was_ready:
                self._outcome = Inconclusive("the agent has changed meanwhile")
            else:
                self._outcome = Refused(f"its session ended: {reason}")
        self.finished.callback(self._outcome)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
