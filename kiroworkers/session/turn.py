"""
Define the state of one turn of a session, and the reply that its caller gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred

from kiroworkers.conversations import (
    AgentFailure,
    Completion,
    Notice,
    Source,
    TextChunk,
    TextDiscarded,
    Usage,
)
from kiroworkers.errors import (
    AgentPerhapsUnavailable,
    AgentRefused,
    AgentUnavailable,
    AnswerUnreadable,
    FailureKind,
    WorkError,
)
from kiroworkers.images import Image
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.tools import TurnTools

#: The events that the caller of a turn gets before its reply.
TurnEvent: TypeAlias = TextChunk | TextDiscarded | Notice

#: Called with each event of a turn, as soon as it is certain.
OnEvent: TypeAlias = Callable[[TurnEvent], None]

#: The failures by which agents report that a tool was denied.
_AFTER_DENIAL = (FailureKind.AGENT_ERROR, FailureKind.REFUSAL, FailureKind.CANCELLED)

#: The share of the context, in percent, from which on a conversation is not continued, because
#: the next turn might not fit.
_FULL_CONTEXT = 80.0

#: The share of the context, in percent, that two successive turns can only reach if the
#: conversation was not really cleared in between.
_OVERFULL_CONTEXT = 95.0


@frozen
class Reply:
    """
    Represent what the agent answered when it was asked.

    Attributes:
        text: The whole text, as a reader would have seen it.
        completion: How the end of the turn was recognized.
        wrapped: Whether the agent may have wrapped long lines, so that some line breaks in
            `text` may not be part of the answer.
        source: Where the text was read.
        denied: The agent's requests to use a tool that were denied.
        allowed: The agent's requests to use a tool that were allowed.
        unasked: The tools that the agent used without asking.
        styled: The offsets in `text` at which the agent changed the style or erased
            something; see `Answered.styled`.
        usage: What the answer cost.
        more_may_follow: Whether output of the turn may still be on its way, so that
            `Session.read_on` may return more text.
    """

    text: str
    completion: Completion
    wrapped: bool = False
    source: Source = "terminal"
    denied: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    styled: tuple[int, ...] = ()
    usage: Usage = field(factory=Usage)
    more_may_follow: bool = False


@define(eq=False)
class Turn:
    """
    Hold what a session knows about its current turn, or its last one.

    Attributes:
        tools: Decides about the agent's tools.
        on_event: Called with each event of the turn; None if nobody wants them.
        model: The model that answers; empty for the session's own.
        context_before: How much of the context the previous turn left filled, in percent.
        pending: Fires with the next reply; None if nobody waits for one.
        prompt: What was submitted last.
        reply: What the agent answered to `prompt` so far; None if it has not answered.
        doubtful: Whether output of the turn may follow although the answer has ended.
        awaits_output: Whether the agent has taken the prompt and is not known to have begun its
            answer.
        ended_at: When the caller ended the turn, in seconds on the reactor's clock; None before
            that, and once the conversation was cleared.
        record: The record of the request that the turn belongs to.
        images: The images that go with the prompt, while the agent works on it.
    """

    tools: TurnTools
    on_event: OnEvent | None = None
    model: str = ""
    context_before: float = 0.0
    pending: Deferred[Reply] | None = None
    prompt: str = ""
    reply: Reply | None = None
    doubtful: bool = False
    awaits_output: bool = False
    ended_at: float | None = None
    record: RequestRecord = field(factory=RequestRecord)
    images: Sequence[Image] = ()

    @property
    def has_text(self) -> bool:
        """
        Return whether the agent answered with any text.

        A turn without text may not have begun: the prompt may have been lost just as the
        text was typed.
        """
        return self.reply is not None and self.reply.text.strip() != ""

    @property
    def context_percent(self) -> float:
        """
        Return how much of the context is known to be filled after the turn, in percent.
        """
        percent = None if self.reply is None else self.reply.usage.context_percent
        return percent or 0.0

    @property
    def fills_context(self) -> bool:
        """
        Return whether too little of the context is left for another turn.
        """
        return self.context_percent >= _FULL_CONTEXT

    @property
    def is_still_full(self) -> bool:
        """
        Return whether the context is as full as after the previous turn, despite the clear.
        """
        return min(self.context_before, self.context_percent) >= _OVERFULL_CONTEXT

    def error(self, failure: AgentFailure) -> WorkError:
        """
        Return the error for the caller of a turn that ended with `failure`.
        """
        kind, denied = failure.kind, self.tools.denied
        if kind is FailureKind.UNREADABLE:
            return AnswerUnreadable(failure.detail)
        if kind.retryable:
            unavailable = AgentPerhapsUnavailable if failure.quoted else AgentUnavailable
            return unavailable(kind, failure.detail, failure.retry_after)
        if denied and kind in _AFTER_DENIAL:
            # The agent gave up because of it.
            return AgentRefused(FailureKind.APPROVAL_DENIED, denied[-1])
        return AgentRefused(kind, failure.detail)

    def report_submitted(self) -> None:
        """
        Report that the agent has taken the prompt.
        """
        self.awaits_output = True
        self.record.report("submitted")

    def report_first_output(self) -> None:
        """
        Report that the agent has begun its answer.
        """
        self.awaits_output = False
        self.record.report("first_output")

    def report_cleared(self, worker: str, now: float) -> None:
        """
        Report that the agent is ready for another turn, once after each turn.

        Args:
            worker: The name of the worker.
            now: The current time on the reactor's clock.
        """
        if self.ended_at is not None:
            self.record.report("cleared", worker=worker, seconds=round(now - self.ended_at, 6))
            self.ended_at = None

    def report(self, event: TurnEvent) -> None:
        """
        Pass `event` on to the caller if it still waits.
        """
        if self.pending is not None and self.on_event is not None:
            self.on_event(event)

    def current_reply(self) -> Reply:
        """
        Return the reply, with the decisions about tools so far.
        """
        assert self.reply is not None, "the turn was answered"
        tools = self.tools
        return evolve(
            self.reply,
            denied=tuple(tools.denied),
            allowed=tuple(tools.allowed),
            unasked=tuple(tools.unasked),
        )

    def take_pending(self) -> Deferred[Reply] | None:
        """
        Return `pending` for the caller to fire, and set it to None.
        """
        pending, self.pending = self.pending, None
        return pending
