"""
Decide about the tools of one turn, and remember the decisions.

An agent that asks gets its answers in the order of its questions.  An agent that does not ask
cannot be stopped, because its use of a tool is known only when the tool has run.  The turn may
go on after that if `TurnTools.permits` the use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from attrs import define, field
from twisted.logger import Logger

from kiroworkers.conversations import NeedsApproval, ToolUsed
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.tool_policy import ToolPolicy

#: The maximum number of denials in one turn.  An agent that asks once more would probably never
#: stop.
MAX_DENIALS = 20

#: Asks an operator a question.  Its arguments are the question and a function that is called
#: with whether the use is allowed; it returns a function that withdraws the question.
AskOperator: TypeAlias = Callable[[str, Callable[[bool], None]], Callable[[], None]]


@define(eq=False)
class TurnTools:
    """
    Answer the agent's questions in one turn, and count the tools that it used.

    Attributes:
        name: The name of the worker, for the log.
        policy: Who decides.
        answer: Called with whether the oldest question is allowed, and called again for each
            further step of that answer.
        ask_operator: Asks an operator; None to deny what an operator would decide.
        queues: Whether the agent can have several open questions.  If not, another question means
            that the previous one is gone, and an answer to it would answer the new one.
        allowed: The questions that were answered with yes.
        denied: The questions that were answered with no.
        unasked: The tools that the agent used without asking.
        request: The record of the request that the turn belongs to.
    """

    _log = Logger()

    name: str
    policy: ToolPolicy
    answer: Callable[[bool], None]
    ask_operator: AskOperator | None = None
    queues: bool = False
    allowed: list[str] = field(factory=list)
    denied: list[str] = field(factory=list)
    unasked: list[str] = field(factory=list)
    request: RequestRecord = field(factory=RequestRecord)
    _unanswered: deque[NeedsApproval] = field(factory=deque)
    _last: tuple[NeedsApproval, bool] | None = None
    _withdraw: Callable[[], None] | None = None

    @property
    def has_open_question(self) -> bool:
        """
        Return whether the agent waits for an answer.
        """
        return bool(self._unanswered)

    def exceeds_limit(self, question: NeedsApproval) -> bool:
        """
        Return whether `question` comes after so many denials that the turn should end.
        """
        return len(self.denied) >= MAX_DENIALS and not self._is_known(question)

    def decide(self, question: NeedsApproval) -> None:
        """
        Answer `question` now, or when an operator has decided.

        A question that is equal to the last one, including its number, is a further step of
        the same answer.
        """
        if question in self._unanswered:
            return
        if not self._unanswered and self._last is not None and self._last[0] == question:
            self.answer(self._last[1])
            return
        if not self.queues:
            self.withdraw()
            self.drop_unanswered()
        self._unanswered.append(question)
        self.request.report("tool_asked", question=question.question)
        if len(self._unanswered) == 1:
            self._decide_next()

    def hold(self, question: NeedsApproval) -> None:
        """
        Keep `question` open until `deny_unanswered`.
        """
        if question not in self._unanswered:
            self._unanswered.append(question)

    def deny_late(self, question: NeedsApproval) -> None:
        """
        Deny `question`, which may be a further step of a question that was answered before.
        """
        if self._is_known(question):
            self.answer(False)
        else:
            self.hold(question)
            self.deny_unanswered()

    def deny_unanswered(self) -> None:
        """
        Deny all questions that are still open.
        """
        self.withdraw()
        while self._unanswered:
            self._answer_next(False)

    def drop_unanswered(self) -> None:
        """
        Count the open questions as denied: the agent has gone on without an answer.
        """
        self.denied += [question.question for question in self._unanswered]
        self._unanswered.clear()

    def withdraw(self) -> None:
        """
        Withdraw the question from the operators.  The open questions stay unanswered.
        """
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            withdraw()

    def permits(self, use: ToolUsed) -> bool:
        """
        Return whether the turn may go on after `use`.

        Reading changes nothing, wherever it happens.  Any other use may have changed something.
        """
        return use.asked or use.access == "read" or self.policy is ToolPolicy.ALLOW

    def record(self, use: ToolUsed) -> None:
        """
        Count `use` if the agent did not ask first.
        """
        if not use.asked:
            self.unasked.append(use.title)

    def _is_known(self, question: NeedsApproval) -> bool:
        last = self._last is not None and self._last[0] == question
        return last or question in self._unanswered

    def _decide_next(self) -> None:
        """
        Answer the open questions in their order, up to the first that an operator decides.
        """
        while self._unanswered:
            question = self._unanswered[0]
            if not question.grantable or self.policy is ToolPolicy.DENY:
                self._answer_next(False)
            elif self.policy is ToolPolicy.ALLOW:
                self._answer_next(True)
            elif self.ask_operator is None:
                self._answer_next(False)
            else:
                self._withdraw = self.ask_operator(question.question, self._decided)
                return

    def _decided(self, allow: bool) -> None:
        self._withdraw = None
        self._answer_next(allow)
        self._decide_next()

    def _answer_next(self, allow: bool) -> None:
        question = self._unanswered.popleft()
        self._last = question, allow
        (self.allowed if allow else self.denied).append(question.question)
        self._log.warn(
            "{worker}: tool use {decision}: {question}"
            + (" (request {requestId})" if self.request.id else ""),
            worker=self.name,
            requestId=self.request.id,
            decision="allowed" if allow else "denied",
            question=question.question,
        )
        self.request.report("tool_decided", allowed=allow)
        self.answer(allow)
